//! WebRTC: a publisher's offer answered (WHIP), its packets made media. One peer, one session, no sockets.
//!
//! The only place that knows str0m. Players are still to come.

pub mod publisher;

pub use publisher::{OfferError, Output, Publisher, PublisherError};

#[cfg(test)]
mod tests;
