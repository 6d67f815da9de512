//! The clock hand: one task per shard that serves all its viewers, and sleeps when there are none.

use crate::{pause::pause, shard::Shard};
use futures_lite::future::{or, yield_now};
use glommio::channels::local_channel;
use std::{
    rc::Rc,
    time::{Duration, Instant},
};

/// How often the hand moves while it has work.
pub const TICK: Duration = Duration::from_millis(10);
/// The longest time between two moves, where all windows are long: each wakes the executor, at the price of some sends.
const LONGEST_TICK: Duration = Duration::from_millis(50);
/// Parts of a window in which viewers are served, so that they are no burst.
const PHASES: u32 = 8;
/// How often an idle hand wakes the executor, see [`pause`].
const LOOK_UP: Duration = Duration::from_millis(100);
const SWEEP: Duration = Duration::from_secs(1);

/// Runs for ever.
pub async fn run(shard: Rc<Shard>) {
    let (sender, receiver) = local_channel::new_bounded(1);
    shard.on_wake(sender);
    loop {
        let woken = async { Some(receiver.recv().await) };
        // So that other tasks of the executor wait no longer where it sleeps over them, see `pause`.
        let looks_up = async {
            pause(LOOK_UP).await;
            None
        };
        match or(woken, looks_up).await {
            Some(Some(())) => {}
            Some(None) => return,
            None => continue,
        }
        let mut last = Instant::now();
        let mut elapsed = TICK;
        loop {
            // What is read now goes out in this tick.
            if shard.reads.tick(elapsed) {
                yield_now().await;
            }
            let Some(pace) = shard.tick(elapsed) else { break };
            let spent = last.elapsed();
            pause(pace.saturating_sub(spent).max(Duration::from_millis(1))).await;
            // A tick that came late serves those whose turn passed meanwhile.
            elapsed = last.elapsed();
            last = Instant::now();
        }
    }
}

/// How long the hand may rest where the shortest window is this.
pub fn pace(window: Duration) -> Duration {
    (window / PHASES).clamp(TICK, LONGEST_TICK)
}

/// Deadlines and idle things, once a second, for ever.
pub async fn sweep(shard: Rc<Shard>) {
    loop {
        pause(SWEEP).await;
        shard.sweep(Instant::now());
    }
}
