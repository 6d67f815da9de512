//! How many commands one peer may send: each may cost the server more than the peer, and log lines and calls of hooks.

use std::time::{Duration, Instant};

/// Commands at once.
pub const BURST: u32 = 200;
/// After which one more may come.
pub const EACH: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// When all that came will be forgotten.
    clear: Instant,
}

impl Pace {
    pub fn new(now: Instant) -> Self {
        Self { clear: now }
    }

    /// One more came. False where it is one too many.
    pub fn takes(&mut self, now: Instant) -> bool {
        self.clear = self.clear.max(now) + EACH;
        self.clear <= now + EACH * BURST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_and_then_ten_a_second() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!((0..1_000).take_while(|_| pace.takes(now)).count(), 200);
        let mut pace = Pace::new(now);
        assert!((0..10_000).all(|n| pace.takes(now + EACH * n)));
        assert!((0..199).all(|_| pace.takes(now + EACH * 9_999)) && !pace.takes(now + EACH * 9_999));
    }
}
