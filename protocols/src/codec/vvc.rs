//! VVC: configuration records. NAL units are not looked into.

use super::bits::{Bits, BitsError};
use bytes::Bytes;
use shardcast_engine::{
    codec::Codec,
    track::{Picture, Shape, Track},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("VvcDecoderConfigurationRecord: {0}")]
pub struct VvcError(#[from] BitsError);

/// The track that a VvcDecoderConfigurationRecord (ISO 14496-15 §11.2.4.2) configures. Its picture's size is zero
/// where the record has no profile, tier and level.
///
/// ```text
/// | 11111 | LengthSizeMinusOne 2 | ptl present 1 |
/// | layer set 9 | sublayers 3 | constant rate 2 | chroma 2 | depth 3 | 11111 | 00 | constraint bytes 6 |
/// | profile 7 | tier 1 | level 8 | flags 2, constraints: so many bytes | sublayer levels present 8 |
/// | a level 8 for each bit | sub-profiles 8 | so many times 32 | width 16 | height 16 | …
/// ```
pub fn track(config: Bytes) -> Result<Track, VvcError> {
    let picture = picture(&config)?;
    Ok(Track { codec: Codec::Vvc, config, shape: Shape::Video(picture) })
}

fn picture(config: &[u8]) -> Result<Picture, BitsError> {
    let mut bits = Bits::new(config);
    bits.skip(7)?;
    if !bits.bit()? {
        return Ok(Picture::default());
    }
    bits.skip(9)?;
    let sublayers = bits.bits(3)?;
    bits.skip(2 + 2 + 3 + 5 + 2)?;
    let constraint_bytes = bits.bits(6)?;
    let profile = match bits.bits(7)? {
        1 => "Main10",
        2 => "Main10 Still Picture",
        33 => "Main10 4:4:4",
        _ => "Other",
    };
    bits.skip(1)?;
    let level = bits.bits(8)?;
    bits.skip(8 * constraint_bytes as usize)?;
    if sublayers > 1 {
        // Those that are not used are zero.
        let levels = bits.bits(8)?.count_ones();
        bits.skip(8 * levels as usize)?;
    }
    let sub_profiles = bits.bits(8)?;
    bits.skip(32 * sub_profiles as usize)?;
    let (width, height) = (bits.bits(16)?, bits.bits(16)?);
    // general_level_idc: sixteen times the level, three times its fraction.
    Ok(Picture { width, height, profile, level: format!("{}.{}", level / 16, level % 16 / 3) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::{hex, mutations};

    /// The start of the record that ffmpeg 9 makes for libvvenc: 64x48.
    const CONFIG: &str = "ff00655f010210800000004000300000028f00010093007900ab0210800000";

    #[test]
    fn reads_size_profile_and_level_of_vvenc() {
        let picture = Picture { width: 64, height: 48, profile: "Main10", level: "1.0".into() };
        assert_eq!(track(hex(CONFIG).into()).unwrap().shape, Shape::Video(picture));
        assert_eq!(track(hex("fe").into()).unwrap().shape, Shape::Video(Picture::default()));
        assert!(track(hex("ff00655f0102").into()).is_err());
    }

    #[test]
    fn hostile_bytes_never_panic() {
        mutations(&hex(CONFIG), 20_000, |bytes| drop(track(Bytes::copy_from_slice(bytes))));
    }
}
