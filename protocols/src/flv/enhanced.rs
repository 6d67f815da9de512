//! Headers of Enhanced RTMP v2 ("Enhanced Audio", "Enhanced Video"): what stands between the first byte of a tag's
//! body and what a codec says.
//!
//! ```text
//! video  | 1 | frame type 3 | packet type 4 | modifiers | FourCC 32 | body |
//! audio  | SoundFormat 4 = 9 | packet type 4 | modifiers | FourCC 32 | body |
//! a modifier, where the packet type is ModEx:
//!        | size - 1, 8 (255: another size - 1, 16, follows) | value | modifier 4 | packet type 4 |
//! where the packet type is Multitrack:
//!        | layout 4 | packet type 4 | FourCC 32, if all have one | { FourCC 32, if each has one | track 8 | size 24 | body } |
//! ```
//! The size stands only where a tag may have many tracks.

use bytes::{Buf, Bytes};
use shardcast_engine::codec::Kind;

/// One track's part of a tag: of the lowest track, where there are many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// FrameType of annex E.4.3.1; 0 for sound.
    pub frame_type: u8,
    /// See [`packet`]; never a modifier or Multitrack.
    pub kind: u8,
    /// To add to the tag's time, ns: less than a millisecond.
    pub nanoseconds: u32,
    pub fourcc: [u8; 4],
    /// 0 where the tag does not say.
    pub track: u8,
    /// Of a tag with many tracks, [`MOST_OTHERS`] at the most.
    pub others: Vec<Part>,
    pub body: Bytes,
}

/// The part of another track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub fourcc: [u8; 4],
    pub track: u8,
    pub body: Bytes,
}

/// Of one tag; more are left out.
const MOST_OTHERS: usize = 16;

/// VideoPacketType and AudioPacketType.
pub mod packet {
    pub const SEQUENCE_START: u8 = 0;
    pub const CODED_FRAMES: u8 = 1;
    /// Video: without composition time.
    pub const CODED_FRAMES_X: u8 = 3;
    /// Video.
    pub const METADATA: u8 = 4;
    /// Video.
    pub const MPEG2TS_SEQUENCE_START: u8 = 5;
    pub const MOD_EX: u8 = 7;
}

/// FrameType: a command to the player instead of a picture.
pub const COMMAND: u8 = 5;
/// SoundFormat of an ExAudioTagHeader.
pub const SOUND: u8 = 9;
/// VideoPacketModExType, AudioPacketModExType.
const TIMESTAMP_OFFSET_NANO: u8 = 0;
const MAX_NANOSECONDS: u32 = 999_999;
/// AvMultitrackType.
const ONE_TRACK: u8 = 0;
const MANY_TRACKS: u8 = 1;
const MANY_TRACKS_MANY_CODECS: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnhancedError {
    #[error("enhanced tag of {len} bytes wants {want} more at byte {at}")]
    Truncated { len: usize, at: usize, want: usize },
    #[error("enhanced tag with a time offset of {0} ns, at most {MAX_NANOSECONDS} allowed")]
    Offset(u32),
    #[error("enhanced tag with many tracks inside of one of many tracks")]
    NestedTracks,
    #[error("enhanced tag with many tracks in layout {0}, which is reserved")]
    Layout(u8),
}

/// Reads the body of a tag with an enhanced header. `None` where it is a command, which has no more to say.
pub fn read(kind: Kind, body: Bytes) -> Result<Option<Packet>, EnhancedError> {
    let video = kind == Kind::Video;
    let mut rest = Rest { body, at: 0 };
    let first = rest.byte()?;
    let frame_type = if video { first >> 4 & 7 } else { 0 };
    let mut kind = first & 15;
    let mut nanoseconds = 0;
    while kind == packet::MOD_EX {
        let mut size = usize::from(rest.byte()?) + 1;
        if size == 256 {
            size = usize::from(u16::from_be_bytes(rest.bytes()?)) + 1;
        }
        let value = rest.take(size)?;
        let next = rest.byte()?;
        // Modifiers that are not known change nothing that is.
        if next >> 4 == TIMESTAMP_OFFSET_NANO
            && let Some(&[a, b, c]) = value.first_chunk()
        {
            nanoseconds = u32::from_be_bytes([0, a, b, c]);
            if nanoseconds > MAX_NANOSECONDS {
                return Err(EnhancedError::Offset(nanoseconds));
            }
        }
        kind = next & 15;
    }
    if video && frame_type == COMMAND && kind != packet::METADATA {
        return Ok(None);
    }
    let multitrack = if video { 6 } else { 5 };
    let packet = |kind, Part { fourcc, track, body }, others| Packet {
        frame_type,
        kind,
        nanoseconds,
        fourcc,
        track,
        others,
        body,
    };
    if kind != multitrack {
        let part = Part { fourcc: rest.bytes()?, track: 0, body: rest.all() };
        return Ok(Some(packet(kind, part, Vec::new())));
    }
    let next = rest.byte()?;
    let (layout, kind) = (next >> 4, next & 15);
    if kind == multitrack {
        return Err(EnhancedError::NestedTracks);
    }
    match layout {
        ONE_TRACK => {
            let (fourcc, [track]) = (rest.bytes()?, rest.bytes()?);
            Ok(Some(packet(kind, Part { fourcc, track, body: rest.all() }, Vec::new())))
        }
        MANY_TRACKS | MANY_TRACKS_MANY_CODECS => {
            let shared = if layout == MANY_TRACKS { Some(rest.bytes()?) } else { None };
            let next = |rest: &mut Rest| -> Result<Part, EnhancedError> {
                let fourcc = shared.map_or_else(|| rest.bytes(), Ok)?;
                let [track, s1, s2, s3] = rest.bytes()?;
                Ok(Part { fourcc, track, body: rest.take(u32::from_be_bytes([0, s1, s2, s3]) as usize)? })
            };
            let (mut lowest, mut others) = (next(&mut rest)?, Vec::new());
            while !rest.is_empty() {
                let mut part = next(&mut rest)?;
                if part.track < lowest.track {
                    std::mem::swap(&mut lowest, &mut part);
                }
                if others.len() < MOST_OTHERS {
                    others.push(part);
                }
            }
            Ok(Some(packet(kind, lowest, others)))
        }
        layout => Err(EnhancedError::Layout(layout)),
    }
}

/// What of a body is still to be read.
struct Rest {
    body: Bytes,
    at: usize,
}

impl Rest {
    fn byte(&mut self) -> Result<u8, EnhancedError> {
        self.bytes().map(|[byte]| byte)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], EnhancedError> {
        let found = self.body.get(self.at..).and_then(|rest| rest.first_chunk()).copied();
        let found = found.ok_or(EnhancedError::Truncated { len: self.body.len(), at: self.at, want: N })?;
        self.at += N;
        Ok(found)
    }

    fn take(&mut self, want: usize) -> Result<Bytes, EnhancedError> {
        if self.body.len() - self.at < want {
            return Err(EnhancedError::Truncated { len: self.body.len(), at: self.at, want });
        }
        self.at += want;
        Ok(self.body.slice(self.at - want..self.at))
    }

    fn all(mut self) -> Bytes {
        self.body.advance(self.at);
        self.body
    }

    fn is_empty(&self) -> bool {
        self.at == self.body.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::{hex, mutations};

    fn video(body: &str) -> Result<Option<Packet>, EnhancedError> {
        read(Kind::Video, hex(body).into())
    }

    fn some(read: Result<Option<Packet>, EnhancedError>) -> Packet {
        read.unwrap().expect("a packet")
    }

    const MANY: &str = "96 11 61763031 01 000002 aabb 00 000001 cc 02 000000";
    const MANY_CODECS: &str = "95 21 4f707573 03 000001 aa 664c6143 02 000002 bbcc";

    #[test]
    fn plain_packets_are_of_track_0() {
        let packet = some(video("a1 61763031 aabb"));
        assert_eq!((packet.frame_type, packet.kind, &packet.fourcc), (2, packet::CODED_FRAMES, b"av01"));
        assert_eq!((packet.track, packet.others, &packet.body[..]), (0, vec![], &[0xaa, 0xbb][..]));
        let packet = some(read(Kind::Audio, hex("90 664c6143 01").into()));
        assert_eq!((packet.kind, &packet.fourcc, &packet.body[..]), (packet::SEQUENCE_START, b"fLaC", &[1][..]));
    }

    #[test]
    fn modifiers_are_read_whatever_their_length() {
        // 291 µs; one that nobody knows; one of 256 bytes, whose size takes two more bytes.
        let packet = some(video("97 02 047188 01 61763031 aa"));
        assert_eq!((packet.nanoseconds, packet.kind, &packet.body[..]), (291_208, 1, &[0xaa][..]));
        let packet = some(video("97 00 00 f7 02 000001 03 61763031 aa"));
        assert_eq!((packet.nanoseconds, packet.kind), (1, packet::CODED_FRAMES_X));
        let long = [hex("97 ff 00ff"), vec![9; 256], hex("f1 61763031 aa")].concat();
        assert_eq!(some(read(Kind::Video, long.into())).body[..], [0xaa]);
        assert_eq!(video("97 02 0f4240 01 61763031"), Err(EnhancedError::Offset(1_000_000)));
        assert_eq!(video("97 02 0000"), Err(EnhancedError::Truncated { len: 4, at: 2, want: 3 }));
    }

    #[test]
    fn commands_say_nothing_and_metadata_are_none() {
        assert_eq!(video("d0 00"), Ok(None));
        assert_eq!(some(video("d4 61763031 02")).kind, packet::METADATA);
    }

    #[test]
    fn lowest_of_many_tracks_is_given_and_some_of_the_others() {
        let packet = some(video(MANY));
        assert_eq!((&packet.fourcc, packet.track, &packet.body[..]), (b"av01", 0, &[0xcc][..]));
        let other = |fourcc: &[u8; 4], track, body: &[u8]| Part { fourcc: *fourcc, track, body: body.to_vec().into() };
        assert_eq!(packet.others, [other(b"av01", 1, &[0xaa, 0xbb]), other(b"av01", 2, &[])]);
        let packet = some(read(Kind::Audio, hex(MANY_CODECS).into()));
        assert_eq!((&packet.fourcc, packet.track), (b"fLaC", 2));
        assert_eq!(packet.others, [other(b"Opus", 3, &[0xaa])]);
        assert_eq!(packet.body[..], [0xbb, 0xcc]);
        let packet = some(video("96 01 61763031 07 aabb"));
        assert_eq!((packet.track, packet.others, &packet.body[..]), (7, vec![], &[0xaa, 0xbb][..]));
        let flood = [hex("96 11 61763031"), [9, 0, 0, 0].repeat(1_000)].concat();
        assert_eq!(some(read(Kind::Video, flood.into())).others.len(), MOST_OTHERS);
    }

    #[test]
    fn broken_tracks_are_refused() {
        assert_eq!(video("96 16 61763031 00"), Err(EnhancedError::NestedTracks));
        assert_eq!(video("96 31 61763031 00"), Err(EnhancedError::Layout(3)));
        assert_eq!(video("96 11 61763031"), Err(EnhancedError::Truncated { len: 6, at: 6, want: 4 }));
        let cut = EnhancedError::Truncated { len: 11, at: 10, want: 2 };
        assert_eq!(video("96 11 61763031 01 000002 aa"), Err(cut));
    }

    #[test]
    fn hostile_bytes_never_panic() {
        for golden in [MANY, MANY_CODECS, "97 02 047188 01 61763031 aa", "d4 61763031 02", "96 01 61763031 07 aabb"] {
            mutations(&hex(golden), 50_000, |bytes| {
                for kind in [Kind::Video, Kind::Audio] {
                    let body = Bytes::copy_from_slice(bytes);
                    if let Ok(Some(packet)) = read(kind, body.clone()) {
                        assert!(packet.body.len() <= body.len() && packet.nanoseconds <= MAX_NANOSECONDS);
                    }
                }
            });
        }
    }
}
