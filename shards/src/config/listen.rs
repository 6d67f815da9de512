//! An address to listen on, in the spellings of SRS.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Listen {
    pub ip: IpAddr,
    /// Never 0.
    pub port: u16,
}

impl Listen {
    pub fn addr(self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

/// `1935` (all of IPv4, as SRS), `127.0.0.1:1935`, `[::1]:1935`.
impl FromStr for Listen {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        let (ip, port) = match text.rsplit_once(':') {
            None => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), text),
            Some((ip, port)) => {
                let v6 = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
                let ip = match v6 {
                    Some(ip) => ip.parse::<Ipv6Addr>().map(IpAddr::V6),
                    None => ip.parse::<Ipv4Addr>().map(IpAddr::V4),
                };
                (ip.map_err(|_| NotAnEndpoint)?, port)
            }
        };
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotAnEndpoint); // `parse` would take a sign
        }
        match port.parse() {
            Ok(0) | Err(_) => Err(NotAnEndpoint),
            Ok(port) => Ok(Self { ip, port }),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addr().fmt(f)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a port, ip:port or [ipv6]:port")]
pub struct NotAnEndpoint;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ports_and_addresses() {
        for (text, shown) in [
            ("1935", "0.0.0.0:1935"),
            ("65535", "0.0.0.0:65535"),
            ("127.0.0.1:19350", "127.0.0.1:19350"),
            ("[::]:1935", "[::]:1935"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(text.parse::<Listen>().map(|l| l.to_string()), Ok(shown.into()), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "0",
            "65536",
            "-1",
            "+1",
            "x",
            "1935x",
            ":1935",
            "1.2.3:1",
            "::1:80",
            "[::1]",
            "[1.2.3.4]:1",
            "h:1",
            "1.2.3.4:",
            "1.2.3.4:0",
        ] {
            assert_eq!(text.parse::<Listen>(), Err(NotAnEndpoint), "{text}");
        }
    }
}
