//! The viewers of one stream in one wire format on one shard, and the tape they share.

use super::{
    hand::{self, TICK},
    window::Window,
};
use crate::{
    connection::{Connection, Flow},
    net::sys,
    stream::Wire,
};
use shardcast_engine::fanout::{Ring, Tape};
use std::{
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

pub struct Audience {
    pub tape: Tape,
    viewers: Vec<Rc<Connection>>,
    /// Each viewer is served once in this time; within a tick, all on each tick that brought bytes.
    window: Window,
    /// Whose turn it is.
    hand: usize,
    /// Turns that are due: of so many viewers, with a fraction.
    due: f64,
    /// When all were served last, and up to where.
    served: Instant,
    served_end: u64,
    /// Viewers to look at on every tick: those catching up, those that end.
    hurried: Vec<Rc<Connection>>,
    /// Those who came since the last tick and were served at once, and those who wait for a tick that has time.
    greeted: usize,
    newcomers: VecDeque<Rc<Connection>>,
    /// What the kernel may hold unsent of each viewer, in bytes, and the tape's end when that was set.
    unsent: u32,
    measured_end: u64,
    /// Its times have come round, see [`Wire::at`].
    round: bool,
    /// Since when nobody watches.
    pub empty_since: Option<Instant>,
}

/// The kernel may always hold so much unsent, in bytes.
const LEAST_UNSENT: u32 = 32 << 10;

/// So many newcomers get what is there for them at once between two ticks. It may be seconds of a stream, so the others
/// of a crowd wait for their turn, lest those who watch already wait for theirs.
const GREETED: usize = 8;

/// Served at the most in one tick and audience, so that publishers get their turn.
const BURST: usize = 4096;

/// One move of the hand.
#[derive(Clone, Copy)]
pub struct Turn {
    /// Since the tick before; zero between two ticks, where frames came.
    pub elapsed: Duration,
    pub now: Instant,
    /// The shortest window that the shard has time for.
    pub law: Duration,
    /// When newcomers have had their part of this tick.
    pub greet_until: Instant,
}

impl Audience {
    pub fn new(tape: Tape, window: Window) -> Self {
        let measured_end = tape.end();
        Self {
            tape,
            viewers: Vec::new(),
            window,
            hand: 0,
            due: 0.0,
            served: Instant::now(),
            served_end: measured_end,
            hurried: Vec::new(),
            greeted: 0,
            newcomers: VecDeque::new(),
            unsent: LEAST_UNSENT,
            measured_end,
            round: false,
            empty_since: None,
        }
    }

    /// How long its viewers may do without the hand.
    pub fn pace(&self, law: Duration) -> Duration {
        if self.newcomers.is_empty() { hand::pace(self.window.under(law)) } else { TICK }
    }

    pub fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    pub fn viewers(&self) -> impl Iterator<Item = &Rc<Connection>> {
        self.viewers.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.viewers.is_empty()
    }

    pub fn len(&self) -> usize {
        self.viewers.len()
    }

    /// A newcomer: gets its head, and the entry GOP where there is one, at once. The tape stands still while it
    /// has no viewers.
    pub fn join(&mut self, viewer: Rc<Connection>, ring: &Ring) {
        self.tape.catch_up(ring);
        viewer.cursor.borrow_mut().join(&self.tape);
        self.add(viewer);
    }

    /// False where it was not here.
    pub fn leave(&mut self, viewer: &Connection) -> bool {
        let Some(viewer) = self.remove(viewer) else { return false };
        if !viewer.cursor.borrow_mut().leave(&self.tape) {
            viewer.give_up("reads too slowly to finish what it was sent".into());
        }
        true
    }

    /// Gives a viewer to `other`, where it goes on at the unit where it is here.
    pub fn give(&mut self, viewer: &Connection, other: &mut Self, ring: &Ring) {
        let Some(viewer) = self.remove(viewer) else { return };
        other.tape.catch_up(ring);
        if !viewer.cursor.borrow_mut().switch(&self.tape, &other.tape) {
            viewer.give_up("asks for other tracks again and again, or reads too slowly to get them".into());
        }
        other.add(viewer);
    }

    fn add(&mut self, viewer: Rc<Connection>) {
        viewer.bound_unsent(self.unsent);
        viewer.place.set(self.viewers.len());
        self.viewers.push(viewer.clone());
        self.empty_since = None;
        if self.greeted < GREETED && self.newcomers.is_empty() {
            self.greeted += 1;
            self.hurry(&viewer);
        } else {
            self.newcomers.push_back(viewer);
        }
    }

    /// One at least, whatever others took of the tick.
    fn greet(&mut self, until: Instant) {
        self.greeted = 0;
        while let Some(viewer) = self.newcomers.pop_front() {
            // It may have left again.
            if self.has(&viewer) {
                self.hurry(&viewer);
            }
            if Instant::now() >= until {
                break;
            }
        }
    }

    fn has(&self, viewer: &Connection) -> bool {
        self.viewers.get(viewer.place.get()).is_some_and(|there| there.number == viewer.number)
    }

    /// `None` where it was not here.
    fn remove(&mut self, viewer: &Connection) -> Option<Rc<Connection>> {
        if !self.has(viewer) {
            return None;
        }
        let place = viewer.place.get();
        let viewer = self.viewers.swap_remove(place);
        if let Some(moved) = self.viewers.get(place) {
            moved.place.set(place);
        }
        if viewer.hurried.replace(false) {
            self.hurried.retain(|there| there.number != viewer.number);
        }
        if self.viewers.is_empty() {
            self.empty_since = Some(Instant::now());
            // No tick comes that would look at them, and let go of their sockets.
            self.newcomers.clear();
        }
        Some(viewer)
    }

    /// Once a second: bounds what the kernel holds of a viewer that does not read, at two windows of the
    /// stream's bitrate. (A send buffer of that size would starve fast streams over long ways; this does not.)
    pub fn measure(&mut self, law: Duration) {
        let per_second = self.tape.end() - std::mem::replace(&mut self.measured_end, self.tape.end());
        let window = self.window.under(law).max(TICK);
        let windows = per_second.saturating_mul(2 * window.as_millis() as u64) / 1000;
        let wanted = u32::try_from(windows).unwrap_or(u32::MAX).max(LEAST_UNSENT);
        if wanted.abs_diff(self.unsent) > self.unsent / 4 {
            self.unsent = wanted;
            for viewer in &self.viewers {
                viewer.bound_unsent(wanted);
            }
        }
    }

    /// Its viewers are to end, see [`Audience::end`]; true once.
    pub fn has_come_round(&mut self, wire: Wire) -> bool {
        let until = self.tape.began().and_then(|began| wire.end(began));
        let comes = !self.round && until.is_some_and(|until| self.tape.reaches(until));
        self.round |= comes;
        comes
    }

    /// The stream is over: who has seen some of it ends with it, who waits goes on waiting.
    /// `last` closes the body of each.
    pub fn end(&mut self, last: &'static [u8]) {
        for viewer in &self.viewers {
            if viewer.cursor.borrow().opened() {
                viewer.ending.set(Some(last));
                viewer.deadline.set(Some(Instant::now() + Duration::from_secs(10)));
                push(&mut self.hurried, viewer);
            }
        }
    }

    /// Moves the hand on. Returns how many viewers it served.
    pub fn tick(&mut self, ring: &Ring, turn: Turn) -> usize {
        let Turn { elapsed, now, law, greet_until } = turn;
        let window = self.window.under(law);
        let at_once = window <= TICK;
        if elapsed.is_zero() && (!at_once || now.saturating_duration_since(self.served) < law) {
            return 0;
        }
        self.tape.catch_up(ring);
        self.greet(greet_until);
        let count = self.viewers.len();
        if !at_once {
            self.due += count as f64 * elapsed.div_duration_f64(window);
        } else if self.served_end != self.tape.end() {
            self.due = count as f64;
            self.served = now;
            self.served_end = self.tape.end();
        }
        self.due = self.due.min(count as f64);
        let turns = (self.due as usize).min(BURST);
        self.due -= turns as f64;
        for _ in 0..turns {
            self.hand = (self.hand + 1) % count;
            let viewer = &self.viewers[self.hand];
            // A send takes longer than memory, and leaves nothing of the next viewer in the nearer caches.
            sys::prefetch::<Connection>(&self.viewers[(self.hand + 1) % count]);
            if viewer.is_resting(now) {
                continue;
            }
            match viewer.flush(Some(&self.tape)) {
                Flow::Blocked => viewer.back_off(now),
                Flow::Over => {}
                Flow::Drained | Flow::Closed => continue,
            }
            push(&mut self.hurried, viewer);
        }
        let tape = &self.tape;
        self.hurried.retain(|viewer| {
            if viewer.is_resting(now) {
                return true;
            }
            let mut flow = viewer.flush(Some(tape));
            if flow == Flow::Drained
                && let Some(last) = viewer.ending.get().filter(|last| !last.is_empty())
            {
                viewer.ending.set(Some(b""));
                viewer.say(last);
                flow = viewer.flush(Some(tape));
            }
            match flow {
                Flow::Blocked => viewer.back_off(now),
                Flow::Drained if viewer.ending.get().is_some() => viewer.close("stream ended".into()),
                Flow::Over => match viewer.finale.take() {
                    Some(last) => viewer.say(&last),
                    None => viewer.close("played as much as it asked for".into()),
                },
                Flow::Drained | Flow::Closed => {}
            }
            viewer.hurried.set(matches!(flow, Flow::Blocked | Flow::Over));
            viewer.hurried.get()
        });
        turns
    }

    /// Something is wrong with the tape or its format: nobody can go on.
    pub fn abort(&mut self) {
        for viewer in &self.viewers {
            viewer.close("internal error in its stream".into());
        }
    }

    /// A viewer's own bytes (an answer to a command) must go out now, not at its turn.
    pub fn hurry(&mut self, viewer: &Rc<Connection>) {
        if matches!(viewer.flush(Some(&self.tape)), Flow::Blocked | Flow::Over) {
            push(&mut self.hurried, viewer);
        }
    }
}

fn push(hurried: &mut Vec<Rc<Connection>>, viewer: &Rc<Connection>) {
    if !viewer.hurried.replace(true) {
        hurried.push(viewer.clone());
    }
}
