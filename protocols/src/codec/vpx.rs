//! VP8 and VP9: configuration records, and what the header of a keyframe says.

use super::bits::{Bits, BitsError};
use bytes::Bytes;
use shardcast_engine::{
    codec::Codec,
    track::{Picture, Shape, Track},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VpxError {
    #[error("VP configuration of {len} bytes is shorter than {CONFIG_LEN}")]
    ConfigTruncated { len: usize },
    #[error("VP configuration has version {0}, not 1")]
    Version(u8),
}

/// Version and flags of the box, and the record without initialisation data.
const CONFIG_LEN: usize = 12;

/// The track of `codec`, VP8 or VP9, that a VPCodecConfigurationRecord configures (VP codecs in ISOBMFF, "VP Codec
/// Configuration Box"). Its picture's size is zero: keyframes tell that.
///
/// ```text
/// | version 8 = 1 | flags 24 | profile 8 | level 8 | depth 4 | chroma 3 | full range 1 | colours 24 |
/// | length of initialisation data 16 = 0 |
/// ```
pub fn track(codec: Codec, config: Bytes) -> Result<Track, VpxError> {
    let Some(&[version, _, _, _, profile, level, ..]) = config.first_chunk::<CONFIG_LEN>() else {
        return Err(VpxError::ConfigTruncated { len: config.len() });
    };
    if version != 1 {
        return Err(VpxError::Version(version));
    }
    let profile = match profile {
        0 => "Profile 0",
        1 => "Profile 1",
        2 => "Profile 2",
        3 => "Profile 3",
        _ => "Other",
    };
    // Ten times the level; 0 where unknown.
    let level = if level == 0 { String::new() } else { format!("{}.{}", level / 10, level % 10) };
    Ok(Track { codec, config, shape: Shape::Video(Picture { profile, level, ..Picture::default() }) })
}

/// The size that a keyframe states; `None` for all other frames.
pub fn keyframe_size(codec: Codec, frame: &[u8]) -> Option<(u32, u32)> {
    if codec == Codec::Vp8 { vp8_size(frame) } else { vp9_size(frame).ok()? }
}

/// RFC 6386 §9.1.
///
/// ```text
/// | size 19, version 3, show 1, not key 1 (little-endian) | 9d 01 2a | scale 2, width 14 | scale 2, height 14 |
/// ```
fn vp8_size(frame: &[u8]) -> Option<(u32, u32)> {
    let &[tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = frame.first_chunk()? else { return None };
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    (tag & 1 == 0).then(|| (side(w0, w1), side(h0, h1)))
}

/// uncompressed_header() up to the size (VP9 bitstream §6.2). A superframe starts with its first frame.
fn vp9_size(frame: &[u8]) -> Result<Option<(u32, u32)>, BitsError> {
    const SYNC: u32 = 0x49_83_42;
    const RGB: u32 = 7;
    let mut bits = Bits::new(frame);
    if bits.bits(2)? != 2 {
        return Ok(None);
    }
    let profile = bits.bits(1)? | bits.bits(1)? << 1;
    if profile == 3 {
        bits.skip(1)?;
    }
    // show_existing_frame; frame_type 0 is a keyframe.
    if bits.bit()? || bits.bit()? {
        return Ok(None);
    }
    bits.skip(2)?;
    if bits.bits(24)? != SYNC {
        return Ok(None);
    }
    if profile >= 2 {
        bits.skip(1)?;
    }
    let subsampling = profile & 1 == 1;
    if bits.bits(3)? == RGB {
        bits.skip(usize::from(subsampling))?;
    } else {
        bits.skip(if subsampling { 4 } else { 1 })?;
    }
    Ok(Some((bits.bits(16)? + 1, bits.bits(16)? + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::{hex, mutations};

    /// vpcC, and the start of a keyframe and of another frame of libvpx 1.15 (through ffmpeg 9): 64x48.
    const CONFIG: &str = "01000000000a820202020000";
    const KEYFRAME: &str = "824983420003f002f60638241c18";
    const INTER: &str = "860040929c48500000037000006bae";
    /// The first bytes of a keyframe of libvpx's VP8, 64x48.
    const VP8: &str = "1025009d012a40003000004708858588";

    #[test]
    fn keyframes_tell_their_size() {
        assert_eq!(keyframe_size(Codec::Vp9, &hex(KEYFRAME)), Some((64, 48)));
        assert_eq!(keyframe_size(Codec::Vp9, &hex(INTER)), None);
        assert_eq!(keyframe_size(Codec::Vp8, &hex(VP8)), Some((64, 48)));
        assert_eq!(keyframe_size(Codec::Vp8, &hex("1125009d012a40003000")), None);
    }

    #[test]
    fn reads_profile_and_level_of_ffmpeg() {
        let picture = Picture { profile: "Profile 0", level: "1.0".into(), ..Picture::default() };
        assert_eq!(track(Codec::Vp9, hex(CONFIG).into()).unwrap().shape, Shape::Video(picture));
    }

    #[test]
    fn refuses_other_versions_and_cut_records() {
        let refused = |config: &str| track(Codec::Vp8, hex(config).into()).unwrap_err();
        assert_eq!(refused("02000000000a820202020000"), VpxError::Version(2));
        assert_eq!(refused("01000000000a8202020200"), VpxError::ConfigTruncated { len: 11 });
    }

    #[test]
    fn hostile_bytes_never_panic() {
        for golden in [KEYFRAME, INTER, VP8] {
            mutations(&hex(golden), 20_000, |bytes| {
                let _ = (keyframe_size(Codec::Vp8, bytes), keyframe_size(Codec::Vp9, bytes));
            });
        }
        mutations(&hex(CONFIG), 20_000, |bytes| drop(track(Codec::Vp9, Bytes::copy_from_slice(bytes))));
    }
}
