//! SRS's HTTP callbacks (`vhost.http_hooks`): what is told of whom, and the way to the control shard, which calls.

use crate::{
    config::{Config, Vhost},
    stream::Publication,
};
use shardcast_engine::key::StreamKey;
use shardcast_protocols::session::{Client as Kind, Request};
use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};
use tracing::warn;

/// Events on their way to the control shard.
const QUEUE: usize = 16 << 10;

#[derive(Clone, Debug)]
pub enum Event {
    Connect,
    Close {
        sent: u64,
        received: u64,
    },
    Publish,
    Unpublish,
    Play,
    Stop,
    /// A recording is whole.
    Dvr {
        file: PathBuf,
    },
    /// A segment is there.
    Hls(Box<Segment>),
}

#[derive(Clone, Debug)]
pub struct Segment {
    pub seq: u64,
    pub duration_s: f64,
    /// Empty where none is written.
    pub file: PathBuf,
    /// Of segment and playlist: relative to the server, or absolute with an entry prefix that is.
    pub url: String,
    pub m3u8: PathBuf,
    pub m3u8_url: String,
}

impl Event {
    /// The directive with the URLs that are called, and the member `action` of what they get.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Connect => "on_connect",
            Self::Close { .. } => "on_close",
            Self::Publish => "on_publish",
            Self::Unpublish => "on_unpublish",
            Self::Play => "on_play",
            Self::Stop => "on_stop",
            Self::Dvr { .. } => "on_dvr",
            Self::Hls(_) => "on_hls",
        }
    }

    /// Somebody waits for the answer.
    pub fn is_asked(&self) -> bool {
        matches!(self, Self::Connect | Self::Publish | Self::Play)
    }

    /// Of segments: apart from what the client itself does, which must not wait for it.
    pub fn is_of_segments(&self) -> bool {
        matches!(self, Self::Hls(_))
    }
}

/// Whom an event is about.
#[derive(Clone, Debug)]
pub struct Client {
    /// As in logs and the API.
    pub id: String,
    pub ip: IpAddr,
    pub key: StreamKey,
    pub request: Arc<Request>,
}

impl Client {
    pub fn new(id: &str, ip: IpAddr, key: StreamKey, request: Arc<Request>) -> Self {
        Self { id: id.to_owned(), ip: ip.to_canonical(), key, request }
    }

    /// As [`name`] has it.
    pub fn stream(&self) -> &str {
        name(&self.key, &self.request)
    }

    /// With its `?`, but of SRT without, as SRS has it.
    pub fn param(&self) -> &str {
        match self.request.client {
            Kind::SrtPlay | Kind::SrtPublish => self.request.param.trim_start_matches('?'),
            _ => &self.request.param,
        }
    }

    pub fn of(publication: &Publication) -> Self {
        let Publication { id, ip, key, request, .. } = publication;
        Self::new(id, *ip, key.clone(), request.clone())
    }
}

/// The stream's name to receivers and the API: by HLS that of its playlist, as SRS has it.
pub fn name<'a>(key: &'a StreamKey, request: &'a Request) -> &'a str {
    if request.client == Kind::HlsPlay { &request.stream } else { key.stream() }
}

pub struct Call {
    pub event: Event,
    pub client: Arc<Client>,
}

/// Tells of events, from any thread, without waiting.
#[derive(Clone)]
pub struct Herald(Arc<Inner>);

struct Inner {
    config: RwLock<Arc<Config>>,
    calls: SyncSender<Call>,
}

impl Herald {
    /// With what the control shard is to take from it.
    pub fn new(config: Arc<Config>) -> (Self, Receiver<Call>) {
        let (calls, inbox) = sync_channel(QUEUE);
        (Self(Arc::new(Inner { config: RwLock::new(config), calls })), inbox)
    }

    /// Another configuration is in force.
    pub fn configure(&self, config: Arc<Config>) {
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Somebody wants to know.
    pub fn is_wanted(&self, event: &Event, client: &Client) -> bool {
        let config = self.0.config.read().unwrap_or_else(PoisonError::into_inner);
        config.vhost(client.key.vhost()).is_some_and(|vhost| wants(vhost, event))
    }

    pub fn tell(&self, event: Event, client: &Arc<Client>) {
        if !self.is_wanted(&event, client) {
            return;
        }
        let action = event.action();
        if self.0.calls.try_send(Call { event, client: client.clone() }).is_err() {
            metrics::counter!("shardcast_hooks_failed_total", "event" => action).increment(1);
            warn!(cid = %client.id, "{action} is not told: too many calls wait");
        }
    }

    /// What is told when it is dropped.
    pub fn farewell(&self, event: Event, client: &Arc<Client>) -> Farewell {
        Farewell { herald: self.clone(), event: Some(event), client: client.clone() }
    }
}

fn wants(vhost: &Vhost, event: &Event) -> bool {
    let is_wanted = |action| !vhost.hooks.urls(action).is_empty();
    is_wanted(event.action()) || matches!(event, Event::Hls(_)) && is_wanted("on_hls_notify")
}

/// However a client ends what was told of, its end is told too.
pub struct Farewell {
    herald: Herald,
    event: Option<Event>,
    client: Arc<Client>,
}

impl Farewell {
    /// Nothing is told.
    pub fn forget(mut self) {
        self.event = None;
    }

    pub fn with(mut self, event: Event) -> Self {
        self.event = Some(event);
        self
    }

    pub fn key(&self) -> &StreamKey {
        &self.client.key
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            self.herald.tell(event, &self.client);
        }
    }
}
