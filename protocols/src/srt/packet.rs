//! What a packet must be before the crate sees it.

use srt_protocol::packet::Packet;
use std::net::SocketAddr;

/// Header of every packet, bytes.
const HEADER: usize = 16;
/// What a handshake has before its extensions, bytes.
const HANDSHAKE: usize = HEADER + 48;
/// Packets that one report of losses may name; the sender keeps no more.
const LOSSES: u32 = 8192;
const LARGEST: usize = 1500;
/// No round trip is longer, nor varies by more, in µs: the crate multiplies them without a check.
const TRIP_MAX: u32 = 10_000_000;

/// The packet, where it is one that may be handed on.
pub fn parse(bytes: &[u8], from: SocketAddr) -> Option<Packet> {
    if !is_sound(bytes) {
        return None;
    }
    let mut rest = bytes;
    Packet::parse(&mut rest, from.is_ipv6()).ok()
}

/// The socket that a packet is for; 0 in a handshake.
pub fn destination(bytes: &[u8]) -> Option<u32> {
    word(bytes, 12)
}

pub fn is_handshake(bytes: &[u8]) -> bool {
    word(bytes, 0).is_some_and(|word| word >> 16 == 0x8000)
}

fn is_sound(bytes: &[u8]) -> bool {
    let (Some(first), true) = (word(bytes, 0), (HEADER..=LARGEST).contains(&bytes.len())) else { return false };
    if first >> 31 == 0 {
        return bytes.len() > HEADER;
    }
    let body = bytes.get(HEADER..).unwrap_or_default();
    match (first >> 16) & 0x7fff {
        0 => bytes.len() >= HANDSHAKE && are_extensions(bytes.get(HANDSHAKE..).unwrap_or_default()),
        1 | 5 | 6 => true,
        2 => word(body, 0).is_some_and(|number| number >> 31 == 0) && is_trip(body),
        3 => are_losses(body),
        7 => matches!((word(body, 0), word(body, 4)), (Some(first), Some(last)) if is_range(first, last)),
        // Only keys are renewed on the way; other extensions belong into a handshake.
        0x7fff => matches!(first & 0xffff, 3 | 4) && !body.is_empty(),
        _ => false,
    }
}

/// Blocks of type and length in words (§3.2.1): a request, keys and a streamid are all that is known.
fn are_extensions(mut bytes: &[u8]) -> bool {
    while let Some(head) = word(bytes, 0) {
        let length = 4 + 4 * (head & 0xffff) as usize;
        let (Some(rest), 1 | 3 | 5) = (bytes.get(length..), head >> 16) else { return false };
        bytes = rest;
    }
    bytes.is_empty()
}

/// Single numbers and ranges, whose first has the top bit set (appendix A).
fn are_losses(body: &[u8]) -> bool {
    let mut words = body.chunks_exact(4).filter_map(|chunk| word(chunk, 0));
    let mut total = 0;
    while let Some(number) = words.next() {
        total += 1;
        if number >> 31 == 1 {
            let first = number & 0x7fff_ffff;
            match words.next() {
                Some(last) if is_range(first, last) && first < last => total += last - first,
                _ => return false,
            }
        }
        if total > LOSSES {
            return false;
        }
    }
    total > 0 && body.len().is_multiple_of(4)
}

/// Round trip and its variance of an acknowledgement (§3.2.4), where it has them.
fn is_trip(body: &[u8]) -> bool {
    [4, 8].into_iter().filter_map(|at| word(body, at)).all(|us| us <= TRIP_MAX)
}

fn is_range(first: u32, last: u32) -> bool {
    first <= last && last >> 31 == 0 && last - first <= LOSSES
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
