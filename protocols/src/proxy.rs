//! The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): how a proxy in front of us says whose
//! connection it brings; and SRS's PROXY-IP, for the same.
//!
//! ```text
//! v1:  PROXY TCP4 source destination source-port destination-port CR LF          107 bytes at the most
//! v2:  | signature (12) | version, command | family, protocol | length (2) | addresses, then TLVs |
//! SRS: | 0xf3 | length (2), 4 | IPv4 address |
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the bytes of a header that have come say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// So many bytes more, at least, belong to it.
    More(usize),
    /// It is whole. `None`: the proxy speaks for itself, or does not know its client.
    Client(Option<SocketAddr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    #[error("no PROXY header comes first")]
    Missing,
    #[error("PROXY header of {len} bytes, at most {max} are read")]
    TooLong { len: usize, max: usize },
    #[error("PROXY line does not have an address and a port at word {word}")]
    Word { word: usize },
    #[error("PROXY header has version and command {0:#04x}")]
    Command(u8),
    #[error("PROXY-IP header carries {len} bytes, expected the 4 of an IPv4 address")]
    Ip { len: u16 },
    #[error("PROXY header of family {family:#04x} has {len} bytes of addresses")]
    Addresses { family: u8, len: usize },
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const LINE: &[u8] = b"PROXY ";
/// The first byte of SRS's PROXY-IP, and how long that is.
pub const IP: u8 = 0xf3;
pub const IP_LEN: usize = 7;
/// The shortest header, `PROXY UNKNOWN` and its end. No more may be read before it is known which one it is.
const SHORTEST: usize = 15;
const LONGEST_LINE: usize = 107;
/// Of version 2, addresses and TLVs.
const LONGEST: usize = 2048;

impl Header {
    /// Reads what has come, which must not be more than the header.
    pub fn read(bytes: &[u8]) -> Result<Self, ProxyError> {
        let starts = |with: &[u8]| bytes.iter().zip(with).all(|(byte, wanted)| byte == wanted);
        if bytes.is_empty() {
            Ok(Header::More(1))
        } else if starts(&[IP]) {
            match bytes.first_chunk() {
                Some(header) => Ok(Header::Client(Some(SocketAddr::new(client_ip(header)?.into(), 0)))),
                None => Ok(Header::More(IP_LEN - bytes.len())),
            }
        } else if starts(SIGNATURE) {
            binary(bytes)
        } else if starts(LINE) {
            line(bytes)
        } else {
            Err(ProxyError::Missing)
        }
    }
}

/// The client of a whole PROXY-IP header.
pub fn client_ip(header: &[u8; IP_LEN]) -> Result<Ipv4Addr, ProxyError> {
    let [_, high, low, a, b, c, d] = *header;
    match u16::from_be_bytes([high, low]) {
        4 => Ok(Ipv4Addr::new(a, b, c, d)),
        len => Err(ProxyError::Ip { len }),
    }
}

fn line(bytes: &[u8]) -> Result<Header, ProxyError> {
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        if bytes.len() >= LONGEST_LINE {
            return Err(ProxyError::TooLong { len: bytes.len() + 1, max: LONGEST_LINE });
        }
        return Ok(Header::More(SHORTEST.saturating_sub(bytes.len()).max(1)));
    };
    let mut words = line.split(|byte| *byte == b' ').skip(1).map(|word| std::str::from_utf8(word).unwrap_or_default());
    match words.next() {
        Some("UNKNOWN") => return Ok(Header::Client(None)),
        Some("TCP4" | "TCP6") => {}
        _ => return Err(ProxyError::Word { word: 1 }),
    }
    let ip: IpAddr = words.next().and_then(|word| word.parse().ok()).ok_or(ProxyError::Word { word: 2 })?;
    let port: u16 = words.nth(1).and_then(|word| word.parse().ok()).ok_or(ProxyError::Word { word: 4 })?;
    Ok(Header::Client(Some(SocketAddr::new(ip, port))))
}

fn binary(bytes: &[u8]) -> Result<Header, ProxyError> {
    let Some(&[command, family, high, low]) = bytes.get(SIGNATURE.len()..SIGNATURE.len() + 4) else {
        // The shortest one first, and then the byte that this one has more.
        let end = if bytes.len() < SHORTEST { SHORTEST } else { SIGNATURE.len() + 4 };
        return Ok(Header::More(end - bytes.len()));
    };
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > LONGEST {
        return Err(ProxyError::TooLong { len, max: LONGEST });
    }
    let addresses = bytes.get(SIGNATURE.len() + 4..).unwrap_or_default();
    if addresses.len() < len {
        return Ok(Header::More(len - addresses.len()));
    }
    // Source, destination, source port, destination port.
    let client = match (command, family) {
        // LOCAL: the proxy's own check of us. UNSPEC and sockets of files have no address.
        (0x20, _) | (0x21, 0x00 | 0x31 | 0x32) => None,
        (0x21, 0x11) => match addresses {
            [a, b, c, d, _, _, _, _, high, low, _, _, ..] => {
                Some((Ipv4Addr::new(*a, *b, *c, *d).into(), u16::from_be_bytes([*high, *low])))
            }
            _ => return Err(ProxyError::Addresses { family, len }),
        },
        (0x21, 0x21) => match (addresses.first_chunk::<16>(), addresses.get(32..34), len >= 36) {
            (Some(ip), Some(&[high, low]), true) => Some((Ipv6Addr::from(*ip).into(), u16::from_be_bytes([high, low]))),
            _ => return Err(ProxyError::Addresses { family, len }),
        },
        (0x21, family) => return Err(ProxyError::Addresses { family, len }),
        (command, _) => return Err(ProxyError::Command(command)),
    };
    Ok(Header::Client(client.map(|(ip, port)| SocketAddr::new(ip, port))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::mutations;

    /// As a connection does: no more bytes than asked for.
    fn read(bytes: &[u8]) -> (Result<Header, ProxyError>, usize) {
        let mut have = 0;
        loop {
            match Header::read(&bytes[..have]) {
                Ok(Header::More(more)) if have + more <= bytes.len() => have += more,
                result => return (result, have),
            }
        }
    }

    /// Followed by the first byte of RTMP.
    fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend_from_slice(&[command, family, 0, addresses.len() as u8]);
        bytes.extend_from_slice(addresses);
        bytes.push(3);
        bytes
    }

    #[test]
    fn reads_both_versions_and_not_a_byte_beyond() {
        let client = |text: &str| Ok(Header::Client(Some(text.parse().unwrap())));
        let line = b"PROXY TCP4 192.0.2.7 10.0.0.1 51000 1935\r\n\x03";
        assert_eq!(read(line), (client("192.0.2.7:51000"), line.len() - 1));
        assert_eq!(read(b"PROXY TCP6 2001:db8::7 ::1 51000 1935\r\n").0, client("[2001:db8::7]:51000"));
        assert_eq!(read(b"PROXY UNKNOWN\r\n\x03"), (Ok(Header::Client(None)), 15));
        let four = version_2(0x21, 0x11, &[10, 1, 2, 3, 10, 0, 0, 1, 0x9c, 0x40, 7, 0x8f]);
        assert_eq!(read(&four), (client("10.1.2.3:40000"), four.len() - 1));
        let mut addresses = [0; 36 + 5];
        addresses[15] = 1;
        addresses[32..34].copy_from_slice(&[0x9c, 0x40]);
        let six = version_2(0x21, 0x21, &addresses);
        assert_eq!(read(&six), (client("[::1]:40000"), six.len() - 1));
        assert_eq!(read(&version_2(0x20, 0, &[])), (Ok(Header::Client(None)), 16));
        assert_eq!(read(&[0xf3, 0, 4, 10, 1, 2, 3, 3]), (client("10.1.2.3:0"), 7));
    }

    #[test]
    fn what_is_no_header_is_named() {
        assert_eq!(read(b"\x03").0, Err(ProxyError::Missing));
        assert_eq!(read(b"PROXY TCP4 no 1 2 3\r\n").0, Err(ProxyError::Word { word: 2 }));
        assert_eq!(read(b"PROXY SCTP 1 2 3 4\r\n").0, Err(ProxyError::Word { word: 1 }));
        assert_eq!(
            read(&[b"PROXY TCP4 ", &[b'1'; 200][..]].concat()).0,
            Err(ProxyError::TooLong { len: 108, max: 107 })
        );
        assert_eq!(read(&version_2(0x21, 0x11, &[1; 8])).0, Err(ProxyError::Addresses { family: 0x11, len: 8 }));
        assert_eq!(read(&[0xf3, 0, 16, 1, 2, 3, 4]).0, Err(ProxyError::Ip { len: 16 }));
        assert_eq!(read(&version_2(0x31, 0x11, &[1; 12])).0, Err(ProxyError::Command(0x31)));
        let long = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff][..]].concat();
        assert_eq!(read(&long).0, Err(ProxyError::TooLong { len: 65_535, max: 2048 }));
    }

    #[test]
    fn hostile_headers_do_not_panic() {
        for golden in [b"PROXY TCP4 192.0.2.7 10.0.0.1 51000 1935\r\n".to_vec(), version_2(0x21, 0x11, &[9; 20])] {
            mutations(&golden, 20_000, |bytes| {
                let (_, have) = read(bytes);
                assert!(have <= bytes.len());
            });
        }
    }
}
