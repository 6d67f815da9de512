//! The answers of `/api/v1/`, in SRS's shapes, and what the page and Prometheus ask for.

mod clients;
mod clusters;
mod index;
mod log_level;
mod raw;
mod shards;
mod vhosts;

pub use clients::kind;
pub use raw::spelt;

use super::{
    Control,
    http::{Answer, json, not_allowed, redirect, with_type},
    snapshot::{Home, Share},
};
use crate::{
    ingress::candidates,
    query::{self, value},
};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use shardcast_engine::{
    codec::Kind,
    key::stable_hash,
    track::{Shape, Track},
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, SystemTime},
};

/// The SRS version whose interface this is.
const COMPATIBLE: (u64, u64, u64) = (8, 0, 50);
/// This interface, as OpenAPI 3.1.
const OPENAPI: &str = include_str!("api/openapi.json");
/// What SRS answers where an error is wanted.
const ALWAYS_AN_ERROR: u64 = 100;
/// SRS's error number for a stream that is not there.
const STREAM_NOT_FOUND: u64 = 2048;

/// What a client asks of the API.
pub struct Asked<'r> {
    pub method: &'r Method,
    pub path: &'r str,
    /// Without its `?`.
    pub query: &'r str,
    /// By which it reached the server.
    pub host: &'r str,
    /// On which it was made (`Referer`).
    pub page: &'r str,
    pub ip: IpAddr,
    /// Whom a proxy at `ip` speaks for.
    pub told: Option<IpAddr>,
    /// On the API's own port, where it has one: what is no path of the API gets the index.
    pub own_port: bool,
}

/// `None` where the path is not of the API. Below a document that lists others, what is not there is that document.
pub async fn route(control: &Control, asked: &Asked<'_>) -> Option<Answer> {
    let Asked { method, path, query, .. } = *asked;
    if asked.own_port && asked.host.starts_with("error.srs.com") {
        return Some(json(&json!({ "code": ALWAYS_AN_ERROR })));
    }
    if matches!(path, "/api" | "/api/v1" | "/api/v1/vhosts" | "/api/v1/streams" | "/api/v1/clients") {
        return Some(redirect(StatusCode::FOUND, &format!("{path}/"), query));
    }
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let Some(name) = path.strip_prefix("/api/v1/") else {
        return match path {
            "/metrics" if reads => Some(metrics(control).await),
            "/config.json" if reads => Some(json(&page_config(control, asked.host).await)),
            _ if path.starts_with("/api/") => Some(json(&index::api(control))),
            _ => asked.own_port.then(|| json(&index::root(control))),
        };
    };
    let (name, id) = match name.split_once('/') {
        Some((name @ ("vhosts" | "streams" | "clients"), id)) => (name, id),
        _ => (name, ""),
    };
    let (more, allow) = match name {
        "clients" => (method == Method::DELETE, "GET, HEAD, DELETE"),
        // Another origin posts it.
        "clusters" | "log-level" => (method == Method::POST, "GET, HEAD, POST"),
        "" | "raw" | "tests/requests" | "tests/errors" | "tests/redirects" => (true, ""),
        _ => (false, "GET, HEAD"),
    };
    if !reads && !more {
        return Some(not_allowed(allow));
    }
    Some(json(&match name {
        "versions" => versions(control),
        "summaries" => envelope(control, "data", control.summaries().await),
        "rusages" => envelope(control, "data", control.rusages()),
        "self_proc_stats" => envelope(control, "data", control.self_proc_stats()),
        "system_proc_stats" => envelope(control, "data", control.system_proc_stats()),
        "meminfos" => envelope(control, "data", control.meminfos()),
        "authors" => index::authors(control),
        "features" => index::features(control),
        "vhosts" => vhosts::vhosts(control, id, query).await,
        "streams" => streams(control, id, query).await,
        "clients" if method == Method::DELETE => clients::kick(control, id).await,
        "clients" => return Some(clients::clients(control, id, query).await),
        "raw" => raw::raw(control, &value(query, "rpc").unwrap_or_default()),
        "clusters" => clusters::clusters(control, query).await,
        "shards" => shards::shards(control).await,
        "events" => return Some(control.events()),
        "log-level" => log_level::log_level(control, !reads, query),
        "openapi.json" => return Some(with_type("application/json", OPENAPI)),
        "tests/requests" => index::requests(control, asked),
        "tests/errors" => json!({ "code": ALWAYS_AN_ERROR }),
        "tests/redirects" => {
            return Some(redirect(StatusCode::MOVED_PERMANENTLY, "/api/v1/tests/errors", query));
        }
        _ => index::v1(control),
    }))
}

pub fn version() -> String {
    let (major, minor, revision) = COMPATIBLE;
    format!("{major}.{minor}.{revision}")
}

fn versions(control: &Control) -> Value {
    let (major, minor, revision) = COMPATIBLE;
    envelope(control, "data", json!({ "major": major, "minor": minor, "revision": revision, "version": version() }))
}

/// Where things are, for the page.
async fn page_config(control: &Control, host: &str) -> Value {
    let config = control.config();
    let candidates = match config.rtc_server.enabled {
        true => candidates::discover(&config.rtc_server, candidates::Asked { wanted: &[], host }).await,
        false => Vec::new(),
    };
    let socket = |(host, port): (String, u16)| match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    let srt = config.srt_server.listen.first().filter(|_| config.srt_server.enabled);
    json!({
        "rtmp_port": config.rtmp_listen.first().map_or(1935, |listen| listen.port),
        "srt_port": srt.map(|listen| listen.port),
        "rtc": config.rtc_server.enabled,
        "candidates": candidates.into_iter().map(socket).collect::<Vec<_>>(),
        "version": env!("CARGO_PKG_VERSION"),
        "shards": control.shards(),
    })
}

/// `GET /api/v1/streams/` with `start` and `count`, or `/api/v1/streams/{id}`.
async fn streams(control: &Control, id: &str, query: &str) -> Value {
    let streams = gather(control).await;
    if !id.is_empty() {
        return match streams.get(id) {
            Some(stream) => envelope(control, "stream", stream.to_json(id)),
            None => json!({ "code": STREAM_NOT_FOUND }),
        };
    }
    let page: Vec<_> = Page::of(query).cut(streams.iter()).map(|(id, stream)| stream.to_json(id)).collect();
    let mut answer = envelope(control, "streams", page.into());
    answer["total"] = streams.len().into();
    answer
}

/// The part of a list that `start` and `count` ask for.
struct Page {
    start: usize,
    count: usize,
}

impl Page {
    fn of(query: &str) -> Self {
        let number =
            |name: &str, default: usize| query::raw(query, name).map_or(default, |value| value.parse().unwrap_or(0));
        Self { start: number("start", 0), count: number("count", 10).max(1) }
    }

    fn cut<I: Iterator>(self, list: I) -> impl Iterator<Item = I::Item> {
        list.skip(self.start).take(self.count)
    }
}

/// How many streams and clients there are.
pub async fn in_use(control: &Control) -> (usize, usize) {
    let streams = gather(control).await;
    (streams.len(), streams.values().map(Whole::clients).sum())
}

/// Prometheus text.
async fn metrics(control: &Control) -> Answer {
    for shard in control.snapshot().await.iter() {
        let label = shard.index.to_string();
        let home = shard.streams.iter().filter_map(|share| share.home.as_ref());
        let publishers = shard.streams.iter().filter(|share| share.is_published()).count();
        let ring_bytes: usize = home.clone().map(|home| home.ring_bytes).sum();
        let hls_bytes: usize = home.map(|home| home.hls_bytes).sum();
        let viewers: usize = shard.streams.iter().map(|share| share.viewers).sum();
        let gauge = |name: &'static str, value: f64| metrics::gauge!(name, "shard" => label.clone()).set(value);
        gauge("shardcast_shard_load", shard.load);
        gauge("shardcast_connections", shard.connections as f64);
        gauge("shardcast_publishers", publishers as f64);
        gauge("shardcast_viewers", viewers as f64);
        gauge("shardcast_streams", shard.streams.len() as f64);
        gauge("shardcast_window_seconds", shard.window.as_secs_f64());
        gauge("shardcast_read_span_seconds", shard.read_span.as_secs_f64());
        gauge("shardcast_lateness_seconds", shard.late.as_secs_f64());
        gauge("shardcast_full", f64::from(u8::from(shard.is_full)));
        gauge("shardcast_ring_bytes", ring_bytes as f64);
        gauge("shardcast_hls_bytes", hls_bytes as f64);
        for (name, count) in [
            ("shardcast_mesh_frames_total", shard.frames_crossed),
            ("shardcast_received_bytes_total", shard.received),
            ("shardcast_sent_bytes_total", shard.sent),
        ] {
            metrics::counter!(name, "shard" => label.clone()).absolute(count);
        }
    }
    metrics::gauge!("shardcast_hls_viewers").set(control.viewers.len() as f64);
    with_type("text/plain; version=0.0.4", control.export().await + &control.metrics.render())
}

/// A stream put together from its shards' shares.
#[derive(Default)]
struct Whole {
    name: String,
    app: String,
    vhost: String,
    url: String,
    home: Option<Home>,
    viewers: usize,
    sent: u64,
    sent_kbps: u64,
}

/// All streams by id: the one that their home gave them.
async fn gather(control: &Control) -> BTreeMap<String, Whole> {
    let mut by_key: BTreeMap<_, (String, Whole)> = BTreeMap::new();
    for share in control.snapshot().await.iter().flat_map(|shard| &shard.streams) {
        let (id, whole) = by_key.entry(share.key.clone()).or_default();
        if id.is_empty() || share.home.is_some() {
            *id = share.id.clone();
        }
        whole.add(share);
    }
    control.viewers.each_key(|key| {
        if let Some((_, whole)) = by_key.get_mut(key) {
            whole.viewers += 1;
        }
    });
    // A stream that nobody publishes or plays is only remembered for a moment.
    by_key.into_values().filter(|(_, whole)| whole.is_in_use()).collect()
}

impl Whole {
    fn is_in_use(&self) -> bool {
        self.viewers > 0 || self.is_published()
    }

    fn is_published(&self) -> bool {
        self.home.as_ref().is_some_and(|home| home.publication.is_some())
    }

    /// The publisher is one.
    fn clients(&self) -> usize {
        self.viewers + usize::from(self.is_published())
    }

    fn add(&mut self, share: &Share) {
        self.name = share.key.stream().into();
        self.app = share.key.app().into();
        self.vhost = share.key.vhost().into();
        self.url = share.key.to_string();
        self.viewers += share.viewers;
        self.sent += share.sent;
        self.sent_kbps += share.sent_kbps;
        self.home = share.home.clone().or(self.home.take());
    }

    fn to_json(&self, id: &str) -> Value {
        let home = self.home.as_ref();
        let publication = home.and_then(|home| home.publication.as_ref());
        let publish = match publication {
            Some(publication) => json!({ "active": true, "cid": publication.id }),
            None => json!({ "active": false }),
        };
        let track = |of: fn(&Home) -> Option<&Track>| home.and_then(of).map_or(Value::Null, track_json);
        let frames = home.map_or(0, |home| home.frames);
        let video_frames = home.map_or(0, |home| home.video_frames);
        json!({
            "id": id,
            "name": self.name,
            "vhost": vhost_id(&self.vhost),
            "app": self.app,
            "tcUrl": publication.map_or("", |publication| &publication.request.tc_url),
            "url": self.url,
            "live_ms": unix_ms(),
            "clients": self.clients(),
            "frames": frames,
            "audio_frames": frames - video_frames,
            "video_frames": video_frames,
            "send_bytes": self.sent,
            "recv_bytes": home.map_or(0, |home| home.received),
            "kbps": { "recv_30s": home.map_or(0, |home| home.kbps), "send_30s": self.sent_kbps },
            "publish": publish,
            "video": track(|home| home.publication.as_ref().and(home.prologue.video.as_ref())),
            "audio": track(|home| home.publication.as_ref().and(home.prologue.sound())),
            "tracks": home.filter(|_| self.is_published()).map(tracks).unwrap_or_default(),
        })
    }
}

/// Ours: all that the publisher has, with what its frames tell of those that are served.
fn tracks(home: &Home) -> Vec<Value> {
    let Home { prologue, pulses, .. } = home;
    let served = [prologue.video.as_ref(), prologue.sound()].into_iter().zip(pulses).filter_map(|(track, pulse)| {
        let track = track?;
        let mut json = numbered(track, None);
        json["fps"] = pulse.rate().into();
        json["kbps"] = pulse.kbps().into();
        if track.kind() == Kind::Video {
            json["gop_frames"] = pulse.gop().map(|(frames, _)| frames).into();
            json["gop_ms"] = pulse.gop().map(|(_, length)| length.as_ms()).into();
            json["b_frames"] = pulse.reorders().into();
        }
        Some(json)
    });
    let others = prologue.others.iter().map(|other| numbered(&other.track, Some(other.number)));
    served.chain(others).collect()
}

/// `other`: the publisher's number of one that is not served.
fn numbered(track: &Track, other: Option<u8>) -> Value {
    let mut json = track_json(track);
    json["type"] = if track.kind() == Kind::Video { "video" } else { "audio" }.into();
    json["served"] = other.is_none().into();
    json["number"] = other.into();
    json
}

fn track_json(track: &Track) -> Value {
    match &track.shape {
        Shape::Video(picture) => json!({
            "codec": track.codec.to_string(),
            "profile": picture.profile,
            "level": picture.level,
            "width": picture.width,
            "height": picture.height,
        }),
        Shape::Audio(sound) => json!({
            "codec": track.codec.to_string(),
            "sample_rate": sound.sample_rate,
            "channel": sound.channels,
            "profile": sound.profile,
        }),
    }
}

/// What every answer of the API starts with, and one member more.
fn envelope(control: &Control, name: &str, content: Value) -> Value {
    let mut answer = bare_envelope(control);
    answer[name] = content;
    answer
}

fn bare_envelope(control: &Control) -> Value {
    json!({
        "code": 0,
        "server": control.server_id,
        "service": control.service_id,
        "pid": std::process::id().to_string(),
    })
}

/// Names a vhost for good: the same in every process.
fn vhost_id(name: &str) -> String {
    format!("vid-{:07x}", stable_hash(name.bytes()) >> 36)
}

pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_millis() as u64
}
