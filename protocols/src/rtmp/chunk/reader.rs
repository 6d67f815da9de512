//! From bytes to messages. Each payload byte is copied once, into the message that will own it; memory
//! grows with what was received, not with what headers promise.

use super::{DEFAULT_CHUNK_SIZE, EXTENDED};
use crate::rtmp::message::{Message, kind};
use bytes::{Buf, BytesMut};

/// What one connection may occupy.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest message, bytes. Incomplete messages together may have twice that.
    pub message: usize,
    pub chunk_streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message: 16 << 20, chunk_streams: 64 }
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("message of {len} bytes, at most {max} allowed")]
    MessageTooLong { len: usize, max: usize },
    #[error("more than {max} chunk streams")]
    TooManyChunkStreams { max: usize },
    #[error("incomplete messages hold more than {max} bytes")]
    TooMuchIncomplete { max: usize },
    #[error("chunk stream {csid} starts with a type {fmt} header, which refers to an earlier one")]
    NoEarlierHeader { csid: u32, fmt: u8 },
    #[error("type {fmt} header on chunk stream {csid} after {have} of a message's {len} bytes")]
    Interrupted { csid: u32, fmt: u8, have: usize, len: usize },
    #[error("chunk size {size} is outside 1..=2147483647")]
    ChunkSize { size: u32 },
}

pub struct ChunkReader {
    limits: Limits,
    chunk_size: u32,
    /// Bytes that may be a header, until they are one.
    head: BytesMut,
    /// The chunk whose payload is being read: its stream's index, and bytes still to come.
    open: Option<(usize, usize)>,
    streams: Vec<Stream>,
    /// Bytes of all incomplete messages.
    incomplete: usize,
    /// Of the newest audio, video or data message.
    newest_ms: Option<i64>,
}

/// What a chunk stream's next header may refer to, and its message so far.
struct Stream {
    csid: u32,
    timestamp_ms: i64,
    /// What a type 3 header adds at the start of a message.
    delta: u32,
    /// The extended field of the last header, if it had one.
    extended: Option<u32>,
    len: usize,
    kind: u8,
    stream: u32,
    /// A message has begun and is not complete.
    begun: bool,
    payload: BytesMut,
}

/// Memory that a message's announced length alone may claim; half as much with each other message that has begun, so
/// that those of one connection claim no more than twice this.
const STEP: usize = 64 << 10;

impl ChunkReader {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            chunk_size: DEFAULT_CHUNK_SIZE,
            head: BytesMut::new(),
            open: None,
            streams: Vec::new(),
            incomplete: 0,
            newest_ms: None,
        }
    }

    /// Bounds the messages that begin from now on, in bytes.
    pub fn limit_messages(&mut self, bytes: usize) {
        self.limits.message = bytes;
    }

    /// Obeys the peer's Set Chunk Size (RTMP 1.0 §5.4.1).
    pub fn set_chunk_size(&mut self, size: u32) -> Result<(), ChunkError> {
        if !(1..=0x7fff_ffff).contains(&size) {
            return Err(ChunkError::ChunkSize { size });
        }
        self.chunk_size = size;
        Ok(())
    }

    /// Obeys the peer's Abort (RTMP 1.0 §5.4.2): forgets the incomplete message of a chunk stream.
    pub fn abort(&mut self, csid: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|s| s.csid == csid) {
            self.incomplete = self.incomplete.saturating_sub(stream.payload.len());
            stream.payload = BytesMut::new();
            stream.begun = false;
        }
    }

    /// Takes bytes off the front of `input` up to the end of the next message. `None`: all of `input`
    /// is taken and no message is complete. After an error the reader is of no more use.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, ChunkError> {
        loop {
            let Some((index, left)) = self.open else {
                match self.header()? {
                    Parsed::Chunk => continue,
                    Parsed::Need(len) => {
                        let take = len.saturating_sub(self.head.len()).min(input.len());
                        if take == 0 {
                            return Ok(None);
                        }
                        self.head.extend_from_slice(&input[..take]);
                        input.advance(take);
                        continue;
                    }
                }
            };
            let Some(stream) = self.streams.get_mut(index) else {
                self.open = None;
                continue;
            };
            // The head still holds bytes if they turned out to be no extended timestamp.
            let source = if self.head.is_empty() { &**input } else { &*self.head };
            let take = left.min(source.len());
            if take == 0 && left > 0 {
                return Ok(None);
            }
            self.incomplete = self.incomplete.saturating_add(take);
            let max = self.limits.message.saturating_mul(2);
            if self.incomplete > max {
                return Err(ChunkError::TooMuchIncomplete { max });
            }
            stream.append(&source[..take]);
            if self.head.is_empty() {
                input.advance(take)
            } else {
                self.head.advance(take)
            }

            let left = left.saturating_sub(take);
            if left > 0 {
                self.open = Some((index, left));
                continue;
            }
            self.open = None;
            if stream.payload.len() < stream.len {
                continue;
            }
            let message = stream.complete();
            self.incomplete = self.incomplete.saturating_sub(message.payload.len());
            if is_media(message.kind) {
                self.newest_ms = Some(message.timestamp_ms);
            }
            return Ok(Some(message));
        }
    }

    /// Opens a chunk if the head holds all of its header.
    fn header(&mut self) -> Result<Parsed, ChunkError> {
        let (fmt, csid, basic) = match *self.head {
            [] => return Ok(Parsed::Need(1)),
            [first, ref rest @ ..] => match (first & 0x3f, rest) {
                (0, []) => return Ok(Parsed::Need(2)),
                (0, [a, ..]) => (first >> 6, 64 + u32::from(*a), 2),
                (1, [a, b, ..]) => (first >> 6, 64 + u32::from(*a) + 256 * u32::from(*b), 3),
                (1, _) => return Ok(Parsed::Need(3)),
                (csid, _) => (first >> 6, u32::from(csid), 1),
            },
        };
        let fields_end = basic + [11, 7, 3, 0][usize::from(fmt & 3)];
        let Some(fields) = self.head.get(basic..fields_end) else {
            return Ok(Parsed::Need(fields_end));
        };
        let known = self.streams.iter().position(|s| s.csid == csid);
        let earlier = known.and_then(|index| self.streams.get(index));
        if let Some(stream) = earlier
            && stream.begun
            && fmt != 3
        {
            let (have, len) = (stream.payload.len(), stream.len);
            return Err(ChunkError::Interrupted { csid, fmt, have, len });
        }

        let field = fields.first_chunk().map(|[a, b, c]| u32::from_be_bytes([0, *a, *b, *c]));
        let rest = self.head.get(fields_end..).unwrap_or_default();
        let (time, extended, end) = match (field, earlier) {
            (Some(EXTENDED), _) => match rest.first_chunk() {
                Some(bytes) => {
                    let extended = u32::from_be_bytes(*bytes);
                    (extended, Some(extended), fields_end + 4)
                }
                None => return Ok(Parsed::Need(fields_end + 4)),
            },
            (Some(time), _) => (time, None, fields_end),
            (None, Some(stream)) => match stream.repeats_extended(rest) {
                Some(repeated) => (0, None, fields_end + if repeated { 4 } else { 0 }),
                None => return Ok(Parsed::Need(self.head.len() + 1)),
            },
            (None, None) => return Err(ChunkError::NoEarlierHeader { csid, fmt }),
        };

        let others = self.streams.iter().filter(|stream| stream.begun).count() as u32;
        let index = match known {
            Some(index) => index,
            // librtmp opens the control stream with type 1; 2 and 3 make no sense without a length.
            None if fmt > 1 => return Err(ChunkError::NoEarlierHeader { csid, fmt }),
            None if self.streams.len() >= self.limits.chunk_streams => {
                return Err(ChunkError::TooManyChunkStreams { max: self.limits.chunk_streams });
            }
            None => {
                // A player has two or three.
                self.streams.reserve_exact(1);
                self.streams.push(Stream::new(csid));
                self.streams.len() - 1
            }
        };
        let Some(stream) = self.streams.get_mut(index) else {
            return Ok(Parsed::Need(1));
        };
        if let [_, _, _, a, b, c, kind, ref id @ ..] = *fields {
            stream.len = u32::from_be_bytes([0, a, b, c]) as usize;
            stream.kind = kind;
            if let Some(id) = id.first_chunk() {
                stream.stream = u32::from_le_bytes(*id);
            }
        }
        if !stream.begun {
            if stream.len > self.limits.message {
                let (len, max) = (stream.len, self.limits.message);
                return Err(ChunkError::MessageTooLong { len, max });
            }
            let reference = if known.is_some() {
                Some(stream.timestamp_ms)
            } else {
                self.newest_ms.filter(|_| is_media(stream.kind))
            };
            match fmt {
                0 => {
                    stream.timestamp_ms = reference.map_or(i64::from(time), |r| unwrap(r, time));
                    // "The delta is the timestamp of the type 0 chunk" (RTMP 1.0 §5.3.1.2.4); but who
                    // repeats one beyond 4.6 hours means the same time again.
                    (stream.delta, stream.extended) = (if extended.is_some() { 0 } else { time }, extended);
                }
                1 | 2 => {
                    (stream.delta, stream.extended) = (time, extended);
                    stream.advance();
                }
                _ => stream.advance(),
            }
            stream.begun = true;
            stream.payload = BytesMut::with_capacity(stream.len.min(STEP.checked_shr(others).unwrap_or(0)));
        }
        let left = stream.len.saturating_sub(stream.payload.len()).min(self.chunk_size as usize);
        self.open = Some((index, left));
        self.head.advance(end.min(self.head.len()));
        Ok(Parsed::Chunk)
    }
}

enum Parsed {
    Chunk,
    /// The head must grow to this many bytes.
    Need(usize),
}

impl Stream {
    fn new(csid: u32) -> Self {
        Self {
            csid,
            timestamp_ms: 0,
            delta: 0,
            extended: None,
            len: 0,
            kind: 0,
            stream: 0,
            begun: false,
            payload: BytesMut::new(),
        }
    }

    /// Whether `bytes`, which follow a type 3 header, repeat the extended timestamp, as they should
    /// (RTMP 1.0 §5.3.1.3). Some peers do not; others repeat the message's time where the header had a
    /// delta. `None`: more bytes are needed to tell.
    fn repeats_extended(&self, bytes: &[u8]) -> Option<bool> {
        let Some(extended) = self.extended else {
            return Some(false);
        };
        let bytes = bytes.get(..4).unwrap_or(bytes);
        let agrees = [extended, self.timestamp_ms as u32].iter().any(|t| t.to_be_bytes().starts_with(bytes));
        match (agrees, bytes.len()) {
            (false, _) => Some(false),
            (true, 4) => Some(true),
            (true, _) => None,
        }
    }

    /// Adds the delta; one of more than 2^31 is a step back.
    fn advance(&mut self) {
        self.timestamp_ms = self.timestamp_ms.saturating_add(i64::from(self.delta as i32));
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.payload.capacity() - self.payload.len() < bytes.len() {
            let step = self.payload.len().max(bytes.len());
            self.payload.reserve(step.min(self.len.saturating_sub(self.payload.len())));
        }
        self.payload.extend_from_slice(bytes);
    }

    fn complete(&mut self) -> Message {
        self.begun = false;
        Message {
            kind: self.kind,
            stream: self.stream,
            timestamp_ms: self.timestamp_ms,
            payload: std::mem::take(&mut self.payload).freeze(),
        }
    }
}

fn is_media(kind: u8) -> bool {
    matches!(kind, kind::AUDIO | kind::VIDEO | kind::DATA | kind::DATA_AMF3 | kind::AGGREGATE)
}

/// The time nearest to `reference` whose low 32 bits are `low`.
fn unwrap(reference: i64, low: u32) -> i64 {
    reference.saturating_add(i64::from(low.wrapping_sub(reference as u32) as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(reader: &mut ChunkReader, bytes: &[u8], step: usize) -> Result<Vec<Message>, ChunkError> {
        let mut messages = Vec::new();
        for mut piece in bytes.chunks(step) {
            while let Some(message) = reader.read(&mut piece)? {
                messages.push(message);
            }
            assert!(piece.is_empty());
        }
        Ok(messages)
    }

    /// The messages of `bytes`, which must be the same however the bytes are sliced.
    fn read(bytes: &[u8]) -> Result<Vec<Message>, ChunkError> {
        let whole = read_all(&mut ChunkReader::new(Limits::default()), bytes, usize::MAX);
        for step in 1..20 {
            assert_eq!(read_all(&mut ChunkReader::new(Limits::default()), bytes, step), whole);
        }
        whole
    }

    fn times(bytes: &[u8]) -> Vec<i64> {
        read(bytes).unwrap().iter().map(|m| m.timestamp_ms).collect()
    }

    #[test]
    fn reads_all_header_types() {
        let bytes = [
            &[0x04, 0x00, 0x03, 0xe8, 0, 0, 2, 8, 1, 0, 0, 0, 0xaa, 0xab][..], // fmt 0 at 1000
            &[0x44, 0, 0, 20, 0, 0, 1, 9, 0xba],                               // fmt 1, +20, 1 byte
            &[0x84, 0, 0, 30, 0xca],                                           // fmt 2, +30
            &[0xc4, 0xda],                                                     // fmt 3, +30 again
        ]
        .concat();
        let messages = read(&bytes).unwrap();
        let seen: Vec<_> = messages.iter().map(|m| (m.kind, m.stream, m.timestamp_ms, &m.payload[..])).collect();
        assert_eq!(
            seen,
            [(8, 1, 1000, &[0xaa, 0xab][..]), (9, 1, 1020, &[0xba]), (9, 1, 1050, &[0xca]), (9, 1, 1080, &[0xda]),]
        );
    }

    #[test]
    fn reads_all_forms_of_chunk_stream_id() {
        let rest = [0, 0, 5, 0, 0, 1, 8, 1, 0, 0, 0, 0xee];
        for (basic, csid) in [
            (&[0x02][..], 2),
            (&[0x3f], 63),
            (&[0x00, 0], 64),
            (&[0x00, 255], 319),
            (&[0x01, 0, 0], 64),
            (&[0x01, 255, 255], 65599),
        ] {
            let mut reader = ChunkReader::new(Limits::default());
            let messages = read_all(&mut reader, &[basic, &rest].concat(), 1).unwrap();
            assert_eq!(messages.len(), 1);
            assert_eq!(reader.streams[0].csid, csid);
        }
    }

    #[test]
    fn messages_interleave() {
        let mut bytes = vec![4, 0, 0, 1, 0, 0, 200, 8, 1, 0, 0, 0];
        bytes.extend([1; 128]);
        bytes.extend([6, 0, 0, 2, 0, 0, 130, 9, 1, 0, 0, 0]);
        bytes.extend([2; 128]);
        bytes.push(0xc4);
        bytes.extend([1; 72]);
        bytes.extend([0xc6, 2, 2]);
        let messages = read(&bytes).unwrap();
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].kind, &messages[0].payload[..]), (8, &[1; 200][..]));
        assert_eq!((messages[1].kind, &messages[1].payload[..]), (9, &[2; 130][..]));
    }

    #[test]
    fn first_type_three_adds_the_type_zero_timestamp() {
        assert_eq!(times(&[4, 0, 0, 40, 0, 0, 1, 8, 1, 0, 0, 0, 1, 0xc4, 2]), [40, 80]);
    }

    #[test]
    fn extended_timestamps_are_repeated_in_type_three() {
        let mut bytes = vec![4, 255, 255, 255, 0, 0, 130, 9, 1, 0, 0, 0, 1, 0, 0, 0];
        bytes.extend([7; 128]);
        bytes.extend([0xc4, 1, 0, 0, 0, 8, 9]);
        let messages = read(&bytes).unwrap();
        assert_eq!(messages[0].timestamp_ms, 1 << 24);
        assert_eq!(messages[0].payload[127..], [7, 8, 9]);
    }

    #[test]
    fn peers_that_do_not_repeat_extended_timestamps_are_understood() {
        let mut bytes = vec![4, 255, 255, 255, 0, 0, 130, 9, 1, 0, 0, 0, 1, 0, 0, 0];
        bytes.extend([7; 128]);
        // The message ends within the four bytes where the timestamp would be.
        bytes.extend([0xc4, 1, 9, 0x84, 0, 0, 5, 1]);
        bytes.extend([6; 127]);
        bytes.extend([0xc4, 3, 4]);
        let messages = read(&bytes).unwrap();
        assert_eq!(messages[0].payload[127..], [7, 1, 9]);
        assert_eq!(messages[1].timestamp_ms, (1 << 24) + 5);
        assert_eq!(messages[1].payload[127..], [6, 3, 4]);
    }

    #[test]
    fn extended_deltas_add() {
        let bytes = [
            &[4, 0, 0, 1, 0, 0, 1, 8, 1, 0, 0, 0, 1][..],
            &[0x84, 255, 255, 255, 0x01, 0, 0, 0, 2],
            &[0xc4, 0x01, 0, 0, 0, 3],
        ]
        .concat();
        assert_eq!(times(&bytes), [1, 0x100_0001, 0x200_0001]);
    }

    #[test]
    fn time_goes_on_after_32_bits() {
        let bytes = [
            &[4, 255, 255, 255, 0, 0, 1, 8, 1, 0, 0, 0, 255, 255, 255, 250, 1][..],
            &[4, 0, 0, 10, 0, 0, 1, 8, 1, 0, 0, 0, 1],
            &[0x84, 0, 0, 10, 1],
            // A chunk stream that is new after the wrap follows the others; a control message does not.
            &[6, 0, 0, 30, 0, 0, 1, 9, 1, 0, 0, 0, 1],
            &[2, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0, 1],
            &[4, 255, 255, 255, 0, 0, 1, 8, 1, 0, 0, 0, 255, 255, 255, 254, 1],
        ]
        .concat();
        let wrap = 1i64 << 32;
        assert_eq!(times(&bytes), [wrap - 6, wrap + 10, wrap + 20, wrap + 30, 0, wrap - 2]);
    }

    #[test]
    fn abort_forgets_the_incomplete_message() {
        let mut reader = ChunkReader::new(Limits::default());
        let mut bytes = vec![4, 0, 0, 1, 0, 0, 200, 8, 1, 0, 0, 0];
        bytes.extend([1; 128]);
        assert_eq!(read_all(&mut reader, &bytes, 50), Ok(vec![]));
        assert_eq!(reader.incomplete, 128);
        reader.abort(4);
        assert_eq!(reader.incomplete, 0);
        let messages = read_all(&mut reader, &[4, 0, 0, 1, 0, 0, 1, 8, 1, 0, 0, 0, 5], 3).unwrap();
        assert_eq!(messages[0].payload, [5][..]);
    }

    #[test]
    fn empty_messages_are_messages() {
        assert_eq!(times(&[4, 0, 0, 40, 0, 0, 0, 8, 1, 0, 0, 0, 0xc4]), [40, 80]);
    }

    #[test]
    fn a_promised_length_claims_little_memory() {
        let mut reader = ChunkReader::new(Limits::default());
        reader.set_chunk_size(0x7fff_ffff).unwrap();
        read_all(&mut reader, &[4, 0, 0, 1, 0xff, 0xff, 0xff, 8, 1, 0, 0, 0, 1, 2, 3], 4).unwrap();
        assert!(reader.streams[0].payload.capacity() <= STEP);
        read_all(&mut reader, &[0; 100_000], 1000).unwrap();
        assert!(reader.streams[0].payload.capacity() < 300_000);
        // Nor do those of many chunk streams together.
        let mut reader = ChunkReader::new(Limits::default());
        for id in 4..64 {
            read_all(&mut reader, &[id, 0, 0, 1, 1, 0, 0, 8, 1, 0, 0, 0], 12).unwrap();
            read_all(&mut reader, &[id; 128], 128).unwrap();
        }
        let claimed: usize = reader.streams.iter().map(|stream| stream.payload.capacity()).sum();
        assert!(claimed <= 2 * STEP + 60 * 256, "{claimed}");
    }

    #[test]
    fn limits_hold() {
        let limits = Limits { message: 1000, chunk_streams: 2 };
        let fresh = || ChunkReader::new(limits);
        let long = [4, 0, 0, 1, 0, 3, 233, 8, 1, 0, 0, 0];
        assert_eq!(read_all(&mut fresh(), &long, 5), Err(ChunkError::MessageTooLong { len: 1001, max: 1000 }));
        let three: Vec<u8> = (4..7).flat_map(|id| [id, 0, 0, 0, 0, 0, 1, 8, 1, 0, 0, 0, 1]).collect();
        assert_eq!(read_all(&mut fresh(), &three, 5), Err(ChunkError::TooManyChunkStreams { max: 2 }));

        let mut reader = ChunkReader::new(Limits { message: 1000, chunk_streams: 4 });
        reader.set_chunk_size(900).unwrap();
        let mut bytes = Vec::new();
        for id in 4..7 {
            bytes.extend([id, 0, 0, 0, 0, 3, 232, 8, 1, 0, 0, 0]);
            bytes.extend([0; 900]);
        }
        assert_eq!(read_all(&mut reader, &bytes, 100), Err(ChunkError::TooMuchIncomplete { max: 2000 }));
        assert_eq!(fresh().set_chunk_size(0), Err(ChunkError::ChunkSize { size: 0 }));
        assert!(fresh().set_chunk_size(1 << 31).is_err());
    }

    #[test]
    fn headers_without_an_earlier_one_are_refused() {
        for bytes in [&[0xc4][..], &[0x84, 0, 0, 0]] {
            let fmt = bytes[0] >> 6;
            assert_eq!(read(bytes), Err(ChunkError::NoEarlierHeader { csid: 4, fmt }));
        }
    }

    #[test]
    fn a_new_header_within_a_message_is_refused() {
        let mut bytes = vec![4, 0, 0, 1, 0, 0, 200, 8, 1, 0, 0, 0];
        bytes.extend([1; 128]);
        bytes.extend([0x84, 0, 0, 1]);
        assert_eq!(read(&bytes), Err(ChunkError::Interrupted { csid: 4, fmt: 2, have: 128, len: 200 }));
    }
}
