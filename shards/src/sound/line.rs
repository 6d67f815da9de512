//! A stream's way to the pool and back: two bounded queues around a transcoder.

use super::{encode::Target, pool::pool, transcode::Transcoder};
use shardcast_engine::{fanout::Unit, frame::Frame, key::StreamKey};
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tracing::{error, warn};

/// Units on the way to the pool: five seconds of AAC.
const IN: usize = 256;
/// Frames on the way back.
const OUT: usize = 256;
/// Units in one turn, so that all streams get theirs.
const TURN: usize = 16;
/// So many bad frames in a row are no accident.
const BAD: u32 = 100;

/// One transcoder, as its stream's home has it. Dropped, it ends.
pub struct Line {
    target: Target,
    shared: Arc<Shared>,
    dropped: u64,
}

/// What home and pool share.
pub struct Shared {
    key: StreamKey,
    target: Target,
    inbox: Mutex<Inbox>,
    /// One thread at a time has the line, so nobody waits for it.
    booth: Mutex<Booth>,
    outbox: Mutex<VecDeque<Frame>>,
    ended: AtomicBool,
}

#[derive(Default)]
struct Inbox {
    units: VecDeque<Arc<Unit>>,
    /// The pool has it, or will have.
    scheduled: bool,
}

#[derive(Default)]
struct Booth {
    /// Made at the first turn.
    transcoder: Option<Transcoder>,
    /// Bad frames in a row.
    bad: u32,
}

impl Line {
    pub fn new(key: StreamKey, target: Target) -> Self {
        metrics::gauge!("shardcast_transcoders", "to" => label(target)).increment(1);
        let shared = Shared {
            key,
            target,
            inbox: Mutex::default(),
            booth: Mutex::default(),
            outbox: Mutex::default(),
            ended: AtomicBool::new(false),
        };
        Self { target, shared: Arc::new(shared), dropped: 0 }
    }

    pub fn target(&self) -> Target {
        self.target
    }

    /// It has failed, and says no more.
    pub fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Relaxed)
    }

    /// Hands a unit over; others than the source's are ignored. Where the pool cannot keep up it is dropped.
    pub fn feed(&mut self, unit: &Arc<Unit>) {
        if unit.frame.kind != self.target.source() || self.has_ended() {
            return;
        }
        let mut inbox = lock(&self.shared.inbox);
        if inbox.units.len() >= IN {
            drop(inbox);
            metrics::counter!("shardcast_sound_dropped_total").increment(1);
            self.dropped += 1;
            if self.dropped.is_power_of_two() {
                warn!(
                    "{} sound to {}: no CPU time, {} frames dropped",
                    self.shared.key,
                    label(self.target),
                    self.dropped
                );
            }
            return;
        }
        inbox.units.push_back(unit.clone());
        if !std::mem::replace(&mut inbox.scheduled, true) {
            drop(inbox);
            pool().schedule(self.shared.clone());
        }
    }

    /// How many units and frames are in the queues.
    #[cfg(test)]
    pub fn waiting(&self) -> (usize, usize) {
        (lock(&self.shared.inbox).units.len(), lock(&self.shared.outbox).len())
    }

    #[cfg(test)]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// What is ready.
    pub fn collect(&self) -> VecDeque<Frame> {
        std::mem::take(&mut lock(&self.shared.outbox))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        metrics::gauge!("shardcast_transcoders", "to" => label(self.target)).decrement(1);
        self.shared.ended.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// A thread's turn. True where another must follow.
    pub fn work(&self) -> bool {
        let units: Vec<_> = {
            let mut inbox = lock(&self.inbox);
            let turn = inbox.units.len().min(TURN);
            inbox.units.drain(..turn).collect()
        };
        let mut made = Vec::new();
        for unit in units {
            if self.ended.load(Ordering::Relaxed) {
                break;
            }
            // What a codec panics about is this stream's trouble alone.
            match catch_unwind(AssertUnwindSafe(|| self.transcode(&unit, &mut made))) {
                Ok(Ok(())) => {}
                Ok(Err(why)) => self.end(&why),
                Err(_) => {
                    metrics::counter!("shardcast_session_panics_total").increment(1);
                    self.end("it panicked; please report this");
                }
            }
        }
        metrics::counter!("shardcast_transcoded_frames_total", "to" => label(self.target)).increment(made.len() as u64);
        let mut outbox = lock(&self.outbox);
        outbox.extend(made);
        let surplus = outbox.len().saturating_sub(OUT);
        outbox.drain(..surplus);
        drop(outbox);
        metrics::counter!("shardcast_sound_dropped_total").increment(surplus as u64);

        let mut inbox = lock(&self.inbox);
        if self.ended.load(Ordering::Relaxed) {
            inbox.units.clear();
        }
        inbox.scheduled = !inbox.units.is_empty();
        inbox.scheduled
    }

    /// Transcodes one unit; why it cannot go on, if it cannot.
    fn transcode(&self, unit: &Unit, made: &mut Vec<Frame>) -> Result<(), String> {
        let Booth { transcoder, bad } = &mut *lock(&self.booth);
        let transcoder = match transcoder {
            Some(transcoder) => transcoder,
            None => transcoder.insert(Transcoder::new(self.target).map_err(|error| error.to_string())?),
        };
        let Err(error) = transcoder.push(unit, made) else {
            *bad = 0;
            return Ok(());
        };
        metrics::counter!("shardcast_sound_bad_frames_total").increment(1);
        *bad += 1;
        if *bad < BAD { Ok(()) } else { Err(format!("{BAD} bad frames in a row, the last: {error}")) }
    }

    fn end(&self, why: &str) {
        self.ended.store(true, Ordering::Relaxed);
        error!("{} sound to {} ends: {why}", self.key, label(self.target));
    }
}

fn label(target: Target) -> &'static str {
    match target {
        Target::Opus { .. } => "opus",
        Target::Aac { .. } => "aac",
    }
}

/// What another thread left in the middle of a panic is no worse than what it would have made.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
