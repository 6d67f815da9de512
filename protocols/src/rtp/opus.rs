//! Opus over RTP (RFC 7587): one packet of the codec is one payload, nothing around it.

use bytes::Bytes;
use shardcast_engine::{
    codec::{Codec, Kind},
    frame::Frame,
    time::Timestamp,
    track::{Shape, Sound, Track},
};

/// The RTP clock of Opus, whatever rate it was recorded at (RFC 7587 §4.1).
pub const HZ: u32 = 48_000;

/// The longest Opus packet that is no stuffing: 48 frames of 1275 bytes (RFC 6716 §3.4).
pub const MAX_LEN: usize = 48 * 1275 + 2 + 48 * 2;

/// A track of one (1) or two channels. Its configuration is the identification header of RFC 7845 §5.1 for
/// channel mapping family 0, without a pre-skip: a live stream is joined in the middle.
///
/// ```text
/// | "OpusHead" 64 | version 8 = 1 | channels 8 | pre-skip 16 | rate 32 | gain 16 = 0 | mapping family 8 = 0 |
/// ```
/// Numbers are little-endian.
pub fn track(channels: u8) -> Track {
    let channels = channels.clamp(1, 2);
    let mut head = b"OpusHead\x01".to_vec();
    head.push(channels);
    head.extend_from_slice(&0u16.to_le_bytes());
    head.extend_from_slice(&HZ.to_le_bytes());
    head.extend_from_slice(&[0, 0, 0]);
    let sound = Sound { sample_rate: HZ, channels, profile: "" };
    Track { codec: Codec::Opus, config: head.into(), shape: Shape::Audio(sound) }
}

/// Channels of a packet, by its first byte (RFC 6716 §3.1). An encoder may change them from packet to packet.
///
/// ```text
/// | configuration 5 | stereo 1 | frame count code 2 |
/// ```
pub fn channels(payload: &[u8]) -> u8 {
    1 + u8::from(payload.first().is_some_and(|first| first & 4 != 0))
}

/// The frame that a payload is. `None` where it is empty or longer than any Opus packet.
pub fn frame(at: Timestamp, payload: Bytes) -> Option<Frame> {
    let fits = (1..=MAX_LEN).contains(&payload.len());
    fits.then(|| Frame { kind: Kind::Opus, dts: at, pts: at, keyframe: false, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_a_frame() {
        let at = Timestamp::from_ms(20);
        let payload = Bytes::from_static(&[0xfc, 1, 2]);
        let read = frame(at, payload.clone()).unwrap();
        assert_eq!((read.pts, read.payload), (at, payload));
        assert!(frame(at, Bytes::new()).is_none());
        assert!(frame(at, vec![0; MAX_LEN + 1].into()).is_none());
    }

    #[test]
    fn configuration_is_an_identification_header() {
        let head = track(2).config;
        assert_eq!(&head[..], b"OpusHead\x01\x02\0\0\x80\xbb\0\0\0\0\0");
    }
}
