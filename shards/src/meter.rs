//! Bytes per second over the last half minute.

use std::collections::VecDeque;

/// Of samples that lie `STEP` seconds apart, a divisor of 30.
#[derive(Debug, Default)]
pub struct Meter<const STEP: usize = 1> {
    /// Kilobits, modulo 2^32.
    totals: VecDeque<u32>,
}

impl<const STEP: usize> Meter<STEP> {
    /// So 30 s lie between the oldest and the newest.
    const SAMPLES: usize = 30 / STEP + 1;

    /// Notes the total of bytes so far. Call it every `STEP` seconds.
    pub fn sample(&mut self, total: u64) {
        if self.totals.is_empty() {
            self.totals.reserve_exact(Self::SAMPLES);
        }
        if self.totals.len() == Self::SAMPLES {
            self.totals.pop_front();
        }
        self.totals.push_back((total / 125) as u32);
    }

    /// Kilobits per second over the last 30 s, or over what there is.
    pub fn kbps(&self) -> u64 {
        let (Some(oldest), Some(newest)) = (self.totals.front(), self.totals.back()) else { return 0 };
        let seconds = (self.totals.len() as u64 - 1) * STEP as u64;
        // Less than before is nothing.
        let kilobits = newest.wrapping_sub(*oldest).cast_signed().max(0);
        (kilobits as u64).checked_div(seconds).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_the_last_thirty_seconds() {
        let mut meter: Meter = Meter::default();
        assert_eq!(meter.kbps(), 0);
        for second in 0..100 {
            meter.sample(second * 125_000);
            if second > 0 {
                assert_eq!(meter.kbps(), 1000);
            }
        }
        for _ in 0..30 {
            meter.sample(99 * 125_000);
        }
        assert_eq!(meter.kbps(), 0);
        meter.sample(0);
        assert_eq!(meter.kbps(), 0);
    }

    #[test]
    fn totals_may_be_of_any_size() {
        let mut meter: Meter = Meter::default();
        let begin = (1u64 << 32) * 125 - 1_250_000_000;
        (0..31).for_each(|second| meter.sample(begin + second * 1_250_000_000));
        assert_eq!(meter.kbps(), 10_000_000);
    }
}
