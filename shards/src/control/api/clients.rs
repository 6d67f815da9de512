//! `/api/v1/clients/`: who publishes and plays, and their end.

use super::{Page, bare_envelope, vhost_id};
use crate::{
    connection::Part,
    control::{
        Control,
        http::{Answer, json, with_type},
        snapshot,
    },
    hooks, stream,
};
use serde::Serialize;
use serde_json::{Value, json};
use shardcast_engine::key::StreamKey;
use shardcast_protocols::session;
use std::collections::HashMap;

/// SRS's error number for a client that is not there.
const CLIENT_NOT_FOUND: u64 = 2049;
/// What a client mostly takes.
const OBJECT_BYTES: usize = 400;

/// With `start` and `count`, or the one of this id.
pub async fn clients(control: &Control, id: &str, query: &str) -> Answer {
    let shards = control.clients().await;
    let by_hls = control.viewers.clients();
    let of_shards = shards.iter().enumerate();
    let of_shards = of_shards.flat_map(|(shard, clients)| clients.iter().map(move |client| (Some(shard), client)));
    let mut all = of_shards.chain(by_hls.iter().map(|client| (None, client)));
    let mut answer = bare_envelope(control).to_string().into_bytes();
    answer.pop();
    if !id.is_empty() {
        let Some((shard, client)) = all.find(|(_, client)| client.id == id) else {
            return json(&json!({ "code": CLIENT_NOT_FOUND }));
        };
        answer.extend_from_slice(b",\"client\":");
        write(&mut answer, shard, client, &Common::of(&client.part));
        answer.push(b'}');
        return with_type("application/json", answer);
    }
    let mut clients: Vec<_> = all.map(|(shard, client)| (start(&client.id), shard, client)).collect();
    // Stable, so that one by HLS that chose the id of another does not hide that.
    clients.sort_by(|(start, _, client), (other_start, _, other)| (start, &client.id).cmp(&(other_start, &other.id)));
    clients.dedup_by(|(_, _, other), (_, _, client)| client.id == other.id);
    answer.reserve(clients.len().min(Page::of(query).count) * OBJECT_BYTES);
    answer.extend_from_slice(b",\"clients\":[");
    let mut common: HashMap<_, Common> = HashMap::new();
    for (nth, (_, shard, client)) in Page::of(query).cut(clients.into_iter()).enumerate() {
        if nth > 0 {
            answer.push(b',');
        }
        let common = common.entry(shown(&client.part)).or_insert_with(|| Common::of(&client.part));
        write(&mut answer, shard, client, common);
    }
    answer.extend_from_slice(b"]}");
    with_type("application/json", answer)
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

/// The first bytes of an id, in whose order ids are: comparing them needs no look at the ids.
fn start(id: &str) -> u64 {
    let mut start = [0; 8];
    start.iter_mut().zip(id.bytes()).for_each(|(to, byte)| *to = byte);
    u64::from_be_bytes(start)
}

/// What of a client's part is shown.
fn shown(part: &Part) -> (&StreamKey, [&str; 5], bool) {
    let Part { key, request, publishes, .. } = part;
    let name = hooks::name(key, request);
    (key, [&request.page_url, &request.swf_url, &request.tc_url, name, kind(request.client)], *publishes)
}

/// What clients that do the same have in common, as JSON.
struct Common {
    before_ip: String,
    after_ip: String,
}

impl Common {
    fn of(part: &Part) -> Self {
        let (key, [page, swf, url, name, kind], publishes) = shown(part);
        let inside = |object: Value| object.to_string().trim_start_matches('{').trim_end_matches('}').to_owned();
        let stream = inside(json!({ "vhost": vhost_id(key.vhost()), "stream": stream::id(key) }));
        let rest = inside(json!({
            "pageUrl": page,
            "swfUrl": swf,
            "tcUrl": url,
            "url": key.to_string(),
            "name": name,
            "type": kind,
            "publish": publishes,
        }));
        Self { before_ip: format!(",{stream},\"ip\":"), after_ip: format!(",{rest},\"alive\":") }
    }
}

/// SRS's members, then ours. Written as it is: there may be ten thousand, and the media have the CPUs.
fn write(to: &mut Vec<u8>, shard: Option<usize>, client: &snapshot::Client, common: &Common) {
    put(to, "{\"id\":", &client.id);
    put(to, &common.before_ip, client.ip);
    put(to, &common.after_ip, client.alive.as_secs());
    let hundredths = client.alive.subsec_millis() / 10;
    to.extend([b'.', b'0' + (hundredths / 10) as u8, b'0' + (hundredths % 10) as u8]);
    put(to, ",\"send_bytes\":", client.sent);
    put(to, ",\"recv_bytes\":", client.received);
    put(to, ",\"kbps\":{\"recv_30s\":", client.kbps[0]);
    put(to, ",\"send_30s\":", client.kbps[1]);
    // `null` of a viewer by HLS.
    put(to, "},\"shard\":", shard);
    // How far behind the stream a viewer is, where that is known.
    put(to, ",\"lag_ms\":", client.lag.map(|lag| lag.as_ms()));
    // How often it was so far behind that it skipped frames.
    put(to, ",\"skips\":", client.skips);
    // Frames that it did not get, by the reason.
    put(to, ",\"drops\":", client.drops);
    to.push(b'}');
}

fn put(to: &mut Vec<u8>, name: &str, value: impl Serialize) {
    to.extend_from_slice(name.as_bytes());
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(to, &value);
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
