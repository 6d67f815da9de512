//! As much of a WebRTC player as `doctor` needs to reach a server's candidates: WHEP (draft-ietf-wish-whep) to get
//! credentials, and a check of ICE for each address.

use crate::http::{Error, Server};

/// 256 bits that no certificate has: nobody goes as far as to encrypt.
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
    a=ice-ufrag:doctor\r\na=ice-pwd:doctordoctordoctordoctor\r\na=setup:actpass\r\n\
    a=fingerprint:sha-256 00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\n\
    a=rtpmap:111 opus/48000/2\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=recvonly\r\na=rtcp-mux\r\n\
    a=rtpmap:96 H264/90000\r\na=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1\r\n";

/// A session that the server holds for us until it is dropped.
pub struct Player<'s> {
    server: &'s Server,
    location: String,
    /// THEIRS:OURS, and their password.
    pub user: String,
    pub password: String,
    /// Where the server says that it is: host and port.
    pub candidates: Vec<String>,
}

impl<'s> Player<'s> {
    /// Of `stream`: APP/STREAM, perhaps with a query that lets it in. The server asks its hooks about it.
    pub fn begin(server: &'s Server, stream: &str) -> Result<Self, Error> {
        let (path, query) = stream.split_once('?').unwrap_or((stream, ""));
        let (app, name) = path.trim_start_matches('/').rsplit_once('/').unwrap_or(("live", path));
        let more = if query.is_empty() { String::new() } else { format!("&{query}") };
        let answer = server.offer(&format!("/rtc/v1/whep/?app={app}&stream={name}{more}"), OFFER)?;
        let value = |name: &str| answer.body.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let mut candidates: Vec<_> = answer.body.lines().filter_map(candidate).collect();
        candidates.sort();
        candidates.dedup();
        Ok(Self {
            server,
            location: answer.header("location").unwrap_or_default().to_owned(),
            user: format!("{}:doctor", value("a=ice-ufrag:")),
            password: value("a=ice-pwd:").to_owned(),
            candidates,
        })
    }
}

impl Drop for Player<'_> {
    fn drop(&mut self) {
        // The server ends a session by itself where nobody does.
        let _ = self.server.end(&self.location);
    }
}

/// Host and port of `a=candidate:0 1 udp PRIORITY HOST PORT typ host` (RFC 8839 §5.1).
fn candidate(line: &str) -> Option<String> {
    let mut words = line.strip_prefix("a=candidate:")?.split(' ');
    let (transport, host, port) = (words.nth(2)?, words.nth(1)?, words.next()?);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    transport.eq_ignore_ascii_case("udp").then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_hosts_and_ports_of_udp() {
        let of = |line| candidate(line);
        assert_eq!(of("a=candidate:0 1 udp 2130706431 192.0.2.1 8000 typ host").as_deref(), Some("192.0.2.1:8000"));
        assert_eq!(of("a=candidate:1 1 UDP 1 2001:db8::1 8000 typ host").as_deref(), Some("[2001:db8::1]:8000"));
        assert_eq!(of("a=candidate:1 1 tcp 1 192.0.2.1 8000 typ host tcptype passive"), None);
        assert_eq!((of("a=candidate:1 1 udp"), of("a=mid:0")), (None, None));
    }
}
