//! One stream's sound from one codec to another.

use super::{
    RATE, Sample, SoundError,
    decode::Decoder,
    encode::{Encoder, Target},
    pace::Pacer,
    resample::Resampler,
};
use shardcast_engine::{fanout::Unit, frame::Frame, time::Timestamp, track::Track};

pub struct Transcoder {
    target: Target,
    source: Option<(Track, Decoder)>,
    resampler: Option<Resampler>,
    pacer: Pacer,
    encoder: Encoder,
    delay: i64,
    /// Frames that end before this tick, where the source began, are the codecs' run-up.
    start: Option<i64>,
    decoded: Vec<Sample>,
    resampled: Vec<Sample>,
}

impl Transcoder {
    pub fn new(target: Target) -> Result<Self, SoundError> {
        let mut encoder = Encoder::new(target)?;
        let delay = encoder.delay()?;
        Ok(Self {
            target,
            source: None,
            resampler: None,
            pacer: Pacer::default(),
            encoder,
            delay,
            start: None,
            decoded: Vec::new(),
            resampled: Vec::new(),
        })
    }

    /// Takes a unit of the source; what is ready goes to `out`. An error tells of this unit alone.
    pub fn push(&mut self, unit: &Unit, out: &mut Vec<Frame>) -> Result<(), SoundError> {
        let Some(track) = unit.prologue.track(unit.frame.kind) else { return Ok(()) };
        if self.source.as_ref().is_none_or(|(known, _)| known != track) {
            self.source = Some((track.clone(), Decoder::new(track)?));
            self.pacer.splice();
        }
        let Some((_, decoder)) = &mut self.source else { return Ok(()) };
        let at = unit.frame.dts.as_ticks(RATE);
        self.start.get_or_insert(at.max(0));
        self.decoded.clear();
        let decoded = decoder.decode(at, &unit.frame.payload, &mut self.decoded)?;
        let resampler = match &mut self.resampler {
            Some(resampler) if resampler.rate() == decoded.rate => resampler,
            slot => slot.insert(Resampler::new(decoded.rate)?),
        };
        self.resampled.clear();
        resampler.push(&self.decoded, &mut self.resampled);
        let lead = (decoded.lead + resampler.delay()) as u64 * u64::from(RATE) / u64::from(decoded.rate);
        self.pace(at - lead as i64, out)
    }

    fn pace(&mut self, at: i64, out: &mut Vec<Frame>) -> Result<(), SoundError> {
        if self.pacer.push(at, &self.resampled).is_err() {
            // What the encoder still holds belongs before the gap.
            self.pacer.pad(self.delay.unsigned_abs() as usize, self.encoder.frame_len());
            self.encode(out)?;
            self.pacer.restart();
            let _ = self.pacer.push(at, &self.resampled);
        }
        self.encode(out)
    }

    fn encode(&mut self, out: &mut Vec<Frame>) -> Result<(), SoundError> {
        let len = self.encoder.frame_len();
        while let Some((at, samples)) = self.pacer.take(len) {
            let Some((at, payload)) = self.encoder.encode(at, &samples)? else { continue };
            let at = at - self.delay;
            if self.start.is_none_or(|start| at + len as i64 > start) {
                let dts = Timestamp::from_ticks(at, RATE).max(Timestamp::ZERO);
                out.push(Frame { kind: self.target.kind(), dts, pts: dts, keyframe: false, payload });
            }
        }
        Ok(())
    }
}
