//! Broken sessions: truncated, flipped, with bytes put in and taken out. Panics are what is looked for.

use super::{
    Random, frames,
    pair::{Pair, send_all},
    prologue,
    raw::{Raw, connect_arguments, simple_handshake},
};
use crate::{
    amf::Value,
    rtmp::{
        client::{Client, ClientEvent, ClientOutput},
        format::Rtmp,
        server::{Server, ServerConfig},
    },
    session::{Event, Output, Session, Verdict},
};
use shardcast_engine::{
    fanout::Format,
    frame::{Frame, Media},
};
use std::time::Instant;

/// Runs a whole connection of bytes, saying yes to all.
fn survive(bytes: &[u8], random: &mut Random) {
    let now = Instant::now();
    let config = ServerConfig { max_message: 1 << 20, ..ServerConfig::default() };
    let mut server = Server::new(now, config);
    for piece in random.pieces(bytes) {
        let mut result = server.input(now, piece);
        while let Some(output) = server.poll() {
            if matches!(output, Output::Event(Event::Connect(_) | Event::Publish(_) | Event::Play(_))) && result.is_ok()
            {
                result = server.verdict(now, Verdict::Allowed);
            }
        }
        if result.is_err() {
            return;
        }
    }
}

/// All bytes of a client that publishes a little, without what makes the test slow.
fn recorded_session() -> Vec<u8> {
    let prologue = prologue();
    let frames: Vec<Frame> = frames().into_iter().filter(|f| f.payload.len() < 1000).take(4).collect();
    let mut pair = Pair::publish(5);
    pair.settle();
    send_all(&mut pair.client, &prologue, &frames);
    pair.client.stop();
    pair.settle();
    assert_eq!(pair.server_error, None);
    pair.recorded
}

#[test]
fn truncated_and_flipped_sessions_do_not_panic() {
    let recorded = recorded_session();
    let mut random = Random(42);
    for end in 0..recorded.len() {
        // The handshake's inside is all alike.
        if end % 97 == 0 || end > 2 * 1536 {
            survive(&recorded[..end], &mut random);
        }
    }
    for round in 0..20_000 {
        let mut bytes = recorded.clone();
        for _ in 0..1 + random.below(4) {
            // Mostly behind the handshake, which hardly looks at its bytes.
            let from = if round % 50 == 0 { 0 } else { 1 + 2 * 1536 };
            let at = from + random.below(bytes.len() - from);
            match random.below(6) {
                0 => bytes[at] = random.below(256) as u8,
                1 => bytes[at] ^= 1 << random.below(8),
                2 => bytes[at] = [0, 0xff, 0x7f, 0x80][random.below(4)],
                3 => bytes.truncate(at + 1),
                4 => bytes.insert(at, random.below(256) as u8),
                _ => drop(bytes.drain(at..(at + 1 + random.below(8)).min(bytes.len()))),
            }
            if bytes.len() <= from {
                break;
            }
        }
        survive(&bytes, &mut random);
    }
}

#[test]
fn clients_survive_hostile_servers() {
    let (prologue, frames) = (prologue(), frames());
    let mut raw = Raw::new(ServerConfig::default());
    raw.command("connect", 1.0, connect_arguments()).unwrap();
    raw.command("createStream", 4.0, vec![Value::Null]).unwrap();
    raw.command("play", 5.0, vec![Value::Null, "cam".into()]).unwrap();
    let mut bytes = simple_handshake();
    for _ in 0..20 {
        match raw.server.poll() {
            Some(Output::Send(more)) => bytes.extend(more),
            Some(Output::Event(_)) => raw.server.verdict(raw.now, Verdict::Allowed).unwrap(),
            None => {}
        }
    }
    let mut format = Rtmp { chunk_size: 60_000 };
    format.head(&prologue, frames[0].dts, &mut bytes);
    format.mux(&prologue, &frames[3], &mut bytes);

    let mut client = Client::play("rtmp://h/live/cam", [1; 32]).unwrap();
    client.input(&bytes).unwrap();
    assert!(
        std::iter::from_fn(|| client.poll())
            .any(|output| matches!(output, ClientOutput::Event(ClientEvent::Media(Media::Frame(_)))))
    );

    let mut random = Random(7);
    for _ in 0..5_000 {
        let mut mutated = bytes.clone();
        for _ in 0..1 + random.below(3) {
            let at = 1 + 2 * 1536 + random.below(mutated.len() - 1 - 2 * 1536);
            mutated[at] = random.below(256) as u8;
        }
        let mut client = Client::play("rtmp://h/live/cam", [1; 32]).unwrap();
        for piece in random.pieces(&mutated) {
            if client.input(piece).is_err() {
                break;
            }
            while client.poll().is_some() {}
        }
    }
}
