//! RTP (RFC 3550) without its transport: packets, H.264 and Opus payloads, and the way back to frames.
//!
//! No encryption, RTCP or signalling; times are those of the track's own clock until [`Receiver`] places them.

pub mod bframes;
pub mod clock;
pub mod h264;
pub mod opus;
pub mod order;
pub mod packet;
pub mod receiver;
pub mod reorder;
pub mod wrap;

pub use packet::{Header, Packet, PacketError};
pub use receiver::{Receiver, Stats};

/// Longest payload that is written: with all headers it fits any path that carries WebRTC.
pub const MAX_PAYLOAD_LEN: usize = 1200;

#[cfg(test)]
mod tests;
