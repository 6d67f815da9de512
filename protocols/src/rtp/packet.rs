//! RTP packets: the fixed header, and where the payload lies.

use bytes::Bytes;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    #[error("RTP packet of {len} bytes ends inside a field that ends at {need}")]
    Truncated { len: usize, need: usize },
    #[error("RTP packet has version {0}, not 2")]
    Version(u8),
    #[error("RTP packet states {padding} bytes of padding, {left} are left")]
    Padding { padding: u8, left: usize },
}

/// The fields of the fixed header, RFC 3550 §5.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The last packet of a picture.
    pub marker: bool,
    /// 7 bits.
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub header: Header,
    /// Without padding.
    pub payload: Bytes,
}

/// Bytes of a header without contributing sources and extension.
pub const HEADER_LEN: usize = 12;

impl Header {
    /// ```text
    /// | version 2 = 2 | padding 1 | extension 1 | CSRC count 4 | marker 1 | payload type 7 | sequence 16 |
    /// | timestamp 32 | SSRC 32 |
    /// ```
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [r0, r1, r2, r3] = self.ssrc.to_be_bytes();
        let second = u8::from(self.marker) << 7 | self.payload_type & 0x7f;
        [0x80, second, s0, s1, t0, t1, t2, t3, r0, r1, r2, r3]
    }
}

impl Packet {
    /// Reads one datagram; contributing sources and extension are skipped (§5.1, §5.3.1).
    pub fn parse(datagram: &Bytes) -> Result<Self, PacketError> {
        let len = datagram.len();
        let Some((&[first, second, s0, s1, t0, t1, t2, t3, r0, r1, r2, r3], _)) =
            datagram.split_first_chunk::<HEADER_LEN>()
        else {
            return Err(PacketError::Truncated { len, need: HEADER_LEN });
        };
        if first >> 6 != 2 {
            return Err(PacketError::Version(first >> 6));
        }
        // At most 12 + 60 + 4 + 262 140: no overflow.
        let mut start = HEADER_LEN + usize::from(first & 15) * 4;
        if first & 0x10 != 0 {
            let need = start + 4;
            let Some(&[_, _, l0, l1]) = datagram.get(start..need) else {
                return Err(PacketError::Truncated { len, need });
            };
            start = need + usize::from(u16::from_be_bytes([l0, l1])) * 4;
        }
        let Some(rest) = datagram.get(start..) else { return Err(PacketError::Truncated { len, need: start }) };
        let padding = if first & 0x20 != 0 { rest.last().copied().unwrap_or(0) } else { 0 };
        // The count includes itself, so zero is wrong where the bit is set.
        let wrong = first & 0x20 != 0 && padding == 0;
        let end = len.checked_sub(padding.into()).filter(|end| *end >= start && !wrong);
        let end = end.ok_or(PacketError::Padding { padding, left: rest.len() })?;
        Ok(Self {
            header: Header {
                marker: second & 0x80 != 0,
                payload_type: second & 0x7f,
                sequence: u16::from_be_bytes([s0, s1]),
                timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
                ssrc: u32::from_be_bytes([r0, r1, r2, r3]),
            },
            payload: datagram.slice(start..end),
        })
    }

    /// Header and payload in one piece.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.header.to_bytes()[..], &self.payload].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::{hex, mutations};

    /// Written by hand after RFC 3550 §5.1: one CSRC, an extension of one word, three bytes of padding.
    fn full() -> Vec<u8> {
        hex("b1 e0 fffe 00000102 deadbeef 00000001 bede0001 10aa0000 414243 000003")
    }

    #[test]
    fn skips_sources_extension_and_padding() {
        let packet = Packet::parse(&full().into()).unwrap();
        let header = Header { marker: true, payload_type: 96, sequence: 0xfffe, timestamp: 0x102, ssrc: 0xdead_beef };
        assert_eq!(packet, Packet { header, payload: Bytes::from_static(b"ABC") });
        assert_eq!(Packet::parse(&packet.to_bytes().into()), Ok(packet));
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(Packet::parse(&Bytes::new()), Err(PacketError::Truncated { len: 0, need: 12 }));
        assert_eq!(Packet::parse(&vec![0x40; 12].into()), Err(PacketError::Version(1)));
        let mut bytes = full();
        *bytes.last_mut().unwrap() = 7;
        assert_eq!(Packet::parse(&bytes.into()), Err(PacketError::Padding { padding: 7, left: 6 }));
        let bytes = full()[..22].to_vec();
        assert_eq!(Packet::parse(&bytes.into()), Err(PacketError::Truncated { len: 22, need: 24 }));
    }

    #[test]
    fn hostile_bytes_do_not_panic() {
        mutations(&full(), 20_000, |bytes| {
            if let Ok(packet) = Packet::parse(&Bytes::copy_from_slice(bytes)) {
                assert!(packet.payload.len() + HEADER_LEN <= bytes.len());
            }
        });
    }
}
