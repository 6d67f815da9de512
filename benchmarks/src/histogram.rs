//! Durations, counted in slots that grow with them: any quantile to within 3 %, in little memory.

use std::time::Duration;

/// Slots for each doubling.
const FINE: u64 = 32;
const SLOTS: usize = 1024;

#[derive(Clone, Debug)]
pub struct Histogram {
    slots: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { slots: vec![0; SLOTS], count: 0, max: Duration::ZERO }
    }
}

impl Histogram {
    pub fn record(&mut self, value: Duration) {
        let slot = slot(value.as_micros() as u64).min(SLOTS - 1);
        self.slots[slot] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Of none, zero.
    pub fn quantile(&self, q: f64) -> Duration {
        let mut left = ((self.count as f64 * q).ceil() as u64).clamp(1, self.count.max(1));
        for (slot, count) in self.slots.iter().enumerate() {
            if left <= *count {
                return Duration::from_micros(highest(slot as u64)).min(self.max);
            }
            left -= count;
        }
        self.max
    }

    /// Milliseconds: p50, p99 and the greatest.
    pub fn ms(&self) -> [f64; 3] {
        [self.quantile(0.5), self.quantile(0.99), self.max].map(|value| value.as_secs_f64() * 1e3)
    }
}

fn slot(micros: u64) -> usize {
    let doublings = u64::from(micros.checked_ilog2().unwrap_or(0)).saturating_sub(FINE.ilog2().into());
    (FINE * doublings + (micros >> doublings)) as usize
}

/// The greatest that the slot counts, in microseconds.
fn highest(slot: u64) -> u64 {
    let doublings = (slot / FINE).saturating_sub(1);
    ((slot - FINE * doublings + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_in_a_slot_that_ends_at_most_a_thirtieth_above_it() {
        for micros in (0..2_000).chain((11..36).flat_map(|power| [(1 << power) - 1, 1 << power, 5 << (power - 2)])) {
            let top = highest(slot(micros) as u64);
            assert!(top >= micros && top - micros <= micros / 30, "{micros} µs are counted as {top}");
            assert_eq!(slot(top), slot(micros));
            assert_eq!(slot(top + 1), slot(micros) + 1);
        }
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.ms(), [0.0; 3]);
        (1..=100).for_each(|n| histogram.record(Duration::from_micros(n)));
        histogram.record(Duration::from_secs(3600));
        assert_eq!(histogram.quantile(0.0), Duration::from_micros(1));
        assert_eq!(histogram.quantile(0.5).as_micros(), 51);
        assert_eq!(histogram.quantile(1.0), Duration::from_secs(3600));
    }
}
