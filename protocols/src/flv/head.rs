//! What a player needs before it can begin in the middle of an FLV file.

use super::{
    enhanced::{self, packet},
    stream::{FlvReader, StreamError, Tag, TagKind},
};
use bytes::BufMut;

/// A file's header and its sequence headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub bytes: Vec<u8>,
    /// The byte of the file behind the last of them.
    pub end: u64,
}

/// Tags among which they are looked for; frames may come before the second one.
const TAGS: usize = 64;

/// Of the file that begins with `start`.
pub fn head(start: &[u8]) -> Result<Head, StreamError> {
    let mut reader = FlvReader::new(start.len());
    reader.push(start);
    let mut next = reader.next()?;
    // HEADER and PreviousTagSize0, annex E.2; what later versions may add is left out.
    let flags = start.get(4).copied().unwrap_or_default();
    let mut bytes = [b"FLV\x01", &[flags][..], &[0, 0, 0, 9, 0, 0, 0, 0]].concat();
    let mut end = bytes.len() as u64;
    for _ in 0..TAGS {
        let Some(tag) = next else { break };
        if is_sequence_header(&tag) {
            write(&tag, &mut bytes);
            end = reader.at();
        }
        // What comes later may be damaged.
        next = reader.next().unwrap_or_default();
    }
    Ok(Head { bytes, end })
}

fn is_sequence_header(tag: &Tag) -> bool {
    let (first, second) = (tag.body.first().copied(), tag.body.get(1).copied());
    match (tag.kind, first, second) {
        (TagKind::Audio, Some(first), _) if first >> 4 == enhanced::SOUND => first & 15 == packet::SEQUENCE_START,
        // AAC, the one of the old codecs that has one.
        (TagKind::Audio, Some(first), second) => first >> 4 == 10 && second == Some(0),
        (TagKind::Video, Some(first), _) if first & 0x80 != 0 => {
            matches!(first & 15, packet::SEQUENCE_START | packet::MPEG2TS_SEQUENCE_START)
        }
        (TagKind::Video, Some(first), second) => matches!(first & 15, 7 | 12) && second == Some(0),
        _ => false,
    }
}

/// Annex E.4.1, with the PreviousTagSize behind it.
fn write(tag: &Tag, out: &mut Vec<u8>) {
    let len = tag.body.len();
    out.put_u8(tag.kind as u8);
    out.put_uint(len as u64, 3);
    out.put_u32(tag.timestamp_ms.rotate_left(8));
    out.put_uint(0, 3);
    out.extend_from_slice(&tag.body);
    out.put_u32(len as u32 + 11);
}

#[cfg(test)]
mod tests {
    use super::{super::golden, *};
    use crate::codec::hostile::{hex, mutations};

    #[test]
    fn ffmpegs_file_has_its_sequence_headers() {
        let file = hex(golden::FLV);
        let head = head(&file).unwrap();
        let mut reader = FlvReader::new(1024);
        reader.push(&head.bytes);
        let tags: Vec<_> = std::iter::from_fn(|| reader.next().unwrap()).collect();
        let found: Vec<_> = tags.iter().map(|tag| (tag.kind, tag.body[1])).collect();
        assert_eq!(found, [(TagKind::Video, 0), (TagKind::Audio, 0)]);
        assert_eq!(reader.at(), head.bytes.len() as u64, "whole tags");
        assert_eq!(head.bytes[..13], file[..13]);
        // Behind it comes a tag.
        assert!(matches!(file[head.end as usize], 8 | 9), "{}", head.end);
    }

    #[test]
    fn the_high_byte_of_a_time_stays_where_it_is() {
        let file = hex("464c5601050000000900000000 08 000002 010203 fe 000000 af00 0000000d");
        assert_eq!(head(&file), Ok(Head { bytes: file.clone(), end: file.len() as u64 }));
    }

    #[test]
    fn what_is_no_flv_has_none_and_a_damaged_file_what_comes_before() {
        assert!(head(b"ID3\x04\0\0\0\0\0\0").is_err());
        let file = hex("464c5601050000000900000000 08 000002 010203 fe 000000 af00 0000000d 77");
        assert_eq!(head(&file).unwrap().end, file.len() as u64 - 1);
        mutations(&hex(golden::FLV), 20_000, |bytes| {
            if let Ok(head) = head(bytes) {
                assert!(head.bytes.len() <= bytes.len().max(13));
            }
        });
    }
}
