//! One clock for the tracks of a source: each track's RTP time starts anywhere, so arrival places its first
//! packet. Sender reports (RFC 3550 §6.4.1), which would place tracks to the millisecond, are not read yet.

use super::wrap::Unwrapper;
use shardcast_engine::time::Timestamp;
use std::time::Instant;

#[derive(Debug)]
pub struct Clock {
    hz: u32,
    timestamp: Unwrapper,
    /// What is added to the track's time.
    offset: Option<Timestamp>,
}

/// A source that leaps further than this between two packets has begun anew: it is placed by arrival.
const MAX_LEAP: Timestamp = Timestamp::from_whole_ms(10_000);

impl Clock {
    /// `hz` must not be zero.
    pub fn new(hz: u32) -> Self {
        Self { hz, timestamp: Unwrapper::timestamp(), offset: None }
    }

    /// The time of a packet with this RTP timestamp, counted from `start`, which the tracks of a source share.
    pub fn place(&mut self, start: Instant, now: Instant, timestamp: u32) -> Timestamp {
        let own = Timestamp::from_ticks(self.timestamp.place(timestamp), self.hz);
        let arrival = Timestamp::from(now.saturating_duration_since(start));
        let near = |offset: &Timestamp| {
            let off = own + *offset - arrival;
            off < MAX_LEAP && Timestamp::ZERO - off < MAX_LEAP
        };
        let offset = self.offset.filter(near).unwrap_or(arrival - own);
        self.offset = Some(offset);
        own + offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn goes_by_the_source_and_begins_anew_after_a_leap() {
        let (start, mut clock) = (Instant::now(), Clock::new(90_000));
        let mut place = |ms: u64, ticks: u32| clock.place(start, start + Duration::from_millis(ms), ticks).as_ms();
        assert_eq!(place(100, u32::MAX - 8_999), 100);
        // Jitter of arrival does not count, nor does the wrap.
        assert_eq!(place(350, 0), 200);
        assert_eq!(place(300, 9_000), 300);
        assert_eq!(place(400, 2_000_000_000), 400);
    }
}
