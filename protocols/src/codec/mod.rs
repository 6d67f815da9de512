//! Reading codec configuration records and the little of the bitstreams that a server must know.

pub mod aac;
pub mod avc;
pub mod bits;
pub mod hevc;
pub mod mp3;

#[cfg(test)]
pub(crate) mod hostile;
