//! The codecs that travel as frames, each in one canonical form.

use std::fmt;

/// Canonical payload of a frame, by codec:
/// - `H264`, `Hevc`: NAL units, each behind a big-endian length whose size the configuration record
///   states; configuration: AVCDecoderConfigurationRecord (ISO 14496-15 §5.3.3.1) or
///   HEVCDecoderConfigurationRecord (§8.3.3.1).
/// - `Aac`: one raw access unit; configuration: AudioSpecificConfig (ISO 14496-3 §1.6.2.1).
/// - `Mp3`: one MPEG audio frame; no configuration.
/// - `Opus`: one Opus packet (RFC 6716 §3); configuration: the identification header "OpusHead"
///   (RFC 7845 §5.1), also where the wire has none: its clock is always 48 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    H264,
    Hevc,
    Aac,
    Mp3,
    Opus,
}

/// What a track shows or sounds: a lane of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Video,
    /// Sound as most formats carry it.
    Audio,
    /// The same sound as Opus, for WebRTC: brought so, or made from `Audio`.
    Opus,
}

impl Codec {
    pub fn kind(self) -> Kind {
        match self {
            Codec::H264 | Codec::Hevc => Kind::Video,
            Codec::Aac | Codec::Mp3 => Kind::Audio,
            Codec::Opus => Kind::Opus,
        }
    }
}

impl fmt::Display for Codec {
    /// The name that SRS's API uses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::H264 => "H264",
            Codec::Hevc => "HEVC",
            Codec::Aac => "AAC",
            Codec::Mp3 => "MP3",
            Codec::Opus => "Opus",
        })
    }
}
