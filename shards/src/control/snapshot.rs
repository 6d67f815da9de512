//! What a shard says of itself when the control shard asks.

use crate::{
    connection::{Connection, Part},
    drops::Drops,
    hls::Hls,
    stream::{Publication, Role, Stream},
};
use shardcast_engine::{key::StreamKey, prologue::Prologue, pulse::Pulse, time::Timestamp};
use std::{net::IpAddr, sync::Arc, time::Duration};

pub struct Shard {
    pub index: usize,
    pub connections: usize,
    /// Bytes of all connections since the start.
    pub received: u64,
    pub sent: u64,
    /// Frames sent to other shards.
    pub frames_crossed: u64,
    /// Share of a core that it had in the last second, 0 to 1.
    pub load: f64,
    /// The shortest window that it has time for.
    pub window: Duration,
    /// Between two reads of one publisher.
    pub read_span: Duration,
    /// How late its ticks come.
    pub late: Duration,
    /// It takes no more viewers.
    pub is_full: bool,
    pub streams: Vec<Share>,
}

/// One shard's share of a stream.
pub struct Share {
    pub key: StreamKey,
    pub id: String,
    /// Only from the stream's home.
    pub home: Option<Home>,
    pub viewers: usize,
    pub sent: u64,
    /// Kilobits per second sent over the last 30 s.
    pub sent_kbps: u64,
}

#[derive(Clone)]
pub struct Home {
    pub publication: Option<Publication>,
    pub prologue: Arc<Prologue>,
    pub frames: u64,
    pub video_frames: u64,
    pub received: u64,
    pub ring_bytes: usize,
    /// Of HLS segments.
    pub hls_bytes: usize,
    /// Kilobits per second received over the last 30 s.
    pub kbps: u64,
    /// Of picture and sound.
    pub pulses: [Pulse; 2],
}

/// A connection that publishes or plays.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    pub ip: IpAddr,
    pub part: Arc<Part>,
    pub alive: Duration,
    pub received: u64,
    pub sent: u64,
    /// Kilobits per second, received and sent, over the last 30 s.
    pub kbps: [u64; 2],
    /// How far behind its stream a viewer is, where that is known.
    pub lag: Option<Timestamp>,
    pub skips: u64,
    pub drops: Drops,
}

impl Client {
    pub fn of(connection: &Connection, part: Arc<Part>, lag: Option<Timestamp>) -> Self {
        Self {
            id: connection.id.clone(),
            ip: connection.peer.get().ip(),
            part,
            alive: connection.age(),
            received: connection.received.get(),
            sent: connection.sent.get(),
            kbps: connection.meters.borrow().each_ref().map(|meter| meter.kbps()),
            lag,
            skips: connection.skips.get(),
            drops: Drops { late: connection.socket.late(), ..connection.drops.get() },
        }
    }
}

impl Share {
    pub fn is_published(&self) -> bool {
        self.home.as_ref().is_some_and(|home| home.publication.is_some())
    }

    /// The publisher is one.
    pub fn clients(&self) -> usize {
        self.viewers + usize::from(self.is_published())
    }

    pub fn of(stream: &Stream) -> Self {
        let home = match &stream.role {
            Role::Home(home) => Some(Home {
                publication: home.publication.clone(),
                prologue: stream.prologue().clone(),
                frames: stream.frames,
                video_frames: stream.video_frames,
                received: stream.received,
                ring_bytes: stream.ring.bytes(),
                hls_bytes: stream.hls().map_or(0, Hls::bytes),
                kbps: stream.meter_in.kbps(),
                pulses: home.pulses.clone(),
            }),
            Role::Mirror { .. } => None,
        };
        Self {
            key: stream.key.clone(),
            id: stream.id.clone(),
            home,
            viewers: stream.viewers().count(),
            sent: stream.sent(),
            sent_kbps: stream.meter_out.kbps(),
        }
    }
}
