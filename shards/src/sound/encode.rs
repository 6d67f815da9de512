//! Samples to coded frames.

use super::{RATE, Sample, SoundError};
use bytes::Bytes;
use fdk_aac::enc::{self, AudioObjectType, BitRate, ChannelMode, EncoderParams, Transport};
use shardcast_engine::{
    codec::{Codec, Kind},
    track::{Shape, Sound, Track},
};
use std::collections::VecDeque;

/// What sound becomes; always stereo at 48 kHz, `bitrate` in bit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// In packets of 20 ms.
    Opus { bitrate: u32 },
    /// AAC-LC.
    Aac { bitrate: u32 },
}

/// AudioSpecificConfig (ISO 14496-3 §1.6.2.1): AAC-LC 5 bits = 2, 48 kHz 4 bits = 3, stereo 4 bits = 2.
const AAC_CONFIG: [u8; 2] = [0x11, 0x90];
/// Longest Opus packet of 20 ms (RFC 6716 §3.4).
const OPUS_LEN: usize = 1_275;
/// Longest AAC access unit of two channels: 6144 bits each (ISO 14496-3 §4.5.3.2).
const AAC_LEN: usize = 2 * 6_144 / 8;
/// How hard Opus tries, of 10: what calls on small devices use. Beyond it CPU time doubles for little.
const OPUS_COMPLEXITY: i32 = 5;
/// Percent of packets that Opus is to expect lost. Where a sound begins it then leans less on what came before: of
/// that a player who joins right there has nothing, and would hear the beginning many times too loud.
const OPUS_LOSS: i32 = 10;

impl Target {
    pub fn kind(self) -> Kind {
        match self {
            Self::Opus { .. } => Kind::Opus,
            Self::Aac { .. } => Kind::Audio,
        }
    }

    /// The kind that it is made from.
    pub fn source(self) -> Kind {
        match self {
            Self::Opus { .. } => Kind::Audio,
            Self::Aac { .. } => Kind::Opus,
        }
    }

    pub fn codec(self) -> Codec {
        match self {
            Self::Opus { .. } => Codec::Opus,
            Self::Aac { .. } => Codec::Aac,
        }
    }

    /// The track that its frames belong to; `None` for Opus, which needs none.
    pub fn track(self) -> Option<Track> {
        let Self::Aac { .. } = self else { return None };
        let shape = Shape::Audio(Sound { sample_rate: RATE, channels: 2, profile: "LC" });
        Some(Track { codec: Codec::Aac, config: Bytes::from_static(&AAC_CONFIG), shape })
    }
}

pub struct Encoder {
    codec: Coder,
    /// Ticks of what went in and has not come out.
    waiting: VecDeque<i64>,
}

enum Coder {
    Opus(opus::Encoder),
    Aac(enc::Encoder),
}

impl Encoder {
    pub fn new(target: Target) -> Result<Self, SoundError> {
        let codec = match target {
            Target::Opus { bitrate } => {
                let mut encoder = opus::Encoder::new(RATE, opus::Channels::Stereo, opus::Application::Audio)?;
                encoder.set_bitrate(opus::Bitrate::Bits(i32::try_from(bitrate).unwrap_or(i32::MAX)))?;
                encoder.set_complexity(OPUS_COMPLEXITY)?;
                encoder.set_packet_loss_perc(OPUS_LOSS)?;
                Coder::Opus(encoder)
            }
            Target::Aac { bitrate } => Coder::Aac(
                enc::Encoder::new(EncoderParams {
                    bit_rate: BitRate::Cbr(bitrate),
                    sample_rate: RATE,
                    transport: Transport::Raw,
                    channels: ChannelMode::Stereo,
                    audio_object_type: AudioObjectType::Mpeg4LowComplexity,
                })
                .map_err(aac)?,
            ),
        };
        Ok(Self { codec, waiting: VecDeque::new() })
    }

    /// Samples that one frame is made of.
    pub fn frame_len(&self) -> usize {
        match self.codec {
            Coder::Opus(_) => 960,
            Coder::Aac(_) => 1_024,
        }
    }

    /// How much later, in samples, sound comes out of a decoder than it went in here.
    pub fn delay(&mut self) -> Result<i64, SoundError> {
        Ok(match &mut self.codec {
            Coder::Opus(encoder) => encoder.get_lookahead()?.into(),
            Coder::Aac(encoder) => encoder.info().map_err(aac)?.nDelay.into(),
        })
    }

    /// Takes a frame's samples, the first at tick `at`, and gives the frame that is ready with its tick, the delay
    /// not yet taken off.
    pub fn encode(&mut self, at: i64, samples: &[Sample]) -> Result<Option<(i64, Bytes)>, SoundError> {
        self.waiting.push_back(at);
        let coded = match &mut self.codec {
            Coder::Opus(encoder) => encoder.encode_vec_float(samples.as_flattened(), OPUS_LEN)?,
            Coder::Aac(encoder) => {
                let pcm: Vec<_> = samples.as_flattened().iter().map(|value| (value * 32_768.0) as i16).collect();
                let mut coded = vec![0; AAC_LEN];
                let len = encoder.encode(&pcm, &mut coded).map_err(aac)?.output_size;
                coded.truncate(len);
                coded
            }
        };
        Ok(if coded.is_empty() { None } else { self.waiting.pop_front().map(|at| (at, coded.into())) })
    }
}

fn aac(error: enc::EncoderError) -> SoundError {
    SoundError::AacEncoder(error.to_string())
}
