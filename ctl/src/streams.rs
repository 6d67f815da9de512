//! `shardctl streams`: one line a stream; `stream`: one stream with its clients.

use crate::{
    clients,
    http::{Error, Server},
    table::{
        Column,
        Width::{Left, Right},
        number, text,
    },
};
use serde_json::Value;

pub const COLUMNS: [Column; 6] = [
    ("STREAM", Left(32), |stream| text(&stream["url"])),
    ("CLIENTS", Right(7), |stream| number(&stream["clients"])),
    ("IN kbit/s", Right(9), |stream| number(&stream["kbps"]["recv_30s"])),
    ("OUT", Right(9), |stream| number(&stream["kbps"]["send_30s"])),
    (" PICTURE", Left(25), |stream| format!(" {}", picture(stream))),
    ("SOUND", Left(0), sound),
];

/// Of a stream's tracks.
pub const TRACKS: [Column; 5] = [
    ("TRACK", Left(32), track),
    ("PER s", Right(7), |track| number(&track["fps"])),
    ("kbit/s", Right(9), |track| number(&track["kbps"])),
    ("GOP ms", Right(9), |track| number(&track["gop_ms"])),
    (" B-FRAMES", Left(0), |track| {
        track["b_frames"].as_bool().map_or("", |has| [" no", " yes"][usize::from(has)]).into()
    }),
];

fn track(track: &Value) -> String {
    let other = track["number"].as_u64().map_or(String::new(), |number| format!(", track {number}, not served"));
    let shape = if track["type"] == "video" { size(track) } else { rate(track) };
    format!("{shape} {}{other}", text(&track["profile"])).replace(" ,", ",")
}

fn size(track: &Value) -> String {
    format!("{} {}x{}", text(&track["codec"]), track["width"], track["height"])
}

fn rate(track: &Value) -> String {
    format!("{} {} Hz, {} ch", text(&track["codec"]), track["sample_rate"], track["channel"])
}

/// The streams of this URL or name: of one name there may be some, in several apps and vhosts.
pub fn find(server: &Server, name: &str) -> Result<Vec<Value>, Error> {
    let mut streams = server.list("streams")?;
    streams.retain(|stream| clients::is_of(stream, name));
    if streams.is_empty() { Err(Error::NoStream(name.into())) } else { Ok(streams) }
}

pub fn picture(stream: &Value) -> String {
    let video = &stream["video"];
    match video.as_object() {
        Some(_) => format!("{} {}", size(video), text(&video["profile"])),
        None if stream["publish"]["active"] == true => "no picture".into(),
        None => "no publisher".into(),
    }
}

pub fn sound(stream: &Value) -> String {
    let audio = &stream["audio"];
    audio.as_object().map(|_| rate(audio)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::line;
    use serde_json::json;

    #[test]
    fn tracks_tell_what_is_known_of_them() {
        let picture = json!({
            "type": "video", "codec": "H264", "profile": "Main", "width": 640, "height": 360, "served": true,
            "number": null, "fps": 25.0, "kbps": 812.5, "gop_ms": 2000, "b_frames": true,
        });
        let columns: Vec<_> = line(&TRACKS, &picture).split_whitespace().map(str::to_owned).collect();
        assert_eq!(columns, ["H264", "640x360", "Main", "25.0", "812.5", "2000", "yes"]);
        let other = json!({
            "type": "audio", "codec": "Opus", "profile": "", "sample_rate": 48_000, "channel": 2, "served": false,
            "number": 1,
        });
        assert!(line(&TRACKS, &other).starts_with("Opus 48000 Hz, 2 ch, track 1, not served"));
    }

    #[test]
    fn a_live_stream_fills_its_line() {
        let stream = json!({
            "url": "/live/a\u{1b}[31m", "clients": 3, "kbps": {"recv_30s": 1500, "send_30s": 3000},
            "publish": {"active": true}, "audio": null,
            "video": {"codec": "H264", "profile": "High", "width": 1280, "height": 720},
        });
        let columns: Vec<_> = line(&COLUMNS, &stream).split_whitespace().map(str::to_owned).collect();
        assert_eq!(columns, ["/live/a[31m", "3", "1500", "3000", "H264", "1280x720", "High"]);
    }
}
