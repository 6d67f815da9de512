//! The codecs that travel as frames, each in one canonical form.

use std::fmt;

/// Canonical payload of a frame, by codec:
/// - `H264`, `Hevc`, `Vvc`: NAL units, each behind a big-endian length whose size the configuration record
///   states; configuration: AVCDecoderConfigurationRecord (ISO 14496-15 §5.3.3.1),
///   HEVCDecoderConfigurationRecord (§8.3.3.1) or VvcDecoderConfigurationRecord (§11.2.4.2).
/// - `Av1`: one temporal unit in the low-overhead format (AV1 §5.2), perhaps with its delimiter; configuration:
///   AV1CodecConfigurationRecord (AV1 in ISOBMFF §2.3).
/// - `Vp8`, `Vp9`: one frame or superframe; configuration: VPCodecConfigurationRecord (VP codecs in ISOBMFF)
///   behind the version and flags of its box.
/// - `Aac`: one raw access unit; configuration: AudioSpecificConfig (ISO 14496-3 §1.6.2.1).
/// - `Mp3`: one MPEG audio frame; no configuration.
/// - `Flac`: one frame (RFC 9639 §9); configuration: the streaminfo block (§8.2), bare or as a file has it, behind
///   "fLaC" and a block header.
/// - `Ac3`, `Eac3`: one or more syncframes (ETSI TS 102 366 §4.3, §E.1.2); configuration: none on the wire, here the
///   content of AC3SpecificBox or EC3SpecificBox (annex F), made from a frame.
/// - `Opus`: one Opus packet (RFC 6716 §3); configuration: the identification header "OpusHead"
///   (RFC 7845 §5.1), also where the wire has none: its clock is always 48 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    H264,
    Hevc,
    Vvc,
    Av1,
    Vp8,
    Vp9,
    Aac,
    Mp3,
    Flac,
    Ac3,
    Eac3,
    Opus,
}

/// What a track shows or sounds: a lane of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Video,
    /// Sound as most formats carry it.
    Audio,
    /// Sound as Opus: for WebRTC beside `Audio`, for all where there is no `Audio`.
    Opus,
}

impl Codec {
    pub fn kind(self) -> Kind {
        match self {
            Codec::H264 | Codec::Hevc | Codec::Vvc | Codec::Av1 | Codec::Vp8 | Codec::Vp9 => Kind::Video,
            Codec::Aac | Codec::Mp3 | Codec::Flac | Codec::Ac3 | Codec::Eac3 => Kind::Audio,
            Codec::Opus => Kind::Opus,
        }
    }
}

impl fmt::Display for Codec {
    /// The name that SRS's API uses, or would.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::H264 => "H264",
            Codec::Hevc => "HEVC",
            Codec::Vvc => "VVC",
            Codec::Av1 => "AV1",
            Codec::Vp8 => "VP8",
            Codec::Vp9 => "VP9",
            Codec::Aac => "AAC",
            Codec::Mp3 => "MP3",
            Codec::Flac => "FLAC",
            Codec::Ac3 => "AC3",
            Codec::Eac3 => "EAC3",
            Codec::Opus => "Opus",
        })
    }
}
