//! Whole servers with real clients, in one binary: it is linked once.

mod support;

/// The mutator of the parsers' tests.
#[path = "../../../protocols/src/codec/hostile.rs"]
#[allow(dead_code)] // its own parts
mod hostile;

mod access;
mod api;
mod bad_input;
mod busy;
mod codecs;
mod conf;
mod days;
mod dvr;
mod fault;
mod flood;
mod full;
mod grace;
mod hls;
mod hooks;
mod http;
mod limits;
mod mesh;
mod page;
mod play;
mod process;
mod reload;
mod roads;
mod rtc;
mod rtmp;
mod rtp;
mod slow;
mod srt;
mod tls;
mod ts;
mod watch;
mod ws;
