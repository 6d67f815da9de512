//! The documents that SRS answers for `/`, `/api/` and `/api/v1/`, its self-portrait, and its tests.

use super::{Asked, envelope, unix_ms, version};
use crate::control::{Control, system};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

pub fn root(control: &Control) -> Value {
    let v1 = json!({ "play": "Play stream", "publish": "Publish stream", "nack": "Simulate the NACK" });
    envelope(control, "urls", json!({ "api": "the api root", "rtc": { "v1": v1 } }))
}

pub fn api(control: &Control) -> Value {
    envelope(control, "urls", json!({ "v1": "the api version 1.0" }))
}

/// What stands after `perf` is ours. As with SRS, `requests` answers below `tests/` only, and `perf` not at all.
pub fn v1(control: &Control) -> Value {
    let urls = json!({
        "versions": "the version of SRS",
        "summaries": "the summary(pid, argv, pwd, cpu, mem) of SRS",
        "rusages": "the rusage of SRS",
        "self_proc_stats": "the self process stats",
        "system_proc_stats": "the system process stats",
        "meminfos": "the meminfo of system",
        "authors": "the license, copyright, authors and contributors",
        "features": "the supported features of SRS",
        "requests": "the request itself, for http debug",
        "vhosts": "manage all vhosts or specified vhost",
        "streams": "manage all streams or specified stream",
        "clients": "manage all clients or specified client, default query top 10 clients",
        "raw": "raw api for srs, support CUID srs for instance the config",
        "clusters": "origin cluster server API",
        "perf": "System performance stat",
        "shards": "the shards: their load and what they serve",
        "openapi.json": "this interface, as OpenAPI 3.1",
    });
    let mut answer = envelope(control, "urls", urls);
    answer["tests"] = json!({
        "requests": "show the request info",
        "errors": "always return an error 100",
        "redirects": "always redirect to /api/v1/test/errors",
        "[vhost]": "http vhost for http://error.srs.com:1985/api/v1/tests/errors",
    });
    answer
}

pub fn authors(control: &Control) -> Value {
    let license = env!("CARGO_PKG_LICENSE");
    envelope(control, "data", json!({ "license": license, "contributors": "the authors of Shardcast" }))
}

/// What this build can do, in the words of SRS's build options.
pub fn features(control: &Control) -> Value {
    let built = system::built().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let day = crate::net::sys::local_time(built as i64)
        .map(|time| {
            let [hour, minute, second] = [time.hour, time.minute, time.second];
            format!("{:04}-{:02}-{:02} {hour:02}:{minute:02}:{second:02}", time.year, time.month, time.day)
        })
        .unwrap_or_default();
    let data = json!({
        "options": crate::SERVER,
        "options2": std::env::consts::ARCH,
        "build": day,
        "build2": built.to_string(),
        "features": {
            "ssl": true,
            "hls": true,
            "hds": false,
            "callback": true,
            "api": true,
            "httpd": true,
            "dvr": true,
            "transcode": false,
            "ingest": false,
            "stat": true,
            "caster": false,
            "complex_send": true,
            "tcp_nodelay": true,
            "so_sendbuf": true,
            "mr": false,
        },
    });
    envelope(control, "data", data)
}

/// The request itself. SRS spells `sigature` so.
pub fn requests(control: &Control, asked: &Asked<'_>) -> Value {
    let query = if asked.query.is_empty() { String::new() } else { format!("?{}", asked.query) };
    let data = json!({
        "uri": format!("http://{}{}{query}", asked.host, asked.path),
        "path": asked.path,
        "METHOD": asked.method.as_str(),
        "headers": { "sigature": "SRS", "version": version(), "link": crate::SERVER, "time": unix_ms() },
    });
    envelope(control, "data", data)
}
