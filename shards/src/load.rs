//! How busy the thread of an executor is.

use crate::net::sys;
use std::time::{Duration, Instant};

/// The share of a core that the calling thread had between its last two samples.
#[derive(Default)]
pub struct Load {
    last: Option<(Instant, Duration)>,
    share: f64,
}

impl Load {
    /// Call it from the thread itself, once a second.
    pub fn sample(&mut self, now: Instant) {
        // The clock is there on every Linux; without it the load stays what it was.
        let Ok(used) = sys::thread_time() else { return };
        if let Some((then, before)) = self.last.replace((now, used)) {
            let wall = now.saturating_duration_since(then).as_secs_f64();
            if wall > 0.0 {
                self.share = (used.saturating_sub(before).as_secs_f64() / wall).min(1.0);
            }
        }
    }

    /// 0 to 1.
    pub fn share(&self) -> f64 {
        self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
