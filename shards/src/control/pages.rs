//! Static files: the operator's folder first, then the pages built into the binary.

use super::{
    file::Opened,
    http::{Answer, redirect, with_type},
};
use crate::{
    config::Config,
    query::{decode, value},
};
use bytes::Bytes;
use glommio::executor;
use hyper::{
    HeaderMap, StatusCode,
    header::{HeaderValue, RANGE},
};
use std::{borrow::Cow, path::Path};

/// Path and content of each page that the binary carries.
const BUILT_IN: &[(&str, &[u8])] = &[
    ("index.html", include_bytes!("../../web/index.html")),
    ("app.css", include_bytes!("../../web/app.css")),
    ("app.js", include_bytes!("../../web/app.js")),
    ("dom.js", include_bytes!("../../web/dom.js")),
    ("publish.js", include_bytes!("../../web/publish.js")),
    ("rtc.js", include_bytes!("../../web/rtc.js")),
    ("favicon.svg", include_bytes!("../../web/favicon.svg")),
    ("vendor/hls.js", include_bytes!("../../web/vendor/hls.js")),
    ("vendor/mpegts.js", include_bytes!("../../web/vendor/mpegts.js")),
];

/// `host` is by what name the server was reached, `headers` are those of the request.
pub async fn page(config: &Config, host: &str, path: &str, query: &str, headers: &HeaderMap) -> Option<Answer> {
    let decoded = decode(path);
    let mounts = config.vhosts.iter().filter(|vhost| vhost.enabled).filter_map(|vhost| vhost.http_static.as_ref());
    let below = mounts.clone().filter_map(|mount| Some((mount, mount.below(host, &decoded)?)));
    // One of the host before those of all, and the longest.
    let found = below.max_by_key(|(mount, _)| (mount.host.is_some(), mount.path.len()));
    if found.is_none() && mounts.clone().any(|mount| mount.below(host, &format!("{decoded}/")) == Some("")) {
        return Some(redirect(StatusCode::FOUND, &format!("{path}/"), query));
    }
    let (dir, mut name) = match found {
        Some((mount, name)) => (&mount.dir, name.to_owned()),
        None => (&config.http_server.dir, decoded.trim_start_matches('/').to_owned()),
    };
    if name.is_empty() || name.ends_with('/') {
        name.push_str("index.html");
    }
    let plain = name.split('/').all(|part| !part.starts_with('.') && !part.contains('\0') && !part.is_empty());
    if !plain {
        return None;
    }
    let content_type = content_type(&name);
    let file = dir.join(&name);
    let mut headers = Cow::Borrowed(headers);
    // As with SRS, who cannot send a header names the range of an MP4 in the query.
    if name.ends_with(".mp4")
        && let Some(range) = value(query, "range").or_else(|| value(query, "bytes"))
        && let Ok(range) = HeaderValue::from_str(&format!("bytes={range}"))
    {
        headers.to_mut().entry(RANGE).or_insert(range);
    }
    let start = value(query, "start").and_then(|start| start.parse().ok()).filter(|_| name.ends_with(".flv"));
    let open = move || {
        let opened = Opened::open(&file)?;
        Some(match start {
            Some(start) => opened.seek_flv(start),
            None => opened,
        })
    };
    if let Some(opened) = executor().spawn_blocking(open).await {
        return Some(opened.answer(content_type, &headers));
    }
    let at_root = found.is_none_or(|(mount, _)| mount.path == "/");
    let (_, bytes) = BUILT_IN.iter().find(|(built_in, _)| at_root && *built_in == name)?;
    Some(with_type(content_type, Bytes::from_static(bytes)))
}

fn content_type(name: &str) -> &'static str {
    match Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "ico" => "image/x-icon",
        "xml" => "text/xml; charset=utf-8",
        "m3u8" => "application/vnd.apple.mpegurl",
        "ts" => "video/mp2t",
        "mp4" | "mp4v" => "video/mp4",
        "flv" => "video/x-flv",
        "m4v" => "video/x-m4v",
        "m4s" => "video/iso.segment",
        "mpd" => "application/dash+xml",
        "3gp" | "3gpp" => "video/3gpp",
        "aac" => "audio/x-aac",
        "mp3" => "audio/mpeg",
        "m4a" => "audio/x-m4a",
        "ogg" => "audio/ogg",
        "gif" => "image/gif",
        "rss" => "application/rss+xml",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
