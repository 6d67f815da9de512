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
    /// Of the hand: nobody has use for what is read between two moves of one that is slow.
    pace: Cell<Duration>,
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
        let span = self.needed().max(self.pace.get());
        if span > TICK { span } else { Duration::ZERO }
    }

    /// What so many publishers ask for.
    fn needed(&self) -> Duration {
        (COST * PARTS).saturating_mul(self.publishers.get()).min(LONGEST)
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

    /// The hand rests so long.
    pub fn set_pace(&self, pace: Duration) {
        self.pace.set(pace);
    }

    /// There are so many publishers that the hand must move for them.
    pub fn are_many(&self) -> bool {
        self.needed() > TICK
    }

    pub fn are_awaited(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// A tick: lets those go whose turn it is. True where there are any.
    pub fn tick(&self, elapsed: Duration) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let span = self.span();
        let turns = match span <= elapsed {
            true => waiting.len(),
            false => {
                let due = self.due.get() + f64::from(self.publishers.get()) * elapsed.div_duration_f64(span);
                self.due.set(due.fract());
                (due as usize).min(waiting.len())
            }
        };
        waiting.drain(..turns).for_each(Waker::wake);
        turns > 0
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
        assert!(!of(10).are_many() && of(500).are_many());
    }

    #[test]
    fn where_the_hand_is_slow_each_move_lets_all_read() {
        let reads = of(2);
        reads.set_pace(2 * TICK);
        assert_eq!(reads.span(), 2 * TICK);
        futures_lite::future::block_on(async {
            for elapsed in [2 * TICK, 2 * TICK, 3 * TICK] {
                let mut turns = [reads.turn().boxed_local(), reads.turn().boxed_local()];
                for turn in &mut turns {
                    assert_eq!(poll_once(turn).await, None);
                }
                assert!(reads.tick(elapsed));
                for turn in turns {
                    turn.await;
                }
            }
        });
        reads.set_pace(TICK);
        assert_eq!(reads.span(), Duration::ZERO);
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
            assert!(reads.tick(TICK) && !reads.are_awaited());
            turn.await;
        });
    }
}
