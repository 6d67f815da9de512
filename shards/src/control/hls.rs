//! Playlists and segments: asked of the stream's home, answered from its memory.

use super::{
    Control,
    api::Asked,
    http::{Answer, text, with_type},
    pages,
};
use crate::{
    access::{self, Deed},
    ingress::http::vhost_name,
};
use hyper::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderValue},
};
use shardcast_engine::key::StreamKey;
use shardcast_protocols::{hls::Content, session::Verdict};
use tracing::info;

/// `None` where the path is of no stream's window.
pub async fn answer(control: &Control, request: &Asked<'_>) -> Option<Answer> {
    let path = pages::decode(request.path);
    let config = control.config();
    let vhost = config.vhost(vhost_name(request.host, request.query)).filter(|vhost| vhost.hls.enabled)?;
    let asked = vhost.hls.names.asked(&vhost.name, &path)?;
    let key = StreamKey::new(&vhost.name, &asked.app, &asked.stream);
    for ip in [Some(request.ip), request.told].into_iter().flatten() {
        if let Verdict::Refused(why) = access::judge(vhost, Deed::Play, ip, Some(request.page)) {
            info!("HLS request of {ip} for {key} refused: {why}");
            return Some(text(StatusCode::FORBIDDEN, "Forbidden"));
        }
    }
    let (content_type, cache, bytes) = match control.fetch(&key, &path).await? {
        Content::Playlist(bytes) => ("application/vnd.apple.mpegurl", "no-cache", bytes),
        // A number comes again when the server was started anew: no cache is to keep it for longer than players
        // may ask for it.
        Content::Segment(bytes) => ("video/mp2t", "max-age=60", bytes),
    };
    let mut answer = with_type(content_type, bytes);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    Some(answer)
}
