//! How busy the thread of an executor is, and what shards tell each other of it.

use crate::net::sys;
use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Of the load that makes a shard full: with this much it takes viewers again.
const RELIEVED: f64 = 0.95;

/// The share of a core that the calling thread had between its last two samples.
#[derive(Default)]
pub struct Load {
    last: Option<(Instant, Duration)>,
    share: f64,
    mean: f64,
}

impl Load {
    /// Call it from the thread itself, once a second.
    pub fn sample(&mut self, now: Instant) {
        // The clock is there on every Linux; without it the load stays what it was.
        let Ok(used) = sys::thread_time() else { return };
        if let Some((then, before)) = self.last.replace((now, used)) {
            let wall = now.saturating_duration_since(then).as_secs_f64();
            if wall > 0.0 {
                self.note((used.saturating_sub(before).as_secs_f64() / wall).min(1.0));
            }
        }
    }

    fn note(&mut self, share: f64) {
        self.share = share;
        self.mean = (self.mean + share) / 2.0;
    }

    /// 0 to 1.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// Of late it was more than `limit`, 0 to 1; for one that `was` over, more than nearly that.
    pub fn is_over(&self, limit: f64, was: bool) -> bool {
        self.mean > if was { limit * RELIEVED } else { limit }
    }
}

/// How late the ticks of a shard come by its own work: a mean of about the last second, in which each tick counts by
/// its time. That others had its core makes them late too, and is no reason to refuse anyone.
#[derive(Default)]
pub struct Lateness {
    seconds: f64,
    /// CPU time of the thread at the tick before, and when this one was due after it.
    used: Option<Duration>,
    pace: Option<Duration>,
}

impl Lateness {
    /// A tick came, `elapsed` after the last, and another is due after `pace`; the thread has `used` so much CPU time
    /// so far.
    pub fn note(&mut self, elapsed: Duration, used: Duration, pace: Duration) {
        let own = self.used.replace(used).map_or(Duration::ZERO, |before| used.saturating_sub(before));
        let due = self.pace.replace(pace).unwrap_or(pace);
        let late = elapsed.saturating_sub(due).min(own).as_secs_f64();
        self.seconds += (late - self.seconds) * elapsed.as_secs_f64().min(1.0);
    }

    pub fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// More than `limit`; for one that `was` over, more than half of it.
    pub fn is_over(&self, limit: Duration, was: bool) -> bool {
        self.mean() > if was { limit / 2 } else { limit }
    }
}

/// What each shard shows to the others.
pub struct Board(Box<[Slot]>);

/// In a cache line of its own, since each has another writer.
#[derive(Default)]
#[repr(align(64))]
struct Slot {
    /// Of its core, in thousandths.
    load: AtomicU32,
    is_full: AtomicBool,
}

/// A shard that has less to do than this share of its core, or not so much more than the mean, keeps who comes.
const LIGHT: u32 = 300;
const ABOVE_MEAN: u32 = 150;

impl Board {
    pub fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| Slot::default()).collect())
    }

    /// Shard `index` had so much of its core in the last second, 0 to 1.
    pub fn tell(&self, index: usize, load: f64) {
        self.0[index].load.store((load * 1_000.0) as u32, Relaxed);
    }

    /// Whether shard `index` takes no more viewers.
    pub fn tell_full(&self, index: usize, is_full: bool) {
        self.0[index].is_full.store(is_full, Relaxed);
    }

    pub fn is_full(&self, index: usize) -> bool {
        self.0[index].is_full.load(Relaxed)
    }

    pub fn are_all_full(&self) -> bool {
        self.0.iter().all(|slot| slot.is_full.load(Relaxed))
    }

    /// The shard that is to serve the `n`th who came to shard `index`, where another one should. Loads are told
    /// once a second, so those below the mean take turns: the least loaded would be buried.
    pub fn lighter(&self, index: usize, n: u64) -> Option<usize> {
        let load = |slot: &Slot| slot.load.load(Relaxed);
        let mean = self.0.iter().map(load).sum::<u32>() / self.0.len() as u32;
        let own = load(&self.0[index]);
        if !self.is_full(index) && (own < LIGHT || own < mean + ABOVE_MEAN) {
            return None;
        }
        let lighter = |at: &usize| *at != index && !self.is_full(*at) && load(&self.0[*at]) <= mean;
        let count = (0..self.0.len()).filter(lighter).count() as u64;
        (0..self.0.len()).filter(lighter).nth(n.checked_rem(count)? as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_to_a_busy_shard_goes_to_the_others_in_turn() {
        let board = Board::new(4);
        [0.9, 0.2, 0.7, 0.1].into_iter().enumerate().for_each(|(shard, load)| board.tell(shard, load));
        assert_eq!([0, 1, 2].map(|n| board.lighter(0, n)), [Some(1), Some(3), Some(1)]);
        assert_eq!(board.lighter(2, 0), Some(1));
        assert_eq!([board.lighter(1, 0), board.lighter(3, 0)], [None, None]);
        // All are as busy, or none is.
        (0..4).for_each(|shard| board.tell(shard, 0.9));
        assert_eq!(board.lighter(0, 0), None);
        (0..4).for_each(|shard| board.tell(shard, if shard == 0 { 0.25 } else { 0.0 }));
        assert_eq!(board.lighter(0, 0), None);
    }

    #[test]
    fn who_comes_to_a_full_shard_goes_to_one_that_is_not() {
        let board = Board::new(2);
        board.tell_full(0, true);
        assert_eq!((board.lighter(0, 7), board.lighter(1, 7)), (Some(1), None));
        assert!(!board.are_all_full());
        board.tell_full(1, true);
        assert_eq!((board.lighter(0, 7), board.are_all_full()), (None, true));
        let alone = Board::new(1);
        alone.tell_full(0, true);
        assert_eq!(alone.lighter(0, 7), None);
    }

    #[test]
    fn lateness_follows_within_a_second_and_has_slack() {
        let (limit, ms) = (Duration::from_millis(50), Duration::from_millis);
        let mut late = Lateness::default();
        let mut used = Duration::ZERO;
        let mut run = |late: &mut Lateness, ticks: u64, elapsed: Duration, own: Duration| {
            for _ in 0..ticks {
                used += own;
                late.note(elapsed, used, ms(10));
            }
        };
        run(&mut late, 150, ms(10), ms(10));
        assert_eq!(late.mean(), Duration::ZERO);
        run(&mut late, 1, ms(200), ms(200));
        assert!(!late.is_over(limit, false), "one late tick: {:?}", late.mean());
        run(&mut late, 15, ms(100), ms(20));
        assert!(!late.is_over(limit, false), "others had the core: {:?}", late.mean());
        run(&mut late, 15, ms(100), ms(100));
        assert!(late.is_over(limit, false));
        run(&mut late, 33, ms(45), ms(45));
        assert!(!late.is_over(limit, false) && late.is_over(limit, true), "{:?}", late.mean());
        run(&mut late, 300, ms(10), ms(10));
        assert!(!late.is_over(limit, true), "{:?}", late.mean());
    }

    #[test]
    fn one_busy_second_is_no_overload() {
        let over = |load: &Load, was| load.is_over(0.9, was);
        let mut load = Load { mean: 0.5, ..Load::default() };
        load.note(1.0);
        assert!(!over(&load, false), "{}", load.mean);
        (0..3).for_each(|_| load.note(1.0));
        assert!(over(&load, false), "{}", load.mean);
        (0..5).for_each(|_| load.note(0.87));
        assert!(!over(&load, false) && over(&load, true), "{}", load.mean);
        (0..5).for_each(|_| load.note(0.8));
        assert!(!over(&load, true), "{}", load.mean);
    }

    #[test]
    fn a_thread_that_works_is_busy_and_one_that_waits_is_not() {
        let mut load = Load::default();
        let start = Instant::now();
        load.sample(start);
        // Until the thread has had 20 ms, however many others want the core.
        let mut x = 1u64;
        while sys::thread_time().unwrap() < load.last.unwrap().1 + Duration::from_millis(20) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        load.sample(start + Duration::from_millis(40));
        assert!(load.share() >= 0.5, "{}", load.share());
        load.sample(start + Duration::from_secs(3_600));
        assert!(load.share() < 0.1, "{}", load.share());
    }
}
