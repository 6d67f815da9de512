//! Bounds that docs/limits.md names and no other test meets.

use crate::support::{
    PATIENCE, http,
    media::Media,
    process::Process,
    publisher::Publisher,
    refusal,
    server::{Server, local, stream_at},
    until,
    viewer::{self, Viewer},
    within,
};
use shardcast_protocols::rtmp::client::{Client, ClientError};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// All sources below `folder`: path and text.
fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            found.push((path.display().to_string(), text));
        }
    }
}

#[test]
fn tests_keys_and_counters_of_the_page_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| fs::read_to_string(root.join(path)).expect(path);
    let mut files = Vec::new();
    for part in ["engine/src", "protocols/src", "shards/src", "shards/tests", "benchmarks/src"] {
        sources(&root.join(part), &mut files);
    }
    let (page, keys, metrics) = (read("docs/limits.md"), read("docs/config.md"), read("shards/src/launch/metrics.rs"));
    let mut rows = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| bound")) {
        let (facts, tests) = row.trim_end_matches(" |").rsplit_once(" | ").expect("cells");
        rows += 1;
        let names = |cell| str::split(cell, '`').skip(1).step_by(2);
        for name in names(facts) {
            let known = match name.split('{').next() {
                Some(metric) if metric.starts_with("shardcast_") => metrics.contains(&format!("\"{metric}\"")),
                _ => {
                    let directive = name.rsplit('.').next().unwrap_or(name);
                    matches!(name, "connect" | "publish" | "play" | "shardbench")
                        || keys.contains(&format!("`{directive}`"))
                }
            };
            assert!(known, "{name}: {row}");
        }
        for named in tests.split("; ").filter(|named| *named != "likewise") {
            let (file, functions) = named.split_once(": ").expect(row);
            let file = format!("/{}", file.trim_matches('`'));
            let text: Vec<_> = files.iter().filter(|(path, _)| path.ends_with(&file)).collect();
            assert!(!text.is_empty(), "no {file}: {row}");
            for function in names(functions) {
                let head = format!("#[test]\n    fn {function}(");
                let has = |text: &String| text.contains(&head) || text.contains(&head.replace("    ", ""));
                assert!(text.iter().any(|(_, text)| has(text)), "no {function} in {file}: {row}");
            }
        }
    }
    assert!(rows > 40, "{rows} rows");
}

#[test]
fn who_stands_still_is_ended() {
    // By itself it would have lost its place after 20 s.
    let conf = "srs_log_tank console; http_server { enabled on; } http_api { enabled on; } rtc_server { enabled on; }
        vhost __defaultVhost__ { http_remux { enabled on; } rtc { enabled on; } play { queue_length 30; } }";
    let server = Server::of_conf(conf, 1);
    let publisher = Publisher::looping(&server, "live/still", Media::Plain);
    server.wait_until_live("live/still");
    let mut viewer = viewer::narrow(server.ports.http);
    viewer.write_all(b"GET /live/still.flv HTTP/1.1\r\nHost: h\r\n\r\n").expect("send");
    // On a connection of the API nothing moves; of an offer's body half comes.
    let quiet =
        [&b""[..], b"POST /rtc/v1/whep/?app=live&stream=still HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nv=0"];
    let api = server.ports.api;
    let quiet = quiet.map(|said| {
        thread::spawn(move || {
            let mut socket = TcpStream::connect(local(api)).expect("connect");
            socket.write_all(said).expect("send");
            socket.set_read_timeout(Some(PATIENCE * 2)).expect("a deadline");
            let (since, mut answer) = (Instant::now(), Vec::new());
            // The server may have bytes left to read when it closes.
            let _ = socket.read_to_end(&mut answer);
            (since.elapsed(), String::from_utf8(answer).expect("text"))
        })
    });
    for (thread, answer) in quiet.into_iter().zip(["", "HTTP/1.1 400 "]) {
        let (took, got) = thread.join().expect("a connection");
        assert!((14..25).contains(&took.as_secs()) && got.starts_with(answer), "{took:?}: {got}");
    }
    within(Duration::from_secs(50), "the viewer is ended", || {
        (!server.log().with(&["took nothing for 30 s"]).is_empty()).then_some(())
    });
    assert_eq!(server.total("shardcast_viewers_given_up_total", ""), 1.0);
    drop(publisher);
    until("its stream is forgotten", || (server.total("shardcast_streams", "") == 0.0).then_some(()));
    server.stop();
}

#[test]
fn the_server_has_so_many_connections() {
    let conf = "srs_log_tank console; max_connections 3; http_server { enabled on; } http_api { enabled on; }
        vhost __defaultVhost__ { }";
    let server = Server::of_conf(conf, 2);
    until("the test's own first one has gone", || (server.total("shardcast_connections", "") == 0.0).then_some(()));
    let open = || TcpStream::connect(local(server.ports.http)).expect("connect");
    let others: Vec<_> = (0..3).map(|_| open()).collect();
    until("all are counted", || (server.total("shardcast_connections", "") == 3.0).then_some(()));
    assert_eq!(open().read(&mut [0; 1]).unwrap_or(0), 0, "it is closed");
    assert_eq!(server.total("shardcast_connections_refused_total", ""), 1.0);
    server.wait_for_log(&["max_connections of 3 reached"]);
    drop(others);
    until("there is room again", || (server.total("shardcast_connections", "") == 0.0).then_some(()));
    server.stop();
}

#[test]
fn a_shard_has_so_many_streams() {
    let conf = "srs_log_tank console; max_streams_per_shard 2; http_server { enabled on; } http_api { enabled on; }
        srt_server { enabled on; }
        vhost __defaultVhost__ { http_remux { enabled on; } srt { enabled on; } hls { enabled on; } }";
    let server = Server::of_conf(conf, 1);
    let _publisher = Publisher::looping(&server, "live/a", Media::Plain);
    server.wait_until_live("live/a");
    let waiting = Viewer::open(server.ports.http, "live/b");
    server.wait_for_clients("live/b", 1);

    let ffmpeg = |input: &str, output: &[&str]| {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-re", "-i", input, "-c", "copy"]).args(output);
        Process::start(&mut command).finish(PATIENCE)
    };
    let file = Media::Short.file().display().to_string();
    let refused = ffmpeg(&file, &["-f", "flv", &server.rtmp("live/c")]);
    assert!(!refused.status.success() && refused.stderr.join("\n").contains("no place for another stream"));
    assert!(!ffmpeg(&file, &["-f", "mpegts", &server.srt_in("live/c")]).status.success());
    let refused = refusal::of(&server, Client::play(&server.rtmp("live/c"), [7; 32]).expect("an RTMP URL"));
    assert!(matches!(&refused, ClientError::Refused { code, .. } if code == "NetStream.Play.Failed"), "{refused}");
    assert!(!ffmpeg(&server.srt("live/c"), &["-f", "null", "-"]).status.success());
    assert_eq!(http::request(server.ports.http, "GET", "/live/c.flv", &[]).status, 503);
    // An SRT caller may say once more what it wants before it hears the answer.
    assert!(server.total("shardcast_streams_refused_total", "") >= 5.0);
    server.wait_for_log(&["/live/c refused: max_streams_per_shard of 2 reached"]);

    // Those that are there go on, and their place becomes another's.
    let again = Viewer::open(server.ports.http, "live/a");
    until("another viewer plays", || again.newest_ms());
    drop(waiting);
    until("there is room again", || {
        ffmpeg(&file, &["-f", "flv", &server.rtmp("live/c")]).status.success().then_some(())
    });
    // Of one that has ended there are segments still, for which nobody asks.
    server.wait_for_log(&["/live/c has no publisher any more"]);
    assert!(ffmpeg(&file, &["-f", "flv", &server.rtmp("live/d")]).status.success());
    server.wait_for_log(&["/live/c HLS is removed: another stream needs its place"]);
    server.stop();
}

#[test]
fn nobody_waits_for_a_stream_that_its_home_has_no_place_for() {
    let conf = "srs_log_tank console; max_streams_per_shard 1; http_server { enabled on; } http_api { enabled on; }
        srt_server { enabled on; } rtc_server { enabled on; }
        vhost __defaultVhost__ { http_remux { enabled on; } srt { enabled on; } rtc { enabled on; } }";
    let server = Server::of_conf(conf, 2);
    let held = stream_at(0, 2, "held");
    let _publisher = Publisher::looping(&server, &held, Media::Plain);
    server.wait_until_live(&held);
    let other = stream_at(0, 2, "other");
    // One shard is the stream's home, the other asks that.
    for _ in 0..50 {
        assert_eq!(http::request(server.ports.http, "GET", &format!("/{other}.flv"), &[]).status, 503);
        let refused = refusal::of(&server, Client::play(&server.rtmp(&other), [7; 32]).expect("an RTMP URL"));
        assert!(matches!(&refused, ClientError::Refused { code, .. } if code == "NetStream.Play.Failed"), "{refused}");
    }
    let (app, name) = other.split_once('/').expect("app/name");
    let whep = format!("/rtc/v1/whep/?app={app}&stream={name}");
    assert_eq!(http::post(server.ports.api, "POST", &whep, "v=0").status, 503);
    // An SRT caller is answered at once, and ended where the home says no.
    until("the shard that is not its home has an SRT caller", || {
        Command::new("ffprobe").args(["-v", "quiet", &server.srt(&other)]).status().expect("ffprobe");
        (!server.log().with(&["its home shard has too many streams"]).is_empty()).then_some(())
    });
    server.stop();
}

#[test]
fn the_apis_port_has_1024_connections_and_an_offer_64_kb() {
    let server = Server::start(1);
    let offer = http::post(server.ports.api, "POST", "/rtc/v1/whep/?app=live&stream=long", &"v".repeat(65_537));
    assert_eq!(offer.status, 400, "{}", offer.text());
    let open = || TcpStream::connect(local(server.ports.api)).expect("connect");
    let others: Vec<_> = (0..1_024).map(|_| open()).collect();
    let mut refused = open();
    refused.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    assert_eq!(refused.read(&mut [0; 1]).unwrap_or(0), 0, "it is closed");
    server.wait_for_log(&["API connection of", "refused: 1024 are open"]);
    drop(others);
    until("there is room again", || {
        let mut socket = open();
        socket.write_all(b"GET /api/v1/versions HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.0 200").then_some(())
    });
    server.stop();
}
