//! A viewer's place on a tape, and the little that is its own: the aside.

use super::tape::Tape;
use crate::time::Timestamp;
use std::io::IoSlice;

/// An aside larger than this belongs to a peer that talks without reading.
pub const ASIDE_LIMIT: usize = 64 << 10;

/// Pieces that one send may gather: the aside and a few blocks.
pub const SLICES: usize = 8;

#[derive(Debug, Default)]
pub struct Cursor {
    place: Place,
    /// Control bytes of this viewer alone, sent at the next boundary between units.
    aside: Vec<u8>,
    /// A part of the aside is on the wire already, so the rest must follow before any unit.
    aside_begun: bool,
    /// `place` is within a unit, not between two.
    within: bool,
    /// The head was sent.
    opened: bool,
    parked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// For an entry at this position or later.
    Waiting(u64),
    At(u64),
}

impl Default for Place {
    fn default() -> Self {
        Place::Waiting(0)
    }
}

/// What a cursor wants after a look at its tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing to send.
    Idle,
    /// Send what [`Cursor::slices`] gives.
    Send,
    /// It was `lag` behind and jumped to the newest keyframe (or waits for it); then send as above.
    Skip { lag: Timestamp },
    /// It could not finish its unit before that left the tape; nothing sensible can follow.
    Lost,
}

impl Cursor {
    /// A newcomer to `tape`. Without a GOP cache it waits for a keyframe that is still to come.
    pub fn join(&mut self, tape: &Tape) {
        self.place = Place::Waiting(tape.earliest_entry());
        self.within = false;
    }

    /// Finds the entry for a newcomer, moves a laggard. Call before [`Cursor::slices`].
    pub fn step(&mut self, tape: &Tape) -> Step {
        if self.parked {
            return if self.aside.is_empty() || (self.within && !self.aside_begun) { Step::Idle } else { Step::Send };
        }
        let mut skipped = None;
        if let Place::At(position) = self.place
            && position < tape.skip_line()
        {
            if self.within {
                if position < tape.start() {
                    return Step::Lost;
                }
            } else if let Some(target) = tape.entry().filter(|target| *target > position) {
                skipped = Some(tape.lag(position));
                self.enter(tape, position, target);
            } else if position < tape.start() {
                skipped = Some(tape.lag(position));
                self.place = Place::Waiting(0);
            }
        }
        if let Place::Waiting(earliest) = self.place
            && let Some(target) = tape.entry().filter(|target| *target >= earliest)
        {
            self.enter(tape, 0, target);
        }
        if let Some(lag) = skipped {
            return Step::Skip { lag };
        }
        let behind = matches!(self.place, Place::At(position) if position < tape.end());
        if behind || !self.aside.is_empty() { Step::Send } else { Step::Idle }
    }

    /// The bytes to send next, into `slices`; returns how many slices.
    pub fn slices<'a>(&'a self, tape: Option<&'a Tape>, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let aside_first = self.aside_begun || !self.within;
        let mut count = 0;
        if aside_first && !self.aside.is_empty() {
            slices[0] = IoSlice::new(&self.aside);
            count = 1;
        }
        if let (Place::At(position), Some(tape), false) = (self.place, tape, self.parked && !self.within) {
            // A unit that was begun is finished before anything else: an aside, a jump, a pause.
            let finish_only = self.within
                && (!self.aside.is_empty() || self.parked || position < tape.skip_line());
            let to = if finish_only { tape.unit_end(position) } else { tape.end() };
            count += tape.slices(position, to, &mut slices[count..]);
        }
        count
    }

    /// `sent` bytes of what `slices` gave are on the wire.
    pub fn advance(&mut self, tape: Option<&Tape>, mut sent: usize) {
        if (self.aside_begun || !self.within) && !self.aside.is_empty() {
            if sent < self.aside.len() {
                self.aside_begun |= sent > 0;
                self.aside.drain(..sent);
                return;
            }
            sent -= self.aside.len();
            self.aside = Vec::new();
            self.aside_begun = false;
        }
        if let (Place::At(position), Some(tape)) = (&mut self.place, tape) {
            *position += sent as u64;
            self.within = !tape.is_boundary(*position);
        }
    }

    /// Queues control bytes: whole messages of this viewer's protocol. False where the peer reads too
    /// little for what it asks; the session should end.
    pub fn say(&mut self, bytes: &[u8]) -> bool {
        self.aside.extend_from_slice(bytes);
        self.aside.len() <= ASIDE_LIMIT
    }

    /// Holds the viewer (true) or lets it go on, from the newest keyframe if it was held for long.
    pub fn park(&mut self, parked: bool) {
        self.parked = parked;
    }

    /// Nothing more to send than what may still come.
    pub fn drained(&self, tape: Option<&Tape>) -> bool {
        let at_end = match (self.place, tape) {
            (Place::At(position), Some(tape)) => position >= tape.end(),
            _ => true,
        };
        self.aside.is_empty() && at_end
    }

    /// The viewer has got media, or its head at least.
    pub fn opened(&self) -> bool {
        self.opened
    }

    /// How far behind the newest frame it is.
    pub fn lag(&self, tape: &Tape) -> Timestamp {
        match self.place {
            Place::At(position) => tape.lag(position),
            Place::Waiting(_) => Timestamp::ZERO,
        }
    }

    fn enter(&mut self, tape: &Tape, from: u64, target: u64) {
        let known = if self.opened { tape.version_before(from) } else { None };
        let wanted = tape.version_at(target);
        if !self.opened || known.is_none() || known != wanted {
            tape.opening(target, !self.opened, &mut self.aside);
        }
        self.opened = true;
        self.place = Place::At(target);
    }
}
