//! One incoming track: packets in any order in, media out.

use super::{
    Packet,
    clock::Clock,
    h264::{self, Depacketizer},
    opus,
    reorder::Reorder,
};
use shardcast_engine::{codec::Codec, frame::Media, time::Timestamp, track::Track};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

#[derive(Debug)]
pub struct Receiver {
    reorder: Reorder,
    clock: Clock,
    payload: Payload,
    /// Where the times of all tracks of the source begin.
    start: Instant,
    out: VecDeque<Media>,
    /// Payloads that could not be read.
    pub wrong: u64,
}

#[derive(Debug)]
enum Payload {
    H264(Box<Depacketizer>),
    /// The track, until it was told; then the time of the last packet.
    Opus(Option<Track>, Option<Timestamp>),
}

/// How long a gap may hold up what follows: a retransmission over 100 ms of round trip arrives.
const MAX_WAIT: Duration = Duration::from_millis(250);
/// A keyframe of 500 KB.
const MAX_VIDEO_PACKETS: usize = 512;
/// Two seconds of 20 ms packets.
const MAX_AUDIO_PACKETS: usize = 100;
const MAX_ACCESS_UNIT_LEN: usize = 8 << 20;

impl Receiver {
    pub fn h264(start: Instant) -> Self {
        let payload = Payload::H264(Box::new(Depacketizer::new(MAX_ACCESS_UNIT_LEN)));
        Self::new(start, payload, h264::HZ, MAX_VIDEO_PACKETS)
    }

    pub fn opus(start: Instant, channels: u8) -> Self {
        Self::new(start, Payload::Opus(Some(opus::track(channels)), None), opus::HZ, MAX_AUDIO_PACKETS)
    }

    fn new(start: Instant, payload: Payload, hz: u32, max_packets: usize) -> Self {
        let reorder = Reorder::new(max_packets, MAX_WAIT);
        Self { reorder, clock: Clock::new(hz), payload, start, out: VecDeque::new(), wrong: 0 }
    }

    pub fn codec(&self) -> Codec {
        match self.payload {
            Payload::H264(_) => Codec::H264,
            Payload::Opus(..) => Codec::Opus,
        }
    }

    pub fn input(&mut self, now: Instant, packet: Packet) {
        self.reorder.push(now, packet);
        self.expire(now);
    }

    /// The deadline has passed.
    pub fn expire(&mut self, now: Instant) {
        while let Some((sequence, Packet { header, payload })) = self.reorder.pop(now) {
            let at = self.clock.place(self.start, now, header.timestamp);
            match &mut self.payload {
                Payload::H264(depacketizer) => {
                    let read = depacketizer.push(sequence, at, header.marker, &payload, &mut self.out);
                    self.wrong += u64::from(read.is_err());
                }
                Payload::Opus(track, last) => match opus::frame(at, payload) {
                    Some(frame) if last.is_none_or(|last| last < at) => {
                        *last = Some(at);
                        self.out.extend(track.take().map(Media::Track));
                        self.out.push_back(Media::Frame(frame));
                    }
                    _ => self.wrong += 1,
                },
            }
        }
    }

    pub fn poll(&mut self) -> Option<Media> {
        self.out.pop_front()
    }

    /// When `expire` wants to be called, unless input comes first.
    pub fn deadline(&self) -> Option<Instant> {
        self.reorder.deadline()
    }

    /// Pictures are left out until a keyframe comes: the sender should be asked for one.
    pub fn wants_keyframe(&self) -> bool {
        match &self.payload {
            Payload::H264(depacketizer) => depacketizer.wants_keyframe(),
            Payload::Opus(..) => false,
        }
    }

    /// Packets that never came in time.
    pub fn lost(&self) -> u64 {
        self.reorder.lost
    }
}
