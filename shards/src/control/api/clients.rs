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
use futures_lite::future;
use serde::Serialize;
use serde_json::{Value, json};
use shardcast_protocols::session;
use std::{collections::HashMap, net::IpAddr};

/// SRS's error number for a client that is not there.
const CLIENT_NOT_FOUND: u64 = 2049;

/// SRS's members, then ours. Written as it is, without a [`Value`]: there may be ten thousand.
#[derive(Serialize)]
struct Client<'a> {
    id: &'a str,
    vhost: &'a str,
    stream: &'a str,
    ip: IpAddr,
    #[serde(rename = "pageUrl")]
    page_url: &'a str,
    #[serde(rename = "swfUrl")]
    swf_url: &'a str,
    #[serde(rename = "tcUrl")]
    tc_url: &'a str,
    url: &'a str,
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

/// What the clients of one stream have in common.
struct Names<'a> {
    vhost: String,
    /// The stream's id.
    stream: &'a str,
    url: String,
}

/// With `start` and `count`, or the one of this id.
pub async fn clients(control: &Control, id: &str, query: &str) -> Answer {
    let (streams, shards) = future::zip(gather(control), control.clients()).await;
    let by_hls = control.viewers.clients();
    let of_shards = shards.iter().enumerate();
    let of_shards = of_shards.flat_map(|(shard, clients)| clients.iter().map(move |client| (Some(shard), client)));
    let mut clients: Vec<_> = of_shards.chain(by_hls.iter().map(|client| (None, client))).collect();
    // Stable, so that one by HLS that chose the id of another does not hide that.
    clients.sort_by(|(_, a), (_, b)| a.id.cmp(&b.id));
    clients.dedup_by(|(_, b), (_, a)| a.id == b.id);
    let page: Vec<_> = match id.is_empty() {
        true => Page::of(query).cut(clients.into_iter()).collect(),
        false => clients.into_iter().filter(|(_, client)| client.id == id).collect(),
    };
    let ids: HashMap<_, _> = streams.iter().map(|(id, stream)| (&*stream.url, &**id)).collect();
    let mut names = HashMap::new();
    for key in page.iter().map(|(_, client)| &client.part.key) {
        names.entry(key).or_insert_with(|| {
            let url = key.to_string();
            Names { vhost: vhost_id(key.vhost()), stream: ids.get(&*url).copied().unwrap_or_default(), url }
        });
    }
    let envelope = bare_envelope(control);
    let mut objects = page.iter().map(|(shard, client)| Client::of(*shard, client, &names[&client.part.key]));
    if id.is_empty() {
        return json(&List { envelope, clients: objects.collect() });
    }
    match objects.next() {
        Some(client) => json(&One { envelope, client }),
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
    fn of(shard: Option<usize>, client: &'a snapshot::Client, names: &'a Names) -> Self {
        let (key, request) = (&client.part.key, &client.part.request);
        Self {
            id: &client.id,
            vhost: &names.vhost,
            stream: names.stream,
            ip: client.ip,
            page_url: &request.page_url,
            swf_url: &request.swf_url,
            tc_url: &request.tc_url,
            url: &names.url,
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
