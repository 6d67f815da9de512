//! Whole servers with real clients, in one binary: it is linked once.

mod support;

mod access;
mod api;
mod bad_input;
mod busy;
mod codecs;
mod conf;
mod dvr;
mod fault;
mod full;
mod hls;
mod hooks;
mod http;
mod mesh;
mod page;
mod play;
mod process;
mod reload;
mod roads;
mod rtc;
mod rtp;
mod slow;
mod srt;
mod tls;
mod ts;
mod ws;
