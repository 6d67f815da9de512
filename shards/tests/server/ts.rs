//! HTTP-TS: what ffmpeg makes of it, judged by the file that was published.

use crate::support::{
    PATIENCE, http,
    media::Media,
    probe::{Decoder, Kind, Packet, Probe},
    publisher::Publisher,
    server::Server,
    stage::{MIN_PICTURES, PLAY_SECONDS, Stage},
    until,
    viewer::{PAUSE_MS, SKIPPING, Viewer, narrow},
    within,
};
use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

const TICKS_PER_MS: i64 = 90;
/// What ffmpeg's publisher may add when it rounds times to milliseconds once more.
const ROUNDING: i64 = TICKS_PER_MS;

#[test]
fn plays_on_one_shard() {
    streams_play(1);
}

#[test]
fn plays_across_two_shards() {
    streams_play(2);
}

#[test]
fn plays_across_sixteen_shards() {
    streams_play(16);
}

fn streams_play(shards: usize) {
    let Stage { server, streams, publishers: _publishers } = Stage::open(shards);
    let decoders = streams.each_ref().map(|(name, _)| Decoder::seconds(&server.ts(name), PLAY_SECONDS));
    for ((name, media), decoder) in streams.iter().zip(decoders) {
        decoder.finish(PATIENCE).assert_is_of(name, *media, MIN_PICTURES);
    }
    server.stop();
}

#[test]
fn every_frame_arrives_with_its_times() {
    let server = Server::start(2);
    for media in [Media::Plain, Media::Reordered] {
        let name = format!("live/whole{media:?}");
        let probe = Probe::whole(server.ts(&name));
        server.wait_for_clients(&name, 1);
        Publisher::once(&server, &name, media).finish(Duration::from_secs(10));
        let source = Probe::whole(media.file()).finish(PATIENCE);
        let start = source.packets.iter().position(|packet| packet.keyframe && packet.kind == Kind::Video);
        let sent = &source.packets[start.expect("a keyframe")..];
        let probed = probe.finish(PATIENCE);
        assert_eq!(probed.size, media.size());
        let mut moved = HashMap::new();
        for kind in [Kind::Video, Kind::Audio] {
            let got = probed.of(kind);
            let sent: Vec<_> = sent.iter().filter(|packet| packet.kind == kind).collect();
            assert_eq!(got.len(), sent.len(), "{media:?} {kind:?}");
            assert!(got.windows(2).all(|pair| pair[0].dts_ms < pair[1].dts_ms), "{media:?} {kind:?} runs back");
            for (got, sent) in got.into_iter().zip(sent) {
                // ffprobe counts the 90 kHz of the transport stream.
                let Packet { dts_ms: dts, pts_ms: pts, keyframe, .. } = *got;
                let distance = dts - sent.dts_ms * TICKS_PER_MS;
                let known = *moved.entry("all").or_insert(distance);
                assert!((distance - known).abs() <= ROUNDING, "{got:?} of {sent:?}: {distance}, others {known}");
                assert_eq!(pts - dts, (sent.pts_ms - sent.dts_ms) * TICKS_PER_MS, "{got:?} of {sent:?}");
                assert_eq!(keyframe, sent.keyframe, "{got:?} of {sent:?}");
            }
        }
    }
    server.stop();
}

#[test]
fn answers_as_mpeg_ts_in_either_http() {
    let server = Server::start(2);
    let head = http::request(server.ports.http, "HEAD", "/live/a.ts", &[]);
    let told = ["content-type", "transfer-encoding"].map(|name| head.header(name));
    assert_eq!((head.status, told), (200, [Some("video/mp2t"), Some("chunked")]));
    let mut old = ask_1_0(&server, "live/a");
    let _publisher = Publisher::looping(&server, "live/a", Media::Short);
    let mut bytes = Vec::new();
    let body = until("a packet", || {
        let mut buffer = [0; 4096];
        let count = old.read(&mut buffer).unwrap_or(0);
        bytes.extend_from_slice(&buffer[..count]);
        let answer = http::Response::parse(&bytes)?;
        assert_eq!((answer.header("content-type"), answer.header("transfer-encoding")), (Some("video/mp2t"), None));
        (answer.body.len() > 188 * 4).then_some(answer.body)
    });
    assert!((0..4).all(|n| body[n * 188] == 0x47));
    server.stop();
}

#[test]
fn mount_for_ts_serves_no_flv() {
    let server = Server::of_conf(
        "srs_log_tank console; http_server { enabled on; } http_api { enabled on; }
        vhost __defaultVhost__ { http_remux { enabled on; mount [vhost]/[app]/[stream].ts; } }",
        1,
    );
    assert_eq!(http::request(server.ports.http, "HEAD", "/live/a.ts", &[]).status, 200);
    assert_eq!(http::request(server.ports.http, "HEAD", "/live/a.flv", &[]).status, 404);
    server.stop();
}

#[test]
fn what_a_laggard_gets_decodes_over_its_skip() {
    let server = Server::of_conf(SKIPPING, 2);
    let fast = Viewer::open(server.ports.http, "live/heavy");
    let mut laggard = ask_1_0(&server, "live/heavy");
    server.wait_for_clients("live/heavy", 2);
    let publisher = Publisher::looping(&server, "live/heavy", Media::Heavy);
    let live_up_to = |time_ms| until("the stream goes on", || fast.newest_ms().filter(|newest| *newest >= time_ms));

    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while bytes.len() < 1 << 20 {
        let count = laggard.read(&mut buffer).expect("a second of stream");
        bytes.extend_from_slice(&buffer[..count]);
    }
    let now = live_up_to(1_000);
    live_up_to(now + PAUSE_MS);
    let peer = laggard.local_addr().expect("its address").to_string();
    let mut publisher = Some(publisher);
    within(PATIENCE, "the laggard has all", || {
        loop {
            match laggard.read(&mut buffer) {
                Ok(0) => return Some(()),
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("the laggard: {error}"),
            }
            // It has skipped: the stream may end once it has gone on.
            if publisher.is_some() && !server.log().with(&["viewer", &peer, "ms behind, skipped"]).is_empty() {
                live_up_to(fast.newest_ms().unwrap_or(0) + 1_000);
                publisher = None;
            }
        }
    });
    assert_eq!(server.log().with(&["viewer", &peer, "ms behind, skipped"]).len(), 1);
    let body = http::Response::parse(&bytes).expect("an answer").body;
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&body).expect("write a file");
    let probed = Probe::whole(file.path()).finish(PATIENCE);
    let pictures = probed.of(Kind::Video);
    let gaps: Vec<_> = pictures.windows(2).filter(|pair| pair[1].dts_ms - pair[0].dts_ms > 80 * TICKS_PER_MS).collect();
    assert_eq!(gaps.len(), 1, "one skip");
    assert!(gaps[0][1].keyframe);
    assert_eq!(Decoder::whole(file.path()).finish(PATIENCE).pictures.len(), pictures.len());
    server.stop();
}

/// A viewer over HTTP/1.0 with a small receive buffer.
fn ask_1_0(server: &Server, stream: &str) -> TcpStream {
    let mut socket = narrow(server.ports.http);
    socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    socket.write_all(format!("GET /{stream}.ts HTTP/1.0\r\n\r\n").as_bytes()).expect("send a request");
    socket
}
