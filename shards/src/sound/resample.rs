//! Any rate to 48 kHz, exactly: a polyphase filter whose ratio is a fraction of whole numbers.

use super::{RATE, Sample, SoundError};
use std::f64::consts::PI;

/// Input samples that make one output sample where the rate rises; more, in proportion, where it falls.
const TAPS: usize = 32;
/// Of the Kaiser window: about 80 dB of stop band.
const BETA: f64 = 8.0;
/// The pass band, as a share of the lower rate's.
const PASS: f64 = 0.93;
/// Rates that sound has, in Hz.
const RATES: std::ops::RangeInclusive<u32> = 7_000..=96_000;

pub struct Resampler {
    rate: u32,
    /// `up` output samples for `down` input samples.
    up: usize,
    down: usize,
    taps: usize,
    /// By phase, `taps` each, the newest sample's first.
    filter: Box<[f32]>,
    /// The newest input, `taps - 1` samples of it before what comes.
    input: Vec<Sample>,
    /// Where the next output sample lies after the first of what comes, in parts of 1/`up` input sample.
    phase: usize,
}

impl Resampler {
    pub fn new(rate: u32) -> Result<Self, SoundError> {
        if !RATES.contains(&rate) {
            return Err(SoundError::Shape(rate, 2));
        }
        let divisor = gcd(RATE, rate);
        let (up, down) = ((RATE / divisor) as usize, (rate / divisor) as usize);
        let taps = if up == down { 1 } else { (TAPS * down.max(up)).div_ceil(up) };
        let filter = if up == down { [1.0].into() } else { filter(up, down, taps) };
        Ok(Self { rate, up, down, taps, filter, input: vec![[0.0; 2]; taps - 1], phase: 0 })
    }

    /// Hz of the input.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// How late the output is, in samples of the input.
    pub fn delay(&self) -> usize {
        self.taps / 2
    }

    /// Appends what `samples` make.
    pub fn push(&mut self, samples: &[Sample], out: &mut Vec<Sample>) {
        self.input.extend_from_slice(samples);
        let history = self.taps - 1;
        let mut newest = history + self.phase / self.up;
        let mut phase = self.phase % self.up;
        while newest < self.input.len() {
            let past = self.input[newest - history..=newest].iter().rev();
            let weights = &self.filter[phase * self.taps..][..self.taps];
            let add =
                |[left, right]: Sample, ([l, r], weight): (&Sample, &f32)| [left + l * weight, right + r * weight];
            out.push(past.zip(weights).fold([0.0; 2], add));
            phase += self.down;
            newest += phase / self.up;
            phase %= self.up;
        }
        self.phase = (newest - self.input.len()) * self.up + phase;
        self.input.drain(..self.input.len() - history);
    }
}

/// A low-pass of `up` × `taps` weights under a Kaiser window, by phase.
fn filter(up: usize, down: usize, taps: usize) -> Box<[f32]> {
    let len = up * taps;
    let cutoff = PASS / up.max(down) as f64;
    let centre = (taps / 2 * up) as f64;
    let weight = |n: usize| {
        let x = n as f64 - centre;
        let sinc = if x == 0.0 { 1.0 } else { (PI * cutoff * x).sin() / (PI * cutoff * x) };
        let place = x / centre.max(len as f64 - centre);
        up as f64 * cutoff * sinc * bessel(BETA * (1.0 - place * place).max(0.0).sqrt()) / bessel(BETA)
    };
    (0..len).map(|at| weight(at % taps * up + at / taps) as f32).collect()
}

/// The modified Bessel function of the first kind and order zero, by its series.
fn bessel(x: f64) -> f64 {
    let term = |sum_term: &mut f64, k: u32| {
        *sum_term *= (x / 2.0 / f64::from(k)).powi(2);
        Some(*sum_term)
    };
    1.0 + (1..40).scan(1.0, term).sum::<f64>()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_of_any_rate_stays_what_it_was() {
        for rate in [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000] {
            let tone = |n: f64, rate: u32| (2.0 * PI * 1_000.0 * n / f64::from(rate)).sin();
            let input: Vec<_> = (0..rate).map(|n| [tone(n.into(), rate) as f32, 0.5]).collect();
            let mut resampler = Resampler::new(rate).unwrap();
            let mut out = Vec::new();
            // However it is cut.
            for piece in input.chunks(777) {
                resampler.push(piece, &mut out);
            }
            assert_eq!(out.len(), 48_000, "{rate}");
            let delay = resampler.delay() as f64 * 48_000.0 / f64::from(rate);
            let wrong = |n: usize| (f64::from(out[n][0]) - tone(n as f64 - delay, 48_000)).abs();
            let worst = (1_000..48_000).map(wrong).fold(0.0, f64::max);
            assert!(worst < 0.002, "{rate}: {worst}");
            assert!((out[2_000][1] - 0.5).abs() < 0.002, "{rate}: {}", out[2_000][1]);
        }
    }

    #[test]
    fn what_is_above_the_lower_rate_is_gone() {
        let mut resampler = Resampler::new(96_000).unwrap();
        let input: Vec<_> =
            (0..96_000).map(|n| [(2.0 * PI * 30_000.0 * f64::from(n) / 96_000.0).sin() as f32; 2]).collect();
        let mut out = Vec::new();
        resampler.push(&input, &mut out);
        assert!(out[1_000..].iter().all(|[left, _]| left.abs() < 0.001));
    }

    #[test]
    fn rates_that_no_sound_has_are_refused() {
        assert!([0, 1, 6_999, 96_001, u32::MAX].into_iter().all(|rate| Resampler::new(rate).is_err()));
    }
}
