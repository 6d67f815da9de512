//! One GET, one JSON answer.

use serde_json::Value;
use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(5);
/// No answer of the API is longer.
const LARGEST: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{server}: {source}")]
    Io { server: String, source: io::Error },
    #[error("{server} does not answer as Shardcast's API does: {answer}")]
    Foreign { server: String, answer: String },
}

/// The JSON at `path` of `server` (host:port).
pub fn json(server: &str, path: &str) -> Result<Value, Error> {
    let answer = exchange(server, path).map_err(|source| Error::Io { server: server.into(), source })?;
    let foreign = || Error::Foreign {
        server: server.into(),
        answer: answer.lines().next().unwrap_or("nothing").chars().take(80).collect(),
    };
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(foreign)?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        return Err(foreign());
    }
    serde_json::from_str(body).map_err(|_| foreign())
}

/// HTTP/1.0, so that the answer is neither chunked nor followed by another.
fn exchange(server: &str, path: &str) -> io::Result<String> {
    let address = server.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LARGEST).read_to_string(&mut answer)?;
    Ok(answer)
}
