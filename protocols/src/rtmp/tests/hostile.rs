//! Clients against broken servers. Panics are what is looked for; broken clients are in `fuzz`.

use super::{
    Random, frames, prologue,
    raw::{Raw, connect_arguments, simple_handshake},
};
use crate::{
    amf::Value,
    rtmp::{
        client::{Client, ClientEvent, ClientOutput},
        format::Rtmp,
        server::ServerConfig,
    },
    session::{Output, Session, Tracks, Verdict},
};
use shardcast_engine::{fanout::Format, frame::Media};

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
    let mut format = Rtmp { chunk_size: 60_000, tracks: Tracks::default() };
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
        let mutated = random.mutate(&bytes, 1 + 2 * 1536);
        let mut client = Client::play("rtmp://h/live/cam", [1; 32]).unwrap();
        for piece in random.pieces(&mutated) {
            if client.input(piece).is_err() {
                break;
            }
            while client.poll().is_some() {}
        }
    }
}
