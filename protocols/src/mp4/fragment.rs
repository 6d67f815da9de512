//! Movie fragments (ISO 14496-12 §8.8): frames gather and come out as `moof` and `mdat`.

use super::{
    Sample,
    boxes::{boxed, full, put32, put64, zeros},
    movie::{self, Span},
};
use shardcast_engine::{frame::Frame, prologue::Prologue, time::Timestamp, track::Track};

/// A fragment has at least so much before a keyframe ends it,
const LEAST: Timestamp = Timestamp::from_whole_ms(500);
/// and no more than this whatever comes.
const MOST: Timestamp = Timestamp::from_whole_ms(2_000);
const MOST_BYTES: usize = 8 << 20;
const MOST_FRAMES: usize = 4_096;
/// How long the very last frame of a track lasts where there is none before it.
const LAST: Timestamp = Timestamp::from_whole_ms(40);

// Sample flags, §8.8.3.1: depends on no other; depends on others and is no sync sample.
const SYNC: u32 = 0x0200_0000;
const NOT_SYNC: u32 = 0x0101_0000;

/// Frames of one prologue's tracks to fragments. A frame's duration is known when the next one of its track is
/// there, so each track's newest frame waits for the next fragment.
pub struct Fragmenter {
    tracks: Vec<Gathering>,
    sequence: u32,
    bytes: usize,
}

struct Gathering {
    track: Track,
    hz: u32,
    waiting: Vec<Frame>,
    last_duration: Option<u32>,
}

/// What a fragment has of one track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which track, counted from 0.
    pub track: usize,
    /// Of its first sample, in ticks of the track.
    pub start: u64,
    /// Where its bytes begin, counted from the fragment's first byte.
    pub offset: u64,
    pub samples: Vec<Sample>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    pub bytes: Vec<u8>,
    pub runs: Vec<Run>,
}

impl Fragmenter {
    /// For the tracks of `prologue`; `None` where it has none.
    pub fn new(prologue: &Prologue) -> Option<Self> {
        let gathering = |track: &Track| Gathering {
            hz: movie::hz(track),
            track: track.clone(),
            waiting: Vec::new(),
            last_duration: None,
        };
        let tracks: Vec<_> = prologue.tracks().map(gathering).collect();
        (!tracks.is_empty()).then_some(Self { tracks, sequence: 0, bytes: 0 })
    }

    /// The tracks, in the order in which runs count them.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().map(|gathering| &gathering.track)
    }

    /// The initialisation segment: `ftyp`, and a `moov` that announces fragments.
    pub fn init(&self, out: &mut Vec<u8>) {
        movie::file_type(out);
        boxed(b"moov", out, |out| {
            movie::movie_header(0, self.tracks.len() as u32 + 1, out);
            for (id, gathering) in (1..).zip(&self.tracks) {
                movie::track_box(id, &gathering.track, Span::default(), out, movie::no_samples);
            }
            boxed(b"mvex", out, |out| {
                for (id, _) in (1..).zip(&self.tracks) {
                    full(b"trex", 0, 0, out, |out| {
                        put32(out, id);
                        put32(out, 1); // sample description
                        zeros(out, 12);
                    });
                }
            });
        });
    }

    /// Takes a frame, whose times count from the file's start. The fragment that it completes, if it does. A frame
    /// before the start or of a track that is not there is left out.
    pub fn push(&mut self, frame: Frame) -> Option<Fragment> {
        let at = self.tracks.iter().position(|gathering| gathering.track.kind() == frame.kind)?;
        if frame.dts < Timestamp::ZERO || u32::try_from(frame.payload.len()).is_err() {
            return None;
        }
        self.bytes += frame.payload.len();
        let keyframe = frame.keyframe;
        let newest = frame.dts;
        self.tracks[at].waiting.push(frame);
        let oldest = self.tracks.iter().filter_map(|gathering| gathering.waiting.first()).map(|frame| frame.dts).min();
        let span = newest - oldest.unwrap_or(newest);
        let full = self.bytes >= MOST_BYTES || self.tracks[at].waiting.len() >= MOST_FRAMES;
        (keyframe && span >= LEAST || span >= MOST || full).then(|| self.fragment(false)).flatten()
    }

    /// What is left, each track's newest frame too.
    pub fn finish(&mut self) -> Option<Fragment> {
        self.fragment(true)
    }

    fn fragment(&mut self, all: bool) -> Option<Fragment> {
        let mut parts = Vec::new();
        for (at, gathering) in self.tracks.iter_mut().enumerate() {
            parts.extend(gathering.take(at, all));
        }
        if parts.is_empty() {
            return None;
        }
        self.sequence = self.sequence.wrapping_add(1);
        let payloads = || parts.iter().flat_map(|(_, frames)| frames).map(|frame| &frame.payload);
        let len: usize = payloads().map(|payload| payload.len()).sum();
        self.bytes = self.bytes.saturating_sub(len);
        // The offsets in the runs are known once the header's length is, which does not depend on them.
        let mut bytes = Vec::with_capacity(len + 4_096);
        header(self.sequence, &parts, 0, &mut bytes);
        let data = bytes.len() + 8;
        bytes.clear();
        header(self.sequence, &parts, data, &mut bytes);
        // A copy: the payloads go into one write.
        boxed(b"mdat", &mut bytes, |out| payloads().for_each(|payload| out.extend_from_slice(payload)));
        let mut offset = data as u64;
        let runs = parts.into_iter().map(|(mut run, frames)| {
            run.offset = offset;
            offset += frames.iter().map(|frame| frame.payload.len() as u64).sum::<u64>();
            run
        });
        Some(Fragment { runs: runs.collect(), bytes })
    }
}

impl Gathering {
    fn take(&mut self, track: usize, all: bool) -> Option<(Run, Vec<Frame>)> {
        let keep = usize::from(!all);
        let count = self.waiting.len().checked_sub(keep).filter(|count| *count > 0)?;
        let next = self.waiting.split_off(count);
        let frames = std::mem::replace(&mut self.waiting, next);
        let hz = self.hz;
        let ticks = |time: Timestamp| time.as_ticks(hz);
        let mut samples = Vec::with_capacity(frames.len());
        for (at, frame) in frames.iter().enumerate() {
            let next = frames.get(at + 1).or(self.waiting.first());
            let last = || self.last_duration.unwrap_or(ticks(LAST).try_into().unwrap_or(0));
            let until = |next: &Frame| u32::try_from((ticks(next.dts) - ticks(frame.dts)).max(0)).unwrap_or(u32::MAX);
            let duration = next.map_or_else(last, until);
            self.last_duration = Some(duration);
            let composition = ticks(frame.pts).saturating_sub(ticks(frame.dts));
            samples.push(Sample {
                size: u32::try_from(frame.payload.len()).unwrap_or(u32::MAX),
                duration,
                composition: composition.clamp(i32::MIN.into(), i32::MAX.into()) as i32,
                sync: frame.keyframe || frame.kind == shardcast_engine::codec::Kind::Audio,
            });
        }
        let start = ticks(frames.first()?.dts).max(0) as u64;
        Some((Run { track, start, offset: 0, samples }, frames))
    }
}

/// `moof` (§8.8.4) of a fragment whose first payload byte is byte `data`.
fn header(sequence: u32, parts: &[(Run, Vec<Frame>)], data: usize, out: &mut Vec<u8>) {
    let mut offset = data;
    boxed(b"moof", out, |out| {
        full(b"mfhd", 0, 0, out, |out| put32(out, sequence));
        for (run, frames) in parts {
            boxed(b"traf", out, |out| {
                // Offsets count from the moof.
                full(b"tfhd", 0, 0x02_0000, out, |out| put32(out, run.track as u32 + 1));
                full(b"tfdt", 1, 0, out, |out| put64(out, run.start));
                // Offset, then durations, sizes, flags and composition times.
                full(b"trun", 1, 0xf01, out, |out| {
                    put32(out, run.samples.len() as u32);
                    put32(out, u32::try_from(offset).unwrap_or(u32::MAX));
                    for sample in &run.samples {
                        put32(out, sample.duration);
                        put32(out, sample.size);
                        put32(out, if sample.sync { SYNC } else { NOT_SYNC });
                        put32(out, sample.composition as u32);
                    }
                });
            });
            offset += frames.iter().map(|frame| frame.payload.len()).sum::<usize>();
        }
    });
}
