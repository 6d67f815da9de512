//! AC-3 and E-AC-3: the header that opens every syncframe.

use super::bits::{Bits, BitsError};
use bytes::Bytes;
use shardcast_engine::{
    codec::Codec,
    track::{Shape, Sound, Track},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ac3Error {
    #[error("AC-3 frame: {0}")]
    Truncated(#[from] BitsError),
    #[error("AC-3 frame starts with {0:#06x}, not 0x0b77")]
    NoSync(u32),
    #[error("AC-3 frame has a reserved sample rate")]
    ReservedRate,
}

/// bsid beyond which a frame is E-AC-3 (ETSI TS 102 366 §E.1.3.1.6).
const AC3_BSID: u32 = 10;

/// The track that a syncframe belongs to, with the content of AC3SpecificBox or EC3SpecificBox (ETSI TS 102 366
/// annex F.4, F.6) as its configuration; a data rate of 0 in the latter, since frames differ.
pub fn track(frame: &[u8]) -> Result<Track, Ac3Error> {
    let mut bits = Bits::new(frame);
    let sync = bits.bits(16)?;
    if sync != 0x0b77 {
        return Err(Ac3Error::NoSync(sync));
    }
    let mut bsid = Bits::new(frame);
    bsid.skip(40)?;
    let bsid = bsid.bits(5)?;
    if bsid <= AC3_BSID { ac3(bits, bsid) } else { eac3(bits, bsid) }
}

/// §4.3.1, §4.3.2.
///
/// ```text
/// | sync 16 | CRC 16 | rate 2 | frame size 6 | bsid 5 | bsmod 3 | acmod 3 | mix levels | LFE 1 |
/// ```
fn ac3(mut bits: Bits, bsid: u32) -> Result<Track, Ac3Error> {
    bits.skip(16)?;
    let (rate, size) = (bits.bits(2)?, bits.bits(6)?);
    bits.skip(5)?;
    let (bsmod, acmod) = (bits.bits(3)?, bits.bits(3)?);
    bits.skip(match acmod {
        1 => 0,
        2 => 2,                                                                 // dsurmod
        _ => 2 * usize::from(acmod & 1 == 1) + 2 * usize::from(acmod & 4 != 0), // cmixlev, surmixlev
    })?;
    let lfe = bits.bits(1)?;
    let sample_rate = *[48_000, 44_100, 32_000].get(rate as usize).ok_or(Ac3Error::ReservedRate)?;
    let config = rate << 22 | bsid << 17 | bsmod << 14 | acmod << 11 | lfe << 10 | (size >> 1) << 5;
    Ok(sound(Codec::Ac3, &config.to_be_bytes()[1..], sample_rate, acmod, lfe))
}

/// §E.1.2.1, §E.1.2.2.
///
/// ```text
/// | sync 16 | stream type 2 | substream 3 | frame size 11 | rate 2 | blocks or half rate 2 | acmod 3 | LFE 1 | bsid 5 |
/// ```
fn eac3(mut bits: Bits, bsid: u32) -> Result<Track, Ac3Error> {
    bits.skip(2 + 3 + 11)?;
    let (rate, half) = (bits.bits(2)?, bits.bits(2)?);
    let (acmod, lfe) = (bits.bits(3)?, bits.bits(1)?);
    let sample_rate = match (rate, half) {
        (3, half) => [24_000, 22_050, 16_000].get(half as usize),
        (rate, _) => [48_000, 44_100, 32_000].get(rate as usize),
    };
    let sample_rate = *sample_rate.ok_or(Ac3Error::ReservedRate)?;
    // | data rate 13, substreams - 1, 3 | rate 2 | bsid 5 | 0 | asvc 1 | bsmod 3 | acmod 3 | LFE 1 | 000 | dependent 4 | 0 |
    let substream = rate << 22 | bsid << 17 | acmod << 9 | lfe << 8;
    let config = [&[0, 0][..], &substream.to_be_bytes()[1..]].concat();
    Ok(sound(Codec::Eac3, &config, sample_rate, acmod, lfe))
}

fn sound(codec: Codec, config: &[u8], sample_rate: u32, acmod: u32, lfe: u32) -> Track {
    // Table 4.3: full-bandwidth channels.
    let channels = [2, 1, 2, 3, 3, 4, 4, 5][acmod as usize & 7] + lfe as u8;
    let sound = Sound { sample_rate, channels, profile: "Other" };
    Track { codec, config: Bytes::copy_from_slice(config), shape: Shape::Audio(sound) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::{hex, mutations};

    /// Of ffmpeg 9: 48 kHz stereo, 192 kbit/s.
    const AC3: &str = "0b77fe95144043e106f46370c0c0c218";
    const EAC3: &str = "0b77017f3487c0002084210838008c06";

    #[test]
    fn reads_codec_rate_and_channels_of_ffmpeg() {
        for (frame, codec, config) in [(AC3, Codec::Ac3, "101140"), (EAC3, Codec::Eac3, "0000200400")] {
            let track = track(&hex(frame)).unwrap();
            assert_eq!(track.codec, codec);
            let Shape::Audio(sound) = track.shape else { panic!("no sound") };
            assert_eq!((sound.sample_rate, sound.channels), (48_000, 2), "{codec}");
            assert_eq!(track.config[..], hex(config), "{codec}");
        }
    }

    #[test]
    fn refuses_what_is_no_frame() {
        assert_eq!(track(&hex("0b78fe95144043e1")), Err(Ac3Error::NoSync(0x0b78)));
        assert_eq!(track(&hex("0b77fe95d44043e106")), Err(Ac3Error::ReservedRate));
        assert!(matches!(track(&hex("0b77fe9514")), Err(Ac3Error::Truncated(_))));
    }

    #[test]
    fn hostile_bytes_never_panic() {
        for frame in [AC3, EAC3] {
            mutations(&hex(frame), 20_000, |bytes| drop(track(bytes)));
        }
    }
}
