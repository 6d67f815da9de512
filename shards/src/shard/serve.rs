//! The hand's turns: who is served when, and whether that comes late.

use super::Shard;
use crate::{
    fanout::{audience::Turn, hand::TICK},
    load::Lateness,
    mesh::Ask,
    net::sys,
    stream::Stream,
};
use glommio::channels::local_channel::LocalSender;
use shardcast_engine::key::StreamKey;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};
use tracing::{error, info, warn};

/// What newcomers may take of a tick.
const GREETING: Duration = Duration::from_millis(4);

impl Shard {
    /// One turn: tapes, viewers, subscribers. How long the hand may rest; `None` where there is nobody to serve.
    pub fn tick(&self, elapsed: Duration) -> Option<Duration> {
        let now = Instant::now();
        let busy = self.mesh.flush() | self.rtc.tick(now) | self.reads.are_many();
        let mut pace = busy.then_some(TICK);
        let (mut asks, mut viewers) = (Vec::new(), 0);
        let law = self.law.borrow().window();
        let mut streams = self.streams.borrow_mut();
        let mut attended: Vec<_> = streams.values_mut().filter(|stream| stream.is_attended()).collect();
        for stream in &mut attended {
            let wanted = stream.pace(law);
            pace = Some(pace.map_or(wanted, |pace| pace.min(wanted)));
            viewers += stream.audiences.iter().flatten().map(|audience| audience.len()).sum::<usize>();
            stream.listen();
            stream.forward(&self.mesh);
            if let Some(rtp) = &mut stream.rtp {
                let (key, ring) = (&stream.key, &stream.ring);
                match guarded(key, || rtp.tick(key, ring, now)) {
                    Some(true) => asks.push(key.clone()),
                    Some(false) => {}
                    None => {
                        rtp.abort();
                        stream.rtp = None;
                    }
                }
            }
        }
        self.serve(elapsed, now, attended.into_iter());
        self.law.borrow_mut().settle(viewers);
        drop(streams);
        let pace = pace.or(self.reads.are_awaited().then_some(TICK));
        self.reads.set_pace(pace.unwrap_or_default());
        self.look_at_lateness(elapsed, pace);
        for key in asks {
            self.ask(&key, Ask::Keyframe);
        }
        pace
    }

    /// What a stream brought goes out at once where there is time for that and somebody to take it, else on the next
    /// tick.
    pub(super) fn pass_on(&self, stream: &mut Stream) {
        if !stream.is_attended() {
            return;
        }
        let (idle, law) = (self.law.borrow().is_idle(), self.law.borrow().window());
        if idle && stream.pace(law) <= TICK {
            stream.forward(&self.mesh);
            self.serve(Duration::ZERO, Instant::now(), std::iter::once(stream));
        }
        self.wake();
    }

    /// Moves the hands of audiences on, and measures what that costs.
    pub(super) fn serve<'s>(&self, elapsed: Duration, now: Instant, streams: impl Iterator<Item = &'s mut Stream>) {
        let law = self.law.borrow().window();
        let turn = Turn { elapsed, now, law, greet_until: now + GREETING };
        let before = sys::thread_time();
        let mut turns = 0;
        for Stream { key, ring, audiences, .. } in streams {
            for slot in audiences {
                // Without viewers a tape stands still.
                let Some(audience) = slot.as_mut().filter(|audience| !audience.is_empty()) else { continue };
                match guarded(key, || audience.tick(ring, turn)) {
                    Some(served) => turns += served,
                    None => {
                        audience.abort();
                        *slot = None;
                    }
                }
            }
        }
        if turns > 0
            && let (Ok(before), Ok(after)) = (before, sys::thread_time())
        {
            self.law.borrow_mut().note(after.saturating_sub(before), turns);
        }
    }

    /// A tick came, `elapsed` after the last; the next follows after `pace`, none where there is nothing to do.
    pub(super) fn look_at_lateness(&self, elapsed: Duration, pace: Option<Duration>) {
        let breaker = &self.config.borrow().circuit_breaker;
        let mut late = self.late.borrow_mut();
        match (sys::thread_time(), pace) {
            (Ok(used), Some(pace)) => late.note(elapsed, used, pace),
            _ => *late = Lateness::default(),
        }
        let was = self.board.is_full(self.index());
        let is_busy = self.load.borrow().is_over(breaker.load_threshold as f64 / 100.0, was);
        let is = breaker.late_threshold.is_some_and(|limit| late.is_over(limit, was) || is_busy);
        drop(late);
        if is != was {
            self.board.tell_full(self.index(), is);
            let (index, how) = (self.index(), self.how_busy());
            match is {
                true => warn!("shard {index} is full, {how}: new viewers are refused"),
                false => info!("shard {index} takes viewers again, {how}"),
            }
        }
    }

    pub fn wake(&self) {
        if let Some(awake) = &*self.awake.borrow() {
            // Full means that it is awake already.
            let _ = awake.try_send(());
        }
    }

    pub fn on_wake(&self, sender: LocalSender<()>) {
        *self.awake.borrow_mut() = Some(sender);
    }
}

/// Serves viewers of a stream; `None` where that panicked, which is told.
pub(super) fn guarded<R>(key: &StreamKey, serve: impl FnOnce() -> R) -> Option<R> {
    let served = catch_unwind(AssertUnwindSafe(serve)).ok();
    if served.is_none() {
        error!("{key} panicked while it was sent, its viewers are closed; please report this");
        metrics::counter!("shardcast_session_panics_total").increment(1);
    }
    served
}
