//! A mark in each picture, by which a viewer knows how old it is and whether one is missing: a supplemental
//! enhancement information message of unregistered user data (ITU-T H.264 §D.1.7, H.265 §D.2.7), which servers pass
//! on and decoders skip.
//!
//! ```text
//! SEI header | type 5 | size | UUID 16 | microseconds since 1970, 16 digits | ' ' | number, 10 digits | 0x80
//! ```

use bytes::{BufMut, Bytes};
use shardcast_engine::codec::Codec;
use std::time::{SystemTime, UNIX_EPOCH};

/// Has no zeros and stands before digits, so that no emulation prevention is needed.
const UUID: [u8; 16] = [0x5d, 0xc1, 0x8f, 0x3e, 0x7a, 0x96, 0x4b, 0xe2, 0xa4, 0xd8, 0x6c, 0x91, 0xf3, 0x2b, 0x70, 0x5e];
const MICROS_DIGITS: usize = 16;
const NUMBER_DIGITS: usize = 10;
const TEXT_BYTES: usize = MICROS_DIGITS + 1 + NUMBER_DIGITS;
const USER_DATA_UNREGISTERED: u8 = 5;
/// A mark is not looked for beyond this.
const LOOK_BYTES: usize = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Wall clock, microseconds since 1970.
    pub micros: u64,
    /// Of the picture, in the order of decoding.
    pub number: u64,
}

impl Mark {
    pub fn new(wall_clock: SystemTime, number: u64) -> Self {
        let micros = wall_clock.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        Self { micros: micros as u64, number }
    }

    /// A picture's payload (NAL units behind four-byte lengths) with the mark in it, behind its access unit
    /// delimiter. As it is where its codec has no such message.
    pub fn put(self, codec: Codec, payload: &Bytes) -> Bytes {
        let (header, delimiter): (&[u8], fn(u8) -> bool) = match codec {
            Codec::H264 => (&[0x06], |first| first & 0x1f == 9),
            Codec::Hevc => (&[0x4e, 0x01], |first| first >> 1 & 0x3f == 35),
            _ => return payload.clone(),
        };
        let behind = match payload.first_chunk() {
            Some(&[a, b, c, d, first]) if delimiter(first) => {
                (4 + u32::from_be_bytes([a, b, c, d]) as usize).min(payload.len())
            }
            _ => 0,
        };
        let (before, after) = payload.split_at(behind);
        let size = UUID.len() + TEXT_BYTES;
        let mut marked = Vec::with_capacity(payload.len() + size + 16);
        marked.put_slice(before);
        marked.put_u32((header.len() + 2 + size + 1) as u32);
        marked.put_slice(header);
        marked.put_slice(&[USER_DATA_UNREGISTERED, size as u8]);
        marked.put_slice(&UUID);
        marked.put_slice(format!("{:016} {:010}", self.micros, self.number % 10_000_000_000).as_bytes());
        marked.put_u8(0x80);
        marked.put_slice(after);
        marked.into()
    }

    /// The mark of a picture, if it has one.
    pub fn find(payload: &[u8]) -> Option<Self> {
        let start = payload.get(..LOOK_BYTES).unwrap_or(payload);
        let at = start.windows(UUID.len()).position(|window| window == UUID)? + UUID.len();
        let text = std::str::from_utf8(payload.get(at..at + TEXT_BYTES)?).ok()?;
        let (micros, number) = text.split_once(' ')?;
        Some(Self { micros: micros.parse().ok()?, number: number.parse().ok()? })
    }
}

/// An H.264 picture followed by filler data of `bytes` bytes in all (ITU-T H.264 §7.3.2.7); as it is where that is
/// too little for a NAL unit.
pub fn fill(picture: &Bytes, bytes: usize) -> Bytes {
    const FILLER: u8 = 12;
    let Some(filler @ 1..) = bytes.checked_sub(4 + 2) else { return picture.clone() };
    let mut filled = Vec::with_capacity(picture.len() + bytes);
    filled.put_slice(picture);
    filled.put_u32(filler as u32 + 2);
    filled.put_u8(FILLER);
    filled.put_bytes(0xff, filler);
    filled.put_u8(0x80);
    filled.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardcast_protocols::codec::avc;

    const MARK: Mark = Mark { micros: 1_764_080_000_123_456, number: 42 };

    #[test]
    fn what_is_put_is_found_in_a_nal_unit_of_its_own() {
        let slice = Bytes::from_static(&[0, 0, 0, 3, 0x65, 1, 2]);
        let marked = MARK.put(Codec::H264, &slice);
        assert_eq!(Mark::find(&marked), Some(MARK));
        let nals: Vec<_> = avc::nal_units(&marked, 4).map(Result::unwrap).collect();
        assert_eq!(nals.iter().map(|nal| nal[0] & 0x1f).collect::<Vec<_>>(), [6, 5]);
        assert!(!nals[0].windows(2).any(|pair| pair == [0, 0]), "wants emulation prevention");
        assert!(marked.ends_with(&slice));
    }

    #[test]
    fn a_delimiter_stays_first() {
        for (codec, delimiter, sei) in [(Codec::H264, [0x09, 0xf0], 0x06), (Codec::Hevc, [0x46, 0x01], 0x4e)] {
            let unit: Bytes = [&[0, 0, 0, 2], &delimiter[..], &[0, 0, 0, 1, 0x65]].concat().into();
            let marked = MARK.put(codec, &unit);
            assert_eq!((&marked[..6], marked[10]), (&unit[..6], sei));
            assert_eq!(Mark::find(&marked), Some(MARK));
        }
    }

    #[test]
    fn filler_is_as_long_as_asked_for() {
        let slice = Bytes::from_static(&[0, 0, 0, 3, 0x65, 1, 2]);
        assert_eq!(fill(&slice, 6), slice);
        let filled = fill(&slice, 20);
        assert_eq!(filled.len(), slice.len() + 20);
        let nals: Vec<_> = avc::nal_units(&filled, 4).map(Result::unwrap).collect();
        assert_eq!(nals.iter().map(|nal| nal[0] & 0x1f).collect::<Vec<_>>(), [5, 12]);
    }

    #[test]
    fn others_have_none() {
        let plain = Bytes::from_static(b"plain");
        assert_eq!(MARK.put(Codec::Av1, &plain), plain);
        assert_eq!(Mark::find(&plain), None);
        let marked = MARK.put(Codec::H264, &plain);
        assert!((0..marked.len()).all(|len| Mark::find(&marked[..len]).is_none_or(|mark| mark == MARK)));
    }
}
