//! H.264: configuration records, sequence parameter sets, NAL units and where decoding may start.

use super::bits::{Bits, BitsError, rbsp};
use bytes::Bytes;
use shardcast_engine::{
    codec::Codec,
    track::{Picture, Shape, Track},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AvcError {
    #[error("H.264 configuration of {len} bytes ends inside a field that ends at {need}")]
    ConfigTruncated { len: usize, need: usize },
    #[error("H.264 configuration has version {0}, not 1")]
    ConfigVersion(u8),
    #[error("H.264 NAL units of this track have lengths of {0} bytes, not 1, 2 or 4")]
    NalLengthSize(usize),
    #[error("H.264 NAL unit at byte {at} states {len} bytes, {left} are left")]
    NalTruncated { at: usize, len: usize, left: usize },
    #[error("NAL unit of type {0} is no sequence parameter set")]
    NoSps(u8),
    #[error("H.264 sequence parameter set: {0}")]
    Sps(#[from] BitsError),
    #[error("H.264 sequence parameter set: {name} is {value}, beyond {max}")]
    SpsRange { name: &'static str, value: u32, max: u32 },
    #[error("H.264 sequence parameter set crops a picture of {width}x{height} to nothing")]
    SpsCrop { width: u32, height: u32 },
}

/// The track that an AVCDecoderConfigurationRecord configures. Its picture's size is zero where the
/// sequence parameter set is missing or cannot be read: a decoder may know what this server does not.
pub fn track(config: Bytes) -> Result<Track, AvcError> {
    let parsed = Config::parse(&config)?;
    let picture = match parsed.sps.first().map(|sps| picture(sps)) {
        Some(Ok(picture)) => picture,
        _ => Picture {
            profile: profile_name(parsed.profile, parsed.constraints),
            level: level_name(parsed.profile, parsed.constraints, parsed.level),
            ..Picture::default()
        },
    };
    Ok(Track { codec: Codec::H264, config, shape: Shape::Video(picture) })
}

/// [`Config::nal_length_size`] of a record that has been parsed.
pub fn nal_length_size(record: &[u8]) -> usize {
    record.get(4).map_or(4, |lengths| length_size(*lengths))
}

/// | 111111 | lengthSize - 1: 2 |
fn length_size(lengths: u8) -> usize {
    usize::from(lengths & 3) + 1
}

/// AVCDecoderConfigurationRecord, ISO 14496-15 §5.3.3.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config<'a> {
    pub profile: u8,
    pub constraints: u8,
    pub level: u8,
    /// Bytes of the length before each NAL unit: 1, 2 or 4.
    pub nal_length_size: usize,
    /// Whole NAL units; at most 31.
    pub sps: Vec<&'a [u8]>,
    /// Whole NAL units; at most 255.
    pub pps: Vec<&'a [u8]>,
}

impl<'a> Config<'a> {
    /// ```text
    /// | version 8 = 1 | profile 8 | compatibility 8 | level 8 | 111111 | lengthSize - 1: 2 |
    /// | 111 | SPS count 5 | { length 16, SPS } | PPS count 8 | { length 16, PPS } | … |
    /// ```
    pub fn parse(record: &'a [u8]) -> Result<Self, AvcError> {
        let Some((&[version, profile, constraints, level, lengths, sps_count], _)) = record.split_first_chunk() else {
            return Err(AvcError::ConfigTruncated { len: record.len(), need: 6 });
        };
        if version != 1 {
            return Err(AvcError::ConfigVersion(version));
        }
        let nal_length_size = length_size(lengths);
        check_length_size(nal_length_size)?;
        let mut at = 6;
        let sps = sets(record, &mut at, sps_count & 31)?;
        let pps_count = field(record, &mut at, 1)?.first().copied().unwrap_or(0);
        let pps = sets(record, &mut at, pps_count)?;
        Ok(Self { profile, constraints, level, nal_length_size, sps, pps })
    }
}

fn sets<'a>(record: &'a [u8], at: &mut usize, count: u8) -> Result<Vec<&'a [u8]>, AvcError> {
    let mut sets = Vec::new();
    for _ in 0..count {
        let len = field(record, at, 2)?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        sets.push(field(record, at, len)?);
    }
    Ok(sets)
}

fn field<'a>(record: &'a [u8], at: &mut usize, len: usize) -> Result<&'a [u8], AvcError> {
    let need = at.saturating_add(len);
    let field = record.get(*at..need).ok_or(AvcError::ConfigTruncated { len: record.len(), need })?;
    *at = need;
    Ok(field)
}

/// The AVCDecoderConfigurationRecord of one SPS and one PPS (whole NAL units), with 4-byte lengths.
/// Empty where `sps` is too short to be one, or either is longer than 65 535 bytes.
pub fn config_record(sps: &[u8], pps: &[u8]) -> Bytes {
    let (&[_, profile, constraints, level, ..], Ok(sps_len), Ok(pps_len)) =
        (sps, u16::try_from(sps.len()), u16::try_from(pps.len()))
    else {
        return Bytes::new();
    };
    let mut record = vec![1, profile, constraints, level, 0xff, 0xe1];
    record.extend_from_slice(&sps_len.to_be_bytes());
    record.extend_from_slice(sps);
    record.push(1);
    record.extend_from_slice(&pps_len.to_be_bytes());
    record.extend_from_slice(pps);
    if !matches!(profile, 66 | 77 | 88) {
        // Later profiles add chroma format and bit depths (§5.3.3.1.2).
        if let Ok(Sps { chroma_format, luma_depth, chroma_depth, .. }) = Sps::parse(sps) {
            record.extend_from_slice(&[
                0xfc | chroma_format as u8,
                0xf8 | luma_depth as u8,
                0xf8 | chroma_depth as u8,
                0,
            ]);
        }
    }
    record.into()
}

/// What a sequence parameter set (a whole NAL unit) says of the picture.
pub fn picture(sps: &[u8]) -> Result<Picture, AvcError> {
    let sps = Sps::parse(sps)?;
    Ok(Picture {
        width: sps.width,
        height: sps.height,
        profile: profile_name(sps.profile, sps.constraints),
        level: level_name(sps.profile, sps.constraints, sps.level),
    })
}

/// The part of seq_parameter_set_data (ITU-T H.264 §7.3.2.1.1) up to the cropping.
struct Sps {
    profile: u8,
    constraints: u8,
    level: u8,
    /// 0: monochrome, 1: 4:2:0, 2: 4:2:2, 3: 4:4:4.
    chroma_format: u32,
    /// Bits beyond 8.
    luma_depth: u32,
    chroma_depth: u32,
    /// pic_order_cnt_type; 2: pictures are shown in decoding order.
    order_type: u32,
    width: u32,
    height: u32,
}

impl Sps {
    fn parse(nal: &[u8]) -> Result<Self, AvcError> {
        Ok(Self::read(nal)?.0)
    }

    /// The set, and the bits after the cropping.
    fn read(nal: &[u8]) -> Result<(Self, Bits<'_>), AvcError> {
        let (&header, payload) = nal.split_first().ok_or(AvcError::NoSps(0))?;
        if header & 31 != SPS {
            return Err(AvcError::NoSps(header & 31));
        }
        // Longer ones say nothing more that is read here.
        let mut bits = Bits::of_rbsp(payload.get(..MAX_SPS_LEN).unwrap_or(payload));
        let (profile, constraints, level) = (bits.byte()?, bits.byte()?, bits.byte()?);
        at_most("seq_parameter_set_id", bits.ue()?, 31)?;

        let (mut chroma_format, mut luma_depth, mut chroma_depth, mut planes) = (1, 0, 0, false);
        if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
            chroma_format = at_most("chroma_format_idc", bits.ue()?, 3)?;
            planes = chroma_format == 3 && bits.bit()?;
            luma_depth = at_most("bit_depth_luma_minus8", bits.ue()?, 6)?;
            chroma_depth = at_most("bit_depth_chroma_minus8", bits.ue()?, 6)?;
            bits.skip(1)?; // qpprime_y_zero_transform_bypass_flag
            if bits.bit()? {
                skip_scaling_matrix(&mut bits, chroma_format)?;
            }
        }
        at_most("log2_max_frame_num_minus4", bits.ue()?, 12)?;
        let order_type = at_most("pic_order_cnt_type", bits.ue()?, 2)?;
        match order_type {
            0 => {
                at_most("log2_max_pic_order_cnt_lsb_minus4", bits.ue()?, 12)?;
            }
            1 => {
                bits.skip(1)?;
                bits.se()?;
                bits.se()?;
                for _ in 0..at_most("num_ref_frames_in_pic_order_cnt_cycle", bits.ue()?, 255)? {
                    bits.se()?;
                }
            }
            _ => {}
        }
        bits.ue()?; // max_num_ref_frames
        bits.skip(1)?; // gaps_in_frame_num_value_allowed_flag
        let width_mbs = at_most("pic_width_in_mbs_minus1", bits.ue()?, MAX_MBS)? + 1;
        let height_units = at_most("pic_height_in_map_units_minus1", bits.ue()?, MAX_MBS)? + 1;
        let frame_mbs_only = bits.bit()?;
        if !frame_mbs_only {
            bits.skip(1)?; // mb_adaptive_frame_field_flag
        }
        bits.skip(1)?; // direct_8x8_inference_flag
        let fields = if frame_mbs_only { 1 } else { 2 };
        let (mut width, mut height) = (width_mbs * 16, height_units * 16 * fields);
        if bits.bit()? {
            // Cropping counts in chroma samples, and in lines of a field (§7.4.2.1.1).
            let (unit_x, unit_y) = match chroma_format {
                1 => (2, 2),
                2 => (2, 1),
                _ => (1, 1),
            };
            let (unit_x, unit_y) = if planes { (1, 1) } else { (unit_x, unit_y) };
            let (left, right, top, bottom) = (bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?);
            let cropped = |len: u32, a: u32, b: u32, unit: u32| {
                len.checked_sub(a.checked_add(b)?.checked_mul(unit)?).filter(|len| *len > 0)
            };
            (width, height) = cropped(width, left, right, unit_x)
                .zip(cropped(height, top, bottom, unit_y * fields))
                .ok_or(AvcError::SpsCrop { width, height })?;
        }
        let sps =
            Self { profile, constraints, level, chroma_format, luma_depth, chroma_depth, order_type, width, height };
        Ok((sps, bits))
    }
}

/// How many pictures may be decoded ahead of their turn to be shown, where a sequence parameter set (a whole
/// NAL unit) says so: by its profile, its picture order count, or max_num_reorder_frames.
pub fn max_reorder(sps: &[u8]) -> Option<u32> {
    let (sps, mut bits) = Sps::read(sps).ok()?;
    // Baseline has no B pictures (ITU-T H.264 §A.2.1).
    if sps.profile == 66 || sps.order_type == 2 {
        return Some(0);
    }
    vui_reorder(&mut bits).ok()?
}

/// max_num_reorder_frames of vui_parameters (ITU-T H.264 §E.1.1), from vui_parameters_present_flag on.
fn vui_reorder(bits: &mut Bits) -> Result<Option<u32>, AvcError> {
    const EXTENDED_SAR: u8 = 255;
    if !bits.bit()? {
        return Ok(None);
    }
    if bits.bit()? && bits.byte()? == EXTENDED_SAR {
        bits.skip(32)?;
    }
    if bits.bit()? {
        bits.skip(1)?; // overscan_appropriate_flag
    }
    if bits.bit()? {
        bits.skip(4)?; // video_format, video_full_range_flag
        if bits.bit()? {
            bits.skip(24)?; // colour description
        }
    }
    if bits.bit()? {
        bits.ue()?; // chroma_sample_loc_type_top_field
        bits.ue()?; // chroma_sample_loc_type_bottom_field
    }
    if bits.bit()? {
        bits.skip(32 + 32 + 1)?; // timing
    }
    let (nal_hrd, vcl_hrd) = (skip_hrd(bits)?, skip_hrd(bits)?);
    if nal_hrd || vcl_hrd {
        bits.skip(1)?; // low_delay_hrd_flag
    }
    bits.skip(1)?; // pic_struct_present_flag
    if !bits.bit()? {
        return Ok(None);
    }
    bits.skip(1)?; // motion_vectors_over_pic_boundaries_flag
    for _ in 0..4 {
        bits.ue()?; // max_bytes_per_pic_denom to log2_max_mv_length_vertical
    }
    Ok(Some(bits.ue()?))
}

/// hrd_parameters with the flag before them (ITU-T H.264 §E.1.2). Whether they are there.
fn skip_hrd(bits: &mut Bits) -> Result<bool, AvcError> {
    if !bits.bit()? {
        return Ok(false);
    }
    let count = at_most("cpb_cnt_minus1", bits.ue()?, 31)? + 1;
    bits.skip(4 + 4)?; // scales
    for _ in 0..count {
        bits.ue()?; // bit_rate_value_minus1
        bits.ue()?; // cpb_size_value_minus1
        bits.skip(1)?; // cbr_flag
    }
    bits.skip(4 * 5)?; // lengths
    Ok(true)
}

/// Twelve scaling lists of 64 codes fit many times over.
const MAX_SPS_LEN: usize = 4096;
/// 65 536 pixels: beyond any level.
const MAX_MBS: u32 = 4095;

fn at_most(name: &'static str, value: u32, max: u32) -> Result<u32, AvcError> {
    if value > max { Err(AvcError::SpsRange { name, value, max }) } else { Ok(value) }
}

/// ITU-T H.264 §7.3.2.1.1.1
fn skip_scaling_matrix(bits: &mut Bits, chroma_format: u32) -> Result<(), AvcError> {
    for list in 0..if chroma_format == 3 { 12 } else { 8 } {
        if !bits.bit()? {
            continue;
        }
        let (mut last, mut next) = (8, 8);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (i64::from(bits.se()?) + last).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
    }
    Ok(())
}

/// profile_idc and constraint_set flags (ITU-T H.264 annex A.2), in the words of SRS's API.
fn profile_name(profile: u8, constraints: u8) -> &'static str {
    let set1 = constraints & 0x40 != 0;
    let set3 = constraints & 0x10 != 0;
    match (profile, set1, set3) {
        (66, false, _) => "Baseline",
        (66, true, _) => "Baseline(Constrained)",
        (77, ..) => "Main",
        (88, ..) => "Extended",
        (100, ..) => "High",
        (110, _, false) => "High(10)",
        (110, _, true) => "High(10+Intra)",
        (122, _, false) => "High(422)",
        (122, _, true) => "High(422+Intra)",
        (144, ..) => "High(444)",
        (244, _, false) => "High(444+Predictive)",
        (244, _, true) => "High(444+Intra)",
        _ => "Other",
    }
}

/// level_idc (ITU-T H.264 annex A.3): ten times the level, and two ways to say 1b.
fn level_name(profile: u8, constraints: u8, level: u8) -> String {
    let set3 = constraints & 0x10 != 0;
    match level {
        9 => "1b".into(),
        11 if set3 && matches!(profile, 66 | 77 | 88) => "1b".into(),
        _ if level.is_multiple_of(10) => (level / 10).to_string(),
        _ => format!("{}.{}", level / 10, level % 10),
    }
}

// nal_unit_type, ITU-T H.264 table 7-1.
const IDR_SLICE: u8 = 5;
pub const SEI: u8 = 6;
pub const SPS: u8 = 7;
pub const PPS: u8 = 8;
pub const AUD: u8 = 9;

/// Whether decoding may start at this access unit: it has an IDR slice or a recovery point SEI message.
/// A payload that is broken before either is found is no such place.
pub fn is_random_access(payload: &[u8], nal_length_size: usize) -> bool {
    nal_units(payload, nal_length_size).map_while(Result::ok).any(|nal| match nal.split_first() {
        Some((header, rest)) => match header & 31 {
            IDR_SLICE => true,
            SEI => has_recovery_point(rest),
            _ => false,
        },
        None => false,
    })
}

/// sei_rbsp (ITU-T H.264 §7.3.2.3): messages, each a type and a size in ff-continued bytes.
fn has_recovery_point(sei: &[u8]) -> bool {
    const RECOVERY_POINT: usize = 6;
    let mut bytes = rbsp(sei);
    let mut number = move |skip: usize| {
        if skip > 0 {
            bytes.nth(skip - 1)?;
        }
        let mut value = 0usize;
        loop {
            let byte = bytes.next()?;
            value = value.saturating_add(byte.into());
            if byte != 0xff {
                return Some(value);
            }
        }
    };
    let mut skip = 0;
    while let Some((kind, size)) = number(skip).and_then(|kind| Some((kind, number(0)?))) {
        if kind == RECOVERY_POINT {
            return true;
        }
        skip = size;
    }
    false
}

/// nal_unit_type of a whole NAL unit (ITU-T H.264 §7.3.1).
pub fn nal_type(nal: &[u8]) -> Option<u8> {
    nal.first().map(|first| first & 31)
}

/// The NAL units of a payload, each behind a big-endian length of `nal_length_size` bytes
/// (ISO 14496-15 §5.3.4.2). Ends after the first error.
pub fn nal_units(payload: &[u8], nal_length_size: usize) -> NalUnits<'_> {
    NalUnits { payload, at: 0, nal_length_size }
}

#[derive(Clone, Debug)]
pub struct NalUnits<'a> {
    payload: &'a [u8],
    at: usize,
    nal_length_size: usize,
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = Result<&'a [u8], AvcError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.payload.get(self.at..).filter(|rest| !rest.is_empty())?;
        let nal = self.split(rest);
        // An error ends the iteration: what follows a wrong length is noise.
        self.at = match nal {
            Ok(nal) => self.at + self.nal_length_size + nal.len(),
            Err(_) => self.payload.len(),
        };
        Some(nal)
    }
}

impl<'a> NalUnits<'a> {
    fn split(&self, rest: &'a [u8]) -> Result<&'a [u8], AvcError> {
        check_length_size(self.nal_length_size)?;
        let at = self.at;
        let short = AvcError::NalTruncated { at, len: self.nal_length_size, left: rest.len() };
        let (length, rest) = rest.split_at_checked(self.nal_length_size).ok_or(short)?;
        let len = length.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        rest.get(..len).ok_or(AvcError::NalTruncated { at, len, left: rest.len() })
    }
}

fn check_length_size(size: usize) -> Result<(), AvcError> {
    if matches!(size, 1 | 2 | 4) { Ok(()) } else { Err(AvcError::NalLengthSize(size)) }
}

/// The NAL units of an Annex B byte stream (ITU-T H.264 annex B), without start codes and the zeros
/// around them.
pub fn annexb_units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = stream.get(after_start_code(stream)..).unwrap_or_default();
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let next = after_start_code(rest);
            // The start code, with all zeros before it, ends this unit; so do zeros at the end.
            let found = next < rest.len() || rest.ends_with(&[0, 0, 1]);
            let end = if found { next - 3 } else { rest.len() };
            let unit = rest.get(..end).unwrap_or_default();
            let unit = unit.get(..unit.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1));
            rest = rest.get(next..).unwrap_or_default();
            if let Some(unit) = unit.filter(|unit| !unit.is_empty()) {
                return Some(unit);
            }
        }
        None
    })
}

/// The index after the first start code 00 00 01, or the length where there is none.
fn after_start_code(stream: &[u8]) -> usize {
    stream.windows(3).position(|window| window == [0, 0, 1]).map_or(stream.len(), |at| at + 3)
}

/// An Annex B access unit as a payload with 4-byte lengths. Units longer than 32 bits can tell are left
/// out.
pub fn to_length_prefixed(annexb: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(annexb.len() + 16);
    for unit in annexb_units(annexb) {
        if let Ok(len) = u32::try_from(unit.len()) {
            payload.extend_from_slice(&len.to_be_bytes());
            payload.extend_from_slice(unit);
        }
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::{hex, mutations};

    /// Sequence parameter sets of x264 r3095 (through ffmpeg 5.1), with what ffprobe says of them.
    const GOLDEN: [(&str, u32, u32, &str, &str); 15] = [
        ("67640028acd940780227e5c044000003000400000300c83c60c658", 1920, 1080, "High", "4"),
        ("6742c00cd901419f9f011000000300100000030320f142a480", 320, 180, "Baseline(Constrained)", "1.2"),
        ("674d401feca02802dd80880000030008000003019078c18cb0", 1280, 720, "Main", "3.1"),
        // interlaced
        ("67640028acd94078044fde0220000003002000000643e2c5b2c0", 1920, 1080, "High", "4"),
        ("677a0015bcd941533c44d8088000000300800000190f8a14cb", 322, 182, "High(422)", "2.1"),
        ("676e000da6cd941519e226c044000003000400000300c83c50a658", 322, 182, "High(10)", "1.3"),
        ("677a000dbcd941519e222f011000000300100000030320f1429960", 322, 182, "High(422)", "1.3"),
        ("67f4000c919b282833f1b808800000030080000019078a14cb", 320, 180, "High(444+Predictive)", "1.2"),
        // monochrome
        ("6764000df365054678f8bc05b2000003000200000300641e28532c", 322, 182, "High", "1.3"),
        ("676e100da6cb82a33c44d80880000003008000001902", 322, 182, "High(10+Intra)", "1.3"),
        ("677a100db6cb82a33c445e022000000300200000064080", 322, 182, "High(422+Intra)", "1.3"),
        ("67f4100d9197054678f8bc0440000003004000000c81", 322, 182, "High(444+Intra)", "1.3"),
        ("6764000cacd941419f9f011000000300100000030320f1429960", 320, 180, "High", "1.2"),
        ("674d400deca0a8cf11360220000003002000000641e28532c0", 322, 182, "Main", "1.3"),
        ("6742d00bd902c4ec0440000003004000000c83c48992", 176, 144, "Baseline(Constrained)", "1b"),
    ];

    fn sps(at: usize) -> Vec<u8> {
        hex(GOLDEN[at].0)
    }

    fn prefixed(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&(unit.len() as u32).to_be_bytes(), *unit].concat()).collect()
    }

    #[test]
    fn reads_size_profile_and_level_of_x264() {
        for (sps, width, height, profile, level) in GOLDEN {
            let expected = Picture { width, height, profile, level: level.into() };
            assert_eq!(picture(&hex(sps)), Ok(expected), "{sps}");
        }
    }

    #[test]
    fn skips_scaling_lists() {
        // High, 4:2:0, all flags of the matrix set: each list ends at its first code, -8.
        let mut bits = String::from("01100100 00000000 00011110 1 010 1 1 0 1");
        bits += &"1 000010001".repeat(8);
        // frame number, order count type 2, references, gaps, 2x2 macroblocks, frames only, no cropping
        bits += "1 011 010 0 010 010 1 1 0 0 1";
        let digits: Vec<u8> = bits.bytes().filter(|byte| *byte != b' ').map(|byte| byte & 1).collect();
        let byte = |bits: &[u8]| (0..8).fold(0, |sum, at| sum << 1 | bits.get(at).unwrap_or(&0));
        let nal: Vec<u8> = [0x67].into_iter().chain(digits.chunks(8).map(byte)).collect();
        let picture = picture(&nal).unwrap();
        assert_eq!((picture.width, picture.height, picture.level.as_str()), (32, 32, "3"));
    }

    #[test]
    fn record_is_what_ffmpeg_writes() {
        // AVCDecoderConfigurationRecord from the FLV of ffmpeg 5.1
        let golden = hex("014d400dffe10019674d400deca0a8cf11360220000003002000000641e28532c001000468ce0fc8");
        let config = Config::parse(&golden).unwrap();
        assert_eq!((config.profile, config.level, config.nal_length_size), (77, 13, 4));
        assert_eq!(config.pps, [&[0x68, 0xce, 0x0f, 0xc8]]);
        assert_eq!(config_record(config.sps[0], config.pps[0]), golden);
        let Shape::Video(picture) = track(golden.into()).unwrap().shape else { panic!("no picture") };
        assert_eq!((picture.width, picture.height), (322, 182));

        let high = hex("0164000affe100196764000aacd9497e23011000000300100000030320f122596001000668ebe3cb22c0fdf8f800");
        let config = Config::parse(&high).unwrap();
        assert_eq!(config_record(config.sps[0], config.pps[0]), high);
    }

    #[test]
    fn record_of_high_profile_tells_chroma_and_depth() {
        let record = config_record(&sps(5), &hex("68ebe3cb22c0"));
        assert_eq!(record[record.len() - 4..], [0xfd, 0xfa, 0xfa, 0]);
        assert!(config_record(&[0x67, 66], &[0x68]).is_empty());
    }

    #[test]
    fn unreadable_parameter_set_leaves_the_record_to_tell() {
        let mut record = config_record(&sps(2), &[0x68]).to_vec();
        record[11..20].fill(0);
        let Shape::Video(picture) = track(record.into()).unwrap().shape else { panic!("no picture") };
        let expected = Picture { width: 0, height: 0, profile: "Main", level: "3.1".into() };
        assert_eq!(picture, expected);
    }

    #[test]
    fn refuses_broken_records() {
        let golden = config_record(&sps(2), &hex("68ebe3cb20"));
        for len in 0..golden.len() {
            assert!(matches!(Config::parse(&golden[..len]), Err(AvcError::ConfigTruncated { .. })), "{len}");
        }
        let with = |at: usize, byte: u8| {
            let mut record = golden.to_vec();
            record[at] = byte;
            record
        };
        assert_eq!(Config::parse(&with(0, 0)), Err(AvcError::ConfigVersion(0)));
        assert_eq!(Config::parse(&with(4, 0xfe)), Err(AvcError::NalLengthSize(3)));
    }

    #[test]
    fn depth_of_reordering_is_what_ffprobe_sees() {
        // x264 r3095: no B pictures, two without and three with a pyramid, the whole VUI with HRD, all intra.
        for (sps, depth) in [
            ("674d400ddb0507ec0440000003004000000c83c50ab8", 0),
            ("674d400de98283f60220000003002000000641e28527", 1),
            ("6764000dacd94141fb011000000300100000030320f1429960", 2),
            ("6764000dacd30507ec06d404040694000003000400000300c9808007a10001e84e4c28078a149c", 1),
            ("6764100dacb8283f60220000030002000003006408", 0),
            // Baseline with its VUI cut off.
            ("6742c00dd90141fb01", 0),
        ] {
            assert_eq!(max_reorder(&hex(sps)), Some(depth), "{sps}");
        }
        // Main with its VUI cut off, and no set at all.
        assert_eq!([max_reorder(&hex("674d400de98283f602200000")), max_reorder(&hex("68cb8cb2"))], [None, None]);
    }

    #[test]
    fn crop_larger_than_the_picture_is_refused() {
        let mut cropped = 0;
        mutations(&sps(1), 20_000, |bytes| match picture(bytes) {
            Ok(picture) => assert!((1..=65_536).contains(&picture.width) && (1..=131_072).contains(&picture.height)),
            Err(AvcError::SpsCrop { .. }) => cropped += 1,
            Err(_) => {}
        });
        assert!(cropped > 0);
    }

    #[test]
    fn splits_nal_units_and_tells_where_they_break() {
        let payload = prefixed(&[&[9, 0xf0], &[0x65, 1, 2]]);
        let units: Vec<_> = nal_units(&payload, 4).map(Result::unwrap).collect();
        assert_eq!(units, [&[9, 0xf0][..], &[0x65, 1, 2]]);
        let cut: Vec<_> = nal_units(&payload[..12], 4).collect();
        assert_eq!(cut[1..], [Err(AvcError::NalTruncated { at: 6, len: 3, left: 2 })]);
        let cut: Vec<_> = nal_units(&payload[..8], 4).collect();
        assert_eq!(cut[1..], [Err(AvcError::NalTruncated { at: 6, len: 4, left: 2 })]);
        let short: Vec<_> = nal_units(&[1, 0x65, 0, 2, 0x41, 1], 1).take(2).collect();
        assert_eq!(short, [Ok(&[0x65][..]), Ok(&[])]);
        assert_eq!(nal_units(&payload, 3).collect::<Vec<_>>(), [Err(AvcError::NalLengthSize(3))]);
    }

    #[test]
    fn decoding_starts_at_idr_slices_and_recovery_points() {
        // A user data message of 255 + 2 bytes, then a recovery point with emulation prevention before it.
        let mut sei = vec![6, 5, 0xff, 2];
        sei.extend([0x11; 255]);
        sei.extend([0, 0, 3, 1, 4]); // size 2 is 0 0; 3 is no data; message 1 of size 4
        sei.extend([1, 1, 1, 1, 6, 1, 0xc4, 0x80]);
        assert!(is_random_access(&prefixed(&[&sei, &[0x41, 1]]), 4));
        assert!(is_random_access(&prefixed(&[&[9, 0xf0], &[6, 6, 1, 0xc4, 0x80], &[0x41, 1]]), 4));
        assert!(is_random_access(&prefixed(&[&[9, 0xf0], &[0x65, 1]]), 4));
        assert!(!is_random_access(&prefixed(&[&[6, 5, 2, 6, 1, 0x80], &[0x41, 0x65]]), 4));
        assert!(!is_random_access(&prefixed(&[&[0x41, 1], &[0x65, 1]])[..8], 4));
        assert!(!is_random_access(&[], 4));
    }

    #[test]
    fn annexb_becomes_length_prefixed() {
        let stream = [
            &[0, 0, 0, 1, 0x67, 1, 0, 0, 3, 1][..],
            &[0, 0, 1, 0x68, 2],
            &[0, 0, 0, 0, 1, 0x65, 3, 0, 0, 0],
            &[0, 0, 1],
        ]
        .concat();
        let units: Vec<_> = annexb_units(&stream).collect();
        assert_eq!(units, [&[0x67, 1, 0, 0, 3, 1][..], &[0x68, 2], &[0x65, 3]]);
        assert_eq!(to_length_prefixed(&stream), prefixed(&units));
        assert!(to_length_prefixed(&[1, 2, 3]).is_empty());
    }

    #[test]
    fn hostile_bytes_never_panic() {
        let record = config_record(&sps(5), &hex("68ebe3cb22c0"));
        mutations(&record, 20_000, |bytes| {
            let _ = track(Bytes::copy_from_slice(bytes));
        });
        for (sps, ..) in GOLDEN {
            mutations(&hex(sps), 2_000, |bytes| {
                config_record(bytes, bytes);
                max_reorder(bytes);
            });
        }
        let payload = prefixed(&[&[6, 5, 2, 0, 0, 6, 1, 0xc4], &[0x65, 1, 2]]);
        for size in 0..6 {
            mutations(&payload, 5_000, |bytes| {
                is_random_access(bytes, size);
                let len: usize = nal_units(bytes, size).map_while(Result::ok).map(<[u8]>::len).sum();
                assert!(len <= bytes.len());
            });
        }
        let annexb = [&[0, 0, 0, 1, 0x67, 1][..], &[0, 0, 1, 0x68, 2, 0], &[0, 0, 1, 0x65, 3]].concat();
        mutations(&annexb, 20_000, |bytes| {
            assert!(annexb_units(bytes).all(|unit| !unit.is_empty() && !unit.ends_with(&[0])));
        });
    }
}
