//! Sleeping that surely ends.

use glommio::timer::Timer;
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

/// How much later the timers behind the first one fire.
const BEHIND: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(10), Duration::from_millis(100), Duration::from_secs(1)];

/// Sleeps for `length`. [`glommio::timer::sleep`] may never end: an executor of glommio 0.9 that has no CPU for longer
/// than its preemption timer, after the timer of a task fired and before the task runs, goes to sleep over it until
/// something else happens. So there are more timers, which only fire then. Where others pause like this all the time,
/// as the hand of a shard does, plain sleeps are woken too.
pub async fn pause(length: Duration) {
    let mut timers = BEHIND.map(|more| Timer::new(length + more));
    poll_fn(|cx| {
        // Each is set by its first poll.
        match timers.iter_mut().any(|timer| Pin::new(timer).poll(cx).is_ready()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use glommio::{LocalExecutorBuilder, Placement};
    use std::{sync::mpsc, thread};

    /// The executor's timer is so short that it often fires between a task's timer and the task.
    #[test]
    fn ends_where_the_executor_has_no_time_for_it() {
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || {
            let builder = LocalExecutorBuilder::new(Placement::Unbound).preempt_timer(Duration::from_micros(20));
            builder.make().unwrap().run(async {
                for _ in 0..20_000 {
                    pause(Duration::from_micros(100)).await;
                }
            });
            done.send(()).unwrap();
        });
        is_done.recv_timeout(Duration::from_secs(60)).expect("no pause lasts for ever");
    }
}
