//! Chunks: how messages share one connection (RTMP 1.0 §5.3).
//!
//! ```text
//! basic header     fmt (2 bits), chunk stream id: 6 bits, or 0 + 8 bits, or 1 + 16 bits
//! message header   fmt 0: timestamp 3, length 3, type 1, stream id 4 (little-endian)
//!                  fmt 1: delta 3, length 3, type 1
//!                  fmt 2: delta 3
//!                  fmt 3: nothing
//! extended         4 bytes of timestamp or delta, if the 3 above are ff ff ff
//! ```

mod reader;
mod writer;

pub use reader::{ChunkError, ChunkReader, Limits};
pub use writer::{ChunkWriter, Header};

/// Chunk size before anyone sets another (RTMP 1.0 §5.4.1).
pub const DEFAULT_CHUNK_SIZE: u32 = 128;

/// A timestamp that does not fit its three bytes.
const EXTENDED: u32 = 0xff_ffff;
