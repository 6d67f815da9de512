//! How many connections, or other places, each address has in the whole process.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Shared by all shards; locked when a connection comes and goes, never for media.
#[derive(Clone, Default)]
pub struct Addresses(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    by_place: HashMap<IpAddr, usize>,
    total: usize,
}

/// A place that an address has until this is dropped.
pub struct Counted {
    of: Addresses,
    place: IpAddr,
}

impl Addresses {
    /// Counts one more of `ip`, unless it has `most`. A client with IPv6 has a whole /64, which counts as one.
    pub fn enter(&self, ip: IpAddr, most: usize) -> Option<Counted> {
        self.enter_under(ip, |_| most)
    }

    /// Counts one more of `ip` among `most` of all addresses, unless `ip` has as many as are free: one alone can take
    /// half of them, and leaves something to who comes next.
    pub fn share(&self, ip: IpAddr, most: usize) -> Option<Counted> {
        self.enter_under(ip, |total| most.saturating_sub(total))
    }

    /// `bound` gets the count of all.
    fn enter_under(&self, ip: IpAddr, bound: impl FnOnce(usize) -> usize) -> Option<Counted> {
        let place = match ip.to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
            four => four,
        };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.by_place.get(&place).copied().unwrap_or_default() >= bound(counts.total) {
            return None;
        }
        *counts.by_place.entry(place).or_default() += 1;
        counts.total += 1;
        Some(Counted { of: self.clone(), place })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(count) = counts.by_place.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                counts.by_place.remove(&self.place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_and_leaves_nothing_behind() {
        let addresses = Addresses::default();
        let enter = |ip: &str| addresses.enter(ip.parse().unwrap(), 2);
        let (first, second) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some() && enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some());
        drop(first);
        let third = enter("192.0.2.1");
        assert!(third.is_some());
        let six = [enter("2001:db8::1"), enter("2001:db8::2"), enter("2001:db8::3"), enter("2001:db8:0:1::1")];
        assert_eq!(six.each_ref().map(Option::is_some), [true, true, false, true]);
        drop((second, third, six));
        let counts = addresses.0.lock().unwrap();
        assert_eq!((counts.by_place.len(), counts.total), (0, 0));
    }

    #[test]
    fn no_address_has_more_than_are_free() {
        let addresses = Addresses::default();
        let enter = |ip: &str| (0..16).map_while(|_| addresses.share(ip.parse().unwrap(), 8)).collect::<Vec<_>>();
        let four = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"].map(enter);
        assert_eq!(four.each_ref().map(Vec::len), [4, 2, 1, 1]);
        assert!(enter("192.0.2.5").is_empty(), "all are taken");
        let [first, ..] = four;
        drop(first);
        assert_eq!(enter("192.0.2.5").len(), 2);
    }
}
