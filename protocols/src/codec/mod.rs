//! Reading codec configuration records and the little of the bitstreams that a server must know.

pub mod aac;
pub mod ac3;
pub mod av1;
pub mod avc;
pub mod bits;
pub mod flac;
pub mod hevc;
pub mod mp3;
pub mod opus;
pub mod vpx;
pub mod vvc;

#[cfg(any(test, feature = "fuzz"))]
pub mod hostile;
