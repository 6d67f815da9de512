//! Takes an FLV byte stream apart into tags; what the tags say is [`super::TagReader`]'s to read.

use bytes::{Buf, Bytes, BytesMut};

/// TagType, annex E.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TagKind {
    Audio = 8,
    Video = 9,
    Script = 18,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    pub kind: TagKind,
    /// Wraps at 32 bits.
    pub timestamp_ms: u32,
    pub body: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error("not FLV: it starts with {found:02x?}")]
    NotFlv { found: [u8; 3] },
    #[error("FLV header states a length of {len}, beyond 9 to {max}")]
    HeaderLength { len: u32, max: u32 },
    #[error("FLV tag at byte {at} has type {kind}, which is neither audio, video nor script")]
    UnknownTag { kind: u8, at: u64 },
    #[error("FLV tag at byte {at} has a body of {len} bytes, beyond {max}")]
    TagTooLong { len: usize, max: usize, at: u64 },
}

/// Push parser. What it buffers is bounded by the longest tag and one `push`, as long as `next` is
/// called until it gives none.
#[derive(Debug)]
pub struct FlvReader {
    buffer: BytesMut,
    max_body_len: usize,
    /// Bytes taken from the stream before `buffer`.
    at: u64,
    /// Bytes still to skip of the header or of a PreviousTagSize.
    skip: usize,
    opened: bool,
}

const HEADER_LEN: usize = 9;
/// The header may grow in later versions; none ever did.
const MAX_HEADER_LEN: u32 = 1024;
const TAG_HEADER_LEN: usize = 11;
const PREVIOUS_TAG_SIZE_LEN: usize = 4;

impl FlvReader {
    /// A reader that refuses tag bodies longer than `max_body_len`.
    pub fn new(max_body_len: usize) -> Self {
        Self { buffer: BytesMut::new(), max_body_len, at: 0, skip: 0, opened: false }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The byte of the stream at which the next tag begins.
    pub fn at(&self) -> u64 {
        self.at + self.skip as u64
    }

    /// The next whole tag, or `None` until more bytes come. After an error the stream is lost: the
    /// same error comes again.
    #[expect(clippy::should_implement_trait, reason = "none now does not mean none ever")]
    pub fn next(&mut self) -> Result<Option<Tag>, StreamError> {
        if !self.opened && !self.open()? {
            return Ok(None);
        }
        self.drain_skip();
        if self.skip > 0 {
            return Ok(None);
        }
        let Some(&[kind, l1, l2, l3, t1, t2, t3, t0, ..]) = self.buffer.first_chunk::<TAG_HEADER_LEN>() else {
            return Ok(None);
        };
        let at = self.at;
        // Bit 5 marks an encrypted (filtered) tag, which nobody here could read.
        let kind = match kind {
            8 => TagKind::Audio,
            9 => TagKind::Video,
            18 => TagKind::Script,
            kind => return Err(StreamError::UnknownTag { kind, at }),
        };
        let len = u32::from_be_bytes([0, l1, l2, l3]) as usize;
        if len > self.max_body_len {
            return Err(StreamError::TagTooLong { len, max: self.max_body_len, at });
        }
        if self.buffer.len() < TAG_HEADER_LEN + len {
            return Ok(None);
        }
        self.advance(TAG_HEADER_LEN);
        let body = self.buffer.split_to(len).freeze();
        self.at += len as u64;
        self.skip = PREVIOUS_TAG_SIZE_LEN;
        Ok(Some(Tag { kind, timestamp_ms: u32::from_be_bytes([t0, t1, t2, t3]), body }))
    }

    /// The file header (annex E.2). False until it is whole.
    fn open(&mut self) -> Result<bool, StreamError> {
        let Some(&[f, l, v, _, _, o1, o2, o3, o4]) = self.buffer.first_chunk::<HEADER_LEN>() else {
            return Ok(false);
        };
        if &[f, l, v] != b"FLV" {
            return Err(StreamError::NotFlv { found: [f, l, v] });
        }
        let len = u32::from_be_bytes([o1, o2, o3, o4]);
        if !(HEADER_LEN as u32..=MAX_HEADER_LEN).contains(&len) {
            return Err(StreamError::HeaderLength { len, max: MAX_HEADER_LEN });
        }
        self.skip = len as usize + PREVIOUS_TAG_SIZE_LEN;
        self.opened = true;
        Ok(true)
    }

    fn drain_skip(&mut self) {
        let len = self.skip.min(self.buffer.len());
        self.advance(len);
        self.skip -= len;
    }

    fn advance(&mut self, len: usize) {
        self.buffer.advance(len);
        self.at += len as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::golden, *};
    use crate::codec::hostile::{hex, mutations};

    fn read(stream: &[u8], push_len: usize) -> Result<Vec<Tag>, StreamError> {
        let mut reader = FlvReader::new(1024);
        let mut tags = Vec::new();
        for bytes in stream.chunks(push_len) {
            reader.push(bytes);
            while let Some(tag) = reader.next()? {
                tags.push(tag);
            }
        }
        Ok(tags)
    }

    #[test]
    fn splits_ffmpegs_stream_however_it_arrives() {
        let stream = hex(golden::FLV);
        let tags = read(&stream, stream.len()).unwrap();
        let kinds: Vec<_> = tags.iter().map(|tag| (tag.kind, tag.timestamp_ms, tag.body.len())).collect();
        assert_eq!(kinds.len(), 15);
        assert_eq!(kinds[..2], [(TagKind::Script, 0, 230), (TagKind::Video, 0, 51)]);
        assert_eq!(kinds[13..], [(TagKind::Audio, 165, 6), (TagKind::Video, 160, 5)]);
        for push_len in 1..20 {
            assert_eq!(read(&stream, push_len).unwrap(), tags);
        }
    }

    #[test]
    fn extended_timestamp_is_the_high_byte() {
        let stream = hex("464c5601050000000900000000 08 000001 000102 fe 000000 af 0000000c");
        assert_eq!(read(&stream, 100).unwrap()[0].timestamp_ms, 0xfe00_0102);
    }

    #[test]
    fn refuses_what_is_no_flv_and_what_is_too_long() {
        assert_eq!(read(b"FLX\x01\x05\0\0\0\x09", 9), Err(StreamError::NotFlv { found: *b"FLX" }));
        let header = StreamError::HeaderLength { len: 8, max: MAX_HEADER_LEN };
        assert_eq!(read(b"FLV\x01\x05\0\0\0\x08", 9), Err(header));
        let long = hex("464c5601050000000900000000 08 000401 000000 00 000000");
        assert_eq!(read(&long, 100), Err(StreamError::TagTooLong { len: 1025, max: 1024, at: 13 }));
        let unknown = hex("464c5601050000000900000000 28 000001 000000 00 000000");
        assert_eq!(read(&unknown, 100), Err(StreamError::UnknownTag { kind: 0x28, at: 13 }));
    }

    #[test]
    fn hostile_bytes_never_panic() {
        let stream = hex(golden::FLV);
        mutations(&stream, 20_000, |bytes| {
            if let Ok(tags) = read(bytes, 100) {
                let len: usize = tags.iter().map(|tag| tag.body.len() + TAG_HEADER_LEN).sum();
                assert!(len <= bytes.len());
            }
        });
    }
}
