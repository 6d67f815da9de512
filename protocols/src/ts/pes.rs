//! PES packets (ISO 13818-1 §2.4.3.6): one unit of an elementary stream and its times.
//!
//! ```text
//! | 00 00 01 | stream id 8 | length 16 | 10 | … alignment 1 … | PTS, DTS flags 2 … | header length 8 | times | data |
//! ```

use shardcast_engine::codec::{Codec, Kind};

/// Times count 90 kHz and wrap at 33 bits.
pub const HZ: u32 = 90_000;
pub const WRAP: i64 = 1 << 33;

const FIXED_LEN: usize = 9;
/// Before this the length does not count.
const LENGTH_END: usize = 6;

/// Appends the header of a packet whose data are `len` bytes. The length is left open, as only pictures may,
/// where 16 bits cannot tell it.
pub fn write_header(codec: Codec, pts: i64, dts: i64, len: usize, out: &mut Vec<u8>) {
    let stream_id = match codec {
        // private_stream_1, as ATSC A/52 annex A and the mapping of Opus want it.
        Codec::Ac3 | Codec::Eac3 | Codec::Opus => 0xbd,
        _ if codec.kind() == Kind::Video => 0xe0,
        _ => 0xc0,
    };
    let times_len = if pts == dts { 5 } else { 10 };
    let packet_len = u16::try_from(FIXED_LEN - LENGTH_END + times_len + len).unwrap_or(0);
    let [l1, l2] = packet_len.to_be_bytes();
    let flags = if pts == dts { 0x80 } else { 0xc0 };
    out.extend_from_slice(&[0, 0, 1, stream_id, l1, l2, 0x84, flags, times_len as u8]);
    if pts == dts {
        out.extend_from_slice(&time(2, pts));
    } else {
        out.extend_from_slice(&time(3, pts));
        out.extend_from_slice(&time(1, dts));
    }
}

/// ```text
/// | mark 4 | bits 32…30 | 1 | bits 29…15 | 1 | bits 14…0 | 1 |
/// ```
fn time(mark: u8, ticks: i64) -> [u8; 5] {
    let ticks = ticks.rem_euclid(WRAP) as u64;
    let spread = (ticks >> 30 & 7) << 33 | 1 << 32 | (ticks >> 15 & 0x7fff) << 17 | 1 << 16 | (ticks & 0x7fff) << 1 | 1;
    let [_, _, _, first, rest @ ..] = spread.to_be_bytes();
    let [a, b, c, d] = rest;
    [mark << 4 | first, a, b, c, d]
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Of the whole packet, where that is told.
    pub packet_len: Option<usize>,
    /// Where the data begin.
    pub data: usize,
    /// 33 bits.
    pub pts: Option<i64>,
    pub dts: Option<i64>,
}

/// The length of the whole packet, once that is there and told.
pub fn packet_len(bytes: &[u8]) -> Option<usize> {
    match bytes.get(4..LENGTH_END) {
        Some(&[0, 0]) | None => None,
        Some(&[high, low]) => Some(LENGTH_END + usize::from(u16::from_be_bytes([high, low]))),
        Some(_) => None,
    }
}

/// `None` where it is broken, or of a kind that has no times.
pub fn header(bytes: &[u8]) -> Option<Header> {
    let &[0, 0, 1, _, _, _, mark, flags, header_len] = bytes.first_chunk::<FIXED_LEN>()? else { return None };
    if mark >> 6 != 2 {
        return None;
    }
    let data = FIXED_LEN + usize::from(header_len);
    let times = bytes.get(FIXED_LEN..data)?;
    let pts = if flags & 0x80 != 0 { read_time(times, 0) } else { None };
    let dts = if flags & 0xc0 == 0xc0 { read_time(times, 5) } else { None };
    Some(Header { packet_len: packet_len(bytes), data, pts, dts })
}

fn read_time(times: &[u8], at: usize) -> Option<i64> {
    let &[a, b, c, d, e] = times.get(at..at + 5)? else { return None };
    let [a, b, c, d, e] = [a, b, c, d, e].map(i64::from);
    Some((a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1)
}

/// Makes 33-bit times whole: each is the one nearest to the last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    last: Option<i64>,
}

impl Clock {
    pub fn unwrap(&mut self, ticks: i64) -> i64 {
        let whole = self.last.map_or(ticks, |last| nearest(last, ticks));
        self.last = Some(whole);
        whole
    }
}

/// The time nearest to `to` whose low 33 bits are those of `ticks`.
pub fn nearest(to: i64, ticks: i64) -> i64 {
    let ahead = ticks.wrapping_sub(to).rem_euclid(WRAP);
    to.saturating_add(if ahead >= WRAP / 2 { ahead - WRAP } else { ahead })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back() {
        for (pts, dts) in [(0, 0), (WRAP - 1, WRAP - 3600), (3600, WRAP - 1), (0x1_2345_6789, 0x1_2345_6789)] {
            for len in [0, 1000, 65_522, 65_523, 1 << 20] {
                let mut out = Vec::new();
                write_header(Codec::H264, pts, dts, len, &mut out);
                let header = header(&out).unwrap();
                assert_eq!((header.pts, header.dts.unwrap_or(pts), header.data), (Some(pts), dts, out.len()));
                let told = (out.len() + len <= 6 + 65_535).then_some(out.len() + len);
                assert_eq!(header.packet_len, told);
            }
        }
    }

    #[test]
    fn clock_goes_on_over_the_wrap_in_both_directions() {
        let mut clock = Clock::default();
        let times = [WRAP - 100, 50, WRAP - 10, 3600].map(|ticks| clock.unwrap(ticks));
        assert_eq!(times, [WRAP - 100, WRAP + 50, WRAP - 10, WRAP + 3600]);
    }
}
