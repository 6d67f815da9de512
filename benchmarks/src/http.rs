//! The answer to one HTTP GET, as far as a player of FLV needs it (RFC 9112): head, then a body that
//! goes on until the connection ends, comes in chunks, or in WebSocket frames.

use crate::{
    endpoint::{Endpoint, Scheme},
    websocket::{Frames, KEY},
};
use bytes::Bytes;
use shardcast_protocols::websocket;

const HEAD_BYTES_MAX: usize = 16 * 1024;
const CHUNK_LINE_BYTES_MAX: usize = 1024;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    #[error("answer has a head of more than {max} bytes")]
    HeadTooLong { max: usize },
    #[error("answer begins with {0:?}, which is not HTTP/1")]
    NotHttp(String),
    #[error("server answers {0}")]
    Status(String),
    #[error("{0:?} is no chunk size")]
    ChunkSize(String),
    #[error("chunk ends with {0:#04x}, not with a new line")]
    ChunkEnd(u8),
    #[error("the server answers the WebSocket's key with {0:?}")]
    Accept(Option<String>),
    #[error("WebSocket frame of opcode {0}")]
    Opcode(u8),
    #[error("the server ended the stream")]
    End,
}

/// What to send, and who takes the answer.
pub fn request(to: &Endpoint) -> (String, Answer) {
    let upgrade = to.scheme == Scheme::WebSocket;
    let fields = if upgrade {
        format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: {}\r\nSec-WebSocket-Key: {KEY}\r\n",
            websocket::VERSION
        )
    } else {
        "Connection: close\r\n".into()
    };
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: shardbench/{}\r\nAccept: */*\r\n{fields}\r\n",
        to.path,
        to.authority,
        env!("CARGO_PKG_VERSION")
    );
    (request, Answer { upgrade, ..Answer::default() })
}

/// Takes the answer in pieces and gives the body out.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    state: State,
    /// It is to become a WebSocket.
    upgrade: bool,
    frames: Frames,
    /// The line or the head that is not whole yet.
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Plain,
    ChunkSize,
    Chunk {
        left: u64,
    },
    ChunkEnd,
    Frames,
}

impl Answer {
    /// What the server is to be told by now.
    pub fn reply(&mut self) -> Bytes {
        std::mem::take(&mut self.frames.pongs).into()
    }

    /// Calls `body` with each piece of the body in `bytes`.
    pub fn input(&mut self, mut bytes: &[u8], mut body: impl FnMut(&[u8])) -> Result<(), HttpError> {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Head => self.head(bytes)?,
                State::Plain => {
                    body(bytes);
                    &[]
                }
                State::Frames => {
                    self.frames.input(bytes, &mut body)?;
                    &[]
                }
                State::ChunkSize => self.chunk_size(bytes)?,
                State::Chunk { left } => {
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (piece, rest) = bytes.split_at(len);
                    body(piece);
                    let left = left - len as u64;
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk { left } };
                    rest
                }
                State::ChunkEnd => {
                    let (&byte, rest) = bytes.split_first().ok_or(HttpError::End)?;
                    match byte {
                        b'\r' => {}
                        b'\n' => self.state = State::ChunkSize,
                        other => return Err(HttpError::ChunkEnd(other)),
                    }
                    rest
                }
            };
        }
        Ok(())
    }

    /// Status line and fields up to the empty line; gives back what follows.
    fn head<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], HttpError> {
        for (n, byte) in bytes.iter().enumerate() {
            self.line.push(*byte);
            if self.line.len() > HEAD_BYTES_MAX {
                return Err(HttpError::HeadTooLong { max: HEAD_BYTES_MAX });
            }
            if self.line.ends_with(b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.line).into_owned();
                self.line.clear();
                self.state = if self.upgrade { upgraded(&head)? } else { framing(&head)? };
                return Ok(bytes.get(n + 1..).unwrap_or_default());
            }
        }
        Ok(&[])
    }

    /// `1a2b[;extension]` (RFC 9112 §7.1).
    fn chunk_size<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], HttpError> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
        self.line.extend_from_slice(part);
        if self.line.len() > CHUNK_LINE_BYTES_MAX {
            return Err(HttpError::HeadTooLong { max: CHUNK_LINE_BYTES_MAX });
        }
        if end.is_some() {
            let line = String::from_utf8_lossy(&self.line).into_owned();
            self.line.clear();
            let digits = line.split(';').next().unwrap_or_default().trim();
            let left = u64::from_str_radix(digits, 16).map_err(|_| HttpError::ChunkSize(digits.into()))?;
            if left == 0 {
                return Err(HttpError::End);
            }
            self.state = State::Chunk { left };
        }
        Ok(rest)
    }
}

/// Checks the status, and tells how the body comes.
fn framing(head: &str) -> Result<State, HttpError> {
    check_status(head, "200")?;
    let chunked = field(head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    Ok(if chunked { State::ChunkSize } else { State::Plain })
}

/// RFC 6455 §4.1.
fn upgraded(head: &str) -> Result<State, HttpError> {
    check_status(head, "101")?;
    let accept = field(head, "sec-websocket-accept").map(str::to_owned);
    if accept.is_none() || accept != websocket::accept(KEY) {
        return Err(HttpError::Accept(accept));
    }
    Ok(State::Frames)
}

fn check_status(head: &str, wanted: &str) -> Result<(), HttpError> {
    let line = head.lines().next().unwrap_or_default();
    match line.split_once(' ') {
        Some(("HTTP/1.0" | "HTTP/1.1", status)) if status.starts_with(wanted) => Ok(()),
        Some(("HTTP/1.0" | "HTTP/1.1", status)) => Err(HttpError::Status(status.into())),
        _ => Err(HttpError::NotHttp(line.chars().take(40).collect())),
    }
}

fn field<'h>(head: &'h str, wanted: &str) -> Option<&'h str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find_map(|(name, value)| name.eq_ignore_ascii_case(wanted).then_some(value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(answer: &[u8], piece: usize) -> Result<Vec<u8>, HttpError> {
        let (mut reader, mut body) = (Answer::default(), Vec::new());
        for bytes in answer.chunks(piece) {
            reader.input(bytes, |part| body.extend_from_slice(part))?;
        }
        Ok(body)
    }

    #[test]
    fn bodies_come_whole_however_they_are_cut() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nFLV\r\nA;x=1\r\n0123456789\r\n";
        let plain = b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n\r\nFLV0123456789";
        for piece in 1..chunked.len() {
            assert_eq!(body(chunked, piece).unwrap(), b"FLV0123456789", "chunked, by {piece}");
            assert_eq!(body(plain, piece).unwrap(), b"FLV0123456789", "plain, by {piece}");
        }
    }

    #[test]
    fn a_websocket_answers_the_key_and_then_comes_in_frames() {
        let (request, answer) = request(&"ws://h/live/a.flv".parse().unwrap());
        assert!(request.contains("Upgrade: websocket\r\n"));
        let accept = websocket::accept(KEY).unwrap();
        let head = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
        let whole = [head.as_bytes(), b"\x82\x03FLV\x89\x02hi\x02\x01A\x80\x01B"].concat();
        for piece in 1..whole.len() {
            let (mut answer, mut body) = (answer.clone(), Vec::new());
            for bytes in whole.chunks(piece) {
                answer.input(bytes, |part| body.extend_from_slice(part)).unwrap();
            }
            assert_eq!(body, b"FLVAB", "by {piece}");
            assert_eq!(answer.reply(), &b"\x8a\x82\0\0\0\0hi"[..]);
        }
        let refuse = |head: &[u8]| answer.clone().input(head, |_| ()).unwrap_err();
        let other = b"HTTP/1.1 101 Ok\r\nSec-WebSocket-Accept: no\r\n\r\n";
        assert_eq!(refuse(other), HttpError::Accept(Some("no".into())));
        assert_eq!(refuse(b"HTTP/1.1 200 OK\r\n\r\n"), HttpError::Status("200 OK".into()));
    }

    #[test]
    fn hostile_answers_are_refused() {
        let chunked =
            |rest: &str| body(format!("HTTP/1.1 200 OK\r\ntransfer-encoding:chunked\r\n\r\n{rest}").as_bytes(), 7);
        assert_eq!(body(b"HTTP/1.1 404 Not Found\r\n\r\n", 9), Err(HttpError::Status("404 Not Found".into())));
        assert_eq!(body(b"SSH-2.0\r\n\r\n", 9), Err(HttpError::NotHttp("SSH-2.0".into())));
        assert_eq!(body(&[b'a'; 20_000], 999), Err(HttpError::HeadTooLong { max: HEAD_BYTES_MAX }));
        assert_eq!(chunked("xyz\r\n"), Err(HttpError::ChunkSize("xyz".into())));
        assert_eq!(chunked("fffffffffffffffff\r\n"), Err(HttpError::ChunkSize("fffffffffffffffff".into())));
        assert_eq!(chunked("1\r\nab\r\n"), Err(HttpError::ChunkEnd(b'b')));
        assert_eq!(chunked("0\r\n\r\n"), Err(HttpError::End));
        assert_eq!(chunked(&";".repeat(2_000)), Err(HttpError::HeadTooLong { max: CHUNK_LINE_BYTES_MAX }));
    }
}
