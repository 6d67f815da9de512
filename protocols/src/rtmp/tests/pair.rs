//! Client and server against each other on virtual time.

use super::{Random, frames, prologue, raw::simple_handshake};
use crate::{
    amf::Value,
    rtmp::{
        chunk::ChunkWriter,
        client::{Client, ClientError, ClientEvent, ClientOutput},
        command::{Command, object},
        format::Rtmp,
        handshake::Seed,
        reply::{self, Identity},
        server::{Server, ServerConfig, ServerError},
    },
    session::{self, Elsewhere, Event, Output, Refusal, Request, Session, Tracks, Verdict},
};
use shardcast_engine::{
    codec::Kind,
    fanout::Format,
    frame::{Frame, Media},
    metadata,
    prologue::Prologue,
    time::Timestamp,
};
use std::time::Instant;

/// A client and a server with a wire between them that cuts at random places.
pub struct Pair {
    pub now: Instant,
    pub random: Random,
    pub client: Client,
    pub server: Server,
    /// What the server's driver says to publish and play.
    pub verdict: Verdict,
    pub server_events: Vec<Event>,
    pub client_events: Vec<ClientEvent>,
    pub server_error: Option<ServerError>,
    pub client_error: Option<ClientError>,
    /// All bytes that the client sent.
    pub recorded: Vec<u8>,
}

impl Pair {
    pub fn new(client: Client, seed: u64) -> Self {
        let now = Instant::now();
        Self {
            now,
            random: Random(seed * 77 + 1),
            client,
            server: Server::new(now, Identity::default(), Seed::default(), ServerConfig::default()),
            verdict: Verdict::Allowed,
            server_events: Vec::new(),
            client_events: Vec::new(),
            server_error: None,
            client_error: None,
            recorded: Vec::new(),
        }
    }

    pub fn publish(seed: u64) -> Self {
        Self::new(Client::publish("rtmp://h.io:1936/live/cam?k=v", [1; 32]).unwrap(), seed)
    }

    pub fn play(seed: u64) -> Self {
        Self::new(Client::play("rtmp://h.io/live/cam", [1; 32]).unwrap(), seed)
    }

    /// Until neither side has anything more to say.
    pub fn settle(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(output) = self.client.poll() {
                quiet = false;
                match output {
                    ClientOutput::Event(event) => self.client_events.push(event),
                    ClientOutput::Send(bytes) => {
                        self.recorded.extend_from_slice(&bytes);
                        for piece in self.random.pieces(&bytes) {
                            let result = self.server.input(self.now, piece);
                            self.keep(result);
                        }
                    }
                }
            }
            while let Some(output) = self.server.poll() {
                quiet = false;
                match output {
                    Output::Send(bytes) => self.deliver(&bytes),
                    Output::Event(event) => {
                        let verdict = match event {
                            Event::Connect(_) => Some(Verdict::Allowed),
                            Event::Publish(_) | Event::Play(_) => Some(self.verdict.clone()),
                            _ => None,
                        };
                        self.server_events.push(event);
                        if let Some(verdict) = verdict {
                            let result = self.server.verdict(self.now, verdict);
                            self.keep(result);
                        }
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }

    pub fn keep(&mut self, result: Result<(), ServerError>) {
        self.server_error = self.server_error.take().or(result.err());
    }

    pub fn deliver(&mut self, bytes: &[u8]) {
        for piece in self.random.pieces(bytes) {
            let result = self.client.input(piece);
            self.client_error = self.client_error.take().or(result.err());
        }
    }

    pub fn media(&mut self) -> Vec<Media> {
        self.server_events
            .drain(..)
            .filter_map(|event| match event {
                Event::Media(media) => Some(media),
                _ => None,
            })
            .collect()
    }

    pub fn codes(&self) -> Vec<&str> {
        self.client_events
            .iter()
            .filter_map(|event| match event {
                ClientEvent::Status { code, .. } => Some(code.as_str()),
                _ => None,
            })
            .collect()
    }
}

pub fn send_all(client: &mut Client, prologue: &Prologue, frames: &[Frame]) {
    let at = frames[0].dts;
    client.metadata(prologue, at);
    for track in [&prologue.video, &prologue.audio].into_iter().flatten() {
        client.track(track, at);
    }
    for frame in frames {
        client.frame(prologue, frame);
    }
}

/// Checks that `media` is metadata, both tracks and `frames`.
pub fn assert_media(media: &[Media], prologue: &Prologue, frames: &[Frame]) {
    let [Media::Metadata(metadata), Media::Track(video), Media::Track(audio), rest @ ..] = media else {
        panic!("{:?}", &media[..media.len().min(3)]);
    };
    assert_eq!(metadata.value("encoder"), Some(&metadata::Value::Text("test".into())));
    assert_eq!(Some(video), prologue.video.as_ref());
    assert_eq!(Some(audio), prologue.audio.as_ref());
    assert_eq!(rest.len(), frames.len());
    for (got, sent) in rest.iter().zip(frames) {
        assert!(*got == Media::Frame(sent.clone()), "at {}", sent.dts);
    }
}

#[test]
fn what_is_published_arrives() {
    let (prologue, frames) = (prologue(), frames());
    for seed in 0..20 {
        let mut pair = Pair::publish(seed);
        pair.settle();
        assert_eq!(pair.codes(), ["NetStream.Publish.Start"]);
        assert!(pair.client_events.contains(&ClientEvent::Ready));
        let [Event::Connect(connect), Event::Publish(publish)] = &pair.server_events[..] else {
            panic!("{:?}", pair.server_events);
        };
        let expected = Request {
            vhost: "h.io".into(),
            app: "live".into(),
            tc_url: "rtmp://h.io:1936/live".into(),
            ..Request::default()
        };
        assert_eq!(**connect, expected);
        let client = session::Client::FmlePublish;
        assert_eq!(**publish, Request { stream: "cam".into(), param: "?k=v".into(), client, ..expected });

        send_all(&mut pair.client, &prologue, &frames);
        pair.settle();
        assert_eq!((pair.server_error.take(), pair.client_error.take()), (None, None));
        assert_media(&pair.media(), &prologue, &frames);

        pair.client.stop();
        pair.settle();
        assert!(matches!(pair.server_events[..], [Event::Stop]));
        assert_eq!(pair.codes(), ["NetStream.Publish.Start", "NetStream.Unpublish.Success"]);
    }
}

/// What an 8K encoder may send at once.
#[test]
fn a_keyframe_of_12_mb_passes() {
    let (prologue, mut frames) = (prologue(), frames());
    frames.truncate(4);
    let mut payload = frames[0].payload.to_vec();
    payload.resize(12 << 20, 7);
    let length = (payload.len() as u32 - 4).to_be_bytes();
    payload[..4].copy_from_slice(&length);
    frames[0].payload = payload.into();
    let mut pair = Pair::publish(1);
    pair.settle();
    send_all(&mut pair.client, &prologue, &frames);
    pair.settle();
    assert_eq!(pair.server_error, None);
    pair.server_events.drain(..2);
    assert_media(&pair.media(), &prologue, &frames);
}

/// 25 days are 2^31 ms, where signed readers stop; 50 are 2^32, where the wire's numbers do.
#[test]
fn time_goes_on_after_25_and_50_days() {
    for days_ms in [1i64 << 31, 1 << 32, 3 << 32] {
        let (prologue, mut frames) = (prologue(), frames());
        let moved = Timestamp::from_ms(days_ms - 1_000) - frames[0].dts;
        for frame in &mut frames {
            (frame.dts, frame.pts) = (frame.dts + moved, frame.pts + moved);
        }
        let mut pair = Pair::play(2);
        pair.settle();
        let mut format = Rtmp { chunk_size: 60_000, tracks: Tracks::default() };
        let mut tape = Vec::new();
        format.head(&prologue, frames[0].dts, &mut tape);
        frames.iter().for_each(|frame| format.mux(&prologue, frame, &mut tape));
        pair.client_events.clear();
        pair.deliver(&tape);
        pair.settle();
        let times = pair.client_events.iter().filter_map(|event| match event {
            ClientEvent::Media(Media::Frame(frame)) => Some(frame.dts.as_ms()),
            _ => None,
        });
        let times: Vec<_> = times.collect();
        let sent: Vec<_> = frames.iter().map(|frame| frame.dts.as_ms() - frames[0].dts.as_ms()).collect();
        let got: Vec<_> = times.iter().map(|time| time - times[0]).collect();
        assert_eq!(got, sent, "from {days_ms} ms");
    }
}

#[test]
fn what_the_driver_appends_plays() {
    let (prologue, frames) = (prologue(), frames());
    for seed in 0..20 {
        let mut pair = Pair::play(seed);
        pair.settle();
        assert_eq!(pair.codes(), ["NetStream.Play.Reset", "NetStream.Play.Start"]);
        let Some(Event::Play(play)) = pair.server_events.get(1) else { panic!() };
        assert_eq!((&*play.stream, play.client), ("cam", session::Client::RtmpPlay));

        let mut format = Rtmp { chunk_size: 60_000, tracks: Tracks::default() };
        let mut tape = Vec::new();
        format.head(&prologue, frames[0].dts, &mut tape);
        for frame in &frames {
            format.mux(&prologue, frame, &mut tape);
        }
        pair.client_events.clear();
        pair.deliver(&tape);
        pair.settle();
        assert_eq!(pair.client_error, None);
        let media: Vec<Media> = pair
            .client_events
            .iter()
            .filter_map(|event| match event {
                ClientEvent::Media(media) => Some(media.clone()),
                _ => None,
            })
            .collect();
        assert_media(&media, &prologue, &frames);
    }
}

#[test]
fn bytes_of_a_frame_do_not_depend_on_the_past() {
    let (prologue, frames) = (prologue(), frames());
    let mut format = Rtmp { chunk_size: 128, tracks: Tracks::default() };
    let mut first = Vec::new();
    format.mux(&prologue, &frames[2], &mut first);
    let mut all = Vec::new();
    for frame in &frames[..3] {
        format.mux(&prologue, frame, &mut all);
    }
    assert!(all.ends_with(&first));
    let (mut head, mut changed) = (Vec::new(), Vec::new());
    format.head(&prologue, frames[0].dts, &mut head);
    format.prologue(&prologue, frames[0].dts, &mut changed);
    assert_eq!(head, changed);
}

#[test]
fn players_pause_and_go_on() {
    let mut pair = Pair::play(3);
    pair.settle();
    pair.server_events.clear();
    pair.client_events.clear();
    pair.client.pause(true);
    pair.settle();
    assert!(matches!(pair.server_events[..], [Event::Pause(true)]));
    assert!(pair.client_events.contains(&ClientEvent::StreamEof));
    pair.client.pause(false);
    pair.settle();
    assert!(matches!(pair.server_events[..], [_, Event::Pause(false)]));
    assert_eq!(pair.codes(), ["NetStream.Pause.Notify", "NetStream.Unpause.Notify"]);
    pair.client.stop();
    pair.settle();
    assert!(matches!(pair.server_events[..], [_, _, Event::Stop]));
}

#[test]
fn a_client_chooses_tracks_and_a_tape_without_one_has_no_header_of_it() {
    let (prologue, frames) = (prologue(), frames());
    for tracks in [Tracks { audio: true, video: false }, Tracks { audio: false, video: true }] {
        let mut pair = Pair::play(6);
        pair.settle();
        pair.server_events.clear();
        pair.client.receive(tracks);
        pair.settle();
        assert!(matches!(pair.server_events[..], [Event::Receive(got)] if got == tracks));
        let mut format = Rtmp { chunk_size: 60_000, tracks };
        let mut tape = Vec::new();
        format.head(&prologue, frames[0].dts, &mut tape);
        let taken: Vec<_> = frames.iter().filter(|frame| format.takes(&prologue, frame.kind)).cloned().collect();
        taken.iter().for_each(|frame| format.mux(&prologue, frame, &mut tape));
        pair.deliver(&tape);
        pair.settle();
        assert_eq!(pair.client_error, None);
        let kinds = pair.client_events.iter().filter_map(|event| match event {
            ClientEvent::Media(Media::Track(track)) => Some(track.kind()),
            ClientEvent::Media(Media::Frame(frame)) => Some(frame.kind),
            _ => None,
        });
        let wanted = if tracks.video { Kind::Video } else { Kind::Audio };
        assert_eq!(kinds.collect::<Vec<_>>(), vec![wanted; 1 + taken.len()]);
    }
}

#[test]
fn a_player_is_sent_elsewhere() {
    let mut pair = Pair::play(7);
    let to = Elsewhere { tc_url: "rtmp://o/live".into(), url: "rtmp://o/live/cam?k=v".into() };
    pair.verdict = Verdict::Refused(Refusal::Elsewhere(to.clone()));
    pair.settle();
    assert_eq!(pair.client_error, Some(ClientError::Redirected { url: to.url }));
    // FMS says so in its answer to connect, and names no stream.
    let ex = object([("code", 302.0.into()), ("redirect", "rtmp://f/live".into())]);
    let info = Value::Object(object([("level", "error".into()), ("ex", Value::Object(ex))]));
    let mut client = Client::play("rtmp://h/live/cam?k=v", [1; 32]).unwrap();
    client.input(&simple_handshake()).unwrap();
    let mut out = Vec::new();
    reply::command(&ChunkWriter::default(), &Command::new("_error", 1.0, vec![Value::Null, info]), &mut out);
    assert_eq!(client.input(&out), Err(ClientError::Redirected { url: "rtmp://f/live/cam?k=v".into() }));
}

#[test]
fn refusals_reach_the_client() {
    for (mut pair, refusal, expected) in [
        (Pair::publish(1), Refusal::StreamBusy("/live/cam".into()), "NetStream.Publish.BadName"),
        (Pair::publish(2), Refusal::Other("no".into()), "NetStream.Publish.Denied"),
        (Pair::play(3), Refusal::NoVhost("h.io".into()), "NetStream.Play.StreamNotFound"),
        (Pair::play(4), Refusal::Other("no".into()), "NetStream.Play.Failed"),
    ] {
        pair.verdict = Verdict::Refused(refusal.clone());
        pair.settle();
        assert_eq!(pair.server_error, Some(ServerError::Refused(refusal.clone())));
        let Some(ClientError::Refused { code, description }) = pair.client_error else { panic!() };
        assert_eq!((&*code, description), (expected, refusal.to_string()));
        assert_eq!(pair.server.deadline(), None);
    }
}
