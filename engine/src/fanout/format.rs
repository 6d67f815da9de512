//! How frames become wire bytes. Implemented by `protocols`.

use crate::{frame::Frame, prologue::Prologue, time::Timestamp};

/// A wire format whose bytes are the same for every viewer.
///
/// Each method appends to `out` and may not fail: what it cannot express it leaves out.
pub trait Format {
    /// What opens a body for a newcomer who enters at `at`: file header if the format has one, metadata
    /// and codec configuration.
    fn head(&self, prologue: &Prologue, at: Timestamp, out: &mut Vec<u8>);

    /// Metadata and codec configuration that changed within an open body.
    fn prologue(&self, prologue: &Prologue, at: Timestamp, out: &mut Vec<u8>);

    /// One frame.
    fn mux(&mut self, prologue: &Prologue, frame: &Frame, out: &mut Vec<u8>);
}
