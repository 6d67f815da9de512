//! One peer's connection, over TCP or SRT: its socket, its cursor, and how it ends.

use crate::{
    addresses::Counted,
    drops::Drops,
    feed::{Feed, Notice},
    meter::Meter,
    net::link::Link,
    stream::Wire,
};
use shardcast_engine::{
    fanout::{Cursor, Step, Tape, cursor::SLICES},
    key::StreamKey,
};
use shardcast_protocols::session::Request;
use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{info, warn};

pub struct Connection {
    /// Eight characters that name it in logs and the API.
    pub id: String,
    /// Counts the connections of its shard.
    pub number: u64,
    pub peer: Cell<SocketAddr>,
    /// Its place among those of its address.
    pub counted: RefCell<Option<Counted>>,
    pub socket: Link,
    pub cursor: RefCell<Cursor>,
    pub since: Instant,
    /// When it ends unless it says more.
    pub deadline: Cell<Option<Instant>>,
    pub received: Cell<u64>,
    pub sent: Cell<u64>,
    /// What it publishes or plays, while it does.
    pub part: RefCell<Option<Arc<Part>>>,
    /// How often it was so far behind that it skipped frames.
    pub skips: Cell<u64>,
    pub drops: Cell<Drops>,
    /// Of what was received and sent, every [`METER_STEP`] seconds.
    pub meters: RefCell<[Meter<METER_STEP>; 2]>,
    /// It ends when it has got everything, these bytes at last: its stream is over.
    pub ending: Cell<Option<&'static [u8]>>,
    /// What it is told when it has got all that it wanted,
    pub finale: Cell<Option<Box<[u8]>>>,
    /// and when the server begins to end.
    pub parting: Cell<Option<Box<[u8]>>>,
    /// Its place in its audience.
    pub place: Cell<usize>,
    /// It is on its audience's list of those looked at apart from their turns.
    pub hurried: Cell<bool>,
    /// Since when the kernel takes nothing, and when it is to be asked again.
    blocked: Cell<Option<(Instant, Instant)>>,
    /// Its socket lives on elsewhere.
    handed_over: Cell<bool>,
    /// Who follows is told of what it does.
    pub feed: Feed,
    /// Why the server ended it.
    closed: RefCell<Option<Closed>>,
}

/// Seconds between two samples of a connection's meters.
pub const METER_STEP: usize = 3;

/// A client's part in a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    pub key: StreamKey,
    pub request: Arc<Request>,
    pub publishes: bool,
    /// Of a viewer that has a place on a tape.
    pub wire: Option<Wire>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Its deadline passed.
    Expired,
    /// The server's decision, in words.
    Because(String),
}

/// What a flush came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// All is sent.
    Drained,
    /// The kernel takes no more now.
    Blocked,
    /// All that it wanted is sent.
    Over,
    /// The connection is over.
    Closed,
}

/// A viewer that takes nothing for so long, while there is something for it, is gone.
const STALL: Duration = Duration::from_secs(30);
/// A blocked connection rests for one in so many parts of the time for which it is blocked,
const PATIENCE: u32 = 4;
/// so long at the least and at the most.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(1_280);

impl Connection {
    pub fn new(id: String, number: u64, peer: SocketAddr, socket: Link, feed: Feed) -> Self {
        Self {
            id,
            number,
            peer: Cell::new(peer),
            counted: RefCell::default(),
            socket,
            cursor: RefCell::default(),
            since: Instant::now(),
            deadline: Cell::default(),
            received: Cell::default(),
            sent: Cell::default(),
            part: RefCell::default(),
            skips: Cell::default(),
            drops: Cell::default(),
            meters: RefCell::default(),
            ending: Cell::default(),
            finale: Cell::default(),
            parting: Cell::default(),
            place: Cell::default(),
            hurried: Cell::default(),
            blocked: Cell::default(),
            handed_over: Cell::default(),
            feed,
            closed: RefCell::default(),
        }
    }

    /// Sends the aside and what `tape` has for it: one system call where the kernel takes it all.
    pub fn flush(&self, tape: Option<&Tape>) -> Flow {
        if self.closed.borrow().is_some() {
            return Flow::Closed;
        }
        let mut cursor = self.cursor.borrow_mut();
        loop {
            match tape.map_or(Step::Send, |tape| cursor.step(tape)) {
                Step::Idle => break,
                Step::Send => {}
                Step::Skip { lag, frames } => self.note_skip(lag.as_ms(), frames),
                Step::Over => {
                    drop(cursor);
                    return match self.socket.flush() {
                        Ok(()) => Flow::Over,
                        Err(error) => self.unsent(&error),
                    };
                }
                Step::Lost => {
                    let lag = tape.map_or(0, |tape| cursor.lag(tape).as_ms());
                    drop(cursor);
                    self.give_up(format!("reads too slowly: lost its place {lag} ms behind"));
                    return Flow::Closed;
                }
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = cursor.slices(tape, &mut slices);
            let slices = &slices[..count];
            let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
            if wanted == 0 {
                break;
            }
            match self.socket.send(slices) {
                Ok(sent) => {
                    cursor.advance(tape, sent);
                    self.blocked.set(None);
                    self.sent.set(self.sent.get() + sent as u64);
                    if sent < wanted {
                        return Flow::Blocked;
                    }
                    if cursor.drained(tape) {
                        break;
                    }
                }
                Err(error) => {
                    drop(cursor);
                    return self.unsent(&error);
                }
            }
        }
        drop(cursor);
        match self.socket.flush() {
            Ok(()) => {
                self.blocked.set(None);
                Flow::Drained
            }
            Err(error) => self.unsent(&error),
        }
    }

    fn unsent(&self, error: &io::Error) -> Flow {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Flow::Blocked;
        }
        self.close(format!("send: {error}"));
        Flow::Closed
    }

    /// Bounds what the kernel holds unsent.
    pub fn bound_unsent(&self, bytes: u32) {
        // Only an optimisation: a socket that is closing refuses it.
        let _ = self.socket.bound_unsent(bytes);
    }

    /// Queues control bytes and sends what goes at once.
    pub fn say(&self, bytes: &[u8]) {
        if !self.cursor.borrow_mut().say(bytes) {
            self.give_up("asks much and reads nothing".into());
        }
    }

    /// The kernel took less than there was: leaves it alone for a while, for longer the longer it takes nothing.
    pub fn back_off(&self, now: Instant) {
        let since = self.blocked.get().map_or(now, |(since, _)| since);
        let blocked = now.saturating_duration_since(since);
        if blocked > STALL {
            self.give_up(format!("took nothing for {} s", STALL.as_secs()));
        }
        self.blocked.set(Some((since, now + (blocked / PATIENCE).clamp(SHORTEST_PAUSE, LONGEST_PAUSE))));
    }

    /// The hand need not look at it yet.
    pub fn is_resting(&self, now: Instant) -> bool {
        self.blocked.get().is_some_and(|(_, until)| until > now)
    }

    /// Ends the connection; the task that reads it wakes and sees why. The first reason stays.
    pub fn close(&self, why: String) {
        self.end(Closed::Because(why));
    }

    /// Closes one that does not read what it is sent.
    pub fn give_up(&self, why: String) {
        if self.closed().is_none() {
            metrics::counter!("shardcast_viewers_given_up_total").increment(1);
            self.close(why);
        }
    }

    pub fn expire(&self) {
        self.end(Closed::Expired);
    }

    /// Another shard goes on with it; nothing ends here.
    pub fn hand_over(&self) {
        self.handed_over.set(true);
    }

    pub fn closed(&self) -> Option<Closed> {
        self.closed.borrow().clone()
    }

    /// Every [`METER_STEP`] seconds.
    pub fn measure(&self) {
        if self.part.borrow().is_some() {
            let [received, sent] = &mut *self.meters.borrow_mut();
            received.sample(self.received.get());
            sent.sample(self.sent.get());
        }
    }

    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    fn end(&self, closed: Closed) {
        // The words for what was late, which come after the expiry, say more than that.
        self.closed.borrow_mut().take_if(|earlier| *earlier == Closed::Expired);
        self.closed.borrow_mut().get_or_insert(closed);
        self.socket.shutdown();
    }

    /// What it has not got by now, all in all.
    pub fn set_drops(&self, drops: Drops) {
        drops.since(self.drops.replace(drops)).count();
    }

    fn note_skip(&self, lag_ms: i64, frames: u64) {
        self.skips.set(self.skips.get() + 1);
        metrics::counter!("shardcast_viewer_skips_total").increment(1);
        let drops = self.drops.get();
        self.set_drops(Drops { behind: drops.behind + frames, ..drops });
        self.feed.tell(|| Notice::of("skip", self, self.part.borrow().as_deref()).behind(lag_ms, frames));
        let peer = self.peer.get();
        warn!(cid = %self.id, "viewer {peer} was {lag_ms} ms behind, skipped {frames} frames to the newest keyframe");
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.handed_over.get() {
            return;
        }
        let why = match self.closed.borrow_mut().take() {
            Some(Closed::Because(why)) => {
                self.feed.tell(|| Notice::of("error", self, None).because(Some(why.clone())));
                why
            }
            Some(Closed::Expired) => "deadline passed".into(),
            None => "peer closed".into(),
        };
        info!(
            cid = %self.id,
            "connection of {} ended after {:.3} s: {why}; received {} bytes, sent {} bytes",
            self.peer.get(),
            self.age().as_secs_f64(),
            self.received.get(),
            self.sent.get(),
        );
    }
}
