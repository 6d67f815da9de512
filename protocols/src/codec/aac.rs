//! AAC: AudioSpecificConfig and ADTS headers. Access units are not looked into.

use super::bits::{Bits, BitsError};
use bytes::Bytes;
use shardcast_engine::{
    codec::Codec,
    track::{Shape, Sound, Track},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AacError {
    #[error("AudioSpecificConfig: {0}")]
    Truncated(#[from] BitsError),
    #[error("AudioSpecificConfig: sampling frequency index {0} is reserved")]
    ReservedRate(u32),
}

/// The track that an AudioSpecificConfig configures.
pub fn track(config: Bytes) -> Result<Track, AacError> {
    let sound = sound(&config)?;
    Ok(Track { codec: Codec::Aac, config, shape: Shape::Audio(sound) })
}

/// What an AudioSpecificConfig (ISO 14496-3 §1.6.2.1) says: the rate and channels that a decoder puts
/// out, SBR and PS included where they are signalled.
pub fn sound(config: &[u8]) -> Result<Sound, AacError> {
    let mut bits = Bits::new(config);
    let mut object = object_type(&mut bits)?;
    let mut sample_rate = rate(&mut bits)?;
    let channel_configuration = bits.bits(4)?;
    let mut sbr = matches!(object, SBR | PS);
    let mut ps = object == PS;
    let hierarchical = sbr;
    if hierarchical {
        sample_rate = rate(&mut bits)?;
        object = object_type(&mut bits)?;
        if object == ER_BSAC {
            bits.skip(4)?;
        }
    }
    let mut channels = channels_of(channel_configuration);
    // What follows is optional in practice: encoders cut it off, so its end only ends the reading.
    if let Ok(Some(pce)) = skip_general_audio(&mut bits, object, channel_configuration) {
        channels = pce;
    }
    if !hierarchical && let Ok(Some(extension)) = extension(&mut bits) {
        sbr = true;
        ps = extension.ps;
        sample_rate = extension.sample_rate;
    }
    if ps && channels == 1 {
        channels = 2;
    }
    let profile = match (ps, sbr, object) {
        (true, ..) => "HEv2",
        (_, true, _) => "HE",
        (_, _, 1) => "Main",
        (_, _, 2) => "LC",
        (_, _, 3) => "SSR",
        _ => "Other",
    };
    Ok(Sound { sample_rate, channels, profile })
}

/// Bytes of an ADTS header without its CRC.
pub const ADTS_HEADER_LEN: usize = 7;

/// The ADTS header (ISO 14496-3 §1.A.2.2) of a raw access unit of `len` bytes. HE-AAC is told as its core,
/// which is how decoders expect it. `None` where ADTS has no words for the configuration or the length.
///
/// ```text
/// | sync 12 | ID 1 = 0 | layer 2 | no CRC 1 | profile 2 | rate 4 | private 1 | channels 3 | 0000 |
/// | frame length 13 | fullness 11 | blocks - 1: 2 |
/// ```
pub fn adts_header(config: &[u8], len: usize) -> Option<[u8; ADTS_HEADER_LEN]> {
    let mut bits = Bits::new(config);
    let mut object = object_type(&mut bits).ok()?;
    let core_rate = rate(&mut bits).ok()?;
    let index = RATES.iter().position(|known| *known == core_rate)? as u32;
    let channels = bits.bits(4).ok()?;
    if matches!(object, SBR | PS) {
        rate(&mut bits).ok()?;
        object = object_type(&mut bits).ok()?;
    }
    let len = u64::try_from(len.checked_add(ADTS_HEADER_LEN)?).ok().filter(|len| *len < 1 << 13)?;
    if !(1..=4).contains(&object) || channels > 7 {
        return None;
    }
    // Fullness of all ones: a variable rate.
    let fields = u64::from((object - 1) << 12 | index << 8 | channels << 4) << 26 | len << 13 | 0x7ff << 2;
    let [_, _, _, h1, h2, t0, t1, t2] = fields.to_be_bytes();
    Some([0xff, 0xf1, h1, h2, t0, t1, t2])
}

/// One access unit of an ADTS stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adts {
    pub header_len: usize,
    /// With the header.
    pub len: usize,
    pub sample_rate: u32,
    /// Its AudioSpecificConfig.
    pub config: [u8; 2],
    /// Access units in the frame; more than one cannot be told apart.
    pub blocks: u8,
}

/// Reads the header that [`adts_header`] draws; `None` where `bytes` start with none, or are too few.
pub fn adts(bytes: &[u8]) -> Option<Adts> {
    let &[b0, b1, b2, b3, b4, b5, b6] = bytes.first_chunk::<ADTS_HEADER_LEN>()?;
    let header_len = if b1 & 1 == 1 { ADTS_HEADER_LEN } else { ADTS_HEADER_LEN + 2 };
    let len = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5 >> 5);
    if b0 != 0xff || b1 & 0xf6 != 0xf0 || len <= header_len {
        return None;
    }
    let (object, index, channels) = ((b2 >> 6) + 1, b2 >> 2 & 15, (b2 & 1) << 2 | b3 >> 6);
    let sample_rate = *RATES.get(usize::from(index))?;
    let config = [object << 3 | index >> 1, index << 7 | channels << 3];
    Some(Adts { header_len, len, sample_rate, config, blocks: (b6 & 3) + 1 })
}

// Audio object types, ISO 14496-3 §1.5.1.1.
const SBR: u32 = 5;
const ER_BSAC: u32 = 22;
const PS: u32 = 29;

/// GetAudioObjectType, ISO 14496-3 §1.6.2.1.
fn object_type(bits: &mut Bits) -> Result<u32, AacError> {
    Ok(match bits.bits(5)? {
        31 => 32 + bits.bits(6)?,
        object => object,
    })
}

const RATES: [u32; 13] = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];

/// samplingFrequencyIndex (ISO 14496-3 table 1.18), or after its escape the frequency itself.
fn rate(bits: &mut Bits) -> Result<u32, AacError> {
    match bits.bits(4)? {
        15 => Ok(bits.bits(24)?),
        index => RATES.get(index as usize).copied().ok_or(AacError::ReservedRate(index)),
    }
}

/// channelConfiguration, ISO 14496-3 table 1.19; 0 where it is told elsewhere or reserved.
fn channels_of(configuration: u32) -> u8 {
    match configuration {
        1..=6 => configuration as u8,
        7 | 12 | 14 => 8,
        11 => 7,
        13 => 24,
        _ => 0,
    }
}

/// GASpecificConfig (ISO 14496-3 §4.4.1) of the object types that have it; the channels of its program
/// config element, if it has one.
fn skip_general_audio(bits: &mut Bits, object: u32, channels: u32) -> Result<Option<u8>, BitsError> {
    if !matches!(object, 1..=4 | 6 | 7 | 17 | 19..=23) {
        // Another object's configuration may be of any length: there is nothing to find behind it.
        bits.skip(bits.left())?;
        return Ok(None);
    }
    bits.skip(1)?; // frameLengthFlag
    if bits.bit()? {
        bits.skip(14)?; // coreCoderDelay
    }
    let extension = bits.bit()?;
    let pce = if channels == 0 { Some(program_channels(bits)?) } else { None };
    if matches!(object, 6 | 20) {
        bits.skip(3)?; // layerNr
    }
    if extension {
        bits.skip(match object {
            ER_BSAC => 16,
            17 | 19 | 20 | 23 => 3,
            _ => 0,
        })?;
        bits.skip(1)?; // extensionFlag3
    }
    if object >= 17 {
        bits.skip(2)?; // epConfig
    }
    Ok(pce)
}

/// How many channels a program_config_element (ISO 14496-3 §4.4.1.1) has.
fn program_channels(bits: &mut Bits) -> Result<u8, BitsError> {
    bits.skip(4 + 2 + 4)?; // element_instance_tag, object_type, sampling_frequency_index
    let mut speakers = 0;
    for _ in 0..3 {
        speakers += bits.bits(4)?; // front, side, back
    }
    let lfe = bits.bits(2)?;
    let associated = bits.bits(3)?;
    let coupling = bits.bits(4)?;
    for mixdown_len in [4, 4, 3] {
        if bits.bit()? {
            bits.skip(mixdown_len)?;
        }
    }
    let mut channels = lfe;
    for _ in 0..speakers {
        channels += if bits.bit()? { 2 } else { 1 };
        bits.skip(4)?;
    }
    bits.skip((lfe * 4 + associated * 4 + coupling * 5) as usize)?;
    bits.align();
    let comment_len = bits.bits(8)?;
    bits.skip(comment_len as usize * 8)?;
    // 45 pairs and 3 LFE at most
    Ok(channels as u8)
}

struct Extension {
    sample_rate: u32,
    ps: bool,
}

/// The backward compatible signalling of SBR and PS behind the configuration (ISO 14496-3 §1.6.6.1).
fn extension(bits: &mut Bits) -> Result<Option<Extension>, AacError> {
    if bits.bits(11)? != 0x2b7 || object_type(bits)? != SBR || !bits.bit()? {
        return Ok(None);
    }
    let sample_rate = rate(bits)?;
    let ps = bits.left() >= 12 && bits.bits(11)? == 0x548 && bits.bit()?;
    Ok(Some(Extension { sample_rate, ps }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::{hex, mutations};

    #[test]
    fn reads_rate_channels_and_profile() {
        for (config, sample_rate, channels, profile) in [
            // ffmpeg 5.1: 44.1 kHz stereo, with its own (absent) SBR extension behind
            ("121056e500", 44_100, 2, "LC"),
            ("1190", 48_000, 2, "LC"),
            ("1588", 8_000, 1, "LC"),
            ("11b0", 48_000, 6, "LC"),
            ("11b8", 48_000, 8, "LC"),
            ("0a10", 44_100, 2, "Main"),
            // explicit, hierarchical: HE at 22.05 → 44.1 kHz, HEv2 mono → stereo
            ("2b920800", 44_100, 2, "HE"),
            ("eb8a0800", 44_100, 2, "HEv2"),
            // backward compatible: SBR, then SBR and PS
            ("139056e5a0", 44_100, 2, "HE"),
            ("138856e5a54880", 44_100, 2, "HEv2"),
            // 44 056 Hz behind the escape
            ("1780560c10", 44_056, 2, "LC"),
        ] {
            assert_eq!(sound(&hex(config)), Ok(Sound { sample_rate, channels, profile }), "{config}");
        }
    }

    #[test]
    fn counts_the_channels_of_a_program_config_element() {
        // LC, 48 kHz, configuration 0: one pair and one single in front, a pair behind, one LFE.
        let bits = "00010 0011 0000 000 0000 01 0011 0010 0000 0001 01 000 0000 0 0 0 \
                    0 0000 1 0000 1 0001 0000 0000 00000000";
        let digits: Vec<u8> = bits.bytes().filter(|byte| *byte != b' ').map(|byte| byte & 1).collect();
        let byte = |bits: &[u8]| (0..8).fold(0, |sum, at| sum << 1 | bits.get(at).unwrap_or(&0));
        let config: Vec<u8> = digits.chunks(8).map(byte).collect();
        let expected = Sound { sample_rate: 48_000, channels: 6, profile: "LC" };
        assert_eq!(sound(&config), Ok(expected));
        assert_eq!(sound(&config[..5]).map(|sound| sound.channels), Ok(0));
    }

    #[test]
    fn adts_headers_tell_configuration_and_length() {
        // ffmpeg 5.1 (`-f adts`), 48 kHz mono and 44.1 kHz stereo
        for (config, len, header) in [("1188", 142, "fff14c4012bffc"), ("1210", 16, "fff1508002fffc")] {
            let written = adts_header(&hex(config), len).unwrap();
            assert_eq!(written[..], hex(header));
            let read = adts(&written).unwrap();
            assert_eq!((&read.config[..], read.header_len, read.len), (&hex(config)[..], 7, len + 7));
        }
        // HE and HEv2 as their cores
        assert_eq!(adts(&adts_header(&hex("2b920800"), 9).unwrap()).map(|adts| adts.config), Some([0x13, 0x90]));
        assert_eq!(adts(&adts_header(&hex("eb8a0800"), 9).unwrap()).map(|adts| adts.config), Some([0x13, 0x88]));
        assert_eq!(adts_header(&hex("1188"), 8185), None);
        // 44 056 Hz, and an object type that ADTS has no number for
        assert_eq!(adts_header(&hex("1780560c10"), 9), None);
        assert_eq!(adts_header(&hex("8a10"), 9), None);
        for broken in ["ffe14c4012bffc", "fff14c400000fc", "fff1744012bffc", "fff14c4012bf"] {
            assert_eq!(adts(&hex(broken)), None, "{broken}");
        }
    }

    #[test]
    fn refuses_what_is_cut_or_reserved() {
        assert_eq!(sound(&hex("1690")), Err(AacError::ReservedRate(13)));
        let exhausted = BitsError::Exhausted { at: 5, want: 4, left: 3 };
        assert_eq!(sound(&[0x12]), Err(AacError::Truncated(exhausted)));
    }

    #[test]
    fn hostile_bytes_never_panic() {
        for config in ["121056e500", "eb8a0800", "138856e5a54880", "118004c810100800410000", "f95e00000000"] {
            mutations(&hex(config), 20_000, |bytes| drop(sound(bytes)));
        }
    }
}
