//! H.264 over RTP (RFC 6184, packetization mode 1): frames to payloads, and payloads to frames.
//!
//! Interleaving (mode 2), MTAP and FU-B are neither written nor read.

use super::order::Order;
use crate::{
    codec::avc,
    ts::access_unit::{self, Sets},
};
use bytes::Bytes;
use shardcast_engine::{
    codec::{Codec, Kind},
    frame::{Frame, Media},
    time::Timestamp,
    track::Track,
};
use std::{collections::VecDeque, ops::Range};

pub use access_unit::nal_length_size;

/// The RTP clock of video (RFC 6184 §8.2.1).
pub const HZ: u32 = 90_000;

// Payload types beside single NAL units, RFC 6184 §5.2 table 1.
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// The payloads of `frame`, none longer than `max_len` (at least 16); the last one gets the marker. None where
/// there is nothing to send, or the track's configuration is broken.
///
/// Before a keyframe stand the parameter sets of the configuration, unless it has its own: as one STAP-A
/// (§5.7.1) where they fit. A longer NAL unit becomes fragments (FU-A, §5.8) of one size, the last perhaps
/// shorter, so that one system call with segmentation can send them. Access unit delimiters are left out, and SEI
/// unless `keep_sei`.
pub fn packetize(track: &Track, frame: &Frame, max_len: usize, keep_sei: bool) -> Vec<Bytes> {
    let Some(nal_length_size) = nal_length_size(track) else { return Vec::new() };
    let goes = |kind| match kind {
        avc::AUD => false,
        avc::SEI => keep_sei,
        _ => (1..STAP_A).contains(&kind),
    };
    let units = || {
        let units = avc::nal_units(&frame.payload, nal_length_size).map_while(Result::ok);
        units.filter(|nal| nal_type(nal).is_some_and(goes))
    };
    if units().next().is_none() {
        return Vec::new();
    }
    // Fragments have bytes of their own before the payload's, so the frame is copied once, to one buffer.
    let mut out = Payloads { bytes: Vec::with_capacity(frame.payload.len() + 256), ranges: Vec::new() };
    if frame.keyframe && !units().any(|nal| nal_type(nal) == Some(avc::SPS)) {
        let sets: Vec<&[u8]> = access_unit::sets(track).collect();
        out.aggregate(&sets, max_len);
    }
    units().for_each(|nal| out.unit(nal, max_len));
    out.finish()
}

fn nal_type(nal: &[u8]) -> Option<u8> {
    avc::nal_type(nal)
}

struct Payloads {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl Payloads {
    /// ```text
    /// | F 1 | NRI 2 | type 5 = 24 | { length 16, NAL unit } |
    /// ```
    fn aggregate(&mut self, nals: &[&[u8]], max_len: usize) {
        let len = nals.iter().fold(1, |len: usize, nal| len.saturating_add(nal.len()).saturating_add(2));
        if nals.len() < 2 || len > max_len.min(u16::MAX.into()) {
            nals.iter().for_each(|nal| self.unit(nal, max_len));
            return;
        }
        // §5.3: as important as the most important of them.
        let nri = nals.iter().filter_map(|nal| nal.first()).map(|first| first & 0x60).max().unwrap_or(0);
        let start = self.bytes.len();
        self.bytes.push(nri | STAP_A);
        for nal in nals {
            // Shorter than the whole, which was checked.
            self.bytes.extend_from_slice(&(nal.len() as u16).to_be_bytes());
            self.bytes.extend_from_slice(nal);
        }
        self.ranges.push(start..self.bytes.len());
    }

    /// A NAL unit as it is, or in fragments:
    /// ```text
    /// | F 1 | NRI 2 | type 5 = 28 | start 1 | end 1 | 0 | NAL unit type 5 | a part of what follows the header |
    /// ```
    fn unit(&mut self, nal: &[u8], max_len: usize) {
        let Some((header, rest)) = nal.split_first() else { return };
        if nal.len() <= max_len {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(nal);
            self.ranges.push(start..self.bytes.len());
            return;
        }
        let count = rest.len().div_ceil(max_len.max(16) - 2);
        let len = rest.len().div_ceil(count.max(1)).max(1);
        let last = rest.len().div_ceil(len).saturating_sub(1);
        for (n, part) in rest.chunks(len).enumerate() {
            let start = self.bytes.len();
            let position = u8::from(n == 0) << 7 | u8::from(n == last) << 6;
            self.bytes.extend_from_slice(&[header & 0xe0 | FU_A, position | header & 31]);
            self.bytes.extend_from_slice(part);
            self.ranges.push(start..self.bytes.len());
        }
    }

    fn finish(self) -> Vec<Bytes> {
        let bytes = Bytes::from(self.bytes);
        self.ranges.into_iter().map(|range| bytes.slice(range)).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("H.264 payload is empty")]
    Empty,
    #[error("H.264 payload of type {0}, which packetization mode 1 has not")]
    Type(u8),
    #[error("H.264 aggregate states a unit of {len} bytes, {left} are left")]
    Aggregate { len: usize, left: usize },
    #[error("H.264 fragment without its beginning")]
    NoStart,
    #[error("H.264 picture is longer than {max} bytes")]
    TooLong { max: usize },
}

/// Makes access units of payloads that come in order. A gap or a wrong payload costs its picture and those
/// up to the next keyframe.
#[derive(Debug)]
pub struct Depacketizer {
    max_len: usize,
    /// The access unit that is being put together, as a byte stream (ITU-T H.264 annex B).
    unit: Vec<u8>,
    /// When it is shown.
    at: Option<Timestamp>,
    /// The sequence number that comes next, where nothing is lost.
    next: Option<i64>,
    /// A fragmented NAL unit has begun and not ended.
    open: bool,
    has_slice: bool,
    damaged: bool,
    waits: bool,
    sets: Sets,
    /// Parameter sets told beside the stream, as a byte stream, until the first picture.
    offered: Vec<u8>,
    /// A track that was not told yet.
    track: Option<Track>,
    order: Order,
    /// Access units left out: damaged, or between damage and a keyframe.
    pub dropped: u64,
}

const START_CODE: [u8; 4] = [0, 0, 0, 1];

impl Depacketizer {
    /// `max_len` bounds an access unit, in bytes.
    pub fn new(max_len: usize) -> Self {
        Self {
            max_len,
            unit: Vec::new(),
            at: None,
            next: None,
            open: false,
            has_slice: false,
            damaged: false,
            waits: true,
            sets: Sets::default(),
            offered: Vec::new(),
            track: None,
            order: Order::default(),
            dropped: 0,
        }
    }

    /// Parameter sets that came by signalling (RFC 6184 §8.2.1, sprop-parameter-sets), as a byte stream. Those of
    /// the stream come before them.
    pub fn offer(&mut self, sets: &[u8]) {
        self.offered = sets.to_vec();
    }

    /// Another source's payloads follow: what was begun is left out, and pictures wait for a keyframe.
    pub fn restart(&mut self) {
        self.unit.clear();
        (self.at, self.next, self.waits) = (None, None, true);
        (self.open, self.damaged, self.has_slice) = (false, false, false);
    }

    /// Nothing comes out before the next keyframe: the sender should be asked for one.
    pub fn wants_keyframe(&self) -> bool {
        self.waits
    }

    /// One payload at its unwrapped sequence number. A wrong one is told and leaves its access unit out.
    pub fn push(
        &mut self,
        sequence: i64,
        at: Timestamp,
        marker: bool,
        payload: &[u8],
        out: &mut VecDeque<Media>,
    ) -> Result<(), PayloadError> {
        let lost = self.next.is_some_and(|next| next != sequence);
        self.next = sequence.checked_add(1);
        if lost {
            self.damaged |= self.at.is_some();
            self.waits = true;
        }
        if payload.is_empty() {
            // Padding alone, which probes the path: it has a sequence number and says nothing.
            return Ok(());
        }
        if self.at.is_some_and(|before| before != at) {
            // Its marker is missing; where nothing was lost it is whole.
            self.finish(out);
        }
        self.at = Some(at);
        // After a gap only what begins an access unit shows that nothing of it is missing (§7.4.1.2.3 of H.264).
        self.damaged |= lost && !begins_unit(payload);
        let taken = if self.damaged { Ok(()) } else { self.take(payload) };
        if taken.is_err() {
            self.damaged = true;
            self.waits = true;
        }
        if marker {
            self.finish(out);
        }
        taken
    }

    fn take(&mut self, payload: &[u8]) -> Result<(), PayloadError> {
        let (&first, rest) = payload.split_first().ok_or(PayloadError::Empty)?;
        let kind = first & 31;
        if kind != FU_A && self.open {
            return Err(PayloadError::NoStart);
        }
        match kind {
            1..STAP_A => self.append(&[payload], kind),
            STAP_A => {
                let mut rest = rest;
                while let Some((length, after)) = rest.split_first_chunk() {
                    let len = usize::from(u16::from_be_bytes(*length));
                    let Some((nal, after)) = after.split_at_checked(len) else {
                        return Err(PayloadError::Aggregate { len, left: after.len() });
                    };
                    if let Some(kind) = nal_type(nal) {
                        self.append(&[nal], kind)?;
                    }
                    rest = after;
                }
                if rest.is_empty() { Ok(()) } else { Err(PayloadError::Aggregate { len: 2, left: rest.len() }) }
            }
            FU_A => {
                let (&fu, part) = rest.split_first().ok_or(PayloadError::Empty)?;
                let (start, end) = (fu & 0x80 != 0, fu & 0x40 != 0);
                if start == self.open {
                    return Err(PayloadError::NoStart);
                }
                self.open = !end;
                if start { self.append(&[&[first & 0xe0 | fu & 31], part], fu & 31) } else { self.grow(part) }
            }
            _ => Err(PayloadError::Type(kind)),
        }
    }

    fn append(&mut self, parts: &[&[u8]], kind: u8) -> Result<(), PayloadError> {
        self.has_slice |= matches!(kind, 1..=5);
        self.grow(&START_CODE)?;
        parts.iter().try_for_each(|part| self.grow(part))
    }

    fn grow(&mut self, bytes: &[u8]) -> Result<(), PayloadError> {
        if self.unit.len().saturating_add(bytes.len()) > self.max_len {
            return Err(PayloadError::TooLong { max: self.max_len });
        }
        self.unit.extend_from_slice(bytes);
        Ok(())
    }

    /// The access unit is over.
    fn finish(&mut self, out: &mut VecDeque<Media>) {
        let Some(at) = self.at.take() else { return };
        let damaged = self.damaged || self.open;
        if !damaged && !self.has_slice {
            // Parameter sets by themselves: they wait for their picture.
            return;
        }
        if damaged {
            self.waits = true;
            self.dropped += 1;
        } else {
            self.emit(at, out);
        }
        self.unit.clear();
        (self.open, self.damaged, self.has_slice) = (false, false, false);
    }

    fn emit(&mut self, at: Timestamp, out: &mut VecDeque<Media>) {
        if !self.offered.is_empty() {
            let offered = std::mem::take(&mut self.offered);
            let own = avc::annexb_units(&self.unit).any(|nal| nal_type(nal) == Some(avc::SPS));
            if !own {
                self.unit.splice(..0, offered);
            }
        }
        let picture = self.sets.read(Codec::H264, &self.unit);
        if let Some(config) = picture.as_ref().and_then(|picture| picture.config.clone()) {
            let depth = avc::Config::parse(&config).ok().and_then(|config| avc::max_reorder(config.sps.first()?));
            self.order.state(depth);
            self.track = avc::track(config).ok();
        }
        let Some(picture) = picture.filter(|picture| picture.keyframe || !self.waits) else {
            self.dropped += 1;
            return;
        };
        out.extend(self.track.take().map(Media::Track));
        self.waits = false;
        let (dts, pts) = self.order.place(at, picture.keyframe);
        out.push_back(Media::Frame(Frame {
            kind: Kind::Video,
            dts,
            pts,
            keyframe: picture.keyframe,
            payload: picture.payload.into(),
        }));
    }
}

/// Whether a payload starts with a NAL unit that only the beginning of an access unit has: a sequence
/// parameter set or a delimiter, which senders put there.
fn begins_unit(payload: &[u8]) -> bool {
    let first = match nal_type(payload) {
        Some(STAP_A) => payload.get(3).map(|first| first & 31),
        kind => kind,
    };
    matches!(first, Some(avc::SPS | avc::AUD))
}
