//! The clock hand: one task per shard that serves all its viewers, and sleeps when there are none.

use crate::shard::Shard;
use glommio::{channels::local_channel, timer::sleep};
use std::{
    rc::Rc,
    time::{Duration, Instant},
};

/// How often the hand moves while it has work.
pub const TICK: Duration = Duration::from_millis(10);
const SWEEP: Duration = Duration::from_secs(1);

/// Runs for ever.
pub async fn run(shard: Rc<Shard>) {
    let (sender, receiver) = local_channel::new_bounded(1);
    shard.on_wake(sender);
    loop {
        if receiver.recv().await.is_none() {
            return;
        }
        let mut last = Instant::now();
        let mut elapsed = TICK;
        loop {
            if !shard.tick(elapsed) {
                break;
            }
            let spent = last.elapsed();
            sleep(TICK.saturating_sub(spent).max(Duration::from_millis(1))).await;
            // A tick that came late serves those whose turn passed meanwhile.
            elapsed = last.elapsed();
            last = Instant::now();
        }
    }
}

/// Deadlines and idle things, once a second, for ever.
pub async fn sweep(shard: Rc<Shard>) {
    loop {
        sleep(SWEEP).await;
        shard.sweep(Instant::now());
    }
}
