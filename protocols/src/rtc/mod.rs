//! WebRTC: a publisher's offer answered (WHIP), its packets made media; a player's offer answered (WHEP), media made
//! its packets. One peer, one session, no sockets.
//!
//! The only place that knows str0m.

mod dtls;
mod hints;
mod offer;
pub mod player;
pub mod publisher;
mod sdp;
pub mod session;
pub mod stun;

pub use offer::{OfferError, Settings};
pub use player::Player;
pub use publisher::{Publisher, Stats};
pub use session::{Output, Session, SessionError};

#[cfg(test)]
mod tests;
