//! The contract of every protocol's server side: bytes and time in, bytes and events out.
//!
//! A session is a state machine without socket, clock or task. Its driver does, after each `input`,
//! `verdict` or `expire`: `while let Some(output) = session.poll()`; an `Err` ends the session, but what
//! `poll` still returns (a refusal that the peer should read) is sent first.

use bytes::Bytes;
use shardcast_engine::frame::Media;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

pub trait Session {
    type Error: std::error::Error;

    /// Bytes from the peer. Parsing pauses at an event that wants a verdict; what follows it is kept
    /// inside and parsed when the verdict comes.
    fn input(&mut self, now: Instant, bytes: &[u8]) -> Result<(), Self::Error>;

    /// The next thing to do, or `None` until more input, a verdict or the deadline.
    fn poll(&mut self) -> Option<Output>;

    /// When `expire` wants to be called, unless input comes first.
    fn deadline(&self) -> Option<Instant>;

    /// The deadline has passed.
    fn expire(&mut self, now: Instant) -> Result<(), Self::Error>;

    /// The answer to a `Connect`, `Publish` or `Play` event.
    fn verdict(&mut self, now: Instant, verdict: Verdict) -> Result<(), Self::Error>;
}

#[derive(Debug)]
pub enum Output {
    Send(Bytes),
    Event(Event),
}

#[derive(Debug)]
pub enum Event {
    /// The peer names app and host. Wants a verdict.
    Connect(Arc<Request>),
    /// The peer wants to publish. Wants a verdict; media follow.
    Publish(Arc<Request>),
    /// The peer wants to play. Wants a verdict; then the driver feeds it from a tape.
    Play(Arc<Request>),
    /// From a publisher.
    Media(Media),
    /// What the log should say of the peer.
    Note(String),
    /// A player asks to hold (true) or to go on (false).
    Pause(bool),
    /// A player wants other tracks than before.
    Receive(Tracks),
    /// The publisher or player is done with its stream; the connection may go on to another.
    Stop,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Refused(Refusal),
}

/// Why the server says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no vhost {0}")]
    NoVhost(String),
    #[error("stream {0} is busy: it has a publisher")]
    StreamBusy(String),
    #[error("the server is full")]
    Full,
    #[error("the server has no place for another stream")]
    NoPlace,
    /// As `Full`, but it knows another one.
    #[error("the server is full, {0} is not")]
    Elsewhere(Elsewhere),
    /// By the operator's rules.
    #[error("denied: {0}")]
    Denied(String),
    /// By whom the operator has asked, at this event.
    #[error("rejected by {0}")]
    Rejected(&'static str),
    #[error("{0}")]
    Other(String),
}

/// Where a stream is found at another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    pub tc_url: String,
    /// The stream's name and the query with it.
    pub url: String,
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// What a client asks for, as it said it; the vhost is still the client's word, not resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `vhost=` of the query where given, else the host of the URL, without port.
    pub vhost: String,
    pub app: String,
    /// Empty in a `Connect`.
    pub stream: String,
    /// The query, with its `?`, or empty.
    pub param: String,
    pub tc_url: String,
    pub page_url: String,
    pub swf_url: String,
    pub client: Client,
    /// How much of it a player wants; all by itself.
    pub duration: Option<Duration>,
    pub tracks: Tracks,
}

/// Which tracks of a stream a player gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracks {
    pub audio: bool,
    pub video: bool,
}

impl Default for Tracks {
    fn default() -> Self {
        Self { audio: true, video: true }
    }
}

/// What kind of client it is, as far as known; SRS's API calls it the client's type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Client {
    #[default]
    Unknown,
    RtmpPlay,
    FlvPlay,
    HlsPlay,
    FlashPublish,
    FmlePublish,
    HaivisionPublish,
    SrtPlay,
    SrtPublish,
    RtcPlay,
    RtcPublish,
}
