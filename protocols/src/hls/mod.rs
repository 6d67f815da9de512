//! HLS (RFC 8216): a live stream as a window of MPEG-TS segments and the playlist that lists them.
//!
//! `names` says what they are called, `packager` cuts and keeps them, `playlist` writes the list. Where they
//! are kept beside memory, and who asks for them, is not its business.

mod names;
mod packager;
mod playlist;

pub use names::{Asked, BadTemplate, Names, Template};
pub use packager::{Change, Content, Packager, Segment, Settings};
pub use playlist::{master, with_query};
