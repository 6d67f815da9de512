//! STUN (RFC 8489) as far as a connectivity check of ICE needs it (RFC 8445 §7): a request, and whether an answer is to
//! it.

use hmac::{Hmac, Mac};
use sha1::Sha1;

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEAD: usize = 20;
const BINDING: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const PRIORITY: u16 = 0x0024;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLING: u16 = 0x802a;
/// Of a peer-reflexive candidate (RFC 8445 §5.1.2.1).
const ITS_PRIORITY: u32 = 110 << 24 | 0xffff << 8 | 255;

/// A request that is nobody's: without attributes.
pub fn request(transaction: [u8; 12]) -> Vec<u8> {
    [&BINDING.to_be_bytes()[..], &[0, 0], &MAGIC_COOKIE, &transaction].concat()
}

/// A check that `user` (THEIRS:OURS) makes, signed with their `password`.
pub fn check(user: &str, password: &str, transaction: [u8; 12]) -> Vec<u8> {
    let mut message = request(transaction);
    attribute(&mut message, USERNAME, user.as_bytes());
    attribute(&mut message, PRIORITY, &ITS_PRIORITY.to_be_bytes());
    attribute(&mut message, ICE_CONTROLLING, &transaction[..8]);
    // Both are made of what stands before them, under a length that has them in it (§14.5, §14.7).
    set_length(&mut message, 24);
    let mut hmac = Hmac::<Sha1>::new_from_slice(password.as_bytes()).expect("keys of any length");
    hmac.update(&message);
    attribute(&mut message, MESSAGE_INTEGRITY, &hmac.finalize().into_bytes());
    set_length(&mut message, 8);
    let print = crc32(&message) ^ 0x5354_554e;
    attribute(&mut message, FINGERPRINT, &print.to_be_bytes());
    message
}

/// `answer` says yes to `request`.
pub fn is_answered(request: &[u8], answer: &[u8]) -> bool {
    answer.get(..2) == Some(&BINDING_SUCCESS.to_be_bytes()) && answer.get(4..HEAD) == request.get(4..HEAD)
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
    set_length(message, 0);
}

/// What stands behind the head, and so much that is still to come.
fn set_length(message: &mut [u8], more: usize) {
    let length = (message.len() - HEAD + more) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// ITU-T V.42, as Ethernet has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_framed_signed_and_marked() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let message = check("them:us", "password", *b"0123456789ab");
        assert_eq!(message.len() % 4, 0);
        assert_eq!(usize::from(u16::from_be_bytes([message[2], message[3]])), message.len() - HEAD);
        assert_eq!(message[message.len() - 8..][..4], [0x80, 0x28, 0, 4]);
        assert_eq!(message[message.len() - 32..][..4], [0, 8, 0, 20]);
        let other = check("them:us", "passw0rd", *b"0123456789ab");
        assert_ne!(message[message.len() - 28..], other[other.len() - 28..]);
        let mut answer = message.clone();
        answer[0] = 1;
        assert!(is_answered(&message, &answer) && !is_answered(&message, &message));
        answer[19] ^= 1;
        assert!(!is_answered(&message, &answer) && !is_answered(&message, &[1, 1]));
    }
}
