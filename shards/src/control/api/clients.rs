//! `/api/v1/clients/`: who publishes and plays, and their end.

use super::{Page, bare_envelope, gather, vhost_id};
use crate::{
    control::{
        Control,
        http::{Answer, json},
        snapshot,
    },
    hooks,
};
use serde::Serialize;
use serde_json::{Value, json};
use shardcast_protocols::session;
use std::collections::{BTreeMap, HashMap};

/// SRS's error number for a client that is not there.
const CLIENT_NOT_FOUND: u64 = 2049;

/// SRS's members, then ours. Written as it is, without a [`Value`]: there may be ten thousand.
#[derive(Serialize)]
struct Client<'a> {
    id: &'a str,
    vhost: String,
    stream: &'a str,
    ip: String,
    #[serde(rename = "pageUrl")]
    page_url: &'a str,
    #[serde(rename = "swfUrl")]
    swf_url: &'a str,
    #[serde(rename = "tcUrl")]
    tc_url: &'a str,
    url: String,
    name: &'a str,
    r#type: &'static str,
    publish: bool,
    /// Seconds.
    alive: f64,
    send_bytes: u64,
    recv_bytes: u64,
    kbps: Kbps,
    /// `None` of a viewer by HLS.
    shard: Option<usize>,
    /// How far behind the stream a viewer is, where that is known.
    lag_ms: Option<i64>,
    /// How often it was so far behind that it skipped frames.
    skips: u64,
}

#[derive(Serialize)]
struct Kbps {
    recv_30s: u64,
    send_30s: u64,
}

#[derive(Serialize)]
struct List<'a> {
    #[serde(flatten)]
    envelope: Value,
    clients: Vec<Client<'a>>,
}

#[derive(Serialize)]
struct One<'a> {
    #[serde(flatten)]
    envelope: Value,
    client: Client<'a>,
}

/// With `start` and `count`, or the one of this id.
pub async fn clients(control: &Control, id: &str, query: &str) -> Answer {
    let (streams, shards, by_hls) = (gather(control).await, control.clients().await, control.viewers.clients());
    let ids: HashMap<_, _> = streams.iter().map(|(id, stream)| (&*stream.url, &**id)).collect();
    let of_shards = shards.iter().enumerate();
    let of_shards = of_shards.flat_map(|(shard, clients)| clients.iter().map(move |client| (Some(shard), client)));
    // One by HLS that chose the id of another does not hide that.
    let all = by_hls.iter().map(|client| (None, client)).chain(of_shards);
    let clients: BTreeMap<&str, _> = all.map(|(shard, client)| (&*client.id, (shard, client))).collect();
    let object = |(shard, client)| Client::of(shard, client, &ids);
    let envelope = bare_envelope(control);
    if id.is_empty() {
        let clients = Page::of(query).cut(clients.values().copied()).map(object).collect();
        return json(&List { envelope, clients });
    }
    match clients.get(id).copied() {
        Some(client) => json(&One { envelope, client: object(client) }),
        None => json(&json!({ "code": CLIENT_NOT_FOUND })),
    }
}

/// Ends the connection of client `id`.
pub async fn kick(control: &Control, id: &str) -> Value {
    let shards = control.clients().await;
    match shards.iter().position(|clients| clients.iter().any(|client| client.id == id)) {
        Some(shard) => {
            control.kick(shard, id.to_owned());
            bare_envelope(control)
        }
        None if control.viewers.kick(id, &control.feed) => bare_envelope(control),
        None => json!({ "code": CLIENT_NOT_FOUND }),
    }
}

impl<'a> Client<'a> {
    /// `ids` are those of the streams, by URL.
    fn of(shard: Option<usize>, client: &'a snapshot::Client, ids: &HashMap<&'a str, &'a str>) -> Self {
        let (key, request) = (&client.part.key, &client.part.request);
        let url = key.to_string();
        Self {
            id: &client.id,
            vhost: vhost_id(key.vhost()),
            stream: ids.get(&*url).copied().unwrap_or_default(),
            ip: client.ip.to_string(),
            page_url: &request.page_url,
            swf_url: &request.swf_url,
            tc_url: &request.tc_url,
            url,
            name: hooks::name(key, request),
            r#type: kind(request.client),
            publish: client.part.publishes,
            alive: client.alive.as_secs_f64(),
            send_bytes: client.sent,
            recv_bytes: client.received,
            kbps: Kbps { recv_30s: client.kbps[0], send_30s: client.kbps[1] },
            shard,
            lag_ms: client.lag.map(|lag| lag.as_ms()),
            skips: client.skips,
        }
    }
}

/// As SRS names it.
pub fn kind(client: session::Client) -> &'static str {
    use session::Client;
    match client {
        Client::Unknown => "Unknown",
        Client::RtmpPlay => "rtmp-play",
        Client::FlvPlay => "flv-play",
        Client::HlsPlay => "hls-play",
        Client::FlashPublish => "flash-publish",
        Client::FmlePublish => "fmle-publish",
        Client::HaivisionPublish => "haivision-publish",
        Client::SrtPlay => "srt-play",
        Client::SrtPublish => "srt-publish",
        Client::RtcPlay => "rtc-play",
        Client::RtcPublish => "rtc-publish",
    }
}
