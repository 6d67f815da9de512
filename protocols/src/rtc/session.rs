//! What the sessions of both directions have in common, for whoever moves their datagrams.

use super::{Player, Publisher};
use shardcast_engine::frame::Media;
use std::{net::SocketAddr, time::Instant};
use str0m::RtcError;

#[derive(Debug, thiserror::Error)]
#[error("WebRTC: {0}")]
pub struct SessionError(#[from] RtcError);

#[derive(Debug)]
pub enum Output {
    /// One datagram.
    Send { to: SocketAddr, bytes: Vec<u8> },
    /// Of publishers.
    Media(Media),
    /// A player cannot show pictures until a keyframe comes.
    KeyframeWanted,
    /// Keys are agreed on.
    Connected,
    /// The peer said goodbye.
    Closed,
}

#[derive(Debug)]
pub enum Session {
    Publisher(Box<Publisher>),
    Player(Box<Player>),
}

impl Session {
    /// As [`Publisher::ufrag`].
    pub fn ufrag(&mut self) -> String {
        match self {
            Self::Publisher(publisher) => publisher.ufrag(),
            Self::Player(player) => player.ufrag(),
        }
    }

    /// As [`Publisher::accepts`].
    pub fn accepts(&self, now: Instant, source: SocketAddr, datagram: &[u8]) -> bool {
        match self {
            Self::Publisher(publisher) => publisher.accepts(now, source, datagram),
            Self::Player(player) => player.accepts(now, source, datagram),
        }
    }

    /// As [`Publisher::input`].
    pub fn input(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> Result<(), SessionError> {
        match self {
            Self::Publisher(publisher) => publisher.input(now, source, datagram),
            Self::Player(player) => player.input(now, source, datagram),
        }
    }

    /// As [`Publisher::expire`].
    pub fn expire(&mut self, now: Instant) -> Result<(), SessionError> {
        match self {
            Self::Publisher(publisher) => publisher.expire(now),
            Self::Player(player) => player.expire(now),
        }
    }

    /// As [`Publisher::close`].
    pub fn close(&mut self, now: Instant) {
        match self {
            Self::Publisher(publisher) => publisher.close(now),
            Self::Player(player) => player.close(now),
        }
    }

    pub fn poll(&mut self) -> Option<Output> {
        match self {
            Self::Publisher(publisher) => publisher.poll(),
            Self::Player(player) => player.poll(),
        }
    }

    /// As [`Publisher::deadline`].
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Publisher(publisher) => publisher.deadline(),
            Self::Player(player) => player.deadline(),
        }
    }
}
