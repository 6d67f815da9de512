//! FLV and MPEG-TS over WebSockets: mpegts.js in Chromium, and a client that shows what came over the wire.

use crate::support::{
    PATIENCE, flv, http,
    media::Media,
    process::Process,
    publisher::Publisher,
    server::{Server, local, stream_at},
};
use serde_json::Value;
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::Duration,
};

const SHARDS: usize = 2;
const UPGRADE: [&str; 4] = [
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// A viewer that reads frame by frame.
struct Socket {
    stream: TcpStream,
    read: Vec<u8>,
}

/// One frame of the server.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    opcode: u8,
    payload: Vec<u8>,
}

impl Socket {
    fn open(server: &Server, path: &str) -> Self {
        let mut stream = TcpStream::connect(local(server.ports.http)).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let headers: String = UPGRADE.iter().map(|header| format!("{header}\r\n")).collect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{headers}\r\n", server.ports.http);
        stream.write_all(request.as_bytes()).expect("send a request");
        let mut socket = Self { stream, read: Vec::new() };
        let length = loop {
            if let Some(at) = socket.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(socket.more(), "no answer");
        };
        let answer = http::Response::parse(&socket.read).expect("an answer");
        assert_eq!(answer.status, 101);
        // RFC 6455 §1.3.
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        socket.read.drain(..length);
        socket
    }

    /// False at the end.
    fn more(&mut self) -> bool {
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("read: {error}"),
        }
    }

    /// The next frame; `None` at the end of the connection.
    fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = frame(&self.read) {
                self.read.drain(..length);
                return Some(frame);
            }
            if !self.more() {
                assert!(self.read.is_empty(), "{} bytes of a frame at the end", self.read.len());
                return None;
            }
        }
    }

    /// A frame in a mask of zeros.
    fn say(&mut self, opcode: u8, payload: &[u8]) {
        let header = [0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        self.stream.write_all(&[&header, payload].concat()).expect("send a frame");
    }

    /// The frames from here to the end, and the payload of those with media.
    fn rest(&mut self) -> (Vec<Frame>, Vec<u8>) {
        let (mut others, mut media) = (Vec::new(), Vec::new());
        while let Some(frame) = self.frame() {
            match frame.opcode {
                2 => media.extend(frame.payload),
                _ => others.push(frame),
            }
        }
        (others, media)
    }
}

/// The whole frame that `bytes` start with, and its length.
fn frame(bytes: &[u8]) -> Option<(Frame, usize)> {
    let [first, second, ..] = *bytes else { return None };
    assert_eq!((first & 0xf0, second & 0x80), (0x80, 0), "unmasked and in one piece");
    let (start, length) = match second {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let end = start + length as usize;
    Some((Frame { opcode: first & 0x0f, payload: bytes.get(start..end)?.to_vec() }, end))
}

fn closes(code: u16) -> Frame {
    Frame { opcode: 8, payload: code.to_be_bytes().to_vec() }
}

#[test]
fn each_unit_is_a_frame_and_the_last_one_closes() {
    let server = Server::start(SHARDS);
    for home in 0..SHARDS {
        let name = stream_at(home, SHARDS, "ws");
        let publisher = Publisher::once(&server, &name, Media::Plain);
        server.wait_until_live(&name);
        let mut viewer = Socket::open(&server, &format!("/{name}.flv"));
        let first = viewer.frame().expect("a head");
        assert_eq!((first.opcode, &first.payload[..4]), (2, &b"FLV\x01"[..]));
        let unit = viewer.frame().expect("a unit");
        // A tag: its size stands before its end.
        let size = unit.payload.len() as u32;
        assert_eq!(unit.payload[size as usize - 4..], (size - 4).to_be_bytes());
        viewer.say(9, b"are you there");
        viewer.say(1, b"words that nobody wants");
        publisher.finish(Duration::from_secs(10));
        let (others, media) = viewer.rest();
        let pong = Frame { opcode: 10, payload: b"are you there".to_vec() };
        assert_eq!(others, [pong, closes(1000)]);
        let whole = [first.payload, unit.payload, media].concat();
        let (tags, parsed) = flv::tags(&whole);
        assert_eq!(parsed, whole.len());
        assert!(tags.iter().filter(|tag| tag.is_frame()).count() > 100);
    }
    server.stop();
}

#[test]
fn a_viewer_that_closes_is_answered_and_one_that_errs_is_told() {
    let server = Server::start(SHARDS);
    let _publisher = Publisher::looping(&server, "live/bye", Media::Plain);
    server.wait_until_live("live/bye");
    let mut polite = Socket::open(&server, "/live/bye.ts");
    let first = polite.frame().expect("tables");
    assert_eq!((first.opcode, first.payload[0], first.payload.len() % 188), (2, 0x47, 0));
    polite.say(8, &[0x03, 0xe9, b'!']);
    assert_eq!(polite.rest().0, [closes(1001)]);

    let mut rude = Socket::open(&server, "/live/bye.flv");
    rude.stream.write_all(b"\x81\x01x").expect("send a frame");
    assert_eq!(rude.rest().0, [closes(1002)]);
    server.wait_for_log(&["a client's frame without a mask"]);
    let errors = || server.total("shardcast_session_errors_total", "protocol=\"websocket\"");
    assert_eq!(errors(), 1.0);

    let mut long = Socket::open(&server, "/live/bye.flv");
    long.stream.write_all(b"\x82\xff\0\0\0\0\x7f\xff\xff\xff").expect("send a frame");
    assert_eq!(long.rest().0, [closes(1009)]);
    server.wait_for_clients("live/bye", 1);
    server.stop();
}

#[test]
fn requests_for_sockets_are_checked() {
    let server = Server::of_conf(
        "http_server { enabled on; crossdomain off; } http_api { enabled on; }
         vhost __defaultVhost__ { http_remux { enabled on; } }",
        SHARDS,
    );
    let upgrade = ["Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="];
    let raw = |headers: &str| {
        let mut stream = TcpStream::connect(local(server.ports.http)).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let request = format!("GET /live/none.flv HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).expect("send a request");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        http::Response::parse(&bytes).expect("an answer")
    };
    let old = raw(&format!("{}\r\n{}\r\nSec-WebSocket-Version: 8\r\n", upgrade[0], upgrade[1]));
    assert_eq!((old.status, old.header("sec-websocket-version")), (426, Some("13")));
    assert_eq!(raw("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n").status, 400);
    let foreign = format!("{}\r\n{}\r\nSec-WebSocket-Version: 13\r\nOrigin: http://else\r\n", upgrade[0], upgrade[1]);
    assert_eq!(raw(&foreign).status, 403);
    server.stop();
}

#[test]
fn mpegts_js_plays_flv_and_ts_and_sees_the_end() {
    let (Ok(python), Ok(chromium)) = (std::env::var("SHARDCAST_PYTHON"), std::env::var("SHARDCAST_CHROMIUM")) else {
        return eprintln!(
            "SKIPPED: WebSockets are not tested in a browser: set SHARDCAST_PYTHON and SHARDCAST_CHROMIUM"
        );
    };
    let server = Server::start(SHARDS);
    let publisher = Publisher::looping(&server, "live/ws", Media::Plain);
    server.wait_until_live("live/ws");
    let at = |path: &str| format!("127.0.0.1:{}/{path}", server.ports.http);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/websocket.py");
    let (page, flv, ts) =
        (format!("http://{}", at("")), format!("ws://{}", at("live/ws.flv")), format!("ws://{}", at("live/ws.ts")));
    let browser = Process::start(Command::new(python).arg(script).args([&chromium, &page, &flv, &ts]));
    browser.lines.wait_for(&["listening"], Duration::from_secs(120));
    drop(publisher);
    let seen = browser.finish(PATIENCE * 2);
    assert!(seen.status.success(), "{}", seen.stderr.join("\n"));
    let seen: Value = serde_json::from_slice(&seen.stdout).expect("JSON");
    for kind in ["flv", "mpegts"] {
        let played = &seen[kind];
        assert_eq!(
            (&played["error"], &played["width"], &played["height"]),
            (&Value::Null, &640.into(), &360.into()),
            "{seen}"
        );
    }
    let heard = &seen["heard"];
    assert_eq!(
        (&heard["start"], &heard["code"], &heard["wasClean"]),
        (&"FLV".into(), &1000.into(), &true.into()),
        "{seen}"
    );
    server.stop();
}
