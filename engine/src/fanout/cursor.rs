//! A viewer's place on a tape, and the little that is its own: the aside.

use super::tape::Tape;
use crate::time::Timestamp;
use std::io::IoSlice;

/// An aside larger than this belongs to a peer that talks without reading.
pub const ASIDE_LIMIT: usize = 64 << 10;

/// Changes of tapes that may wait in an aside.
const SWITCHES: u8 = 16;

/// Pieces that one send may gather: the aside and a few blocks.
pub const SLICES: usize = 8;

#[derive(Debug, Default)]
pub struct Cursor {
    place: Place,
    /// Control bytes of this viewer alone, sent at the next boundary between units.
    aside: Vec<u8>,
    /// Bytes of the aside that its peer did not ask for: openings, the rest of a unit of another tape.
    granted: usize,
    /// A part of the aside is on the wire already, so the rest must follow before any unit.
    aside_begun: bool,
    /// `place` is within a unit, not between two.
    within: bool,
    /// The head was sent.
    opened: bool,
    /// It entered in sound alone: pictures up to the next keyframe are not for it.
    blind: bool,
    parked: bool,
    /// How often it has changed its tape since its aside was empty.
    switches: u8,
    /// It wants so much stream time, and the time at which that ends, once it has entered.
    span: Option<Timestamp>,
    until: Option<Timestamp>,
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
    /// It was `lag` behind and jumped over `frames` to the newest keyframe (or waits for it); then send as above.
    Skip { lag: Timestamp, frames: u64 },
    /// It could not finish its unit before that left the tape; nothing sensible can follow.
    Lost,
    /// It has got as much as it wanted.
    Over,
}

impl Cursor {
    /// A newcomer to `tape`. Without a GOP cache it waits for a keyframe that is still to come.
    pub fn join(&mut self, tape: &Tape) {
        self.place = Place::Waiting(tape.earliest_entry());
        self.within = false;
        self.blind = false;
        self.parked = false;
        self.until = None;
    }

    /// It wants the units of so much stream time from where it enters, and no more.
    pub fn want(&mut self, span: Option<Timestamp>) {
        self.span = span;
    }

    /// Leaves `tape`, for another or for none. A unit that was begun is copied and will be finished first;
    /// false where it is not on the tape any more, so that nothing sensible can follow.
    pub fn leave(&mut self, tape: &Tape) -> bool {
        let within = std::mem::take(&mut self.within);
        if let (Place::At(position), true) = (std::mem::take(&mut self.place), within) {
            if position < tape.start() {
                return false;
            }
            let (mut rest, mut from, end) = (Vec::new(), position, tape.unit_end(position));
            while from < end {
                let mut slice = [IoSlice::new(&[])];
                tape.slices(from, end, &mut slice);
                rest.extend_from_slice(&slice[0]);
                from += slice[0].len().max(1) as u64;
            }
            self.granted += rest.len();
            self.aside.splice(..0, rest);
            self.aside_begun = true;
        }
        true
    }

    /// Goes on in `to`, another tape of the ring, at the unit where it is in `from`; in pictures that `from` has not
    /// at the next keyframe. False as in [`Cursor::leave`], and where it does that again and again and reads nothing.
    pub fn switch(&mut self, from: &Tape, to: &Tape) -> bool {
        let next = match self.place {
            Place::At(position) => from.seq_at(position) + u64::from(self.within),
            Place::Waiting(_) => from.seq_at(from.end()),
        };
        if !self.leave(from) || self.switches == SWITCHES {
            return false;
        }
        self.blind |= !from.takes_pictures();
        self.place = match to.position_of(next) {
            Some(position) if self.opened => {
                let before = self.aside.len();
                to.opening(position, false, None, &mut self.aside);
                self.granted += self.aside.len() - before;
                self.switches += 1;
                Place::At(position)
            }
            None if self.opened => Place::Waiting(to.end()),
            _ => Place::Waiting(to.earliest_entry()),
        };
        true
    }

    /// Finds the entry for a newcomer, moves a laggard. Call before [`Cursor::slices`].
    pub fn step(&mut self, tape: &Tape) -> Step {
        if self.parked {
            // A unit that was begun is finished first, then nothing but asides follow.
            return match self.place {
                Place::At(position) if self.within && position < tape.start() => Step::Lost,
                _ if self.within || !self.aside.is_empty() => Step::Send,
                _ => Step::Idle,
            };
        }
        let mut skipped = None;
        if let Place::At(position) = self.place
            && position < tape.skip_line()
        {
            if self.within {
                if position < tape.start() {
                    return Step::Lost;
                }
            } else if self.granted > ASIDE_LIMIT {
                // It has not even read what it was given at the jumps before.
                return Step::Lost;
            } else if let Some(target) = tape.entry().filter(|target| *target > position) {
                skipped = Some((tape.lag(position), tape.seq_at(target) - tape.seq_at(position)));
                self.enter(tape, position, target);
            } else if position < tape.start() {
                skipped = Some((tape.lag(position), tape.seq_at(tape.end()) - tape.seq_at(position)));
                self.place = Place::Waiting(0);
            }
        }
        if let Place::Waiting(earliest) = self.place
            && let Some(target) = tape.entry().filter(|target| *target >= earliest)
        {
            self.enter(tape, 0, target);
        }
        if let (Place::At(position), true, false) = (&mut self.place, self.blind, self.within) {
            *position = tape.past_deltas(*position);
        }
        if let Some((lag, frames)) = skipped {
            return Step::Skip { lag, frames };
        }
        if let (Place::At(position), false) = (self.place, self.within)
            && position >= self.last(tape)
            && self.until.is_some_and(|until| tape.reaches(until))
        {
            return if self.aside.is_empty() { Step::Over } else { Step::Send };
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
            let finish_only = self.within && (!self.aside.is_empty() || self.parked || position < tape.skip_line());
            let to = match (finish_only, self.blind) {
                (true, _) => tape.unit_end(position),
                (false, true) => tape.delta_after(position).min(self.last(tape)),
                (false, false) => self.last(tape),
            };
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
            self.granted = 0;
            self.switches = 0;
        }
        // A place where nothing was sent may have left the tape, and is what it was.
        if let (Place::At(position), Some(tape), 1..) = (&mut self.place, tape, sent) {
            let from = *position;
            *position += sent as u64;
            self.within = !tape.is_boundary(*position);
            self.blind = self.blind && !tape.shows_keyframe(from, *position);
        }
    }

    /// Queues control bytes: whole messages of this viewer's protocol. False where the peer reads too
    /// little for what it asks; the session should end.
    pub fn say(&mut self, bytes: &[u8]) -> bool {
        self.aside.extend_from_slice(bytes);
        self.aside.len() <= ASIDE_LIMIT + self.granted
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

    /// The position up to which it reads.
    fn last(&self, tape: &Tape) -> u64 {
        self.until.map_or(tape.end(), |until| tape.position_at(until))
    }

    fn enter(&mut self, tape: &Tape, from: u64, target: u64) {
        let known = if self.opened { tape.version_before(from) } else { None };
        let before = self.aside.len();
        tape.opening(target, !self.opened, known, &mut self.aside);
        self.granted += self.aside.len() - before;
        self.opened = true;
        self.blind = !tape.is_keyframe(target);
        self.place = Place::At(target);
        self.until = self.until.or(self.span.zip(tape.time_at(target)).map(|(span, start)| start + span));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec::Kind,
        fanout::{
            Format, Ring,
            ring::tests::{frame, policy},
        },
        frame::Frame,
        prologue::Prologue,
    };
    use std::sync::Arc;

    /// A head of one byte, then the payloads.
    struct Plain;

    impl Format for Plain {
        fn head(&self, _: &Prologue, _: Timestamp, out: &mut Vec<u8>) {
            out.push(b'H');
        }

        fn prologue(&self, _: &Prologue, _: Timestamp, out: &mut Vec<u8>) {
            out.push(b'P');
        }

        fn mux(&mut self, _: &Prologue, frame: &Frame, out: &mut Vec<u8>) {
            out.extend_from_slice(&frame.payload);
        }
    }

    fn publish(ring: &mut Ring, tape: &mut Tape, ms: std::ops::Range<i64>) {
        for n in ms.start / 40..ms.end / 40 {
            ring.append(Arc::default(), frame(Kind::Video, n * 40, n % 10 == 0, 10));
        }
        tape.catch_up(ring);
    }

    /// A tape of two seconds in frames of ten bytes, and a cursor that joined it.
    fn joined() -> (Ring, Tape, Cursor) {
        let mut ring = Ring::new(policy());
        let mut tape = Tape::new(Box::new(Plain), &ring);
        publish(&mut ring, &mut tape, 0..2_000);
        let mut cursor = Cursor::default();
        cursor.join(&tape);
        (ring, tape, cursor)
    }

    fn send(cursor: &mut Cursor, tape: Option<&Tape>, most: usize) -> usize {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = cursor.slices(tape, &mut slices);
        let sent = slices[..count].iter().map(|slice| slice.len()).sum::<usize>().min(most);
        cursor.advance(tape, sent);
        sent
    }

    #[test]
    fn a_pause_amid_a_unit_takes_effect_behind_it() {
        let (_, tape, mut cursor) = joined();
        assert_eq!(cursor.step(&tape), Step::Send);
        assert_eq!(send(&mut cursor, Some(&tape), 1 + 13), 14);
        cursor.park(true);
        assert!(cursor.say(b"paused"));
        assert_eq!(cursor.step(&tape), Step::Send);
        assert_eq!(send(&mut cursor, Some(&tape), 1_000), 7);
        assert_eq!(cursor.step(&tape), Step::Send);
        assert_eq!(send(&mut cursor, Some(&tape), 1_000), 6);
        assert_eq!(cursor.step(&tape), Step::Idle);
    }

    #[test]
    fn one_that_was_parked_for_long_goes_on_at_the_newest_keyframe() {
        let (mut ring, mut tape, mut cursor) = joined();
        cursor.step(&tape);
        send(&mut cursor, Some(&tape), 1 + 10);
        cursor.park(true);
        publish(&mut ring, &mut tape, 2_000..9_000);
        // Its place is gone meanwhile; an answer does not change what it is.
        cursor.say(b"pong");
        assert_eq!(cursor.step(&tape), Step::Send);
        send(&mut cursor, Some(&tape), 1_000);
        cursor.park(false);
        assert!(matches!(cursor.step(&tape), Step::Skip { .. }));
        assert!(cursor.lag(&tape) < Timestamp::from_ms(400));
    }

    #[test]
    fn a_pause_ends_with_its_stream() {
        let (_, tape, mut cursor) = joined();
        cursor.park(true);
        assert!(cursor.leave(&tape));
        cursor.join(&tape);
        assert_eq!(cursor.step(&tape), Step::Send);
    }

    #[test]
    fn a_unit_that_left_the_tape_half_sent_is_lost() {
        let (mut ring, mut tape, mut cursor) = joined();
        cursor.step(&tape);
        send(&mut cursor, Some(&tape), 1 + 15);
        publish(&mut ring, &mut tape, 2_000..3_600);
        assert_eq!(cursor.step(&tape), Step::Send);
        publish(&mut ring, &mut tape, 3_600..9_000);
        assert_eq!(cursor.step(&tape), Step::Lost);
        assert!(!cursor.leave(&tape));
    }

    #[test]
    fn one_that_leaves_amid_a_unit_finishes_it_before_all_else() {
        let (_, tape, mut cursor) = joined();
        cursor.step(&tape);
        send(&mut cursor, Some(&tape), 1 + 13);
        cursor.say(b"stopped");
        assert!(cursor.leave(&tape));
        let mut slices = [IoSlice::new(&[]); SLICES];
        assert_eq!(cursor.slices(None, &mut slices), 1);
        // The frame at 1 640 ms: its last seven bytes.
        assert_eq!(&*slices[0], [[1_640i64 as u8; 7], *b"stopped"].concat());
    }

    #[test]
    fn a_peer_that_asks_without_reading_is_told_off() {
        let mut cursor = Cursor::default();
        assert!((0..ASIDE_LIMIT / 64).all(|_| cursor.say(&[0; 64])));
        assert!(!cursor.say(&[0]));
    }

    #[test]
    fn opus_is_no_part_of_a_tape_that_does_not_take_it() {
        let (mut ring, mut plain) = (Ring::new(policy()), Ring::new(policy()));
        let mut tapes = [&ring, &plain].map(|ring| Tape::new(Box::new(Plain), ring));
        for n in 0..40 {
            for (ring, kinds) in [(&mut ring, &[Kind::Opus, Kind::Video][..]), (&mut plain, &[Kind::Video])] {
                for kind in kinds {
                    ring.append(Arc::default(), frame(*kind, n * 40, *kind == Kind::Video && n % 10 == 0, 10));
                }
            }
        }
        tapes[0].catch_up(&ring);
        tapes[1].catch_up(&plain);
        assert_eq!((tapes[0].end(), tapes[0].entry()), (tapes[1].end(), tapes[1].entry()));
        assert_eq!(tapes[0].end(), 400);
    }

    #[test]
    fn one_who_entered_in_sound_alone_gets_no_picture_before_a_keyframe() {
        let mut ring = Ring::new(policy());
        let mut tape = Tape::new(Box::new(Plain), &ring);
        publish(&mut ring, &mut tape, 0..40);
        (2..200).for_each(|n| {
            ring.append(Arc::default(), frame(Kind::Audio, n * 20, false, 1));
        });
        tape.catch_up(&ring);
        let mut cursor = Cursor::default();
        cursor.join(&tape);
        assert_eq!(cursor.step(&tape), Step::Send);
        // The head and a second of sound.
        assert_eq!(send(&mut cursor, Some(&tape), 1_000), 1 + 51);
        // Pictures go on within their GOP: two of them, sound, then a keyframe.
        for (kind, keyframe, len) in
            [(Kind::Video, false, 300), (Kind::Video, false, 300), (Kind::Audio, false, 2), (Kind::Video, true, 40)]
        {
            ring.append(Arc::default(), frame(kind, 4_000, keyframe, len));
        }
        tape.catch_up(&ring);
        let mut sent = 0;
        while cursor.step(&tape) != Step::Idle {
            sent += send(&mut cursor, Some(&tape), 1_000);
        }
        assert_eq!(sent, 2 + 40);
    }

    #[test]
    fn who_wants_a_part_gets_that_and_no_more() {
        let mut ring = Ring::new(policy());
        let mut tape = Tape::new(Box::new(Plain), &ring);
        publish(&mut ring, &mut tape, 0..2_000);
        let mut cursor = Cursor::default();
        cursor.want(Some(Timestamp::from_ms(800)));
        cursor.join(&tape);
        let mut got = Vec::new();
        let mut end = 2_000;
        loop {
            match cursor.step(&tape) {
                Step::Send => {
                    let mut slices = [IoSlice::new(&[]); SLICES];
                    let count = cursor.slices(Some(&tape), &mut slices);
                    // Pieces that end within units.
                    let piece: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).take(7).collect();
                    cursor.advance(Some(&tape), piece.len());
                    got.extend(piece);
                }
                Step::Idle => {
                    publish(&mut ring, &mut tape, end..end + 40);
                    end += 40;
                }
                Step::Over => break,
                step => panic!("{step:?}"),
            }
        }
        // It entered at 1600 ms; a frame has 10 bytes, 40 ms each, after a head of one.
        assert_eq!((got.len(), end), (1 + 20 * 10, 2_440));
        // What it asked for meanwhile is said before the end.
        assert!(cursor.say(b"pong") && cursor.step(&tape) == Step::Send);
        cursor.want(None);
        cursor.join(&tape);
        assert_ne!(cursor.step(&tape), Step::Over);
    }
}
