//! Streams that have been up for weeks, where the wire's clocks come round: 2^31 ms are 24.8 days, 2^32 49.7. Nobody
//! waits so long: a publisher whose frames are almost ten seconds apart, which is no jump yet, brings a stream there.

use crate::{
    page,
    support::{
        PATIENCE,
        media::Media,
        probe::{Decoder, Kind, Probe},
        process::Process,
        publisher::Publisher,
        server::{Server, stream_at},
        speaker::{self, Speaker},
        until,
        viewer::Viewer,
    },
};
use serde_json::Value;
use shardcast_engine::{
    codec::Kind as Track,
    frame::{Frame, Media as Brought},
    time::Timestamp,
};
use std::{path::Path, process::Command, time::Duration};

/// Between two frames of sound.
const STRIDE_MS: i64 = 9_900;

/// Publishes sound up to stream time `to_ms`, and leaves.
fn leap(server: &Server, stream: &str, to_ms: i64) {
    let (mut track, mut sound) = (None, None);
    for media in speaker::media(&Media::Plain.file()) {
        match media {
            Brought::Track(found) if found.kind() == Track::Audio => track = Some(found),
            Brought::Frame(frame) if frame.kind == Track::Audio => sound = Some(frame),
            _ => {}
        }
    }
    let mut speaker = Speaker::publish(server, stream);
    speaker.track(track.expect("sound"), Timestamp::ZERO);
    let sound = sound.expect("sound");
    for ms in std::iter::once(0).chain((to_ms % STRIDE_MS..=to_ms).step_by(STRIDE_MS as usize)) {
        let dts = Timestamp::from_ms(ms);
        speaker.frame(&Frame { dts, pts: dts, ..sound.clone() });
    }
    speaker.finish();
}

const WRAP: i64 = 1 << 31;

/// Viewers wait for the next publisher for so long as a browser takes to start.
const CONF: &str = "srs_log_tank console; http_server { enabled on; } http_api { enabled on; }
    vhost __defaultVhost__ { http_remux { enabled on; } publish { republish_grace 15000; } }";

#[test]
fn players_go_on_where_the_wires_clocks_come_round() {
    let server = Server::of_conf(CONF, 1);
    let stream = "live/weeks";
    // One who has watched from the first day on.
    let elder = Viewer::open(server.ports.http, stream);
    server.wait_for_clients(stream, 1);
    leap(&server, stream, WRAP - 5_000);
    let browser = browser(&server, stream);
    let players = [server.flv(stream), server.ts(stream), server.rtmp(stream)].map(|url| Decoder::seconds(&url, 8));
    let probe = Probe::seconds(&server.flv(stream), 8.0);
    server.wait_for_clients(stream, 5 + u64::from(browser.is_some()));
    let publisher = Publisher::looping(&server, stream, Media::Plain);
    for (player, what) in players.into_iter().zip(["FLV", "TS", "RTMP"]) {
        player.finish(PATIENCE).assert_is_of(what, Media::Plain, 195);
    }
    // FLV counts from where the stream was half as old.
    let probed = probe.finish(PATIENCE);
    for kind in [Kind::Video, Kind::Audio] {
        let times: Vec<_> = probed.of(kind).iter().map(|packet| packet.dts_ms - WRAP / 2).collect();
        assert!(times[0] < 0 && *times.last().expect("packets") > 0, "{kind:?}: {times:?}");
        assert!(times.is_sorted_by(|a, b| (1..=40).contains(&(b - a))), "{kind:?}: {times:?}");
    }
    // To one who is so old it would be negative now.
    until("its body ends", || elder.ended().then_some(()));
    let newest = elder.newest_ms().expect("pictures");
    assert!((WRAP - 5_000..WRAP).contains(&newest.into()), "{newest}");
    server.wait_for_log(&[stream, "is 25 days old to 1 viewers"]);
    if let Some(browser) = browser {
        browser.lines.wait_for(&["listening"], Duration::from_secs(60));
        drop(publisher);
        let seen = browser.finish(Duration::from_secs(60));
        assert!(seen.status.success(), "{}", seen.stderr.join("\n"));
    }
    server.stop();
}

/// Chromium, which waits for FLV, and plays 8 s of that and of MPEG-TS.
fn browser(server: &Server, stream: &str) -> Option<Process> {
    let (Ok(python), Ok(chromium)) = (std::env::var("SHARDCAST_PYTHON"), std::env::var("SHARDCAST_CHROMIUM")) else {
        eprintln!("SKIPPED: weeks are not tested in a browser: set SHARDCAST_PYTHON and SHARDCAST_CHROMIUM");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/websocket.py");
    let at = |scheme: &str, path: &str| format!("{scheme}://127.0.0.1:{}/{path}", server.ports.http);
    let urls = [at("http", ""), at("ws", &format!("{stream}.flv")), at("ws", &format!("{stream}.ts"))];
    let browser = Process::start(Command::new(python).arg(script).arg(chromium).args(urls).arg("8"));
    browser.lines.wait_for(&["loading"], Duration::from_secs(120));
    Some(browser)
}

#[test]
fn players_go_on_where_32_bits_are_full() {
    let server = Server::of_conf(CONF, 2);
    for home in 0..2 {
        let stream = &stream_at(home, 2, "weeks");
        let elder = Viewer::open(server.ports.http, stream);
        server.wait_for_clients(stream, 1);
        leap(&server, stream, 2 * WRAP - 4_000);
        // Then all of the leap has come to the viewers' shard.
        until("the elder's body ends", || elder.ended().then_some(()));
        server.wait_for_clients(stream, 0);
        let players = [server.flv(stream), server.ts(stream), server.rtmp(stream)].map(|url| Decoder::seconds(&url, 6));
        server.wait_for_clients(stream, 3);
        let _publisher = Publisher::looping(&server, stream, Media::Plain);
        for (player, what) in players.into_iter().zip(["FLV", "TS", "RTMP"]) {
            player.finish(PATIENCE).assert_is_of(what, Media::Plain, 145);
        }
    }
    server.stop();
}

/// MPEG-TS counts 90 kHz in 33 bits (ISO 13818-1 §2.4.3.7), which is 26.5 hours.
#[test]
fn hls_goes_on_where_33_bits_are_full() {
    const WRAP: i64 = (1 << 33) / 90;
    let conf = CONF.replace("http_remux", "hls { enabled on; hls_fragment 1; hls_window 12; } http_remux");
    let server = Server::of_conf(&conf, 1);
    let stream = "live/day";
    leap(&server, stream, WRAP - 40_000);
    let _publisher = Publisher::looping(&server, stream, Media::Plain);
    let viewer = Viewer::open(server.ports.http, stream);
    let pictures = || viewer.newest_ms().map(i64::from);
    let begun = until("pictures come", pictures);
    assert!((WRAP - 41_000..WRAP - 30_000).contains(&begun), "{begun}");
    // A segment with them is there.
    until("some are old", || pictures().filter(|newest| *newest > begun + 5_000));
    let player = Decoder::seconds(&server.hls(stream), 45);
    let browser = page::browser(&server, &format!("stream={stream}&play=hls"), &["45"]);
    until("both play", || {
        (server.total("shardcast_hls_viewers", "") >= 1.0 + f64::from(browser.is_some())).then_some(())
    });
    assert!(pictures() < Some(WRAP - 5_000), "they came too late");
    player.finish(Duration::from_secs(90)).assert_is_of("HLS", Media::Plain, 1_100);
    if let Some(browser) = browser {
        let seen = page::answer(browser);
        let played = |name: &str| ["first", "later"].map(|at| seen[at][name].as_f64().expect("a number"));
        let ([time, later], [frames, more]) = (played("time"), played("frames"));
        assert!(later > time + 45.0 && more > frames + 1_000.0, "{seen}");
        assert_eq!(seen["errors"], Value::Array(Vec::new()));
    }
    server.stop();
}

/// ffmpeg, whose FLV has 31 bits, at each place where a publisher's clock may come round.
#[test]
fn a_publishers_clock_may_come_round() {
    let server = Server::start(2);
    for (bits, home) in [(24, 0), (31, 1), (32, 0)] {
        let stream = &stream_at(home, 2, &format!("bits{bits}"));
        let player = Decoder::seconds(&server.rtmp(stream), 6);
        let probe = Probe::seconds(&server.flv(stream), 6.0);
        server.wait_for_clients(stream, 2);
        let offset = format!("{}ms", (1i64 << bits) - 3_000);
        let mut publish = Command::new("ffmpeg");
        publish.args(["-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(Media::Plain.file());
        publish.args(["-c", "copy", "-output_ts_offset", &offset, "-f", "flv", &server.rtmp(stream)]);
        let _publisher = Process::start(&mut publish);
        player.finish(PATIENCE).assert_is_of(&format!("{bits} bits"), Media::Plain, 145);
        let probed = probe.finish(PATIENCE);
        for kind in [Kind::Video, Kind::Audio] {
            let times: Vec<_> = probed.of(kind).iter().map(|packet| packet.dts_ms).collect();
            assert!(times.is_sorted_by(|a, b| (1..=60).contains(&(b - a))), "{bits} bits, {kind:?}: {times:?}");
        }
    }
    server.stop();
}
