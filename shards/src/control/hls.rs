//! Playlists and segments: asked of the stream's home, answered from its memory.

use super::{
    Control,
    api::Asked,
    http::{Answer, refused, with_type},
    viewers::{self, Entry},
};
use crate::{
    access::{self, Deed},
    config::Vhost,
    ingress::http::vhost_name,
    query::{self, value},
};
use hyper::{
    Method,
    header::{CACHE_CONTROL, HeaderValue},
};
use shardcast_engine::key::StreamKey;
use shardcast_protocols::{
    hls::{self, Content},
    session::Verdict,
};
use tracing::info;

const PLAYLIST: &str = "application/vnd.apple.mpegurl";

/// `None` where the path is of no stream's window.
pub async fn answer(control: &Control, request: &Asked<'_>) -> Option<Answer> {
    let path = query::decode(request.path);
    let config = control.config();
    let vhost = config.vhost(vhost_name(request.host, request.query)).filter(|vhost| vhost.hls.enabled)?;
    let asked = vhost.hls.names.asked(&vhost.name, &path)?;
    let key = StreamKey::new(&vhost.name, &asked.app, &asked.stream);
    for ip in [Some(request.ip), request.told].into_iter().flatten() {
        if let Verdict::Refused(why) = access::judge(vhost, Deed::Play, ip, vhost.refer.of_http(request.page)) {
            info!("HLS request of {ip} for {key} refused: {why}");
            return Some(refused(&why));
        }
    }
    let content = control.fetch(&key, &path).await?;
    // A HEAD makes nobody a viewer.
    let with_viewers = vhost.hls.ctx && *request.method != Method::HEAD;
    let mut id = value(request.query, viewers::NAME).filter(|_| with_viewers);
    let (content_type, cache, bytes) = match content {
        Content::Playlist(bytes) if with_viewers => {
            let (its, bytes) = match control.enter(request, vhost, &key).await {
                Entry::Refused(answer) => return Some(answer),
                Entry::Begins(its) => (its.clone(), master(request, vhost, &its).into()),
                Entry::Plays(its) if vhost.hls.ts_ctx => (its.clone(), of_viewer(request, &bytes, &its).into()),
                Entry::Plays(its) => (its, bytes),
            };
            id = Some(its);
            (PLAYLIST, "no-cache", bytes)
        }
        Content::Playlist(bytes) => (PLAYLIST, "no-cache", bytes),
        Content::Segment(_) if id.as_ref().is_some_and(|id| control.viewers.is_kicked(id)) => {
            return id.map(|id| viewers::over(&id));
        }
        // A number comes again when the server was started anew: no cache is to keep it for longer than players
        // may ask for it.
        Content::Segment(bytes) => ("video/mp2t", "max-age=60", bytes),
    };
    if let Some(id) = &id {
        control.viewers.note(id, bytes.len());
    }
    let mut answer = with_type(content_type, bytes);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    Some(answer)
}

/// Leads to the playlist of viewer `id`, with the same query.
fn master(request: &Asked<'_>, vhost: &Vhost, id: &str) -> String {
    let path = match request.path.rsplit_once('/') {
        Some((_, file)) if vhost.hls.relative_master => file,
        _ => request.path,
    };
    let more = viewers::others(request.query).map_or_else(String::new, |more| format!("&{more}"));
    hls::master(&format!("{path}?{}={id}{more}", viewers::NAME))
}

/// The playlist with the viewer's id for its segments, and the vhost where its query names that.
fn of_viewer(request: &Asked<'_>, playlist: &[u8], id: &str) -> String {
    let mut query = format!("{}={id}", viewers::NAME);
    if let Some(vhost) = query::raw(request.query, "vhost").or_else(|| query::raw(request.query, "domain")) {
        query.push_str(&format!("&vhost={vhost}"));
    }
    hls::with_query(&String::from_utf8_lossy(playlist), &query)
}
