//! Opus: the identification header of a configuration. Packets are not looked into.

use bytes::Bytes;
use shardcast_engine::{
    codec::Codec,
    track::{Shape, Sound, Track},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpusError {
    #[error("Opus configuration of {len} bytes is no identification header")]
    NoHead { len: usize },
    #[error(
        "Opus of {channels} channels in mapping family {family} is not supported, only mono and stereo of family 0"
    )]
    Mapping { channels: u8, family: u8 },
}

/// The track that an identification header (RFC 7845 §5.1) configures; mono or stereo, as WebRTC takes them.
///
/// ```text
/// | "OpusHead" 64 | version 8 | channels 8 | pre-skip 16 | rate 32 | gain 16 | mapping family 8 | …
/// ```
pub fn track(head: Bytes) -> Result<Track, OpusError> {
    let (channels, family) = match head.first_chunk() {
        // Versions that differ in their upper half are other formats.
        Some(&[b'O', b'p', b'u', b's', b'H', b'e', b'a', b'd', 0..16, channels, _, _, _, _, _, _, _, _, family]) => {
            (channels, family)
        }
        _ => return Err(OpusError::NoHead { len: head.len() }),
    };
    if !matches!((channels, family), (1 | 2, 0)) {
        return Err(OpusError::Mapping { channels, family });
    }
    // Its clock is that of RTP, whatever rate it was recorded at.
    let sound = Sound { sample_rate: 48_000, channels, profile: "" };
    Ok(Track { codec: Codec::Opus, config: head, shape: Shape::Audio(sound) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec::hostile::{hex, mutations},
        rtp,
    };

    /// Of ffmpeg 9 and libopus: stereo, and 5.1 in mapping family 1.
    const STEREO: &str = "4f707573486561640102380180bb0000000000";
    const SURROUND: &str = "4f707573486561640106380180bb00000000010402000401020305";

    #[test]
    fn reads_ffmpegs_header_and_our_own() {
        let track_of = |head: &[u8]| track(Bytes::copy_from_slice(head));
        let stereo = track_of(&hex(STEREO)).unwrap();
        assert_eq!(stereo.shape, rtp::opus::track(2).shape);
        assert_eq!(track_of(&rtp::opus::track(1).config), Ok(rtp::opus::track(1)));
        assert_eq!(track_of(&hex(SURROUND)), Err(OpusError::Mapping { channels: 6, family: 1 }));
        assert_eq!(track_of(b"OpusHead"), Err(OpusError::NoHead { len: 8 }));
    }

    #[test]
    fn hostile_bytes_never_panic() {
        mutations(&hex(SURROUND), 20_000, |bytes| drop(track(Bytes::copy_from_slice(bytes))));
    }
}
