//! WebRTC's signalling: offers answered (WHIP, RFC 9725, and WHEP, or SRS's JSON), sessions prepared and ended.
//!
//! A session waits here until a shard says that its peer's first packet has come; from then on only where it
//! lives is known here.

use super::{
    Control,
    http::{Answer, json, not_allowed, redirect, text, with_type},
};
use crate::{
    access::{self, Deed},
    addresses::{Addresses, Counted},
    hooks::{self, Call},
    ingress::{
        candidates::{self, Asked},
        http::vhost_name,
        rtc::Prepared,
        seat,
    },
    mesh::Mail,
    query::value,
    refusal,
    shard::{VERDICT_TIME, no_answer, random_id},
    stream::Publication,
};
use bytes::Bytes;
use futures_lite::FutureExt;
use glommio::timer::sleep;
use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Request as HttpRequest, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use serde_json::{Value, json};
use shardcast_engine::key::StreamKey;
use shardcast_protocols::{
    rtc::{OfferError, Player, Publisher, Session, Settings},
    rtmp::url,
    session::{Client, Refusal, Request, Verdict},
};
use std::{
    cell::RefCell,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// An offer may be so long, and take so long to come.
const BODY_BYTES: usize = 64 << 10;
const BODY_TIME: Duration = Duration::from_secs(15);
/// Sessions that wait for their peers, shared between the addresses of connections.
const WAITING: usize = 10_000;

/// All sessions of the process.
#[derive(Default)]
pub struct Sessions {
    by_number: RefCell<HashMap<u64, Place>>,
    by_ufrag: RefCell<HashMap<String, u64>>,
    waiting: Addresses,
}

struct Place {
    ufrag: String,
    /// Who knows it may end the session.
    token: String,
    at: At,
}

enum At {
    /// Here, until then.
    Here {
        prepared: Box<Prepared>,
        until: Instant,
        _counted: Counted,
    },
    Shard(usize),
}

/// Why a session is not made: SRS's number and name, and what to do about it.
#[derive(Debug)]
struct Fault {
    status: StatusCode,
    code: u32,
    name: &'static str,
    why: String,
}

impl Fault {
    fn new(status: StatusCode, code: u32, name: &'static str, why: impl Into<String>) -> Self {
        Self { status, code, name, why: why.into() }
    }
}

impl From<OfferError> for Fault {
    fn from(error: OfferError) -> Self {
        let (code, name) = match error {
            OfferError::Sdp(_) | OfferError::TooLong { .. } => (5012, "RtcSdpDecode"),
            _ => (5018, "RtcSdpNegotiate"),
        };
        Self::new(StatusCode::BAD_REQUEST, code, name, error.to_string())
    }
}

/// What an offer is for.
struct Wanted {
    /// `param` is the query; of WHIP and WHEP without its `?`, as SRS has it.
    request: Arc<Request>,
    offer: String,
    ice: Option<(String, String)>,
}

impl Wanted {
    fn plays(&self) -> bool {
        self.request.client == Client::RtcPlay
    }
}

/// A session that was made.
struct Made {
    answer: String,
    ufrag: String,
    token: String,
}

/// What a path asks of WebRTC; `None` where it is another's.
pub fn name(path: &str) -> Option<&'static str> {
    let path = path.strip_prefix("/rtc/v1/")?;
    let is = |name: &&str| path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    ["whip-play", "whip", "whep", "publish", "play"].into_iter().find(is)
}

/// `name` is what its path asks for.
pub async fn answer(control: &Control, name: &'static str, request: HttpRequest<Incoming>, peer: SocketAddr) -> Answer {
    let is_json = matches!(name, "publish" | "play");
    let method = request.method().clone();
    let query = request.uri().query().unwrap_or("").to_owned();
    let whole = request.uri().path().to_owned();
    if method == Method::DELETE && !is_json {
        return delete(control, &query);
    }
    // A GET is told what is missing, as by SRS.
    let takes = method == Method::POST || (method == Method::GET && !is_json);
    if !takes {
        return not_allowed("POST, DELETE, OPTIONS");
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("").to_owned();
    let told = access::forwarded(|name| request.headers().get(name)?.to_str().ok());
    let page_url = request.headers().get(header::REFERER).and_then(|page| page.to_str().ok()).unwrap_or("").to_owned();
    let wanted = match body(request).await {
        Err(fault) => Err(fault),
        Ok(body) if is_json => wanted_by_json(&body, name == "play", page_url),
        Ok(body) => {
            let plays = name != "whip" || value(&query, "action").as_deref() == Some("play");
            Ok(wanted_by_sdp(body, plays, &query, &host, page_url))
        }
    };
    let made = match wanted {
        Ok(wanted) => {
            let Request { app, stream, .. } = &*wanted.request;
            let what = format!("{} {app}/{stream}", if wanted.plays() { "play" } else { "publish" });
            let plays = wanted.plays();
            make(control, wanted, &query, &host, [peer.ip(), told.unwrap_or(peer.ip())])
                .await
                .map_err(|fault| (what, plays, fault))
        }
        Err(fault) => Err((name.to_owned(), false, fault)),
    };
    match made {
        Ok((made, wanted)) if is_json => json(&json!({
            "code": 0,
            "server": control.server_id,
            "service": control.service_id,
            "pid": std::process::id().to_string(),
            "sdp": made.answer,
            "sessionid": format!("{}:{}", made.ufrag, remote_ufrag(&wanted.offer)),
        })),
        Ok((made, wanted)) => created(&made, &wanted),
        Err((what, plays, fault)) => {
            metrics::counter!("shardcast_session_errors_total", "protocol" => "rtc").increment(1);
            info!("WebRTC offer of {peer} refused ({what}): {} {}: {}", fault.code, fault.name, fault.why);
            let elsewhere = control.config().circuit_breaker.redirect_http.clone();
            if let Some(base) = elsewhere.filter(|_| plays && fault.status == StatusCode::SERVICE_UNAVAILABLE) {
                redirect(StatusCode::TEMPORARY_REDIRECT, &format!("{base}{whole}"), &query)
            } else if is_json {
                json(&json!({ "code": 400 }))
            } else {
                text(fault.status, format!("{}: {}: {}\n", fault.code, fault.name, fault.why))
            }
        }
    }
}

async fn body(request: HttpRequest<Incoming>) -> Result<String, Fault> {
    let bad = |why: String| Fault::new(StatusCode::BAD_REQUEST, 5043, "RtcInvalidSdp", why);
    let late = async {
        sleep(BODY_TIME).await;
        Err("the body took too long".into())
    };
    let read = Limited::new(request.into_body(), BODY_BYTES).collect();
    let collected = async { read.await.map_err(|error| error.to_string()) };
    let bytes: Bytes = collected.or(late).await.map_err(bad)?.to_bytes();
    if bytes.is_empty() {
        return Err(bad("the body, which should be an SDP offer, is empty".into()));
    }
    String::from_utf8(bytes.into()).map_err(|_| bad("the body is no text".into()))
}

fn client(plays: bool) -> Client {
    if plays { Client::RtcPlay } else { Client::RtcPublish }
}

fn wanted_by_sdp(offer: String, plays: bool, query: &str, host: &str, page_url: String) -> Wanted {
    let named = |key: &str, default: &str| value(query, key).unwrap_or_else(|| default.to_owned());
    let request = Arc::new(Request {
        vhost: vhost_name(host, query).to_owned(),
        app: named("app", "live"),
        stream: named("stream", "livestream"),
        param: query.to_owned(),
        page_url,
        client: client(plays),
        ..Request::default()
    });
    Wanted { request, offer, ice: value(query, "ice-ufrag").zip(value(query, "ice-pwd")) }
}

fn wanted_by_json(body: &str, plays: bool, page_url: String) -> Result<Wanted, Fault> {
    let bad = |why: &str| Fault::new(StatusCode::BAD_REQUEST, 5019, "RtcApiJson", why);
    let body: Value = serde_json::from_str(body).map_err(|error| bad(&error.to_string()))?;
    let text = |name: &str| body[name].as_str().filter(|text| !text.is_empty());
    let (Some(offer), Some(url)) = (text("sdp"), text("streamurl")) else {
        return Err(bad("sdp and streamurl are needed"));
    };
    let target = target(url).ok_or_else(|| bad("streamurl names no stream"))?;
    let mut param = target.param.clone();
    if !plays {
        // As SRS has it, for hooks.
        param.push_str(if param.is_empty() { "?upstream=rtc" } else { "&upstream=rtc" });
    }
    let request = Arc::new(Request { param, page_url, client: client(plays), ..target.request(url) });
    Ok(Wanted { request, offer: offer.to_owned(), ice: None })
}

/// Of `webrtc://host[:port]/app/stream[?key=value]`: the stream is the last segment.
fn target(stream_url: &str) -> Option<url::Target> {
    let (path, query) = stream_url.split_once('?').unwrap_or((stream_url, ""));
    let (base, stream) = path.rsplit_once('/')?;
    let target = url::parse(base, &format!("{stream}?{query}"));
    (!target.stream.is_empty() && !target.host.is_empty()).then_some(target)
}

async fn make(
    control: &Control,
    wanted: Wanted,
    query: &str,
    host: &str,
    // Of its connection, and its own.
    [peer, ip]: [IpAddr; 2],
) -> Result<(Made, Wanted), Fault> {
    let config = control.config();
    let (request, plays) = (&wanted.request, wanted.plays());
    let disabled = |why: String| Fault::new(StatusCode::FORBIDDEN, 5021, "RtcDisabled", why);
    if !config.rtc_server.enabled {
        return Err(disabled("rtc_server is off".into()));
    }
    if control.process.course.closed.get() {
        return Err(Fault::new(StatusCode::SERVICE_UNAVAILABLE, 1074, "ConnectionsExceed", "the server is ending"));
    }
    let vhost = config
        .vhost(&request.vhost)
        .ok_or_else(|| Fault::new(StatusCode::NOT_FOUND, 2014, "NoVhost", format!("no vhost {}", request.vhost)))?;
    if !vhost.rtc.enabled {
        return Err(disabled(format!("vhost {} has rtc off", vhost.name)));
    }
    // Where its packets will arrive nobody knows yet: a shard with time for it is enough.
    if plays && control.board.are_all_full() {
        return Err(refusal::counted("rtc", Refusal::Full).into());
    }
    if request.app.is_empty() || request.stream.is_empty() {
        return Err(Fault::new(StatusCode::BAD_REQUEST, 2051, "StreamNameEmpty", "app and stream are needed"));
    }
    let deed = if plays { Deed::Play } else { Deed::Publish };
    for ip in [peer, ip] {
        if let Verdict::Refused(refusal) = access::judge(vhost, deed, ip, vhost.refer.of_http(&request.page_url)) {
            return Err(refusal.into());
        }
    }
    let key = seat::key(vhost, request);
    if plays {
        room_at_home(control, &key).await?;
    }
    let id = random_id();
    let client = Arc::new(hooks::Client::new(&id, ip, key.clone(), request.clone()));
    let (start, end) = deed.events();
    let sessions = &control.rtc;
    let Some(counted) = sessions.waiting.share(peer, WAITING) else {
        let why = "too many sessions wait for their peers, of this address too";
        return Err(Fault::new(StatusCode::SERVICE_UNAVAILABLE, 1074, "ConnectionsExceed", why));
    };
    let exposed: Vec<_> = ["eip", "candidate"].iter().filter_map(|name| value(query, name)).collect();
    let exposed: Vec<_> = exposed.iter().map(String::as_str).collect();
    let candidates = candidates::discover(&config.rtc_server, Asked { wanted: &exposed, host }).await;
    let settings = Settings { candidates, ice: wanted.ice.clone() };
    let now = Instant::now();
    let (mut session, answer) = if plays {
        let (player, answer) = Player::answer(now, &wanted.offer, &settings)?;
        (Session::Player(Box::new(player)), answer)
    } else {
        let (publisher, answer) = Publisher::answer(now, &wanted.offer, &settings)?;
        (Session::Publisher(Box::new(publisher)), answer)
    };
    if let Verdict::Refused(refusal) = control.consult(&Call { event: start, client: client.clone() }).await {
        return Err(refusal.into());
    }
    let told = control.herald.farewell(end, &client);
    let ufrag = session.ufrag();
    if sessions.by_ufrag.borrow().contains_key(&ufrag) {
        return Err(Fault::new(StatusCode::CONFLICT, 5035, "RtcUnique", "its ice-ufrag is in use"));
    }
    let number = if plays {
        Publication::number(control.shards(), control.verdicts.number())
    } else {
        publish(control, &key, &id, request.clone(), ip).await?
    };
    info!(
        cid = %id,
        "WebRTC offer of {peer} to {} {key} answered, candidates {:?}",
        if plays { "play" } else { "publish" },
        settings.candidates,
    );
    let token = format!("{}{}", random_id(), random_id());
    let prepared =
        Box::new(Prepared { number, id, ufrag: ufrag.clone(), key, request: request.clone(), session, told });
    sessions.add(prepared, token.clone(), now + vhost.rtc.stun_timeout, counted);
    Ok((Made { answer, ufrag, token }, wanted))
}

/// Asks the stream's home whether there is a place for it.
async fn room_at_home(control: &Control, key: &StreamKey) -> Result<(), Refusal> {
    let from = control.shards();
    let asked = control.verdicts.ask(VERDICT_TIME, |request| {
        control.mesh.post(key.home(from), Mail::Room { key: key.clone(), request, from });
    });
    match asked.await.unwrap_or_else(no_answer) {
        Verdict::Allowed => Ok(()),
        Verdict::Refused(why) => Err(refusal::counted("rtc", why)),
    }
}

/// Asks the stream's home; the publisher's number.
async fn publish(
    control: &Control,
    key: &StreamKey,
    id: &str,
    request: Arc<Request>,
    ip: IpAddr,
) -> Result<u64, Fault> {
    let mut number = 0;
    let asked = control.verdicts.ask(VERDICT_TIME, |session| {
        let publication =
            Publication { key: key.clone(), shard: control.shards(), session, id: id.to_owned(), ip, request };
        number = publication.publisher();
        control.mesh.post(key.home(control.shards()), Mail::Publish(Box::new(publication)));
    });
    let verdict = asked.await.unwrap_or_else(|| {
        // It may yet say yes, to nobody.
        control.unpublish(key, number);
        no_answer()
    });
    match verdict {
        Verdict::Allowed => Ok(number),
        Verdict::Refused(why) => Err(why.into()),
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let (status, code, name) = refusal::error(&refusal);
        Fault::new(status, code, name, refusal.to_string())
    }
}

fn created(made: &Made, wanted: &Wanted) -> Answer {
    let mut answer = with_type("application/sdp", made.answer.clone());
    *answer.status_mut() = StatusCode::CREATED;
    let location = format!(
        "/rtc/v1/whip/?action=delete&token={}&app={}&stream={}&session={}:{}",
        made.token,
        encode(&wanted.request.app),
        encode(&wanted.request.stream),
        made.ufrag,
        encode(remote_ufrag(&wanted.offer)),
    );
    if let Ok(location) = HeaderValue::from_str(&location) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer
}

fn delete(control: &Control, query: &str) -> Answer {
    let session = value(query, "session").unwrap_or_default();
    let token = value(query, "token").unwrap_or_default();
    let ufrag = session.split(':').next().unwrap_or_default();
    let number = control.rtc.by_ufrag.borrow().get(ufrag).copied();
    let Some(number) = number else {
        // It has ended before; who asks twice means well.
        return text(if token.is_empty() { StatusCode::BAD_REQUEST } else { StatusCode::OK }, "");
    };
    let known = control.rtc.by_number.borrow().get(&number).is_some_and(|place| place.token == token);
    if !known {
        return text(StatusCode::FORBIDDEN, "the token is not this session's\n");
    }
    control.hang_up(number);
    text(StatusCode::OK, "")
}

impl Sessions {
    fn add(&self, prepared: Box<Prepared>, token: String, until: Instant, counted: Counted) {
        let (number, ufrag) = (prepared.number, prepared.ufrag.clone());
        self.by_ufrag.borrow_mut().insert(ufrag.clone(), number);
        self.by_number
            .borrow_mut()
            .insert(number, Place { ufrag, token, at: At::Here { prepared, until, _counted: counted } });
    }

    fn remove(&self, number: u64) -> Option<Place> {
        let place = self.by_number.borrow_mut().remove(&number)?;
        self.by_ufrag.borrow_mut().remove(&place.ufrag);
        Some(place)
    }

    fn shard(&self, number: u64) -> Option<usize> {
        match self.by_number.borrow().get(&number)?.at {
            At::Shard(shard) => Some(shard),
            At::Here { .. } => None,
        }
    }
}

impl Control {
    /// A shard says that a request for this session came to it.
    pub(super) fn claim(&self, ufrag: &str, socket: usize, source: SocketAddr, bytes: Bytes, from: usize) {
        let number = self.rtc.by_ufrag.borrow().get(ufrag).copied();
        let Some(number) = number else { return };
        let mut places = self.rtc.by_number.borrow_mut();
        let Some(place) = places.get_mut(&number) else { return };
        match &place.at {
            At::Here { prepared, .. } => {
                if !prepared.session.accepts(Instant::now(), source, &bytes) {
                    return;
                }
                if let At::Here { prepared, .. } = std::mem::replace(&mut place.at, At::Shard(from)) {
                    self.mesh.post(from, Mail::Settle { prepared, socket, source, bytes });
                }
            }
            At::Shard(shard) if *shard != from => {
                self.mesh.post(*shard, Mail::Datagram { socket, source, bytes, via: from });
            }
            At::Shard(_) => {}
        }
    }

    /// A session is over.
    pub(super) fn left(&self, number: u64) {
        self.rtc.remove(number);
    }

    /// A WebRTC publisher is to send a keyframe.
    pub(super) fn ask_keyframe(&self, number: u64) {
        if let Some(shard) = self.rtc.shard(number) {
            self.mesh.post(shard, Mail::Keyframe { number });
        }
    }

    fn hang_up(&self, number: u64) {
        match self.rtc.shard(number) {
            Some(shard) => self.mesh.post(shard, Mail::HangUp { number }),
            None => {
                if let Some(place) = self.rtc.remove(number) {
                    self.give_up(place, "its client has left before it came");
                }
            }
        }
    }

    /// Once a second: sessions whose peers never came.
    pub fn sweep_rtc(&self, now: Instant) {
        let late: Vec<u64> = {
            let places = self.rtc.by_number.borrow();
            let is_late = |place: &Place| matches!(place.at, At::Here { until, .. } if until <= now);
            places.iter().filter(|(_, place)| is_late(place)).map(|(number, _)| *number).collect()
        };
        for number in late {
            if let Some(place) = self.rtc.remove(number) {
                self.give_up(place, "no packet of its peer came");
            }
        }
    }

    fn give_up(&self, place: Place, why: &str) {
        let At::Here { prepared, .. } = place.at else { return };
        warn!(cid = %prepared.id, "WebRTC session for {} is dropped: {why}", prepared.key);
        if matches!(prepared.session, Session::Publisher(_)) {
            self.unpublish(&prepared.key, prepared.number);
        }
    }

    fn unpublish(&self, key: &StreamKey, publisher: u64) {
        self.mesh.post(key.home(self.shards()), Mail::Unpublish { key: key.clone(), publisher });
    }
}

/// All but letters, digits and a few marks as %XX.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'+' | b'/' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

fn remote_ufrag(offer: &str) -> &str {
    offer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap_or("").trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_urls_name_app_and_stream() {
        let found = |url| target(url).map(|t| format!("{} {} {} {}", t.vhost, t.app, t.stream, t.param));
        assert_eq!(found("webrtc://h.io:1985/live/a?k=v").as_deref(), Some("h.io live a ?k=v"));
        assert_eq!(found("webrtc://h.io/x/y/a?vhost=v.io").as_deref(), Some("v.io x/y a ?vhost=v.io"));
        assert_eq!(found("webrtc://h.io/live/"), None);
        assert_eq!(found("nonsense"), None);
    }

    #[test]
    fn values_of_a_location_are_encoded() {
        assert_eq!(encode("a b&c/d+e"), "a%20b%26c/d+e");
    }
}
