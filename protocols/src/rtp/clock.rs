//! One clock for the tracks of a source: each track's RTP time starts anywhere, so arrival places its first
//! packet. Sender reports (RFC 3550 §6.4.1) then show how the tracks belong together.

use super::wrap::Unwrapper;
use shardcast_engine::time::Timestamp;
use std::time::Instant;

#[derive(Debug)]
pub struct Clock {
    hz: u32,
    timestamp: Unwrapper,
    /// `None` before the first packet.
    place: Option<Place>,
    /// Nothing that begins anew is placed before.
    floor: Timestamp,
    /// NTP time less the track's own, by the last sender report.
    ntp: Option<Timestamp>,
}

/// Where the track is. Its own time is that of its RTP timestamps, unwrapped.
#[derive(Debug)]
struct Place {
    /// The last packet: its own time, where it was placed, and when it came.
    last: Timestamp,
    placed: Timestamp,
    arrival: Timestamp,
    /// The latest own time of all packets.
    newest: Timestamp,
    /// What is added to own time up to `since`; from there on that goes to `target`, slowly.
    offset: Timestamp,
    since: Timestamp,
    target: Timestamp,
    /// Sender reports have set the target.
    aligned: bool,
}

/// A source whose time between two packets differs further from that of their arrival has begun anew: it is
/// placed by arrival.
const MAX_LEAP: Timestamp = Timestamp::from_whole_ms(10_000);
/// The same for one that goes back. B pictures lie less behind.
pub const MAX_BACK: Timestamp = Timestamp::from_whole_ms(1_000);
/// Between what was placed and what begins anew, where arrival would place that earlier.
const STEP: Timestamp = Timestamp::from_whole_ms(1);
/// One of so many units of time is what a correction may add or take: time goes on all the while.
const SLEW: u32 = 8;
/// Sender reports that would put the tracks further apart than they arrive are wrong. A stream's timeline
/// takes a second for a jump.
const MAX_APART: Timestamp = Timestamp::from_whole_ms(900);
/// What tracks that were aligned may drift before that is done again: some write reports this inexactly.
const SLACK: Timestamp = Timestamp::from_whole_ms(10);

impl Clock {
    /// `hz` must not be zero.
    pub fn new(hz: u32) -> Self {
        Self { hz, timestamp: Unwrapper::timestamp(), place: None, floor: Timestamp::ZERO, ntp: None }
    }

    /// The time of a packet with this RTP timestamp, counted from `start`, which the tracks of a source share.
    /// Packets of one timestamp in a row have one time.
    pub fn place(&mut self, start: Instant, now: Instant, timestamp: u32) -> Timestamp {
        let own = self.own(timestamp);
        let arrival = Timestamp::from(now.saturating_duration_since(start));
        let placed = match &mut self.place {
            Some(place) if place.last == own => return place.placed,
            Some(place) if place.follows(own, arrival) => {
                place.newest = place.newest.max(own);
                place.placed = own + place.offset(own, self.hz);
                (place.last, place.arrival) = (own, arrival);
                place.placed
            }
            anew => {
                let placed = arrival.max(self.floor);
                if anew.is_some() {
                    self.ntp = None;
                }
                let offset = placed - own;
                *anew = Some(Place {
                    last: own,
                    placed,
                    arrival,
                    newest: own,
                    offset,
                    since: own,
                    target: offset,
                    aligned: false,
                });
                placed
            }
        };
        self.floor = self.floor.max(placed + STEP);
        placed
    }

    /// Another source's packets follow: its first is placed by arrival, behind what was placed already.
    pub fn restart(&mut self) {
        (self.timestamp, self.place, self.ntp) = (Unwrapper::timestamp(), None, None);
    }

    /// A sender report: this RTP timestamp is that of `ntp`, counted from anywhere.
    pub fn report(&mut self, timestamp: u32, ntp: Timestamp) {
        let before = self.timestamp;
        self.ntp = Some(ntp - self.own(timestamp));
        if self.place.is_some() {
            self.timestamp = before;
        }
    }

    /// Moves this track to where it belongs beside `master`, where sender reports of both are known.
    pub fn follow(&mut self, master: &Clock) {
        let (Some(place), Some(ntp), Some(other), Some(others)) =
            (&mut self.place, self.ntp, &master.place, master.ntp)
        else {
            return;
        };
        let target = other.placed - other.last - others + ntp;
        let apart = (place.last + target - place.arrival) - (other.placed - other.arrival);
        let settled = place.aligned && within(target - place.target, SLACK);
        if within(apart, MAX_APART) && !settled {
            (place.offset, place.since) = (place.offset(place.newest, self.hz), place.newest);
            (place.target, place.aligned) = (target, true);
        }
    }

    fn own(&mut self, timestamp: u32) -> Timestamp {
        Timestamp::from_ticks(self.timestamp.place(timestamp), self.hz)
    }
}

impl Place {
    /// What is added to an own time: on the way to the target, an eighth of what has passed.
    fn offset(&self, own: Timestamp, hz: u32) -> Timestamp {
        let passed = (own - self.since).max(Timestamp::ZERO).as_ticks(hz);
        let step = Timestamp::from_ticks(passed, hz.saturating_mul(SLEW));
        self.offset + (self.target - self.offset).min(step).max(Timestamp::ZERO - step)
    }

    /// Whether a packet goes on from the one before.
    fn follows(&self, own: Timestamp, arrival: Timestamp) -> bool {
        within((own - self.last) - (arrival - self.arrival), MAX_LEAP) && self.newest - own < MAX_BACK
    }
}

fn within(time: Timestamp, bound: Timestamp) -> bool {
    time < bound && Timestamp::ZERO - time < bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn place(clock: &mut Clock, start: Instant, ms: u64, ticks: u32) -> i64 {
        clock.place(start, start + Duration::from_millis(ms), ticks).as_ms()
    }

    #[test]
    fn goes_by_the_source_and_begins_anew_after_a_leap() {
        let (start, mut clock) = (Instant::now(), Clock::new(90_000));
        let mut at = |ms, ticks| place(&mut clock, start, ms, ticks);
        assert_eq!(at(100, u32::MAX - 8_999), 100);
        // Jitter of arrival does not count, nor does the wrap.
        assert_eq!(at(350, 0), 200);
        assert_eq!(at(300, 9_000), 300);
        assert_eq!(at(400, 2_000_000_000), 400);
        // Packets of one picture are at one time, however late.
        assert_eq!(at(20_000, 2_000_000_000), 400);
        // Back by no more than B pictures, then by more, which is placed after all before.
        assert_eq!(at(500, 2_000_000_000 - 45_000), 400 - 500);
        assert_eq!(at(350, 2_000_000_000 - 180_000), 401);
        assert_eq!(at(390, 2_000_000_000 - 176_400), 441);
        clock.restart();
        assert_eq!((place(&mut clock, start, 400, 5), place(&mut clock, start, 400, 95)), (442, 443));
    }

    #[test]
    fn a_clock_that_drifts_for_days_is_no_leap() {
        let (start, mut clock) = (Instant::now(), Clock::new(90_000));
        // 100 ppm fast: a second more in ten thousand.
        for second in 0..400_000u64 {
            let ticks = (second * 90_009) as u32;
            assert_eq!(place(&mut clock, start, second * 1000, ticks), (second * 90_009 / 90) as i64);
        }
    }

    /// Sound at 48 kHz from 5 s of NTP time, pictures at 90 kHz, both arriving at zero; NTP time of the
    /// pictures' first.
    fn pair(start: Instant, ntp_ms: i64) -> (Clock, Clock) {
        let (mut sound, mut picture) = (Clock::new(48_000), Clock::new(90_000));
        assert_eq!((place(&mut sound, start, 0, 77), place(&mut picture, start, 0, u32::MAX - 8)), (0, 0));
        sound.report(77, Timestamp::from_ms(5_000));
        picture.follow(&sound);
        picture.report(u32::MAX - 8, Timestamp::from_ms(ntp_ms));
        picture.follow(&sound);
        (sound, picture)
    }

    #[test]
    fn sender_reports_align_tracks_without_going_back() {
        let start = Instant::now();
        for shift in [-800, -75, 3, 600] {
            let (_, mut picture) = pair(start, 5_000 + shift);
            let (mut last, mut arrived) = (0, 0);
            for n in 1..=250u32 {
                let at = place(&mut picture, start, u64::from(n) * 40, (n * 3_600).wrapping_sub(9));
                assert!((35..=45).contains(&(at - last)), "{shift}: {at} after {last}");
                last = at;
                arrived = i64::from(n) * 40;
            }
            assert_eq!(last, arrived + shift);
        }
    }

    #[test]
    fn odd_reports_move_nothing() {
        let start = Instant::now();
        // Another day, and apart by more than a timeline takes.
        for shift in [-86_400_000, -1_000, 901, 3_600_000] {
            let (_, mut picture) = pair(start, 5_000 + shift);
            assert_eq!(place(&mut picture, start, 10_000, 900_000 - 9), 10_000, "{shift}");
        }
        // Reports that waver by some milliseconds, after the first.
        let (sound, mut picture) = pair(start, 5_000);
        picture.report(3_600 - 9, Timestamp::from_ms(5_049));
        picture.follow(&sound);
        assert_eq!(place(&mut picture, start, 10_000, 900_000 - 9), 10_000);
        // A drift is followed; after a leap reports of before say nothing.
        picture.report(900_000 - 9, Timestamp::from_ms(15_050));
        picture.follow(&sound);
        assert_eq!(place(&mut picture, start, 11_000, 990_000 - 9), 11_050);
        assert_eq!(place(&mut picture, start, 12_000, 5), 12_000);
        picture.follow(&sound);
        assert_eq!(place(&mut picture, start, 13_000, 90_005), 13_000);
    }
}
