//! One direction of a road: which packets get lost, and when the others arrive. No sockets and no clock.

use bytes::Bytes;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

#[derive(Clone, Debug, Default)]
pub struct Road {
    pub delay: Duration,
    /// Up to so much is added, at random.
    pub jitter: Duration,
    /// Probabilities, 0 to 1.
    pub loss: f64,
    pub reorder: f64,
    /// What those are later by; without it they would keep their order.
    pub reorder_by: Duration,
    pub bytes_per_second: Option<u64>,
    /// How long the rate may hold a packet back.
    pub queue: Duration,
}

pub struct Lane {
    road: Road,
    dice: Dice,
    /// When the rate has let through what came so far.
    free_at: Instant,
    /// When the latest that keep their order arrive.
    latest: Instant,
    /// By arrival, and among equals by departure.
    waiting: BTreeMap<(Instant, u64), Bytes>,
    pub sent: u64,
    pub lost: u64,
    /// Beyond the queue.
    pub overflown: u64,
}

impl Lane {
    pub fn new(road: Road, seed: u64, now: Instant) -> Self {
        let (dice, waiting) = (Dice::new(seed), BTreeMap::new());
        Self { road, dice, free_at: now, latest: now, waiting, sent: 0, lost: 0, overflown: 0 }
    }

    /// A packet departs, or gets lost.
    pub fn put(&mut self, now: Instant, packet: Bytes) {
        // Each packet rolls as often, so that its fate depends on the seed and its number alone.
        let [lost, late, jitter] = [(); 3].map(|()| self.dice.roll());
        if lost < self.road.loss {
            self.lost += 1;
            return;
        }
        if !self.full_for(now).is_zero() {
            self.overflown += 1;
            return;
        }
        self.free_at = self.free_at.max(now);
        if let Some(rate) = self.road.bytes_per_second {
            self.free_at += Duration::from_secs_f64(packet.len() as f64 / rate as f64);
        }
        let mut due = self.free_at + self.road.delay + self.road.jitter.mul_f64(jitter);
        if late < self.road.reorder {
            due += self.road.reorder_by;
        } else {
            due = due.max(self.latest);
            self.latest = due;
        }
        self.waiting.insert((due, self.sent), packet);
        self.sent += 1;
    }

    /// How long until the queue has room.
    pub fn full_for(&self, now: Instant) -> Duration {
        self.free_at.saturating_duration_since(now).saturating_sub(self.road.queue)
    }

    /// A packet that has arrived by now.
    pub fn take(&mut self, now: Instant) -> Option<Bytes> {
        let first = self.waiting.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    /// When the next one arrives.
    pub fn due(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// All that wait, with when they arrive.
    pub fn drain(&mut self) -> impl Iterator<Item = (Instant, Bytes)> + use<> {
        std::mem::take(&mut self.waiting).into_iter().map(|((due, _), packet)| (due, packet))
    }
}

/// Numbers that look random and are the same for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 up to 1.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKETS: u32 = 20_000;
    const EACH: Duration = Duration::from_millis(1);

    fn packet(number: u32) -> Bytes {
        Bytes::from([&number.to_be_bytes()[..], &[0; 996]].concat())
    }

    /// Numbers of 1000-byte packets that left one each millisecond, and how long each was on its way.
    fn travel(road: &Road, seed: u64) -> (Lane, Vec<(u32, Duration)>) {
        let begin = Instant::now();
        let mut lane = Lane::new(road.clone(), seed, begin);
        let mut arrived = Vec::new();
        for number in 0..PACKETS {
            lane.put(begin + EACH * number, packet(number));
        }
        while let Some(due) = lane.due() {
            assert_eq!(lane.take(due - Duration::from_nanos(1)), None);
            let packet = lane.take(due).unwrap();
            let number = u32::from_be_bytes(packet[..4].try_into().unwrap());
            arrived.push((number, due - (begin + EACH * number)));
        }
        (lane, arrived)
    }

    #[test]
    fn loses_as_many_as_asked_for_and_the_same_for_the_same_seed() {
        let road = Road { loss: 0.05, ..Road::default() };
        let (lane, arrived) = travel(&road, 7);
        assert!((900..1_100).contains(&lane.lost), "{} of 20 000 lost", lane.lost);
        assert_eq!(arrived.len() as u64, u64::from(PACKETS) - lane.lost);
        assert_eq!(arrived, travel(&road, 7).1);
        assert_ne!(arrived, travel(&road, 8).1);
    }

    #[test]
    fn delays_within_the_jitter_and_in_order() {
        let ms = Duration::from_millis;
        let road = Road { delay: ms(100), jitter: ms(30), ..Road::default() };
        let (_, arrived) = travel(&road, 1);
        assert!(arrived.iter().map(|(number, _)| *number).eq(0..PACKETS));
        assert!(arrived.iter().all(|(_, took)| (ms(100)..=ms(130)).contains(took)));
        let (least, most) = (arrived.iter().map(|a| a.1).min(), arrived.iter().map(|a| a.1).max());
        assert!(most.unwrap() - least.unwrap() > ms(10), "{least:?} to {most:?}");
    }

    #[test]
    fn the_late_are_overtaken() {
        let road = Road { reorder: 0.1, reorder_by: Duration::from_millis(10), ..Road::default() };
        let (_, arrived) = travel(&road, 1);
        let late = arrived.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
        // One of ten is; runs of late ones count once.
        assert!((1_500..2_100).contains(&late), "{late} of 20 000 overtaken");
        assert_eq!(arrived.len() as u32, PACKETS);
    }

    #[test]
    fn a_rate_lets_so_much_through_and_holds_back_what_the_queue_takes() {
        let queue = Duration::from_millis(50);
        let road = Road { bytes_per_second: Some(500_000), queue, ..Road::default() };
        // Twice the rate comes for 20 s.
        let (lane, arrived) = travel(&road, 1);
        assert!((10_000..10_060).contains(&arrived.len()), "{} arrived", arrived.len());
        assert_eq!(lane.overflown as usize, PACKETS as usize - arrived.len());
        let longest = arrived.iter().map(|(_, took)| *took).max().unwrap();
        assert!(longest > queue && longest <= queue + Duration::from_millis(2), "{longest:?}");
    }
}
