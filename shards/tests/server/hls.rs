//! HLS: what ffmpeg makes of it, judged by the file that was published; the playlist, and the files on disk.

use crate::support::{
    PATIENCE, http,
    media::Media,
    probe::{Decoder, Kind, Probe},
    publisher::Publisher,
    server::Server,
    stage::{MIN_PICTURES, PLAY_SECONDS, Stage},
    until,
};
use serde_json::Value;
use std::{fs, path::Path, time::Duration};

#[test]
fn plays_on_one_shard() {
    streams_play(1);
}

#[test]
fn plays_across_two_shards() {
    streams_play(2);
}

fn streams_play(shards: usize) {
    let Stage { server, streams, publishers: _publishers } = Stage::open(shards);
    for (name, media) in &streams {
        wait_for_segments(&server, name, 3);
        let decoder = Decoder::seconds(&server.hls(name), PLAY_SECONDS);
        decoder.finish(PATIENCE).assert_is_of(name, *media, MIN_PICTURES);
    }
    assert!(server.total("shardcast_hls_segments_total", "") >= 6.0);
    server.stop();
}

#[test]
fn segment_and_stream_of_the_same_name_are_told_apart() {
    let server = Server::start(2);
    let _publisher = Publisher::looping(&server, "live/cam", Media::Short);
    wait_for_segments(&server, "live/cam", 2);
    let playlist = server.playlist("live/cam");
    assert_eq!(playlist.header("content-type"), Some("application/vnd.apple.mpegurl"));
    let text = playlist.text();
    let entry = text.lines().rfind(|line| !line.starts_with('#')).expect("an entry");
    let entry = entry.split('?').next().unwrap_or_default();
    let segment = server.get(&format!("/live/{entry}"));
    let told = ["content-type", "transfer-encoding"].map(|name| segment.header(name));
    assert_eq!((segment.status, told), (200, [Some("video/mp2t"), None]));
    assert!(segment.body.len().is_multiple_of(188) && segment.body[0] == 0x47);
    // No such segment: it is the name of a stream that may come.
    let live = http::request(server.ports.http, "HEAD", "/live/cam-4000000.ts", &[]);
    assert_eq!((live.status, live.header("transfer-encoding")), (200, Some("chunked")));
    // And without a stream there is no playlist.
    assert_eq!(server.get("/live/nobody.m3u8").status, 404);
    server.stop();
}

#[test]
fn next_publisher_goes_on_behind_a_discontinuity() {
    let server = Server::start(2);
    for round in 1..=2 {
        Publisher::once(&server, "live/again", Media::Short).finish(Duration::from_secs(4));
        server.wait_until_over("live/again");
        wait_for_segments(&server, "live/again", 2 * round);
    }
    let text = server.playlist("live/again").text();
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{text}");
    assert!(text.contains("again-0.ts") && text.contains("again-3.ts"), "{text}");
    assert!(!text.contains("#EXT-X-ENDLIST"), "another publisher may come: {text}");
    server.stop();
}

#[test]
fn files_are_written_and_go_with_the_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let conf = format!(
        "srs_log_tank console; http_server {{ enabled on; }} http_api {{ enabled on; }}
        vhost __defaultVhost__ {{ hls {{ enabled on; hls_fragment 1; hls_window 3; hls_dispose 1; hls_path {};
            hls_m3u8_file [vhost]/[app]/[stream].m3u8; hls_ts_file [vhost]/[app]/[stream]/[seq].ts; }} }}",
        folder.path().display()
    );
    let server = Server::of_conf(&conf, 2);
    Publisher::once(&server, "live/disk", Media::Plain).finish(Duration::from_secs(10));
    let playlist = folder.path().join("__defaultVhost__/live/disk.m3u8");
    let text = fs::read_to_string(&playlist).expect("a playlist");
    let entries: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!((3..=4).contains(&entries.len()), "{text}");
    assert!(entries.iter().all(|entry| entry.starts_with("disk/")), "{text}");
    let last = playlist.with_file_name(entries[entries.len() - 1]);
    let probed = Probe::whole(&last).finish(PATIENCE);
    assert_eq!(probed.size, Media::Plain.size());
    assert!(probed.of(Kind::Video)[0].keyframe && !probed.of(Kind::Audio).is_empty());
    until("the files are gone", || (count(folder.path()) == 0).then_some(()));
    assert_eq!(server.get("/__defaultVhost__/live/disk.m3u8").status, 404);
    assert_eq!(server.total("shardcast_files_failed_total", ""), 0.0);
    server.stop();
}

/// A server whose HLS viewers are gone after 2 s.
fn with_short_window(more: &str) -> Server {
    let conf = format!(
        "srs_log_tank console; http_server {{ enabled on; }} http_api {{ enabled on; }}
        vhost __defaultVhost__ {{ hls {{ enabled on; hls_fragment 1; hls_window 1; {more} }} }}
        vhost b.example {{ hls {{ enabled on; hls_fragment 1; hls_window 3; hls_master_m3u8_path_relative on; }} }}"
    );
    Server::of_conf(&conf, 2)
}

/// Those by HLS.
fn viewers(server: &Server) -> Vec<Value> {
    let list = http::request(server.ports.api, "GET", "/api/v1/clients/?count=100", &[]).json();
    let clients = list["clients"].as_array().expect("clients").clone();
    clients.into_iter().filter(|client| client["type"] == "hls-play").collect()
}

/// Entries of a playlist.
fn entries(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn viewers_are_clients_until_they_ask_no_more() {
    let server = with_short_window("");
    let _publisher = Publisher::looping(&server, "live/a", Media::Plain);
    let master = until("there is a playlist", || {
        Some(server.get("/live/a.m3u8?k=v")).filter(|answer| answer.status == 200).map(|answer| answer.text())
    });
    let id = master.split("hls_ctx=").nth(1).and_then(|rest| rest.get(..8)).expect("an id").to_owned();
    let uri = format!("/live/a.m3u8?hls_ctx={id}&k=v");
    assert_eq!(master, format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,AVERAGE-BANDWIDTH=1\n{uri}\n"));

    let playlist = server.get(&uri).text();
    let segment = entries(&playlist)[0];
    assert!(segment.starts_with("a-") && segment.ends_with(&format!(".ts?hls_ctx={id}")), "{playlist}");
    let bytes = server.get(&format!("/live/{segment}")).body.len();
    let viewer = viewers(&server).pop().expect("a viewer");
    assert_eq!(
        (&viewer["id"], &viewer["url"], &viewer["name"]),
        (&id.as_str().into(), &"/live/a".into(), &"a.m3u8".into())
    );
    assert_eq!((&viewer["tcUrl"], &viewer["ip"]), (&"http://127.0.0.1/live".into(), &"127.0.0.1".into()));
    assert_eq!((&viewer["publish"], &viewer["shard"]), (&false.into(), &Value::Null));
    assert_eq!(viewer["send_bytes"], master.len() + playlist.len() + bytes);
    let stream = server.stream("live/a").expect("the stream");
    assert_eq!((&stream["clients"], &viewer["stream"]), (&2.into(), &stream["id"]));
    assert!(stream["send_bytes"].as_u64() >= Some(bytes as u64), "{stream}");
    assert_eq!(server.total("shardcast_hls_viewers", ""), 1.0);
    server.wait_for_log(&[&id, "127.0.0.1 plays /live/a by HLS, viewer 1"]);

    // While it asks it stays; segments alone do not hold it.
    let asked = std::time::Instant::now();
    while asked.elapsed() < Duration::from_secs(4) {
        assert_eq!(server.get(&uri).status, 200);
        assert_eq!(viewers(&server).len(), 1);
    }
    server.wait_for_log(&[&id, "127.0.0.1 stops playing /live/a"]);
    assert_eq!((viewers(&server).len(), server.total("shardcast_hls_viewers", "")), (0, 0.0));
    server.wait_for_clients("live/a", 1);

    // Who comes late is taken again, under its id and with segments at once.
    assert!(server.get(&uri).text().contains("#EXTINF"));
    assert_eq!(viewers(&server)[0]["id"], id.as_str());
    server.stop();
}

#[test]
fn kicked_viewers_ask_in_vain() {
    let server = Server::start(2);
    let _publisher = Publisher::looping(&server, "live/a", Media::Plain);
    wait_for_segments(&server, "live/a", 1);
    let text = server.playlist("live/a").text();
    let kick = || http::request(server.ports.api, "DELETE", "/api/v1/clients/live-a", &[]).json()["code"].clone();
    assert_eq!(kick(), 0);
    let answer = server.playlist("live/a");
    assert_eq!((answer.status, answer.text()), (404, "HLS stream live-a is EOF".into()));
    assert_eq!(server.get(&format!("/live/{}", entries(&text)[0])).status, 404);
    assert_eq!((viewers(&server).len(), kick()), (0, 2049.into()));
    assert_eq!(server.total("shardcast_clients_kicked_total", ""), 1.0);
    server.stop();
}

#[test]
fn ids_hold_for_one_stream_and_players_may_choose_them() {
    let server = with_short_window("hls_ts_ctx off;");
    let _publisher = Publisher::looping(&server, "live/a", Media::Plain);
    let _other = Publisher::looping(&server, "live/b?vhost=b.example", Media::Plain);
    wait_for_segments(&server, "live/a", 1);
    // Chosen, and segments without it as hls_ts_ctx wants.
    assert!(entries(&server.playlist("live/a").text()).iter().all(|entry| entry.ends_with(".ts")));
    // Whoever was let in to one stream was not to another, and no id is more than a plain word.
    until("the other has a playlist", || {
        (server.get("/live/b.m3u8?vhost=b.example&hls_ctx=b").status == 200).then_some(())
    });
    for brought in ["live-a", "a%0a%23", &"a".repeat(33)] {
        let master = server.get(&format!("/live/b.m3u8?vhost=b.example&hls_ctx={brought}")).text();
        let uri = master.lines().nth(2).expect("a URI");
        let id = uri.strip_prefix("b.m3u8?hls_ctx=").and_then(|rest| rest.strip_suffix("&vhost=b.example"));
        assert!(id.is_some_and(|id| id.len() == 8 && id != brought), "{master}");
        // Its segments are found in its vhost.
        let text = server.get(&format!("/live/{uri}")).text();
        let segment = entries(&text)[0];
        assert!(segment.ends_with("&vhost=b.example"), "{text}");
        assert_eq!(server.get(&format!("/live/{segment}")).header("content-type"), Some("video/mp2t"), "{segment}");
    }
    // Nobody becomes a viewer by a HEAD.
    let before = viewers(&server).len();
    assert_eq!(http::request(server.ports.http, "HEAD", "/live/a.m3u8", &[]).status, 200);
    assert_eq!(viewers(&server).len(), before);
    server.stop();
}

#[test]
fn without_sessions_all_get_the_same_playlist() {
    let server = with_short_window("hls_ctx off;");
    let _publisher = Publisher::looping(&server, "live/a", Media::Plain);
    let text = until("there is a playlist", || {
        Some(server.get("/live/a.m3u8")).filter(|answer| answer.status == 200).map(|answer| answer.text())
    });
    assert!(text.contains("#EXTINF") && !text.contains("hls_ctx"), "{text}");
    assert!(!server.playlist("live/a").text().contains("hls_ctx") && viewers(&server).is_empty());
    server.stop();
}

#[test]
fn ffmpeg_is_one_viewer() {
    let server = Server::start(2);
    let _publisher = Publisher::looping(&server, "live/a", Media::Plain);
    wait_for_segments(&server, "live/a", 3);
    Decoder::seconds(&server.hls("live/a"), PLAY_SECONDS).finish(PATIENCE);
    let played: Vec<_> = viewers(&server).into_iter().filter(|viewer| viewer["id"] != "live-a").collect();
    assert_eq!(played.len(), 1, "{played:?}");
    assert!(played[0]["send_bytes"].as_u64() > Some(100_000), "{}", played[0]);
    server.stop();
}

/// Files below `folder`.
fn count(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
}

fn wait_for_segments(server: &Server, stream: &str, wanted: usize) {
    until(&format!("{stream} has {wanted} segments"), || {
        let answer = server.playlist(stream);
        let listed = if answer.status == 200 { answer.text().matches("#EXTINF").count() } else { 0 };
        (listed >= wanted).then_some(())
    });
}
