//! What else real clients ask of RTMP: a part of a stream, a proxy in front, a place among others of their address, a
//! word before the server ends.

use crate::support::{
    PATIENCE, flv, http,
    media::{FRAMES_PER_SECOND, Media},
    probe::{Kind, Probe},
    process::Process,
    publisher::Publisher,
    server::{Server, local, stream_at},
    until,
    viewer::Viewer,
};
use shardcast_protocols::{
    amf::Value,
    rtmp::{
        self,
        chunk::{ChunkWriter, Header},
        message::kind,
    },
};
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

#[test]
fn rtmpdump_gets_as_much_as_it_asks_for() {
    let server = Server::start(2);
    let _publisher = Publisher::looping(&server, "live/part", Media::Plain);
    server.wait_until_live("live/part");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("part.flv");
    for seconds in [2, 4] {
        let mut command = Command::new("rtmpdump");
        command.args([
            "--quiet",
            "--live",
            "--stop",
            &seconds.to_string(),
            "--rtmp",
            &server.rtmp("live/part"),
            "--flv",
        ]);
        let dump = Process::start(command.arg(&file)).finish(PATIENCE);
        assert!(dump.status.success(), "{}: {}", dump.status, dump.stderr.join("\n"));
        let (tags, _) = flv::tags(&fs::read(&file).expect("the dump"));
        let pictures = tags.iter().filter(|tag| tag.kind == flv::VIDEO && tag.is_frame()).count();
        assert_eq!(pictures, seconds * FRAMES_PER_SECOND);
        server.wait_for_log(&["ended after", "played as much as it asked for"]);
    }
    server.stop();
}

/// No player of a distribution says it while it plays: a proxy says it for an ffprobe.
#[test]
fn a_player_turns_its_picture_off_and_on() {
    let server = Server::start(2);
    for home in 0..2 {
        let stream = &stream_at(home, 2, "tracks");
        let _publisher = Publisher::looping(&server, stream, Media::Plain);
        server.wait_until_live(stream);
        // Its clock is the test's.
        let clock = Viewer::open(server.ports.http, stream);
        let go_on = |ms: u32| {
            let from = until("it plays", || clock.newest_ms());
            until("it goes on", || clock.newest_ms().filter(|newest| *newest > from + ms));
        };
        let (url, mut says) = go_between(&server, Vec::new(), stream);
        let probe = Probe::seconds(&url, 8.0);
        server.wait_for_clients(stream, 3);
        go_on(1_500);
        says.write_all(&receive("receiveVideo", false)).expect("send");
        server.wait_for_log(&[stream, "by RtmpAudio from now on"]);
        go_on(2_500);
        says.write_all(&receive("receiveVideo", true)).expect("send");
        server.wait_for_log(&[stream, "by Rtmp from now on"]);
        let probed = probe.finish(PATIENCE);

        let pictures = probed.of(Kind::Video);
        let gap = pictures.windows(2).max_by_key(|pair| pair[1].dts_ms - pair[0].dts_ms).expect("pictures");
        let missing = gap[1].dts_ms - gap[0].dts_ms;
        assert!((2_000..6_000).contains(&missing) && gap[1].keyframe, "{missing} ms without pictures");
        let back = pictures.iter().position(|picture| picture.dts_ms == gap[1].dts_ms).expect("its place");
        let (before, after) = pictures.split_at(back);
        for part in [before, after] {
            assert!(part.len() > 20 && part.windows(2).all(|pair| pair[1].dts_ms - pair[0].dts_ms == 40));
        }
        let sound = probed.of(Kind::Audio);
        assert!(sound.windows(2).all(|pair| (15..30).contains(&(pair[1].dts_ms - pair[0].dts_ms))), "sound goes on");
    }
    assert_eq!(server.total("shardcast_track_switches_total", ""), 4.0);
    server.stop();
}

/// A command of a player about the stream that it plays.
fn receive(name: &str, wanted: bool) -> Vec<u8> {
    let body = rtmp::command::Command::new(name, 0.0, vec![Value::Null, wanted.into()]).encode();
    let mut out = Vec::new();
    ChunkWriter::default().write(Header { csid: 8, kind: kind::COMMAND, stream: 1, timestamp: 0 }, &[&body], &mut out);
    out
}

const PROXIED: &str =
    "srs_log_tank console; http_api { enabled on; } rtmp { proxy_protocol on; } vhost __defaultVhost__ { }";

/// A proxy for one connection to the server's RTMP, which it begins with `header`. Its URL.
fn proxy(server: &Server, header: Vec<u8>, stream: &str) -> String {
    go_between(server, header, stream).0
}

/// Such a proxy, and its way to the server.
fn go_between(server: &Server, header: Vec<u8>, stream: &str) -> (String, TcpStream) {
    let listener = TcpListener::bind(local(0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let mut back = TcpStream::connect(local(server.ports.rtmp)).expect("connect");
    back.set_nodelay(true).expect("no delay");
    let says = back.try_clone().expect("a handle");
    thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        // Byte by byte, as a network may bring it.
        header.iter().for_each(|byte| back.write_all(&[*byte]).expect("send"));
        let (mut answers, mut to) = (back.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
        thread::spawn(move || std::io::copy(&mut answers, &mut to));
        let _ = std::io::copy(&mut client, &mut back);
    });
    (format!("rtmp://127.0.0.1:{port}/{stream}"), says)
}

#[test]
fn a_proxy_says_whose_connection_it_brings() {
    let server = Server::of_conf(PROXIED, 2);
    let line = b"PROXY TCP4 192.0.2.7 10.0.0.1 51000 1935\r\n".to_vec();
    let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    binary.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    binary.extend([0; 16]);
    binary.extend([0x9c, 0x40, 7, 0x8f]);
    let srs = vec![0xf3, 0, 4, 192, 0, 2, 9];
    for (name, header, ip) in [("v1", line, "192.0.2.7"), ("v2", binary, "2001:db8::7"), ("srs", srs, "192.0.2.9")] {
        let stream = format!("live/{name}");
        let _publisher = Publisher::looping_to(&proxy(&server, header, &stream), Media::Short);
        server.wait_until_live(&stream);
        let clients = http::request(server.ports.api, "GET", "/api/v1/clients/", &[]).json();
        let ips: Vec<_> = clients["clients"].as_array().expect("clients").iter().map(|client| &client["ip"]).collect();
        assert!(ips.iter().any(|found| *found == ip), "{ip} in {ips:?}");
    }
    // Who says nothing is no proxy.
    let direct = Publisher::once(&server, "live/direct", Media::Short).process.finish(PATIENCE);
    assert!(!direct.status.success());
    server.wait_for_log(&["ended after", "no PROXY header comes first"]);
    let _silent = TcpStream::connect(local(server.ports.rtmp)).expect("connect");
    server.wait_for_log(&["ended after 10.", "no PROXY header within 10 s"]);
    assert_eq!(server.total("shardcast_session_errors_total", "protocol=\"proxy\""), 2.0);
    server.stop();
}

#[test]
fn an_address_has_so_many_connections() {
    const MOST: usize = 5;
    let conf = format!(
        "srs_log_tank console; max_connections_per_ip {MOST}; http_server {{ enabled on; }} http_api {{ enabled on; }}
        srt_server {{ enabled on; }} vhost __defaultVhost__ {{ srt {{ enabled on; }} http_remux {{ enabled on; }} }}"
    );
    let server = Server::of_conf(&conf, 2);
    let _publisher = Publisher::looping(&server, "live/many", Media::Plain);
    server.wait_until_live("live/many");
    // The API, where it has a port of its own, is not counted.
    let others: Vec<_> = (1..MOST).map(|_| TcpStream::connect(local(server.ports.http)).expect("connect")).collect();
    until("all are counted", || (server.total("shardcast_connections", "") == MOST as f64).then_some(()));
    let mut refused = TcpStream::connect(local(server.ports.http)).expect("connect");
    assert_eq!(refused.read(&mut [0; 1]).unwrap_or(0), 0, "it is closed");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-i", &server.srt("live/many"), "-f", "null", "-"]);
    assert!(!Process::start(&mut command).finish(PATIENCE).status.success(), "SRT counts too");
    until("it is counted", || (server.total("shardcast_address_refusals_total", "") >= 2.0).then_some(()));
    server.wait_for_log(&["127.0.0.1", "max_connections_per_ip of 5 reached"]);
    drop(others);
    until("the others are gone", || (server.total("shardcast_connections", "") == 1.0).then_some(()));
    Probe::seconds(&server.flv("live/many"), 1.0).finish(PATIENCE);
    server.stop();
}

/// No client of a distribution knows what a request to reconnect is: this one says that it does.
#[test]
fn who_can_reconnect_is_asked_to_when_the_server_ends() {
    let conf = "srs_log_tank console; http_api { enabled on; } grace_start_wait 100; grace_final_wait 100;
        vhost __defaultVhost__ { }";
    let server = Server::of_conf(conf, 2);
    let connect = |caps: u8| {
        let mut socket = TcpStream::connect(local(server.ports.rtmp)).expect("connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let mut hello = vec![0; 1 + 2 * 1536];
        hello[0] = 3;
        let mut body = b"\x02\0\x07connect\0\x3f\xf0\0\0\0\0\0\0\x03\0\x03app\x02\0\x04live".to_vec();
        body.extend(b"\0\x05tcUrl\x02\0\x10rtmp://h.io/live\0\x06capsEx\0");
        body.extend(f64::from(caps).to_be_bytes());
        body.extend([0, 0, 9]);
        // Chunks of 128 bytes: one is enough.
        assert!(body.len() <= 128);
        hello.extend([3, 0, 0, 0, 0, 0, body.len() as u8, 20, 0, 0, 0, 0]);
        hello.extend(body);
        socket.write_all(&hello).expect("send");
        let mut got = vec![0; 1 + 2 * 1536];
        socket.read_exact(&mut got).expect("the handshake");
        read_until(&mut socket, b"onBWDone");
        socket
    };
    let (mut able, mut unable) = (connect(1), connect(0));
    server.signal("QUIT");
    read_until(&mut able, b"NetConnection.Connect.ReconnectRequest");
    server.wait_for_log(&["is asked to reconnect"]);
    assert_eq!(server.total("shardcast_reconnect_requests_total", ""), 1.0);
    drop(able);
    unable.set_read_timeout(Some(Duration::from_millis(300))).expect("a deadline");
    assert!(unable.read(&mut [0; 1]).is_err(), "nothing is said to who would not know it");
    drop(unable);
    assert!(server.wait_for_end(PATIENCE).success());
}

/// Reads until `wanted` has come.
fn read_until(socket: &mut TcpStream, wanted: &[u8]) {
    let deadline = Instant::now() + PATIENCE;
    let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
    while !got.windows(wanted.len()).any(|window| window == wanted) {
        assert!(Instant::now() < deadline, "{wanted:?} in {got:?}");
        let count = socket.read(&mut buffer).expect("an answer");
        assert!(count > 0, "the server closed after {got:?}");
        got.extend_from_slice(&buffer[..count]);
    }
}
