//! How frames become wire bytes. Implemented by `protocols`.

use crate::{codec::Kind, frame::Frame, prologue::Prologue, time::Timestamp};

/// A wire format whose bytes are the same for every viewer of a tape.
///
/// Each method appends to `out` and may not fail: what it cannot express it leaves out. Where `mux` depends
/// on the unit alone, the tapes of two shards have the same bytes for it; a format with counters has them
/// only on the same tape, and says in `counters` where they stand, so that `enter` can tell a viewer.
pub trait Format {
    /// What opens a body for a newcomer who enters at `at`: file header if the format has one, metadata
    /// and codec configuration.
    fn head(&self, prologue: &Prologue, at: Timestamp, out: &mut Vec<u8>);

    /// Metadata and codec configuration that changed within an open body.
    fn prologue(&self, prologue: &Prologue, at: Timestamp, out: &mut Vec<u8>);

    /// Frames of a kind that it does not take are no part of its tape.
    fn takes(&self, prologue: &Prologue, kind: Kind) -> bool {
        prologue.plays(kind)
    }

    /// One frame.
    fn mux(&mut self, prologue: &Prologue, frame: &Frame, out: &mut Vec<u8>);

    /// What the bytes of the next unit depend on beside the unit itself. A tape keeps it beside each unit.
    fn counters(&self) -> u16 {
        0
    }

    /// What comes before a unit that was made at `counters`, for one who has not read the unit before it: a
    /// newcomer, after the head, or a viewer that skips, after the prologue where that is due.
    fn enter(&self, _prologue: &Prologue, _counters: u16, _newcomer: bool, _out: &mut Vec<u8>) {}
}
