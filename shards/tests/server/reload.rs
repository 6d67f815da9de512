//! The configuration is read again while people watch.

use crate::support::{
    PATIENCE,
    certificate::{Certificate, shown},
    flv, http,
    media::Media,
    probe::Decoder,
    publisher::Publisher,
    server::{Ports, Server, local},
    until,
    viewer::Viewer,
};
use serde_json::Value;
use shardcast_engine::frame;
use shardcast_protocols::rtmp::client::{Client, ClientEvent, ClientOutput};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

const SHARDS: usize = 2;

/// With the two vhosts' settings, and what else the file has.
fn conf(ports: Ports, rtmp: &str, default: &str, rest: &str) -> String {
    format!(
        "listen 127.0.0.1:{} {rtmp};
         http_server {{ enabled on; listen 127.0.0.1:{}; }}
         http_api {{ enabled on; listen 127.0.0.1:{}; raw_api {{ enabled on; allow_reload on; }} }}
         vhost __defaultVhost__ {{ http_remux {{ enabled on; }} {default} }}
         {rest}",
        ports.rtmp, ports.http, ports.api,
    )
}

fn plain(ports: Ports) -> String {
    conf(ports, "", "", "")
}

fn reload(server: &Server) -> Value {
    let before = fetch(server)["rid"].clone();
    assert_eq!(http::request(server.ports.api, "GET", "/api/v1/raw?rpc=reload", &[]).json()["code"], 0);
    until("the reload is done", || {
        let now = fetch(server);
        (now["rid"] != before && (now["err"] != 0 || now["state"] == 90)).then_some(now)
    })
}

fn fetch(server: &Server) -> Value {
    let answer = http::request(server.ports.api, "GET", "/api/v1/raw?rpc=reload-fetch", &[]).json();
    assert_eq!(answer["code"], 0);
    answer["data"].clone()
}

#[test]
fn who_watches_does_not_notice_and_ports_come_and_go() {
    let server = Server::of_ports(plain, SHARDS);
    let viewers = [(); 4].map(|()| Viewer::open(server.ports.http, "live/on"));
    let _publisher = Publisher::looping(&server, "live/on", Media::Plain);
    let start = until("pictures", || viewers[0].newest_ms());

    let more = Ports::free();
    let second = format!("127.0.0.1:{}", more.rtmp);
    server.rewrite(&conf(server.ports, &second, "play { queue_length 20; mw_latency 100; }", "vhost b.example {}"));
    server.signal("HUP");
    until("the new port listens", || TcpStream::connect(local(more.rtmp)).ok());
    let by_new_port = format!("rtmp://127.0.0.1:{}/live/new", more.rtmp);
    let mut stays = Publisher::looping_to(&by_new_port, Media::Plain).process;
    server.wait_until_live("live/new");

    // The port goes, the session that came by it stays.
    server.rewrite(&plain(server.ports));
    assert_eq!(reload(&server)["err"], 0);
    until("the port is closed", || TcpStream::connect(local(more.rtmp)).is_err().then_some(()));
    for _ in 0..5 {
        assert_eq!(reload(&server)["err"], 0, "nothing has changed");
    }
    let frames = server.stream("live/new").expect("the stream")["frames"].as_u64();
    until("the session goes on", || {
        (server.stream("live/new")?["frames"].as_u64() > frames.map(|frames| frames + 25)).then_some(())
    });
    assert!(stays.ended().is_none());

    let end = start + 4_000;
    for viewer in &viewers {
        until("more pictures", || viewer.newest_ms().filter(|newest| *newest > end));
        assert!(!viewer.ended());
        let pictures: Vec<_> = viewer.frames().into_iter().filter(|frame| frame.kind == flv::VIDEO).collect();
        for pair in pictures.windows(2) {
            let step_ms = pair[1].time_ms - pair[0].time_ms;
            assert!((30..=80).contains(&step_ms), "{step_ms} ms between two pictures");
        }
    }
    assert_eq!(server.total("shardcast_reloads_total", "result=\"ok\""), 7.0);
    server.stop();
}

/// A reload that keeps a shard from its viewers for longer is noticed.
const STALL: Duration = Duration::from_millis(300);
/// For so long frames gather at the most.
const WINDOW: Duration = Duration::from_millis(200);

/// Harmless changes, and one that ends another vhost's publisher.
#[test]
fn five_hundred_viewers_miss_no_picture() {
    let with = |ports, default: &str, b: &str| {
        conf(ports, "", default, &format!("vhost b.example {{ http_remux {{ enabled on; }} {b} }}"))
    };
    let server = Server::of_ports(|ports| with(ports, "", ""), SHARDS);
    let viewers: Vec<_> = (0..500).map(|_| Viewer::open(server.ports.http, "live/on")).collect();
    let _publisher = Publisher::looping(&server, "live/on", Media::Tiny);
    let other = Publisher::looping(&server, "live/off?vhost=b.example", Media::Tiny);
    server.wait_until_live("b.example/live/off");
    let newest = || viewers.iter().map(Viewer::newest_ms);
    let go_on = || {
        let wanted = newest().max().flatten().unwrap_or(0) + 1_000;
        until("all go on", || newest().all(|newest| newest > Some(wanted)).then_some(()));
    };
    // Of the quarter that waited longest, the least: a shard that stands still is in it, a thread of ours is not.
    let silence = |start| {
        let mut silences: Vec<_> = viewers.iter().map(|viewer| viewer.silence(start)).collect();
        silences.sort();
        silences[silences.len() * 3 / 4]
    };
    until("all have pictures", || newest().all(|newest| newest.is_some()).then_some(()));
    for (default, b) in [
        ("play { mw_latency 200; queue_length 20; }", ""),
        ("play { mw_latency 200; queue_length 20; }", "hls { enabled on; }"),
        ("", "enabled off;"),
        ("hls { enabled on; }", "enabled off;"),
    ] {
        let start = Instant::now();
        go_on();
        let before = silence(start);
        let start = Instant::now();
        server.rewrite(&with(server.ports, default, b));
        assert_eq!(reload(&server)["err"], 0);
        go_on();
        let during = silence(start);
        eprintln!("nothing came for {before:?} before the reload, for {during:?} with it");
        assert!(during < before.max(WINDOW) + STALL, "{during:?} with the reload, {before:?} before it");
    }
    assert!(!other.process.finish(crate::support::PATIENCE).status.success());
    for viewer in &viewers {
        assert!(!viewer.ended());
        let pictures: Vec<_> = viewer.frames().into_iter().filter(|frame| frame.kind == flv::VIDEO).collect();
        for pair in pictures.windows(2) {
            let step_ms = pair[1].time_ms - pair[0].time_ms;
            assert!((95..=105).contains(&step_ms), "{step_ms} ms between two pictures");
        }
    }
    assert_eq!(server.total("shardcast_viewer_skips_total", ""), 0.0);
    server.wait_for_clients("live/on", 501);
    server.stop();
}

#[test]
fn tls_comes_changes_its_certificate_and_goes() {
    let server = Server::of_ports(plain, SHARDS);
    let folder = tempfile::tempdir().expect("a folder");
    let hosts = ["a.example", "b.example"];
    let [a, b] = hosts.map(|host| Certificate::make(folder.path(), host, host));
    let Ports { rtmp: port, .. } = Ports::free();
    let with = |files: &str| {
        let rtmps = format!("rtmps {{ enabled on; listen 127.0.0.1:{port}; {files} }}");
        conf(server.ports, "", "", &rtmps)
    };
    for (certificate, host) in [&a, &b].into_iter().zip(hosts) {
        server.rewrite(&with(&certificate.conf()));
        assert_eq!(reload(&server)["err"], 0);
        until("the port listens", || TcpStream::connect(local(port)).ok());
        assert_eq!(shown(port, "any.example"), host);
    }
    server.rewrite(&with(&a.conf().replace("a.example.key", "b.example.key")));
    let told = reload(&server);
    assert_eq!(told["err"], 1023, "{told}");
    assert_eq!(shown(port, "any.example"), "b.example", "the old one stays");
    server.rewrite(&plain(server.ports));
    assert_eq!(reload(&server)["err"], 0);
    until("the port is closed", || TcpStream::connect(local(port)).is_err().then_some(()));
    server.stop();
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let server = Server::of_ports(plain, SHARDS);
    let taken = std::net::TcpListener::bind(local(0)).expect("a port of ours");
    let taken_port = taken.local_addr().expect("its address").port();
    let elsewhere = Ports::free();
    for (bad, number, words) in [
        ("listen 1935;\nvhost a {\n  nonsense on;\n}\n".to_owned(), 1023, "test.conf:3:"),
        ("listen 1935;\nvhost a {\n".to_owned(), 1023, "unexpected end of file"),
        (plain(Ports { rtmp: taken_port, http: elsewhere.http, ..server.ports }), 1005, "is taken by"),
    ] {
        server.rewrite(&bad);
        let told = reload(&server);
        assert_eq!(told["err"], number, "{told}");
        assert!(told["msg"].as_str().is_some_and(|told| told.contains(words)), "{told}");
        assert!(TcpStream::connect(local(elsewhere.http)).is_err(), "a part of it is in force");
    }
    let _publisher = Publisher::looping(&server, "live/still", Media::Plain);
    server.wait_until_live("live/still");
    assert_eq!(server.total("shardcast_reloads_total", "result=\"failed\""), 3.0);
    server.stop();
}

#[test]
fn what_a_vhost_is_told_acts_on_its_sessions_alone() {
    let with = |ports, b: &str| conf(ports, "", "", &format!("vhost b.example {{ http_remux {{ enabled on; }} {b} }}"));
    let server = Server::of_ports(|ports| with(ports, ""), SHARDS);
    let _default = Publisher::looping(&server, "live/a", Media::Plain);
    let publisher = Publisher::looping(&server, "live/b?vhost=b.example", Media::Plain);
    let viewer = Viewer::open(server.ports.http, "live/a");
    server.wait_until_live("live/a");
    let page = |path: &str| http::request(server.ports.http, "GET", path, &[]).status;
    let of_b = |server: &Server| {
        let streams = http::request(server.ports.api, "GET", "/api/v1/streams/?count=500", &[]).json();
        let streams = streams["streams"].as_array().expect("streams").clone();
        streams.into_iter().find(|entry| entry["name"] == "b" && entry["publish"]["active"] == true)
    };
    until("the other vhost's stream is live", || of_b(&server));

    // HLS begins with the publisher in the middle.
    assert_eq!(page("/live/b.m3u8?vhost=b.example"), 404);
    server.rewrite(&with(server.ports, "hls { enabled on; hls_fragment 1; }"));
    assert_eq!(reload(&server)["err"], 0);
    until("a playlist", || (page("/live/b.m3u8?vhost=b.example") == 200).then_some(()));
    assert_eq!(page("/live/a.m3u8"), 404);

    // The vhost goes: its publisher is sent away, and may not come back by the default one unseen.
    let now = viewer.newest_ms().expect("pictures");
    server.rewrite(&with(server.ports, "enabled off;"));
    assert_eq!(reload(&server)["err"], 0);
    until("its publisher is gone", || of_b(&server).is_none().then_some(()));
    assert!(!publisher.process.finish(crate::support::PATIENCE).status.success());
    until("the other goes on", || viewer.newest_ms().filter(|newest| *newest > now + 1_000));
    server.stop();
}

#[test]
fn a_file_that_changes_is_read_again_by_itself() {
    let watched = |ports, rest: &str| conf(ports, "", "", &format!("inotify_auto_reload on; {rest}"));
    let server = Server::of_ports(|ports| watched(ports, ""), SHARDS);
    let before = fetch(&server)["rid"].clone();
    server.rewrite(&watched(server.ports, "vhost c.example {}"));
    until("the file is read", || (fetch(&server)["rid"] != before).then_some(()));
    assert_eq!(fetch(&server)["err"], 0);
    server.stop();
}

#[test]
fn nobody_reloads_who_may_not() {
    let code = |server: &Server, query: &str| {
        http::request(server.ports.api, "GET", &format!("/api/v1/raw{query}"), &[]).json()["code"].clone()
    };
    let api = |raw: &str| format!("listen 1935; http_api {{ enabled on; raw_api {{ {raw} }} }}");
    for (raw, reload, fetch, unknown) in
        [("", 1061, 1061, 1061), ("enabled on;", 1061, 0, 1060), ("enabled on; allow_reload on;", 0, 0, 1060)]
    {
        let server = Server::of_conf(&api(raw), SHARDS);
        assert_eq!(code(&server, "?rpc=raw"), 0);
        assert_eq!(code(&server, "?rpc=reload"), reload);
        assert_eq!(code(&server, "?rpc=reload-fetch"), fetch);
        assert_eq!(code(&server, "?rpc=update"), unknown);
        assert_eq!(code(&server, ""), unknown);
        server.stop();
    }
}

/// Who came before has been told another one than who comes after; both share the stream's tape.
#[test]
fn rtmp_players_are_told_the_chunk_size_that_they_get() {
    let sized = |size: u32| move |ports| conf(ports, "", &format!("chunk_size {size};"), "");
    let server = Server::of_ports(sized(60_000), 1);
    let stream = "live/sized";
    let _publisher = Publisher::looping(&server, stream, Media::Plain);
    server.wait_until_live(stream);
    let before = Decoder::seconds(&server.rtmp(stream), 6);
    server.wait_for_clients(stream, 2);
    server.rewrite(&sized(1_000)(server.ports));
    assert_eq!(reload(&server)["err"], 0);
    let after = Decoder::seconds(&server.rtmp(stream), 3);
    after.finish(PATIENCE).assert_is_of("a player of after the reload", Media::Plain, 70);
    before.finish(PATIENCE).assert_is_of("a player of before", Media::Plain, 145);
    server.stop();
}

/// Between the frames of its tape it gets answers, which are in chunks of the same size.
#[test]
fn a_players_answers_come_in_chunks_of_the_size_that_its_tape_has() {
    for sizes in [[60_000, 128], [128, 60_000]] {
        let sized = |size: u32| move |ports| conf(ports, "", &format!("chunk_size {size};"), "");
        let server = Server::of_ports(sized(sizes[0]), 1);
        let stream = "live/sized";
        let _publisher = Publisher::looping(&server, stream, Media::Plain);
        server.wait_until_live(stream);
        let _before = Decoder::seconds(&server.rtmp(stream), 600);
        server.wait_for_clients(stream, 2);
        server.rewrite(&sized(sizes[1])(server.ports));
        assert_eq!(reload(&server)["err"], 0);
        let mut player = Client::play(&server.rtmp(stream), [7; 32]).expect("an RTMP URL");
        let mut socket = TcpStream::connect(local(server.ports.rtmp)).expect("connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let (mut buffer, mut frames, mut held, mut went_on) = ([0; 4096], 0, 0, 0);
        while went_on < 10 {
            while let Some(output) = player.poll() {
                match output {
                    ClientOutput::Send(bytes) => socket.write_all(&bytes).expect("send"),
                    ClientOutput::Event(ClientEvent::Media(frame::Media::Frame(_))) => {
                        frames += 1;
                        went_on += u32::from(held > 0);
                        if frames % 10 == 0 {
                            player.pause(true);
                        }
                    }
                    ClientOutput::Event(ClientEvent::Status { code, .. }) if code == "NetStream.Pause.Notify" => {
                        held += 1;
                        player.pause(false);
                    }
                    ClientOutput::Event(_) => {}
                }
            }
            let count = socket.read(&mut buffer).expect("more");
            player.input(&buffer[..count]).expect("chunks as they were announced");
        }
        server.stop();
    }
}
