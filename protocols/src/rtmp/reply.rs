//! What a server says: each reply as whole chunks, in the words and order that SRS's clients know.

use super::{
    chunk::{ChunkWriter, Header},
    command::{Command, object, status},
    format::STREAM,
    message::{csid, event, kind, user_control},
};
use crate::{amf::Value, codec::fourcc, flv::body, session::Elsewhere};
use shardcast_engine::codec::Codec;

/// Who answers; the names are those that SRS's clients read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Of the session; clients quote it in bug reports.
    pub id: String,
    pub server_ip: String,
    pub pid: String,
}

/// The release of SRS whose behaviour clients may count on.
const SRS_VERSION: &str = "7.0.18";
/// The release of Flash Media Server that SRS says it is.
const FMS_VERSION: &str = "3,5,3,888";
/// What Flash Media Server names a client; nobody reads it, some check that it is there.
const CLIENT_ID: &str = "ASAICiss";

/// The answer to connect: flow control, `_result`, onBWDone. Ends with `writer` at `chunk_size`. What is `enhanced`
/// gets the capabilities of Enhanced RTMP v2 too.
#[expect(clippy::too_many_arguments, reason = "a message and what it is made of")]
pub fn connected(
    writer: &mut ChunkWriter,
    identity: &Identity,
    transaction: f64,
    object_encoding: f64,
    enhanced: bool,
    ack_window: u32,
    chunk_size: u32,
    out: &mut Vec<u8>,
) {
    control(writer, kind::WINDOW_ACK_SIZE, &ack_window.to_be_bytes(), out);
    let [a, b, c, d] = ack_window.to_be_bytes();
    // Limit type 2, dynamic (RTMP 1.0 §5.4.5).
    control(writer, kind::SET_PEER_BANDWIDTH, &[a, b, c, d, 2], out);
    control(writer, kind::SET_CHUNK_SIZE, &chunk_size.to_be_bytes(), out);
    writer.chunk_size = chunk_size;

    let properties = object([
        ("fmsVer", format!("FMS/{FMS_VERSION}").as_str().into()),
        ("capabilities", 127.0.into()),
        ("mode", 1.0.into()),
    ]);
    let data = object([
        ("version", FMS_VERSION.into()),
        ("srs_sig", "SRS".into()),
        ("srs_server", concat!("Shardcast/", env!("CARGO_PKG_VERSION")).into()),
        ("srs_license", env!("CARGO_PKG_LICENSE").into()),
        ("srs_url", env!("CARGO_PKG_HOMEPAGE").into()),
        ("srs_version", SRS_VERSION.into()),
        ("srs_authors", env!("CARGO_PKG_AUTHORS").into()),
        ("srs_server_ip", identity.server_ip.as_str().into()),
        ("srs_pid", identity.pid.as_str().into()),
        ("srs_id", identity.id.as_str().into()),
    ]);
    let mut info = status("status", "NetConnection.Connect.Success", "Connection succeeded");
    info.extend(object([("objectEncoding", object_encoding.into()), ("data", Value::EcmaArray(data))]));
    if enhanced {
        info.extend(capabilities());
    }
    let arguments = vec![Value::Object(properties), Value::Object(info)];
    command(writer, &Command::new("_result", transaction, arguments), out);
    command(writer, &Command::new("onBWDone", 0.0, vec![Value::Null]), out);
}

/// The bit of `capsEx` of one that follows a [`reconnect_request`].
pub const CAN_RECONNECT: u8 = 1;

/// "Enhancing NetConnection connect Command": codecs that are forwarded as they come, and headers that are read.
fn capabilities() -> Vec<(String, Value)> {
    const CAN_FORWARD: f64 = 4.0;
    const RECONNECT: u8 = CAN_RECONNECT;
    const MOD_EX: u8 = 4;
    const TIMESTAMP_NANO_OFFSET: u8 = 8;
    let name = |codec: &Codec| String::from_utf8_lossy(&fourcc(*codec)).into_owned();
    let map = |codecs: &[Codec]| Value::Object(codecs.iter().map(|codec| (name(codec), CAN_FORWARD.into())).collect());
    let list = body::VIDEO.iter().chain(&body::AUDIO).map(|codec| Value::String(name(codec))).collect();
    object([
        ("capsEx", f64::from(RECONNECT | MOD_EX | TIMESTAMP_NANO_OFFSET).into()),
        ("fourCcList", Value::StrictArray(list)),
        ("videoFourCcInfoMap", map(&body::VIDEO)),
        ("audioFourCcInfoMap", map(&body::AUDIO)),
    ])
}

pub fn connect_refused(writer: &ChunkWriter, transaction: f64, description: &str, out: &mut Vec<u8>) {
    let info = Value::Object(status("error", "NetConnection.Connect.Rejected", description));
    command(writer, &Command::new("_error", transaction, vec![Value::Null, info]), out);
}

/// "RTMP 302", as SRS sends it about the connection: FMS's `redirect` is a tcUrl, `redirect2` the whole URL.
pub fn redirected(writer: &ChunkWriter, to: &Elsewhere, out: &mut Vec<u8>) {
    let ex = object([
        ("code", REDIRECT.into()),
        ("redirect", to.tc_url.as_str().into()),
        ("redirect2", to.url.as_str().into()),
    ]);
    let mut info = status("error", "NetConnection.Connect.Rejected", "RTMP 302 Redirect");
    info.extend(object([("ex", Value::Object(ex))]));
    command(writer, &Command::new("onStatus", 0.0, vec![Value::Null, Value::Object(info)]), out);
}

/// The code of a redirection.
pub const REDIRECT: f64 = 302.0;

/// `_result` with a null command object and `value`.
pub fn result(writer: &ChunkWriter, transaction: f64, value: Value, out: &mut Vec<u8>) {
    command(writer, &Command::new("_result", transaction, vec![Value::Null, value]), out);
}

/// FMLE and its like also want an onFCPublish.
pub fn publish_started(writer: &ChunkWriter, fmle: bool, out: &mut Vec<u8>) {
    let (code, text) = ("NetStream.Publish.Start", "Started publishing stream.");
    if fmle {
        fc(writer, "onFCPublish", code, text, out);
    }
    on_status(writer, "status", code, text, &[("clientid", CLIENT_ID)], out);
}

/// The answer to FCSubscribe, which Flash Media Server gives about the connection: a player may play.
pub fn subscribed(writer: &ChunkWriter, transaction: f64, out: &mut Vec<u8>) {
    let info = object([("code", "NetStream.Play.Start".into()), ("description", "Started playing stream.".into())]);
    command(writer, &Command::new("onFCSubscribe", 0.0, vec![Value::Null, Value::Object(info)]), out);
    result(writer, transaction, Value::Undefined, out);
}

/// The answer to FCUnpublish.
pub fn unpublished(writer: &ChunkWriter, transaction: f64, out: &mut Vec<u8>) {
    let code = "NetStream.Unpublish.Success";
    fc(writer, "onFCUnpublish", code, "Stop publishing stream.", out);
    result(writer, transaction, Value::Undefined, out);
    on_status(writer, "status", code, "Stream is now unpublished", &[("clientid", CLIENT_ID)], out);
}

/// What comes before the first message of a stream that plays.
pub fn play_started(writer: &ChunkWriter, out: &mut Vec<u8>) {
    stream_event(writer, event::STREAM_BEGIN, out);
    let details = [("details", "stream"), ("clientid", CLIENT_ID)];
    on_status(writer, "status", "NetStream.Play.Reset", "Playing and resetting stream.", &details, out);
    on_status(writer, "status", "NetStream.Play.Start", "Started playing stream.", &details, out);
    data(writer, &["|RtmpSampleAccess".into(), true.into(), true.into()], out);
    let started = Value::Object(object([("code", "NetStream.Data.Start".into())]));
    data(writer, &["onStatus".into(), started], out);
}

/// A track that was off comes again.
pub fn receive_started(writer: &ChunkWriter, out: &mut Vec<u8>) {
    on_status(writer, "status", "NetStream.Seek.Notify", "Seeking to the live edge.", &[], out);
    on_status(writer, "status", "NetStream.Play.Start", "Started playing stream.", &[], out);
}

/// The player has got the duration that it asked for.
pub fn play_complete(writer: &ChunkWriter, out: &mut Vec<u8>) {
    let code = "NetStream.Play.Complete";
    let info = Value::Object(object([("level", "status".into()), ("code", code.into())]));
    data(writer, &["onPlayStatus".into(), info], out);
    on_status(writer, "status", "NetStream.Play.Stop", "Stopped playing stream.", &[("clientid", CLIENT_ID)], out);
    stream_event(writer, event::STREAM_EOF, out);
}

/// "Reconnect Request" of Enhanced RTMP v2: the peer should go to another server, or here again later.
/// By itself it goes where it came from.
pub fn reconnect_request(writer: &ChunkWriter, to: Option<&Elsewhere>, out: &mut Vec<u8>) {
    let mut info = status("status", "NetConnection.Connect.ReconnectRequest", "The server is ending");
    info.extend(to.map(|to| ("tcUrl".to_owned(), to.tc_url.as_str().into())));
    command(writer, &Command::new("onStatus", 0.0, vec![Value::Null, Value::Object(info)]), out);
}

pub fn paused(writer: &ChunkWriter, pause: bool, out: &mut Vec<u8>) {
    if pause {
        on_status(writer, "status", "NetStream.Pause.Notify", "Paused stream.", &[], out);
        stream_event(writer, event::STREAM_EOF, out);
    } else {
        on_status(writer, "status", "NetStream.Unpause.Notify", "Unpaused stream.", &[], out);
        stream_event(writer, event::STREAM_BEGIN, out);
    }
}

/// An onStatus of level error.
pub fn failed(writer: &ChunkWriter, code: &str, description: &str, out: &mut Vec<u8>) {
    on_status(writer, "error", code, description, &[("clientid", CLIENT_ID)], out);
}

pub fn pong(writer: &ChunkWriter, token: [u8; 4], out: &mut Vec<u8>) {
    control(writer, kind::USER_CONTROL, &user_control(event::PING_RESPONSE, token), out);
}

/// A user control event about the one stream.
pub fn stream_event(writer: &ChunkWriter, event: u16, out: &mut Vec<u8>) {
    control(writer, kind::USER_CONTROL, &user_control(event, STREAM.to_be_bytes()), out);
}

pub fn control(writer: &ChunkWriter, kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    writer.write(Header { csid: csid::CONTROL, kind, stream: 0, timestamp: 0 }, &[payload], out);
}

/// A command about the connection.
pub fn command(writer: &ChunkWriter, command: &Command, out: &mut Vec<u8>) {
    let header = Header { csid: csid::CONNECTION, kind: kind::COMMAND, stream: 0, timestamp: 0 };
    writer.write(header, &[&command.encode()], out);
}

fn fc(writer: &ChunkWriter, name: &str, code: &str, description: &str, out: &mut Vec<u8>) {
    let info = object([("code", code.into()), ("description", description.into())]);
    stream_command(writer, &Command::new(name, 0.0, vec![Value::Null, Value::Object(info)]), out);
}

fn on_status(
    writer: &ChunkWriter,
    level: &str,
    code: &str,
    description: &str,
    more: &[(&str, &str)],
    out: &mut Vec<u8>,
) {
    let mut info = status(level, code, description);
    info.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
    stream_command(writer, &Command::new("onStatus", 0.0, vec![Value::Null, Value::Object(info)]), out);
}

/// A command about the one stream.
fn stream_command(writer: &ChunkWriter, command: &Command, out: &mut Vec<u8>) {
    let header = Header { csid: csid::STREAM, kind: kind::COMMAND, stream: STREAM, timestamp: 0 };
    writer.write(header, &[&command.encode()], out);
}

fn data(writer: &ChunkWriter, values: &[Value], out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    values.iter().for_each(|value| value.encode(&mut payload));
    let header = Header { csid: csid::STREAM, kind: kind::DATA, stream: STREAM, timestamp: 0 };
    writer.write(header, &[&payload], out);
}
