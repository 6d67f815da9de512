//! The RTMP handshake, both sides: three packets each way that agree on nothing but "we speak RTMP".
//!
//! RTMP 1.0 §5.2 has the simple form: packet 0 is the version, packet 1 time and random bytes, packet 2
//! echoes the peer's packet 1. Flash Player, librtmp and FFmpeg use a form that Adobe never published:
//! packet 1 carries an HMAC-SHA256 digest of itself, packet 2 is signed with a key made from the peer's
//! digest. A server tries the digest form and falls back to the simple one.
//!
//! ```text
//!        0      4         8                    772                   1536
//! 1:     | time | version |  first half (764)  |  second half (764)   |
//! half:  the digest half starts with 4 bytes whose sum mod 728 is where in its remainder the digest
//!        lies; schema 0 keeps it in the second half, schema 1 in the first.
//! 2:     | random (1504)                        | signature (32)      |
//! ```

use crate::proxy::{self, ProxyError};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use std::net::Ipv4Addr;

/// Size of packets 1 and 2.
pub const PACKET: usize = 1536;

/// Where a session's random bytes come from: they are expanded from the caller's seed, so that a test
/// can repeat them. Seeds of live sessions come from the system's generator.
pub type Seed = [u8; 32];

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("handshake version {0:#04x}, expected 0x03")]
    Version(u8),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

/// The accepting side.
pub struct ServerHandshake {
    state: ServerState,
    /// What has come of the packet that is being waited for; never more than a packet.
    pending: Vec<u8>,
    seed: Seed,
    proxied_for: Option<Ipv4Addr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerState {
    Version,
    Proxy,
    C1,
    C2,
    Done,
}

impl ServerHandshake {
    pub fn new(seed: Seed) -> Self {
        Self { state: ServerState::Version, pending: Vec::new(), seed, proxied_for: None }
    }

    /// Takes what belongs to the handshake off the front of `input` and appends answers to `out`.
    /// True once the handshake is over; the rest of `input` then is chunks.
    pub fn input(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, HandshakeError> {
        loop {
            let want = match self.state {
                ServerState::Version => 1,
                ServerState::Proxy => proxy::IP_LEN,
                ServerState::C1 | ServerState::C2 => PACKET,
                ServerState::Done => return Ok(true),
            };
            if !fill(&mut self.pending, want, input) {
                return Ok(false);
            }
            self.state = match (self.state, self.pending.as_slice()) {
                (ServerState::Version, [3]) => ServerState::C1,
                (ServerState::Version, [proxy::IP]) if self.proxied_for.is_none() => {
                    self.state = ServerState::Proxy;
                    // It belongs to the header.
                    continue;
                }
                (ServerState::Version, [version, ..]) => {
                    return Err(HandshakeError::Version(*version));
                }
                (ServerState::Proxy, header) => {
                    self.proxied_for = header.first_chunk().map(proxy::client_ip).transpose()?;
                    ServerState::Version
                }
                (ServerState::C1, c1) => {
                    answer(c1, &self.seed, out);
                    ServerState::C2
                }
                // C2 is not verified: peers that sign it wrongly have always been served.
                _ => ServerState::Done,
            };
            self.pending.clear();
            if self.state == ServerState::Done {
                self.pending = Vec::new();
            }
        }
    }

    /// The client's address as a proxy in front of us stated it.
    pub fn proxied_for(&self) -> Option<Ipv4Addr> {
        self.proxied_for
    }
}

/// S0, S1 and S2 for a C1.
fn answer(c1: &[u8], seed: &Seed, out: &mut Vec<u8>) {
    out.push(3);
    let Some((schema, digest)) = find_digest(c1, PLAYER) else {
        out.extend(packet_one(seed, [0; 4]));
        out.extend_from_slice(c1);
        return;
    };
    let mut s1 = packet_one(seed, SERVER_VERSION);
    sign_one(&mut s1, schema, SERVER);
    out.extend(s1);
    out.extend(packet_two(seed, &digest, SERVER_FULL));
}

/// The connecting side: offers a digest, and signs its packet 2 if the server offers one as well.
pub struct ClientHandshake {
    pending: Vec<u8>,
    seed: Seed,
}

impl ClientHandshake {
    /// Appends C0 and C1 to `out`.
    pub fn new(seed: Seed, out: &mut Vec<u8>) -> Self {
        out.push(3);
        let mut c1 = packet_one(&seed, CLIENT_VERSION);
        sign_one(&mut c1, Schema::DigestFirst, PLAYER);
        out.extend(c1);
        Self { pending: Vec::new(), seed }
    }

    /// As [`ServerHandshake::input`]. To be called no more once it was true.
    pub fn input(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, HandshakeError> {
        let complete = fill(&mut self.pending, 1 + PACKET + PACKET, input);
        match self.pending.as_slice() {
            [3, ..] | [] => {}
            [version, ..] => return Err(HandshakeError::Version(*version)),
        }
        if !complete {
            return Ok(false);
        }
        let s1 = self.pending.get(1..1 + PACKET).unwrap_or_default();
        match find_digest(s1, SERVER) {
            Some((_, digest)) => out.extend(packet_two(&self.seed, &digest, PLAYER_FULL)),
            None => out.extend_from_slice(s1),
        }
        self.pending = Vec::new();
        Ok(true)
    }
}

/// Moves bytes from `input` until `pending` holds `want`; false while it does not.
fn fill(pending: &mut Vec<u8>, want: usize, input: &mut &[u8]) -> bool {
    let take = want.saturating_sub(pending.len()).min(input.len());
    let (taken, rest) = input.split_at(take);
    pending.extend_from_slice(taken);
    *input = rest;
    pending.len() >= want
}

/// In which half of packet 1 the digest lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Schema {
    /// Schema 0: the first half is a key that nobody uses, the digest is in the second.
    DigestLast,
    /// Schema 1.
    DigestFirst,
}

impl Schema {
    /// Offset of the digest's half.
    fn half(self) -> usize {
        match self {
            Schema::DigestLast => 772,
            Schema::DigestFirst => 8,
        }
    }

    /// Offset of the digest in `packet`, which is a whole packet 1.
    fn digest_at(self, packet: &[u8]) -> usize {
        let places = packet.get(self.half()..self.half() + 4).unwrap_or_default();
        let sum: usize = places.iter().map(|b| usize::from(*b)).sum();
        self.half() + 4 + sum % 728
    }
}

const DIGEST: usize = 32;

// Both keys end in the same 32 bytes; packet 1 is keyed with the readable part alone, packet 2 with all.
const PLAYER_FULL: &[u8; 62] = b"Genuine Adobe Flash Player 001\
    \xf0\xee\xc2\x4a\x80\x68\xbe\xe8\x2e\x00\xd0\xd1\x02\x9e\x7e\x57\
    \x6e\xec\x5d\x2d\x29\x80\x6f\xab\x93\xb8\xe6\x36\xcf\xeb\x31\xae";
const PLAYER: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER_FULL: &[u8; 68] = b"Genuine Adobe Flash Media Server 001\
    \xf0\xee\xc2\x4a\x80\x68\xbe\xe8\x2e\x00\xd0\xd1\x02\x9e\x7e\x57\
    \x6e\xec\x5d\x2d\x29\x80\x6f\xab\x93\xb8\xe6\x36\xcf\xeb\x31\xae";
const SERVER: &[u8] = b"Genuine Adobe Flash Media Server 001";

/// Non-zero versions tell peers to look for a digest. These are of the last products that had one.
const SERVER_VERSION: [u8; 4] = [1, 0, 5, 4];
const CLIENT_VERSION: [u8; 4] = [9, 0, 124, 2];

/// The digest in a packet 1 and where it was, if it is one made with `key`.
fn find_digest(packet: &[u8], key: &[u8]) -> Option<(Schema, [u8; DIGEST])> {
    [Schema::DigestLast, Schema::DigestFirst].into_iter().find_map(|schema| {
        let (before, digest, after) = around_digest(packet, schema)?;
        (mac(key, &[before, after]) == digest).then_some((schema, digest))
    })
}

fn around_digest(packet: &[u8], schema: Schema) -> Option<(&[u8], [u8; DIGEST], &[u8])> {
    let (before, rest) = packet.split_at_checked(schema.digest_at(packet))?;
    let (digest, after) = rest.split_first_chunk::<DIGEST>()?;
    Some((before, *digest, after))
}

fn packet_one(seed: &Seed, version: [u8; 4]) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    expand(seed, 1, &mut packet[8..]);
    packet[4..8].copy_from_slice(&version);
    packet
}

fn sign_one(packet: &mut [u8; PACKET], schema: Schema, key: &[u8]) {
    let at = schema.digest_at(packet);
    let digest = mac(key, &[&packet[..at], &packet[at + DIGEST..]]);
    packet[at..at + DIGEST].copy_from_slice(&digest);
}

/// Packet 2, signed in answer to a packet 1 with that digest.
fn packet_two(seed: &Seed, digest: &[u8], key: &[u8]) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    let (random, signature) = packet.split_at_mut(PACKET - DIGEST);
    expand(seed, 2, random);
    signature.copy_from_slice(&mac(&mac(key, &[digest]), &[random]));
    packet
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST] {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// SHA-256 in counter mode over the seed, a separate stream for each `packet`.
fn expand(seed: &Seed, packet: u8, out: &mut [u8]) {
    for (counter, block) in (0u8..).zip(out.chunks_mut(32)) {
        let hash = Sha256::new().chain_update(seed).chain_update([packet, counter]).finalize();
        block.copy_from_slice(&hash[..block.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `server` over `input` in steps of `step` bytes; its answers, and what it left over.
    fn run(input: &[u8], step: usize) -> Result<(ServerHandshake, Vec<u8>, Vec<u8>), HandshakeError> {
        let mut server = ServerHandshake::new([7; 32]);
        let (mut out, mut rest, mut done) = (Vec::new(), Vec::new(), false);
        for mut piece in input.chunks(step) {
            if !done {
                done = server.input(&mut piece, &mut out)?;
            }
            rest.extend_from_slice(piece);
        }
        Ok((server, out, rest))
    }

    fn client_bytes(schema: Option<Schema>) -> Vec<u8> {
        let mut bytes = vec![3];
        let mut c1 = packet_one(&[9; 32], CLIENT_VERSION);
        if let Some(schema) = schema {
            sign_one(&mut c1, schema, PLAYER);
        }
        bytes.extend(c1);
        bytes.extend([0x55; PACKET]);
        bytes
    }

    #[test]
    fn hmac_is_the_published_one() {
        // RFC 4231 test case 2.
        assert_eq!(
            mac(b"Jefe", &[b"what do ya want ", b"for nothing?"])[..8],
            [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e]
        );
    }

    #[test]
    fn simple_client_gets_an_echo_at_any_slicing() {
        let mut bytes = client_bytes(None);
        bytes.extend(b"chunks");
        for step in [1, 2, 7, 1535, 1536, 1537, 4000] {
            let (_, out, rest) = run(&bytes, step).unwrap();
            assert_eq!(out.len(), 1 + 2 * PACKET);
            assert_eq!(out[0], 3);
            assert_eq!(out[5..9], [0; 4]);
            assert_eq!(out[1 + PACKET..], bytes[1..1 + PACKET]);
            assert_eq!(rest, b"chunks");
        }
    }

    /// What librtmp and FFmpeg check: S1's digest, then S2's signature under the digest sent.
    #[test]
    fn digest_client_gets_a_digest_in_its_own_schema() {
        for schema in [Schema::DigestLast, Schema::DigestFirst] {
            let bytes = client_bytes(Some(schema));
            let (_, out, _) = run(&bytes, 1000).unwrap();
            let (s1, s2) = out[1..].split_at(PACKET);

            let at = schema.half()
                + 4
                + s1[schema.half()..schema.half() + 4].iter().map(|b| usize::from(*b)).sum::<usize>() % 728;
            let mut without = s1.to_vec();
            let digest: Vec<u8> = without.drain(at..at + DIGEST).collect();
            assert_eq!(mac(b"Genuine Adobe Flash Media Server 001", &[&without])[..], digest);

            let (_, sent, _) = around_digest(&bytes[1..1 + PACKET], schema).unwrap();
            let key = mac(SERVER_FULL, &[&sent]);
            assert_eq!(mac(&key, &[&s2[..1504]])[..], s2[1504..]);
        }
    }

    #[test]
    fn client_and_server_sign_for_each_other() {
        let mut to_server = Vec::new();
        let mut client = ClientHandshake::new([1; 32], &mut to_server);
        let mut server = ServerHandshake::new([2; 32]);
        let mut to_client = Vec::new();
        assert!(!server.input(&mut to_server.as_slice(), &mut to_client).unwrap());

        let mut c2 = Vec::new();
        for mut piece in to_client.chunks(100) {
            client.input(&mut piece, &mut c2).unwrap();
        }
        let (_, digest) = find_digest(&to_client[1..1 + PACKET], SERVER).expect("S1 has a digest");
        let key = mac(PLAYER_FULL, &[&digest]);
        assert_eq!(mac(&key, &[&c2[..1504]])[..], c2[1504..]);
        assert!(server.input(&mut c2.as_slice(), &mut Vec::new()).unwrap());
    }

    #[test]
    fn client_echoes_a_simple_server() {
        let mut client = ClientHandshake::new([1; 32], &mut Vec::new());
        let mut answer = vec![3];
        answer.extend([0x11; PACKET]);
        answer.extend([0x22; PACKET]);
        let mut c2 = Vec::new();
        assert!(client.input(&mut answer.as_slice(), &mut c2).unwrap());
        assert_eq!(c2, [0x11; PACKET]);
    }

    #[test]
    fn proxy_states_the_client() {
        let mut bytes = vec![0xf3, 0, 4, 203, 0, 113, 9];
        bytes.extend(client_bytes(None));
        let (server, out, rest) = run(&bytes, 1).unwrap();
        assert_eq!(server.proxied_for(), Some(Ipv4Addr::new(203, 0, 113, 9)));
        assert_eq!(out.len(), 1 + 2 * PACKET);
        assert!(rest.is_empty());
    }

    #[test]
    fn wrong_openings_are_refused() {
        assert_eq!(run(&[6], 1).err(), Some(HandshakeError::Version(6)));
        assert_eq!(run(&[0xf3, 0, 16, 1, 2, 3, 4], 7).err(), Some(HandshakeError::Proxy(ProxyError::Ip { len: 16 })));
        assert_eq!(run(&[0xf3, 0, 4, 1, 2, 3, 4, 0xf3], 8).err(), Some(HandshakeError::Version(0xf3)));
    }
}
