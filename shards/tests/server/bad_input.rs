//! Hostile and broken peers: each is sent away with a word in the log and a count, and nobody else notices.

use crate::{
    hostile::Random,
    support::{
        PATIENCE, flv, http,
        media::Media,
        publisher::Publisher,
        server::{Server, local},
        until,
        viewer::Viewer,
        within,
    },
};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

const SHARDS: usize = 2;
const RTMP: &str = "protocol=\"rtmp\"";
const HTTP: &str = "protocol=\"http\"";

/// RTMP clients have 30 s to connect, HTTP clients 15 s to ask; the server looks once a second.
const RTMP_DEADLINE: Duration = Duration::from_secs(30);
const SLACK: Duration = Duration::from_secs(6);

#[test]
fn bad_rtmp_ends_its_own_connection() {
    let server = Server::start(SHARDS);
    let witness = Witness::new(&server);
    // A chunk of message stream 0 begins with: basic header, timestamp, length, type, stream id (§5.3.1).
    let chunk = |csid: u8, length: [u8; 3], kind: u8, body: &[u8]| {
        let mut chunk = vec![csid, 0, 0, 0];
        chunk.extend(length);
        chunk.extend([kind, 0, 0, 0, 0]);
        chunk.extend(body);
        chunk
    };
    // Messages begun on 200 chunk streams, none of them finished: basic headers of two bytes.
    let many: Vec<u8> = (0..200).flat_map(|n| [&[0, n], &chunk(3, [0, 1, 0], 9, &[0; 128])[1..]].concat()).collect();
    // With chunks of 8 MiB, five messages of nearly 16 MiB of which half is there.
    let mut huge = chunk(2, [0, 0, 4], 1, &(8u32 << 20).to_be_bytes());
    for csid in 3..8 {
        huge.extend(chunk(csid, [0xff; 3], 9, &vec![0; 8 << 20]));
    }
    let after_handshake: [(&str, Vec<u8>); 6] = [
        ("more chunk streams than anyone needs", many),
        ("40 MiB of unfinished messages", huge),
        ("chunk size 0", chunk(2, [0, 0, 4], 1, &[0; 4])),
        ("chunk size with its first bit set", chunk(2, [0, 0, 4], 1, &[0x80, 0, 0, 0])),
        ("a command that is no AMF", chunk(3, [0, 0, 8], 20, &[0xff; 8])),
        ("a chunk without a first one", vec![0xc3; 16]),
    ];
    for (what, bytes) in after_handshake {
        let errors = server.total("shardcast_session_errors_total", RTMP);
        let mut socket = shake_hands(server.ports.rtmp);
        // The server may be gone before all is sent.
        let _ = socket.write_all(&bytes);
        sent_away(&server, socket, what);
        until(what, || (server.total("shardcast_session_errors_total", RTMP) == errors + 1.0).then_some(()));
    }
    let errors = server.total("shardcast_session_errors_total", RTMP);
    for (what, bytes) in [("no RTMP at all", vec![0xff; 4096]), ("HTTP", b"GET / HTTP/1.1\r\n\r\n".repeat(200))] {
        let mut socket = connect(server.ports.rtmp);
        let _ = socket.write_all(&bytes);
        sent_away(&server, socket, what);
    }
    until("both are counted", || (server.total("shardcast_session_errors_total", RTMP) == errors + 2.0).then_some(()));
    witness.saw_all();
    server.stop();
}

#[test]
fn random_bytes_end_nothing_but_their_connection() {
    let server = Server::start(SHARDS);
    let witness = Witness::new(&server);
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut noise = |count: usize| -> Vec<u8> { (0..count).map(|_| random.below(256) as u8).collect() };
    for round in 0..40 {
        let mut socket = match round % 4 {
            0 => connect(server.ports.http),
            1 => connect(server.ports.api),
            2 => connect(server.ports.rtmp),
            _ => shake_hands(server.ports.rtmp),
        };
        let _ = socket.write_all(&noise(1 + round * 300));
        // Some noise is the start of a long message: then it is we who leave.
        drop(socket);
    }
    witness.saw_all();
    until("nobody is left but publisher and viewer", || {
        (server.total("shardcast_connections", "") == 2.0).then_some(())
    });
    server.stop();
}

#[test]
fn bad_http_is_answered_and_ended() {
    let server = Server::start(SHARDS);
    let witness = Witness::new(&server);
    let long = format!("GET /live/x.flv HTTP/1.1\r\nX: {}", "x".repeat(20_000));
    let many = format!("GET /live/x.flv HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(200));
    for (what, request, status) in [
        ("garbage", "\x01\x02\x03 garbage\r\n\r\n", 400),
        ("no HTTP version", "GET /live/x.flv\r\n\r\n", 400),
        ("a long head", &*long, 431),
        ("many headers", &*many, 400),
    ] {
        let errors = server.total("shardcast_session_errors_total", HTTP);
        let mut socket = connect(server.ports.http);
        let peer = peer(&socket);
        let _ = socket.write_all(request.as_bytes());
        let mut answer = Vec::new();
        // A reset may cut off what the server had not read.
        let _ = socket.read_to_end(&mut answer);
        if let Some(answer) = http::Response::parse(&answer) {
            assert!([status, 431].contains(&answer.status), "{what}: {}", answer.status);
        }
        server.wait_for_log(&["connection of", &peer, "ended"]);
        until(what, || (server.total("shardcast_session_errors_total", HTTP) == errors + 1.0).then_some(()));
    }
    witness.saw_all();
    server.stop();
}

#[test]
fn no_path_leads_out_of_the_served_folder() {
    let server = Server::start(SHARDS);
    for port in [server.ports.http, server.ports.api] {
        for path in [
            "/../../etc/passwd",
            "/../../../../../../../../etc/passwd",
            "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
            "/..%2f..%2f..%2f..%2fetc%2fpasswd",
            "//etc/passwd",
            "/x/../../../etc/passwd",
            "/etc/passwd%00.html",
            "/.git/config",
        ] {
            let mut answer = Vec::new();
            let mut socket = http::open(port, "GET", path, &[]);
            let _ = socket.read_to_end(&mut answer);
            let answer = String::from_utf8_lossy(&answer);
            assert!(!answer.contains("root:"), "{path}: {answer}");
            // As on SRS, the API's own port has its index at every path that is none of its own.
            let is_index = port == server.ports.api && answer.contains(r#""urls":{"api":"the api root""#);
            assert!(answer.starts_with("HTTP/1.1 40") || is_index, "{path}: {answer}");
        }
        // Who leads upwards is told so and left; a name with dots in it leads nowhere.
        for path in
            ["/live/../a.flv", "/live/%2e%2E/a.ts", "/live/..%2fa.m3u8", "/console/%5c..%5ca", "/a/..?k=v", "/a%00"]
        {
            let mut answer = Vec::new();
            let mut socket = http::open(port, "GET", path, &["Connection: keep-alive"]);
            socket.read_to_end(&mut answer).expect("the connection's end");
            let answer = http::Response::parse(&answer).expect("an answer");
            assert_eq!(answer.status, 400, "{path}");
            assert!(answer.text().starts_with("4002: HttpUrlNotClean"), "{path}: {}", answer.text());
        }
        assert_eq!(http::request(port, "HEAD", "/api/v1/versions?k=../x", &[]).status, 200);
    }
    server.stop();
}

#[test]
fn who_says_nothing_is_sent_away_in_time() {
    const SILENT: usize = 250;
    let server = Server::start(SHARDS);
    let witness = Witness::new(&server);
    let errors = server.total("shardcast_session_errors_total", RTMP);
    let silent: Vec<_> = (0..SILENT).map(|_| connect(server.ports.rtmp)).collect();
    let quiet: Vec<_> = (0..SILENT).map(|_| connect(server.ports.http)).collect();
    let mut half = connect(server.ports.rtmp);
    half.write_all(&[3; 700]).expect("half a handshake");
    let mut asking = connect(server.ports.http);
    asking.write_all(b"GET /live/x.flv HTTP/1.1\r\nHost: ").expect("half a request");
    let dripping = connect(server.ports.rtmp);
    until("all are there", || (server.total("shardcast_connections", "") == (2 * SILENT + 5) as f64).then_some(()));
    assert!(drips(dripping, RTMP_DEADLINE + SLACK), "a byte now and then keeps a handshake going");
    for socket in silent.into_iter().chain(quiet).chain([half, asking]) {
        // Most ended while the dripping one was waited for.
        within(RTMP_DEADLINE + SLACK, "the connection ends", || ended(&socket).then_some(()));
    }
    until("nobody is left but publisher and viewer", || {
        (server.total("shardcast_connections", "") == 2.0).then_some(())
    });
    let timed_out = server.log().with(&["did not come within"]).len();
    assert_eq!(timed_out, SILENT + 2, "log lines of RTMP clients that said too little");
    assert_eq!(server.total("shardcast_session_errors_total", RTMP), errors + (SILENT + 2) as f64);
    assert_eq!(server.log().with(&["no complete HTTP request"]).len(), 1);
    witness.saw_all();
    server.stop();
}

/// Somebody who watches meanwhile.
struct Witness {
    viewer: Viewer,
    _publisher: Publisher,
}

impl Witness {
    fn new(server: &Server) -> Self {
        let viewer = Viewer::open(server.ports.http, "live/witness");
        server.wait_for_clients("live/witness", 1);
        let publisher = Publisher::looping(server, "live/witness", Media::Plain);
        until("the witness sees something", || viewer.newest_ms());
        Self { viewer, _publisher: publisher }
    }

    /// It missed no picture, and sees more.
    fn saw_all(&self) {
        let now = self.viewer.newest_ms().expect("pictures");
        until("the stream goes on", || self.viewer.newest_ms().filter(|newest| *newest > now + 500));
        flv::assert_every_picture(&self.viewer.frames(), &Media::Plain.file());
    }
}

fn connect(port: u16) -> TcpStream {
    let socket = TcpStream::connect(local(port)).expect("connect");
    socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    socket
}

/// A connection past the simple handshake (RTMP 1.0 §5.2).
fn shake_hands(port: u16) -> TcpStream {
    let mut socket = connect(port);
    let mut hello = vec![0; 1 + 1536];
    hello[0] = 3;
    socket.write_all(&hello).expect("C0 and C1");
    let mut answer = vec![0; 1 + 2 * 1536];
    socket.read_exact(&mut answer).expect("S0, S1 and S2");
    socket.write_all(&answer[1..1 + 1536]).expect("C2");
    socket
}

/// The server closes the connection and says why.
fn sent_away(server: &Server, mut socket: TcpStream, what: &str) {
    let peer = peer(&socket);
    let mut rest = Vec::new();
    match socket.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{what}: {error}"),
    }
    let line = server.wait_for_log(&["connection of", &peer, "ended"]);
    assert!(!line.contains("peer closed"), "{what}: {line}");
}

/// Sends a byte each time that a read has waited in vain. True if the server ends that within `limit`.
fn drips(mut socket: TcpStream, limit: Duration) -> bool {
    let deadline = std::time::Instant::now() + limit;
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a deadline");
    while std::time::Instant::now() < deadline {
        if socket.write_all(&[3]).is_err() {
            return true;
        }
        match socket.read(&mut [0; 16]) {
            Ok(0) => return true,
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return true,
            _ => {}
        }
    }
    false
}

fn ended(mut socket: &TcpStream) -> bool {
    socket.set_nonblocking(true).expect("no waiting");
    loop {
        match socket.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

fn peer(socket: &TcpStream) -> String {
    socket.local_addr().expect("its address").to_string()
}
