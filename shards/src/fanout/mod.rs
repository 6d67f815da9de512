//! Serving viewers: who is served when, and what one viewer is sent.

pub mod audience;
pub mod hand;
pub mod reads;
pub mod rtp;
pub mod window;
