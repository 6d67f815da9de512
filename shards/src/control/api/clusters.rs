//! `/api/v1/clusters`: what another origin asks that looks for a stream.

use crate::{control::Control, ingress::http::vhost_name, query::value};
use serde_json::{Value, json};
use shardcast_engine::key::StreamKey;

/// `origin` is where the stream is published, or `null`: not here. Without the envelope of other answers.
pub async fn clusters(control: &Control, query: &str) -> Value {
    let named = |name: &str| value(query, name).unwrap_or_default();
    let [ip, vhost, app, stream, coworker] = ["ip", "vhost", "app", "stream", "coworker"].map(named);
    let config = control.config();
    let key = config.vhost(&vhost).map(|vhost| StreamKey::new(&vhost.name, &app, &stream));
    let snapshot = control.snapshot().await;
    let published = snapshot
        .iter()
        .flat_map(|shard| &shard.streams)
        .any(|share| Some(&share.key) == key.as_ref() && share.is_published());
    let origin = published.then(|| {
        // The address that RTMP is bound to, else the one by which the other origin knows this one.
        let bound = config.rtmp_listen.first().map(|listen| listen.addr()).filter(|addr| !addr.ip().is_unspecified());
        json!({
            "ip": bound.map_or_else(|| vhost_name(&coworker, "").to_owned(), |addr| addr.ip().to_string()),
            "port": config.rtmp_listen.first().map_or(1935, |listen| listen.port),
            "vhost": vhost,
            "api": coworker,
            "routers": [],
        })
    });
    let query = json!({ "ip": ip, "vhost": vhost, "app": app, "stream": stream });
    json!({ "code": 0, "data": { "query": query, "origin": origin } })
}
