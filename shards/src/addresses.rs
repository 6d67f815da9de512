//! How many connections each address has in the whole process.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Shared by all shards; locked when a connection comes and goes, never for media.
#[derive(Clone, Default)]
pub struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection of its address, while it lives.
pub struct Counted {
    of: Addresses,
    place: IpAddr,
}

impl Addresses {
    /// Counts one more of `ip`, unless it has `most`. A client with IPv6 has a whole /64, which counts as one.
    pub fn enter(&self, ip: IpAddr, most: usize) -> Option<Counted> {
        let place = match ip.to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
            four => four,
        };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(place).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted { of: self.clone(), place })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.place);
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
        assert!(addresses.0.lock().unwrap().is_empty());
    }
}
