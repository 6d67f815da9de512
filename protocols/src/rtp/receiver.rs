//! One incoming track: packets in any order in, media out.

use super::{
    Packet,
    clock::Clock,
    h264::{self, Depacketizer},
    opus,
    reorder::Reorder,
};
use shardcast_engine::{codec::Codec, frame::Media, time::Timestamp};
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
    packets: u64,
    wrong: u64,
}

/// What came so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// All packets, also those that were of no use.
    pub packets: u64,
    /// Packets that came twice, or after they were given up.
    pub late: u64,
    /// Packets that never came in time.
    pub lost: u64,
    /// Payloads that could not be read.
    pub wrong: u64,
    /// Pictures left out: damaged, or between damage and a keyframe.
    pub dropped: u64,
}

#[derive(Debug)]
enum Payload {
    H264(Box<Depacketizer>),
    Opus(Sound),
}

#[derive(Debug)]
struct Sound {
    channels: u8,
    /// The track was told.
    told: bool,
    /// The time of the last packet.
    last: Option<Timestamp>,
}

/// How long a gap may hold up sound: a retransmission over 100 ms of round trip arrives.
const MAX_AUDIO_WAIT: Duration = Duration::from_millis(250);
/// The same for pictures, which nothing helps but a keyframe: one lost twice arrives.
const MAX_VIDEO_WAIT: Duration = Duration::from_millis(500);
/// A keyframe of 500 KB.
const MAX_VIDEO_PACKETS: usize = 512;
/// Two seconds of 20 ms packets.
const MAX_AUDIO_PACKETS: usize = 100;
const MAX_ACCESS_UNIT_LEN: usize = 8 << 20;

impl Receiver {
    pub fn h264(start: Instant) -> Self {
        let payload = Payload::H264(Box::new(Depacketizer::new(MAX_ACCESS_UNIT_LEN)));
        Self::new(start, payload, h264::HZ, Reorder::new(MAX_VIDEO_PACKETS, MAX_VIDEO_WAIT))
    }

    /// A track of `channels`, or of two from the first packet on that has so many.
    pub fn opus(start: Instant, channels: u8) -> Self {
        let sound = Sound { channels, told: false, last: None };
        Self::new(start, Payload::Opus(sound), opus::HZ, Reorder::new(MAX_AUDIO_PACKETS, MAX_AUDIO_WAIT))
    }

    fn new(start: Instant, payload: Payload, hz: u32, reorder: Reorder) -> Self {
        Self { reorder, clock: Clock::new(hz), payload, start, out: VecDeque::new(), packets: 0, wrong: 0 }
    }

    pub fn codec(&self) -> Codec {
        match self.payload {
            Payload::H264(_) => Codec::H264,
            Payload::Opus(_) => Codec::Opus,
        }
    }

    /// Parameter sets that came by signalling, as a byte stream: see [`Depacketizer::offer`].
    pub fn offer(&mut self, sets: &[u8]) {
        if let Payload::H264(depacketizer) = &mut self.payload {
            depacketizer.offer(sets);
        }
    }

    /// Another source's packets follow, with sequence numbers and timestamps of their own.
    pub fn restart(&mut self) {
        self.reorder.restart();
        self.clock.restart();
        if let Payload::H264(depacketizer) = &mut self.payload {
            depacketizer.restart();
        }
    }

    /// A sender report (RFC 3550 §6.4.1): `timestamp` of RTP is `ntp`, counted from where all reports count.
    pub fn report(&mut self, timestamp: u32, ntp: Timestamp) {
        self.clock.report(timestamp, ntp);
    }

    /// Moves this track to where sender reports of both put it beside `master`.
    pub fn follow(&mut self, master: &Receiver) {
        self.clock.follow(&master.clock);
    }

    pub fn input(&mut self, now: Instant, packet: Packet) {
        self.packets += 1;
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
                Payload::Opus(sound) => {
                    let channels = opus::channels(&payload);
                    match opus::frame(at, payload) {
                        Some(frame) if sound.last.is_none_or(|last| last < at) => {
                            sound.last = Some(at);
                            if !sound.told || channels > sound.channels {
                                sound.channels = sound.channels.max(channels);
                                sound.told = true;
                                self.out.push_back(Media::Track(opus::track(sound.channels)));
                            }
                            self.out.push_back(Media::Frame(frame));
                        }
                        _ => self.wrong += 1,
                    }
                }
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
            Payload::Opus(_) => false,
        }
    }

    pub fn stats(&self) -> Stats {
        let dropped = match &self.payload {
            Payload::H264(depacketizer) => depacketizer.dropped,
            Payload::Opus(_) => 0,
        };
        let Self { packets, wrong, .. } = *self;
        Stats { packets, late: self.reorder.late, lost: self.reorder.lost, wrong, dropped }
    }
}
