//! Samples on the media clock: counted where times only jitter, filled or cut where they jump.

use super::Sample;

/// Ticks of 48 kHz. A frame that is further off than this is where a gap, or what overlaps, is put right at once.
const JUMP: i64 = 40 * 48;
/// A longer gap is no silence to be filled.
const BREAK: i64 = 500 * 48;
/// The clock of the source and its samples may differ so much, on average; more is put right slowly.
const SLACK: f64 = 96.0;
/// The average is over so many frames, about.
const FRAMES: f64 = 16.0;
/// Put right slowly: one sample in so many. Nobody hears it.
const SLOWLY: usize = 200;

/// Samples that wait to be encoded, each with its tick.
#[derive(Default)]
pub struct Pacer {
    samples: Vec<Sample>,
    /// The tick that follows the last sample; `None` before the first.
    end: Option<i64>,
    /// How far the source's times are ahead, on average.
    ahead: f64,
    /// The next samples are put where they belong, to the last one: the source is another, or is being cut.
    exact: bool,
}

/// It goes on after a break: what is there must be encoded before.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

impl Pacer {
    /// Takes samples whose first belongs at tick `at`.
    pub fn push(&mut self, at: i64, samples: &[Sample]) -> Result<(), Broken> {
        let end = *self.end.get_or_insert(at);
        let off = at - end;
        if off > BREAK {
            return Err(Broken);
        }
        let before = self.samples.len();
        let slack = if self.exact { 0 } else { JUMP };
        self.exact = off < -slack;
        if off > slack {
            self.samples.resize(before + off as usize, [0.0; 2]);
            self.samples.extend_from_slice(samples);
            self.ahead = 0.0;
        } else if off < -slack {
            let cut = samples.len().min(off.unsigned_abs() as usize);
            self.samples.extend_from_slice(&samples[cut..]);
            self.ahead = 0.0;
        } else {
            self.ahead += (off as f64 - self.ahead) / FRAMES;
            let most = (samples.len() / SLOWLY) as f64;
            let more = if self.ahead.abs() > SLACK { self.ahead.clamp(-most, most).round() } else { 0.0 };
            self.ahead -= more;
            stretch(samples, samples.len().saturating_add_signed(more as isize), &mut self.samples);
        }
        self.end = Some(end + (self.samples.len() - before) as i64);
        Ok(())
    }

    /// What comes next is of another source.
    pub fn splice(&mut self) {
        self.exact = true;
    }

    /// The next `len` samples and the tick of the first, once there are so many.
    pub fn take(&mut self, len: usize) -> Option<(i64, Vec<Sample>)> {
        let start = self.end? - self.samples.len() as i64;
        if self.samples.len() < len {
            return None;
        }
        let rest = self.samples.split_off(len);
        Some((start, std::mem::replace(&mut self.samples, rest)))
    }

    /// Appends silence until there are at least `least` samples more, and a multiple of `unit` in all.
    pub fn pad(&mut self, least: usize, unit: usize) {
        let len = (self.samples.len() + least).next_multiple_of(unit);
        self.end = self.end.map(|end| end + (len - self.samples.len()) as i64);
        self.samples.resize(len, [0.0; 2]);
    }

    /// Forgets where it was.
    pub fn restart(&mut self) {
        *self = Self::default();
    }
}

/// Appends `samples` as `len` samples, by a straight line between each two.
fn stretch(samples: &[Sample], len: usize, out: &mut Vec<Sample>) {
    if len == samples.len() {
        return out.extend_from_slice(samples);
    }
    let Some(last) = samples.len().checked_sub(1) else { return };
    out.extend((0..len).map(|n| {
        let place = n as f64 * samples.len() as f64 / len as f64;
        let (at, part) = ((place as usize).min(last), place.fract() as f32);
        let ([l0, r0], [l1, r1]) = (samples[at], samples[(at + 1).min(last)]);
        [l0 + (l1 - l0) * part, r0 + (r1 - r0) * part]
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [Sample; 1_024] = [[0.5; 2]; 1_024];

    /// Pushes frames at `ticks`; each sample's tick, and whether there is sound at it.
    fn paced(ticks: impl IntoIterator<Item = i64>) -> (i64, Vec<bool>) {
        let mut pacer = Pacer::default();
        ticks.into_iter().for_each(|at| pacer.push(at, &FRAME).unwrap());
        let (start, samples) = pacer.take(pacer.samples.len()).unwrap();
        (start, samples.iter().map(|[left, _]| *left > 0.4).collect())
    }

    #[test]
    fn jitter_moves_nothing() {
        let (start, sound) = paced((0..500).map(|n| 7 + n * 1_024 + (n * 37 % 97 - 48)));
        assert_eq!((start, sound.len()), (7 - 48, 500 * 1_024));
        assert!(sound.iter().all(|sounds| *sounds));
    }

    #[test]
    fn a_clock_that_differs_is_followed_slowly() {
        // 500 ppm either way, which is five times what crystals have.
        for ppm in [-500, 500] {
            let at = |n: i64| n * 1_024 * (1_000_000 + ppm) / 1_000_000;
            let (_, sound) = paced((0..5_000).map(at));
            assert!((sound.len() as i64 - at(5_000)).abs() < 3 * 48, "{}", sound.len());
            assert!(sound.iter().all(|sounds| *sounds));
        }
    }

    #[test]
    fn gaps_are_silence_and_what_overlaps_is_cut() {
        let (_, sound) = paced([0, 1_024, 2_048 + 14_400, 3_072 + 14_400]);
        assert_eq!(sound.len(), 4 * 1_024 + 14_400);
        assert_eq!(sound.iter().position(|sounds| !sounds), Some(2_048));
        assert_eq!(sound.iter().rposition(|sounds| !sounds), Some(2_048 + 14_399));
        let back = (0..10).chain(5..20).map(|n| n * 1_024);
        assert_eq!(paced(back).1.len(), 20 * 1_024);
    }

    #[test]
    fn a_long_gap_is_a_break() {
        let mut pacer = Pacer::default();
        pacer.push(0, &FRAME).unwrap();
        assert_eq!(pacer.push(1_024 + BREAK + 1, &FRAME), Err(Broken));
        pacer.pad(2_048, 960);
        assert_eq!(pacer.take(3_840).unwrap().0, 0);
        assert_eq!(pacer.take(1), None);
        pacer.restart();
        pacer.push(1 << 40, &FRAME).unwrap();
        assert_eq!(pacer.take(960).unwrap().0, 1 << 40);
    }
}
