//! `/api/v1/clients/`: who publishes and plays, and their end.

use super::{Page, envelope, gather, vhost_id};
use crate::control::{Control, snapshot::Client};
use serde_json::{Value, json};
use shardcast_protocols::session;
use std::collections::{BTreeMap, HashMap};

/// SRS's error number for a client that is not there.
const CLIENT_NOT_FOUND: u64 = 2049;

/// With `start` and `count`, or the one of this id.
pub async fn clients(control: &Control, id: &str, query: &str) -> Value {
    let (streams, shards) = (gather(control).await, control.clients().await);
    let ids: HashMap<_, _> = streams.iter().map(|(id, stream)| (&*stream.url, &**id)).collect();
    let clients: BTreeMap<&str, (usize, &Client)> = shards
        .iter()
        .enumerate()
        .flat_map(|(shard, clients)| clients.iter().map(move |client| (&*client.id, (shard, client))))
        .collect();
    let object = |&(shard, client): &(usize, &Client)| {
        let url = client.part.key.to_string();
        let stream = ids.get(&*url).copied().unwrap_or_default();
        object(shard, client, stream, url)
    };
    if !id.is_empty() {
        return match clients.get(id) {
            Some(client) => envelope(control, "client", object(client)),
            None => json!({ "code": CLIENT_NOT_FOUND }),
        };
    }
    let list: Vec<_> = Page::of(query).cut(clients.values()).map(object).collect();
    envelope(control, "clients", list.into())
}

/// Ends the connection of client `id`.
pub async fn kick(control: &Control, id: &str) -> Value {
    let shards = control.clients().await;
    match shards.iter().position(|clients| clients.iter().any(|client| client.id == id)) {
        Some(shard) => {
            control.kick(shard, id.to_owned());
            super::bare_envelope(control)
        }
        None => json!({ "code": CLIENT_NOT_FOUND }),
    }
}

/// SRS's members, then ours: the shard, how far behind the stream a viewer is (`null` where that is not known), and
/// how often it skipped.
fn object(shard: usize, client: &Client, stream: &str, url: String) -> Value {
    let request = &client.part.request;
    json!({
        "id": client.id,
        "vhost": vhost_id(client.part.key.vhost()),
        "stream": stream,
        "ip": client.ip.to_string(),
        "pageUrl": request.page_url,
        "swfUrl": request.swf_url,
        "tcUrl": request.tc_url,
        "url": url,
        "name": client.part.key.stream(),
        "type": kind(request.client),
        "publish": client.part.publishes,
        "alive": client.alive.as_secs_f64(),
        "send_bytes": client.sent,
        "recv_bytes": client.received,
        "kbps": { "recv_30s": client.kbps[0], "send_30s": client.kbps[1] },
        "shard": shard,
        "lag_ms": client.lag.map(|lag| lag.as_ms()),
        "skips": client.skips,
    })
}

fn kind(client: session::Client) -> &'static str {
    use session::Client;
    match client {
        Client::Unknown => "Unknown",
        Client::RtmpPlay => "rtmp-play",
        Client::FlvPlay => "flv-play",
        Client::FlashPublish => "flash-publish",
        Client::FmlePublish => "fmle-publish",
        Client::HaivisionPublish => "haivision-publish",
        Client::SrtPlay => "srt-play",
        Client::SrtPublish => "srt-publish",
        Client::RtcPlay => "rtc-play",
        Client::RtcPublish => "rtc-publish",
    }
}
