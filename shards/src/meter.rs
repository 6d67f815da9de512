//! Bytes per second over the last half minute.

use std::collections::VecDeque;

/// Of samples that lie `STEP` seconds apart, a divisor of 30.
#[derive(Debug, Default)]
pub struct Meter<const STEP: usize = 1> {
    totals: VecDeque<u64>,
}

impl<const STEP: usize> Meter<STEP> {
    /// So 30 s lie between the oldest and the newest.
    const SAMPLES: usize = 30 / STEP + 1;

    /// Notes the total so far. Call it every `STEP` seconds.
    pub fn sample(&mut self, total: u64) {
        if self.totals.is_empty() {
            self.totals.reserve_exact(Self::SAMPLES);
        }
        if self.totals.len() == Self::SAMPLES {
            self.totals.pop_front();
        }
        self.totals.push_back(total);
    }

    /// Kilobits per second over the last 30 s, or over what there is.
    pub fn kbps(&self) -> u64 {
        let (Some(oldest), Some(newest)) = (self.totals.front(), self.totals.back()) else { return 0 };
        let seconds = (self.totals.len() as u64 - 1) * STEP as u64;
        (newest.saturating_sub(*oldest) * 8).checked_div(seconds * 1000).unwrap_or(0)
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
    }
}
