//! The answer to one HTTP GET, as far as a player of FLV needs it (RFC 9112): head, then a body that
//! goes on until the connection ends or comes in chunks.

use crate::endpoint::Endpoint;

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
    #[error("the server ended the stream")]
    End,
}

pub fn request(to: &Endpoint) -> String {
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: shardbench/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        to.path,
        to.authority,
        env!("CARGO_PKG_VERSION")
    )
}

/// Takes the answer in pieces and gives the body out.
#[derive(Debug, Default)]
pub struct Answer {
    state: State,
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
}

impl Answer {
    /// Calls `body` with each piece of the body in `bytes`.
    pub fn input(&mut self, mut bytes: &[u8], mut body: impl FnMut(&[u8])) -> Result<(), HttpError> {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Head => self.head(bytes)?,
                State::Plain => {
                    body(bytes);
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
                self.state = framing(&head)?;
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
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    let Some(("HTTP/1.0" | "HTTP/1.1", answer)) = status.split_once(' ') else {
        return Err(HttpError::NotHttp(status.chars().take(40).collect()));
    };
    if !answer.starts_with("200") {
        return Err(HttpError::Status(answer.into()));
    }
    let chunked = lines.filter_map(|line| line.split_once(':')).any(|(name, value)| {
        name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked")
    });
    Ok(if chunked { State::ChunkSize } else { State::Plain })
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
