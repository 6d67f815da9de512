//! Fuzzing: what reads bytes of a peer is a plain function here, fed with mutations of what real peers sent (`corpus/`,
//! named by protocol and client; each is the client's side of a connection, cut short).
//!
//! The tests give each a hundred thousand inputs, the same each time. `make fuzz` gives it other ones for so many
//! seconds. An input that fails is written to a file, whose name the panic has. `fuzz/` hands the same functions to
//! cargo-fuzz.

use crate::{
    amf,
    codec::hostile::Random,
    flv::{self, FlvReader, TagReader},
    proxy, rtmp,
    rtmp::{
        chunk::{ChunkReader, Limits},
        handshake::{PACKET, Seed, ServerHandshake},
        message::{Control, Message, kind},
        reply::Identity,
        server::{Server, ServerConfig},
    },
    session::{Event, Output, Session, Verdict},
    websocket,
};
use bytes::Bytes;
use shardcast_engine::{codec::Kind, time::Timestamp};
use std::{collections::VecDeque, time::Instant};

/// A client's handshake.
const SHAKEN: usize = 1 + 2 * PACKET;
/// Longest message that sessions and readers here allow.
const MESSAGE: usize = 1 << 20;

type Body = fn(&[u8], &mut Random);

const BODIES: [(&str, Body); 8] = [
    ("handshake", handshake),
    ("chunks", chunks),
    ("amf", amf),
    ("tags", tags),
    ("flv", flv),
    ("websocket", websocket),
    ("proxy", proxy),
    ("sessions", sessions),
];

/// One input for the body `name`, which its length cuts into pieces.
pub fn run(name: &str, bytes: &[u8]) {
    body(name)(bytes, &mut Random(bytes.len() as u64 + 1));
}

fn body(name: &str) -> Body {
    let found = BODIES.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no body is called {name}")).1
}

fn handshake(bytes: &[u8], random: &mut Random) {
    let mut handshake = ServerHandshake::new([7; 32]);
    let mut out = Vec::new();
    for mut piece in random.pieces(bytes) {
        if handshake.input(&mut piece, &mut out) != Ok(false) {
            break;
        }
        assert!(piece.is_empty());
    }
    assert!(out.len() <= SHAKEN);
}

fn chunks(bytes: &[u8], random: &mut Random) {
    let mut reader = ChunkReader::new(Limits { message: MESSAGE, ..Limits::default() });
    let mut received = 0;
    for mut piece in random.pieces(bytes) {
        while let Ok(message) = reader.read(&mut piece) {
            let Some(message) = message else {
                assert!(piece.is_empty());
                break;
            };
            received += message.payload.len();
            if let Ok(Some(Control::SetChunkSize(size))) = Control::read(&message)
                && reader.set_chunk_size(size).is_err()
            {
                return;
            }
        }
    }
    assert!(received <= bytes.len());
}

fn amf(bytes: &[u8], _: &mut Random) {
    if let Ok(values) = amf::decode_all(bytes) {
        // What was read can be said, and is then the same, NaN aside.
        let mut out = Vec::new();
        values.iter().for_each(|value| value.encode(&mut out));
        assert_eq!(amf::decode_all(&out).map(|values| values.len()), Ok(values.len()));
        values.iter().for_each(|value| drop(amf::metadata(value)));
    }
    let message =
        Message { kind: kind::COMMAND_AMF3, stream: 1, timestamp_ms: 0, payload: Bytes::copy_from_slice(bytes) };
    let _ = rtmp::command::Command::read(&message);
}

fn tags(bytes: &[u8], _: &mut Random) {
    let body = Bytes::copy_from_slice(bytes);
    let (mut reader, mut out) = (TagReader::default(), VecDeque::new());
    for _ in 0..2 {
        // As media of what it may just have configured, too.
        let _ = reader.video(Timestamp::ZERO, body.clone(), &mut out);
        let _ = reader.audio(Timestamp::ZERO, body.clone(), &mut out);
        let _ = reader.script(bytes, &mut out);
    }
    for kind in [Kind::Video, Kind::Audio] {
        let _ = flv::enhanced::read(kind, body.clone());
    }
}

fn flv(bytes: &[u8], random: &mut Random) {
    let mut reader = FlvReader::new(MESSAGE);
    let mut read = 0;
    for piece in random.pieces(bytes) {
        reader.push(piece);
        while let Ok(Some(tag)) = reader.next() {
            read += tag.body.len();
        }
    }
    assert!(read <= bytes.len());
}

fn websocket(bytes: &[u8], random: &mut Random) {
    let mut reader = websocket::Reader::default();
    let mut answered = 0;
    for piece in random.pieces(bytes) {
        if reader.input(piece, |answer| answered += format!("{answer:?}").len()).is_err() {
            return;
        }
    }
    // Control frames have 125 bytes at the most, and an answer says no more.
    assert!(answered <= 16 * (bytes.len() + 1) * 8);
}

fn proxy(bytes: &[u8], _: &mut Random) {
    let mut have = 0;
    while let Ok(proxy::Header::More(more)) = proxy::Header::read(&bytes[..have]) {
        assert!(more > 0);
        have += more;
        if have > bytes.len() {
            return;
        }
    }
}

/// A whole connection whose driver says yes to all.
fn sessions(bytes: &[u8], random: &mut Random) {
    let now = Instant::now();
    let config = ServerConfig { max_message: MESSAGE, ..ServerConfig::default() };
    let mut server = Server::new(now, Identity::default(), Seed::default(), config);
    for piece in random.pieces(bytes) {
        let mut result = server.input(now, piece);
        while let Some(output) = server.poll() {
            let asks = matches!(output, Output::Event(Event::Connect(_) | Event::Publish(_) | Event::Play(_)));
            if asks && result.is_ok() {
                result = server.verdict(now, Verdict::Allowed);
            }
        }
        if result.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    /// Of the corpus, by protocol.
    const RTMP: [&[u8]; 5] = [
        include_bytes!("../corpus/rtmp-ffmpeg5-publish-h264-aac.bin"),
        include_bytes!("../corpus/rtmp-ffmpeg9-publish-hevc-opus.bin"),
        include_bytes!("../corpus/rtmp-ffmpeg9-publish-av1-flac.bin"),
        include_bytes!("../corpus/rtmp-ffmpeg5-play.bin"),
        include_bytes!("../corpus/rtmp-rtmpdump-play.bin"),
    ];
    const FLV: &[u8] = include_bytes!("../corpus/flv-ffmpeg5.bin");
    const WEBSOCKET: &[u8] = include_bytes!("../corpus/ws-chromium.bin");

    /// Inputs in a run of the tests.
    const INPUTS: usize = 100_000;

    /// Feeds the body `name` with mutations of `seeds`, of which the first bytes, as many as `valid` says, stay what they are.
    fn fuzz(name: &str, seeds: &[Vec<u8>], valid: fn(&[u8], &mut Random) -> usize) {
        let body = body(name);
        let span = std::env::var("FUZZ_SECONDS").ok().map(|text| Duration::from_secs(text.parse().expect("seconds")));
        let seed = match span {
            Some(_) => SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos() as u64 | 1,
            None => 0x9e37_79b9_7f4a_7c15,
        };
        let (start, mut random, mut count) = (Instant::now(), Random(seed), 0);
        while span.map_or(count < INPUTS, |span| start.elapsed() < span) {
            let golden = &seeds[count % seeds.len()];
            let valid = valid(golden, &mut random);
            let input = random.mutate(golden, valid);
            if catch_unwind(AssertUnwindSafe(|| body(&input, &mut random))).is_err() {
                let file = std::env::temp_dir().join(format!("fuzz-{name}-{seed:x}-{count}.bin"));
                std::fs::write(&file, &input).expect("write the input");
                panic!("{name}: input {count} of seed {seed:#x} fails, see {}", file.display());
            }
            count += 1;
        }
        eprintln!("{name}: {count} inputs in {:.1} s", start.elapsed().as_secs_f64());
    }

    fn anywhere(_: &[u8], _: &mut Random) -> usize {
        0
    }

    /// A valid beginning, mostly with the whole handshake: commands and media are then read as they come.
    fn session(golden: &[u8], random: &mut Random) -> usize {
        if random.below(20) == 0 { random.below(SHAKEN) } else { SHAKEN + random.below(golden.len() - SHAKEN) }
    }

    /// The messages of the corpus's sessions.
    fn messages() -> Vec<Message> {
        let mut messages = Vec::new();
        for mut rest in RTMP.map(|bytes| &bytes[SHAKEN..]) {
            let mut reader = ChunkReader::new(Limits::default());
            while let Some(message) = reader.read(&mut rest).expect("a client's chunks") {
                if let Ok(Some(Control::SetChunkSize(size))) = Control::read(&message) {
                    reader.set_chunk_size(size).expect("a chunk size");
                }
                messages.push(message);
            }
        }
        messages
    }

    /// The payloads of those of some types.
    fn payloads(kinds: &[u8]) -> Vec<Vec<u8>> {
        let messages = messages().into_iter().filter(|message| kinds.contains(&message.kind));
        messages.map(|message| message.payload.to_vec()).filter(|payload| !payload.is_empty()).collect()
    }

    #[test]
    fn handshake() {
        let seeds: Vec<_> = RTMP.map(|bytes| bytes[..SHAKEN].to_vec()).into();
        fuzz("handshake", &seeds, anywhere);
    }

    #[test]
    fn chunks() {
        let seeds: Vec<_> = RTMP.map(|bytes| bytes[SHAKEN..].to_vec()).into();
        fuzz("chunks", &seeds, anywhere);
    }

    #[test]
    fn amf_values() {
        fuzz("amf", &payloads(&[kind::COMMAND, kind::DATA]), anywhere);
    }

    #[test]
    fn tag_bodies() {
        fuzz("tags", &payloads(&[kind::AUDIO, kind::VIDEO, kind::DATA]), anywhere);
    }

    #[test]
    fn flv_files() {
        fuzz("flv", &[FLV.to_vec()], anywhere);
    }

    #[test]
    fn websocket_frames() {
        fuzz("websocket", &[WEBSOCKET.to_vec()], anywhere);
    }

    #[test]
    fn proxy_headers() {
        let binary = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &[9; 12][..]].concat();
        fuzz("proxy", &[binary, b"PROXY TCP4 192.0.2.7 10.0.0.1 51000 1935\r\n".to_vec()], anywhere);
    }

    #[test]
    fn whole_sessions() {
        fuzz("sessions", &RTMP.map(<[u8]>::to_vec), session);
    }
}
