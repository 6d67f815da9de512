//! The handshake against libsrt's callers, recorded, and against hostile input.

use super::*;
use crate::codec::hostile::Random;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// A conclusion of libsrt 1.3 with a request for handshake and keys of AES-128, from the crate's own tests; its
/// cookie is at byte 44.
const CONCLUSION: &str = "800000000000000000175E8A0000000000000005000000036FEFB8D8000005DC00002000FFFFFFFF35E790ED5D16CCEA0100007F00000000000000000000000000010003000103010000002F01F401F40003000E122029010000000002000200000004049D75B0AC924C6E4C9EC40FEB4FE973DB1D215D426C18A2871EBF77E2646D9BAB15DBD7689AEF60EC";
const INDUCTION: &str = "8000000000000000000002b00000000000000004000000023c3b0296000005dc00002000000000010669ead20000000000000000000000000000000001000000";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect()
}

fn caller() -> SocketAddr {
    "127.0.0.1:5000".parse().unwrap()
}

fn listener(now: Instant, passphrase: &str) -> Listener {
    Listener::new(now, [7; 32], settings(passphrase))
}

fn settings(passphrase: &str) -> Settings {
    Settings {
        passphrase: passphrase.into(),
        recv_latency: Duration::from_millis(120),
        peer_latency: Duration::ZERO,
        peer_idle_timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(4),
        key_size: 0,
        bandwidth: Bandwidth::Unlimited,
        too_late_drop: true,
        send_buffer: 12_058_624,
        recv_buffer: 12_058_624,
    }
}

/// The conclusion of a caller that has asked first.
fn conclusion(listener: &Listener, now: Instant) -> Vec<u8> {
    let Heard::Answer(answer) = listener.hear(now, &bytes(INDUCTION), caller()) else { panic!("no answer") };
    let mut conclusion = bytes(CONCLUSION);
    conclusion[44..48].copy_from_slice(&answer[44..48]);
    conclusion
}

#[test]
fn cookie_is_good_for_its_address_and_its_time() {
    let now = Instant::now();
    let listener = listener(now, "");
    let conclusion = conclusion(&listener, now);
    let heard = |after, from| listener.hear(now + Duration::from_secs(after), &conclusion, from);
    assert!(matches!(heard(0, caller()), Heard::Caller(_)));
    assert!(matches!(heard(4, caller()), Heard::Caller(_)));
    assert!(matches!(heard(5, caller()), Heard::Nothing));
    assert!(matches!(heard(0, "127.0.0.1:5001".parse().unwrap()), Heard::Nothing));
}

#[test]
fn who_encrypts_is_refused_where_nothing_is_and_where_the_passphrase_is_another() {
    let now = Instant::now();
    for (passphrase, why) in [("", Rejection::Unsecure), ("another passphrase", Rejection::BadSecret)] {
        let listener = listener(now, passphrase);
        let Heard::Caller(caller) = listener.hear(now, &conclusion(&listener, now), caller()) else { panic!() };
        let refused = listener.accept(now, &caller, 9).err();
        assert_eq!(refused, Some(why));
    }
}

#[test]
fn callers_are_told_the_size_of_the_key_where_there_is_one() {
    let now = Instant::now();
    // The field of the handshake for it has the size in units of 8 bytes (§3.2.1).
    for (passphrase, key_size, told) in [("a passphrase of ours", 32, 4), ("a passphrase of ours", 0, 0), ("", 32, 0)] {
        let listener = Listener::new(now, [7; 32], Settings { key_size, ..settings(passphrase) });
        let Heard::Answer(answer) = listener.hear(now, &bytes(INDUCTION), caller()) else { panic!("no answer") };
        assert_eq!(answer[20..24], [0, told, 0x4a, 0x17]);
    }
}

/// A session with a caller that does not encrypt.
fn session(now: Instant, settings: Settings) -> Session {
    let listener = Listener::new(now, [7; 32], settings);
    let mut plain = conclusion(&listener, now);
    // The handshake without its request for keys.
    plain[20..24].copy_from_slice(&[0, 0, 0, 1]);
    plain.truncate(80);
    let Heard::Caller(caller) = listener.hear(now, &plain, caller()) else { panic!() };
    let (session, _) = listener.accept(now, &caller, 9).ok().unwrap();
    session
}

#[test]
fn session_takes_what_its_buffer_holds() {
    let now = Instant::now();
    for (send_buffer, packets) in [(0, 31), (100 * 1472, 97), (u64::MAX, 7936)] {
        let mut session = session(now, Settings { send_buffer, ..settings("") });
        let taken = (0..10_000).take_while(|_| {
            let has_room = session.has_room(now);
            if has_room {
                session.send(now, vec![0; 1316].into());
            }
            has_room
        });
        assert_eq!(taken.count(), packets);
    }
}

/// The caller's packet `n`, a millisecond after the one before it. The first number is the handshake's; a message in
/// one packet, in order (§3.1).
fn packet(n: u32, payload: u8) -> Vec<u8> {
    let words = [0x6fef_b8d8 + n, 0xe000_0001 + n, 1000 * n, 9];
    [&words.map(u32::to_be_bytes).concat()[..], &[payload]].concat()
}

#[test]
fn session_keeps_of_a_flood_what_its_buffer_holds() {
    let now = Instant::now();
    for (recv_buffer, packets) in [(0, 32), (100 * 1472, 100), (u64::MAX, 8192)] {
        let mut session = session(now, Settings { recv_buffer, ..settings("") });
        (0..10_000).for_each(|n| session.input(now, &packet(n, 7)));
        // Beyond the last one's time and the latency.
        let mut payloads = 0;
        for ms in 0..11_000 {
            session.tick(now + Duration::from_millis(ms));
            payloads += std::iter::from_fn(|| session.payload()).count();
        }
        assert_eq!(payloads, packets);
    }
}

#[test]
fn what_is_lost_is_given_up_or_waited_for() {
    let now = Instant::now();
    for (too_late_drop, late) in [(true, ""), (false, "bc")] {
        let mut session = session(now, Settings { too_late_drop, ..settings("") });
        // Beyond the latency of 500 ms that the caller asks for, some ticks long.
        let later = now + Duration::from_secs(2);
        let heard = |session: &mut Session| {
            (0..4).for_each(|n| session.tick(later + Duration::from_millis(10 * n)));
            let payloads = std::iter::from_fn(|| session.payload());
            payloads.map(|payload| char::from(payload[0])).collect::<String>()
        };
        session.input(now, &packet(0, b'a'));
        session.input(now, &packet(2, b'c'));
        assert_eq!(heard(&mut session), "a");
        session.input(later, &packet(1, b'b'));
        assert_eq!(heard(&mut session), late);
    }
}

#[test]
fn what_is_asked_for_when_it_is_gone_is_counted() {
    let now = Instant::now();
    // §3.2.4 and §3.2.5: our numbers begin at the caller's.
    let first = 0x6fef_b8d8;
    let acknowledgement = |next: u32| [0x8002_0000, 1, 0, 9, next, 1_000, 500, 8192].map(u32::to_be_bytes).concat();
    let wish = |lost: u32| [0x8003_0000, 0, 0, 9, lost].map(u32::to_be_bytes).concat();
    let mut session = session(now, settings(""));
    (0..3).for_each(|_| session.send(now, vec![0; 1316].into()));
    session.tick(now + Duration::from_millis(10));
    session.input(now, &wish(first));
    assert_eq!(session.late(), 0);
    session.input(now, &acknowledgement(first + 2));
    session.input(now, &wish(first + 1));
    assert_eq!(session.late(), 1);
}

#[test]
fn acknowledgement_with_an_absurd_round_trip_is_dropped() {
    let acknowledgement = |trip: u32, variance: u32| {
        let words = [0x8002_0000, 1, 0, 7, 100, trip, variance, 8192];
        packet::parse(&words.map(u32::to_be_bytes).concat(), caller())
    };
    assert!(acknowledgement(100_000, 50_000).is_some());
    for (trip, variance) in [(10_000_001, 0), (0, 10_000_001), (0, u32::MAX)] {
        assert!(acknowledgement(trip, variance).is_none());
    }
}

#[test]
fn mutated_packets_are_dropped_or_handled_but_never_panic() {
    let now = Instant::now();
    let listener = listener(now, "a passphrase of ours");
    let seeds = [bytes(INDUCTION), conclusion(&listener, now)];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..100_000 {
        let mut packet = seeds[round % 2].clone();
        for _ in 0..=random.below(4) {
            let at = random.below(packet.len());
            match random.below(4) {
                0 => packet[at] = random.below(256) as u8,
                1 => packet[at] ^= 1 << random.below(8),
                2 => packet.truncate(at.max(1)),
                _ => packet.insert(at, random.below(256) as u8),
            }
        }
        // Deriving a key takes long on purpose: few of those that come so far go on.
        if let Heard::Caller(caller) = listener.hear(now, &packet, caller())
            && round % 512 < 2
        {
            let _ = listener.accept(now, &caller, 9);
        }
    }
}
