//! A client's connection as a server sees it, from handshake to publishing or playing.
//!
//! The bytes of the stream that is played are not this session's: its driver appends them between two
//! outputs, which always are whole messages.

use super::{
    ack::Acks,
    chunk::{ChunkError, ChunkReader, ChunkWriter, Limits},
    command::{Command, CommandError},
    format::STREAM,
    handshake::{HandshakeError, Seed, ServerHandshake},
    media::MediaReader,
    message::{Control, ControlTooShort, Message, kind},
    pace::{self, Pace},
    reply::{self, CAN_RECONNECT, Identity},
    url,
};
use crate::{
    amf::Value,
    flv::TagError,
    session::{Client, Elsewhere, Event, Output, Refusal, Request, Session, Tracks, Verdict},
};
use bytes::{Bytes, BytesMut};
use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Of what is sent, once connected; 1..=2^31-1.
    pub chunk_size: u32,
    /// After how many bytes the peer is to acknowledge.
    pub ack_window: u32,
    /// Longest message from a publisher, bytes; others may send 64 KiB.
    pub max_message: usize,
    /// From the start to connect, and from there to publish or play.
    pub handshake_timeout: Duration,
    /// From the end of a stream to the next publish or play.
    pub idle_timeout: Duration,
    /// From the start of publishing to the first media message, and from one to the next.
    pub first_packet_timeout: Duration,
    pub normal_timeout: Duration,
}

/// Longest message of a peer that may not publish yet: commands are short.
const COMMAND_BYTES: usize = 64 << 10;
/// The URLs of a connect together, or a stream's name with its query: as much as web servers take of a URL.
const URL_BYTES: usize = 8 << 10;

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            chunk_size: 60_000,
            ack_window: 2_500_000,
            max_message: Limits::default().message,
            handshake_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(180),
            first_packet_timeout: Duration::from_secs(20),
            normal_timeout: Duration::from_secs(5),
        }
    }
}

/// `at` is the byte of the connection up to which it had been understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    #[error("at byte {at}: {source}")]
    Handshake { at: u64, source: HandshakeError },
    #[error("at byte {at}: {source}")]
    Chunk { at: u64, source: ChunkError },
    #[error("at byte {at}: {source}")]
    Control { at: u64, source: ControlTooShort },
    #[error("at byte {at}: {source}")]
    Command { at: u64, source: CommandError },
    #[error("at byte {at}: {source}")]
    Media { at: u64, source: TagError },
    #[error("at byte {at}: more than {} commands at once, or {:?} each", pace::BURST, pace::EACH)]
    TooManyCommands { at: u64 },
    #[error("at byte {at}: {command} names no stream")]
    NoStream { at: u64, command: &'static str },
    #[error("at byte {at}: {command} has URLs or a name of {len} bytes, at most {URL_BYTES} allowed")]
    UrlTooLong { at: u64, command: &'static str, len: usize },
    #[error("{waited_for} did not come within {within:?}")]
    Timeout { waited_for: &'static str, within: Duration },
    #[error("{held} bytes came while the client was to wait for an answer, at most {max} are kept")]
    TooMuchHeld { held: usize, max: usize },
    #[error("refused: {0}")]
    Refused(Refusal),
}

pub struct Server {
    config: ServerConfig,
    phase: Phase,
    /// The question that the driver has not answered yet; parsing waits for it.
    asked: Option<Question>,
    /// Until the answer to connect.
    opening: Option<Box<Opening>>,
    reader: ChunkReader,
    writer: ChunkWriter,
    outputs: VecDeque<Output>,
    /// What came after the question.
    held: BytesMut,
    acks: Acks,
    pace: Pace,
    /// Bytes parsed.
    parsed: u64,
    deadline: Option<Deadline>,
    /// What it asked for last; URL and pages are those of its connect.
    request: Arc<Request>,
    /// It knows what a request to reconnect is.
    reconnects: bool,
    /// What the commands so far tell of the client that may publish.
    client: Client,
    stream_created: bool,
    /// What it wants of what it plays.
    tracks: Tracks,
    /// While it publishes.
    publishing: Option<Box<Publishing>>,
}

/// What only the way to the answer to connect needs: thousands of players need not keep it.
struct Opening {
    handshake: ServerHandshake,
    identity: Identity,
}

#[derive(Default)]
struct Publishing {
    media: MediaReader,
    frames: VecDeque<shardcast_engine::frame::Media>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    /// Until connect.
    Opening,
    /// Connected; neither publishing nor playing.
    Idle,
    Publishing,
    Playing,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Question {
    /// `enhanced`: the peer tells what it knows of Enhanced RTMP.
    Connect {
        transaction: f64,
        object_encoding: f64,
        enhanced: bool,
    },
    Publish,
    Play,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Instant,
    within: Duration,
    waited_for: &'static str,
}

impl Session for Server {
    type Error = ServerError;

    fn input(&mut self, now: Instant, bytes: &[u8]) -> Result<(), ServerError> {
        if self.phase == Phase::Ended {
            return Ok(());
        }
        self.acks.receive(bytes.len());
        if self.asked.is_some() {
            let (held, max) = (self.held.len().saturating_add(bytes.len()), self.config.max_message);
            if held > max {
                return self.end(ServerError::TooMuchHeld { held, max });
            }
            self.held.extend_from_slice(bytes);
            return Ok(());
        }
        self.run(now, bytes)
    }

    fn poll(&mut self) -> Option<Output> {
        let next = self.outputs.pop_front();
        if next.is_none() && self.phase == Phase::Playing {
            // A player hardly ever says anything: it holds no room for answers.
            self.outputs = VecDeque::new();
        }
        next
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline.map(|deadline| deadline.at)
    }

    fn expire(&mut self, now: Instant) -> Result<(), ServerError> {
        match self.deadline {
            Some(Deadline { at, within, waited_for }) if at <= now => {
                self.end(ServerError::Timeout { waited_for, within })
            }
            _ => Ok(()),
        }
    }

    fn verdict(&mut self, now: Instant, verdict: Verdict) -> Result<(), ServerError> {
        let Some(question) = self.asked.take() else {
            return Ok(());
        };
        if let Verdict::Refused(refusal) = verdict {
            self.refuse(question, &refusal);
            return self.end(ServerError::Refused(refusal));
        }
        let mut out = Vec::new();
        match question {
            Question::Connect { transaction, object_encoding, enhanced } => {
                let identity = self.opening.take().map(|opening| opening.identity).unwrap_or_default();
                let ServerConfig { ack_window, chunk_size, .. } = &self.config;
                reply::connected(
                    &mut self.writer,
                    &identity,
                    transaction,
                    object_encoding,
                    enhanced,
                    *ack_window,
                    *chunk_size,
                    &mut out,
                );
                self.phase = Phase::Idle;
                self.wait(now, self.config.handshake_timeout, "publish or play");
            }
            Question::Publish => {
                let fmle = matches!(self.client, Client::FmlePublish | Client::HaivisionPublish);
                reply::publish_started(&self.writer, fmle, &mut out);
                self.phase = Phase::Publishing;
                self.publishing = Some(Box::default());
                self.reader.limit_messages(self.config.max_message);
                self.wait(now, self.config.first_packet_timeout, "the first media message");
            }
            Question::Play => {
                reply::play_started(&self.writer, &mut out);
                self.phase = Phase::Playing;
            }
        }
        self.send(out);
        let held = std::mem::take(&mut self.held);
        self.run(now, &held)
    }
}

impl Server {
    /// `seed`: from the system's random generator.
    pub fn new(now: Instant, identity: Identity, seed: Seed, config: ServerConfig) -> Self {
        let limits = Limits { message: config.max_message.min(COMMAND_BYTES), ..Limits::default() };
        let mut server = Self {
            phase: Phase::Handshake,
            asked: None,
            opening: Some(Box::new(Opening { handshake: ServerHandshake::new(seed), identity })),
            reader: ChunkReader::new(limits),
            writer: ChunkWriter::default(),
            outputs: VecDeque::new(),
            held: BytesMut::new(),
            acks: Acks::default(),
            pace: Pace::new(now),
            parsed: 0,
            deadline: None,
            request: Arc::default(),
            reconnects: false,
            client: Client::Unknown,
            stream_created: false,
            tracks: Tracks::default(),
            publishing: None,
            config,
        };
        server.wait(now, server.config.handshake_timeout, "connect");
        server
    }

    /// Sets the chunk size of what is sent. The peer is told with the verdict on `Connect`, and later at once.
    pub fn set_chunk_size(&mut self, chunk_size: u32) {
        self.config.chunk_size = chunk_size.clamp(1, 0x7fff_ffff);
        let is_told = matches!(self.phase, Phase::Idle | Phase::Publishing | Phase::Playing);
        if is_told && self.writer.chunk_size != self.config.chunk_size {
            let size = self.config.chunk_size;
            self.say(|writer, out| reply::control(writer, kind::SET_CHUNK_SIZE, &size.to_be_bytes(), out));
            self.writer.chunk_size = size;
        }
    }

    /// How long a publisher may keep silent: before its first media message, and from one to the next.
    pub fn set_timeouts(&mut self, first_packet: Duration, normal: Duration) {
        self.config.first_packet_timeout = first_packet;
        self.config.normal_timeout = normal;
    }

    /// What a player is told that has got all it wanted.
    pub fn finale(&self) -> Box<[u8]> {
        let mut out = Vec::new();
        reply::play_complete(&self.writer, &mut out);
        out.into()
    }

    /// What the peer is told when the server ends and waits for it to go; none where it would not know what that is.
    /// `to`: where a player finds its stream then.
    pub fn parting(&self, to: Option<&Elsewhere>) -> Option<Box<[u8]>> {
        self.reconnects.then(|| {
            let mut out = Vec::new();
            reply::reconnect_request(&self.writer, to, &mut out);
            out.into()
        })
    }

    /// The client's address as a proxy in front of us stated it; asked before the answer to connect.
    pub fn proxied_for(&self) -> Option<Ipv4Addr> {
        self.opening.as_ref()?.handshake.proxied_for()
    }

    /// Parses `input` up to a question, and holds what follows that.
    fn run(&mut self, now: Instant, mut input: &[u8]) -> Result<(), ServerError> {
        let result = self.parse(now, &mut input);
        if let Err(error) = result {
            return self.end(error);
        }
        self.held.extend_from_slice(input);
        if let Some(sequence) = self.acks.due() {
            let sequence = sequence.to_be_bytes();
            self.say(|writer, out| reply::control(writer, kind::ACKNOWLEDGEMENT, &sequence, out));
        }
        Ok(())
    }

    fn parse(&mut self, now: Instant, input: &mut &[u8]) -> Result<(), ServerError> {
        while self.asked.is_none() {
            let before = input.len();
            if let (Phase::Handshake, Some(opening)) = (self.phase, &mut self.opening) {
                let mut out = Vec::new();
                let done = opening.handshake.input(input, &mut out);
                self.send(out);
                if !done.map_err(|source| ServerError::Handshake { at: self.parsed, source })? {
                    self.parsed += (before - input.len()) as u64;
                    return Ok(());
                }
                self.phase = Phase::Opening;
                self.parsed += (before - input.len()) as u64;
                continue;
            }
            let message = self.reader.read(input);
            self.parsed += (before - input.len()) as u64;
            match message.map_err(|source| ServerError::Chunk { at: self.parsed, source })? {
                Some(message) => self.message(now, &message)?,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn message(&mut self, now: Instant, message: &Message) -> Result<(), ServerError> {
        let at = self.parsed;
        match Control::read(message).map_err(|source| ServerError::Control { at, source })? {
            Some(Control::SetChunkSize(size)) => {
                return self.reader.set_chunk_size(size).map_err(|source| ServerError::Chunk { at, source });
            }
            Some(Control::Abort { csid }) => self.reader.abort(csid),
            Some(Control::WindowAckSize(window)) => self.acks.window = window,
            Some(Control::Ping(token)) => self.say(|writer, out| reply::pong(writer, token, out)),
            Some(Control::StreamEof | Control::Other) => {}
            None if matches!(message.kind, kind::COMMAND | kind::COMMAND_AMF3) => {
                let command = Command::read(message).map_err(|source| ServerError::Command { at, source })?;
                if !self.pace.takes(now) {
                    return Err(ServerError::TooManyCommands { at });
                }
                return self.command(now, &command);
            }
            None if self.phase == Phase::Publishing => return self.publish_media(now, message),
            // Media of a stream that has just ended, or types that nobody uses.
            None => {}
        }
        Ok(())
    }

    fn publish_media(&mut self, now: Instant, message: &Message) -> Result<(), ServerError> {
        self.wait(now, self.config.normal_timeout, "the next media message");
        let Publishing { media, frames } = &mut **self.publishing.get_or_insert_default();
        let result = media.read(message, frames);
        self.outputs.extend(frames.drain(..).map(|media| Output::Event(Event::Media(media))));
        self.outputs.extend(media.note().map(|note| Output::Event(Event::Note(note))));
        result.map_err(|source| {
            let reason = source.to_string();
            self.say(|writer, out| reply::failed(writer, "NetStream.Publish.Rejected", &reason, out));
            ServerError::Media { at: self.parsed, source }
        })
    }

    fn command(&mut self, now: Instant, command: &Command) -> Result<(), ServerError> {
        let transaction = command.transaction;
        match (self.phase, command.name.as_str()) {
            (Phase::Opening, "connect") => self.on_connect(command)?,
            // Nothing is answered before connect.
            (Phase::Handshake | Phase::Opening | Phase::Ended, _) => {}
            (_, "createStream") => {
                self.stream_created = true;
                self.tracks = Tracks::default();
                let stream = Value::Number(STREAM.into());
                self.say(|writer, out| reply::result(writer, transaction, stream, out));
            }
            (_, "releaseStream" | "FCPublish") => {
                if self.client == Client::Unknown {
                    let created = self.stream_created;
                    self.client = if created { Client::HaivisionPublish } else { Client::FmlePublish };
                }
                self.say(|writer, out| reply::result(writer, transaction, Value::Undefined, out));
            }
            (_, "FCSubscribe") => self.say(|writer, out| reply::subscribed(writer, transaction, out)),
            (_, "publish") => {
                let known = self.client;
                self.stop(now);
                self.client = if known == Client::Unknown { Client::FlashPublish } else { known };
                let request = self.stream_request("publish", self.client, command)?;
                self.ask(Question::Publish, Event::Publish, request);
            }
            (_, "play") => {
                self.stop(now);
                let mut request = self.stream_request("play", Client::RtmpPlay, command)?;
                // Name, start, duration. Milliseconds, as librtmp and SRS have them, not the specification's seconds.
                let duration = command.arguments.get(3).and_then(Value::as_f64).filter(|ms| *ms > 0.0);
                request.duration = duration.map(|ms| Duration::from_millis(ms as u64));
                request.tracks = self.tracks;
                self.ask(Question::Play, Event::Play, request);
            }
            (Phase::Publishing, "FCUnpublish") => {
                self.stop(now);
                self.say(|writer, out| reply::unpublished(writer, transaction, out));
            }
            (_, "FCUnpublish") => {
                self.say(|writer, out| reply::result(writer, transaction, Value::Undefined, out));
            }
            (_, "deleteStream" | "closeStream") => self.stop(now),
            (Phase::Playing, "pause" | "pauseRaw") => {
                let pause = command.arguments.get(1).and_then(Value::as_bool).unwrap_or(true);
                self.outputs.push_back(Output::Event(Event::Pause(pause)));
                self.say(|writer, out| reply::paused(writer, pause, out));
            }
            (_, "receiveAudio" | "receiveVideo") => self.receive(command),
            // A live stream has no other place to go to.
            (_, "pause" | "pauseRaw" | "seek") => {}
            (_, "getStreamLength") => {
                self.say(|writer, out| reply::result(writer, transaction, Value::Number(0.0), out));
            }
            // An answer is not to be answered.
            (_, "_result" | "_error" | "onStatus") => {}
            _ if transaction > 0.0 => {
                self.say(|writer, out| reply::result(writer, transaction, Value::Null, out));
            }
            _ => {}
        }
        Ok(())
    }

    /// Before play, or while it plays (RTMP 1.0 §7.2.2.4 and §7.2.2.5).
    fn receive(&mut self, command: &Command) {
        let wanted = command.arguments.get(1).and_then(Value::as_bool).unwrap_or(true);
        let before = self.tracks;
        match command.name.as_str() {
            "receiveAudio" => self.tracks.audio = wanted,
            _ => self.tracks.video = wanted,
        }
        if self.phase == Phase::Playing && self.tracks != before {
            self.outputs.push_back(Output::Event(Event::Receive(self.tracks)));
            if wanted {
                self.say(reply::receive_started);
            }
        }
    }

    fn on_connect(&mut self, command: &Command) -> Result<(), ServerError> {
        let field = |name| command.arguments.first().and_then(|object| object.field(name));
        let text = |name| field(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (mut tc_url, page_url, swf_url) = (text("tcUrl"), text("pageUrl"), text("swfUrl"));
        if tc_url.is_empty() {
            tc_url = format!("rtmp:///{}", text("app"));
        }
        let len = tc_url.len() + page_url.len() + swf_url.len();
        if len > URL_BYTES {
            let error = ServerError::UrlTooLong { at: self.parsed, command: "connect", len };
            let (transaction, reason) = (command.transaction, "its URLs are too long");
            self.say(|writer, out| reply::connect_refused(writer, transaction, reason, out));
            return Err(error);
        }
        let request = Request { page_url, swf_url, ..url::parse(&tc_url, "").request(&tc_url) };
        let object_encoding = field("objectEncoding").and_then(Value::as_f64).unwrap_or_default();
        self.reconnects = field("capsEx").and_then(Value::as_f64).is_some_and(|caps| caps as u8 & CAN_RECONNECT != 0);
        let enhanced = ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx"];
        let enhanced = enhanced.into_iter().any(|name| field(name).is_some());
        let question = Question::Connect { transaction: command.transaction, object_encoding, enhanced };
        self.ask(question, Event::Connect, request);
        Ok(())
    }

    /// What a publish or play asks for.
    fn stream_request(
        &mut self,
        name: &'static str,
        client: Client,
        command: &Command,
    ) -> Result<Request, ServerError> {
        let last = self.request.clone();
        let Request { tc_url, page_url, swf_url, .. } = &*last;
        let stream = command.text(1).unwrap_or_default();
        let target = url::parse(tc_url, stream).guess_stream();
        let (at, len) = (self.parsed, stream.len());
        let (reason, error) = if len > URL_BYTES {
            ("the stream's name is too long", ServerError::UrlTooLong { at, command: name, len })
        } else if target.stream.is_empty() {
            ("the stream has no name", ServerError::NoStream { at, command: name })
        } else {
            let (page_url, swf_url) = (page_url.clone(), swf_url.clone());
            return Ok(Request { client, page_url, swf_url, ..target.request(tc_url) });
        };
        let code = if name == "play" { "NetStream.Play.StreamNotFound" } else { "NetStream.Publish.BadName" };
        self.say(|writer, out| reply::failed(writer, code, reason, out));
        Err(error)
    }

    /// Ends publishing or playing; the connection may go on to another stream.
    fn stop(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Publishing | Phase::Playing) {
            self.outputs.push_back(Output::Event(Event::Stop));
            self.phase = Phase::Idle;
            self.client = Client::Unknown;
            self.stream_created = false;
            self.wait(now, self.config.idle_timeout, "another publish or play");
        }
    }

    /// The time until the verdict is the server's own and not counted.
    fn ask(&mut self, question: Question, event: fn(Arc<Request>) -> Event, request: Request) {
        self.deadline = None;
        self.asked = Some(question);
        self.request = Arc::new(request);
        self.outputs.push_back(Output::Event(event(self.request.clone())));
    }

    fn refuse(&mut self, question: Question, refusal: &Refusal) {
        let description = refusal.to_string();
        self.say(|writer, out| match (question, refusal) {
            (Question::Connect { transaction, .. }, _) => {
                reply::connect_refused(writer, transaction, &description, out);
            }
            (Question::Publish | Question::Play, Refusal::Elsewhere(to)) => reply::redirected(writer, to, out),
            (Question::Publish, Refusal::StreamBusy(_)) => {
                reply::failed(writer, "NetStream.Publish.BadName", &description, out);
            }
            (Question::Publish, _) => {
                reply::failed(writer, "NetStream.Publish.Denied", &description, out);
            }
            (Question::Play, Refusal::NoVhost(_)) => {
                reply::failed(writer, "NetStream.Play.StreamNotFound", &description, out);
            }
            (Question::Play, _) => reply::failed(writer, "NetStream.Play.Failed", &description, out),
        });
    }

    fn say(&mut self, reply: impl FnOnce(&ChunkWriter, &mut Vec<u8>)) {
        let mut out = Vec::new();
        reply(&self.writer, &mut out);
        self.send(out);
    }

    fn send(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.outputs.push_back(Output::Send(Bytes::from(bytes)));
        }
    }

    fn wait(&mut self, now: Instant, within: Duration, waited_for: &'static str) {
        self.deadline = now.checked_add(within).map(|at| Deadline { at, within, waited_for });
    }

    fn end(&mut self, error: ServerError) -> Result<(), ServerError> {
        self.phase = Phase::Ended;
        self.deadline = None;
        self.asked = None;
        self.held = BytesMut::new();
        Err(error)
    }
}
