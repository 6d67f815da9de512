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
    #[error("{server} does not let it play: {answer}")]
    Unplayed { server: String, answer: String },
    #[error("{server} answers with error {code}: {what}")]
    Refused { server: String, code: u64, what: &'static str },
}

/// Of the argument that names a server, which may be a URL.
pub fn address(text: &str) -> Result<String, &'static str> {
    match text.split_once("://") {
        None => Ok(text.to_owned()),
        Some(("http", rest)) => Ok(rest.trim_end_matches('/').to_owned()),
        Some(_) => Err("only HTTP is spoken: name the port of http_api.listen"),
    }
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

    /// By WHEP, and what the server answers to it.
    pub fn offer(&self, path: &str, sdp: &str) -> Result<Answer, Error> {
        let answer = self.exchange("POST", path, sdp)?;
        if status(&answer.head) != "201" {
            let said = format!("{} {}", answer.head.lines().next().unwrap_or_default(), answer.body.trim());
            return Err(Error::Unplayed { server: self.address.clone(), answer: said });
        }
        Ok(answer)
    }

    /// Ends what is at `path`, whatever is answered.
    pub fn end(&self, path: &str) -> Result<(), Error> {
        self.exchange("DELETE", path, "").map(drop)
    }

    fn document(&self, method: &str, path: &str) -> Result<Value, Error> {
        let Answer { head, body } = self.exchange(method, path, "")?;
        let said = head.lines().next().unwrap_or("nothing");
        self.judge(said)?;
        serde_json::from_str(&body).map_err(|_| self.foreign(said))
    }

    /// `said` is the line with the status.
    fn judge(&self, said: &str) -> Result<(), Error> {
        match status(said) {
            "200" => Ok(()),
            "401" => Err(Error::Denied { server: self.address.clone() }),
            _ => Err(self.foreign(said)),
        }
    }

    /// The lines of an answer that goes on until the server or the caller ends it.
    pub fn follow(&self, path: &str) -> Result<impl Iterator<Item = Result<String, Error>>, Error> {
        let broken = |source| self.broken(source);
        let stream = self.ask("GET", path, "").map_err(broken)?;
        let mut lines = BufReader::new(stream).lines();
        self.judge(&lines.next().unwrap_or_else(|| Ok(String::new())).map_err(broken)?)?;
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

    fn exchange(&self, method: &str, path: &str, body: &str) -> Result<Answer, Error> {
        let mut answer = String::new();
        let asked = self.ask(method, path, body);
        let read = asked.and_then(|stream| stream.take(LARGEST).read_to_string(&mut answer));
        read.map_err(|source| self.broken(source))?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) => Ok(Answer { head: head.to_owned(), body: body.to_owned() }),
            None => Err(self.foreign(answer.lines().next().unwrap_or("nothing"))),
        }
    }

    /// HTTP/1.0, so that the answer is neither chunked nor followed by another.
    fn ask(&self, method: &str, path: &str, body: &str) -> io::Result<TcpStream> {
        let address = self.address.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let credentials = self.credentials.as_ref().map(|value| format!("Authorization: {value}\r\n"));
        let credentials = credentials.unwrap_or_default();
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: {}\r\n{credentials}{length}\r\n{body}", self.address)?;
        Ok(stream)
    }
}

pub struct Answer {
    head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(':'));
        headers.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

/// Of a head.
fn status(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_be_named_by_its_url() {
        for (text, found) in [
            ("10.0.0.1:1985", Some("10.0.0.1:1985")),
            ("http://10.0.0.1:1985/", Some("10.0.0.1:1985")),
            ("https://10.0.0.1:1990", None),
        ] {
            assert_eq!(address(text).ok().as_deref(), found, "{text}");
        }
    }
}
