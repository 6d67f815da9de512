//! One coded picture or one audio access unit: the currency of the whole server.

use crate::{codec::Kind, metadata::Metadata, prologue::Other, time::Timestamp, track::Track};
use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    /// Decoding time.
    pub dts: Timestamp,
    /// Presentation time.
    pub pts: Timestamp,
    /// A decoder may start here: IDR picture or recovery point. False for sound.
    pub keyframe: bool,
    /// Canonical form, see [`crate::codec::Codec`].
    pub payload: Bytes,
}

/// What a publisher brings, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// A track appears or changes its configuration; frames after it belong to it.
    Track(Track),
    /// See [`crate::prologue::Prologue::others`].
    Other(Other),
    Metadata(Metadata),
    /// See [`crate::prologue::Prologue::colour`].
    Colour(Bytes),
    Frame(Frame),
}
