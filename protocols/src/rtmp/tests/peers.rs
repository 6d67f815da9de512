//! What real clients sent after the handshake until they waited for media, as they sent it.

use super::raw::{Raw, simple_handshake};
use crate::{
    codec::hostile::hex,
    rtmp::{
        handshake::Seed,
        reply::Identity,
        server::{Server, ServerConfig},
    },
    session::{self, Event, Output, Request, Session, Verdict},
};
use std::time::Instant;

/// ffmpeg 5.1.9, publishing to rtmp://127.0.0.1:19350/live/cam?k=v.
const FFMPEG_PUBLISH: &str = "0300000000008c1400000000020007636f6e6e656374003ff00000000000000300036170700200046c697665000474797065\
    02000a6e6f6e707269766174650008666c617368566572020024464d4c452f332e302028636f6d70617469626c653b204c61\
    766635392e32372e313030290005746355726c02001b72746d703a2f2f3132372e302e302e313a31c3393335302f6c697665\
    0000090200000000000401000000000000ea60430000000000241402000d72656c6561736553747265616d00400000000000\
    00000502000763616d3f6b3d76430000000000201402000946435075626c6973680040080000000000000502000763616d3f\
    6b3d76430000000000191402000c63726561746553747265616d0040100000000000000543000000000015140200085f6368\
    65636b6277004014000000000000050800000000002514010000000200077075626c69736800401800000000000005020007\
    63616d3f6b3d760200046c697665";

/// rtmpdump 2.4 (librtmp), playing the same with --live.
const RTMPDUMP_PLAY: &str = "030000000000c61400000000020007636f6e6e656374003ff00000000000000300036170700200046c6976650008666c6173\
    6856657202000e4c4e582031302c302c33322c31380005746355726c02001b72746d703a2f2f3132372e302e302e313a3139\
    3335302f6c6976650004667061640100000c6361706162696c697469657300402e00000000000000c30b617564696f436f64\
    6563730040a8ee0000000000000b766964656f436f6465637300406f800000000000000d766964656f46756e6374696f6e00\
    3ff0000000000000000009020000000000040500000000002625a04200000000000a040003000000000000012c4300000000\
    00191402000c63726561746553747265616d00400000000000000005430000000000221402000b4643537562736372696265\
    0040080000000000000502000763616d3f6b3d760300000000001514000000000200085f636865636b627700401000000000\
    000005080000000000241401000000020004706c61790040140000000000000502000763616d3f6b3d7600c08f4000000000\
    00c200030000000102255100";

/// The requests of Connect and of what follows, and the names of the commands that answer.
fn serve(recorded: &str) -> (Request, Request, Vec<String>) {
    let now = Instant::now();
    let mut raw = Raw::new(ServerConfig::default());
    raw.server = Server::new(now, Identity::default(), Seed::default(), ServerConfig::default());
    let bytes = [simple_handshake(), hex(recorded)].concat();
    let mut requests = Vec::new();
    let mut answers = Vec::new();
    for byte in bytes {
        raw.server.input(now, &[byte]).unwrap();
        while let Some(output) = raw.server.poll() {
            match output {
                Output::Send(bytes) if bytes.len() == simple_handshake().len() => {}
                Output::Send(bytes) => answers.extend(raw.names(&bytes)),
                Output::Event(Event::Connect(request) | Event::Publish(request) | Event::Play(request)) => {
                    requests.push(Request::clone(&request));
                    raw.server.verdict(now, Verdict::Allowed).unwrap();
                }
                Output::Event(other) => panic!("{other:?}"),
            }
        }
    }
    let [connect, stream] = <[Request; 2]>::try_from(requests).unwrap();
    (connect, stream, answers)
}

fn expected() -> Request {
    Request {
        vhost: "127.0.0.1".into(),
        app: "live".into(),
        tc_url: "rtmp://127.0.0.1:19350/live".into(),
        ..Request::default()
    }
}

#[test]
fn ffmpeg_publishes() {
    let (connect, publish, answers) = serve(FFMPEG_PUBLISH);
    assert_eq!(connect, expected());
    let client = session::Client::FmlePublish;
    assert_eq!(publish, Request { stream: "cam".into(), param: "?k=v".into(), client, ..expected() });
    let results = ["_result"; 4];
    assert_eq!(answers, [&["_result", "onBWDone"][..], &results, &["onFCPublish", "onStatus"]].concat());
}

#[test]
fn rtmpdump_plays() {
    let (connect, play, answers) = serve(RTMPDUMP_PLAY);
    assert_eq!(connect, expected());
    let client = session::Client::RtmpPlay;
    assert_eq!(play, Request { stream: "cam".into(), param: "?k=v".into(), client, ..expected() });
    let results = ["_result", "onFCSubscribe", "_result", "_result"];
    assert_eq!(answers, [&["_result", "onBWDone"][..], &results, &["onStatus", "onStatus"]].concat());
}
