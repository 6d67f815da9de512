//! MP3: the header that opens every MPEG audio frame.

use bytes::Bytes;
use shardcast_engine::{
    codec::Codec,
    track::{Shape, Sound, Track},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mp3Error {
    #[error("MPEG audio frame of {0} bytes has no room for its header")]
    Truncated(usize),
    #[error("{0:#010x} is no header of an MPEG audio layer III frame")]
    NotMp3(u32),
}

/// The track that a frame (ISO 11172-3 §2.4.1.3) belongs to.
///
/// ```text
/// | sync 11 | version 2 | layer 2 | CRC 1 | bitrate 4 | rate 2 | padding 1 | private 1 | mode 2 | … |
/// ```
pub fn track(frame: &[u8]) -> Result<Track, Mp3Error> {
    let header = frame.first_chunk().map(|header| u32::from_be_bytes(*header));
    let header = header.ok_or(Mp3Error::Truncated(frame.len()))?;
    let not_mp3 = Mp3Error::NotMp3(header);
    let [sync, version, layer] = [header >> 21, header >> 19 & 3, header >> 17 & 3];
    if sync != 0x7ff || layer != 1 {
        return Err(not_mp3);
    }
    let rate: u32 = match header >> 10 & 3 {
        0 => 44_100,
        1 => 48_000,
        2 => 32_000,
        _ => return Err(not_mp3),
    };
    let sample_rate = match version {
        3 => rate,     // MPEG 1
        2 => rate / 2, // MPEG 2, ISO 13818-3 §2.4.2.3
        0 => rate / 4, // MPEG 2.5
        _ => return Err(not_mp3),
    };
    let channels = if header >> 6 & 3 == 3 { 1 } else { 2 };
    let sound = Sound { sample_rate, channels, profile: "Other" };
    Ok(Track { codec: Codec::Mp3, config: Bytes::new(), shape: Shape::Audio(sound) })
}

/// How long a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// With its header.
    pub bytes: usize,
    pub samples: u32,
    pub sample_rate: u32,
}

/// What a frame's header says of its length (ISO 11172-3 §2.4.2.3, ISO 13818-3 §2.4.2.3); `None` where it
/// is no header, or its bitrate is free.
pub fn length(frame: &[u8]) -> Option<Length> {
    const MPEG1_KBPS: [u32; 16] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0];
    const MPEG2_KBPS: [u32; 16] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0];
    let Shape::Audio(Sound { sample_rate, .. }) = track(frame).ok()?.shape else { return None };
    let &[_, version, rates, ..] = frame else { return None };
    let mpeg1 = version >> 3 & 3 == 3;
    let (table, samples) = if mpeg1 { (MPEG1_KBPS, 1152) } else { (MPEG2_KBPS, 576) };
    let kbps = *table.get(usize::from(rates >> 4)).filter(|kbps| **kbps > 0)?;
    let bytes = samples / 8 * kbps * 1000 / sample_rate + u32::from(rates >> 1 & 1);
    Some(Length { bytes: bytes as usize, samples, sample_rate })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound(header: [u8; 4]) -> Option<(u32, u8)> {
        match track(&header).ok()?.shape {
            Shape::Audio(sound) => Some((sound.sample_rate, sound.channels)),
            Shape::Video(_) => None,
        }
    }

    #[test]
    fn reads_rate_and_channels() {
        assert_eq!(sound([0xff, 0xfb, 0x90, 0x44]), Some((44_100, 2)));
        assert_eq!(sound([0xff, 0xfb, 0x94, 0xc4]), Some((48_000, 1)));
        assert_eq!(sound([0xff, 0xf3, 0x60, 0x40]), Some((22_050, 2)));
        assert_eq!(sound([0xff, 0xe3, 0x68, 0xc0]), Some((8_000, 1)));
    }

    #[test]
    fn reads_lengths() {
        let told = |header| length(header).map(|length| (length.bytes, length.samples, length.sample_rate));
        assert_eq!(told(&[0xff, 0xfb, 0x90, 0x44]), Some((417, 1152, 44_100)));
        assert_eq!(told(&[0xff, 0xfb, 0x92, 0x44]), Some((418, 1152, 44_100)));
        assert_eq!(told(&[0xff, 0xf3, 0x60, 0x40]), Some((156, 576, 22_050)));
        assert_eq!(told(&[0xff, 0xfb, 0x00, 0x44]), None);
    }

    #[test]
    fn refuses_what_is_no_layer_iii_header() {
        for header in [[0xff, 0xfd, 0x90, 0], [0xff, 0xfb, 0x9c, 0], [0xff, 0xeb, 0x90, 0], [0, 0, 0, 0]] {
            assert_eq!(track(&header), Err(Mp3Error::NotMp3(u32::from_be_bytes(header))));
        }
        assert_eq!(track(&[0xff, 0xfb, 0x90]), Err(Mp3Error::Truncated(3)));
    }
}
