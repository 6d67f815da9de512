//! FLAC: the streaminfo block. Frames are not looked into.

use bytes::Bytes;
use shardcast_engine::{
    codec::Codec,
    track::{Shape, Sound, Track},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlacError {
    #[error("FLAC configuration of {len} bytes has no streaminfo block of {STREAMINFO_LEN}")]
    NoStreamInfo { len: usize },
    #[error("FLAC with a sample rate of 0 is no sound")]
    NoRate,
}

/// RFC 9639 §8.2.
pub const STREAMINFO_LEN: usize = 34;
/// "fLaC" and the header of the first metadata block (§6, §8.1).
const FILE_HEADER_LEN: usize = 4 + 4;

/// The track that a streaminfo block configures, bare as ffmpeg sends it, or as a file starts.
pub fn track(config: Bytes) -> Result<Track, FlacError> {
    let info = streaminfo(&config).ok_or(FlacError::NoStreamInfo { len: config.len() })?;
    // | block sizes 32 | frame sizes 48 | rate 20 | channels - 1, 3 | depth - 1, 5 | samples 36 | MD5 128 |
    let &[r0, r1, r2, ..] = &info[10..] else { return Err(FlacError::NoRate) };
    let sample_rate = u32::from_be_bytes([0, r0, r1, r2]) >> 4;
    if sample_rate == 0 {
        return Err(FlacError::NoRate);
    }
    let sound = Sound { sample_rate, channels: (r2 >> 1 & 7) + 1, profile: "Other" };
    Ok(Track { codec: Codec::Flac, config, shape: Shape::Audio(sound) })
}

/// The streaminfo block of a configuration.
pub fn streaminfo(config: &[u8]) -> Option<&[u8; STREAMINFO_LEN]> {
    let block = if config.starts_with(b"fLaC") { config.get(FILE_HEADER_LEN..)? } else { config };
    block.first_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::{hex, mutations};

    /// Of ffmpeg 9: 48 kHz, 16 bit; stereo and 5.1.
    const STEREO: &str = "040004000000000000100bb802f00000000000000000000000000000000000000000";
    const SURROUND: &str = "040004000000000030240bb80af00000000000000000000000000000000000000000";

    fn channels(config: &[u8]) -> u8 {
        match track(Bytes::copy_from_slice(config)).unwrap().shape {
            Shape::Audio(sound) if sound.sample_rate == 48_000 => sound.channels,
            shape => panic!("{shape:?}"),
        }
    }

    #[test]
    fn reads_rate_and_channels_of_ffmpeg() {
        assert_eq!((channels(&hex(STEREO)), channels(&hex(SURROUND))), (2, 6));
        let file = [b"fLaC\x80\0\0\x22".to_vec(), hex(SURROUND)].concat();
        assert_eq!(channels(&file), 6);
        assert_eq!(track(Bytes::from_static(&[0; STREAMINFO_LEN])), Err(FlacError::NoRate));
        assert_eq!(track(Bytes::from_static(b"fLaC")), Err(FlacError::NoStreamInfo { len: 4 }));
    }

    #[test]
    fn hostile_bytes_never_panic() {
        mutations(&hex(SURROUND), 20_000, |bytes| drop(track(Bytes::copy_from_slice(bytes))));
    }
}
