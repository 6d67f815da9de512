//! SRT (draft-sharabayko-srt-01), callers only: live mode, as players and publishers of MPEG-TS use it.
//!
//! The crate `srt-protocol` does what comes after the handshake. It panics at some packets, so nothing reaches
//! it that `packet` has not looked at; what remains is the driver's to catch.

pub mod listener;
pub mod packet;
pub mod session;
pub mod stream_id;

pub use listener::{Bandwidth, Caller, Heard, Listener, Rejection, Settings};
pub use session::Session;

#[cfg(test)]
mod tests;
