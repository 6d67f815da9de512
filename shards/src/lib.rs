//! Shardcast, the live-media server: where streams run.
//!
//! One isolated executor per core owns a share of the streams; `docs/architecture.md` tells the rest.
#![deny(unsafe_code)]

pub mod access;
pub mod addresses;
pub mod config;
pub mod connection;
pub mod control;
pub mod current;
pub mod drops;
pub mod fanout;
pub mod feed;
pub mod files;
pub mod hls;
pub mod hooks;
pub mod ingress;
pub mod launch;
pub mod load;
pub mod log;
pub mod mesh;
pub mod meter;
pub mod net;
pub mod pause;
pub mod query;
pub mod record;
pub mod refusal;
pub mod requests;
pub mod shard;
pub mod sound;
pub mod stream;

/// How the server names itself.
pub const SERVER: &str = concat!("Shardcast/", env!("CARGO_PKG_VERSION"));

/// The mutator of the parsers' tests.
#[cfg(test)]
#[path = "../../protocols/src/codec/hostile.rs"]
#[allow(dead_code)] // its own parts
mod hostile;
