//! One viewer of a stream: reads it as a strict player would until its first frame, and then, unless it is one of
//! those that check all, throws away what comes unread. Remembers what it got.

use crate::{
    endpoint::{Endpoint, EndpointError, Scheme},
    histogram::Histogram,
    http::{self, Answer, HttpError},
    mark::Mark,
    outlet::seed,
    sys::Epoll,
    wire::{Wire, WireError},
};
use bytes::Bytes;
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
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// From the dial to the first frame, and from one read to the next.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Times that it goes where a server sends it.
pub const REDIRECTS: u32 = 3;
const TAG_BYTES_MAX: usize = 16 << 20;
const READ_BYTES: usize = 64 * 1024;
/// Reads of one viewer before the others have their turn.
const READS_AT_ONCE: usize = 16;
/// An RTMP viewer that throws away what comes still acknowledges it this often, as players do.
const ACK_BYTES: u64 = 1_250_000;

#[derive(Debug, thiserror::Error)]
pub enum ViewerError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
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
    #[error("picture {to} comes after picture {from}")]
    Repeated { from: u64, to: u64 },
    #[error("the first picture, at {0}, is no keyframe")]
    NoKeyframe(Timestamp),
    #[error("nothing came for {0:?}")]
    Silent(Duration),
    #[error("no frame came")]
    NoFrame,
}

pub struct Viewer {
    state: State,
    manner: Manner,
    /// When it dialled.
    pub started: Instant,
    heard: Instant,
    /// How often it was sent elsewhere.
    redirects: u32,
    pub tally: Tally,
}

/// What a viewer does after its first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Reads and checks all that comes.
    Checks,
    /// Throws it away unread.
    Discards,
    /// Takes nothing more, and stays.
    Stalls,
}

#[derive(Debug, Default)]
pub struct Tally {
    /// From the dial.
    pub first_frame: Option<Duration>,
    pub bytes: u64,
    pub frames: u64,
    /// Pictures that did not come, of a stream with marks.
    pub lost: u64,
    /// Times from one read to the next that were measured, and those longer than the meter's bound.
    pub gaps: u32,
    pub long_gaps: u32,
    last_dts: [Option<Timestamp>; 2],
    last_mark: Option<Mark>,
    pub error: Option<ViewerError>,
}

/// What all viewers measure together.
#[derive(Debug, Default)]
pub struct Meter {
    /// Off while viewers come.
    pub on: bool,
    /// From one read to the next.
    pub gaps: Histogram,
    /// A gap that is longer counts as long.
    pub gap_bound: Duration,
    /// From a picture's mark to its reading.
    pub delays: Histogram,
    pub buffer: Vec<u8>,
}

enum State {
    Reading { wire: Wire, protocol: Box<Protocol> },
    Discarding { wire: Wire, acks: Option<Acks> },
    Stalled { wire: Wire },
    Failed,
}

/// What an RTMP player owes the server (RTMP 1.0 §5.4.3).
#[derive(Clone, Copy, Debug)]
struct Acks {
    due_at: u64,
}

#[allow(clippy::large_enum_variant)] // boxed as a whole in State
enum Protocol {
    Rtmp(Client),
    Flv { answer: Answer, reader: FlvReader, tags: TagReader, clock_ms: i64 },
    Tcp,
}

impl ViewerError {
    /// The server is full, and says so.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Http(HttpError::Status(status)) => status.starts_with("503"),
            Self::Client(ClientError::Refused { code, description }) => {
                code == "NetStream.Play.Failed" && description.contains("full")
            }
            _ => false,
        }
    }
}

impl Viewer {
    /// Dials `endpoint`.
    pub fn start(endpoint: &Endpoint, manner: Manner, now: Instant) -> Self {
        let opened = open(endpoint);
        let mut viewer =
            Self { state: State::Failed, manner, started: now, heard: now, redirects: 0, tally: Tally::default() };
        match opened {
            Ok((wire, protocol)) => viewer.state = State::Reading { wire, protocol: Box::new(protocol) },
            Err(error) => viewer.tally.error = Some(error),
        }
        viewer.transfer(false, &mut Meter::default());
        viewer
    }

    /// What time brings.
    pub fn step(&mut self, now: Instant) {
        let late = |since| now.saturating_duration_since(since) > SILENCE_MAX;
        self.settle(match &self.state {
            State::Failed | State::Stalled { .. } => Ok(()),
            _ if late(self.heard) => Err(ViewerError::Silent(SILENCE_MAX)),
            _ if self.tally.first_frame.is_none() && late(self.started) => Err(ViewerError::NoFrame),
            _ => Ok(()),
        });
    }

    pub fn is_connecting(&self) -> bool {
        !self.has_failed() && self.tally.bytes == 0
    }

    /// Sees the stream, or never will.
    pub fn is_settled(&self) -> bool {
        self.has_failed() || self.tally.first_frame.is_some()
    }

    pub fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed)
    }

    /// Has `epoll` wait for what is to be done next.
    pub fn watch(&mut self, epoll: &Epoll, token: usize) -> io::Result<()> {
        match &mut self.state {
            State::Reading { wire, .. } | State::Discarding { wire, .. } => wire.watch(epoll, token),
            State::Stalled { wire } => wire.forget(epoll),
            State::Failed => Ok(()),
        }
    }

    /// Reads if `readable`, and writes.
    pub fn transfer(&mut self, readable: bool, meter: &mut Meter) {
        let before = self.tally.bytes;
        let result = match &mut self.state {
            State::Reading { wire, protocol } => read(wire, protocol, readable, meter, &mut self.tally, self.started),
            State::Discarding { wire, acks } => discard(wire, acks, readable, &mut self.tally.bytes),
            State::Stalled { .. } | State::Failed => return,
        };
        if let Err(ViewerError::Client(ClientError::Redirected { url })) = &result
            && self.redirects < REDIRECTS
        {
            let followed = self.follow(url);
            self.settle(followed);
            return self.transfer(false, meter);
        }
        if self.tally.bytes > before {
            let now = Instant::now();
            if meter.on {
                let gap = now.saturating_duration_since(self.heard);
                meter.gaps.record(gap);
                self.tally.gaps += 1;
                self.tally.long_gaps += u32::from(gap > meter.gap_bound);
            }
            self.heard = now;
        }
        self.settle(result);
        if self.manner != Manner::Checks && self.tally.first_frame.is_some() {
            self.state = match std::mem::replace(&mut self.state, State::Failed) {
                State::Reading { wire, .. } if self.manner == Manner::Stalls => State::Stalled { wire },
                State::Reading { wire, protocol } => {
                    let rtmp = matches!(*protocol, Protocol::Rtmp(_));
                    State::Discarding { wire, acks: rtmp.then_some(Acks { due_at: 0 }) }
                }
                other => other,
            };
        }
    }

    pub fn manner(&self) -> Manner {
        self.manner
    }

    /// The end of the measurement: who has seen nothing by now has failed.
    pub fn finish(&mut self) {
        if self.tally.first_frame.is_none() && self.tally.error.is_none() {
            self.tally.error = Some(ViewerError::NoFrame);
        }
    }

    fn follow(&mut self, url: &str) -> Result<(), ViewerError> {
        self.redirects += 1;
        let (wire, protocol) = open(&url.parse()?)?;
        self.state = State::Reading { wire, protocol: Box::new(protocol) };
        Ok(())
    }

    fn settle(&mut self, result: Result<(), ViewerError>) {
        if let Err(error) = result {
            self.tally.error = Some(error);
            self.state = State::Failed;
        }
    }
}

fn open(endpoint: &Endpoint) -> Result<(Wire, Protocol), ViewerError> {
    let mut wire = Wire::dial(endpoint)?;
    let protocol = match endpoint.scheme {
        Scheme::Rtmp => {
            // To RTMP itself it is all the same.
            let url = endpoint.url.replacen("rtmps://", "rtmp://", 1);
            Protocol::Rtmp(Client::play(&url, seed().map_err(ViewerError::Seed)?)?)
        }
        Scheme::Http | Scheme::WebSocket => {
            let (request, answer) = http::request(endpoint);
            wire.send(request.into())?;
            Protocol::Flv { answer, reader: FlvReader::new(TAG_BYTES_MAX), tags: TagReader::default(), clock_ms: 0 }
        }
        Scheme::Tcp => Protocol::Tcp,
    };
    Ok((wire, protocol))
}

impl Tally {
    fn frame(&mut self, frame: &Frame, started: Instant, meter: &mut Meter) -> Result<(), ViewerError> {
        let (kind, to) = (frame.kind, frame.dts);
        let last = &mut self.last_dts[usize::from(kind == Kind::Audio)];
        match *last {
            Some(from) if to < from => return Err(ViewerError::Backwards { kind, from, to }),
            None if kind == Kind::Video && !frame.keyframe => return Err(ViewerError::NoKeyframe(to)),
            _ => *last = Some(to),
        }
        self.first_frame.get_or_insert_with(|| started.elapsed());
        self.frames += 1;
        match Mark::find(&frame.payload).filter(|_| kind == Kind::Video) {
            Some(mark) => self.mark(mark, meter),
            None => Ok(()),
        }
    }

    fn mark(&mut self, mark: Mark, meter: &mut Meter) -> Result<(), ViewerError> {
        match self.last_mark.replace(mark) {
            // A publisher that begins anew counts anew.
            Some(last) if mark.number <= last.number && mark.micros <= last.micros => {
                return Err(ViewerError::Repeated { from: last.number, to: mark.number });
            }
            Some(last) => self.lost += mark.number.saturating_sub(last.number + 1),
            None => {}
        }
        if meter.on {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            meter.delays.record(now.saturating_sub(Duration::from_micros(mark.micros)));
        }
        Ok(())
    }
}

/// Reads if `readable`, takes it apart into frames, and writes what the protocol answers.
fn read(
    wire: &mut Wire,
    protocol: &mut Protocol,
    readable: bool,
    meter: &mut Meter,
    tally: &mut Tally,
    started: Instant,
) -> Result<(), ViewerError> {
    let mut frames = VecDeque::new();
    let mut buffer = std::mem::take(&mut meter.buffer);
    buffer.resize(READ_BYTES, 0);
    let result = exchange(wire, protocol, readable, &mut buffer, &mut tally.bytes, &mut frames);
    meter.buffer = buffer;
    // What came before an error counts.
    frames.iter().try_for_each(|frame| tally.frame(frame, started, meter))?;
    if matches!(protocol, Protocol::Tcp) && tally.bytes > 0 {
        tally.first_frame.get_or_insert_with(|| started.elapsed());
    }
    result
}

fn discard(wire: &mut Wire, acks: &mut Option<Acks>, readable: bool, bytes: &mut u64) -> Result<(), ViewerError> {
    if readable {
        *bytes += wire.discard()?.unwrap_or_default() as u64;
    }
    if let Some(acks) = acks
        && *bytes >= acks.due_at
    {
        acks.due_at = *bytes + ACK_BYTES;
        wire.send(acknowledgement(*bytes as u32))?;
    }
    wire.flush()?;
    Ok(())
}

/// A message of type 3 on chunk stream 2 (RTMP 1.0 §5.3.1, §5.4.3).
fn acknowledgement(sequence: u32) -> Bytes {
    let [a, b, c, d] = sequence.to_be_bytes();
    Bytes::copy_from_slice(&[2, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, a, b, c, d])
}

fn exchange(
    wire: &mut Wire,
    protocol: &mut Protocol,
    readable: bool,
    buffer: &mut [u8],
    bytes: &mut u64,
    frames: &mut VecDeque<Frame>,
) -> Result<(), ViewerError> {
    for _ in 0..if readable { READS_AT_ONCE } else { 0 } {
        let Some(len) = wire.receive(buffer, |said| protocol.input(said, frames))? else { break };
        *bytes += len as u64;
        if len < buffer.len() {
            break;
        }
    }
    match protocol {
        Protocol::Rtmp(client) => drain(client, wire, frames)?,
        Protocol::Flv { answer, .. } => wire.send(answer.reply())?,
        Protocol::Tcp => {}
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
            Protocol::Tcp => Ok(()),
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
    let mut media = VecDeque::new();
    take_tag(tags, Timestamp::from_ms(*clock_ms), tag, &mut media)?;
    frames.extend(media.into_iter().filter_map(|media| match media {
        Media::Frame(frame) => Some(frame),
        _ => None,
    }));
    Ok(())
}

/// What a tag of the time `dts` brings.
pub fn take_tag(tags: &mut TagReader, dts: Timestamp, tag: Tag, media: &mut VecDeque<Media>) -> Result<(), TagError> {
    match tag.kind {
        TagKind::Audio => tags.audio(dts, tag.body, media),
        TagKind::Video => tags.video(dts, tag.body, media),
        TagKind::Script => tags.script(&tag.body, media),
    }
}
