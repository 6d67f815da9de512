//! One published stream: dials, publishes, and dials again when the connection breaks.

use crate::{
    endpoint::{Endpoint, EndpointError},
    sys::Epoll,
    viewer::REDIRECTS,
    wire::{Wire, WireError},
};
use bytes::Bytes;
use shardcast_engine::{frame::Frame, prologue::Prologue, time::Timestamp};
use shardcast_protocols::rtmp::client::{Client, ClientError, ClientEvent, ClientOutput, UrlError};
use std::{
    fs::File,
    io::{self, Read},
    time::{Duration, Instant},
};

/// From the connection to the server's word that it takes the stream.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);
const BACK_OFF_MIN: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(4);
/// A stream that lived shorter than this was not really taken: some servers accept, then close.
const STABLE: Duration = Duration::from_secs(3);
const READ_BYTES: usize = 16 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum OutletError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("no random bytes: {0}")]
    Seed(io::Error),
    #[error("the server did not take the stream within {0:?}")]
    Silent(Duration),
}

pub struct Outlet {
    pub endpoint: Endpoint,
    state: State,
    /// How long to keep trying while the server is away.
    patience: Duration,
    away_since: Instant,
    back_off: Duration,
    /// When the server last said that it is ready.
    ready_at: Option<Instant>,
    was_live: bool,
    /// How often it was sent on since it was last taken.
    redirects: u32,
    quiet: bool,
    /// How often its connection broke.
    pub broken: u32,
    /// Why it failed, or broke last.
    pub error: Option<OutletError>,
    pub sent_frames: u64,
    pub sent_bytes: u64,
}

enum State {
    Waiting {
        until: Instant,
    },
    Opening {
        link: Link,
        since: Instant,
    },
    /// The server is ready; a stream begins with a keyframe.
    Ready(Link),
    /// Frames are sent with this time taken off: each connection starts at zero.
    Live {
        link: Link,
        start: Timestamp,
    },
    Failed,
}

struct Link {
    wire: Wire,
    client: Client,
}

/// A frame for many outlets: muxed once for all that began together and publish on a stream of one number.
pub struct Shared<'a> {
    prologue: &'a Prologue,
    frame: &'a Frame,
    muxed: Vec<(u32, Timestamp, Bytes)>,
}

impl<'a> Shared<'a> {
    pub fn new(prologue: &'a Prologue, frame: &'a Frame) -> Self {
        Self { prologue, frame, muxed: Vec::new() }
    }

    /// What `client`, which has nothing else to say now, sends of the frame where its time zero is `start`.
    fn message(&mut self, client: &mut Client, start: Timestamp) -> Bytes {
        let stream = client.stream();
        if let Some((.., bytes)) = self.muxed.iter().find(|(of, from, _)| (*of, *from) == (stream, start)) {
            return bytes.clone();
        }
        let frame = Frame { dts: self.frame.dts - start, pts: self.frame.pts - start, ..self.frame.clone() };
        client.frame(self.prologue, &frame);
        let bytes = match client.poll() {
            Some(ClientOutput::Send(bytes)) => bytes,
            _ => Bytes::new(),
        };
        self.muxed.push((stream, start, bytes.clone()));
        bytes
    }
}

impl Outlet {
    /// Dials at `begin`.
    pub fn new(endpoint: Endpoint, patience: Duration, begin: Instant) -> Self {
        Self {
            endpoint,
            state: State::Waiting { until: begin },
            patience,
            away_since: begin,
            back_off: BACK_OFF_MIN,
            ready_at: None,
            was_live: false,
            redirects: 0,
            quiet: false,
            broken: 0,
            error: None,
            sent_frames: 0,
            sent_bytes: 0,
        }
    }

    /// Whether it leaves unsaid what becomes of it.
    pub fn quiet(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }

    /// What time brings: dials, and gives up.
    pub fn step(&mut self, now: Instant) {
        let next = match &self.state {
            State::Waiting { until } if now >= *until => {
                open(&self.endpoint).map(|link| State::Opening { link, since: now })
            }
            State::Opening { since, .. } if now.saturating_duration_since(*since) > OPENING_TIMEOUT => {
                Err(OutletError::Silent(OPENING_TIMEOUT))
            }
            _ => return,
        };
        match next {
            Ok(state) => self.state = state,
            Err(error) => self.broke(now, error),
        }
        self.transfer(now, false);
    }

    /// Has `epoll` wait for what is to be done next, while connected.
    pub fn watch(&mut self, epoll: &Epoll, token: usize) -> io::Result<()> {
        self.link_mut().map_or(Ok(()), |link| link.wire.watch(epoll, token))
    }

    /// How soon `step` wants to be called, at the latest.
    pub fn wakes_at(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting { until } => Some(*until),
            _ => None,
        }
    }

    /// Reads if `readable`, acts on what the server said, and writes.
    pub fn transfer(&mut self, now: Instant, readable: bool) {
        let Some(link) = self.link_mut() else { return };
        match link.transfer(readable) {
            Ok(ready) => {
                if ready && let State::Opening { link, .. } = std::mem::replace(&mut self.state, State::Failed) {
                    if !self.quiet {
                        println!("publishing {}", self.endpoint.url);
                    }
                    self.state = State::Ready(link);
                    self.ready_at = Some(now);
                    self.redirects = 0;
                }
            }
            // "RTMP 302". When the connection breaks, whoever sent it on is asked again.
            Err(OutletError::Client(ClientError::Redirected { url })) if self.redirects < REDIRECTS => {
                self.redirects += 1;
                match url.parse().map_err(OutletError::from).and_then(|endpoint| open(&endpoint)) {
                    Ok(link) => self.state = State::Opening { link, since: now },
                    Err(error) => self.broke(now, error),
                }
            }
            Err(error) => self.broke(now, error),
        }
    }

    /// Queues a frame; `transfer` sends it.
    pub fn frame(&mut self, now: Instant, shared: &mut Shared<'_>) {
        let Shared { prologue, frame, .. } = *shared;
        if matches!(self.state, State::Ready(_)) && frame.keyframe {
            let State::Ready(mut link) = std::mem::replace(&mut self.state, State::Failed) else { return };
            link.client.metadata(prologue, Timestamp::ZERO);
            for track in [&prologue.video, &prologue.audio].into_iter().flatten() {
                link.client.track(track, Timestamp::ZERO);
            }
            self.state = State::Live { link, start: frame.dts };
        }
        let State::Live { link, start } = &mut self.state else { return };
        let queued = link.drain().and_then(|_| Ok(link.wire.send(shared.message(&mut link.client, *start))?));
        self.sent_frames += 1;
        self.sent_bytes += frame.payload.len() as u64;
        if let Err(error) = queued {
            self.broke(now, error);
        }
    }

    /// Says that the stream ends.
    pub fn stop(&mut self) {
        if let Some(link) = self.link_mut() {
            link.client.stop();
        }
        self.transfer(Instant::now(), false);
    }

    pub fn is_flushed(&self) -> bool {
        self.link().is_none_or(|link| link.wire.is_flushed())
    }

    pub fn wants_keyframe(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// Connected, and taken by the server.
    pub fn is_taken(&self) -> bool {
        matches!(self.state, State::Ready(_) | State::Live { .. })
    }

    /// Frames are on their way.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    /// For good.
    pub fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed)
    }

    fn broke(&mut self, now: Instant, error: OutletError) {
        let url = &self.endpoint.url;
        let lived = self.ready_at.take().map(|at| now.saturating_duration_since(at));
        if lived.is_some_and(|lived| lived >= STABLE) {
            self.was_live = true;
            self.away_since = now;
            self.back_off = BACK_OFF_MIN;
        }
        // A new stream that is refused stays refused. One that was live may have been cut off, and its
        // server may not have noticed yet.
        let refused =
            matches!(&error, OutletError::Client(_) | OutletError::Url(_) | OutletError::Endpoint(_)) && !self.was_live;
        let left = self.patience.saturating_sub(now.saturating_duration_since(self.away_since));
        let over = refused || left.is_zero();
        if !self.quiet && over {
            eprintln!("{url}: {error}");
        } else if !self.quiet && self.back_off == BACK_OFF_MIN {
            eprintln!("{url}: {error}; trying again for {left:.0?}");
        }
        self.broken += 1;
        self.error = Some(error);
        if over {
            self.state = State::Failed;
            return;
        }
        self.state = State::Waiting { until: now + self.back_off.min(left) };
        self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
    }

    fn link(&self) -> Option<&Link> {
        match &self.state {
            State::Opening { link, .. } | State::Ready(link) | State::Live { link, .. } => Some(link),
            _ => None,
        }
    }

    fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.state {
            State::Opening { link, .. } | State::Ready(link) | State::Live { link, .. } => Some(link),
            _ => None,
        }
    }
}

fn open(endpoint: &Endpoint) -> Result<Link, OutletError> {
    let client = Client::publish(&endpoint.url, seed().map_err(OutletError::Seed)?)?;
    Ok(Link { wire: Wire::dial(endpoint)?, client })
}

impl Link {
    /// Reads if `readable`, and writes. True if the server has just said that it is ready.
    fn transfer(&mut self, readable: bool) -> Result<bool, OutletError> {
        let read = if readable { self.read() } else { Ok(()) };
        let ready = self.drain()?;
        read?;
        self.wire.flush()?;
        Ok(ready)
    }

    fn read(&mut self) -> Result<(), OutletError> {
        let mut buffer = [0; READ_BYTES];
        let client = &mut self.client;
        while self.wire.receive(&mut buffer, |bytes| Ok::<_, OutletError>(client.input(bytes)?))?.is_some() {}
        Ok(())
    }

    /// Queues what the client has to say. True if the server has just said that it is ready.
    fn drain(&mut self) -> Result<bool, OutletError> {
        let mut ready = false;
        while let Some(output) = self.client.poll() {
            match output {
                ClientOutput::Send(bytes) => self.wire.send(bytes)?,
                ClientOutput::Event(ClientEvent::Ready) => ready = true,
                ClientOutput::Event(_) => {}
            }
        }
        Ok(ready)
    }
}

/// Random bytes for the handshake.
pub fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardcast_engine::{codec::Kind, frame::Media};
    use shardcast_protocols::{
        rtmp::{
            reply::Identity,
            server::{Server, ServerConfig},
        },
        session::{Elsewhere, Event, Output, Refusal, Session, Verdict},
    };
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        thread,
    };

    /// Serves one connection until it closes, and gives back what was published.
    fn serve(mut socket: TcpStream, verdict: &Verdict) -> Vec<Media> {
        let mut server = Server::new(Instant::now(), Identity::default(), [0; 32], ServerConfig::default());
        let (mut media, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(len @ 1..) = socket.read(&mut buffer) {
            let mut result = server.input(Instant::now(), &buffer[..len]);
            while let Some(output) = server.poll() {
                match output {
                    Output::Send(bytes) => socket.write_all(&bytes).unwrap(),
                    Output::Event(Event::Connect(_)) => result = server.verdict(Instant::now(), Verdict::Allowed),
                    Output::Event(Event::Publish(_)) => result = server.verdict(Instant::now(), verdict.clone()),
                    Output::Event(Event::Media(piece)) => media.push(piece),
                    Output::Event(_) => {}
                }
            }
            if result.is_err() {
                break;
            }
        }
        media
    }

    /// Lets the outlet work until `done`, or panics after ten seconds.
    fn drive(outlet: &mut Outlet, done: impl Fn(&Outlet) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let (mut epoll, mut ready) = (Epoll::new().unwrap(), Vec::new());
        while !done(outlet) {
            let now = Instant::now();
            assert!(now < deadline, "nothing came of it in time");
            outlet.step(now);
            outlet.watch(&epoll, 0).unwrap();
            epoll.wait(Duration::from_millis(5), &mut ready).unwrap();
            let readable = ready.iter().any(|ready| ready.readable);
            outlet.transfer(Instant::now(), readable);
        }
    }

    fn outlet(listener: &TcpListener, patience: Duration) -> Outlet {
        let url = format!("rtmp://{}/live/a", listener.local_addr().unwrap());
        Outlet::new(url.parse().unwrap(), patience, Instant::now())
    }

    #[test]
    fn begins_with_a_keyframe_at_zero() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut outlet = outlet(&listener, Duration::from_secs(10));
        let server = thread::spawn(move || serve(listener.accept().unwrap().0, &Verdict::Allowed));
        drive(&mut outlet, Outlet::wants_keyframe);
        let source = crate::source::SourceConfig {
            width: 160,
            height: 90,
            fps: 10,
            kbps: 100,
            gop: 5,
            sample_rate: 48_000,
            sound_kbps: 64,
            name: "a".into(),
        };
        let mut source = crate::source::Source::new(source).unwrap();
        let mut prologue = Prologue { metadata: Some(source.metadata()), ..Prologue::default() };
        for track in source.tracks() {
            prologue = prologue.with_track(track).unwrap();
        }
        let made: Vec<Frame> = (0..80).map(|_| source.next(std::time::SystemTime::now()).unwrap()).collect();
        // It joins in the middle of the first GOP.
        made[3..].iter().for_each(|frame| outlet.frame(Instant::now(), &mut Shared::new(&prologue, frame)));
        outlet.transfer(Instant::now(), false);
        outlet.stop();
        drive(&mut outlet, Outlet::is_flushed);
        drop(outlet);

        let got = server.join().unwrap();
        let frames: Vec<&Frame> =
            got.iter().filter_map(|m| if let Media::Frame(f) = m { Some(f) } else { None }).collect();
        let from = 3 + made[3..].iter().position(|frame| frame.keyframe).unwrap();
        assert_eq!(frames.len(), made.len() - from);
        assert_eq!((frames[0].kind, frames[0].keyframe, frames[0].dts), (Kind::Video, true, Timestamp::ZERO));
        assert!(std::iter::zip(&frames, &made[from..]).all(|(got, made)| got.payload == made.payload));
        let tracks: Vec<_> =
            got.iter().filter_map(|m| if let Media::Track(t) = m { Some(t.clone()) } else { None }).collect();
        assert_eq!(tracks, source.tracks());
    }

    #[test]
    fn a_refused_stream_fails_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut outlet = outlet(&listener, Duration::from_secs(3600));
        let refused = Verdict::Refused(Refusal::StreamBusy("/live/a".into()));
        let server = thread::spawn(move || serve(listener.accept().unwrap().0, &refused));
        drive(&mut outlet, Outlet::has_failed);
        drop(outlet);
        assert!(server.join().unwrap().is_empty());
    }

    #[test]
    fn goes_where_it_is_sent_but_not_for_ever() {
        let [first, second] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let tc_url = |listener: &TcpListener| format!("rtmp://{}/live", listener.local_addr().unwrap());
        let to = |listener| Elsewhere { tc_url: tc_url(listener), url: format!("{}/b", tc_url(listener)) };
        let [on, back] = [&second, &first].map(|to_it| Verdict::Refused(Refusal::Elsewhere(to(to_it))));
        let mut outlet = outlet(&first, Duration::from_secs(3600));
        let server = thread::spawn(move || {
            serve(first.accept().unwrap().0, &on);
            serve(second.accept().unwrap().0, &Verdict::Allowed);
            // Its connection is closed: it comes again, and is sent to and fro.
            for _ in 0..2 {
                serve(first.accept().unwrap().0, &on);
                serve(second.accept().unwrap().0, &back);
            }
        });
        drive(&mut outlet, Outlet::is_taken);
        outlet.state = State::Waiting { until: Instant::now() };
        drive(&mut outlet, Outlet::has_failed);
        assert!(
            matches!(outlet.error, Some(OutletError::Client(ClientError::Redirected { .. }))),
            "{:?}",
            outlet.error
        );
        server.join().unwrap();
    }

    #[test]
    fn gives_up_on_an_absent_server_when_its_patience_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut outlet = outlet(&listener, Duration::from_millis(400));
        drop(listener);
        let begin = Instant::now();
        drive(&mut outlet, Outlet::has_failed);
        assert!(begin.elapsed() >= Duration::from_millis(400));
    }
}
