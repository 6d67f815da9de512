//! `shardctl streams`: one line a stream; `stream`: one stream with its clients.

use crate::{
    clients,
    http::{Error, Server},
    table::text,
};
use serde_json::Value;

pub fn table(streams: &[Value]) -> Vec<String> {
    let head = format!("{:<32} {:>7} {:>9} {:>9}  {:<24} SOUND", "STREAM", "CLIENTS", "IN kbit/s", "OUT", "PICTURE");
    [head].into_iter().chain(streams.iter().map(line)).collect()
}

/// The streams of this URL or name: of one name there may be some, in several apps and vhosts.
pub fn find(server: &Server, name: &str) -> Result<Vec<Value>, Error> {
    let mut streams = server.list("streams")?;
    streams.retain(|stream| clients::is_of(stream, name));
    if streams.is_empty() { Err(Error::NoStream(name.into())) } else { Ok(streams) }
}

fn line(stream: &Value) -> String {
    let kbps = &stream["kbps"];
    let (video, audio) = (&stream["video"], &stream["audio"]);
    let picture = match video["codec"].as_str() {
        Some(codec) => format!("{codec} {}x{} {}", video["width"], video["height"], text(&video["profile"])),
        None if stream["publish"]["active"] == true => "no picture".into(),
        None => "no publisher".into(),
    };
    let sound = match audio["codec"].as_str() {
        Some(codec) => format!("{codec} {} Hz, {} ch", audio["sample_rate"], audio["channel"]),
        None => String::new(),
    };
    format!(
        "{:<32} {:>7} {:>9} {:>9}  {picture:<24} {sound}",
        text(&stream["url"]),
        stream["clients"].to_string(),
        kbps["recv_30s"].to_string(),
        kbps["send_30s"].to_string(),
    )
    .trim_end()
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_live_stream_fills_its_line() {
        let stream = json!({
            "url": "/live/a\u{1b}[31m", "clients": 3, "kbps": {"recv_30s": 1500, "send_30s": 3000},
            "publish": {"active": true}, "audio": null,
            "video": {"codec": "H264", "profile": "High", "width": 1280, "height": 720},
        });
        let columns: Vec<_> = line(&stream).split_whitespace().map(str::to_owned).collect();
        assert_eq!(columns, ["/live/a[31m", "3", "1500", "3000", "H264", "1280x720", "High"]);
    }
}
