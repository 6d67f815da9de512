//! Writes tag bodies: what follows a tag's header in FLV, and the payload of RTMP's audio, video and
//! data messages.

use super::enhanced::{self, packet};
use crate::{amf, codec::fourcc};
use shardcast_engine::{
    codec::{Codec, Kind},
    frame::Frame,
    metadata::Value,
    prologue::Prologue,
    track::{Shape, Track},
};
use std::ops::Deref;

/// The bytes before a frame's payload, at most 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyHeader {
    bytes: [u8; 8],
    len: u8,
}

impl BodyHeader {
    fn new<const N: usize>(header: [u8; N]) -> Self {
        const { assert!(N <= 8) };
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(&header);
        Self { bytes, len: N as u8 }
    }
}

impl Deref for BodyHeader {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or_default()
    }
}

/// Appends the body of `frame`; nothing where `prologue` has no track for it.
pub fn tag_body(prologue: &Prologue, frame: &Frame, out: &mut Vec<u8>) {
    if let Some(header) = body_header(prologue, frame) {
        out.extend_from_slice(&header);
        out.extend_from_slice(&frame.payload);
    }
}

/// How many bytes [`tag_body`] appends.
pub fn tag_body_len(prologue: &Prologue, frame: &Frame) -> usize {
    body_header(prologue, frame).map_or(0, |header| header.len() + frame.payload.len())
}

/// What precedes the payload of `frame` in its body: annex E.4.2.1 and E.4.3.1 for H.264, AAC and MP3, else the
/// headers of Enhanced RTMP v2. `None` where `prologue` has no track for the frame.
pub fn body_header(prologue: &Prologue, frame: &Frame) -> Option<BodyHeader> {
    let track = prologue.track(frame.kind)?;
    let frame_type = if frame.keyframe { 0x10 } else { 0x20 };
    let composition_ms = (frame.pts.as_ms() - frame.dts.as_ms()).clamp(-0x80_0000, 0x7f_ffff) as i32;
    let [_, c1, c2, c3] = composition_ms.to_be_bytes();
    Some(match (track.codec, fourcc(track.codec)) {
        (Codec::H264, _) => BodyHeader::new([frame_type | 7, 1, c1, c2, c3]),
        (Codec::Aac, _) => BodyHeader::new([AAC, 1]),
        (Codec::Mp3, _) => BodyHeader::new([mp3_flags(track)]),
        (Codec::Hevc | Codec::Vvc, [a, b, c, d]) if composition_ms != 0 => {
            BodyHeader::new([EX_VIDEO | frame_type | packet::CODED_FRAMES, a, b, c, d, c1, c2, c3])
        }
        (Codec::Hevc | Codec::Vvc, [a, b, c, d]) => {
            BodyHeader::new([EX_VIDEO | frame_type | packet::CODED_FRAMES_X, a, b, c, d])
        }
        (Codec::Av1 | Codec::Vp8 | Codec::Vp9, [a, b, c, d]) => {
            BodyHeader::new([EX_VIDEO | frame_type | packet::CODED_FRAMES, a, b, c, d])
        }
        (Codec::Flac | Codec::Ac3 | Codec::Eac3 | Codec::Opus, [a, b, c, d]) => {
            BodyHeader::new([EX_AUDIO | packet::CODED_FRAMES, a, b, c, d])
        }
    })
}

/// Appends the body that configures `track`. False, and nothing, for codecs that need none.
pub fn sequence_header_body(track: &Track, out: &mut Vec<u8>) -> bool {
    match track.codec {
        Codec::H264 => out.extend_from_slice(&[0x17, 0, 0, 0, 0]),
        Codec::Aac => out.extend_from_slice(&[AAC, 0]),
        Codec::Hevc | Codec::Vvc | Codec::Av1 | Codec::Vp8 | Codec::Vp9 => {
            out.push(EX_VIDEO | 0x10 | packet::SEQUENCE_START);
            out.extend_from_slice(&fourcc(track.codec));
        }
        Codec::Flac | Codec::Opus => {
            out.push(EX_AUDIO | packet::SEQUENCE_START);
            out.extend_from_slice(&fourcc(track.codec));
        }
        Codec::Mp3 | Codec::Ac3 | Codec::Eac3 => return false,
    }
    out.extend_from_slice(&track.config);
    true
}

/// Appends the metadata packet with the colours of the picture, where there are such and its codec has an enhanced
/// header; whether it did.
pub fn colour_body(prologue: &Prologue, out: &mut Vec<u8>) -> bool {
    let Some((track, colour)) = prologue.video.as_ref().zip(prologue.colour.as_ref()) else { return false };
    if track.codec == Codec::H264 {
        return false;
    }
    out.push(EX_VIDEO | enhanced::COMMAND << 4 | packet::METADATA);
    out.extend_from_slice(&fourcc(track.codec));
    out.extend_from_slice(colour);
    true
}

/// Appends "onMetaData" and the stream's metadata (annex E.5), as its tracks correct it.
pub fn metadata_body(prologue: &Prologue, out: &mut Vec<u8>) {
    let mut metadata = prologue.corrected_metadata();
    if let Some(track) = &prologue.video {
        metadata.set("videocodecid", Value::Number(codec_id(track.codec)));
    }
    if let Some(track) = prologue.sound() {
        metadata.set("audiocodecid", Value::Number(codec_id(track.codec)));
    }
    metadata.set("server", Value::Text(SERVER.into()));
    amf::Value::from("onMetaData").encode(out);
    amf::encode_metadata(&metadata, out);
}

const SERVER: &str = concat!("Shardcast/", env!("CARGO_PKG_VERSION"));

/// SoundFormat 10; annex E.4.2.1 fixes the other flags for AAC: 44 kHz, 16 bit, stereo.
const AAC: u8 = 0xaf;

/// The bit of an ExVideoTagHeader, and the SoundFormat of an ExAudioTagHeader.
const EX_VIDEO: u8 = 0x80;
const EX_AUDIO: u8 = enhanced::SOUND << 4;

/// The codecs that tags carry.
pub(crate) const VIDEO: [Codec; 6] = [Codec::H264, Codec::Hevc, Codec::Vvc, Codec::Av1, Codec::Vp8, Codec::Vp9];
pub(crate) const AUDIO: [Codec; 6] = [Codec::Aac, Codec::Mp3, Codec::Flac, Codec::Ac3, Codec::Eac3, Codec::Opus];

/// The one of `codecs` that `name` names.
pub(super) fn named(codecs: [Codec; 6], name: [u8; 4]) -> Option<Codec> {
    codecs.into_iter().find(|codec| fourcc(*codec) == name)
}

/// As onMetaData tells it: the number of annex E, else that of the FourCC ("Enhancing onMetaData").
fn codec_id(codec: Codec) -> f64 {
    match codec {
        Codec::H264 => 7.0,
        Codec::Aac => 10.0,
        Codec::Mp3 => 2.0,
        other => u32::from_be_bytes(fourcc(other)).into(),
    }
}

/// | SoundFormat 4 | SoundRate 2 | SoundSize 1 | SoundType 1 |
fn mp3_flags(track: &Track) -> u8 {
    let Shape::Audio(sound) = &track.shape else { return 0x2f };
    let stereo = u8::from(sound.channels > 1);
    match sound.sample_rate {
        8_000 => 0xe2 | stereo,
        11_025 => 0x26 | stereo,
        22_050 => 0x2a | stereo,
        // Rates that the field cannot tell: decoders read the frame's own header.
        _ => 0x2e | stereo,
    }
}

/// The kind of the tag that carries a frame.
pub(super) fn tag_kind(kind: Kind) -> super::TagKind {
    match kind {
        Kind::Video => super::TagKind::Video,
        Kind::Audio | Kind::Opus => super::TagKind::Audio,
    }
}
