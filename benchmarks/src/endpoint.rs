//! Where a URL of the command line leads.

use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Rtmp,
    /// FLV over HTTP.
    Http,
    /// FLV in WebSocket frames.
    WebSocket,
    /// Whatever comes over a TCP connection.
    Tcp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub scheme: Scheme,
    /// Over TLS.
    pub secure: bool,
    /// An IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
    /// Host and port as the URL has them.
    pub authority: String,
    /// From the first slash on, with the query.
    pub path: String,
    pub url: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("{0}: begins with none of rtmp://, http://, ws://, their secure rtmps://, https://, wss://, and tcp://")]
    Scheme(String),
    #[error("{0}: names no host")]
    NoHost(String),
    #[error("{url}: {port} is no port")]
    Port { url: String, port: String },
    #[error("{0}: wants a path of app/stream")]
    NoStream(String),
}

impl Endpoint {
    /// `url` with every `{}` replaced by `number`.
    pub fn numbered(url: &str, number: usize) -> Result<Self, EndpointError> {
        url.replace("{}", &number.to_string()).parse()
    }

    /// The path without slash in front and query behind.
    pub fn name(&self) -> &str {
        self.path.split('?').next().unwrap_or_default().trim_matches('/')
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(url: &str) -> Result<Self, EndpointError> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (scheme, secure, port) = match scheme {
            "rtmp" => (Scheme::Rtmp, false, 1935),
            "rtmps" => (Scheme::Rtmp, true, 443),
            "http" => (Scheme::Http, false, 80),
            "https" => (Scheme::Http, true, 443),
            "ws" => (Scheme::WebSocket, false, 80),
            "wss" => (Scheme::WebSocket, true, 443),
            "tcp" => (Scheme::Tcp, false, 0),
            _ => return Err(EndpointError::Scheme(url.into())),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((host, digits)) => match digits.parse() {
                Ok(port) => (host, port),
                Err(_) => return Err(EndpointError::Port { url: url.into(), port: digits.into() }),
            },
            None => (authority, port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(EndpointError::NoHost(url.into()));
        }
        if path.trim_matches('/').is_empty() && scheme != Scheme::Tcp {
            return Err(EndpointError::NoStream(url.into()));
        }
        let (host, authority, path) = (host.into(), authority.into(), path.into());
        Ok(Self { scheme, secure, host, port, authority, path, url: url.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_host_port_and_path() {
        for (url, host, port, path) in [
            ("rtmp://h/live/a", "h", 1935, "/live/a"),
            ("rtmp://h:19350/live/a?k=v", "h", 19350, "/live/a?k=v"),
            ("rtmps://h/live/a", "h", 443, "/live/a"),
            ("http://h/live/a.flv", "h", 80, "/live/a.flv"),
            ("https://h/live/a.flv", "h", 443, "/live/a.flv"),
            ("ws://h:81/live/a.flv", "h", 81, "/live/a.flv"),
            ("wss://h/live/a.flv", "h", 443, "/live/a.flv"),
            ("tcp://h:5", "h", 5, ""),
            ("http://[::1]:8080/live/a.flv", "::1", 8080, "/live/a.flv"),
            ("rtmp://[::1]/live/a", "::1", 1935, "/live/a"),
        ] {
            let at: Endpoint = url.parse().unwrap();
            assert_eq!((&*at.host, at.port, &*at.path), (host, port, path), "{url}");
        }
        assert_eq!(Endpoint::numbered("rtmp://h/live/s{}", 7).unwrap().name(), "live/s7");
    }

    #[test]
    fn says_what_is_wrong_with_a_url() {
        let error = |url: &str| url.parse::<Endpoint>().unwrap_err();
        assert_eq!(error("srt://h/a"), EndpointError::Scheme("srt://h/a".into()));
        assert_eq!(error("rtmp:///a/b"), EndpointError::NoHost("rtmp:///a/b".into()));
        assert_eq!(error("rtmp://h"), EndpointError::NoStream("rtmp://h".into()));
        let port = "99999".into();
        assert_eq!(error("rtmp://h:99999/a"), EndpointError::Port { url: "rtmp://h:99999/a".into(), port });
    }
}
