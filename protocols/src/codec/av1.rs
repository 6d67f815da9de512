//! AV1: configuration records, open bitstream units, and the size of the picture. Frames are not looked into.

use super::bits::{Bits, BitsError};
use bytes::Bytes;
use shardcast_engine::{
    codec::Codec,
    track::{Picture, Shape, Track},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Av1Error {
    #[error("AV1 configuration of {len} bytes is shorter than {CONFIG_LEN}")]
    ConfigTruncated { len: usize },
    #[error("AV1 configuration starts with {0:#04x}, not the marker and version 0x81")]
    Version(u8),
    #[error("AV1 video descriptor has tag and length {0:02x?}, not [80, 04]")]
    Descriptor([u8; 2]),
}

/// The record without the OBUs behind it.
const CONFIG_LEN: usize = 4;
/// obu_type, AV1 §6.2.2.
const SEQUENCE_HEADER: u8 = 1;

/// The track that an AV1CodecConfigurationRecord configures (AV1 in ISOBMFF §2.3.3). Its picture's size is zero
/// where no sequence header follows.
///
/// ```text
/// | marker 1 | version 7 = 1 | profile 3 | level 5 | tier 1 | depth 2 | monochrome 1 | subsampling 4 |
/// | 000 | delay present 1 | delay 4 | OBUs |
/// ```
pub fn track(config: Bytes) -> Result<Track, Av1Error> {
    let Some(&[version, flags, _, _]) = config.first_chunk::<CONFIG_LEN>() else {
        return Err(Av1Error::ConfigTruncated { len: config.len() });
    };
    if version != 0x81 {
        return Err(Av1Error::Version(version));
    }
    let (width, height) = size(config.get(CONFIG_LEN..).unwrap_or_default()).unwrap_or_default();
    let profile = match flags >> 5 {
        0 => "Main",
        1 => "High",
        2 => "Professional",
        _ => "Other",
    };
    // seq_level_idx, AV1 annex A.3; 31 is no level.
    let level = match flags & 31 {
        31 => String::new(),
        index => format!("{}.{}", 2 + index / 4, index % 4),
    };
    Ok(Track { codec: Codec::Av1, config, shape: Shape::Video(Picture { width, height, profile, level }) })
}

/// The configuration record that an AV1 video descriptor (AV1 in MPEG-TS §2.1) stands for: it has the same fields
/// behind its tag and length, and two bits of HDR where the record has none.
pub fn config_of_descriptor(descriptor: &[u8]) -> Result<Bytes, Av1Error> {
    match *descriptor {
        [0x80, 4, version, flags, format, delay, ..] => {
            Ok(Bytes::copy_from_slice(&[version, flags, format, delay & 0x1f]))
        }
        [tag, len, ..] => Err(Av1Error::Descriptor([tag, len])),
        _ => Err(Av1Error::ConfigTruncated { len: descriptor.len() }),
    }
}

/// The size that the first sequence header among `obus` states.
pub fn size(obus: &[u8]) -> Option<(u32, u32)> {
    let (_, header) = units(obus).find(|(kind, _)| *kind == SEQUENCE_HEADER)?;
    sequence_size(header).ok()
}

/// The OBUs of the low-overhead format (AV1 §5.3): type and payload, up to where it is broken.
///
/// ```text
/// | 0 | type 4 | extension 1 | has size 1 | reserved 1 | extension 8, if any | size leb128, if any | payload |
/// ```
fn units(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&first, mut after) = rest.split_first()?;
        if first & 0x80 != 0 {
            return None;
        }
        if first & 4 != 0 {
            after = after.get(1..)?;
        }
        let len = if first & 2 != 0 { leb128(&mut after)? } else { after.len() };
        let (payload, after) = after.split_at_checked(len)?;
        rest = after;
        Some((first >> 3 & 15, payload))
    })
}

/// leb128(), AV1 §4.10.5: eight bytes of seven bits at most.
fn leb128(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0u64;
    for shift in 0..8 {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * shift);
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

/// sequence_header_obu up to the size of its largest frame (AV1 §5.5.1).
fn sequence_size(header: &[u8]) -> Result<(u32, u32), BitsError> {
    let mut bits = Bits::new(header);
    bits.skip(3 + 1)?; // profile, still_picture
    if bits.bit()? {
        bits.skip(5)?; // reduced_still_picture_header: a level alone
    } else {
        let mut decoder_model = None;
        if bits.bit()? {
            bits.skip(32 + 32)?;
            if bits.bit()? {
                bits.ue()?; // num_ticks_per_picture_minus_1, uvlc: the same code
            }
            if bits.bit()? {
                decoder_model = Some(bits.bits(5)? as usize + 1);
                bits.skip(32 + 5 + 5)?;
            }
        }
        let initial_delay = bits.bit()?;
        for _ in 0..=bits.bits(5)? {
            bits.skip(12)?;
            if bits.bits(5)? > 7 {
                bits.skip(1)?;
            }
            if let Some(delay_len) = decoder_model
                && bits.bit()?
            {
                bits.skip(2 * delay_len + 1)?;
            }
            if initial_delay && bits.bit()? {
                bits.skip(4)?;
            }
        }
    }
    let (width_len, height_len) = (bits.bits(4)? + 1, bits.bits(4)? + 1);
    Ok((bits.bits(width_len)? + 1, bits.bits(height_len)? + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::{hex, mutations};

    /// av1C and the start of a keyframe of SVT-AV1 4.2 (through ffmpeg 9): 64x48 Main.
    const CONFIG: &str = "81000c00 0a0b02000005157fbc02f80040";
    const KEYFRAME: &str = "1200 0a0b02000005157fbc4af90040 3204 10009680";

    fn picture(config: &[u8]) -> Picture {
        match track(Bytes::copy_from_slice(config)).unwrap().shape {
            Shape::Video(picture) => picture,
            Shape::Audio(_) => panic!("no picture"),
        }
    }

    #[test]
    fn reads_size_profile_and_level_of_svt_av1() {
        let expected = Picture { width: 64, height: 48, profile: "Main", level: "2.0".into() };
        assert_eq!(picture(&hex(CONFIG)), expected);
        assert_eq!(size(&hex(KEYFRAME)), Some((64, 48)));
        assert_eq!(size(&hex("1200 3204 10009680")), None);
    }

    #[test]
    fn descriptor_of_a_transport_stream_is_a_record_without_a_sequence_header() {
        let config = config_of_descriptor(&hex("8004 81000cc0")).unwrap();
        assert_eq!(config[..], hex("81000c00"));
        assert_eq!(picture(&config).width, 0);
        assert_eq!(config_of_descriptor(&hex("0504 41433031")), Err(Av1Error::Descriptor([5, 4])));
    }

    #[test]
    fn refuses_other_versions_and_cut_records() {
        assert_eq!(track(hex("01000c00").into()), Err(Av1Error::Version(1)));
        assert_eq!(track(hex("81000c").into()), Err(Av1Error::ConfigTruncated { len: 3 }));
    }

    #[test]
    fn hostile_bytes_never_panic() {
        mutations(&hex(CONFIG), 20_000, |bytes| drop(track(Bytes::copy_from_slice(bytes))));
        mutations(&hex(KEYFRAME), 20_000, |bytes| {
            let _ = size(bytes);
        });
    }
}
