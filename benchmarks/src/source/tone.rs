//! The sound before it is coded: 440 Hz, and a louder 880 Hz during each mark of the beat.

use super::beat::Beat;

pub const CHANNELS: usize = 2;

const TONE_HZ: u64 = 440;
const BEEP_HZ: u64 = 880;
const TONE_LEVEL: f32 = 0.08;
const BEEP_LEVEL: f32 = 0.40;
/// The beep swells over this time: soft enough not to click, sharp enough to measure.
const SWELL_NS: f32 = 2_000_000.0;

/// Writes interleaved samples, `first` being the stream's sample number of `out`'s first.
pub fn play(beat: &Beat, sample_rate: u32, first: u64, out: &mut [i16]) {
    let rate = u64::from(sample_rate);
    for (n, sample) in out.chunks_exact_mut(CHANNELS).enumerate() {
        let at = first + n as u64;
        let at_ns = (u128::from(at) * 1_000_000_000 / u128::from(rate)) as u64;
        // Both tones are whole numbers of hertz: the phase is exact however long the stream lasts.
        let wave = |hz| (std::f32::consts::TAU * (at * hz % rate) as f32 / rate as f32).sin();
        let beep = beat.mark_ns(at_ns).map_or(0.0, |since| (since as f32 / SWELL_NS).min(1.0));
        let value = TONE_LEVEL * (1.0 - beep) * wave(TONE_HZ) + BEEP_LEVEL * beep * wave(BEEP_HZ);
        sample.fill((value * f32::from(i16::MAX)) as i16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_loud_from_each_full_second_for_a_tenth() {
        let (beat, rate) = (Beat::new(500_000_000, 25), 48_000);
        let mut second = vec![0; rate * CHANNELS];
        play(&beat, rate as u32, 0, &mut second);
        let peak = |ms: std::ops::Range<usize>| {
            second[ms.start * 48 * CHANNELS..ms.end * 48 * CHANNELS].iter().map(|s| s.unsigned_abs()).max()
        };
        // The wall clock turned 0.5 s after the start; pictures are 40 ms apart, so the mark is at 520.
        assert!(peak(0..520) < Some(3_000), "{:?}", peak(0..520));
        assert!(peak(521..526) > Some(10_000), "{:?}", peak(521..526));
        assert!(peak(621..1000) < Some(3_000), "{:?}", peak(621..1000));
    }
}
