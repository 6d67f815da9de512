//! WebRTC: a publisher's offer answered (WHIP), its packets made media. One peer, one session, no sockets.
//!
//! The only place that knows str0m. Players are still to come.

mod hints;
pub mod publisher;

pub use publisher::{OfferError, Output, Publisher, PublisherError, Stats};

#[cfg(test)]
mod tests;
