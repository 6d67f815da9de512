//! MP4 (ISO 14496-12, -14 and -15): fragments as they come, and what makes a plain file of them at the end.
//!
//! [`Fragmenter`] gives an initialisation segment and fragments; [`Index`] remembers where their samples lie
//! and gives the movie box of a plain file, with what has to be overwritten for it. Frames in, bytes out.

mod boxes;
mod fragment;
mod index;
mod movie;
#[cfg(test)]
mod tests;

pub use fragment::{Fragment, Fragmenter, Run};
pub use index::{Index, Plain};

/// What a file says of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Bytes.
    pub size: u32,
    /// In ticks of its track, until the next one.
    pub duration: u32,
    /// Composition time after decoding time, in ticks of its track.
    pub composition: i32,
    /// A decoder may start here. True for all sound.
    pub sync: bool,
}
