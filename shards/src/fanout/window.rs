//! The window's law: how long bytes gather before viewers are sent them.
//!
//! A viewer costs a turn in each window, so a short window is dear with many viewers and free with few. The law
//! takes the shortest that leaves the core time for all else ([0011](../../../docs/decisions/0011-window-law.md)).

use super::hand::TICK;
use std::time::Duration;

/// The share of a core that turns may take.
const BUDGET: f64 = 0.5;
/// A turn until some were measured, in seconds.
const FIRST_COST: f64 = 10e-6;
/// What a tick leaves of the measurements before it: half of them are gone after a third of a second.
const KEEP: f64 = 0.98;
/// The window moves where it is wrong by this factor.
const SLACK: f64 = 1.25;

/// What a turn costs, and the window that this allows.
pub struct Law {
    /// Seconds that were spent on so many turns, of late.
    spent: f64,
    turns: f64,
    cost: f64,
    window: Duration,
}

impl Default for Law {
    fn default() -> Self {
        Self { spent: 0.0, turns: 0.0, cost: FIRST_COST, window: Duration::ZERO }
    }
}

impl Law {
    /// So much time of the core went into `turns`.
    pub fn note(&mut self, spent: Duration, turns: usize) {
        self.spent += spent.as_secs_f64();
        self.turns += turns as f64;
    }

    /// Once a tick, for so many who want turns.
    pub fn settle(&mut self, count: usize) {
        if self.turns >= 1.0 {
            self.cost = self.spent / self.turns;
        }
        self.spent *= KEEP;
        self.turns *= KEEP;
        let wanted = count as f64 * self.cost / BUDGET;
        let now = self.window.as_secs_f64();
        if !(now / SLACK..=now * SLACK).contains(&wanted) {
            self.window = Duration::try_from_secs_f64(wanted).unwrap_or(Duration::MAX);
        }
    }

    /// The shortest window that costs no more than the budget.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// There is time to serve who waits as soon as there is something, between two ticks.
    pub fn is_idle(&self) -> bool {
        self.window <= TICK
    }
}

/// What a vhost says of its viewers' windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Zero: everyone is served on each tick that brought bytes.
    pub longest: Duration,
    /// As short as the law allows; else always the longest.
    pub adapts: bool,
}

impl Window {
    pub fn under(self, law: Duration) -> Duration {
        if self.adapts { law.min(self.longest) } else { self.longest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The window that settles in ten seconds of `count` viewers, where a turn costs 5 µs and 0.14 µs for each of
    /// its kilobytes, at `kbps`.
    fn settled(law: &mut Law, count: usize, kbps: f64) -> Duration {
        for _ in 0..1_000 {
            let window = law.window().max(TICK);
            let turns = count as f64 * TICK.div_duration_f64(window);
            let cost = 5e-6 + 0.14e-6 * kbps / 8.0 * window.as_secs_f64();
            law.note(Duration::from_secs_f64(turns * cost), turns as usize);
            law.settle(count);
        }
        law.window()
    }

    #[test]
    fn a_window_is_as_short_as_the_budget_allows() {
        let mut law = Law::default();
        assert!(settled(&mut law, 1, 1_000.0) < Duration::from_micros(50));
        assert!(settled(&mut law, 100, 1_000.0) < Duration::from_millis(2) && law.is_idle());
        let busy = settled(&mut law, 5_000, 240.0);
        assert!((40..100).contains(&busy.as_millis()) && !law.is_idle(), "{busy:?}");
        // Bytes alone take the whole budget: no window is long enough.
        assert!(settled(&mut law, 30_000, 1_000.0) > Duration::from_secs(1));
        assert!(settled(&mut law, 100, 1_000.0) < Duration::from_millis(2));
        assert_eq!(settled(&mut law, 0, 0.0), Duration::ZERO);
    }

    #[test]
    fn small_changes_leave_the_window_as_it_is() {
        let mut law = Law::default();
        law.settle(1_000);
        let before = law.window();
        law.settle(1_200);
        law.settle(850);
        assert_eq!(law.window(), before);
        law.settle(1_300);
        assert!(law.window() > before);
    }

    #[test]
    fn a_fixed_window_does_not_heed_the_law() {
        let ms = Duration::from_millis;
        let adapts = Window { longest: ms(350), adapts: true };
        assert_eq!([0, 20, 900].map(|law| adapts.under(ms(law))), [ms(0), ms(20), ms(350)]);
        let fixed = Window { adapts: false, ..adapts };
        assert_eq!([0, 20, 900].map(|law| fixed.under(ms(law))), [ms(350); 3]);
    }
}
