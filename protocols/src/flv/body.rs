//! Writes tag bodies: what follows a tag's header in FLV, and the payload of RTMP's audio, video and
//! data messages.

use crate::amf;
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

/// What precedes the payload of `frame` in its body: annex E.4.2.1 and E.4.3.1, and for HEVC the
/// ExVideoTagHeader of Enhanced RTMP v1. `None` where `prologue` has no track for the frame, and for Opus.
pub fn body_header(prologue: &Prologue, frame: &Frame) -> Option<BodyHeader> {
    let track = prologue.track(frame.kind)?;
    let frame_type = if frame.keyframe { 0x10 } else { 0x20 };
    let composition_ms = (frame.pts.as_ms() - frame.dts.as_ms()).clamp(-0x80_0000, 0x7f_ffff) as i32;
    let [_, c1, c2, c3] = composition_ms.to_be_bytes();
    Some(match track.codec {
        Codec::H264 => BodyHeader::new([frame_type | 7, 1, c1, c2, c3]),
        Codec::Hevc if composition_ms == 0 => {
            BodyHeader::new([0x80 | frame_type | CODED_FRAMES_X, b'h', b'v', b'c', b'1'])
        }
        Codec::Hevc => BodyHeader::new([0x80 | frame_type | CODED_FRAMES, b'h', b'v', b'c', b'1', c1, c2, c3]),
        Codec::Aac => BodyHeader::new([AAC, 1]),
        Codec::Mp3 => BodyHeader::new([mp3_flags(track)]),
        Codec::Opus => return None,
    })
}

/// Appends the body that configures `track`. False, and nothing, for MP3, which needs none, and for Opus.
pub fn sequence_header_body(track: &Track, out: &mut Vec<u8>) -> bool {
    match track.codec {
        Codec::H264 => out.extend_from_slice(&[0x17, 0, 0, 0, 0]),
        Codec::Hevc => out.extend_from_slice(b"\x90hvc1"),
        Codec::Aac => out.extend_from_slice(&[AAC, 0]),
        Codec::Mp3 | Codec::Opus => return false,
    }
    out.extend_from_slice(&track.config);
    true
}

/// Appends "onMetaData" and the stream's metadata (annex E.5), as its tracks correct it.
pub fn metadata_body(prologue: &Prologue, out: &mut Vec<u8>) {
    let mut metadata = prologue.corrected_metadata();
    if let Some(id) = prologue.video.as_ref().and_then(|track| codec_id(track.codec)) {
        metadata.set("videocodecid", Value::Number(id));
    }
    if let Some(id) = prologue.audio.as_ref().and_then(|track| codec_id(track.codec)) {
        metadata.set("audiocodecid", Value::Number(id));
    }
    metadata.set("server", Value::Text(SERVER.into()));
    amf::Value::from("onMetaData").encode(out);
    amf::encode_metadata(&metadata, out);
}

const SERVER: &str = concat!("Shardcast/", env!("CARGO_PKG_VERSION"));

/// SoundFormat 10; annex E.4.2.1 fixes the other flags for AAC: 44 kHz, 16 bit, stereo.
const AAC: u8 = 0xaf;

/// PacketType of the ExVideoTagHeader.
const CODED_FRAMES: u8 = 1;
const CODED_FRAMES_X: u8 = 3;

/// Whether tags carry it; frames of other codecs are left out.
pub(super) fn carries(track: &Track) -> bool {
    codec_id(track.codec).is_some()
}

fn codec_id(codec: Codec) -> Option<f64> {
    Some(match codec {
        Codec::H264 => 7.0,
        // Enhanced RTMP v1: a FourCC's number.
        Codec::Hevc => u32::from_be_bytes(*b"hvc1").into(),
        Codec::Aac => 10.0,
        Codec::Mp3 => 2.0,
        Codec::Opus => return None,
    })
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
