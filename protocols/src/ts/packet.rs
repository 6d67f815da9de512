//! Transport packets (ISO 13818-1 §2.4.3): 188 bytes each, of one PID.
//!
//! ```text
//! | 0x47 | error 1 | unit start 1 | priority 1 | PID 13 | scrambling 2 | adaptation 2 | continuity 4 |
//! | adaptation field, where its bit is set | payload, where its bit is set |
//!
//! adaptation field: | length 8 | discontinuity 1 | random access 1 | … | PCR 1 | … | PCR 48 | stuffing |
//! ```

use bytes::Bytes;

pub const PACKET_LEN: usize = 188;
pub const SYNC: u8 = 0x47;
const HEADER_LEN: usize = 4;
const BODY_LEN: usize = PACKET_LEN - HEADER_LEN;

/// What an adaptation field says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adaptation {
    pub discontinuity: bool,
    pub random_access: bool,
    /// In ticks of 90 kHz, 33 bits.
    pub pcr: Option<u64>,
}

impl Adaptation {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn len(&self) -> usize {
        2 + if self.pcr.is_some() { 6 } else { 0 }
    }
}

/// Appends `unit` as packets of `pid`, the first with `adaptation`; `continuity` counts them.
pub fn write_unit(pid: u16, continuity: &mut u8, mut adaptation: Adaptation, unit: &[u8], out: &mut Vec<u8>) {
    let mut rest = unit;
    let mut start = true;
    while !rest.is_empty() {
        let room = BODY_LEN - if adaptation.is_empty() { 0 } else { adaptation.len() };
        let (payload, after) = rest.split_at(room.min(rest.len()));
        write(pid, start, *continuity, adaptation, payload, out);
        *continuity = (*continuity + 1) & 15;
        (rest, start, adaptation) = (after, false, Adaptation::default());
    }
}

/// Appends a packet without payload. It does not count: `next` is the continuity of the one that follows.
pub fn write_adaptation(pid: u16, next: u8, adaptation: Adaptation, out: &mut Vec<u8>) {
    write(pid, false, next.wrapping_sub(1) & 15, adaptation, &[], out);
}

fn write(pid: u16, start: bool, continuity: u8, adaptation: Adaptation, payload: &[u8], out: &mut Vec<u8>) {
    let end = out.len() + PACKET_LEN;
    let field_len = BODY_LEN - payload.len();
    let [pid_high, pid_low] = pid.to_be_bytes();
    let control = u8::from(field_len > 0) << 5 | u8::from(!payload.is_empty()) << 4;
    out.extend_from_slice(&[SYNC, u8::from(start) << 6 | pid_high & 31, pid_low, control | continuity & 15]);
    if field_len > 0 {
        out.push((field_len - 1) as u8);
    }
    if field_len > 1 {
        let Adaptation { discontinuity, random_access, pcr } = adaptation;
        out.push(u8::from(discontinuity) << 7 | u8::from(random_access) << 6 | u8::from(pcr.is_some()) << 4);
        if let Some(pcr) = pcr {
            // | base 33 | reserved 6 | extension 9 = 0 |
            let [_, _, bytes @ ..] = (pcr << 15 | 0x3f << 9).to_be_bytes();
            out.extend_from_slice(&bytes);
        }
        out.resize(end - payload.len(), 0xff);
    }
    out.extend_from_slice(payload);
}

/// A packet as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub pid: u16,
    pub start: bool,
    pub continuity: u8,
    /// The sender knows that it is broken, or it is scrambled.
    pub unusable: bool,
    pub adaptation: Adaptation,
    pub payload: Option<Bytes>,
}

impl Packet {
    /// `None` where `bytes` are no packet, or its adaptation field does not fit.
    pub fn parse(bytes: &Bytes) -> Option<Self> {
        let (&[sync, high, low, control], body) = bytes.split_first_chunk::<HEADER_LEN>()?;
        if sync != SYNC || bytes.len() != PACKET_LEN {
            return None;
        }
        let mut adaptation = Adaptation::default();
        let mut payload = body;
        if control & 0x20 != 0 {
            let (&len, rest) = body.split_first()?;
            let (field, rest) = rest.split_at_checked(len.into())?;
            payload = rest;
            let flags = field.first().copied().unwrap_or(0);
            adaptation.discontinuity = flags & 0x80 != 0;
            adaptation.random_access = flags & 0x40 != 0;
            if flags & 0x10 != 0
                && let Some(&[a, b, c, d, e]) = field.get(1..6)
            {
                adaptation.pcr = Some(u64::from_be_bytes([0, 0, 0, a, b, c, d, e]) >> 7);
            }
        }
        Some(Self {
            pid: u16::from_be_bytes([high & 31, low]),
            start: high & 0x40 != 0,
            continuity: control & 15,
            unusable: high & 0x80 != 0 || control & 0xc0 != 0,
            adaptation,
            payload: (control & 0x10 != 0).then(|| bytes.slice_ref(payload)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_any_length_come_back() {
        for adaptation in [
            Adaptation::default(),
            Adaptation { random_access: true, pcr: Some((1 << 33) - 1), ..Adaptation::default() },
            Adaptation { discontinuity: true, ..Adaptation::default() },
        ] {
            for len in 1..600 {
                let unit: Vec<u8> = (0..len).map(|n| n as u8).collect();
                let (mut out, mut continuity) = (Vec::new(), 14);
                write_unit(0x100, &mut continuity, adaptation, &unit, &mut out);
                assert_eq!(out.len() % PACKET_LEN, 0);
                let packets: Vec<_> =
                    out.chunks(PACKET_LEN).map(|p| Packet::parse(&Bytes::copy_from_slice(p)).unwrap()).collect();
                let again: Vec<u8> = packets.iter().flat_map(|p| p.payload.clone().unwrap()).collect();
                assert_eq!(again, unit);
                assert_eq!(packets[0].adaptation, adaptation, "{len}");
                assert!(packets.iter().enumerate().all(|(n, p)| p.start == (n == 0) && p.pid == 0x100));
                assert!(packets.iter().enumerate().all(|(n, p)| p.continuity == (14 + n) as u8 & 15));
                assert_eq!(continuity, (14 + packets.len()) as u8 & 15);
            }
        }
    }

    #[test]
    fn packet_without_payload_has_the_number_of_the_one_before() {
        let mut out = Vec::new();
        write_adaptation(0x101, 0, Adaptation { pcr: Some(5), ..Adaptation::default() }, &mut out);
        let packet = Packet::parse(&out.into()).unwrap();
        assert_eq!((packet.continuity, packet.payload, packet.adaptation.pcr), (15, None, Some(5)));
    }
}
