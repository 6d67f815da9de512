//! One viewer of a stream: reads it as a strict player would, and remembers what it got.

use crate::{
    endpoint::{Endpoint, Scheme},
    http::{self, Answer, HttpError},
    outlet::seed,
    sys::Wait,
    wire::{Dial, Wire, WireError},
};
use shardcast_engine::{
    codec::Kind,
    frame::{Frame, Media},
    time::Timestamp,
};
use shardcast_protocols::{
    flv::{FlvReader, StreamError, Tag, TagError, TagKind, TagReader},
    rtmp::client::{Client, ClientError, ClientEvent, ClientOutput, UrlError},
};
use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

/// From the dial to the first frame, and from one read to the next.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const TAG_BYTES_MAX: usize = 16 << 20;
const READ_BYTES: usize = 64 * 1024;
/// Reads of one viewer before the others have their turn.
const READS_AT_ONCE: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum ViewerError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Flv(#[from] StreamError),
    #[error(transparent)]
    Tag(#[from] TagError),
    #[error("no random bytes: {0}")]
    Seed(io::Error),
    #[error("{kind:?} goes back from {from} to {to}")]
    Backwards { kind: Kind, from: Timestamp, to: Timestamp },
    #[error("the first picture, at {0}, is no keyframe")]
    NoKeyframe(Timestamp),
    #[error("nothing came for {0:?}")]
    Silent(Duration),
    #[error("no frame came")]
    NoFrame,
}

pub struct Viewer {
    pub endpoint: Endpoint,
    state: State,
    started: Instant,
    heard: Instant,
    pub tally: Tally,
}

#[derive(Debug, Default)]
pub struct Tally {
    /// When the first frame came, and how long after the dial.
    pub first_frame: Option<(Instant, Duration)>,
    pub bytes: u64,
    pub frames: u64,
    last_dts: [Option<Timestamp>; 2],
    pub error: Option<ViewerError>,
}

enum State {
    Dialling(Dial),
    Open { wire: Wire, protocol: Box<Protocol> },
    Failed,
}

#[allow(clippy::large_enum_variant)] // boxed as a whole in State
enum Protocol {
    Rtmp(Client),
    Flv { answer: Answer, reader: FlvReader, tags: TagReader, clock_ms: i64 },
}

impl Viewer {
    pub fn start(endpoint: Endpoint, now: Instant) -> io::Result<Self> {
        let state = State::Dialling(Dial::start(&endpoint)?);
        Ok(Self { endpoint, state, started: now, heard: now, tally: Tally::default() })
    }

    /// What time brings.
    pub fn step(&mut self, now: Instant) {
        let result = match &self.state {
            State::Dialling(dial) => match dial.result() {
                Some(Ok(wire)) => self.open(wire),
                Some(Err(error)) => Err(error.into()),
                None => return,
            },
            State::Open { .. } if now.saturating_duration_since(self.heard) > SILENCE_MAX => {
                Err(ViewerError::Silent(SILENCE_MAX))
            }
            State::Open { .. }
                if self.tally.first_frame.is_none() && now.saturating_duration_since(self.started) > SILENCE_MAX =>
            {
                Err(ViewerError::NoFrame)
            }
            _ => return,
        };
        self.settle(result);
    }

    pub fn is_dialling(&self) -> bool {
        matches!(self.state, State::Dialling(_))
    }

    pub fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed)
    }

    pub fn wait(&self) -> Option<Wait<'_>> {
        match &self.state {
            State::Open { wire, .. } => Some(wire.wait()),
            _ => None,
        }
    }

    pub fn transfer(&mut self, now: Instant, readable: bool, buffer: &mut Vec<u8>) {
        let State::Open { wire, protocol } = &mut self.state else { return };
        buffer.resize(READ_BYTES, 0);
        let mut frames = VecDeque::new();
        let mut bytes = 0;
        let result = exchange(wire, protocol, readable, buffer, &mut bytes, &mut frames);
        if bytes > 0 {
            self.heard = now;
        }
        self.tally.bytes += bytes;
        // What came before an error counts.
        let tallied = frames.iter().try_for_each(|frame| self.tally.frame(frame, now, self.started));
        self.settle(tallied.and(result));
    }

    /// The end of the measurement: who has seen nothing by now has failed.
    pub fn finish(&mut self) {
        if self.tally.first_frame.is_none() && self.tally.error.is_none() {
            self.tally.error = Some(ViewerError::NoFrame);
        }
    }

    fn open(&mut self, mut wire: Wire) -> Result<(), ViewerError> {
        let protocol = match self.endpoint.scheme {
            Scheme::Rtmp => Protocol::Rtmp(Client::play(&self.endpoint.url, seed().map_err(ViewerError::Seed)?)?),
            Scheme::Http => {
                wire.send(http::request(&self.endpoint).into())?;
                Protocol::Flv {
                    answer: Answer::default(),
                    reader: FlvReader::new(TAG_BYTES_MAX),
                    tags: TagReader::default(),
                    clock_ms: 0,
                }
            }
        };
        self.state = State::Open { wire, protocol: Box::new(protocol) };
        self.transfer(Instant::now(), false, &mut Vec::new());
        Ok(())
    }

    fn settle(&mut self, result: Result<(), ViewerError>) {
        if let Err(error) = result {
            self.tally.error = Some(error);
            self.state = State::Failed;
        }
    }
}

impl Tally {
    fn frame(&mut self, frame: &Frame, now: Instant, started: Instant) -> Result<(), ViewerError> {
        let (kind, to) = (frame.kind, frame.dts);
        let last = &mut self.last_dts[usize::from(kind == Kind::Audio)];
        match *last {
            Some(from) if to < from => return Err(ViewerError::Backwards { kind, from, to }),
            None if kind == Kind::Video && !frame.keyframe => return Err(ViewerError::NoKeyframe(to)),
            _ => *last = Some(to),
        }
        self.first_frame.get_or_insert((now, now.saturating_duration_since(started)));
        self.frames += 1;
        Ok(())
    }
}

/// Reads if `readable`, takes it apart into frames, and writes what the protocol answers.
fn exchange(
    wire: &mut Wire,
    protocol: &mut Protocol,
    readable: bool,
    buffer: &mut [u8],
    bytes: &mut u64,
    frames: &mut VecDeque<Frame>,
) -> Result<(), ViewerError> {
    for _ in 0..if readable { READS_AT_ONCE } else { 0 } {
        let Some(len) = wire.receive(buffer)? else { break };
        *bytes += len as u64;
        protocol.input(buffer.get(..len).unwrap_or_default(), frames)?;
        if len < buffer.len() {
            break;
        }
    }
    if let Protocol::Rtmp(client) = protocol {
        drain(client, wire, frames)?;
    }
    wire.flush()?;
    Ok(())
}

fn drain(client: &mut Client, wire: &mut Wire, frames: &mut VecDeque<Frame>) -> Result<(), ViewerError> {
    while let Some(output) = client.poll() {
        match output {
            ClientOutput::Send(bytes) => wire.send(bytes)?,
            ClientOutput::Event(ClientEvent::Media(Media::Frame(frame))) => frames.push_back(frame),
            ClientOutput::Event(_) => {}
        }
    }
    Ok(())
}

impl Protocol {
    fn input(&mut self, bytes: &[u8], frames: &mut VecDeque<Frame>) -> Result<(), ViewerError> {
        match self {
            Protocol::Rtmp(client) => Ok(client.input(bytes)?),
            Protocol::Flv { answer, reader, tags, clock_ms } => {
                let ended = answer.input(bytes, |body| reader.push(body));
                while let Some(tag) = reader.next()? {
                    read_tag(tags, tag, clock_ms, frames)?;
                }
                Ok(ended?)
            }
        }
    }
}

fn read_tag(tags: &mut TagReader, tag: Tag, clock_ms: &mut i64, frames: &mut VecDeque<Frame>) -> Result<(), TagError> {
    // Tags count 32 bits of milliseconds: the nearest time that looks like this is meant.
    *clock_ms += i64::from(tag.timestamp_ms.wrapping_sub(*clock_ms as u32) as i32);
    let dts = Timestamp::from_ms(*clock_ms);
    let mut media = VecDeque::new();
    match tag.kind {
        TagKind::Audio => tags.audio(dts, tag.body, &mut media)?,
        TagKind::Video => tags.video(dts, tag.body, &mut media)?,
        TagKind::Script => tags.script(&tag.body, &mut media)?,
    }
    frames.extend(media.into_iter().filter_map(|media| match media {
        Media::Frame(frame) => Some(frame),
        _ => None,
    }));
    Ok(())
}
