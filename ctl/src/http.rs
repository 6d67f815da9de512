//! One request, one JSON answer.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

/// For an answer, and between two lines of one that goes on: the server says something every 5 s.
const PATIENCE: Duration = Duration::from_secs(15);
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
    #[error("the configuration that {server} read is refused: {words}")]
    Unloaded { server: String, words: String },
    #[error("{server} has not read its configuration within {} s", .within.as_secs())]
    Late { server: String, within: Duration },
    #[error("the configuration is wrong")]
    Invalid,
    #[error("{program}: {source}")]
    Program { program: String, source: io::Error },
    #[error("this terminal: {0}")]
    Terminal(io::Error),
    #[error("{0} of these must be mended")]
    Unfit(usize),
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

    pub fn post(&self, path: &str) -> Result<Value, Error> {
        self.json("POST", path)
    }

    pub fn delete(&self, path: &str) -> Result<Value, Error> {
        self.json("DELETE", path)
    }

    /// A document that is no answer of the API.
    pub fn fetch(&self, path: &str) -> Result<Value, Error> {
        self.document("GET", path)
    }

    fn json(&self, method: &str, path: &str) -> Result<Value, Error> {
        let value = self.document(method, path)?;
        match value["code"].as_u64() {
            Some(0) => Ok(value),
            Some(code) => Err(Error::Refused { server: self.address.clone(), code, what: meaning(code) }),
            None => Err(self.foreign(&value.to_string())),
        }
    }

    fn document(&self, method: &str, path: &str) -> Result<Value, Error> {
        let answer = self.exchange(method, path).map_err(|source| self.broken(source))?;
        let foreign = || self.foreign(answer.lines().next().unwrap_or("nothing"));
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(foreign)?;
        match head.split(' ').nth(1).unwrap_or_default() {
            "200" => serde_json::from_str(body).map_err(|_| foreign()),
            "401" => Err(Error::Denied { server: self.address.clone() }),
            _ => Err(foreign()),
        }
    }

    /// The lines of an answer that goes on until the server or the caller ends it.
    pub fn follow(&self, path: &str) -> Result<impl Iterator<Item = Result<String, Error>>, Error> {
        let broken = |source| self.broken(source);
        let stream = self.ask("GET", path).map_err(broken)?;
        let mut lines = BufReader::new(stream).lines();
        let status = lines.next().unwrap_or_else(|| Ok(String::new())).map_err(broken)?;
        match status.split(' ').nth(1).unwrap_or_default() {
            "200" => {}
            "401" => return Err(Error::Denied { server: self.address.clone() }),
            _ => return Err(self.foreign(&status)),
        }
        for line in lines.by_ref() {
            if line.map_err(broken)?.is_empty() {
                break;
            }
        }
        Ok(lines.map(move |line| line.map_err(broken)))
    }

    fn broken(&self, source: io::Error) -> Error {
        Error::Io { server: self.address.clone(), source }
    }

    fn foreign(&self, answer: &str) -> Error {
        Error::Foreign { server: self.address.clone(), answer: answer.chars().take(80).collect() }
    }

    fn exchange(&self, method: &str, path: &str) -> io::Result<String> {
        let mut answer = String::new();
        self.ask(method, path)?.take(LARGEST).read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// HTTP/1.0, so that the answer is neither chunked nor followed by another.
    fn ask(&self, method: &str, path: &str) -> io::Result<TcpStream> {
        let address = self.address.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let credentials = self.credentials.as_ref().map(|value| format!("Authorization: {value}\r\n"));
        let credentials = credentials.unwrap_or_default();
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: {}\r\n{credentials}\r\n", self.address)?;
        Ok(stream)
    }
}

/// Of SRS's error numbers that the commands here can meet.
fn meaning(code: u64) -> &'static str {
    match code {
        1060 => "it has no such call",
        1061 => "its http_api.raw_api does not allow it; SIGHUP does",
        2048 => "there is no such stream",
        2049 => "there is no such client",
        _ => "see the server's log",
    }
}
