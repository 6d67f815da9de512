//! From sockets to sessions: who connects, what protocol it speaks, and its session's life.

pub mod accept;
pub mod candidates;
pub mod http;
pub mod rtc;
pub mod rtmp;
pub mod seat;
pub mod srt;
