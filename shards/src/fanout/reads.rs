//! Merged reads: with many publishers a socket is read at its turn, not whenever something came.
//!
//! A frame of sound or picture comes 70 times a second from each, and a read for each costs more than the bytes. So
//! sessions wait here before they read, and each tick lets some go: the hand goes round among publishers too.

use super::hand::TICK;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    task::{Poll, Waker},
    time::Duration,
};

/// What a read of a frame or two, its parsing and the kernel's part of it take of a core.
const COST: Duration = Duration::from_micros(15);
/// One in so many parts of a core may go into them.
const PARTS: u32 = 4;
/// However many publishers there are: it adds to everyone's delay.
const LONGEST: Duration = Duration::from_millis(100);

/// The publishers of one shard and their turns.
#[derive(Default)]
pub struct Reads {
    publishers: Cell<u32>,
    waiting: RefCell<VecDeque<Waker>>,
    /// Turns that are due, with a fraction.
    due: Cell<f64>,
}

impl Reads {
    pub fn enter(&self) {
        self.publishers.set(self.publishers.get() + 1);
    }

    pub fn leave(&self) {
        self.publishers.set(self.publishers.get().saturating_sub(1));
    }

    /// Between two reads of one publisher; zero: whenever something came.
    pub fn span(&self) -> Duration {
        let span = (COST * PARTS).saturating_mul(self.publishers.get()).min(LONGEST);
        if span > TICK { span } else { Duration::ZERO }
    }

    /// Waits for the caller's turn to read, which a tick brings.
    pub async fn turn(&self) {
        let mut waits = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut waits, true) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push_back(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// A tick: lets those go whose turn it is. True while some wait.
    pub fn tick(&self, elapsed: Duration) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let span = self.span();
        let turns = match span.is_zero() {
            true => waiting.len(),
            false => {
                let due = self.due.get() + f64::from(self.publishers.get()) * elapsed.div_duration_f64(span);
                self.due.set(due.fract());
                (due as usize).min(waiting.len())
            }
        };
        waiting.drain(..turns).for_each(Waker::wake);
        !waiting.is_empty() || !span.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{FutureExt, poll_once};

    fn of(publishers: u32) -> Reads {
        let reads = Reads::default();
        (0..publishers).for_each(|_| reads.enter());
        reads
    }

    #[test]
    fn few_publishers_are_read_at_once_and_many_in_turn() {
        let spans = [0, 1, 160, 500, 3_000, u32::MAX].map(|publishers| {
            let reads = Reads::default();
            reads.publishers.set(publishers);
            reads.span().as_millis()
        });
        assert_eq!(spans, [0, 0, 0, 30, 100, 100]);
        assert!(!of(10).tick(TICK));
    }

    #[test]
    fn each_publisher_has_a_turn_in_each_span() {
        let reads = of(2_000);
        futures_lite::future::block_on(async {
            let mut waiting: Vec<_> = (0..2_000).map(|_| reads.turn().boxed_local()).collect();
            for turn in &mut waiting {
                assert_eq!(poll_once(turn).await, None);
            }
            // 100 ms for all of them, as near as fractions are.
            for tick in 1..=10 {
                assert!(reads.tick(TICK));
                let left = reads.waiting.borrow().len();
                assert!(left.abs_diff(2_000 - tick * 200) <= 1, "{left} after tick {tick}");
            }
            reads.tick(TICK);
            for turn in waiting {
                turn.await;
            }
        });
    }

    #[test]
    fn who_waits_goes_on_when_the_others_have_left() {
        let reads = of(300);
        futures_lite::future::block_on(async {
            let mut turn = reads.turn().boxed_local();
            assert_eq!(poll_once(&mut turn).await, None);
            (0..200).for_each(|_| reads.leave());
            assert!(!reads.tick(TICK));
            turn.await;
        });
    }
}
