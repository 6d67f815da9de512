//! Sound to AAC-LC, two channels.

use super::{live::Error, tone::CHANNELS};
use bytes::Bytes;
use fdk_aac::enc;
use shardcast_engine::{
    codec::Codec,
    track::{Shape, Sound, Track},
};

/// Samples per channel in one access unit (ISO 14496-3 §4.5.1.1, frameLengthFlag 0).
pub const UNIT_SAMPLES: u64 = 1024;

/// No AAC access unit is longer: 6144 bits per channel (ISO 14496-3 §4.5.3.2).
const UNIT_BYTES_MAX: usize = 6144 / 8 * CHANNELS;

#[derive(Debug)]
pub struct Encoder {
    encoder: enc::Encoder,
    sample_rate: u32,
    config: Bytes,
    delay_samples: u64,
}

impl Encoder {
    pub fn new(sample_rate: u32, kbps: u32) -> Result<Self, Error> {
        let encoder = enc::Encoder::new(enc::EncoderParams {
            bit_rate: enc::BitRate::Cbr(kbps.saturating_mul(1000)),
            sample_rate,
            transport: enc::Transport::Raw,
            channels: enc::ChannelMode::Stereo,
            audio_object_type: enc::AudioObjectType::Mpeg4LowComplexity,
        })
        .map_err(refused)?;
        let info = encoder.info().map_err(refused)?;
        let config = info.confBuf.get(..info.confSize as usize).unwrap_or_default();
        Ok(Self { sample_rate, config: Bytes::copy_from_slice(config), delay_samples: u64::from(info.nDelay), encoder })
    }

    /// How many samples later than its input a decoder's output is, when both count from zero.
    pub fn delay_samples(&self) -> u64 {
        self.delay_samples
    }

    pub fn track(&self) -> Track {
        let sound = Sound { sample_rate: self.sample_rate, channels: CHANNELS as u8, profile: "LC" };
        Track { codec: Codec::Aac, config: self.config.clone(), shape: Shape::Audio(sound) }
    }

    /// One access unit from `UNIT_SAMPLES` interleaved samples.
    pub fn encode(&mut self, samples: &[i16]) -> Result<Bytes, Error> {
        let mut unit = vec![0; UNIT_BYTES_MAX];
        let done = self.encoder.encode(samples, &mut unit).map_err(refused)?;
        if done.input_consumed != samples.len() || done.output_size == 0 {
            return Err(Error::Sound(format!(
                "took {} of {} samples and made {} bytes",
                done.input_consumed,
                samples.len(),
                done.output_size
            )));
        }
        unit.truncate(done.output_size);
        Ok(unit.into())
    }
}

fn refused(error: enc::EncoderError) -> Error {
    Error::Sound(error.to_string())
}
