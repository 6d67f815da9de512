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
    let playlist = server.get("/live/cam.m3u8");
    assert_eq!(playlist.header("content-type"), Some("application/vnd.apple.mpegurl"));
    let text = playlist.text();
    let entry = text.lines().rfind(|line| !line.starts_with('#')).expect("an entry");
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
    let text = server.get("/live/again.m3u8").text();
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

/// Files below `folder`.
fn count(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
}

fn wait_for_segments(server: &Server, stream: &str, wanted: usize) {
    until(&format!("{stream} has {wanted} segments"), || {
        let answer = server.get(&format!("/{stream}.m3u8"));
        let listed = if answer.status == 200 { answer.text().matches("#EXTINF").count() } else { 0 };
        (listed >= wanted).then_some(())
    });
}
