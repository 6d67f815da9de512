//! A small HTTP/1.1 client that shows what came over the wire.

use super::{PATIENCE, server::local};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::TcpStream,
};

pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Asks and reads to the end of the connection.
pub fn request(port: u16, method: &str, path: &str, headers: &[&str]) -> Response {
    Response::read(open(port, method, path, headers), &format!("{method} {path}"))
}

/// As [`request`], with a body.
pub fn post(port: u16, method: &str, path: &str, body: &str) -> Response {
    let mut stream = open(port, method, path, &[&format!("Content-Length: {}", body.len())]);
    stream.write_all(body.as_bytes()).expect("send a body");
    Response::read(stream, &format!("{method} {path}"))
}

/// Asks; the answer is the caller's to read.
pub fn open(port: u16, method: &str, path: &str, headers: &[&str]) -> TcpStream {
    let mut stream = TcpStream::connect(local(port)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let extra: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{extra}\r\n");
    stream.write_all(request.as_bytes()).expect("send a request");
    stream
}

impl Response {
    fn read(mut stream: TcpStream, what: &str) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        Self::parse(&bytes).unwrap_or_else(|| panic!("{what}: {:?}", String::from_utf8_lossy(&bytes)))
    }

    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let header = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()));
        let headers = lines.map(header).collect::<Option<_>>()?;
        Some(Self { status, headers, body: bytes[end + 4..].to_vec() })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200);
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// A body in chunks (RFC 9112 §7.1), decoded as it comes.
#[derive(Default)]
pub struct Chunks {
    waiting: Vec<u8>,
    /// The last chunk was there: the body is whole.
    pub complete: bool,
}

impl Chunks {
    /// Decodes `bytes` into `body`.
    pub fn take(&mut self, bytes: &[u8], body: &mut Vec<u8>) {
        self.waiting.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(length) = self.waiting[at..].windows(2).position(|window| window == b"\r\n") {
            let size = std::str::from_utf8(&self.waiting[at..at + length]).expect("a chunk's size");
            let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("{size:?} as a chunk's size"));
            let start = at + length + 2;
            let Some(end) = self.waiting.get(start + size..start + size + 2) else { break };
            assert_eq!(end, b"\r\n", "a chunk's end");
            assert!(!self.complete, "a chunk after the last one");
            body.extend_from_slice(&self.waiting[start..start + size]);
            self.complete = size == 0;
            at = start + size + 2;
        }
        self.waiting.drain(..at);
    }
}
