//! From one publisher to many viewers: the ring of frames, tapes of wire bytes, cursors over them.

pub mod cursor;
pub mod format;
pub mod ring;
pub mod tape;

pub use cursor::{Cursor, Step};
pub use format::Format;
pub use ring::{Ring, Unit};
pub use tape::Tape;
