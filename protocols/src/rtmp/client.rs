//! A client's side of a connection: publishes to or plays from any RTMP server.
//!
//! After `new` and each call the caller takes what `poll` gives. There are no timers here; who waits
//! for a server decides for how long.

use super::{
    ack::Acks,
    chunk::{ChunkError, ChunkReader, ChunkWriter, Header, Limits},
    command::{Command, CommandError, object},
    format,
    handshake::{ClientHandshake, HandshakeError, Seed},
    media::MediaReader,
    message::{Control, ControlTooShort, Message, csid, event, kind, user_control},
    reply,
    url::{self, Target},
};
use crate::{amf::Value, flv::TagError, session::Tracks};
use bytes::Bytes;
use shardcast_engine::{
    frame::{Frame, Media},
    prologue::Prologue,
    time::Timestamp,
    track::Track,
};
use std::collections::VecDeque;

#[derive(Debug)]
pub enum ClientOutput {
    Send(Bytes),
    Event(ClientEvent),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// The server takes media from now on, or starts to send them.
    Ready,
    /// Of the stream that is played.
    Media(Media),
    /// An onStatus, [`ClientEvent::Ready`]'s own included.
    Status { level: String, code: String, description: String },
    /// The server says that the stream has no more to send for now.
    StreamEof,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    #[error(transparent)]
    Control(#[from] ControlTooShort),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Media(#[from] TagError),
    /// "RTMP 302".
    #[error("the server has it at {url}")]
    Redirected { url: String },
    #[error("the server refused: {code} {description}")]
    Refused { code: String, description: String },
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url} is not rtmp://host[:port]/app/stream")]
pub struct UrlError {
    pub url: String,
}

pub struct Client {
    mode: Mode,
    tc_url: String,
    /// Stream name and query, as they are sent.
    name: String,
    target: Target,
    phase: Phase,
    handshake: ClientHandshake,
    reader: ChunkReader,
    writer: ChunkWriter,
    acks: Acks,
    /// The message stream that the server gave us.
    stream: u32,
    media: MediaReader,
    frames: VecDeque<Media>,
    outputs: VecDeque<ClientOutput>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Publish,
    Play,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Connecting,
    CreatingStream,
    Starting,
    Ready,
}

/// Transactions of the two commands whose answers matter.
const CONNECT: f64 = 1.0;
const CREATE_STREAM: f64 = 4.0;
/// Of what is sent once connected.
const CHUNK_SIZE: u32 = 60_000;
/// After how many bytes the server is to acknowledge.
const ACK_WINDOW: u32 = 2_500_000;
/// How much a player says it buffers.
const BUFFER_MS: u32 = 1_000;

impl Client {
    pub fn publish(url: &str, seed: Seed) -> Result<Self, UrlError> {
        Self::new(Mode::Publish, url, seed)
    }

    pub fn play(url: &str, seed: Seed) -> Result<Self, UrlError> {
        Self::new(Mode::Play, url, seed)
    }

    fn new(mode: Mode, url: &str, seed: Seed) -> Result<Self, UrlError> {
        let bad = || UrlError { url: url.into() };
        let path_end = url.find(['?', '#']).unwrap_or(url.len());
        let path = url.get(..path_end).unwrap_or_default();
        let (tc_url, stream) = path.rsplit_once('/').ok_or_else(bad)?;
        let name = url.get(tc_url.len() + 1..).unwrap_or_default();
        let target = url::parse(tc_url, name);
        let app = tc_url.strip_prefix("rtmp://").and_then(|rest| rest.split_once('/'));
        if stream.is_empty() || target.host.is_empty() || app.is_none_or(|(_, app)| app.is_empty()) {
            return Err(bad());
        }
        let mut out = Vec::new();
        let handshake = ClientHandshake::new(seed, &mut out);
        Ok(Self {
            mode,
            tc_url: tc_url.into(),
            name: name.into(),
            target,
            phase: Phase::Handshake,
            handshake,
            reader: ChunkReader::new(Limits::default()),
            writer: ChunkWriter::default(),
            acks: Acks::default(),
            stream: 0,
            media: MediaReader::default(),
            frames: VecDeque::new(),
            outputs: VecDeque::from([ClientOutput::Send(out.into())]),
        })
    }

    /// Where to connect to, and what for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The number of the message stream that the server gave.
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// Bytes from the server. After an error the connection is of no more use.
    pub fn input(&mut self, mut input: &[u8]) -> Result<(), ClientError> {
        self.acks.receive(input.len());
        if self.phase == Phase::Handshake {
            let mut out = Vec::new();
            if !self.handshake.input(&mut input, &mut out)? {
                return Ok(());
            }
            self.phase = Phase::Connecting;
            self.connect(&mut out);
            self.send(out);
        }
        while let Some(message) = self.reader.read(&mut input)? {
            self.message(&message)?;
        }
        if let Some(sequence) = self.acks.due() {
            self.say(|writer, out| {
                reply::control(writer, kind::ACKNOWLEDGEMENT, &sequence.to_be_bytes(), out);
            });
        }
        Ok(())
    }

    pub fn poll(&mut self) -> Option<ClientOutput> {
        self.outputs.pop_front()
    }

    /// Publishes the metadata of `prologue`.
    pub fn metadata(&mut self, prologue: &Prologue, at: Timestamp) {
        let stream = self.stream;
        self.say(|writer, out| format::write_metadata(*writer, stream, prologue, at, out));
    }

    /// Publishes a track's configuration.
    pub fn track(&mut self, track: &Track, at: Timestamp) {
        let stream = self.stream;
        self.say(|writer, out| format::write_track(*writer, stream, track, at, out));
    }

    /// Publishes a frame of a track in `prologue`.
    pub fn frame(&mut self, prologue: &Prologue, frame: &Frame) {
        let stream = self.stream;
        self.say(|writer, out| format::write_frame(*writer, stream, prologue, frame, out));
    }

    /// Asks the server to hold the stream, or to go on.
    pub fn pause(&mut self, pause: bool) {
        let arguments = vec![Value::Null, pause.into(), 0.0.into()];
        self.stream_command(&Command::new("pause", 0.0, arguments));
    }

    /// Asks the server for these tracks from now on.
    pub fn receive(&mut self, tracks: Tracks) {
        for (name, wanted) in [("receiveAudio", tracks.audio), ("receiveVideo", tracks.video)] {
            self.stream_command(&Command::new(name, 0.0, vec![Value::Null, wanted.into()]));
        }
    }

    /// Ends publishing or playing.
    pub fn stop(&mut self) {
        if self.mode == Mode::Publish {
            let name = self.name.as_str().into();
            self.command(&Command::new("FCUnpublish", 6.0, vec![Value::Null, name]));
        }
        let stream = Value::Number(self.stream.into());
        self.command(&Command::new("deleteStream", 0.0, vec![Value::Null, stream]));
    }

    /// Set Chunk Size, Window Ack Size and connect (RTMP 1.0 §7.2.1.1).
    fn connect(&mut self, out: &mut Vec<u8>) {
        reply::control(&self.writer, kind::SET_CHUNK_SIZE, &CHUNK_SIZE.to_be_bytes(), out);
        self.writer.chunk_size = CHUNK_SIZE;
        reply::control(&self.writer, kind::WINDOW_ACK_SIZE, &ACK_WINDOW.to_be_bytes(), out);
        let app = self.tc_url.splitn(4, '/').nth(3).unwrap_or_default();
        let mut connect = object([
            ("app", app.into()),
            ("flashVer", concat!("LNX 9,0,124,2 (Shardcast/", env!("CARGO_PKG_VERSION"), ")").into()),
            ("tcUrl", self.tc_url.as_str().into()),
        ]);
        match self.mode {
            Mode::Publish => connect.extend(object([("type", "nonprivate".into())])),
            Mode::Play => connect.extend(object([
                ("fpad", false.into()),
                ("capabilities", 15.0.into()),
                ("audioCodecs", 4071.0.into()),
                ("videoCodecs", 252.0.into()),
                ("videoFunction", 1.0.into()),
            ])),
        }
        reply::command(&self.writer, &Command::new("connect", CONNECT, vec![Value::Object(connect)]), out);
    }

    fn message(&mut self, message: &Message) -> Result<(), ClientError> {
        match Control::read(message)? {
            Some(Control::SetChunkSize(size)) => self.reader.set_chunk_size(size)?,
            Some(Control::Abort { csid }) => self.reader.abort(csid),
            Some(Control::WindowAckSize(window)) => self.acks.window = window,
            Some(Control::Ping(token)) => self.say(|writer, out| reply::pong(writer, token, out)),
            Some(Control::StreamEof) => self.event(ClientEvent::StreamEof),
            Some(Control::Other) => {}
            None if matches!(message.kind, kind::COMMAND | kind::COMMAND_AMF3) => {
                self.on_command(&Command::read(message)?)?;
            }
            None if self.mode == Mode::Play => {
                self.media.read(message, &mut self.frames)?;
                let media = self.frames.drain(..).map(|m| ClientOutput::Event(ClientEvent::Media(m)));
                self.outputs.extend(media);
            }
            None => {}
        }
        Ok(())
    }

    fn on_command(&mut self, command: &Command) -> Result<(), ClientError> {
        let info = command.arguments.get(1);
        // The whole URL where there is one (SRS), else what the name is to be behind (FMS).
        let ex = info.and_then(|info| info.field("ex"));
        let at = |name| ex.and_then(|ex| ex.field(name)).and_then(Value::as_str).filter(|url| !url.is_empty());
        if ex.and_then(|ex| ex.field("code")).and_then(Value::as_f64) == Some(reply::REDIRECT)
            && let Some(url) =
                at("redirect2").map(str::to_owned).or(at("redirect").map(|url| format!("{url}/{}", self.name)))
        {
            return Err(ClientError::Redirected { url });
        }
        let text = |name| info.and_then(|i| i.field(name)).and_then(Value::as_str).unwrap_or_default().to_owned();
        match (self.phase, command.name.as_str()) {
            (Phase::Connecting, "_result") if command.transaction == CONNECT => {
                self.phase = Phase::CreatingStream;
                if self.mode == Mode::Publish {
                    for (name, transaction) in [("releaseStream", 2.0), ("FCPublish", 3.0)] {
                        let name_argument = self.name.as_str().into();
                        let arguments = vec![Value::Null, name_argument];
                        self.command(&Command::new(name, transaction, arguments));
                    }
                }
                self.command(&Command::new("createStream", CREATE_STREAM, vec![Value::Null]));
            }
            (Phase::CreatingStream, "_result") if command.transaction == CREATE_STREAM => {
                self.phase = Phase::Starting;
                self.stream = info.and_then(Value::as_f64).unwrap_or(1.0) as u32;
                self.start();
            }
            (Phase::Connecting | Phase::CreatingStream, "_error")
                if command.transaction == CONNECT || command.transaction == CREATE_STREAM =>
            {
                let (code, description) = (text("code"), text("description"));
                return Err(ClientError::Refused { code, description });
            }
            (_, "onStatus") => {
                let (level, code, description) = (text("level"), text("code"), text("description"));
                let error = level == "error";
                let status = ClientEvent::Status { level, code: code.clone(), description: description.clone() };
                self.event(status);
                if error {
                    return Err(ClientError::Refused { code, description });
                }
                if self.phase == Phase::Starting
                    && matches!(code.as_str(), "NetStream.Publish.Start" | "NetStream.Play.Start")
                {
                    self.phase = Phase::Ready;
                    self.event(ClientEvent::Ready);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// publish, or play and the buffer's length (RTMP 1.0 §7.2.2).
    fn start(&mut self) {
        let name = Value::from(self.name.as_str());
        match self.mode {
            Mode::Publish => {
                let arguments = vec![Value::Null, name, "live".into()];
                self.stream_command(&Command::new("publish", 5.0, arguments));
            }
            Mode::Play => {
                // Start -2: live if there is such a stream.
                let arguments = vec![Value::Null, name, Value::Number(-2.0)];
                self.stream_command(&Command::new("play", 5.0, arguments));
                let mut length = user_control(event::SET_BUFFER_LENGTH, self.stream.to_be_bytes()).to_vec();
                length.extend(BUFFER_MS.to_be_bytes());
                self.say(|writer, out| reply::control(writer, kind::USER_CONTROL, &length, out));
            }
        }
    }

    fn command(&mut self, command: &Command) {
        self.say(|writer, out| reply::command(writer, command, out));
    }

    fn stream_command(&mut self, command: &Command) {
        let header = Header { csid: csid::STREAM, kind: kind::COMMAND, stream: self.stream, timestamp: 0 };
        self.say(|writer, out| writer.write(header, &[&command.encode()], out));
    }

    fn say(&mut self, write: impl FnOnce(&ChunkWriter, &mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&self.writer, &mut out);
        self.send(out);
    }

    fn send(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.outputs.push_back(ClientOutput::Send(bytes.into()));
        }
    }

    fn event(&mut self, event: ClientEvent) {
        self.outputs.push_back(ClientOutput::Event(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_app_and_stream() {
        let client = Client::play("rtmp://h:1936/live/sub/cam?k=a/b", [0; 32]).unwrap();
        let Target { host, port, app, stream, param, .. } = client.target();
        assert_eq!((&**host, *port, &**app, &**stream, &**param), ("h", 1936, "live/sub", "cam", "?k=a/b"));
        for url in ["rtmp://h", "rtmp://h/", "rtmp://h/live", "rtmp://h/live/", "http://h/live/cam", "", "/"] {
            assert!(Client::play(url, [0; 32]).is_err(), "{url}");
        }
    }
}
