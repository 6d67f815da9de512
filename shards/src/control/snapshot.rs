//! What a shard says of itself when the control shard asks.

use crate::{
    hls::Hls,
    stream::{Publication, Role, Stream},
};
use shardcast_engine::{key::StreamKey, prologue::Prologue};
use std::{sync::Arc, time::Duration};

pub struct Shard {
    pub index: usize,
    pub connections: usize,
    /// Frames sent to other shards.
    pub frames_crossed: u64,
    /// The shortest that its load allows.
    pub window: Duration,
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
}

impl Share {
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
