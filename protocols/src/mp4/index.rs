//! What a file of fragments needs to become a plain one: where every sample lies.

use super::{
    Fragment, Fragmenter, Sample,
    boxes::{boxed, full, put32, put64},
    movie::{self, Span},
};
use shardcast_engine::track::Track;

/// Samples of all tracks: 16 bytes each here, half a day and more of a usual stream.
const MOST_SAMPLES: usize = 4 << 20;
/// From the start of a box to its type.
const TO_TYPE: u64 = 4;

/// Grows with each fragment that is appended to the file.
pub struct Index {
    tracks: Vec<Indexed>,
    /// Where box types stand that announce fragments.
    fragment_types: Vec<u64>,
    /// Bytes of the file.
    len: u64,
    samples: usize,
}

struct Indexed {
    track: Track,
    start: Option<u64>,
    samples: Vec<Sample>,
    /// Where each run lies, and how many samples it has.
    chunks: Vec<(u64, u32)>,
}

/// How a file of fragments becomes a plain one: `moov` is appended, then each place in `overwrite` gets
/// [`Plain::FREE`], so that readers pass over what spoke of fragments.
pub struct Plain {
    pub moov: Vec<u8>,
    pub overwrite: Vec<u64>,
}

impl Plain {
    /// The type of a box without meaning (ISO 14496-12 §8.1.2).
    pub const FREE: [u8; 4] = *b"free";
}

impl Index {
    /// Of a file that begins with `init`, the fragmenter's initialisation segment.
    pub fn new(fragmenter: &Fragmenter, init: &[u8]) -> Self {
        let indexed =
            |track: &Track| Indexed { track: track.clone(), start: None, samples: Vec::new(), chunks: Vec::new() };
        let mut file_type = Vec::new();
        movie::file_type(&mut file_type);
        Self {
            tracks: fragmenter.tracks().map(indexed).collect(),
            fragment_types: vec![file_type.len() as u64 + TO_TYPE],
            len: init.len() as u64,
            samples: 0,
        }
    }

    /// The next fragment has been appended to the file.
    pub fn add(&mut self, fragment: &Fragment) {
        self.fragment_types.push(self.len + TO_TYPE);
        for run in &fragment.runs {
            let Some(indexed) = self.tracks.get_mut(run.track) else { continue };
            indexed.start.get_or_insert(run.start);
            indexed.chunks.push((self.len + run.offset, run.samples.len() as u32));
            indexed.samples.extend_from_slice(&run.samples);
            self.samples += run.samples.len();
        }
        self.len += fragment.bytes.len() as u64;
    }

    /// It should not grow any more: better another file begins.
    pub fn is_full(&self) -> bool {
        self.samples >= MOST_SAMPLES
    }

    /// What makes the file a plain one.
    pub fn finish(self) -> Plain {
        let mut moov = Vec::new();
        let spans: Vec<_> = self.tracks.iter().map(Indexed::span).collect();
        let in_movie = |(span, indexed): (&Span, &Indexed)| {
            let ticks = u128::from(span.start + span.duration) * u128::from(movie::MOVIE_HZ);
            (ticks / u128::from(movie::hz(&indexed.track))) as u64
        };
        let duration = spans.iter().zip(&self.tracks).map(in_movie).max().unwrap_or(0);
        boxed(b"moov", &mut moov, |out| {
            movie::movie_header(duration, self.tracks.len() as u32 + 1, out);
            for (id, (indexed, span)) in (1..).zip(self.tracks.iter().zip(spans)) {
                movie::track_box(id, &indexed.track, span, out, |out| indexed.tables(out));
            }
        });
        Plain { moov, overwrite: self.fragment_types }
    }
}

impl Indexed {
    fn span(&self) -> Span {
        let duration = self.samples.iter().map(|sample| u64::from(sample.duration)).sum();
        Span { start: self.start.unwrap_or(0), duration }
    }

    /// Sample tables (§8.6, §8.7).
    fn tables(&self, out: &mut Vec<u8>) {
        runs(b"stts", 0, self.samples.iter().map(|sample| sample.duration), out);
        if self.samples.iter().any(|sample| sample.composition != 0) {
            // Version 1: composition may come before decoding.
            runs(b"ctts", 1, self.samples.iter().map(|sample| sample.composition as u32), out);
        }
        if self.samples.iter().any(|sample| !sample.sync) {
            counted(b"stss", 0, out, |out| {
                let mut count = 0;
                for (number, _) in (1..).zip(&self.samples).filter(|(_, sample)| sample.sync) {
                    put32(out, number);
                    count += 1;
                }
                count
            });
        }
        counted(b"stsc", 0, out, |out| {
            let (mut count, mut before) = (0, None);
            for (number, (_, samples)) in (1..).zip(&self.chunks) {
                if before.replace(*samples) != Some(*samples) {
                    [number, *samples, 1].into_iter().for_each(|value| put32(out, value));
                    count += 1;
                }
            }
            count
        });
        full(b"stsz", 0, 0, out, |out| {
            put32(out, 0); // of different sizes
            put32(out, self.samples.len() as u32);
            self.samples.iter().for_each(|sample| put32(out, sample.size));
        });
        full(b"co64", 0, 0, out, |out| {
            put32(out, self.chunks.len() as u32);
            self.chunks.iter().for_each(|(offset, _)| put64(out, *offset));
        });
    }
}

/// A table of runs: how many samples have the same value.
fn runs(kind: &[u8; 4], version: u8, values: impl Iterator<Item = u32>, out: &mut Vec<u8>) {
    counted(kind, version, out, |out| {
        let (mut count, mut run) = (0, None);
        let mut end = |run: Option<(u32, u32)>, out: &mut Vec<u8>| {
            if let Some((samples, value)) = run {
                put32(out, samples);
                put32(out, value);
                count += 1;
            }
        };
        for value in values {
            run = match run {
                Some((samples, same)) if same == value => Some((samples + 1, value)),
                other => {
                    end(other, out);
                    Some((1, value))
                }
            };
        }
        end(run, out);
        count
    });
}

/// A table whose number of entries, which `write` gives, stands in front.
fn counted(kind: &[u8; 4], version: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> u32) {
    full(kind, version, 0, out, |out| {
        let at = out.len();
        put32(out, 0);
        let count = write(out);
        out[at..at + 4].copy_from_slice(&count.to_be_bytes());
    });
}
