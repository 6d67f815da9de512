//! RTMP (Adobe's Real Time Messaging Protocol 1.0): handshake, chunks, messages, sessions.

pub mod ack;
pub mod chunk;
pub mod client;
pub mod command;
pub mod format;
pub mod handshake;
pub mod media;
pub mod message;
mod pace;
pub mod reply;
pub mod server;
pub mod url;

#[cfg(test)]
mod tests;
