//! Puts packets back in order, for a while: late ones are waited for within bounds of time and number.

use super::{Packet, wrap::Unwrapper};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Packets that came before their turn. When too many wait, or one for too long, the gap before them is
/// given up; who reads sees that by the sequence number.
#[derive(Debug)]
pub struct Reorder {
    max_packets: usize,
    max_wait: Duration,
    sequence: Unwrapper,
    /// The sequence number whose turn it is.
    next: Option<i64>,
    held: BTreeMap<i64, (Instant, Packet)>,
    /// What follows a packet far behind: its successor shows that the source began anew.
    restart: Option<i64>,
    /// Packets that came twice, or after their gap was given up.
    pub late: u64,
    /// Sequence numbers whose packets never came in time.
    pub lost: u64,
}

/// A packet so far behind is no late one (RFC 3550 appendix A.1 has 100 for slower sources).
const MAX_MISORDER: i64 = 1000;

impl Reorder {
    pub fn new(max_packets: usize, max_wait: Duration) -> Self {
        Self {
            max_packets,
            max_wait,
            sequence: Unwrapper::sequence(),
            next: None,
            held: BTreeMap::new(),
            restart: None,
            late: 0,
            lost: 0,
        }
    }

    /// Another source's packets follow, from any sequence number on. Those held are given up.
    pub fn restart(&mut self) {
        self.lost += self.held.len() as u64;
        self.held.clear();
        (self.sequence, self.next, self.restart) = (Unwrapper::sequence(), None, None);
    }

    pub fn push(&mut self, now: Instant, packet: Packet) {
        let before = self.sequence;
        let at = self.sequence.place(packet.header.sequence.into());
        let next = *self.next.get_or_insert(at);
        if next.saturating_sub(at) > MAX_MISORDER {
            // Appendix A.1: two in a row are a new beginning, one is a stray.
            if self.restart != Some(at) {
                self.restart = at.checked_add(1);
                self.sequence = before;
                self.late += 1;
                return;
            }
            self.lost += self.held.len() as u64;
            self.held.clear();
            self.next = Some(at);
        } else if at < next || self.held.contains_key(&at) {
            self.sequence = before;
            self.late += 1;
            return;
        }
        self.restart = None;
        self.held.insert(at, (now, packet));
    }

    /// The next packet in order with its unwrapped sequence number, unless an earlier one may still come.
    pub fn pop(&mut self, now: Instant) -> Option<(i64, Packet)> {
        let (at, next) = (*self.held.first_key_value()?.0, self.next?);
        let waited = || self.deadline().is_some_and(|deadline| deadline <= now);
        if at != next && self.held.len() <= self.max_packets && !waited() {
            return None;
        }
        let (at, (_, packet)) = self.held.pop_first()?;
        self.lost += u64::try_from(at.saturating_sub(next)).unwrap_or(0);
        self.next = at.checked_add(1);
        Some((at, packet))
    }

    /// When a gap is given up unless its packets come: the one waiting longest has waited enough.
    pub fn deadline(&self) -> Option<Instant> {
        // At most `max_packets` and those of one datagram.
        self.held.values().map(|(since, _)| *since).min()?.checked_add(self.max_wait)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Header, *};
    use bytes::Bytes;

    fn packet(sequence: u16) -> Packet {
        Packet { header: Header { sequence, ..Header::default() }, payload: Bytes::new() }
    }

    /// What comes out right after each push, 1 ms apart.
    fn run(reorder: &mut Reorder, start: Instant, sequences: &[u16]) -> Vec<i64> {
        let mut out = Vec::new();
        for (n, sequence) in sequences.iter().enumerate() {
            let now = start + Duration::from_millis(n as u64);
            reorder.push(now, packet(*sequence));
            out.extend(std::iter::from_fn(|| reorder.pop(now)).map(|(at, _)| at));
        }
        out
    }

    #[test]
    fn orders_over_the_wrap_and_drops_doubles() {
        let mut reorder = Reorder::new(8, Duration::from_secs(1));
        let out = run(&mut reorder, Instant::now(), &[65534, 0, 65535, 65535, 2, 2, 1]);
        assert_eq!(out, [65534, 65535, 65536, 65537, 65538]);
        assert_eq!((reorder.late, reorder.lost), (2, 0));
    }

    #[test]
    fn gives_up_a_gap_after_so_many_packets_or_so_long() {
        let start = Instant::now();
        let mut reorder = Reorder::new(2, Duration::from_secs(1));
        assert_eq!(run(&mut reorder, start, &[1, 3, 4, 5, 2]), [1, 3, 4, 5]);
        assert_eq!((reorder.late, reorder.lost), (1, 1));
        let mut reorder = Reorder::new(100, Duration::from_millis(50));
        assert_eq!(run(&mut reorder, start, &[1, 3, 5]), [1]);
        let deadline = reorder.deadline().unwrap();
        assert_eq!(deadline, start + Duration::from_millis(51));
        assert!(reorder.pop(deadline - Duration::from_millis(1)).is_none());
        assert_eq!(reorder.pop(deadline).unwrap().0, 3);
        assert!(reorder.pop(deadline).is_none());
        assert_eq!(reorder.lost, 1);
    }

    #[test]
    fn follows_a_source_that_begins_anew() {
        let mut reorder = Reorder::new(8, Duration::from_secs(1));
        assert_eq!(run(&mut reorder, Instant::now(), &[30_000, 100, 30_001, 5, 6, 7]), [30_000, 30_001, 6, 7]);
    }
}
