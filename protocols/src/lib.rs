//! How a live stream looks on the wire: sans-IO sessions, formats and parsers.
//!
//! No sockets, clocks, tasks or files; network bytes are hostile and never panic.
#![forbid(unsafe_code)]

pub mod amf;
pub mod chunked;
pub mod codec;
pub mod flv;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod hls;
pub mod mp4;
pub mod proxy;
pub mod rtc;
pub mod rtmp;
pub mod rtp;
pub mod session;
pub mod srt;
pub mod ts;
pub mod websocket;
