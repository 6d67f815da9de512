//! Sound between single frames and the byte stream of a transport stream, where frames carry headers.

use super::pes::HZ;
use crate::codec::{aac, mp3};
use bytes::Bytes;
use shardcast_engine::{
    codec::{Codec, Kind},
    frame::{Frame, Media},
    time::Timestamp,
    track::Track,
};
use std::collections::VecDeque;

/// Appends `frame` as a transport stream has it: AAC behind an ADTS header, Opus behind a control header, others as
/// they are. Nothing where ADTS cannot tell the configuration.
pub fn write(track: &Track, frame: &Frame, out: &mut Vec<u8>) {
    if track.codec == Codec::Aac {
        match aac::adts_header(&track.config, frame.payload.len()) {
            Some(header) => out.extend_from_slice(&header),
            None => return,
        }
    }
    if track.codec == Codec::Opus {
        // "Carriage of Opus in ISO/IEC 13818-1" §4: no trimming; the size in bytes of 255 and a last one below.
        let len = frame.payload.len();
        out.extend_from_slice(&[0x7f, 0xe0]);
        out.resize(out.len() + len / 255, 255);
        out.push((len % 255) as u8);
    }
    out.extend_from_slice(&frame.payload);
}

/// Cuts a byte stream into frames, which may reach over PES packets.
#[derive(Debug, Default)]
pub struct Cutter {
    /// The beginning of a frame whose end is still to come: shorter than the longest frame.
    rest: Vec<u8>,
    /// Where the next frame starts, where the one before tells.
    next: Option<Timestamp>,
    /// The track as it was told last.
    track: Option<Track>,
}

/// One frame, as its header tells it.
struct Found {
    header_len: usize,
    len: usize,
    samples: u32,
    sample_rate: u32,
    track: Option<Track>,
}

impl Cutter {
    /// Something is missing before what comes next.
    pub fn reset(&mut self) {
        self.rest.clear();
        self.next = None;
    }

    /// Reads the data of a PES packet, whose time (ticks of 90 kHz) is that of the first frame that starts in
    /// it. Returns how often something was skipped.
    pub fn read(&mut self, codec: Codec, ticks: Option<i64>, data: &Bytes, out: &mut VecDeque<Media>) -> u64 {
        let told = ticks.map(|ticks| Timestamp::from_ticks(ticks, HZ));
        // With nothing left over, the first frame starts with the packet.
        let mut carried = self.rest.len();
        let bytes = if carried == 0 {
            data.clone()
        } else {
            let mut joined = std::mem::take(&mut self.rest);
            joined.extend_from_slice(data);
            joined.into()
        };
        if carried == 0 {
            self.next = told.or(self.next);
        }
        let (mut at, mut skipped, mut lost) = (0usize, 0, false);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(found) = found(codec, rest) else {
                if rest.len() < aac::ADTS_HEADER_LEN && !lost {
                    break;
                }
                // Look for the next header.
                skipped += u64::from(!lost);
                lost = true;
                at += 1;
                continue;
            };
            if rest.len() < found.len {
                break;
            }
            if carried > 0 && at >= carried {
                self.next = told.or(self.next);
                carried = 0;
            }
            lost = false;
            match (self.next, found.track) {
                (Some(dts), Some(track)) => {
                    if self.track.as_ref() != Some(&track) {
                        self.track = Some(track.clone());
                        out.push_back(Media::Track(track));
                    }
                    let payload = bytes.slice(at + found.header_len..at + found.len);
                    out.push_back(Media::Frame(Frame { kind: Kind::Audio, dts, pts: dts, keyframe: false, payload }));
                }
                _ => skipped += 1,
            }
            let span = Timestamp::from_ticks(found.samples.into(), found.sample_rate);
            self.next = self.next.map(|next| next + span);
            at += found.len;
        }
        self.rest = bytes.get(at..).filter(|_| !lost).unwrap_or_default().to_vec();
        skipped
    }
}

fn found(codec: Codec, bytes: &[u8]) -> Option<Found> {
    if codec == Codec::Aac {
        let aac::Adts { header_len, len, sample_rate, config, blocks } = aac::adts(bytes)?;
        let track = aac::track(Bytes::copy_from_slice(&config)).ok().filter(|_| blocks == 1);
        return Some(Found { header_len, len, samples: 1024 * u32::from(blocks), sample_rate, track });
    }
    let mp3::Length { bytes: len, samples, sample_rate } = mp3::length(bytes)?;
    Some(Found { header_len: 0, len, samples, sample_rate, track: mp3::track(bytes).ok() })
}
