//! What a shared UDP port must know of STUN: whose session a binding request is for.

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: [u8; 2] = [0, 1];
const USERNAME: u16 = 6;
const HEADER_LEN: usize = 20;

/// The local user name fragment that a binding request names: what stands before the colon of its USERNAME
/// (RFC 8489 §5, §14.3; RFC 8445 §7.2.2). Nothing is authenticated by this.
///
/// ```text
/// | type 16 = 1 | length 16 | magic cookie 32 | transaction id 96 | { type 16, length 16, value, padding to 32 } |
/// ```
pub fn asked_ufrag(datagram: &[u8]) -> Option<&str> {
    let (head, mut rest) = datagram.split_at_checked(HEADER_LEN)?;
    if head[..2] != BINDING_REQUEST || head[4..8] != MAGIC_COOKIE {
        return None;
    }
    while let Some((&[t0, t1, l0, l1], value)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        if u16::from_be_bytes([t0, t1]) == USERNAME {
            let name = std::str::from_utf8(value.get(..len)?).ok()?;
            return Some(name.split_once(':').map_or(name, |(ours, _)| ours));
        }
        rest = value.get(len.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::mutations;

    fn request(name: &[u8]) -> Vec<u8> {
        let mut out = [&BINDING_REQUEST[..], &[0, 0], &MAGIC_COOKIE, &[7; 12]].concat();
        out.extend_from_slice(&[0x80, 0x22, 0, 3, b'x', b'y', b'z', 0]);
        out.extend_from_slice(&USERNAME.to_be_bytes());
        out.extend_from_slice(&(name.len() as u16).to_be_bytes());
        out.extend_from_slice(name);
        out.resize(out.len().next_multiple_of(4), 0);
        let len = (out.len() - HEADER_LEN) as u16;
        out[2..4].copy_from_slice(&len.to_be_bytes());
        out
    }

    #[test]
    fn the_fragment_before_the_colon_is_ours() {
        assert_eq!(asked_ufrag(&request(b"ours:theirs")), Some("ours"));
        assert_eq!(asked_ufrag(&request(b"ours")), Some("ours"));
        assert_eq!(asked_ufrag(&request(b"\xff:theirs")), None);
    }

    #[test]
    fn others_are_nobodys() {
        let whole = request(b"ours:theirs");
        for end in 0..whole.len() - 1 {
            assert_eq!(asked_ufrag(&whole[..end]), None, "{end}");
        }
        let answer = [&[1, 1], &whole[2..]].concat();
        assert_eq!(asked_ufrag(&answer), None);
        mutations(&whole, 2000, |bytes| {
            let _ = asked_ufrag(bytes);
        });
    }
}
