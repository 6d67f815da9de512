//! Coded frames to samples.

use super::{RATE, Sample, SoundError};
use fdk_aac::dec::{Decoder as AacDecoder, DecoderError, Transport};
use shardcast_engine::{codec::Codec, track::Track};
use symphonia_bundle_mp3::MpaDecoder;
use symphonia_core::{
    codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions, well_known::CODEC_ID_MP3},
    packet::PacketRef,
    units::{Duration, Timestamp},
};

/// Longest AAC access unit: what the 13 bits of ADTS can tell.
const AAC_LEN: usize = 8_191;
/// Room behind it: fdk-aac reads on where an access unit lies about its length, until it notices.
const AAC_ROOM: usize = 64 << 10;
/// Samples of an AAC frame, at most: eight channels of 2048.
const AAC_SAMPLES: usize = 8 * 2_048;
/// What SBR adds to a decoder's delay, in samples (ISO 14496-3 §1.6.7.2). Encoders count it as theirs, and players
/// do not take it off again.
const SBR_DELAY: usize = 962;
/// Samples of an Opus packet, at most: 120 ms (RFC 6716 §3.2.5).
const OPUS_SAMPLES: usize = 5_760;
/// 2.5 ms, the least that Opus conceals.
const OPUS_STEP: i64 = 120;
/// Longer gaps are silence. A sender that saves (DTX, RFC 7587 §3.1.3) sends something every 400 ms.
const OPUS_CONCEALED: i64 = 24_000;

/// A decoder with the scratch that it needs.
pub enum Decoder {
    Aac { decoder: AacDecoder, unit: Box<[u8]>, pcm: Box<[i16]> },
    Mp3 { decoder: Box<MpaDecoder>, pcm: Vec<f32> },
    Opus { decoder: opus::Decoder, expected: Option<i64>, pcm: Box<[Sample]> },
}

/// What came out of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Hz.
    pub rate: u32,
    /// How many samples the first one lies before the frame's time: the decoder's delay, or what it concealed.
    pub lead: usize,
}

impl Decoder {
    pub fn new(track: &Track) -> Result<Self, SoundError> {
        Ok(match track.codec {
            Codec::Aac => {
                let mut decoder = AacDecoder::new(Transport::Raw);
                decoder.config_raw(&track.config).map_err(aac)?;
                // Mono is doubled, more than two channels are mixed.
                decoder.set_min_output_channels(2).map_err(aac)?;
                decoder.set_max_output_channels(2).map_err(aac)?;
                let unit = vec![0; AAC_LEN + AAC_ROOM].into();
                Self::Aac { decoder, unit, pcm: vec![0; AAC_SAMPLES].into() }
            }
            Codec::Mp3 => Self::Mp3 { decoder: mp3()?, pcm: Vec::new() },
            Codec::Opus => Self::Opus {
                decoder: opus::Decoder::new(RATE, opus::Channels::Stereo)?,
                expected: None,
                pcm: vec![[0.0; 2]; OPUS_SAMPLES].into(),
            },
            other => return Err(SoundError::NoDecoder(other)),
        })
    }

    /// Appends the samples of the frame whose time is `at`, in ticks of 48 kHz. After an error the next frame may
    /// be good.
    pub fn decode(&mut self, at: i64, frame: &[u8], out: &mut Vec<Sample>) -> Result<Decoded, SoundError> {
        match self {
            Self::Aac { decoder, unit, pcm } => {
                if frame.len() > AAC_LEN {
                    return Err(SoundError::TooLong(frame.len()));
                }
                unit[..frame.len()].copy_from_slice(frame);
                decoder.fill(&unit[..frame.len()]).map_err(aac)?;
                decoder.decode_frame(pcm).map_err(aac)?;
                let info = decoder.stream_info();
                let (rate, channels) = (info.sampleRate.max(0) as u32, info.numChannels.max(0) as usize);
                let samples = pcm.get(..channels * info.frameSize.max(0) as usize).unwrap_or(&[]);
                let value = |sample: i16| f32::from(sample) / 32_768.0;
                match channels {
                    1 => out.extend(samples.iter().map(|&one| [value(one); 2])),
                    2 => out.extend(samples.as_chunks().0.iter().map(|&[left, right]| [value(left), value(right)])),
                    _ => return Err(SoundError::Shape(rate, channels)),
                }
                let sbr = if info.sampleRate == 2 * info.aacSampleRate { SBR_DELAY } else { 0 };
                Ok(Decoded { rate, lead: (info.outputDelay as usize).saturating_sub(sbr) })
            }
            Self::Mp3 { decoder, pcm } => {
                let packet = PacketRef::new(0, Timestamp::ZERO, Duration::ZERO, frame);
                if decoder.decode_ref(&packet).is_err() {
                    // It keeps to the rate and channels of its first frame: perhaps these are others.
                    *decoder = mp3()?;
                    decoder.decode_ref(&packet)?;
                }
                let decoded = decoder.last_decoded();
                let (rate, channels) = (decoded.spec().rate(), decoded.spec().channels().count());
                decoded.copy_to_vec_interleaved(pcm);
                match channels {
                    1 => out.extend(pcm.iter().map(|&one| [one; 2])),
                    2 => out.extend_from_slice(pcm.as_chunks().0),
                    _ => return Err(SoundError::Shape(rate, channels)),
                }
                Ok(Decoded { rate, lead: 0 })
            }
            Self::Opus { decoder, expected, pcm } => {
                let len = decoder.get_nb_samples(frame)?.min(OPUS_SAMPLES);
                let before = out.len();
                let gap = expected.map_or(0, |expected| at - expected);
                if (OPUS_STEP..=OPUS_CONCEALED).contains(&gap) {
                    conceal(decoder, frame, len, gap as usize, pcm, out)?;
                }
                let lead = out.len() - before;
                let got = decoder.decode_float(frame, pcm.as_flattened_mut(), false)?;
                out.extend_from_slice(&pcm[..got]);
                *expected = Some(at + got as i64);
                Ok(Decoded { rate: RATE, lead })
            }
        }
    }
}

/// Fills `gap` samples before `packet` of `len`: the last packet lost from what this one says of it (in-band FEC,
/// RFC 6716 §2.1.7), those before by the decoder's own invention.
fn conceal(
    decoder: &mut opus::Decoder,
    packet: &[u8],
    len: usize,
    gap: usize,
    pcm: &mut [Sample],
    out: &mut Vec<Sample>,
) -> Result<(), SoundError> {
    let told = if gap >= len { len } else { 0 };
    let mut rest = (gap - told) / OPUS_STEP as usize * OPUS_STEP as usize;
    while rest > 0 {
        let step = rest.min(OPUS_SAMPLES / 6);
        let got = decoder.decode_float(&[], pcm[..step].as_flattened_mut(), false)?;
        out.extend_from_slice(&pcm[..got]);
        rest -= step;
    }
    if told > 0 {
        let got = decoder.decode_float(packet, pcm[..told].as_flattened_mut(), true)?;
        out.extend_from_slice(&pcm[..got]);
    }
    Ok(())
}

fn mp3() -> Result<Box<MpaDecoder>, SoundError> {
    let mut parameters = AudioCodecParameters::new();
    parameters.for_codec(CODEC_ID_MP3);
    Ok(Box::new(MpaDecoder::try_new(&parameters, &AudioDecoderOptions::default())?))
}

fn aac(error: DecoderError) -> SoundError {
    SoundError::Aac(error.message())
}
