//! `/api/v1/vhosts/`: those of the configuration.

use super::{Page, Whole, envelope, gather, vhost_id};
use crate::{config::Vhost, control::Control};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// SRS's error number for a vhost that is not there.
const NO_VHOST: u64 = 2014;

/// With `start` and `count`, or the one of this id.
pub async fn vhosts(control: &Control, id: &str, query: &str) -> Value {
    let (streams, config) = (gather(control).await, control.config());
    let vhosts: BTreeMap<_, _> = config.vhosts.iter().map(|vhost| (vhost_id(&vhost.name), vhost)).collect();
    let object = |(id, vhost): (&String, &&Vhost)| object(id, vhost, streams.values());
    if !id.is_empty() {
        return match vhosts.get_key_value(id) {
            Some(vhost) => envelope(control, "vhost", object(vhost)),
            None => json!({ "code": NO_VHOST }),
        };
    }
    let list: Vec<_> = Page::of(query).cut(vhosts.iter()).map(object).collect();
    envelope(control, "vhosts", list.into())
}

/// Bytes are those of the streams that are there now.
fn object<'s>(id: &str, vhost: &Vhost, streams: impl Iterator<Item = &'s Whole>) -> Value {
    let (mut clients, mut publishing, mut sent, mut received, mut kbps) = (0, 0, 0, 0, [0, 0]);
    for stream in streams.filter(|stream| stream.vhost == vhost.name) {
        clients += stream.clients();
        publishing += usize::from(stream.is_published());
        sent += stream.sent;
        received += stream.home.as_ref().map_or(0, |home| home.received);
        kbps[0] += stream.home.as_ref().map_or(0, |home| home.kbps);
        kbps[1] += stream.sent_kbps;
    }
    let hls = match vhost.hls.enabled {
        true => json!({ "enabled": true, "fragment": vhost.hls.fragment.as_secs_f64() }),
        false => json!({ "enabled": false }),
    };
    json!({
        "id": id,
        "name": vhost.name,
        "enabled": vhost.enabled,
        "clients": clients,
        "streams": publishing,
        "send_bytes": sent,
        "recv_bytes": received,
        "kbps": { "recv_30s": kbps[0], "send_30s": kbps[1] },
        "hls": hls,
    })
}
