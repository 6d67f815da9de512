//! The WebRTC viewers of one stream on one shard, and the RTP payloads that they share.
//!
//! Pictures are cut into payloads once; each viewer's session numbers, seals and sends them.

use crate::{config::Rtc, connection::Connection, drops::Drops, net::peer::Peer};
use bytes::Bytes;
use shardcast_engine::{
    codec::{Codec, Kind},
    fanout::{Ring, Unit},
    key::StreamKey,
    time::Timestamp,
};
use shardcast_protocols::rtp::{
    MAX_PAYLOAD_LEN,
    bframes::{BFrames, Order},
    h264, opus,
};
use std::{
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};
use tracing::warn;

/// Packets for one viewer in one tick: what a newcomer gets of its entry GOP at once. A burst beyond this overruns
/// the socket buffer of a browser.
const PACE: usize = 100;
/// Frames of the entry GOP are shown so many times faster than they were made, to be at the live edge at once.
const HASTE: i64 = 32;
/// Between two requests for a keyframe of one stream.
const ASK_SPAN: Duration = Duration::from_millis(500);

pub struct RtpAudience {
    viewers: Vec<Viewer>,
    /// From the newest keyframe on, or from where the slowest viewer is.
    packets: VecDeque<Packets>,
    /// The ring's unit that is cut next.
    next: u64,
    bframes: BFrames,
    keep_bframes: bool,
    keep_sei: bool,
    left_out: Option<Odd>,
    /// What nobody was sent so far.
    drops: Drops,
    newest: Timestamp,
    asked: Option<Instant>,
    /// Since when nobody watches.
    pub empty_since: Option<Instant>,
}

/// What was said of a stream that browsers do not see whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Odd {
    BFrames,
    Codec(Codec),
}

struct Packets {
    seq: u64,
    kind: Kind,
    pts: Timestamp,
    payloads: Vec<Bytes>,
}

struct Viewer {
    connection: Rc<Connection>,
    peer: Rc<Peer>,
    place: Place,
    /// What was left out before it came.
    before: Drops,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Its session is not up yet.
    Outside,
    /// For a keyframe at this unit of the ring or later.
    Waiting(u64),
    /// The next unit. What is older than the time `edge` is hurried through.
    At { next: u64, edge: Timestamp },
}

impl RtpAudience {
    pub fn new(ring: &Ring, rtc: Rtc) -> Self {
        Self {
            viewers: Vec::new(),
            packets: VecDeque::new(),
            next: ring.resume().unwrap_or(ring.next()),
            bframes: BFrames::default(),
            keep_bframes: rtc.keep_bframe,
            keep_sei: rtc.keep_avc_nalu_sei,
            left_out: None,
            drops: Drops::default(),
            newest: Timestamp::ZERO,
            asked: None,
            empty_since: None,
        }
    }

    pub fn join(&mut self, connection: Rc<Connection>, peer: Rc<Peer>) {
        self.viewers.push(Viewer { connection, peer, place: Place::Outside, before: self.drops });
        self.empty_since = None;
    }

    pub fn leave(&mut self, number: u64) -> bool {
        let before = self.viewers.len();
        self.viewers.retain(|viewer| viewer.connection.number != number);
        if self.viewers.is_empty() {
            self.empty_since.get_or_insert_with(Instant::now);
        }
        self.viewers.len() < before
    }

    pub fn viewers(&self) -> impl Iterator<Item = &Rc<Connection>> {
        self.viewers.iter().map(|viewer| &viewer.connection)
    }

    pub fn is_empty(&self) -> bool {
        self.viewers.is_empty()
    }

    /// The publisher changes: nobody goes on in the last one's pictures.
    pub fn splice(&mut self, ring: &Ring) {
        self.packets.clear();
        self.next = ring.next();
        self.bframes = BFrames::default();
        self.left_out = None;
        for viewer in &mut self.viewers {
            if viewer.place != Place::Outside {
                viewer.place = Place::Waiting(self.next);
            }
        }
    }

    /// Sends what is new. True where the publisher should be asked for a keyframe.
    pub fn tick(&mut self, key: &StreamKey, ring: &Ring, now: Instant) -> bool {
        self.catch_up(key, ring);
        let mut wish = false;
        for viewer in &mut self.viewers {
            wish |= viewer.peer.takes_keyframe_wish();
            wish |= viewer.serve(ring, &self.packets, self.newest, now);
            viewer.connection.set_drops(self.drops.since(viewer.before));
        }
        self.trim(ring);
        let due = self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_SPAN);
        if wish && due {
            self.asked = Some(now);
        }
        wish && due
    }

    /// Something is wrong with it: nobody can go on.
    pub fn abort(&mut self) {
        for viewer in &self.viewers {
            viewer.connection.close("internal error in its stream".into());
        }
    }

    fn catch_up(&mut self, key: &StreamKey, ring: &Ring) {
        if self.next < ring.oldest() {
            self.packets.clear();
            self.next = ring.resume().unwrap_or(ring.next());
        }
        for unit in ring.from(self.next) {
            self.next = unit.seq + 1;
            let frame = &unit.frame;
            self.newest = self.newest.max(frame.pts);
            let payloads = self.cut(key, unit);
            if !payloads.is_empty() {
                self.packets.push_back(Packets { seq: unit.seq, kind: frame.kind, pts: frame.pts, payloads });
            }
        }
    }

    fn cut(&mut self, key: &StreamKey, unit: &Unit) -> Vec<Bytes> {
        let frame = &unit.frame;
        if frame.kind == Kind::Opus {
            return vec![frame.payload.clone()];
        }
        let Some(track) = unit.prologue.track(frame.kind) else { return Vec::new() };
        match track.codec {
            Codec::H264 => {
                let Some(nal_length_size) = h264::nal_length_size(track) else { return Vec::new() };
                let order = self.bframes.look(frame, nal_length_size);
                if order != Order::Forward {
                    self.note(key, Odd::BFrames);
                }
                if order == Order::DisposableB && !self.keep_bframes {
                    self.drops.bframe += 1;
                    metrics::counter!("shardcast_rtc_bframes_dropped_total").increment(1);
                    return Vec::new();
                }
                h264::packetize(track, frame, MAX_PAYLOAD_LEN, self.keep_sei)
            }
            codec if frame.kind == Kind::Video => {
                self.drops.codec += 1;
                self.note(key, Odd::Codec(codec));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Each oddity of a publisher is told once.
    fn note(&mut self, key: &StreamKey, odd: Odd) {
        if self.left_out.replace(odd) == Some(odd) {
            return;
        }
        match odd {
            Odd::BFrames => {
                warn!("{key} has B-frames, which browsers show badly by WebRTC: set bframes=0 (tune zerolatency)")
            }
            Odd::Codec(codec) => {
                warn!("{key} is {codec}, which is not sent by WebRTC: its viewers there see no picture, publish H.264")
            }
        }
    }

    fn trim(&mut self, ring: &Ring) {
        let entry = ring.resume().unwrap_or(self.next);
        let slowest = self.viewers.iter().filter_map(|viewer| match viewer.place {
            Place::At { next, .. } => Some(next),
            Place::Outside | Place::Waiting(_) => None,
        });
        let first = slowest.fold(entry, u64::min).max(ring.oldest());
        while self.packets.front().is_some_and(|packets| packets.seq < first) {
            self.packets.pop_front();
        }
    }
}

impl Viewer {
    /// True where it waits for a keyframe.
    fn serve(&mut self, ring: &Ring, packets: &VecDeque<Packets>, newest: Timestamp, now: Instant) -> bool {
        if self.place == Place::Outside && self.peer.is_connected() {
            self.place = Place::Waiting(ring.entry().unwrap_or(ring.next()));
        }
        if let Place::Waiting(earliest) = self.place
            && let Some(next) = ring.resume().filter(|next| *next >= earliest)
        {
            self.place = Place::At { next, edge: newest };
        }
        let Place::At { next, edge } = &mut self.place else {
            return matches!(self.place, Place::Waiting(_));
        };
        let from = packets.partition_point(|packets| packets.seq < *next);
        if from == packets.len() {
            return false;
        }
        self.peer.play(|player| {
            let mut count = 0;
            for Packets { seq, kind, pts, payloads } in packets.range(from..) {
                if count >= PACE {
                    break;
                }
                *next = seq + 1;
                let late = *pts < *edge;
                if *kind == Kind::Video {
                    let at = if late { hasten(*pts, *edge) } else { *pts };
                    player.video(now, at.as_ticks(h264::HZ) as u32, payloads);
                    count += payloads.len();
                } else if !late {
                    for payload in payloads {
                        player.audio(now, pts.as_ticks(opus::HZ) as u32, payload);
                        count += 1;
                    }
                }
            }
            player.drive(now).map_err(|error| error.to_string())
        });
        self.connection.sent.set(self.peer.sent.get());
        false
    }
}

/// A time before `edge`, nearer to it; order is kept.
fn hasten(pts: Timestamp, edge: Timestamp) -> Timestamp {
    let behind = (edge - pts).as_ticks(h264::HZ);
    edge - Timestamp::from_ticks(behind / HASTE, h264::HZ)
}
