//! When each frame of a live stream is due: at the start plus its decoding time, without drift.

use shardcast_engine::time::Timestamp;
use std::time::{Duration, Instant};

/// A loop that is later than this has slept, not stumbled: it goes on from where it is.
const LATE_MAX: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
pub struct Pace {
    start: Instant,
    /// Frames wait for the end of the one that they fall into; zero where none do.
    burst: Duration,
}

impl Pace {
    pub fn new(start: Instant, burst: Duration) -> Self {
        Self { start, burst }
    }

    pub fn due(&self, dts: Timestamp) -> Instant {
        let mut ns = dts.as_ticks(1_000_000_000).unsigned_abs();
        if !self.burst.is_zero() {
            ns = ns.next_multiple_of(self.burst.as_nanos() as u64);
        }
        self.start + Duration::from_nanos(ns)
    }

    /// Whether the frame of `dts` is to be made now. A late loop gets its frames one after the other
    /// until it has caught up; one that is too late moves its start and learns by how much.
    pub fn is_due(&mut self, dts: Timestamp, now: Instant) -> (bool, Option<Duration>) {
        let late = now.saturating_duration_since(self.due(dts));
        if late > LATE_MAX {
            self.start += late;
            return (true, Some(late));
        }
        (now >= self.due(dts), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_due_at_start_plus_their_time() {
        let start = Instant::now();
        let pace = Pace::new(start, Duration::ZERO);
        assert_eq!(pace.due(Timestamp::from_ticks(90, 30)), start + Duration::from_secs(3));
        let month = Timestamp::from_ticks(30 * 86_400 * 30, 30);
        assert_eq!(pace.due(month), start + Duration::from_secs(30 * 86_400));
    }

    #[test]
    fn bursts_hold_frames_back_to_their_ends() {
        let start = Instant::now();
        let pace = Pace::new(start, Duration::from_millis(20));
        let due = |ms| pace.due(Timestamp::from_ms(ms)) - start;
        assert_eq!([0, 1, 20, 21].map(|ms| due(ms).as_millis()), [0, 20, 20, 40]);
    }

    #[test]
    fn catches_up_after_a_stumble_and_goes_on_after_a_sleep() {
        let start = Instant::now();
        let mut pace = Pace::new(start, Duration::ZERO);
        let dts = |frame| Timestamp::from_ticks(frame, 30);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(pace.is_due(dts(3), at(99)), (false, None));
        // 500 ms late: the 15 frames up to there are due at once, the next is not.
        assert!((3..=15).all(|frame| pace.is_due(dts(frame), at(500)) == (true, None)));
        assert_eq!(pace.is_due(dts(16), at(500)), (false, None));
        // An hour late: one frame, then the usual pace from there.
        assert_eq!(pace.is_due(dts(30), at(3_601_000)), (true, Some(Duration::from_secs(3600))));
        assert_eq!(pace.is_due(dts(31), at(3_601_000)), (false, None));
        assert_eq!(pace.is_due(dts(31), at(3_601_034)), (true, None));
    }
}
