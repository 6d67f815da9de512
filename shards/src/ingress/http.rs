//! The HTTP port of a media shard: live streams are served here, in bodies or in WebSocket frames; all else goes to
//! the control shard.

use super::seat::{self, Seat};
use crate::{
    access::{self, Deed},
    config::{Config, Vhost},
    connection::{Closed, Connection, Flow},
    control::{CORS, http::BAD_PATH},
    mesh::Handover,
    query, refusal,
    shard::Shard,
    stream::Wire,
};
use bytes::{Bytes, BytesMut};
use glommio::{timer::sleep, yield_if_needed};
use shardcast_engine::key::StreamKey;
use shardcast_protocols::{
    session::{Client, Refusal, Request, Verdict},
    websocket::{self, Answer},
};
use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::info;

/// A request's line and headers may be so long, and take so long.
const HEAD_BYTES: usize = 16 << 10;
const HEAD_TIME: Duration = Duration::from_secs(15);
const HEADERS: usize = 64;
/// A viewer that is told to go reads that within this time.
const PARTING: Duration = Duration::from_secs(5);
/// Between two tries to send it.
const RETRY: Duration = Duration::from_millis(10);

/// Serves the connection to its end.
pub async fn serve(shard: &Rc<Shard>, connection: &Rc<Connection>) {
    let mut seat = Seat::new(shard, connection);
    // In a box, so that a viewer does not hold what its request took.
    match Box::pin(begin(shard, connection, &mut seat)).await {
        Some(Begun::Frames { said }) => Box::pin(listen(shard, connection, &mut seat, &said)).await,
        // A viewer says nothing more; what it says all the same is read and dropped, so that its end is seen.
        Some(Begun::Body) => {
            while let Ok(Some(count)) = connection.socket.read(&shard.buffer, <[u8]>::len).await {
                connection.received.set(connection.received.get() + count as u64);
                yield_if_needed().await;
            }
        }
        None => {}
    }
}

/// A viewer that plays.
enum Begun {
    Body,
    /// By WebSocket, with what it said behind its request.
    Frames {
        said: Bytes,
    },
}

/// Takes a request. `None` where nobody plays by it.
async fn begin(shard: &Rc<Shard>, connection: &Rc<Connection>, seat: &mut Seat<'_>) -> Option<Begun> {
    let mut read = BytesMut::new();
    connection.deadline.set(Some(Instant::now() + HEAD_TIME));
    let head = loop {
        match parse(&read) {
            Ok(Some(head)) => break head,
            Ok(None) if read.len() > HEAD_BYTES => {
                return refuse(connection, "431 Request Header Fields Too Large", "");
            }
            Ok(None) => {}
            Err(_) => return refuse(connection, "400 Bad Request", ""),
        }
        let more = connection.socket.read(&shard.buffer, |bytes| read.extend_from_slice(bytes)).await;
        if !matches!(more, Ok(Some(()))) {
            if connection.closed() == Some(Closed::Expired) && !read.is_empty() {
                connection.close(format!("no complete HTTP request within {} s", HEAD_TIME.as_secs()));
            }
            return None;
        }
        connection.received.set(read.len() as u64);
    };
    connection.deadline.set(None);
    if query::climbs(head.target.split('?').next().unwrap_or_default()) {
        return refuse(connection, "400 Bad Request", BAD_PATH);
    }
    let config = shard.config();
    let crossdomain = config.http_server.crossdomain;
    let refuse_to = |why: &Refusal, more: &str| {
        let (status, words) = refusal::words(why);
        let words = if head.method == "HEAD" { "" } else { &words };
        refuse(connection, &format!("{status}{more}{}", cors(&head, crossdomain)), words)
    };
    let wanted = match live(&config, &head) {
        Some((vhost, _, Body::Ts)) if is_segment(shard, vhost, &head.path).await => None,
        wanted => wanted,
    };
    let Some((vhost, request, body)) = wanted else {
        match connection.socket.hand_over() {
            Ok((fd, session)) => {
                connection.hand_over();
                shard.hand_over(Handover { fd, session, peer: connection.peer.get(), read: read.freeze() });
            }
            Err(error) => connection.close(format!("hand-over: {error}")),
        }
        return None;
    };
    if head.method != "HEAD"
        && let Err(why) = shard.room("http", &seat::key(vhost, &request), connection.peer.get()).await
    {
        return match &config.circuit_breaker.redirect_http {
            Some(other) if why == Refusal::Full => {
                refuse(connection, &format!("302 Found\r\nLocation: {other}{}", head.target), "")
            }
            _ => refuse_to(&why, &format!("\r\nRetry-After: {}", refusal::RETRY_AFTER)),
        };
    }
    let mut verdict = Verdict::Allowed;
    if let Some(ip) = head.told {
        // The proxy itself must be one that may.
        let proxy = connection.peer.get();
        verdict = access::judge(vhost, Deed::Play, proxy.ip(), vhost.refer.of_http(&request.page_url));
        connection.peer.set(SocketAddr::new(ip, proxy.port()));
        info!(cid = %connection.id, "{proxy} is a proxy, its client is {ip}");
    }
    if verdict == Verdict::Allowed {
        verdict = seat.admit(vhost, Deed::Play, &request).await;
    }
    if let Verdict::Refused(why) = verdict {
        info!(cid = %connection.id, "{} may not play {}/{}: {why}", connection.peer.get(), request.app, request.stream);
        return refuse_to(&why, "");
    }
    if let Some(upgrade) = &head.upgrade {
        match upgrade.answer(&head, crossdomain) {
            Ok(answer) => connection.say(answer.as_bytes()),
            Err(status) => return refuse(connection, status, ""),
        }
        seat.play(vhost, &request, body.wire(Carrier::Frames));
        return Some(Begun::Frames { said: read.freeze().slice(head.length..) });
    }
    connection.say(answer(&head, body, crossdomain).as_bytes());
    if head.method == "HEAD" {
        connection.flush(None);
        connection.close("answered a HEAD".into());
        return None;
    }
    seat.play(vhost, &request, body.wire(if head.chunks { Carrier::Chunks } else { Carrier::Connection }));
    Some(Begun::Body)
}

/// Answers what a WebSocket viewer says, `first` what it said with its request, until one of the two ends it.
async fn listen(shard: &Shard, connection: &Rc<Connection>, seat: &mut Seat<'_>, first: &[u8]) {
    let mut reader = websocket::Reader::default();
    let mut answers = Vec::new();
    let mut result = reader.input(first, |answer| answers.push(answer));
    loop {
        let mut last = result.err().map(|error| (error.frame().to_vec(), error.to_string()));
        let said = !answers.is_empty();
        for answer in answers.drain(..) {
            match answer {
                Answer::Pong(frame) => connection.say(&frame),
                Answer::Close(frame) => last = Some((frame, "its client closed the WebSocket".into())),
            }
        }
        if let Some((frame, why)) = last {
            if result.is_err() {
                metrics::counter!("shardcast_session_errors_total", "protocol" => "websocket").increment(1);
            }
            seat.stop();
            connection.say(&frame);
            let deadline = Instant::now() + PARTING;
            while connection.flush(None) == Flow::Blocked && Instant::now() < deadline {
                sleep(RETRY).await;
            }
            return connection.close(why);
        }
        if said {
            seat.hurry();
        }
        yield_if_needed().await;
        let read = connection.socket.read(&shard.buffer, |bytes| {
            connection.received.set(connection.received.get() + bytes.len() as u64);
            reader.input(bytes, |answer| answers.push(answer))
        });
        match read.await {
            Ok(Some(read)) => result = read,
            _ => return,
        }
    }
}

/// What matters of a request.
struct Head {
    method: String,
    /// Path and query, as they came.
    target: String,
    /// Percent-decoded.
    path: String,
    /// With its `?`, or empty.
    query: String,
    host: String,
    page: String,
    origin: Option<String>,
    /// Whom a proxy speaks for.
    told: Option<IpAddr>,
    /// The client knows chunked bodies: HTTP/1.1.
    chunks: bool,
    /// It asks for a WebSocket.
    upgrade: Option<Upgrade>,
    /// Bytes up to its empty line.
    length: usize,
}

/// What a request for a WebSocket says of it (RFC 6455 §4.2.1).
struct Upgrade {
    key: String,
    version: String,
}

impl Upgrade {
    /// The head that switches protocols, or the status that refuses to. Browsers ask nobody before a page opens a
    /// WebSocket to another host, so without `crossdomain` the server refuses it.
    fn answer(&self, head: &Head, crossdomain: bool) -> Result<String, &'static str> {
        let ours = |origin: &str| origin.split_once("://").is_some_and(|(_, host)| host == head.host);
        if !crossdomain && head.origin.as_deref().is_some_and(|origin| !ours(origin)) {
            return Err("403 Forbidden");
        }
        if self.version != websocket::VERSION {
            return Err("426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13");
        }
        let accept = websocket::accept(&self.key).ok_or("400 Bad Request")?;
        Ok(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nServer: {}\r\n\r\n",
            crate::SERVER
        ))
    }
}

/// What shows where a live stream's pieces end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    /// Only its end shows, that of the body.
    Connection,
    Chunks,
    /// Of a WebSocket.
    Frames,
}

/// What a live stream looks like over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Flv,
    Ts,
}

impl Body {
    fn of_path(path: &str) -> Option<Self> {
        [Self::Flv, Self::Ts].into_iter().find(|body| path.ends_with(body.suffix()))
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Flv => ".flv",
            Self::Ts => ".ts",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Flv => "video/x-flv",
            Self::Ts => "video/mp2t",
        }
    }

    fn wire(self, carrier: Carrier) -> Wire {
        match (self, carrier) {
            (Self::Flv, Carrier::Connection) => Wire::Flv,
            (Self::Flv, Carrier::Chunks) => Wire::ChunkedFlv,
            (Self::Flv, Carrier::Frames) => Wire::WsFlv,
            (Self::Ts, Carrier::Connection) => Wire::Ts,
            (Self::Ts, Carrier::Chunks) => Wire::ChunkedTs,
            (Self::Ts, Carrier::Frames) => Wire::WsTs,
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<Head>, httparse::Error> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes)? else { return Ok(None) };
    let (Some(method), Some(target)) = (request.method, request.path) else { return Ok(None) };
    let (authority, target) = absolute(target).map_or((None, target), |(host, rest)| (Some(host), rest));
    let (path, query) = target.find('?').map_or((target, ""), |at| target.split_at(at));
    let header = |name: &str| {
        let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let names = |header_name: &str, wanted: &str| {
        header(header_name).is_some_and(|list| list.split(',').any(|name| name.trim().eq_ignore_ascii_case(wanted)))
    };
    let upgrades = method == "GET" && request.version == Some(1);
    let upgrades = upgrades && names("upgrade", "websocket") && names("connection", "upgrade");
    let owned = |name| header(name).unwrap_or_default().to_owned();
    Ok(Some(Head {
        method: method.to_owned(),
        target: target.to_owned(),
        path: query::decode(path),
        query: query.to_owned(),
        host: authority.map_or_else(|| owned("host"), str::to_owned),
        // Browsers name no page where they open a WebSocket.
        page: header("referer").or(header("origin")).unwrap_or_default().to_owned(),
        origin: header("origin").map(str::to_owned),
        told: access::forwarded(header),
        chunks: request.version == Some(1),
        upgrade: upgrades.then(|| Upgrade { key: owned("sec-websocket-key"), version: owned("sec-websocket-version") }),
        length,
    }))
}

/// Host and path of a target in absolute form; that host counts, not the header's (RFC 9112 §3.2.2).
fn absolute(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    is_http.then(|| rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
}

/// The stream that a request asks for, where the vhost serves it over HTTP.
fn live<'c>(config: &'c Config, head: &Head) -> Option<(&'c Vhost, Arc<Request>, Body)> {
    if !matches!(&*head.method, "GET" | "HEAD") {
        return None;
    }
    let body = Body::of_path(&head.path)?;
    let name = vhost_name(&head.host, &head.query);
    let vhost = config.vhost(name).filter(|vhost| vhost.http_remux.enabled)?;
    let (app, stream) = mounted(&mount(&vhost.http_remux.mount, body)?, &vhost.name, &head.path)?;
    let request = Arc::new(Request {
        vhost: name.to_owned(),
        tc_url: format!("rtmp://{}/{app}", vhost.name),
        app,
        stream,
        param: head.query.clone(),
        page_url: head.page.clone(),
        client: Client::FlvPlay,
        ..Request::default()
    });
    Some((vhost, request, body))
}

/// `a-7.ts` may be segment 7 of stream `a`, or stream `a-7`: the segment goes first where there is one.
async fn is_segment(shard: &Shard, vhost: &Vhost, path: &str) -> bool {
    if !vhost.hls.enabled {
        return false;
    }
    let Some(asked) = vhost.hls.names.asked_segment(&vhost.name, path) else { return false };
    let key = StreamKey::new(&vhost.name, &asked.app, &asked.stream);
    shard.fetch(&key, path).await.is_some()
}

/// The mount that `configured` is for `body`: a mount for FLV is one for MPEG-TS too, with the other suffix.
fn mount(configured: &str, body: Body) -> Option<Cow<'_, str>> {
    match (Body::of_path(configured)?, body) {
        (Body::Flv, Body::Ts) => {
            let stem = configured.strip_suffix(Body::Flv.suffix())?;
            Some(format!("{stem}{}", Body::Ts.suffix()).into())
        }
        (mounted, wanted) => (mounted == wanted).then_some(configured.into()),
    }
}

/// App and stream of `path` where it has the form of `mount`: `[vhost]/[app]/[stream].flv`, or with any of
/// its parts fixed. The last segment is the stream's, all before it the app's.
fn mounted(mount: &str, vhost: &str, path: &str) -> Option<(String, String)> {
    let pattern = mount.strip_prefix("[vhost]").or_else(|| mount.strip_prefix(vhost)).unwrap_or(mount);
    let (app_pattern, stream_pattern) = pattern.trim_start_matches('/').rsplit_once('/')?;
    let (app_path, stream_path) = path.trim_start_matches('/').rsplit_once('/')?;
    let stream = filled(stream_pattern, "[stream]", stream_path)?;
    let app = filled(app_pattern, "[app]", app_path)?;
    (!app.is_empty() && !stream.is_empty()).then(|| (app.to_owned(), stream.to_owned()))
}

/// What stands in `text` where `pattern` has `variable`; the pattern itself where it has none.
fn filled<'t>(pattern: &'t str, variable: &str, text: &'t str) -> Option<&'t str> {
    match pattern.split_once(variable) {
        Some((before, after)) => text.strip_prefix(before)?.strip_suffix(after),
        None if pattern == text => {
            Some(Body::of_path(pattern).and_then(|body| pattern.strip_suffix(body.suffix())).unwrap_or(pattern))
        }
        None => None,
    }
}

/// The vhost that a request names: in its query, else by its host.
pub fn vhost_name<'r>(host: &'r str, query: &'r str) -> &'r str {
    query::raw(query, "vhost").or_else(|| query::raw(query, "domain")).unwrap_or(host_name(host))
}

/// The host without its port; IPv6 addresses keep their brackets.
pub fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        // A name with colons is an IPv6 address without brackets, and has no port.
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && (name.ends_with(']') || !name.contains(':')) =>
        {
            name
        }
        _ => host,
    }
}

/// The head of a live body: chunked, or for HTTP/1.0 one that ends with the connection (RFC 9112 §6.3).
fn answer(head: &Head, body: Body, crossdomain: bool) -> String {
    let mut answer = format!("HTTP/1.1 200 OK{}\r\nContent-Type: {}\r\n", cors(head, crossdomain), body.content_type());
    if head.chunks {
        answer.push_str("Transfer-Encoding: chunked\r\n");
    }
    answer.push_str(&format!(
        "Cache-Control: no-cache, no-store\r\nConnection: close\r\nServer: {}\r\n\r\n",
        crate::SERVER
    ));
    answer
}

/// The headers by which a page of another origin may read the answer, each behind an end of line.
fn cors(head: &Head, crossdomain: bool) -> String {
    let asks = crossdomain && head.origin.is_some();
    CORS.iter().filter(|_| asks).map(|(name, value)| format!("\r\n{name}: {value}")).collect()
}

/// Answers with `status`, and perhaps headers behind it, and `words`; nobody plays.
fn refuse(connection: &Connection, status: &str, words: &str) -> Option<Begun> {
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\nServer: {}\r\n\r\n{words}",
        words.len(),
        crate::SERVER
    );
    connection.say(answer.as_bytes());
    connection.flush(None);
    metrics::counter!("shardcast_session_errors_total", "protocol" => "http").increment(1);
    connection.close(format!("answered {}", status.split("\r\n").next().unwrap_or(status)));
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile;

    #[test]
    fn paths_find_their_streams() {
        let usual = "[vhost]/[app]/[stream].flv";
        let found = |mount, path| mounted(mount, "v.io", path).map(|(app, stream)| format!("{app} {stream}"));
        assert_eq!(found(usual, "/live/a.flv").as_deref(), Some("live a"));
        assert_eq!(found(usual, "/a/b/c.flv").as_deref(), Some("a/b c"));
        assert_eq!(found("v.io/x/[stream].flv", "/x/a.flv").as_deref(), Some("x a"));
        assert_eq!(found("v.io/x/[stream].flv", "/y/a.flv"), None);
        assert_eq!(found("[vhost]/live/one.flv", "/live/one.flv").as_deref(), Some("live one"));
        assert_eq!(found(usual, "/a.flv"), None);
        assert_eq!(found(usual, "/live/.flv"), None);
    }

    #[test]
    fn mount_for_flv_serves_ts_too() {
        let usual = "[vhost]/[app]/[stream].flv";
        assert_eq!(mount(usual, Body::Flv).as_deref(), Some(usual));
        assert_eq!(mount(usual, Body::Ts).as_deref(), Some("[vhost]/[app]/[stream].ts"));
        assert_eq!(mount("/[app]/[stream].ts", Body::Ts).as_deref(), Some("/[app]/[stream].ts"));
        assert_eq!(mount("/[app]/[stream].ts", Body::Flv), None);
        assert_eq!(mount("/[app]/[stream].aac", Body::Ts), None);
        let found = mounted("[vhost]/live/one.ts", "v.io", "/live/one.ts");
        assert_eq!(found, Some(("live".into(), "one".into())));
    }

    #[test]
    fn hosts_lose_their_ports() {
        assert_eq!(host_name("a.io:8080"), "a.io");
        assert_eq!(host_name("a.io"), "a.io");
        assert_eq!(host_name("192.0.2.1:8080"), "192.0.2.1");
        assert_eq!(host_name("fe80::1"), "fe80::1");
        assert_eq!(host_name("[::1]:8080"), "[::1]");
        assert_eq!(host_name("[::1]"), "[::1]");
    }

    #[test]
    fn incomplete_requests_wait_and_bad_ones_fail() {
        let whole = b"GET /live/a.flv?k=v HTTP/1.1\r\nHost: h:8080\r\nOrigin: http://o\r\n\r\n";
        for end in 0..whole.len() {
            assert!(matches!(parse(&whole[..end]), Ok(None)), "{end}");
        }
        let head = parse(whole).unwrap().unwrap();
        assert_eq!((&*head.path, &*head.query, &*head.host), ("/live/a.flv", "?k=v", "h:8080"));
        assert_eq!((head.origin.as_deref(), head.length), (Some("http://o"), whole.len()));
        assert!(head.upgrade.is_none());
        let absolute =
            parse(b"GET HTTP://v.io:8080/live/a.flv?u=http://x HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().unwrap();
        assert_eq!((&*absolute.target, &*absolute.host), ("/live/a.flv?u=http://x", "v.io:8080"));
        let usual = parse(b"GET /live/a.flv?u=http://x HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().unwrap();
        assert_eq!((&*usual.target, &*usual.host), ("/live/a.flv?u=http://x", "h"));
        assert!(parse(b"\x03\0\0\0garbage\xff").is_err());
    }

    /// Mutations of what real clients ask.
    #[test]
    fn hostile_heads_do_not_panic() {
        let heads: [&[u8]; 4] = [
            include_bytes!("../../../protocols/corpus/http-ffmpeg5-flv.bin"),
            include_bytes!("../../../protocols/corpus/http-curl.bin"),
            include_bytes!("../../../protocols/corpus/http-chromium.bin"),
            include_bytes!("../../../protocols/corpus/http-chromium-websocket.bin"),
        ];
        let mut asked = 0;
        for golden in heads {
            hostile::mutations(golden, 25_000, |bytes| {
                let Ok(Some(head)) = parse(bytes) else { return };
                assert!(head.length <= bytes.len());
                asked += u32::from(Body::of_path(&head.path).is_some());
                vhost_name(&head.host, &head.query);
                if let Some(upgrade) = &head.upgrade {
                    let _ = upgrade.answer(&head, false);
                }
            });
        }
        assert!(asked > 10_000);
    }

    #[test]
    fn upgrades_are_answered_or_refused() {
        let status = |headers: &str, crossdomain| {
            let request = format!("GET /live/a.flv HTTP/1.1\r\nHost: h:8080\r\n{headers}\r\n");
            let head = parse(request.as_bytes()).unwrap().unwrap();
            head.upgrade.as_ref().map(|upgrade| match upgrade.answer(&head, crossdomain) {
                Ok(answer) => answer[9..12].to_owned(),
                Err(status) => status[..3].to_owned(),
            })
        };
        let asked = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let version = "Sec-WebSocket-Version: 13\r\n";
        let whole = [asked, key, version].concat();
        let from = |origin| format!("{whole}Origin: http://{origin}\r\n");
        assert_eq!(status(&whole, false).as_deref(), Some("101"));
        assert_eq!(status(&from("h:8080"), false).as_deref(), Some("101"));
        assert_eq!(status(&from("evil"), true).as_deref(), Some("101"));
        assert_eq!(status(&from("evil"), false).as_deref(), Some("403"));
        assert_eq!(status(&[asked, key].concat(), true).as_deref(), Some("426"));
        assert_eq!(status(&[asked, version].concat(), true).as_deref(), Some("400"));
        assert_eq!(status(&[key, version, "Upgrade: websocket\r\n"].concat(), true), None);
    }
}
