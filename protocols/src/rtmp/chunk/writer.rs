//! From messages to bytes: a type 0 header each, so that no message depends on what went before it.

use super::{DEFAULT_CHUNK_SIZE, EXTENDED};

#[derive(Clone, Copy, Debug)]
pub struct ChunkWriter {
    pub chunk_size: u32,
}

/// A message but for its payload.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Chunk stream id, 2..=63.
    pub csid: u8,
    pub kind: u8,
    /// Message stream id.
    pub stream: u32,
    /// The wire's 32 bits of milliseconds.
    pub timestamp: u32,
}

impl Default for ChunkWriter {
    fn default() -> Self {
        Self { chunk_size: DEFAULT_CHUNK_SIZE }
    }
}

impl ChunkWriter {
    /// Appends the message whose payload is `parts`, one after the other. A message longer than its
    /// 24-bit length can say is left out.
    pub fn write(&self, header: Header, parts: &[&[u8]], out: &mut Vec<u8>) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let Ok([0, l1, l2, l3]) = u32::try_from(len).map(u32::to_be_bytes) else {
            return;
        };
        let size = self.chunk_size.max(1) as usize;
        let [t0, t1, t2, t3] = header.timestamp.to_be_bytes();
        let continuation = [0xc0 | header.csid & 0x3f, t0, t1, t2, t3];
        let extended = header.timestamp >= EXTENDED;
        let continuation = if extended { &continuation[..] } else { &continuation[..1] };
        out.reserve(16 + len + len / size * continuation.len());

        let [_, t1, t2, t3] = header.timestamp.min(EXTENDED).to_be_bytes();
        let [s1, s2, s3, s4] = header.stream.to_le_bytes();
        out.extend([header.csid & 0x3f, t1, t2, t3, l1, l2, l3, header.kind, s1, s2, s3, s4]);
        out.extend_from_slice(&continuation[1..]);

        let mut room = size;
        for part in parts {
            let mut part = *part;
            while !part.is_empty() {
                if room == 0 {
                    out.extend_from_slice(continuation);
                    room = size;
                }
                let (now, later) = part.split_at(room.min(part.len()));
                out.extend_from_slice(now);
                room -= now.len();
                part = later;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::chunk::{ChunkReader, Limits};

    const HEADER: Header = Header { csid: 6, kind: 9, stream: 1, timestamp: 1000 };

    #[test]
    fn parts_a_payload_into_chunks() {
        let mut out = vec![0xff];
        ChunkWriter { chunk_size: 3 }.write(HEADER, &[b"ab", b"", b"cdefg", b"h"], &mut out);
        let expected = [&[0xff, 6, 0, 3, 0xe8, 0, 0, 8, 9, 1, 0, 0, 0][..], b"abc\xc6def\xc6gh"].concat();
        assert_eq!(out, expected);
    }

    #[test]
    fn a_payload_of_whole_chunks_ends_without_a_header() {
        let mut out = Vec::new();
        ChunkWriter { chunk_size: 4 }.write(HEADER, &[b"abcdefgh"], &mut out);
        assert_eq!(&out[12..], b"abcd\xc6efgh");
    }

    #[test]
    fn extended_timestamps_are_repeated() {
        for timestamp in [0xff_ffff, 0xffff_fffe] {
            let mut out = Vec::new();
            ChunkWriter { chunk_size: 4 }.write(Header { timestamp, ..HEADER }, &[b"abcdef"], &mut out);
            let time = timestamp.to_be_bytes();
            let expected = [&[6, 255, 255, 255, 0, 0, 6, 9, 1, 0, 0, 0][..], &time, b"abcd\xc6", &time, b"ef"].concat();
            assert_eq!(out, expected);
        }
        let mut out = Vec::new();
        ChunkWriter::default().write(Header { timestamp: 0xff_fffe, ..HEADER }, &[b"a"], &mut out);
        assert_eq!(out.len(), 13);
    }

    #[test]
    fn the_reader_reads_it_back() {
        let payload: Vec<u8> = (0..5000u32).map(|n| (n % 251) as u8).collect();
        for chunk_size in [1, 2, 127, 128, 4999, 5000, 60000] {
            for timestamp in [0, 0xff_ffff, 0x1234_5678] {
                let mut out = Vec::new();
                ChunkWriter { chunk_size }.write(Header { timestamp, ..HEADER }, &[&payload], &mut out);
                let mut reader = ChunkReader::new(Limits::default());
                reader.set_chunk_size(chunk_size).unwrap();
                let message = reader.read(&mut out.as_slice()).unwrap().expect("a message");
                assert_eq!(message.payload, payload);
                assert_eq!(message.timestamp_ms, i64::from(timestamp));
            }
        }
    }

    #[test]
    fn what_24_bits_cannot_count_is_left_out() {
        let mut out = vec![1];
        ChunkWriter { chunk_size: 60000 }.write(HEADER, &[&vec![0; 1 << 24]], &mut out);
        assert_eq!(out, [1]);
    }
}
