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
    fn refuses_what_is_no_layer_iii_header() {
        for header in [[0xff, 0xfd, 0x90, 0], [0xff, 0xfb, 0x9c, 0], [0xff, 0xeb, 0x90, 0], [0, 0, 0, 0]] {
            assert_eq!(track(&header), Err(Mp3Error::NotMp3(u32::from_be_bytes(header))));
        }
        assert_eq!(track(&[0xff, 0xfb, 0x90]), Err(Mp3Error::Truncated(3)));
    }
}
