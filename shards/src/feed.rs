//! What happens to clients, as it happens, for who follows it through the API. SRS has nothing like it.

use crate::{
    connection::{Connection, Part},
    control::api::{kind, unix_ms},
};
use serde::Serialize;
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

/// Notices on their way to the control shard.
const QUEUE: usize = 8 << 10;

/// One event. Members that it has not are left out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Notice {
    /// Milliseconds since 1970.
    time_ms: u64,
    pub event: &'static str,
    /// Of the client, as in its log lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl Notice {
    /// Of the server itself.
    pub fn new(event: &'static str, why: Option<String>) -> Self {
        Self { time_ms: unix_ms(), event, why, ..Self::default() }
    }

    /// Of a client, and of what it publishes or plays where that is known.
    pub fn of(event: &'static str, connection: &Connection, part: Option<&Part>) -> Self {
        Self::about(event, &connection.id, connection.peer.get().ip(), part)
    }

    fn about(event: &'static str, id: &str, ip: IpAddr, part: Option<&Part>) -> Self {
        Self {
            id: Some(id.to_owned()),
            r#type: part.map(|part| kind(part.request.client)),
            ip: Some(ip.to_canonical().to_string()),
            url: part.map(|part| part.key.to_string()),
            ..Self::new(event, None)
        }
    }

    /// It skipped so many frames.
    pub fn behind(self, lag_ms: i64, frames: u64) -> Self {
        Self { lag_ms: Some(lag_ms), frames: Some(frames), ..self }
    }

    pub fn because(self, why: Option<String>) -> Self {
        Self { why, ..self }
    }
}

/// Tells of events, from any thread, without waiting; for nothing while nobody follows.
#[derive(Clone)]
pub struct Feed(Arc<Shared>);

struct Shared {
    queue: SyncSender<Notice>,
    followers: AtomicUsize,
    clients: AtomicU64,
    failed: AtomicU64,
}

impl Feed {
    /// With what the control shard is to take from it.
    pub fn new() -> (Self, Receiver<Notice>) {
        let (queue, inbox) = sync_channel(QUEUE);
        let counts = || AtomicU64::new(0);
        (Self(Arc::new(Shared { queue, followers: 0.into(), clients: counts(), failed: counts() })), inbox)
    }

    pub fn tell(&self, notice: impl FnOnce() -> Notice) {
        if self.0.followers.load(Relaxed) > 0 && self.0.queue.try_send(notice()).is_err() {
            metrics::counter!("shardcast_events_lost_total").increment(1);
        }
    }

    /// A client publishes or plays.
    pub fn begin(&self, id: &str, ip: IpAddr, part: &Part) {
        self.0.clients.fetch_add(1, Relaxed);
        self.tell(|| Notice::about(if part.publishes { "publish" } else { "play" }, id, ip, Some(part)));
    }

    /// It does so no more. As SRS counts, a connection that goes by itself has failed, since reading from it has.
    pub fn end(&self, id: &str, ip: IpAddr, part: &Part, failed: bool) {
        self.0.failed.fetch_add(u64::from(failed), Relaxed);
        self.tell(|| Notice::about(if part.publishes { "unpublish" } else { "stop" }, id, ip, Some(part)));
    }

    pub fn set_followers(&self, count: usize) {
        self.0.followers.store(count, Relaxed);
    }

    /// Clients since the start, and those of them that failed.
    pub fn counts(&self) -> (u64, u64) {
        (self.0.clients.load(Relaxed), self.0.failed.load(Relaxed))
    }
}
