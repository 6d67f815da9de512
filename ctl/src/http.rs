//! One request, one JSON answer.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(5);
/// No answer of the API is longer.
const LARGEST: u64 = 64 << 20;
/// Entries of a list that are asked for at once.
const PAGE: usize = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{server}: {source}")]
    Io { server: String, source: io::Error },
    #[error("{server} does not answer as Shardcast's API does: {answer}")]
    Foreign { server: String, answer: String },
    #[error("{server} wants to know who you are: --user NAME:PASSWORD, or --token TOKEN")]
    Denied { server: String },
    #[error("no client has the id {0}")]
    BadId(String),
    #[error("no stream is called {0}")]
    NoStream(String),
    #[error("{server} answers with error {code}: {what}")]
    Refused { server: String, code: u64, what: &'static str },
}

pub struct Server {
    /// Host and port.
    pub address: String,
    /// The value of an Authorization header.
    pub credentials: Option<String>,
}

impl Server {
    /// HTTP Basic for a `user` (NAME:PASSWORD), else the `token`.
    pub fn new(address: String, user: Option<&str>, token: Option<&str>) -> Self {
        let basic = user.map(|user| format!("Basic {}", STANDARD.encode(user)));
        Self { address, credentials: basic.or(token.map(|token| format!("Bearer {token}"))) }
    }

    /// The whole of the list `name`, page by page.
    pub fn list(&self, name: &str) -> Result<Vec<Value>, Error> {
        let mut all = Vec::new();
        loop {
            let answer = self.get(&format!("/api/v1/{name}/?start={}&count={PAGE}", all.len()))?;
            let Some(page) = answer[name].as_array() else { return Err(self.foreign(&answer.to_string())) };
            all.extend(page.iter().cloned());
            if page.len() < PAGE {
                return Ok(all);
            }
        }
    }

    pub fn get(&self, path: &str) -> Result<Value, Error> {
        self.json("GET", path)
    }

    pub fn delete(&self, path: &str) -> Result<Value, Error> {
        self.json("DELETE", path)
    }

    fn json(&self, method: &str, path: &str) -> Result<Value, Error> {
        let server = || self.address.clone();
        let answer = self.exchange(method, path).map_err(|source| Error::Io { server: server(), source })?;
        let foreign = || self.foreign(answer.lines().next().unwrap_or("nothing"));
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(foreign)?;
        match head.split(' ').nth(1).unwrap_or_default() {
            "200" => {}
            "401" => return Err(Error::Denied { server: server() }),
            _ => return Err(foreign()),
        }
        let value: Value = serde_json::from_str(body).map_err(|_| foreign())?;
        match value["code"].as_u64() {
            Some(0) => Ok(value),
            Some(code) => Err(Error::Refused { server: server(), code, what: meaning(code) }),
            None => Err(foreign()),
        }
    }

    fn foreign(&self, answer: &str) -> Error {
        Error::Foreign { server: self.address.clone(), answer: answer.chars().take(80).collect() }
    }

    /// HTTP/1.0, so that the answer is neither chunked nor followed by another.
    fn exchange(&self, method: &str, path: &str) -> io::Result<String> {
        let address = self.address.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let credentials = self.credentials.as_ref().map(|value| format!("Authorization: {value}\r\n"));
        let credentials = credentials.unwrap_or_default();
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: {}\r\n{credentials}\r\n", self.address)?;
        let mut answer = String::new();
        stream.take(LARGEST).read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// Of SRS's error numbers that the commands here can meet.
fn meaning(code: u64) -> &'static str {
    match code {
        2048 => "there is no such stream",
        2049 => "there is no such client",
        _ => "see the server's log",
    }
}
