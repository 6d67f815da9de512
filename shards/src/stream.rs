//! A stream as one shard has it: at home with its publisher, or mirrored for viewers elsewhere.

use crate::{
    connection::Connection,
    fanout::{audience::Audience, rtp::RtpAudience},
    hls::Hls,
    mesh::{Mail, Mesh},
    meter::Meter,
    record::recorder::Recorder,
};
use shardcast_engine::{
    fanout::{Ring, Unit, ring::Policy},
    frame::Media,
    key::StreamKey,
    prologue::Prologue,
    timeline::{Placed, Timeline},
};
use shardcast_protocols::{chunked::LAST_CHUNK, session::Request};
use std::{net::IpAddr, rc::Rc, sync::Arc, time::Instant};
use tracing::{info, warn};

/// A publisher that asks for a stream, and who it is while it has it.
#[derive(Clone, Debug)]
pub struct Publication {
    pub key: StreamKey,
    /// The shard that the publisher is connected to, and the number of its connection there.
    pub shard: usize,
    pub session: u64,
    /// The connection's id, as logs and the API name it.
    pub id: String,
    pub ip: IpAddr,
    pub request: Request,
}

impl Publication {
    /// One number for the publisher, unique in the process.
    pub fn publisher(&self) -> u64 {
        Self::number(self.shard, self.session)
    }

    /// The number of a session that shard `shard` counts.
    pub fn number(shard: usize, session: u64) -> u64 {
        (shard as u64) << 48 | session
    }
}

/// The wire formats that have viewers on this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Rtmp,
    /// FLV in a body that ends with the connection, for HTTP/1.0.
    Flv,
    /// FLV in chunks, for HTTP/1.1.
    ChunkedFlv,
    /// MPEG-TS, likewise.
    Ts,
    ChunkedTs,
    /// MPEG-TS in SRT.
    Srt,
}

/// How many [`Wire`]s there are.
const WIRES: usize = 6;

/// Units in one mail.
const BATCH: usize = 256;

pub struct Stream {
    pub key: StreamKey,
    /// Names the stream in the API.
    pub id: String,
    pub ring: Ring,
    pub audiences: [Option<Audience>; WIRES],
    /// The viewers by WebRTC.
    pub rtp: Option<RtpAudience>,
    pub role: Role,
    /// A publisher is here.
    pub live: bool,
    pub frames: u64,
    pub video_frames: u64,
    pub received: u64,
    /// Bytes sent to viewers that have left.
    pub sent_before: u64,
    pub idle_since: Option<Instant>,
    pub meter_in: Meter,
    pub meter_out: Meter,
    prologue: Arc<Prologue>,
}

pub enum Role {
    Home(Box<Home>),
    Mirror { home: usize },
}

#[derive(Default)]
pub struct Home {
    pub publication: Option<Publication>,
    pub subscribers: Vec<Subscriber>,
    pub hls: Option<Hls>,
    pub recorder: Option<Recorder>,
    timeline: Timeline,
    oddities: Oddities,
}

/// Track changes and clock jumps of a publisher: the first few are logged, then ever fewer, so that a mad one
/// cannot fill the log.
#[derive(Default)]
struct Oddities(u64);

impl Oddities {
    fn is_worth_a_line(&mut self) -> bool {
        self.0 += 1;
        self.0 < 8 || self.0.is_power_of_two()
    }
}

/// Another shard that has viewers: a cursor on the ring.
pub struct Subscriber {
    pub shard: usize,
    next: u64,
}

impl Stream {
    pub fn new(key: StreamKey, id: String, policy: Policy, role: Role) -> Self {
        Self {
            key,
            id,
            ring: Ring::new(policy),
            audiences: [const { None }; WIRES],
            rtp: None,
            role,
            live: false,
            frames: 0,
            video_frames: 0,
            received: 0,
            sent_before: 0,
            idle_since: None,
            meter_in: Meter::default(),
            meter_out: Meter::default(),
            prologue: Arc::default(),
        }
    }

    pub fn prologue(&self) -> &Arc<Prologue> {
        &self.prologue
    }

    /// At home: gives the stream to a publisher, or tells who has it.
    pub fn publish(&mut self, publication: Publication, mesh: &Mesh) -> Result<(), String> {
        let Role::Home(home) = &mut self.role else {
            return Err("its home".into());
        };
        if let Some(holder) = &home.publication {
            return Err(holder.id.clone());
        }
        home.timeline.splice();
        home.oddities = Oddities::default();
        home.publication = Some(publication);
        for subscriber in &home.subscribers {
            mesh.post(subscriber.shard, Mail::Published { key: self.key.clone() });
        }
        self.prologue = Arc::new(self.prologue.cleared());
        self.published();
        Ok(())
    }

    /// A publisher starts: nobody enters at the last one's frames.
    pub fn published(&mut self) {
        self.live = true;
        self.ring.clear();
        for audience in self.audiences.iter_mut().flatten() {
            audience.tape.splice();
        }
        if let Some(rtp) = &mut self.rtp {
            rtp.splice(&self.ring);
        }
    }

    /// At home: takes what the publisher brought.
    pub fn take(&mut self, publisher: u64, batch: Vec<Media>) {
        let Role::Home(home) = &mut self.role else { return };
        let Some(publication) = home.publication.as_ref().filter(|p| p.publisher() == publisher) else {
            return;
        };
        for media in batch {
            let next = match media {
                Media::Track(track) => {
                    let (codec, shape) = (track.codec, track.shape.clone());
                    let next = self.prologue.with_track(track);
                    if next.is_some() && home.oddities.is_worth_a_line() {
                        info!(cid = %publication.id, "{} {codec} track: {shape:?}", self.key);
                    }
                    next
                }
                Media::Metadata(metadata) => self.prologue.with_metadata(metadata),
                Media::Frame(mut frame) => {
                    let before = frame.dts;
                    let jumped = home.timeline.place(&mut frame) == Placed::Jumped;
                    if jumped && home.oddities.is_worth_a_line() {
                        warn!(
                            cid = %publication.id,
                            "{} {:?} time jumped to {before}, closed up to {}", self.key, frame.kind, frame.dts
                        );
                    }
                    self.frames += 1;
                    self.video_frames += u64::from(frame.kind == shardcast_engine::codec::Kind::Video);
                    self.received += frame.payload.len() as u64;
                    let unit = self.ring.append(self.prologue.clone(), frame);
                    if let Some(hls) = &mut home.hls {
                        hls.push(unit);
                    }
                    None
                }
            };
            if let Some(next) = next {
                self.prologue = Arc::new(next);
            }
        }
    }

    /// Elsewhere: takes what the home's ring has. Units that were on the way to an earlier mirror of the
    /// stream, which this shard has forgotten, come before word of a publisher and are dropped.
    pub fn mirror(&mut self, batch: Vec<Arc<Unit>>) {
        if !self.live {
            return;
        }
        for unit in batch {
            self.prologue = unit.prologue.clone();
            self.frames += 1;
            self.ring.mirror(unit);
        }
    }

    /// At home: true where `publisher` had the stream and has left it.
    pub fn unpublish(&mut self, publisher: u64, mesh: &Mesh) -> bool {
        let Role::Home(home) = &mut self.role else { return false };
        if home.publication.take_if(|p| p.publisher() == publisher).is_none() {
            return false;
        }
        self.forward(mesh);
        self.finish_recording();
        if let Role::Home(home) = &mut self.role {
            if let Some(hls) = &mut home.hls {
                hls.unpublished();
            }
            for subscriber in &home.subscribers {
                mesh.post(subscriber.shard, Mail::Unpublished { key: self.key.clone() });
            }
        }
        self.unpublished();
        true
    }

    /// At home: the recording, if there is one, gets what it has not and ends.
    pub fn finish_recording(&mut self) {
        if let Role::Home(home) = &mut self.role
            && let Some(recorder) = home.recorder.take()
        {
            recorder.finish(&self.ring);
        }
    }

    /// The publisher is gone: HTTP and SRT viewers end when they have all, RTMP and WebRTC viewers wait for the next.
    pub fn unpublished(&mut self) {
        self.live = false;
        for audience in self.audiences.iter_mut().flatten() {
            audience.tape.catch_up(&self.ring);
            audience.tape.splice();
        }
        let bodies = [
            (Wire::Flv, &b""[..]),
            (Wire::ChunkedFlv, LAST_CHUNK),
            (Wire::Ts, b""),
            (Wire::ChunkedTs, LAST_CHUNK),
            (Wire::Srt, b""),
        ];
        for (wire, last) in bodies {
            if let Some(audience) = &mut self.audiences[wire as usize] {
                audience.end(last);
            }
        }
        self.ring.clear();
    }

    /// At home: the publisher's frames are packaged too.
    pub fn package(&mut self, hls: impl FnOnce(&StreamKey) -> Hls) {
        if let Role::Home(home) = &mut self.role {
            home.hls.get_or_insert_with(|| hls(&self.key)).published();
        }
    }

    /// At home: forgets a window of segments whose publisher has long gone.
    pub fn dispose(&mut self, now: Instant) {
        if let Role::Home(home) = &mut self.role
            && let Some(hls) = home.hls.take_if(|hls| hls.is_over(now))
        {
            hls.dispose();
            info!("{} HLS is removed: no publisher came back", self.key);
        }
    }

    /// At home: who publishes.
    pub fn publication(&self) -> Option<&Publication> {
        match &self.role {
            Role::Home(home) => home.publication.as_ref(),
            Role::Mirror { .. } => None,
        }
    }

    /// At home: the window of segments.
    pub fn hls(&self) -> Option<&Hls> {
        match &self.role {
            Role::Home(home) => home.hls.as_ref(),
            Role::Mirror { .. } => None,
        }
    }

    /// At home: another shard has viewers now.
    pub fn subscribe(&mut self, shard: usize, mesh: &Mesh) {
        let Role::Home(home) = &mut self.role else { return };
        let next = self.ring.entry().unwrap_or(self.ring.next());
        home.subscribers.retain(|subscriber| subscriber.shard != shard);
        home.subscribers.push(Subscriber { shard, next });
        if self.live {
            mesh.post(shard, Mail::Published { key: self.key.clone() });
        }
    }

    pub fn unsubscribe(&mut self, shard: usize) {
        if let Role::Home(home) = &mut self.role {
            home.subscribers.retain(|subscriber| subscriber.shard != shard);
        }
    }

    /// At home: sends each subscriber what its shard has not. A congested one stays where it is; one that
    /// the ring has left behind goes on at the newest keyframe.
    pub fn forward(&mut self, mesh: &Mesh) {
        let Role::Home(home) = &mut self.role else { return };
        if let Some(recorder) = &mut home.recorder {
            recorder.catch_up(&self.ring);
        }
        for subscriber in &mut home.subscribers {
            if subscriber.next < self.ring.oldest() {
                let Some(entry) = self.ring.resume() else { continue };
                warn!("{} skipped frames on the way to shard {}", self.key, subscriber.shard);
                metrics::counter!("shardcast_mesh_skips_total").increment(1);
                subscriber.next = entry;
            }
            while subscriber.next < self.ring.next() && !mesh.congested(subscriber.shard) {
                let batch: Vec<_> = self.ring.from(subscriber.next).take(BATCH).cloned().collect();
                subscriber.next += batch.len() as u64;
                mesh.frames_crossed.set(mesh.frames_crossed.get() + batch.len() as u64);
                mesh.post(subscriber.shard, Mail::Units { key: self.key.clone(), batch });
            }
        }
    }

    /// Viewers on this shard.
    pub fn viewers(&self) -> impl Iterator<Item = &Rc<Connection>> {
        let taped = self.audiences.iter().flatten().flat_map(|audience| audience.viewers());
        taped.chain(self.rtp.iter().flat_map(|rtp| rtp.viewers()))
    }

    /// Something is wrong with it: its viewers are closed.
    pub fn abort(&mut self) {
        for audience in self.audiences.iter_mut().flatten() {
            audience.abort();
        }
        if let Some(rtp) = &mut self.rtp {
            rtp.abort();
        }
    }

    /// Bytes sent to viewers on this shard, of now and before.
    pub fn sent(&self) -> u64 {
        self.sent_before + self.viewers().map(|viewer| viewer.sent.get()).sum::<u64>()
    }

    /// Once a second.
    pub fn measure(&mut self) {
        self.meter_in.sample(self.received);
        self.meter_out.sample(self.sent());
    }

    /// Nobody publishes, plays or subscribes, and there is nothing to fetch.
    pub fn is_idle(&self) -> bool {
        let in_use = match &self.role {
            Role::Home(home) => home.publication.is_some() || !home.subscribers.is_empty() || home.hls.is_some(),
            Role::Mirror { .. } => false,
        };
        !in_use && self.viewers().next().is_none()
    }
}
