//! A stream as one shard has it: at home with its publisher, or mirrored for viewers elsewhere.

use crate::{
    config::{Rtc, Vhost},
    connection::{Connection, Part},
    fanout::{audience::Audience, hand::TICK, rtp::RtpAudience},
    hls::Hls,
    hooks::Client,
    mesh::{Mail, Mesh},
    meter::Meter,
    record::recorder::Recorder,
    sound::Interpreter,
};
use shardcast_engine::{
    codec::Kind,
    fanout::{Format, Ring, Unit, ring::Policy},
    frame::{Frame, Media},
    key::{StreamKey, stable_hash},
    prologue::Prologue,
    pulse::Pulse,
    time::Timestamp,
    timeline::{Placed, Timeline},
};
use shardcast_protocols::{
    chunked::{Chunked, LAST_CHUNK},
    flv::{self, Flv, RUN},
    rtmp::format::Rtmp,
    session::{Request, Tracks},
    ts::{self, Ts},
    websocket::{Framed, LAST_FRAME},
};
use std::{
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
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
    pub request: Arc<Request>,
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

/// Names a stream in the API and to hooks: `vid-` and seven characters of [0-9a-z], the same on all shards and in
/// every process.
pub fn id(key: &StreamKey) -> String {
    let bytes = [key.vhost(), key.app(), key.stream()].into_iter().flat_map(|part| part.bytes().chain([b'/']));
    let mut hash = stable_hash(bytes);
    let mut digit = || {
        let digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(hash % 36) as usize];
        hash /= 36;
        char::from(digit)
    };
    ["vid-".into(), (0..7).map(|_| digit()).collect::<String>()].concat()
}

/// The wire formats that have viewers on this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Rtmp,
    /// RTMP for those who want sound alone, pictures alone, or neither for now.
    RtmpAudio,
    RtmpVideo,
    RtmpNothing,
    /// FLV in a body that ends with the connection, for HTTP/1.0.
    Flv,
    /// FLV in chunks, for HTTP/1.1.
    ChunkedFlv,
    /// MPEG-TS, likewise.
    Ts,
    ChunkedTs,
    /// Both in WebSocket frames.
    WsFlv,
    WsTs,
    /// FLV as newcomers read it in every other twelve days, see [`Wire::at`].
    LaterFlv,
    LaterChunkedFlv,
    LaterWsFlv,
    /// MPEG-TS in SRT.
    Srt,
}

/// How many [`Wire`]s there are.
const WIRES: usize = 14;

impl Wire {
    /// As they are numbered.
    pub const ALL: [Self; WIRES] = [
        Self::Rtmp,
        Self::RtmpAudio,
        Self::RtmpVideo,
        Self::RtmpNothing,
        Self::Flv,
        Self::ChunkedFlv,
        Self::Ts,
        Self::ChunkedTs,
        Self::WsFlv,
        Self::WsTs,
        Self::LaterFlv,
        Self::LaterChunkedFlv,
        Self::LaterWsFlv,
        Self::Srt,
    ];

    /// What a newcomer reads whose stream is so old. Players in JavaScript take FLV's milliseconds for signed 32 bits,
    /// and stand still where a tape comes to 2^31: so the next tape begins after half of that.
    pub fn at(self, time: Timestamp) -> Self {
        let later = time.as_ms() / RUN.as_ms() % 2 == 1;
        match self {
            Self::Flv | Self::LaterFlv => [Self::Flv, Self::LaterFlv][usize::from(later)],
            Self::ChunkedFlv | Self::LaterChunkedFlv => [Self::ChunkedFlv, Self::LaterChunkedFlv][usize::from(later)],
            Self::WsFlv | Self::LaterWsFlv => [Self::WsFlv, Self::LaterWsFlv][usize::from(later)],
            other => other,
        }
    }

    /// What closes the body of a viewer whose stream is over; `None` where it waits for the next one.
    pub fn last(self) -> Option<&'static [u8]> {
        match self {
            Self::Rtmp | Self::RtmpAudio | Self::RtmpVideo | Self::RtmpNothing => None,
            Self::Flv | Self::LaterFlv | Self::Ts | Self::Srt => Some(b""),
            Self::ChunkedFlv | Self::LaterChunkedFlv | Self::ChunkedTs => Some(LAST_CHUNK),
            Self::WsFlv | Self::LaterWsFlv | Self::WsTs => Some(LAST_FRAME),
        }
    }

    /// RTMP with these tracks.
    pub fn rtmp(tracks: Tracks) -> Self {
        match (tracks.audio, tracks.video) {
            (true, true) => Self::Rtmp,
            (true, false) => Self::RtmpAudio,
            (false, true) => Self::RtmpVideo,
            (false, false) => Self::RtmpNothing,
        }
    }

    /// The time that a tape comes to whose first frame is of `time`, but not further: its viewers begin anew.
    pub fn end(self, time: Timestamp) -> Option<Timestamp> {
        let flv = matches!(self.at(Timestamp::ZERO), Self::Flv | Self::ChunkedFlv | Self::WsFlv);
        flv.then(|| flv::run(time) + RUN + RUN - Timestamp::from_ms(2_000))
    }

    /// `chunk_size` is RTMP's.
    pub fn format(self, chunk_size: u32) -> Box<dyn Format> {
        let flv = Flv::default();
        let rtmp = |audio, video| Box::new(Rtmp { chunk_size, tracks: Tracks { audio, video } });
        match self {
            Self::Rtmp => rtmp(true, true),
            Self::RtmpAudio => rtmp(true, false),
            Self::RtmpVideo => rtmp(false, true),
            Self::RtmpNothing => rtmp(false, false),
            Self::Flv | Self::LaterFlv => Box::new(flv),
            Self::ChunkedFlv | Self::LaterChunkedFlv => Box::new(Chunked(flv)),
            Self::Ts | Self::Srt => Box::<Ts>::default(),
            Self::ChunkedTs => Box::<Chunked<Ts>>::default(),
            Self::WsFlv | Self::LaterWsFlv => Box::new(Framed(flv)),
            Self::WsTs => Box::<Framed<Ts>>::default(),
        }
    }
}

/// Units in one mail.
const BATCH: usize = 256;

pub struct Stream {
    pub key: StreamKey,
    /// Names the stream in the API.
    pub id: String,
    pub ring: Ring,
    /// In boxes: most are not there.
    pub audiences: [Option<Box<Audience>>; WIRES],
    /// Of its RTMP tapes.
    pub chunk_size: u32,
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
    /// What the newest viewer of each wire does: mostly what the next one does too.
    newest_parts: [Option<Arc<Part>>; WIRES],
    pub meter_in: Meter,
    pub meter_out: Meter,
    prologue: Arc<Prologue>,
}

pub enum Role {
    Home(Box<Home>),
    Mirror {
        home: usize,
        /// The number under which it asked for frames, unless it was told that there is no place for it.
        subscription: Option<u64>,
    },
}

#[derive(Default)]
pub struct Home {
    pub publication: Option<Publication>,
    pub subscribers: Vec<Subscriber>,
    pub hls: Option<Hls>,
    pub recorder: Option<Recorder>,
    pub sound: Interpreter,
    /// Of the publisher's picture and sound.
    pub pulses: [Pulse; 2],
    /// Without a publisher: until then viewers wait for the next one.
    grace_until: Option<Instant>,
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
    pub fn new(key: StreamKey, policy: Policy, role: Role) -> Self {
        Self {
            id: id(&key),
            key,
            ring: Ring::new(policy),
            audiences: [const { None }; WIRES],
            chunk_size: 0,
            rtp: None,
            role,
            live: false,
            frames: 0,
            video_frames: 0,
            received: 0,
            sent_before: 0,
            idle_since: None,
            newest_parts: [const { None }; WIRES],
            meter_in: Meter::default(),
            meter_out: Meter::default(),
            prologue: Arc::default(),
        }
    }

    /// The part of another client; those that do the same share theirs.
    pub fn share(&mut self, part: Part) -> Arc<Part> {
        let Some(wire) = part.wire else { return Arc::new(part) };
        let slot = &mut self.newest_parts[wire as usize];
        let newest = slot.take().filter(|newest| **newest == part).unwrap_or_else(|| Arc::new(part));
        slot.insert(newest).clone()
    }

    /// For the log.
    pub fn state(&self) -> &'static str {
        match self.role {
            _ if self.live => "live",
            // Its home has the word, and tells at once.
            Role::Mirror { .. } if self.frames == 0 => "asking its home",
            _ => "waiting for its publisher",
        }
    }

    pub fn prologue(&self) -> &Arc<Prologue> {
        &self.prologue
    }

    /// Of its next RTMP tape: all that are there at a time have one, so that a player may go from one to another.
    pub fn next_chunk_size(&self, vhost: &Vhost) -> u32 {
        let tapes = [Wire::Rtmp, Wire::RtmpAudio, Wire::RtmpVideo, Wire::RtmpNothing];
        let are_there = tapes.iter().any(|wire| self.audiences[*wire as usize].is_some());
        if are_there { self.chunk_size } else { vhost.chunk_size }
    }

    /// At home: gives the stream to a publisher, or tells who has it.
    pub fn publish(&mut self, publication: Publication, rtc: Rtc, mesh: &Mesh) -> Result<(), String> {
        let Role::Home(home) = &mut self.role else {
            return Err("its home".into());
        };
        if let Some(holder) = &home.publication {
            return Err(holder.id.clone());
        }
        if home.grace_until.take().is_some() {
            metrics::counter!("shardcast_republishes_total", "result" => "in_time").increment(1);
            info!(cid = %publication.id, "{} goes on with its next publisher", self.key);
        }
        home.timeline.splice();
        home.oddities = Oddities::default();
        home.pulses = Default::default();
        home.publication = Some(publication);
        home.sound.published(rtc);
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
        let brought = batch.len();
        for media in batch {
            let next = match media {
                Media::Track(track) => {
                    let (codec, shape) = (track.codec, track.shape.clone());
                    let before = self.prologue.track(codec.kind()).map(|track| track.codec);
                    let next = self.prologue.with_own(track);
                    if next.is_some() && home.oddities.is_worth_a_line() {
                        info!(cid = %publication.id, "{} {codec} track: {shape:?}", self.key);
                    }
                    let next = next.map(|next| match home.sound.tracks(&self.key, &next, Instant::now()) {
                        Some(made) => next.with_track(made).unwrap_or(next),
                        None => next,
                    });
                    let plays = next.as_ref().filter(|next| before != Some(codec) && next.plays(codec.kind()));
                    if plays.is_some_and(|next| !ts::carries(next, codec.kind())) {
                        let (kind, instead) = match codec.kind() {
                            Kind::Video => ("picture", "H.264 or HEVC"),
                            Kind::Audio | Kind::Opus => ("sound", "AAC"),
                        };
                        warn!(
                            cid = %publication.id,
                            "{} is {codec}, which MPEG-TS does not carry here: HLS, HTTP-TS and SRT have no {kind}, \
                             publish {instead} for them", self.key
                        );
                    }
                    next
                }
                Media::Other(other) => self.prologue.with_other(other),
                Media::Metadata(metadata) => self.prologue.with_metadata(metadata),
                Media::Colour(colour) => self.prologue.with_colour(colour),
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
                    self.video_frames += u64::from(frame.kind == Kind::Video);
                    home.pulses[usize::from(frame.kind != Kind::Video)].note(&frame);
                    self.received += frame.payload.len() as u64;
                    home.sound.feed(append(&mut self.ring, &mut home.hls, &self.prologue, frame));
                    None
                }
            };
            if let Some(next) = next {
                self.prologue = Arc::new(next);
            }
        }
        if !self.is_attended() {
            self.ring.forget_unread(2 * brought);
        }
    }

    /// At home: takes what was made of the publisher's sound.
    pub fn listen(&mut self) {
        let Role::Home(home) = &mut self.role else { return };
        for frame in home.sound.collect() {
            append(&mut self.ring, &mut home.hls, &self.prologue, frame);
        }
    }

    /// At home: viewers of some shard need its sound as Opus.
    pub fn wants_opus(&mut self, now: Instant) {
        if let Role::Home(home) = &mut self.role {
            home.sound.asked(&self.key, &self.prologue, now);
        }
    }

    /// At home, once a second: ends what viewers do not need any more.
    pub fn sweep(&mut self, now: Instant, mesh: &Mesh) {
        let Role::Home(home) = &mut self.role else { return };
        home.sound.sweep(&self.key, now);
        if home.grace_until.take_if(|until| *until <= now).is_some() {
            metrics::counter!("shardcast_republishes_total", "result" => "late").increment(1);
            info!("{} had no publisher for as long as republish_grace: it is over", self.key);
            self.leave(true, mesh);
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

    /// Elsewhere: it has asked for frames, and was not told that there is no place for it.
    pub fn is_subscribed(&self) -> bool {
        matches!(self.role, Role::Mirror { subscription: Some(_), .. })
    }

    /// Elsewhere: the home has no place for what was asked for under `number`. False where that was asked for by an
    /// earlier mirror, which has gone: those who watch now asked anew.
    pub fn lose(&mut self, number: u64) -> bool {
        match &mut self.role {
            Role::Mirror { subscription, .. } => subscription.take_if(|asked| *asked == number).is_some(),
            Role::Home(_) => false,
        }
    }

    /// At home: `publisher`, if it has the stream, leaves it. All viewers wait `grace` long for the next one.
    pub fn unpublish(&mut self, publisher: u64, grace: Duration, mesh: &Mesh) {
        let Role::Home(home) = &mut self.role else { return };
        if home.publication.take_if(|p| p.publisher() == publisher).is_none() {
            return;
        }
        home.grace_until = (!grace.is_zero()).then(|| Instant::now() + grace);
        info!("{} has no publisher any more{}", self.key, if grace.is_zero() { "" } else { ", its viewers wait" });
        self.listen();
        self.forward(mesh);
        self.finish_recording();
        if let Role::Home(home) = &mut self.role {
            home.sound.unpublished();
            if let Some(hls) = &mut home.hls {
                hls.unpublished();
            }
        }
        self.leave(grace.is_zero(), mesh);
    }

    /// At home: here and at the subscribers viewers are without a publisher.
    fn leave(&mut self, over: bool, mesh: &Mesh) {
        if let Role::Home(home) = &self.role {
            for subscriber in &home.subscribers {
                mesh.post(subscriber.shard, Mail::Unpublished { key: self.key.clone(), over });
            }
        }
        self.unpublished(over);
    }

    /// At home: the recording, if there is one, gets what it has not and ends.
    pub fn finish_recording(&mut self) {
        if let Role::Home(home) = &mut self.role
            && let Some(recorder) = home.recorder.take()
        {
            recorder.finish(&self.ring);
        }
    }

    /// The publisher is gone: viewers wait for the next. Where it is `over`, those by HTTP and SRT end when they have
    /// all.
    pub fn unpublished(&mut self, over: bool) {
        self.live = false;
        for audience in self.audiences.iter_mut().flatten() {
            audience.tape.catch_up(&self.ring);
            audience.tape.splice();
        }
        self.ring.clear();
        if !over {
            return;
        }
        for (wire, audience) in Wire::ALL.into_iter().zip(&mut self.audiences) {
            if let (Some(audience), Some(last)) = (audience, wire.last()) {
                audience.end(last);
            }
        }
    }

    /// At home: the publisher's frames are packaged too.
    pub fn package(&mut self, client: &Arc<Client>, hls: impl FnOnce(&StreamKey) -> Hls) {
        if let Role::Home(home) = &mut self.role {
            home.hls.get_or_insert_with(|| hls(&self.key)).published(client.clone());
        }
    }

    /// At home: other settings package it from now on, or none.
    pub fn repackage(&mut self, hls: Option<Hls>) {
        if let Role::Home(home) = &mut self.role {
            if let Some(old) = home.hls.take() {
                old.dispose();
            }
            home.hls = hls.zip(home.publication.as_ref()).map(|(mut hls, publication)| {
                hls.published(Arc::new(Client::of(publication)));
                hls
            });
        }
    }

    /// At home: forgets a window of segments whose publisher has long gone.
    pub fn dispose(&mut self, now: Instant) {
        if self.hls().is_some_and(|hls| hls.is_over(now)) {
            self.forget_hls("no publisher came back");
        }
    }

    pub fn forget_hls(&mut self, why: &str) {
        if let Role::Home(home) = &mut self.role
            && let Some(hls) = home.hls.take()
        {
            hls.dispose();
            info!("{} HLS is removed: {why}", self.key);
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

    /// Somebody waits for its frames, here or on another shard, or something is made of them.
    pub fn is_attended(&self) -> bool {
        self.is_passed_on() || self.viewers().next().is_some()
    }

    fn is_passed_on(&self) -> bool {
        match &self.role {
            Role::Home(home) => !home.subscribers.is_empty() || home.recorder.is_some() || home.sound.is_busy(),
            Role::Mirror { .. } => false,
        }
    }

    /// How long those who wait for its frames may do without the hand.
    pub fn pace(&self, law: Duration) -> Duration {
        if self.is_passed_on() || self.rtp.as_ref().is_some_and(|rtp| !rtp.is_empty()) {
            return TICK;
        }
        let audiences = self.audiences.iter().flatten().filter(|audience| !audience.is_empty());
        audiences.map(|audience| audience.pace(law)).min().unwrap_or(TICK)
    }

    /// Nobody publishes, plays or subscribes, and there is nothing to fetch.
    pub fn is_idle(&self) -> bool {
        self.hls().is_none() && self.is_spare()
    }

    /// Nobody publishes, plays or subscribes: all there may be is a window of segments.
    pub fn is_spare(&self) -> bool {
        let in_use = match &self.role {
            Role::Home(home) => home.publication.is_some() || !home.subscribers.is_empty(),
            Role::Mirror { .. } => false,
        };
        !in_use && self.viewers().next().is_none()
    }
}

/// A frame in stream time becomes a unit of the ring, and of HLS.
fn append<'r>(ring: &'r mut Ring, hls: &mut Option<Hls>, prologue: &Arc<Prologue>, frame: Frame) -> &'r Arc<Unit> {
    let unit = ring.append(prologue.clone(), frame);
    if let Some(hls) = hls {
        hls.push(unit);
    }
    unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{launch, mesh};
    use bytes::Bytes;
    use shardcast_engine::{
        codec::Codec,
        key::DEFAULT_VHOST,
        time::Timestamp,
        track::{Shape, Sound, Track},
    };
    use shardcast_protocols::{rtp, session::Client};

    const RTC: Rtc = Rtc::TEST;

    fn stream(role: Role) -> Stream {
        let skip = Timestamp::from_ms(10_000);
        let policy = Policy { skip, bytes: 1 << 20, gop_cache: true, gop_cache_max_frames: 2_500 };
        Stream::new(StreamKey::new(DEFAULT_VHOST, "live", "a"), policy, role)
    }

    /// Acts on a stream at home that has a publisher, whose number it gets too.
    fn published(rtc: Rtc, act: impl FnOnce(&mut Stream, u64, &Mesh) + 'static) {
        let executor = launch::executor::executor("home", None, 64).make().unwrap();
        executor.run(async move {
            let (mesh, _) = Mesh::connect(0, mesh::ends(1).remove(0)).await;
            let mut stream = stream(Role::Home(Box::default()));
            let publication = Publication {
                key: stream.key.clone(),
                shard: 0,
                session: 7,
                id: "cid".into(),
                ip: [127, 0, 0, 1].into(),
                request: Arc::new(Request { client: Client::FmlePublish, ..Request::default() }),
            };
            stream.publish(publication, rtc, &mesh).unwrap();
            act(&mut stream, 7, &mesh);
        });
    }

    /// Silence, 20 ms each, the first at `from` ms.
    fn opus(from: i64, count: i64) -> Vec<Media> {
        let mut encoder = opus::Encoder::new(48_000, opus::Channels::Stereo, opus::Application::Audio).unwrap();
        let packet = |n: i64| {
            let payload = Bytes::from(encoder.encode_vec(&[0; 1_920], 1_275).unwrap());
            Media::Frame(rtp::opus::frame(Timestamp::from_ms(from + n * 20), payload).unwrap())
        };
        [Media::Track(rtp::opus::track(2))].into_iter().chain((0..count).map(packet)).collect()
    }

    fn frames(stream: &Stream, kind: Kind) -> Vec<Frame> {
        stream.ring.from(0).map(|unit| &unit.frame).filter(|frame| frame.kind == kind).cloned().collect()
    }

    /// Listens until there are `count` frames of `kind`.
    fn listen(stream: &mut Stream, kind: Kind, count: usize) -> Vec<Frame> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while frames(stream, kind).len() < count {
            assert!(Instant::now() < deadline);
            stream.listen();
            std::thread::yield_now();
        }
        frames(stream, kind)
    }

    #[test]
    fn opus_of_a_publisher_is_there_as_aac_too_at_the_same_time() {
        published(RTC, |stream, publisher, mesh| {
            stream.take(publisher, opus(1_000_000, 150));
            assert_eq!(stream.prologue().audio.as_ref().map(|track| track.codec), Some(Codec::Aac));
            assert_eq!(stream.prologue().opus.as_ref().map(|track| track.codec), Some(Codec::Opus));
            let made = listen(stream, Kind::Audio, 130);
            assert_eq!(frames(stream, Kind::Opus).len(), 150);
            assert_eq!(stream.frames, 150);
            assert!(made[0].dts < Timestamp::from_ms(22) && made[129].dts.as_ms() == made[0].dts.as_ms() + 2_752);
            // The next publisher brings AAC of its own.
            stream.unpublish(publisher, Duration::ZERO, mesh);
            assert!(stream.publication().is_none());
            assert!(!matches!(&stream.role, Role::Home(home) if home.sound.is_busy()));
        });
    }

    #[test]
    fn aac_of_a_publisher_becomes_opus_once_somebody_asks() {
        published(RTC, |stream, publisher, _| {
            let shape = Shape::Audio(Sound { sample_rate: 48_000, channels: 2, profile: "LC" });
            let config = Bytes::from_static(&[0x11, 0x90]);
            stream.take(publisher, vec![Media::Track(Track { codec: Codec::Aac, config, shape })]);
            // An access unit of silence: one channel pair without bits.
            let unit = Bytes::from_static(&[0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c]);
            let sound = |n: i64| {
                let dts = Timestamp::from_ticks(n * 1_024, 48_000);
                Media::Frame(Frame { kind: Kind::Audio, dts, pts: dts, keyframe: false, payload: unit.clone() })
            };
            stream.take(publisher, (0..50).map(sound).collect());
            assert!(!matches!(&stream.role, Role::Home(home) if home.sound.is_busy()));
            let version = stream.prologue().version;
            stream.wants_opus(Instant::now());
            stream.take(publisher, (50..150).map(sound).collect());
            let made = listen(stream, Kind::Opus, 100);
            let start = 50 * 1_024 * 1_000 / 48_000;
            assert!((made[0].dts.as_ms() - start).abs() < 20, "{}", made[0].dts);
            assert_eq!(stream.prologue().version, version);
        });
    }

    #[test]
    fn a_late_no_is_not_for_those_who_asked_anew() {
        let mut stream = stream(Role::Mirror { home: 0, subscription: Some(8) });
        let lost = [7, 8, 8].map(|number| (stream.lose(number), stream.is_subscribed()));
        assert_eq!(lost, [(false, true), (true, false), (false, false)]);
    }

    #[test]
    fn what_is_off_stays_what_it_was() {
        published(Rtc::default(), |stream, publisher, _| {
            stream.wants_opus(Instant::now());
            stream.take(publisher, opus(0, 10));
            assert!(!matches!(&stream.role, Role::Home(home) if home.sound.is_busy()));
            assert_eq!((stream.prologue().audio.is_none(), stream.frames), (true, 10));
        });
    }
}
