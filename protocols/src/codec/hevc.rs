//! HEVC: configuration records and the size of the picture. Slices are not looked into.

use super::bits::{Bits, BitsError, rbsp};
use bytes::Bytes;
use shardcast_engine::{
    codec::Codec,
    track::{Picture, Shape, Track},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HevcError {
    #[error("HEVC configuration of {len} bytes is shorter than {need}")]
    ConfigTruncated { len: usize, need: usize },
    #[error("HEVC NAL units of this track have lengths of {0} bytes, not 1, 2 or 4")]
    NalLengthSize(usize),
}

/// The track that an HEVCDecoderConfigurationRecord configures. Its picture's size is zero where no
/// sequence parameter set can be read.
pub fn track(config: Bytes) -> Result<Track, HevcError> {
    length_size(&config)?;
    let (width, height) = sps(&config).and_then(|sps| Sps::parse(sps).ok()?.size).unwrap_or_default();
    let profile = profile_name(config.get(1).copied().unwrap_or(0));
    let level = level_name(config.get(12).copied().unwrap_or(0));
    let picture = Picture { width, height, profile, level };
    Ok(Track { codec: Codec::Hevc, config, shape: Shape::Video(picture) })
}

/// How many bytes the length before each NAL unit has (ISO 14496-15 §8.3.3.1).
pub fn length_size(config: &[u8]) -> Result<usize, HevcError> {
    let short = HevcError::ConfigTruncated { len: config.len(), need: CONFIG_LEN };
    let (fixed, _) = config.split_first_chunk::<CONFIG_LEN>().ok_or(short)?;
    match usize::from(fixed[21] & 3) + 1 {
        3 => Err(HevcError::NalLengthSize(3)),
        size => Ok(size),
    }
}

/// The record up to and with its count of arrays.
const CONFIG_LEN: usize = 23;
/// nal_unit_type, ITU-T H.265 table 7-1.
pub const VPS: u8 = 32;
pub const SPS: u8 = 33;
pub const PPS: u8 = 34;
pub const AUD: u8 = 35;
/// Decoding may start at a picture of these (IRAP, §7.4.2.2).
pub const RANDOM_ACCESS: std::ops::RangeInclusive<u8> = 16..=23;
/// Longer sets say nothing more that is read here.
const MAX_SPS_LEN: usize = 512;

fn sps(config: &[u8]) -> Option<&[u8]> {
    parameter_sets(config).find(|nal| nal_type(nal) == Some(SPS))
}

/// nal_unit_type of a whole NAL unit (ITU-T H.265 §7.3.1.2).
pub fn nal_type(nal: &[u8]) -> Option<u8> {
    nal.first().map(|first| first >> 1 & 63)
}

/// The NAL units of the record's arrays, up to where it is broken.
///
/// ```text
/// … | array count 8 | { 1 | 0 | NAL type 6 | count 16 | { length 16, NAL } } |
/// ```
pub fn parameter_sets(config: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = config.get(CONFIG_LEN..).unwrap_or_default();
    let mut in_array = 0u16;
    std::iter::from_fn(move || {
        while in_array == 0 {
            let (&[_, c1, c2], after) = rest.split_first_chunk()?;
            in_array = u16::from_be_bytes([c1, c2]);
            rest = after;
        }
        in_array -= 1;
        let (&length, after) = rest.split_first_chunk()?;
        let (nal, after) = after.split_at_checked(u16::from_be_bytes(length).into())?;
        rest = after;
        Some(nal)
    })
}

/// The HEVCDecoderConfigurationRecord (ISO 14496-15 §8.3.3.1) of one set of each kind (whole NAL units),
/// with 4-byte lengths. Empty where `sps` cannot be read, or one is longer than 65 535 bytes.
pub fn config_record(vps: &[u8], sps: &[u8], pps: &[u8]) -> Bytes {
    let Ok(parsed) = Sps::parse(sps) else { return Bytes::new() };
    let general: Vec<u8> = rbsp(sps.get(2..MAX_SPS_LEN.min(sps.len())).unwrap_or_default()).skip(1).take(12).collect();
    let mut record = vec![1];
    record.extend_from_slice(&general);
    record.extend_from_slice(&[
        0xf0,
        0,
        0xfc, // parallelismType unknown
        0xfc | (parsed.chroma_format & 3) as u8,
        0xf8 | (parsed.luma_depth & 7) as u8,
        0xf8 | (parsed.chroma_depth & 7) as u8,
        0,
        0,
        (parsed.sub_layers as u8 + 1) << 3 | u8::from(parsed.nested) << 2 | 3,
        3,
    ]);
    for (kind, nal) in [(VPS, vps), (SPS, sps), (PPS, pps)] {
        let Ok(len) = u16::try_from(nal.len()) else { return Bytes::new() };
        record.extend_from_slice(&[0x80 | kind, 0, 1]);
        record.extend_from_slice(&len.to_be_bytes());
        record.extend_from_slice(nal);
    }
    record.into()
}

/// The part of seq_parameter_set_rbsp (ITU-T H.265 §7.3.2.2.1) up to the bit depths.
struct Sps {
    sub_layers: u32,
    nested: bool,
    chroma_format: u32,
    /// Bits beyond 8.
    luma_depth: u32,
    chroma_depth: u32,
    /// After the conformance window; `None` where they make no sense.
    size: Option<(u32, u32)>,
}

impl Sps {
    fn parse(sps: &[u8]) -> Result<Self, BitsError> {
        let mut bits = Bits::of_rbsp(sps.get(2..MAX_SPS_LEN.min(sps.len())).unwrap_or_default());
        bits.skip(4)?; // sps_video_parameter_set_id
        let sub_layers = bits.bits(3)?;
        let nested = bits.bit()?;
        skip_profile_tier_level(&mut bits, sub_layers)?;
        bits.ue()?; // sps_seq_parameter_set_id
        let chroma_format = bits.ue()?;
        let planes = chroma_format == 3 && bits.bit()?;
        let (width, height) = (bits.ue()?, bits.ue()?);
        let mut size = Some((width, height));
        if bits.bit()? {
            let (left, right, top, bottom) = (bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?);
            let (unit_x, unit_y) = match chroma_format {
                1 if !planes => (2, 2),
                2 if !planes => (2, 1),
                _ => (1, 1),
            };
            let cropped = |len: u32, a: u32, b: u32, unit: u32| len.checked_sub(a.checked_add(b)?.checked_mul(unit)?);
            size = cropped(width, left, right, unit_x).zip(cropped(height, top, bottom, unit_y));
        }
        let (luma_depth, chroma_depth) = (bits.ue()?, bits.ue()?);
        Ok(Self { sub_layers, nested, chroma_format, luma_depth, chroma_depth, size })
    }
}

/// ITU-T H.265 §7.3.3
fn skip_profile_tier_level(bits: &mut Bits, sub_layers: u32) -> Result<(), BitsError> {
    bits.skip(88 + 8)?;
    let mut sub_layer_bits = 0;
    for _ in 0..sub_layers {
        sub_layer_bits += if bits.bit()? { 88 } else { 0 };
        sub_layer_bits += if bits.bit()? { 8 } else { 0 };
    }
    if sub_layers > 0 {
        bits.skip(2 * 8usize.saturating_sub(sub_layers as usize))?;
    }
    bits.skip(sub_layer_bits)
}

/// general_profile_idc, ITU-T H.265 annex A.3.
fn profile_name(profile: u8) -> &'static str {
    match profile & 31 {
        1 => "Main",
        2 => "Main10",
        3 => "Main Still Picture",
        4 => "Rext",
        _ => "Other",
    }
}

/// general_level_idc: thirty times the level.
fn level_name(level: u8) -> String {
    match (level / 30, level % 30 / 3) {
        (major, 0) => major.to_string(),
        (major, minor) => format!("{major}.{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::{hex, mutations};

    /// hvcC of x265 3.5 (through ffmpeg 5.1) without its SEI array: 322x182 Main, 1920x1080 Main10.
    const MAIN: &str = "0101600000009000000000003cf000fcfdf8f800000f03
        200001001840010c01ffff01600000030090000003000003003c959809
        210001002a42010101600000030090000003000003003ca00a480b9c9596566924caf0168080000003008000000c84
        22000100074401c172b46240";
    const MAIN10: &str = "01022000000090000000000078f000fcfdfafa00000f03
        200001001840010c01ffff022000000300900000030000030078959409
        210001002d420101022000000300900000030000030078a003c0801107cad965654a4c2f016808000003000800000300c840
        22000100064401c073c189";

    fn picture(config: &str) -> Picture {
        match track(hex(config).into()).unwrap().shape {
            Shape::Video(picture) => picture,
            Shape::Audio(_) => panic!("no picture"),
        }
    }

    #[test]
    fn reads_size_profile_and_level_of_x265() {
        let main = Picture { width: 322, height: 182, profile: "Main", level: "2".into() };
        assert_eq!(picture(MAIN), main);
        let main10 = Picture { width: 1920, height: 1080, profile: "Main10", level: "4".into() };
        assert_eq!(picture(MAIN10), main10);
    }

    #[test]
    fn record_is_made_of_its_sets() {
        for golden in [MAIN, MAIN10] {
            let golden = hex(golden);
            let sets: Vec<_> = parameter_sets(&golden).collect();
            let [vps, sps, pps] = sets[..] else { panic!("{} sets", sets.len()) };
            let record = config_record(vps, sps, pps);
            assert_eq!(parameter_sets(&record).collect::<Vec<_>>(), sets);
            assert_eq!(record[..CONFIG_LEN], golden[..CONFIG_LEN]);
            for len in 0..sps.len() {
                let _ = config_record(vps, &sps[..len], pps);
            }
        }
    }

    #[test]
    fn cut_record_still_tells_what_it_holds() {
        let golden = hex(MAIN);
        for len in 0..CONFIG_LEN {
            let config = Bytes::copy_from_slice(&golden[..len]);
            assert_eq!(track(config), Err(HevcError::ConfigTruncated { len, need: CONFIG_LEN }));
        }
        let mut config = golden[..CONFIG_LEN].to_vec();
        assert!(track(config.clone().into()).is_ok());
        config[21] = 0x0e;
        assert_eq!(track(config.into()), Err(HevcError::NalLengthSize(3)));
    }

    #[test]
    fn hostile_bytes_never_panic() {
        for config in [MAIN, MAIN10] {
            mutations(&hex(config), 20_000, |bytes| drop(track(Bytes::copy_from_slice(bytes))));
        }
    }
}
