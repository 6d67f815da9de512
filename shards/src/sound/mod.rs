//! Sound from one codec to another, once per stream: AAC and MP3 to Opus for WebRTC, Opus to AAC for the rest.
//!
//! ```text
//! home ── units ──► line ──► a thread of the pool: decode ► 48 kHz ► pace ► encode ──► frames ──► home's ring
//! ```
//! A stream's home feeds a line and collects from it; both queues are bounded, and no executor decodes or encodes.
//! The queues have locks, held while a few pointers move. Everything between the codecs is 48 kHz stereo.

mod decode;
mod encode;
mod interpreter;
mod line;
mod pace;
mod pool;
mod resample;
mod transcode;

#[cfg(test)]
mod tests;

use shardcast_engine::codec::Codec;

pub use interpreter::Interpreter;

/// The one rate between decoder and encoder, in Hz.
const RATE: u32 = 48_000;

/// Left and right, -1 to 1.
type Sample = [f32; 2];

/// What codecs say of sound that they cannot take.
#[derive(Debug, thiserror::Error)]
enum SoundError {
    #[error("AAC: {0}")]
    Aac(&'static str),
    #[error("MP3: {0}")]
    Mp3(#[from] symphonia_core::errors::Error),
    #[error("Opus: {0}")]
    Opus(#[from] opus::Error),
    #[error("AAC encoder: {0}")]
    AacEncoder(String),
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("{0} is not decoded here")]
    NoDecoder(Codec),
    #[error("{0} Hz, {1} channels are not supported")]
    Shape(u32, usize),
}
