//! The server against a peer that sends what it likes, message by message.

use super::pair::Pair;
use crate::{
    amf::Value,
    rtmp::{
        chunk::{ChunkError, ChunkReader, ChunkWriter, Header, Limits},
        command::{Command, object},
        handshake::Seed,
        message::{Message, csid, event, kind, user_control},
        reply::Identity,
        server::{Server, ServerConfig, ServerError},
    },
    session::{self, Elsewhere, Event, Output, Session, Tracks, Verdict},
};
use shardcast_engine::frame::Media;
use std::time::{Duration, Instant};

/// A peer that is nothing but messages.
pub struct Raw {
    pub now: Instant,
    pub server: Server,
    pub writer: ChunkWriter,
    pub reader: ChunkReader,
}

impl Raw {
    pub fn new(config: ServerConfig) -> Self {
        Self::of(Identity::default(), config)
    }

    fn of(identity: Identity, config: ServerConfig) -> Self {
        let now = Instant::now();
        let server = Server::new(now, identity, Seed::default(), config);
        let (writer, reader) = (ChunkWriter::default(), ChunkReader::new(Limits::default()));
        let mut raw = Self { now, server, writer, reader };
        raw.server.input(now, &simple_handshake()).unwrap();
        let Some(Output::Send(answer)) = raw.server.poll() else { panic!() };
        assert_eq!(answer.len(), 1 + 2 * 1536);
        raw
    }

    pub fn connected() -> Self {
        let mut raw = Self::new(ServerConfig::default());
        raw.command("connect", 1.0, connect_arguments()).unwrap();
        assert!(matches!(raw.event(), Event::Connect(_)));
        raw.server.verdict(raw.now, Verdict::Allowed).unwrap();
        assert_eq!(raw.messages().len(), 5);
        raw
    }

    pub fn publishing() -> Self {
        let mut raw = Self::connected();
        raw.command("publish", 2.0, vec![Value::Null, "cam".into(), "live".into()]).unwrap();
        let Event::Publish(request) = raw.event() else { panic!() };
        assert_eq!(request.client, session::Client::FlashPublish);
        raw.server.verdict(raw.now, Verdict::Allowed).unwrap();
        assert_eq!(raw.messages().len(), 1);
        raw
    }

    pub fn message(&mut self, kind: u8, payload: &[u8]) -> Result<(), ServerError> {
        let mut out = Vec::new();
        let header = Header { csid: csid::CONNECTION, kind, stream: 1, timestamp: 100 };
        self.writer.write(header, &[payload], &mut out);
        self.server.input(self.now, &out)
    }

    pub fn command(&mut self, name: &str, transaction: f64, arguments: Vec<Value>) -> Result<(), ServerError> {
        self.message(kind::COMMAND, &Command::new(name, transaction, arguments).encode())
    }

    pub fn event(&mut self) -> Event {
        match self.server.poll() {
            Some(Output::Event(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    /// What the server has sent since the last look, up to an event.
    pub fn messages(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(Output::Send(bytes)) = self.server.poll() {
            messages.extend(self.read(&bytes));
        }
        messages
    }

    /// The whole messages that `bytes` must be.
    fn read(&mut self, mut bytes: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.reader.read(&mut bytes).unwrap() {
            if let (kind::SET_CHUNK_SIZE, [a, b, c, d]) = (message.kind, &message.payload[..]) {
                self.reader.set_chunk_size(u32::from_be_bytes([*a, *b, *c, *d])).unwrap();
            }
            messages.push(message);
        }
        messages
    }

    /// The names of the commands in `bytes`.
    pub fn names(&mut self, bytes: &[u8]) -> Vec<String> {
        let messages = self.read(bytes);
        let commands = messages.iter().filter(|message| message.kind == kind::COMMAND);
        commands.map(|message| Command::read(message).unwrap().name).collect()
    }

    pub fn answer(&mut self) -> Command {
        let messages = self.messages();
        assert_eq!(messages.len(), 1);
        Command::read(&messages[0]).unwrap()
    }
}

pub fn simple_handshake() -> Vec<u8> {
    let mut bytes = vec![0; 1 + 2 * 1536];
    bytes[0] = 3;
    bytes
}

pub fn connect_arguments() -> Vec<Value> {
    vec![Value::Object(object([
        ("app", "live".into()),
        ("tcUrl", "rtmp://h/live".into()),
        ("pageUrl", "http://p/".into()),
        ("objectEncoding", 3.0.into()),
    ]))]
}

#[test]
fn connect_is_answered_as_srs_does() {
    let identity = Identity { id: "a1b2c3".into(), server_ip: "10.0.0.1".into(), pid: "7".into() };
    let mut raw = Raw::of(identity, ServerConfig::default());
    raw.command("connect", 1.0, connect_arguments()).unwrap();
    let Event::Connect(request) = raw.event() else { panic!() };
    assert_eq!((&*request.app, &*request.stream, &*request.page_url), ("live", "", "http://p/"));
    raw.server.set_chunk_size(5000);
    raw.server.verdict(raw.now, Verdict::Allowed).unwrap();

    let Some(Output::Send(bytes)) = raw.server.poll() else { panic!() };
    let golden = [
        &[2, 0, 0, 0, 0, 0, 4, 5, 0, 0, 0, 0, 0x00, 0x26, 0x25, 0xa0][..],
        &[2, 0, 0, 0, 0, 0, 5, 6, 0, 0, 0, 0, 0x00, 0x26, 0x25, 0xa0, 2],
        &[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0x00, 0x00, 0x13, 0x88],
    ]
    .concat();
    assert_eq!(bytes[..golden.len()], golden);

    raw.reader.set_chunk_size(5000).unwrap();
    let mut rest = &bytes[golden.len()..];
    let result = Command::read(&raw.reader.read(&mut rest).unwrap().unwrap()).unwrap();
    let done = Command::read(&raw.reader.read(&mut rest).unwrap().unwrap()).unwrap();
    assert!(rest.is_empty());
    assert_eq!((&*result.name, result.transaction), ("_result", 1.0));
    let [properties, info] = &result.arguments[..] else { panic!() };
    assert_eq!(properties.field("fmsVer"), Some(&"FMS/3,5,3,888".into()));
    assert_eq!(properties.field("capabilities"), Some(&127.0.into()));
    assert_eq!(info.field("code"), Some(&"NetConnection.Connect.Success".into()));
    assert_eq!(info.field("objectEncoding"), Some(&3.0.into()));
    let data = info.field("data").unwrap();
    for (name, value) in
        [("srs_version", "7.0.18"), ("srs_id", "a1b2c3"), ("srs_server_ip", "10.0.0.1"), ("srs_pid", "7")]
    {
        assert_eq!(data.field(name), Some(&value.into()));
    }
    assert_eq!((&*done.name, done.transaction), ("onBWDone", 0.0));
    assert_eq!(info.field("capsEx"), None);
}

#[test]
fn who_asks_for_enhanced_rtmp_is_told_what_there_is() {
    let mut raw = Raw::new(ServerConfig::default());
    let Value::Object(mut arguments) = connect_arguments().remove(0) else { panic!() };
    arguments.push(("fourCcList".into(), Value::StrictArray(vec!["*".into()])));
    raw.command("connect", 1.0, vec![Value::Object(arguments)]).unwrap();
    assert!(matches!(raw.event(), Event::Connect(_)));
    raw.server.verdict(raw.now, Verdict::Allowed).unwrap();
    let messages = raw.messages();
    let result = Command::read(&messages[3]).unwrap();
    let info = &result.arguments[1];
    assert_eq!(info.field("capsEx"), Some(&13.0.into()));
    let Some(Value::StrictArray(list)) = info.field("fourCcList") else { panic!("{info:?}") };
    assert!(list.len() == 12 && list.contains(&"av01".into()) && list.contains(&"Opus".into()));
    assert_eq!(info.field("videoFourCcInfoMap").and_then(|map| map.field("vp09")), Some(&4.0.into()));
    assert_eq!(info.field("audioFourCcInfoMap").and_then(|map| map.field("fLaC")), Some(&4.0.into()));
}

#[test]
fn play_is_answered_as_srs_does() {
    let mut raw = Raw::connected();
    raw.command("play", 2.0, vec![Value::Null, "cam".into()]).unwrap();
    assert!(matches!(raw.event(), Event::Play(_)));
    raw.server.verdict(raw.now, Verdict::Allowed).unwrap();
    let messages = raw.messages();
    let kinds: Vec<u8> = messages.iter().map(|m| m.kind).collect();
    assert_eq!(kinds, [kind::USER_CONTROL, kind::COMMAND, kind::COMMAND, kind::DATA, kind::DATA]);
    assert_eq!(messages[0].payload, [0, 0, 0, 0, 0, 1][..]);
    assert!(messages[3].payload.starts_with(b"\x02\x00\x11|RtmpSampleAccess"));
}

#[test]
fn a_player_may_want_a_part() {
    for (duration, wanted) in [(3_000.0, Some(Duration::from_secs(3))), (-1.0, None), (f64::NAN, None), (0.0, None)] {
        let mut raw = Raw::connected();
        let arguments = vec![Value::Null, "cam".into(), (-1000.0).into(), duration.into()];
        raw.command("play", 2.0, arguments).unwrap();
        let Event::Play(request) = raw.event() else { panic!() };
        assert_eq!(request.duration, wanted, "{duration}");
        let finale = raw.server.finale();
        let messages = raw.read(&finale);
        let kinds: Vec<u8> = messages.iter().map(|m| m.kind).collect();
        assert_eq!(kinds, [kind::DATA, kind::COMMAND, kind::USER_CONTROL]);
        let complete = b"NetStream.Play.Complete";
        assert!(messages[0].payload.windows(complete.len()).any(|text| text == complete));
    }
}

#[test]
fn a_player_says_which_tracks_it_wants_before_and_while_it_plays() {
    let mut raw = Raw::connected();
    let switch = |raw: &mut Raw, name: &str, on: bool| raw.command(name, 0.0, vec![Value::Null, on.into()]).unwrap();
    switch(&mut raw, "receiveVideo", false);
    raw.command("play", 2.0, vec![Value::Null, "cam".into()]).unwrap();
    let Event::Play(request) = raw.event() else { panic!() };
    assert_eq!(request.tracks, Tracks { audio: true, video: false });
    raw.server.verdict(raw.now, Verdict::Allowed).unwrap();
    raw.messages();

    switch(&mut raw, "receiveAudio", false);
    assert!(matches!(raw.event(), Event::Receive(Tracks { audio: false, video: false })));
    switch(&mut raw, "receiveAudio", false);
    assert!(raw.messages().is_empty(), "nothing changes");
    switch(&mut raw, "receiveVideo", true);
    assert!(matches!(raw.event(), Event::Receive(Tracks { audio: false, video: true })));
    let Some(Output::Send(bytes)) = raw.server.poll() else { panic!() };
    assert_eq!(raw.names(&bytes), ["onStatus", "onStatus"]);
    // Another stream begins with both.
    raw.command("createStream", 3.0, vec![Value::Null]).unwrap();
    raw.messages();
    raw.command("play", 4.0, vec![Value::Null, "cam".into()]).unwrap();
    assert!(matches!(raw.event(), Event::Stop));
    let Event::Play(request) = raw.event() else { panic!() };
    assert_eq!(request.tracks, Tracks::default());
}

/// Flash sends commands as type 17 and data as type 15, a zero before the AMF0.
#[test]
fn commands_in_amf3_messages_are_read() {
    let mut raw = Raw::connected();
    let amf3 = |name: &str, arguments: Vec<Value>| [&[0], &Command::new(name, 2.0, arguments).encode()[..]].concat();
    raw.message(kind::COMMAND_AMF3, &amf3("createStream", vec![Value::Null])).unwrap();
    assert_eq!(raw.answer().name, "_result");
    raw.message(kind::COMMAND_AMF3, &amf3("publish", vec![Value::Null, "cam".into(), "live".into()])).unwrap();
    assert!(matches!(raw.event(), Event::Publish(_)));
    raw.server.verdict(raw.now, Verdict::Allowed).unwrap();
    raw.messages();
    let mut data = vec![0];
    for value in ["@setDataFrame".into(), "onMetaData".into(), Value::EcmaArray(object([("width", 64.0.into())]))] {
        value.encode(&mut data);
    }
    raw.message(kind::DATA_AMF3, &data).unwrap();
    assert!(matches!(raw.event(), Event::Media(Media::Metadata(_))));
    // A value of AMF3 itself, which nobody is known to send, is refused by its name.
    let broken = raw.message(kind::COMMAND_AMF3, b"\0\x02\0\x04call\0\0\0\0\0\0\0\0\0\x11\x06\x01").unwrap_err();
    assert!(broken.to_string().contains("AMF3"), "{broken}");
}

#[test]
fn a_player_closes_and_plays_again() {
    let mut raw = Raw::connected();
    for close in ["closeStream", "deleteStream"] {
        raw.command("play", 2.0, vec![Value::Null, "cam".into()]).unwrap();
        assert!(matches!(raw.event(), Event::Play(_)));
        raw.server.verdict(raw.now, Verdict::Allowed).unwrap();
        assert_eq!(raw.messages().len(), 5);
        raw.command("pause", 0.0, vec![Value::Null, true.into(), 0.0.into()]).unwrap();
        assert!(matches!(raw.event(), Event::Pause(true)));
        assert_eq!(raw.messages().len(), 2);
        raw.command(close, 0.0, vec![Value::Null, 1.0.into()]).unwrap();
        assert!(matches!(raw.event(), Event::Stop));
    }
    raw.command("_checkbw", 7.0, vec![Value::Null]).unwrap();
    assert_eq!(raw.answer().name, "_result");
}

#[test]
fn only_who_can_reconnect_is_asked_to() {
    for (caps, asked) in [(0.0, false), (12.0, false), (1.0, true), (13.0, true), (f64::NAN, false)] {
        let mut raw = Raw::new(ServerConfig::default());
        let Value::Object(mut arguments) = connect_arguments().remove(0) else { panic!() };
        arguments.push(("capsEx".into(), caps.into()));
        raw.command("connect", 1.0, vec![Value::Object(arguments)]).unwrap();
        assert!(matches!(raw.event(), Event::Connect(_)));
        raw.server.verdict(raw.now, Verdict::Allowed).unwrap();
        raw.messages();
        let to = Elsewhere { tc_url: "rtmp://o/live".into(), url: String::new() };
        let parting = raw.server.parting(Some(&to));
        assert_eq!(parting.is_some(), asked, "{caps}");
        if let Some(parting) = parting {
            let [message] = &raw.read(&parting)[..] else { panic!() };
            let status = Command::read(message).unwrap();
            let code = status.arguments[1].field("code").and_then(Value::as_str);
            assert_eq!((&*status.name, code), ("onStatus", Some("NetConnection.Connect.ReconnectRequest")));
            assert_eq!(status.arguments[1].field("tcUrl"), Some(&"rtmp://o/live".into()));
        }
    }
}

#[test]
fn calls_are_answered() {
    let mut raw = Raw::connected();
    raw.command("createStream", 4.0, vec![Value::Null]).unwrap();
    assert_eq!(raw.answer(), Command::new("_result", 4.0, vec![Value::Null, 1.0.into()]));
    raw.command("FCPublish", 5.0, vec![Value::Null, "cam".into()]).unwrap();
    assert_eq!(raw.answer(), Command::new("_result", 5.0, vec![Value::Null, Value::Undefined]));
    raw.command("FCSubscribe", 6.0, vec![Value::Null, "cam".into()]).unwrap();
    let Some(Output::Send(bytes)) = raw.server.poll() else { panic!() };
    assert_eq!(raw.names(&bytes), ["onFCSubscribe", "_result"]);
    for name in ["_checkbw", "anything"] {
        raw.command(name, 6.0, vec![Value::Null]).unwrap();
        assert_eq!(raw.answer(), Command::new("_result", 6.0, vec![Value::Null, Value::Null]));
    }
    raw.command("anything", 0.0, vec![]).unwrap();
    assert!(raw.messages().is_empty());

    raw.message(kind::USER_CONTROL, &user_control(event::PING_REQUEST, [1, 2, 3, 4])).unwrap();
    assert_eq!(raw.messages()[0].payload, [0, 7, 1, 2, 3, 4][..]);
    raw.message(kind::USER_CONTROL, &[0, 3, 0, 0, 0, 1, 0, 0, 3, 0xe8]).unwrap();
    assert!(raw.messages().is_empty());

    // FCPublish after createStream is Haivision's way; this one wraps its commands as AMF3.
    let publish = Command::new("publish", 7.0, vec![Value::Null, "cam".into()]).encode();
    raw.message(kind::COMMAND_AMF3, &[&[0][..], &publish].concat()).unwrap();
    let Event::Publish(request) = raw.event() else { panic!() };
    assert_eq!(request.client, session::Client::HaivisionPublish);
}

#[test]
fn a_connection_publishes_again() {
    let mut raw = Raw::publishing();
    raw.command("FCUnpublish", 3.0, vec![Value::Null, "cam".into()]).unwrap();
    assert!(matches!(raw.event(), Event::Stop));
    assert_eq!(raw.messages().len(), 3);
    assert_eq!(raw.server.deadline(), Some(raw.now + Duration::from_secs(180)));
    raw.command("deleteStream", 0.0, vec![Value::Null, 1.0.into()]).unwrap();
    assert!(raw.server.poll().is_none());
    raw.command("publish", 4.0, vec![Value::Null, "other".into()]).unwrap();
    assert!(matches!(raw.event(), Event::Publish(request) if request.stream == "other"));
    raw.server.verdict(raw.now, Verdict::Allowed).unwrap();
    raw.messages();

    raw.command("play", 5.0, vec![Value::Null, "third".into()]).unwrap();
    assert!(matches!(raw.event(), Event::Stop));
    assert!(matches!(raw.event(), Event::Play(request) if request.stream == "third"));
}

#[test]
fn what_follows_a_question_waits_for_the_verdict() {
    let mut raw = Raw::connected();
    raw.command("publish", 2.0, vec![Value::Null, "cam".into()]).unwrap();
    assert!(matches!(raw.event(), Event::Publish(_)));
    assert_eq!(raw.server.deadline(), None);
    raw.message(kind::AUDIO, &[0xaf, 0, 0x12, 0x10]).unwrap();
    assert!(raw.server.poll().is_none());
    raw.server.verdict(raw.now, Verdict::Allowed).unwrap();
    assert_eq!(raw.messages().len(), 1);

    // One publish more, and then too many bytes while the driver thinks it over.
    raw.command("publish", 3.0, vec![Value::Null, "cam".into()]).unwrap();
    while let Some(output) = raw.server.poll() {
        assert!(matches!(output, Output::Event(Event::Media(_) | Event::Stop | Event::Publish(_))));
    }
    let piece = vec![0; 1 << 20];
    for _ in 0..16 {
        raw.server.input(raw.now, &piece).unwrap();
    }
    let max = 16 << 20;
    let error = raw.server.input(raw.now, &[0]).unwrap_err();
    assert_eq!(error, ServerError::TooMuchHeld { held: max + 1, max });
}

#[test]
fn aggregates_are_taken_apart() {
    let mut raw = Raw::publishing();
    let mut aggregate = Vec::new();
    for (time, body) in [(5000u32, &[0xaf, 0, 0x12, 0x10][..]), (5020, &[0xaf, 1, 7, 7]), (5040, &[0xaf, 1, 8])] {
        let [t0, t1, t2, t3] = time.to_be_bytes();
        aggregate.extend([8, 0, 0, body.len() as u8, t1, t2, t3, t0, 0, 0, 0]);
        aggregate.extend(body);
        aggregate.extend((11 + body.len() as u32).to_be_bytes());
    }
    raw.message(kind::AGGREGATE, &aggregate).unwrap();
    assert!(matches!(raw.event(), Event::Media(Media::Track(_))));
    for (ms, payload) in [(120, &[7, 7][..]), (140, &[8])] {
        let Event::Media(Media::Frame(frame)) = raw.event() else { panic!() };
        assert_eq!((frame.dts.as_ms(), &frame.payload[..]), (ms, payload));
    }
}

#[test]
fn a_window_of_bytes_is_acknowledged() {
    let mut raw = Raw::connected();
    raw.message(kind::WINDOW_ACK_SIZE, &5000u32.to_be_bytes()).unwrap();
    let mut acks = Vec::new();
    for _ in 0..30 {
        raw.message(kind::AUDIO, &[0; 1000]).unwrap();
        acks.extend(raw.messages().into_iter().map(|m| (m.kind, m.payload)));
    }
    assert!((5..=7).contains(&acks.len()), "{acks:?}");
    assert!(acks.iter().all(|(kind, payload)| *kind == kind::ACKNOWLEDGEMENT && payload.len() == 4));
}

#[test]
fn slow_peers_meet_their_deadlines() {
    let secs = Duration::from_secs;
    let timeout = |waited_for, s| Err(ServerError::Timeout { waited_for, within: secs(s) });

    let now = Instant::now();
    let mut server = Server::new(now, Identity::default(), Seed::default(), ServerConfig::default());
    for (n, byte) in (0..29).zip(simple_handshake()) {
        server.input(now + secs(n), &[byte]).unwrap();
    }
    assert_eq!(server.deadline(), Some(now + secs(30)));
    assert_eq!(server.expire(now + secs(29)), Ok(()));
    assert_eq!(server.expire(now + secs(30)), timeout("connect", 30));

    let mut raw = Raw::connected();
    assert_eq!(raw.server.expire(raw.now + secs(30)), timeout("publish or play", 30));

    let mut raw = Raw::publishing();
    assert_eq!(raw.server.deadline(), Some(raw.now + secs(20)));
    raw.now += secs(19);
    raw.message(kind::AUDIO, &[0xaf, 0, 0x12, 0x10]).unwrap();
    assert_eq!(raw.server.deadline(), Some(raw.now + secs(5)));
    // Talk that is no media does not count.
    raw.message(kind::USER_CONTROL, &user_control(event::PING_REQUEST, [0; 4])).unwrap();
    assert_eq!(raw.server.expire(raw.now + secs(5)), timeout("the next media message", 5));

    let mut pair = Pair::play(1);
    pair.settle();
    assert_eq!(pair.server.deadline(), None);
}

#[test]
fn impossible_chunks_end_the_session() {
    let mut raw = Raw::connected();
    let error = raw.message(kind::SET_CHUNK_SIZE, &[0; 4]).unwrap_err();
    assert!(matches!(error, ServerError::Chunk { source: ChunkError::ChunkSize { size: 0 }, .. }), "{error}");
    assert_eq!(raw.server.input(raw.now, &[1, 2, 3]), Ok(()));
    assert!(raw.server.poll().is_none());

    let mut raw = Raw::new(ServerConfig { max_message: 1000, ..ServerConfig::default() });
    let error = raw.message(kind::VIDEO, &[0; 1001]).unwrap_err();
    let source = ChunkError::MessageTooLong { len: 1001, max: 1000 };
    assert_eq!(error, ServerError::Chunk { at: 1 + 2 * 1536 + 12, source });

    // Commands are short; only a publisher may send long messages.
    let mut long = vec![0; (64 << 10) + 1];
    long[..2].copy_from_slice(&[0x27, 1]); // H.264
    let error = Raw::connected().message(kind::VIDEO, &long).unwrap_err();
    let source = ChunkError::MessageTooLong { len: long.len(), max: 64 << 10 };
    assert!(matches!(error, ServerError::Chunk { source: s, .. } if s == source));
    assert_eq!(Raw::publishing().message(kind::VIDEO, &long), Ok(()));

    let mut raw = Raw::connected();
    let mut error = None;
    for id in 2..=63 + 4 {
        let basic = if id < 64 { vec![id] } else { vec![0, id - 64] };
        let chunk = [&basic[..], &[0, 0, 0, 0, 0, 1, 8, 1, 0, 0, 0, 0]].concat();
        error = error.or(raw.server.input(raw.now, &chunk).err());
    }
    let source = ChunkError::TooManyChunkStreams { max: 64 };
    assert!(matches!(error, Some(ServerError::Chunk { source: s, .. }) if s == source));
}

#[test]
fn urls_and_names_have_a_bound() {
    let long = |len: usize| Value::String("k".repeat(len));
    let refused = |raw: &mut Raw, code: &str| {
        let answer = raw.answer();
        assert_eq!(answer.arguments[1].field("code").and_then(Value::as_str), Some(code));
    };
    for (name, len, all) in [("tcUrl", 8_193, 8_193), ("app", 8_185, 8_193), ("pageUrl", 8_180, 8_193)] {
        let mut raw = Raw::new(ServerConfig::default());
        let mut fields = object([(name, long(len))]);
        if name == "pageUrl" {
            fields.extend(object([("tcUrl", "rtmp://h/live".into())]));
        }
        let error = raw.command("connect", 1.0, vec![Value::Object(fields)]);
        assert!(
            matches!(error, Err(ServerError::UrlTooLong { command: "connect", len, .. }) if len == all),
            "{error:?}"
        );
        refused(&mut raw, "NetConnection.Connect.Rejected");
    }
    for (name, code) in [("publish", "NetStream.Publish.BadName"), ("play", "NetStream.Play.StreamNotFound")] {
        let mut raw = Raw::connected();
        let error = raw.command(name, 2.0, vec![Value::Null, long(8_193)]);
        assert!(matches!(error, Err(ServerError::UrlTooLong { len: 8_193, .. })), "{error:?}");
        refused(&mut raw, code);
        let mut raw = Raw::connected();
        raw.command(name, 2.0, vec![Value::Null, long(8_192)]).unwrap();
        assert!(matches!(raw.event(), Event::Publish(_) | Event::Play(_)));
    }
}

#[test]
fn commands_have_a_pace() {
    let mut raw = Raw::connected();
    let ask = |raw: &mut Raw| raw.command("createStream", 2.0, vec![Value::Null]);
    // It has sent connect.
    assert!((1..200).all(|_| ask(&mut raw).is_ok()));
    let error = ask(&mut raw);
    assert!(matches!(error, Err(ServerError::TooManyCommands { .. })), "{error:?}");
}

#[test]
fn broken_media_is_told_to_the_publisher() {
    let mut raw = Raw::publishing();
    let error = raw.message(kind::VIDEO, &[0x17, 0, 0, 0, 0, 1, 2]).unwrap_err();
    assert!(matches!(error, ServerError::Media { .. }), "{error}");
    let status = raw.answer();
    assert_eq!(status.arguments[1].field("code"), Some(&"NetStream.Publish.Rejected".into()));
}
