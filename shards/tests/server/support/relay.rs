//! A road for datagrams on which others put theirs.

use super::server::local;
use crate::hostile::Random;
use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often a thread looks whether it shall end.
const LOOK: Duration = Duration::from_millis(50);
const LARGEST: usize = 2048;

/// Between one client and a UDP port of the server, which gets spoiled copies of each packet beside it, from the
/// same address.
pub struct Relay {
    pub port: u16,
    spoiled: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// One of so many packets is spoiled; all are at the start, where there are few.
const SPARED: usize = 4;
const ALL_UP_TO: usize = 40;

impl Relay {
    /// To the server's `port`; the client's packets from the number `first` on are spoiled, as `seed` says.
    pub fn to(port: u16, seed: u64, first: usize) -> Self {
        let [front, back] = [(); 2].map(|()| Arc::new(UdpSocket::bind(local(0)).expect("a socket")));
        back.connect(local(port)).expect("connect");
        for socket in [&front, &back] {
            socket.set_read_timeout(Some(LOOK)).expect("a deadline");
        }
        let port = front.local_addr().expect("its address").port();
        let (ends, spoiled) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let client = Arc::new(std::sync::OnceLock::new());
        let forth = Forth {
            front: front.clone(),
            back: back.clone(),
            client: client.clone(),
            spoiled: spoiled.clone(),
            ends: ends.clone(),
        };
        let over = ends.clone();
        let threads = vec![
            thread::spawn(move || forth.run(Random(seed), first)),
            thread::spawn(move || {
                let mut buffer = [0; LARGEST];
                while !over.load(Ordering::Relaxed) {
                    if let (Ok(length), Some(client)) = (back.recv(&mut buffer), client.get()) {
                        // A client that is gone takes nothing.
                        let _ = front.send_to(&buffer[..length], client);
                    }
                }
            }),
        ];
        Self { port, spoiled, ends, threads }
    }

    /// Spoiled packets sent.
    pub fn spoiled(&self) -> usize {
        self.spoiled.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("a relay"));
    }
}

struct Forth {
    front: Arc<UdpSocket>,
    back: Arc<UdpSocket>,
    client: Arc<std::sync::OnceLock<SocketAddr>>,
    spoiled: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
}

impl Forth {
    fn run(self, mut random: Random, first: usize) {
        let mut buffer = [0; LARGEST];
        for count in 0.. {
            let received = loop {
                if self.ends.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(received) = self.front.recv_from(&mut buffer) {
                    break received;
                }
            };
            let packet = &buffer[..received.0];
            let _ = self.client.set(received.1);
            let _ = self.back.send(packet);
            if count >= first && (count < ALL_UP_TO || random.below(SPARED) == 0) {
                let _ = self.back.send(&spoil(&mut random, packet));
                self.spoiled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Control packets of SRT, known and not, but for the one that ends a session.
const KINDS: [u8; 10] = [0, 1, 2, 3, 4, 6, 7, 8, 9, 0xff];

/// A copy that is cut, longer, of another kind, or has other bits.
fn spoil(random: &mut Random, packet: &[u8]) -> Vec<u8> {
    let mut copy = packet.to_vec();
    match random.below(4) {
        0 => copy.truncate(random.below(packet.len() + 1)),
        1 => copy.extend((0..random.below(200)).map(|n| n as u8)),
        2 if copy.len() > 1 => (copy[0], copy[1]) = (0x80, KINDS[random.below(KINDS.len())]),
        _ => {}
    }
    for _ in 0..random.below(4) {
        // Mostly in the header.
        let end = if random.below(4) == 0 { copy.len() } else { copy.len().min(64) };
        if end > 0 {
            let at = random.below(end);
            copy[at] ^= 1 << random.below(8);
        }
    }
    copy
}
