//! The HTTP port and the API: live FLV, pages, SRS's answers, metrics, and what a change of publisher does.

use crate::support::{
    PATIENCE,
    flv::{self, Tag},
    http,
    media::{FRAMES_PER_SECOND, Media},
    probe::{Decoder, Kind, Probe},
    publisher::Publisher,
    server::{Server, local, stream_at},
    until,
    viewer::Viewer,
};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::Duration,
};

const SHARDS: usize = 2;

#[test]
fn a_live_stream_answers_head_cors_and_get() {
    let server = Server::start(SHARDS);
    let _publisher = Publisher::looping(&server, "live/head", Media::Plain);
    server.wait_until_live("live/head");
    let head = http::request(server.ports.http, "HEAD", "/live/head.flv", &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-type"), Some("video/x-flv"));
    assert!(head.header("server").is_some_and(|server| server.starts_with("Shardcast/")));
    assert_eq!(head.header("access-control-allow-origin"), None);
    let cors = http::request(server.ports.http, "HEAD", "/live/head.flv", &["Origin: http://elsewhere.example"]);
    assert_eq!(cors.header("access-control-allow-origin"), Some("*"));

    let mut get = http::open(server.ports.http, "GET", "/live/head.flv", &["Origin: http://elsewhere.example"]);
    let mut start = [0; 1024];
    get.read_exact(&mut start).expect("the start of a stream");
    let get = http::Response::parse(&start).expect("an answer");
    assert_eq!((get.status, get.header("content-type")), (200, Some("video/x-flv")));
    assert_eq!(get.header("access-control-allow-origin"), Some("*"));
    let mut body = Vec::new();
    http::Chunks::default().take(&get.body, &mut body);
    assert_eq!(&body[..4], b"FLV\x01");

    // Who speaks HTTP/1.0 knows no chunks.
    let mut old = TcpStream::connect(local(server.ports.http)).expect("connect");
    old.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    old.write_all(b"GET /live/head.flv HTTP/1.0\r\n\r\n").expect("send a request");
    old.read_exact(&mut start).expect("the start of a stream");
    let old = http::Response::parse(&start).expect("an answer");
    assert_eq!((old.status, old.header("transfer-encoding")), (200, None));
    assert_eq!(&old.body[..4], b"FLV\x01");
    server.stop();
}

#[test]
fn api_and_pages_allow_other_origins_as_srs_does() {
    let server = Server::start(SHARDS);
    for port in [server.ports.http, server.ports.api] {
        let plain = http::request(port, "GET", "/api/v1/versions", &[]);
        assert_eq!(plain.header("access-control-allow-origin"), None);
        let cors = http::request(port, "GET", "/api/v1/versions", &["Origin: http://elsewhere.example"]);
        assert_eq!(cors.header("access-control-allow-origin"), Some("*"));
        assert_eq!(cors.header("access-control-allow-methods"), Some("*"));
        assert_eq!(http::request(port, "OPTIONS", "/api/v1/streams/", &["Origin: http://e.example"]).status, 200);
        assert_eq!(http::request(port, "DELETE", "/api/v1/versions", &[]).status, 405);
    }
    server.stop();
}

#[test]
fn a_page_ends_its_connection_so_that_no_stream_is_asked_for_on_it() {
    // Pages are not the media shards' business: a browser that kept the connection would ask the wrong one.
    let server = Server::start(SHARDS);
    let mut socket = TcpStream::connect(local(server.ports.http)).expect("connect");
    socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n").expect("send a request");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("the connection's end");
    let answer = http::Response::parse(&answer).expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    server.stop();
}

#[test]
fn what_is_not_there_is_404() {
    let server = Server::start(SHARDS);
    for path in ["/nothing", "/live/nothing.txt", "/live/", "/no/such/index.html", "/app.js.map"] {
        let answer = server.get(path);
        assert_eq!((answer.status, &*answer.text()), (404, "Not Found"), "{path}");
    }
    server.stop();
}

#[test]
fn a_viewer_may_come_before_its_publisher_and_ends_with_it() {
    let server = Server::start(SHARDS);
    let viewers: Vec<_> = (0..8).map(|_| Viewer::open(server.ports.http, "live/early")).collect();
    server.wait_for_clients("live/early", 8);
    Publisher::once(&server, "live/early", Media::Short).finish(Duration::from_secs(4));
    let sent = since_keyframe(flv::frames(&Media::Short.file()));
    for viewer in &viewers {
        until("the FLV ends with its publisher", || viewer.ended().then_some(()));
        let got = viewer.frames();
        assert_eq!(got.len(), sent.len());
        assert!(got.iter().zip(&sent).all(|(got, sent)| got.body == sent.body));
    }
    server.stop();
}

#[test]
fn an_rtmp_viewer_goes_on_with_the_next_publisher() {
    let server = Server::start(SHARDS);
    for home in 0..SHARDS {
        let name = stream_at(home, SHARDS, "next");
        // Two publishers of 4 s; it stops within the second one's part.
        let viewer = Probe::seconds(&server.rtmp(&name), 6.5);
        server.wait_for_clients(&name, 1);
        Publisher::once(&server, &name, Media::Short).finish(Duration::from_secs(4));
        server.wait_until_over(&name);
        Publisher::once(&server, &name, Media::Short).finish(Duration::from_secs(4));
        let probed = viewer.finish(PATIENCE);
        for kind in [Kind::Video, Kind::Audio] {
            let packets = probed.of(kind);
            for pair in packets.windows(2) {
                let step_ms = pair[1].dts_ms - pair[0].dts_ms;
                assert!((1..=200).contains(&step_ms), "{kind:?}: {step_ms} ms between two frames");
            }
            let first = &packets[0].hash;
            assert_eq!(packets.iter().filter(|p| p.hash == *first).count(), 2, "{kind:?} of both publishers");
        }
        let pictures = probed.of(Kind::Video).len();
        assert!(pictures >= FRAMES_PER_SECOND * 6, "{pictures} pictures in 6.5 s");
    }
    server.stop();
}

#[test]
fn a_stream_is_recorded_whole_and_decodes() {
    let server = Server::start(SHARDS);
    let viewer = Viewer::open(server.ports.http, "live/record");
    server.wait_for_clients("live/record", 1);
    Publisher::once(&server, "live/record", Media::Short).finish(Duration::from_secs(4));
    until("the FLV ends with its publisher", || viewer.ended().then_some(()));
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&viewer.flv()).expect("write a file");
    assert_eq!(Decoder::whole(file.path()).finish(PATIENCE).pictures.len(), FRAMES_PER_SECOND * 4);
    server.stop();
}

#[test]
fn the_page_and_its_files_are_served_with_their_types() {
    let server = Server::start(SHARDS);
    for (path, content_type, part) in [
        ("/", "text/html; charset=utf-8", "<title>Shardcast</title>"),
        ("/index.html", "text/html; charset=utf-8", "/app.js"),
        ("/?stream=live/x", "text/html; charset=utf-8", "/app.css"),
        ("/app.js", "text/javascript; charset=utf-8", "mpegts"),
        ("/dom.js", "text/javascript; charset=utf-8", "export"),
        ("/publish.js", "text/javascript; charset=utf-8", "export"),
        ("/rtc.js", "text/javascript; charset=utf-8", "export"),
        ("/app.css", "text/css; charset=utf-8", "{"),
        ("/favicon.svg", "image/svg+xml", "<svg"),
        ("/vendor/mpegts.js", "text/javascript; charset=utf-8", "mpegts"),
    ] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(content_type)), "{path}");
        assert!(answer.text().contains(part), "{path}");
    }
    let config = server.get("/config.json").json();
    assert_eq!((config["rtmp_port"].as_u64(), config["shards"].as_u64()), (Some(server.ports.rtmp.into()), Some(2)));
    assert_eq!((config["srt_port"].as_u64(), config["rtc"].as_bool()), (Some(server.ports.srt.into()), Some(true)));
    server.stop();
}

#[test]
fn the_api_describes_streams_as_srs_does() {
    let mut server = Server::start(SHARDS);
    let _publisher = Publisher::looping(&server, "live/api", Media::Plain);
    server.wait_until_live("live/api");
    let viewers: Vec<_> = (0..3).map(|_| Viewer::open(server.ports.http, "live/api")).collect();
    until("all viewers have frames", || viewers.iter().all(|v| !v.frames().is_empty()).then_some(()));
    // The API may answer with what it knew 100 ms ago.
    server.wait_for_clients("live/api", 4);
    // On its own port and on the HTTP server's.
    for port in [server.ports.api, server.ports.http] {
        let answer = http::request(port, "GET", "/api/v1/streams/", &[]);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let answer = answer.json();
        assert_eq!(answer["code"], 0);
        assert_eq!(answer["pid"], server.pid().to_string());
        assert!(answer["server"].as_str().is_some_and(|id| id.len() == 11 && id.starts_with("vid-")));
        assert!(answer["service"].as_str().is_some_and(|id| id.len() == 8));
        let streams = answer["streams"].as_array().expect("streams");
        assert_eq!(streams.len(), 1);
        assert_stream(&streams[0], server.ports.rtmp);
        let id = streams[0]["id"].as_str().expect("an id");
        let one = http::request(port, "GET", &format!("/api/v1/streams/{id}"), &[]).json();
        assert_eq!((one["stream"]["id"].as_str(), &one["code"]), (Some(id), &Value::from(0)));
        let none = http::request(port, "GET", "/api/v1/streams/vid-nothing", &[]).json();
        assert_eq!(none["code"], 2048);
        let moved = http::request(port, "GET", "/api/v1/streams?count=3", &[]);
        assert_eq!((moved.status, moved.header("location")), (302, Some("/api/v1/streams/?count=3")));
        assert_eq!(http::request(port, "GET", "/api/v1/streams", &[]).header("location"), Some("/api/v1/streams/"));
    }
    let frames = |server: &Server| server.stream("live/api").and_then(|entry| entry["frames"].as_u64());
    let before = frames(&server);
    until("frames are counted", || (frames(&server) > before).then_some(()));
    let versions = server.get("/api/v1/versions").json();
    assert_eq!((versions["code"].as_u64(), versions["data"]["major"].as_u64()), (Some(0), Some(8)));
    assert!(server.is_running());
    server.stop();
}

fn assert_stream(stream: &Value, rtmp_port: u16) {
    assert!(stream["id"].as_str().is_some_and(|id| id.starts_with("vid-")), "{stream}");
    assert!(stream["vhost"].as_str().is_some_and(|id| id.starts_with("vid-")), "{stream}");
    for (name, value) in [("name", "api"), ("app", "live"), ("url", "/live/api")] {
        assert_eq!(stream[name], value);
    }
    assert_eq!(stream["tcUrl"], format!("rtmp://127.0.0.1:{rtmp_port}/live"));
    assert_eq!(stream["clients"], 4, "three viewers and the publisher");
    assert_eq!(stream["publish"]["active"], true);
    assert!(stream["publish"]["cid"].as_str().is_some_and(|cid| cid.len() == 8), "{stream}");
    for name in ["live_ms", "frames", "send_bytes", "recv_bytes"] {
        assert!(stream[name].as_u64() > Some(0), "{name} of {stream}");
    }
    let [all, sound, pictures] = ["frames", "audio_frames", "video_frames"].map(|name| stream[name].as_u64());
    assert_eq!(all, sound.zip(pictures).map(|(sound, pictures)| sound + pictures), "{stream}");
    for name in ["recv_30s", "send_30s"] {
        assert!(stream["kbps"][name].is_u64(), "{name} of {stream}");
    }
    let video = &stream["video"];
    assert_eq!((&video["codec"], &video["width"], &video["height"]), (&"H264".into(), &640.into(), &360.into()));
    assert!(video["profile"].as_str().is_some_and(|profile| profile.starts_with("Baseline")), "{video}");
    assert!(video["level"].is_string(), "{video}");
    let audio = &stream["audio"];
    assert_eq!((&audio["codec"], &audio["sample_rate"]), (&"AAC".into(), &48_000.into()));
    assert_eq!((&audio["channel"], &audio["profile"]), (&2.into(), &"LC".into()));
}

#[test]
fn tracks_tell_their_rates_gops_and_b_frames() {
    let server = Server::start(SHARDS);
    for (media, name, b_frames) in [(Media::Plain, "live/plain", false), (Media::Reordered, "live/reordered", true)] {
        let _publisher = Publisher::looping(&server, name, media);
        let tracks = until("rates and a GOP", || {
            let tracks = server.stream(name)?["tracks"].as_array()?.clone();
            let whole = tracks.len() == 2 && tracks.iter().all(|track| track["fps"].is_f64());
            (whole && tracks[0]["gop_ms"].is_u64()).then_some(tracks)
        });
        let [picture, sound] = &tracks[..] else { panic!("{tracks:?}") };
        assert_eq!((&picture["type"], &sound["type"]), (&"video".into(), &"audio".into()));
        assert!(tracks.iter().all(|track| track["served"] == true && track["number"].is_null()), "{tracks:?}");
        assert_eq!((&picture["codec"], &picture["width"]), (&"H264".into(), &640.into()));
        assert_eq!((&picture["fps"], &picture["gop_frames"]), (&25.0.into(), &25.into()), "{picture}");
        assert_eq!((&picture["gop_ms"], &picture["b_frames"]), (&1_000.into(), &b_frames.into()), "{picture}");
        assert!(picture["kbps"].as_f64() > Some(50.0), "{picture}");
        // 1024 samples each, of 48 000 a second.
        assert!(sound["fps"].as_f64().is_some_and(|rate| (46.0..48.0).contains(&rate)), "{sound}");
        assert!(sound["kbps"].as_f64().is_some_and(|kbps| (60.0..140.0).contains(&kbps)), "{sound}");
    }
    server.wait_until_over("live/reordered");
    server.stop();
}

#[test]
fn metrics_are_prometheus_text() {
    let server = Server::start(SHARDS);
    let _publisher = Publisher::looping(&server, "live/metrics", Media::Plain);
    server.wait_until_live("live/metrics");
    let _viewer = Viewer::open(server.ports.http, "live/metrics");
    server.wait_for_clients("live/metrics", 2);
    let answer = server.get("/metrics");
    assert!(answer.header("content-type").is_some_and(|t| t.starts_with("text/plain")));
    for line in answer.text().lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            assert!(comment.starts_with("TYPE ") || comment.starts_with("HELP "), "{line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let (name, labels) = name.split_once('{').map_or((name, "}"), |(name, labels)| (name, labels));
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{line}");
        assert!(labels.ends_with('}'), "{line}");
    }
    assert_eq!(server.total("shardcast_publishers", ""), 1.0);
    assert_eq!(server.total("shardcast_viewers", ""), 1.0);
    assert_eq!(server.metric("shardcast_connections").len(), SHARDS);
    assert!(server.total("shardcast_ring_bytes", "") > 0.0);
    server.stop();
}

#[test]
fn of_a_stream_that_nobody_watches_little_is_kept() {
    let server = Server::start(SHARDS);
    let _publisher = Publisher::looping(&server, "live/ring", Media::Heavy);
    let viewer = Viewer::open(server.ports.http, "live/ring");
    until("five seconds", || viewer.newest_ms().filter(|newest| *newest > 5_000));
    let watched = server.total("shardcast_ring_bytes", "");
    drop(viewer);
    until("most of it is gone", || (server.total("shardcast_ring_bytes", "") < watched / 2.0).then_some(()));
    let newcomer = Viewer::open(server.ports.http, "live/ring");
    let frames = until("a GOP", || Some(newcomer.frames()).filter(|frames| frames.len() > 50));
    assert!(frames.iter().find(|frame| frame.kind == flv::VIDEO).is_some_and(Tag::is_keyframe));
    flv::assert_every_picture(&frames, &Media::Heavy.file());
    server.stop();
}

fn since_keyframe(frames: Vec<Tag>) -> Vec<Tag> {
    frames.into_iter().skip_while(|frame| !frame.is_keyframe()).collect()
}

#[test]
fn files_of_any_size_are_sent_whole_and_in_ranges() {
    const LENGTH: usize = 40 << 20;
    let folder = tempfile::tempdir().expect("a folder");
    let bytes: Vec<u8> = (0..LENGTH).map(|at| (at / 4_099 + at) as u8).collect();
    std::fs::write(folder.path().join("large.mp4"), &bytes).expect("write a file");
    let conf = format!(
        "srs_log_tank console; http_server {{ enabled on; dir {}; }} http_api {{ enabled on; }}
         vhost __defaultVhost__ {{ }}",
        folder.path().display()
    );
    let server = Server::of_conf(&conf, SHARDS);
    let get = |headers: &[&str]| http::request(server.ports.http, "GET", "/large.mp4", headers);
    let whole = get(&[]);
    assert_eq!((whole.status, whole.header("accept-ranges")), (200, Some("bytes")));
    assert!(whole.body == bytes, "{} of {LENGTH} bytes", whole.body.len());
    let head = http::request(server.ports.http, "HEAD", "/large.mp4", &[]);
    assert_eq!((head.header("content-length"), head.body.len()), (Some(&*LENGTH.to_string()), 0));
    let tag = whole.header("etag").expect("a tag");
    let part = get(&["Range: bytes=1000000-1999999", &format!("If-Range: {tag}")]);
    assert_eq!((part.status, part.header("content-length")), (206, Some("1000000")));
    assert_eq!(part.header("content-range"), Some(&*format!("bytes 1000000-1999999/{LENGTH}")));
    assert!(part.body == bytes[1_000_000..2_000_000]);
    assert!(get(&["Range: bytes=-5"]).body == bytes[LENGTH - 5..]);
    assert_eq!(get(&["Range: bytes=0-0", "If-Range: \"other\""]).body.len(), LENGTH);
    for name in ["range", "bytes"] {
        let part = server.get(&format!("/large.mp4?{name}=10-19"));
        assert_eq!((part.status, part.body.as_slice()), (206, &bytes[10..20]), "{name}");
    }
    let beyond = get(&[&format!("Range: bytes={LENGTH}-")]);
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some(&*format!("bytes */{LENGTH}"))));
    // A client that reads nothing costs no copy of the file.
    let before = server.resident();
    let _idle: Vec<_> = (0..20).map(|_| http::open(server.ports.http, "GET", "/large.mp4", &[])).collect();
    assert!(get(&[]).body == bytes);
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 100 << 20, "{} MB for 20 clients of 40 MB each", grown >> 20);
    server.stop();
}

#[test]
fn an_flv_file_is_sent_from_a_byte_on_behind_what_its_player_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("vod.flv");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(Media::Short.file())
        .args(["-c", "copy", "-flvflags", "add_keyframe_index"])
        .arg(&file)
        .status();
    assert!(made.expect("ffmpeg").success());
    std::fs::write(folder.path().join("no.flv"), "not FLV").expect("write a file");
    let conf = format!(
        "srs_log_tank console; http_server {{ enabled on; dir {}; }} http_api {{ enabled on; }}
         vhost __defaultVhost__ {{ }}",
        folder.path().display()
    );
    let server = Server::of_conf(&conf, SHARDS);
    let bytes = std::fs::read(&file).expect("read a file");
    let frames = flv::frames(&file);
    let keyframe = frames.iter().filter(|tag| tag.is_keyframe()).nth(1).expect("a second keyframe");
    let at = bytes.windows(keyframe.body.len()).position(|part| part == keyframe.body).expect("its place") - 11;
    let url = format!("http://127.0.0.1:{}/vod.flv?start={at}", server.ports.http);
    let got = http::request(server.ports.http, "GET", &format!("/vod.flv?start={at}"), &["Range: bytes=0-9"]);
    assert_eq!((got.status, got.header("content-type")), (200, Some("video/x-flv")));
    assert_eq!(got.header("content-length"), Some(&*got.body.len().to_string()));
    assert!(got.body.starts_with(b"FLV\x01") && got.body.ends_with(&bytes[at..]));
    assert!(got.body.len() < bytes.len());
    let decoded = Decoder::whole(&url).finish(PATIENCE);
    let whole = Decoder::whole(&file).finish(PATIENCE).pictures.len();
    assert!((1..whole).contains(&decoded.pictures.len()), "{} of {whole}", decoded.pictures.len());
    for whole in ["0", "13", "-5", "x", ""] {
        let got = server.get(&format!("/vod.flv?start={whole}"));
        assert!(got.status == 200 && got.body == bytes, "start={whole}");
    }
    let end = server.get(&format!("/vod.flv?start={}", bytes.len()));
    assert!(end.status == 200 && got.body.starts_with(&end.body) && end.body.len() > 13, "sequence headers alone");
    let beyond = server.get(&format!("/vod.flv?start={}", bytes.len() + 1));
    assert_eq!((beyond.status, beyond.body.len()), (416, 0));
    assert_eq!(beyond.header("content-range"), Some(&*format!("bytes */{}", bytes.len())));
    assert_eq!(server.get("/no.flv?start=3").body, b"not FLV");
    server.stop();
}

#[test]
fn vhosts_have_folders_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, words) in
        [("root/a.txt", "root"), ("v.io/a.txt", "v.io"), ("all/a.txt", "all"), ("all/index.html", "in")]
    {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, words).expect("write a file");
    }
    let conf = format!(
        "srs_log_tank console; http_server {{ enabled on; dir {0}/root; }} http_api {{ enabled on; }}
         vhost v.io {{ http_static {{ enabled on; mount [vhost]/; dir {0}/[vhost]; }} }}
         vhost __defaultVhost__ {{ http_static {{ enabled on; mount [vhost]/all; dir {0}/all; }} }}
         vhost off.io {{ enabled off; http_static {{ enabled on; mount [vhost]/; dir {0}/all; }} }}",
        folder.path().display()
    );
    let server = Server::of_conf(&conf, SHARDS);
    let get = |host: &str, path| {
        let mut socket = TcpStream::connect(local(server.ports.http)).expect("connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}:8080\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("send a request");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).expect("an answer");
        http::Response::parse(&answer).expect("an answer")
    };
    for (host, path, words) in [
        ("v.io", "/a.txt", "v.io"),
        ("x.io", "/a.txt", "root"),
        ("off.io", "/a.txt", "root"),
        ("x.io", "/all/a.txt", "all"),
        ("v.io", "/all/a.txt", "Not Found"),
        ("x.io", "/all/", "in"),
    ] {
        assert_eq!(get(host, path).text(), words, "{host}{path}");
    }
    let moved = get("x.io", "/all?k=v");
    assert_eq!((moved.status, moved.header("location")), (302, Some("/all/?k=v")));
    assert_eq!(get("x.io", "/all/app.js").status, 404, "our pages are not below it");
    assert_eq!(get("x.io", "/app.js").status, 200);
    assert_eq!(get("x.io", "/all/../root/a.txt").status, 400);
    server.stop();
}
