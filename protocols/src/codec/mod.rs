//! Reading codec configuration records and the little of the bitstreams that a server must know.

use shardcast_engine::codec::Codec;

pub mod aac;
pub mod ac3;
pub mod av1;
pub mod avc;
pub mod bits;
pub mod flac;
pub mod hevc;
pub mod mp3;
pub mod opus;
pub mod vpx;
pub mod vvc;

#[cfg(any(test, feature = "fuzz"))]
pub mod hostile;

/// VideoFourCc and AudioFourCc of Enhanced RTMP; of sample entries in MP4 too, where MP3 is `mp4a`.
pub(crate) fn fourcc(codec: Codec) -> [u8; 4] {
    *match codec {
        Codec::H264 => b"avc1",
        Codec::Hevc => b"hvc1",
        Codec::Vvc => b"vvc1",
        Codec::Av1 => b"av01",
        Codec::Vp8 => b"vp08",
        Codec::Vp9 => b"vp09",
        Codec::Aac => b"mp4a",
        Codec::Mp3 => b".mp3",
        Codec::Flac => b"fLaC",
        Codec::Ac3 => b"ac-3",
        Codec::Eac3 => b"ec-3",
        Codec::Opus => b"Opus",
    }
}
