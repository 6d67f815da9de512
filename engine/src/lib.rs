//! What a live stream is: a log of frames, and viewers that are cursors over it.
//!
//! Nothing here knows a socket, a clock, a thread or a runtime; time comes in as an argument.
#![forbid(unsafe_code)]

pub mod codec;
pub mod fanout;
pub mod frame;
pub mod key;
pub mod metadata;
pub mod prologue;
pub mod pulse;
pub mod time;
pub mod timeline;
pub mod track;
