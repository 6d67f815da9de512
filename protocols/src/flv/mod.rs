//! FLV (Adobe Flash Video File Format 10.1, annex E) and the tag bodies that RTMP shares with it,
//! with the FourCC headers of Enhanced RTMP v2.

pub mod body;
pub mod enhanced;
pub mod format;
pub mod head;
pub mod stream;
pub mod tag;

pub use body::{BodyHeader, body_header, colour_body, metadata_body, sequence_header_body, tag_body, tag_body_len};
pub use format::{Flv, RUN, run};
pub use head::{Head, head};
pub use stream::{FlvReader, StreamError, Tag, TagKind};
pub use tag::{TagError, TagReader};

#[cfg(test)]
mod golden;
