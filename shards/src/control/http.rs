//! HTTP on the control shard: one hyper connection, and which request goes where.

use super::{
    CORS, Control,
    api::{self, Asked},
    auth,
    body::Body,
    hls,
    io::Io,
    pages, rtc,
};
use crate::{
    access,
    ingress::http::host_name,
    net::tls::{self, Stream},
    query::{climbs, value},
    refusal,
};
use bytes::Bytes;
use futures_lite::FutureExt;
use glommio::timer::sleep;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use shardcast_protocols::session::Refusal;
use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};
use tracing::{debug, info};

pub type Answer = Response<Body>;

/// To who asks for a path that leads upwards, as SRS calls it.
pub const BAD_PATH: &str = "4002: HttpUrlNotClean: the path has .. in it\n";

/// A connection on which nothing moves for so long is closed.
const IDLE: Duration = Duration::from_secs(15);

pub async fn serve(control: Rc<Control>, mut stream: Stream, peer: SocketAddr, read: Bytes) {
    // One that a shard handed over has had its own.
    if stream.is_tls() && read.is_empty() {
        let late = async {
            sleep(IDLE).await;
            Err(std::io::ErrorKind::TimedOut.into())
        };
        let agreed = stream.handshake().or(late).await;
        tls::count_handshake(if agreed.is_ok() { "ok" } else { "failed" });
        if let Err(error) = agreed {
            return info!("API connection of {peer} ended: TLS handshake: {error}");
        }
    }
    let active = Rc::new(Cell::new(Instant::now()));
    let handed_over = !read.is_empty();
    let io = Io::new(stream, read, active.clone());
    let service = service_fn(|request| {
        let control = control.clone();
        async move { answer(&control, request, peer, !handed_over).await }
    });
    // One that a shard handed over must not come back here with a request for a stream: it ends.
    let connection =
        http1::Builder::new().keep_alive(!handed_over).max_buf_size(64 << 10).serve_connection(io, service);
    let idle = async {
        while active.get().elapsed() < IDLE {
            sleep(IDLE / 5).await;
        }
        Ok(())
    };
    if let Err(error) = connection.or(idle).await {
        debug!("HTTP of {peer}: {error}");
    }
}

async fn answer(
    control: &Control,
    request: Request<Incoming>,
    peer: SocketAddr,
    own_port: bool,
) -> Result<Answer, BadCallback> {
    let config = control.config();
    let crossdomain = config.http_server.crossdomain;
    let with_cors = crossdomain && request.headers().contains_key(header::ORIGIN);
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or("").to_owned();
    let callback = callback(&query)?;
    let method = match value(&query, "method").filter(|_| callback.is_some()) {
        Some(method) => Method::from_bytes(method.as_bytes()).unwrap_or_default(),
        None => request.method().clone(),
    };
    if climbs(&path) {
        let mut answer = text(StatusCode::BAD_REQUEST, BAD_PATH);
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return Ok(answer);
    }
    let auth = config.http_api.auth.as_ref().filter(|auth| auth::is_guarded(auth, &path));
    let mut answer = match auth.map(|auth| (auth, auth::check(auth, request.headers()))) {
        _ if request.method() == Method::OPTIONS && crossdomain => Response::new(Body::default()),
        Some((auth, Err(denied))) => {
            metrics::counter!("shardcast_api_denied_total").increment(1);
            info!("API request of {peer} for {path} refused: {denied}");
            unauthorized(auth::challenge(auth, denied))
        }
        _ => route(control, request, &method, &query, peer, own_port).await,
    };
    if let Some(name) = callback.filter(|_| answer.headers().get(header::CONTENT_TYPE) == Some(&JSON)) {
        answer = wrapped(name, answer);
    }
    let headers = answer.headers_mut();
    if with_cors {
        allow_origins(headers);
    }
    if path.starts_with("/api/") {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Close"));
    }
    headers.insert(header::SERVER, HeaderValue::from_static(crate::SERVER));
    if method == Method::HEAD {
        // hyper keeps Content-Length of the body that a GET would have, and sends no body.
        let length = hyper::body::Body::size_hint(answer.body()).exact().unwrap_or(0);
        answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    Ok(answer)
}

async fn route(
    control: &Control,
    request: Request<Incoming>,
    method: &Method,
    query: &str,
    peer: SocketAddr,
    own_port: bool,
) -> Answer {
    let config = control.config();
    let path = request.uri().path().to_owned();
    if let Some(name) = rtc::name(&path) {
        return rtc::answer(control, name, request, peer).await;
    }
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (host, page, ip) = (header(header::HOST), header(header::REFERER), peer.ip());
    let told = access::forwarded(|name| request.headers().get(name)?.to_str().ok());
    let asked = Asked { method, path: &path, query, host, page, ip, told, own_port };
    if path.starts_with("/api/") && path != "/api/v1/versions" && !config.http_api.enabled {
        return not_found();
    }
    if let Some(answer) = static_of_api(control, &asked, request.headers()).await {
        return answer;
    }
    if let Some(answer) = api::route(control, &asked).await {
        return answer;
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return not_allowed("GET, HEAD");
    }
    match hls::answer(control, &asked).await {
        Some(answer) => answer,
        None => pages::page(&config, host_name(host), &path, query, request.headers()).await.unwrap_or_else(not_found),
    }
}

/// The operator's console is there on the API's own port too.
async fn static_of_api(control: &Control, asked: &Asked<'_>, headers: &HeaderMap) -> Option<Answer> {
    if !asked.own_port || !asked.path.starts_with("/console/") {
        return None;
    }
    let page = pages::page(&control.config(), host_name(asked.host), asked.path, asked.query, headers).await;
    Some(page.unwrap_or_else(not_found))
}

fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "Not Found")
}

/// A `callback` with other characters than SRS takes: the connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("its JSONP callback is no name")]
struct BadCallback;

/// The function that a JSONP client wants the answer given to.
fn callback(query: &str) -> Result<Option<String>, BadCallback> {
    let Some(name) = value(query, "callback") else { return Ok(None) };
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if plain { Ok(Some(name)) } else { Err(BadCallback) }
}

fn wrapped(callback: String, answer: Answer) -> Answer {
    let (mut parts, body) = answer.into_parts();
    let json = match body {
        Body::Whole(whole) => whole.into_inner().unwrap_or_default(),
        other => return Response::from_parts(parts, other),
    };
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/javascript"));
    Response::from_parts(parts, [callback.as_bytes(), b"(", &json, b")"].concat().into())
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// SRS prints numbers that are no integers with two decimals.
struct TwoDecimals;

impl Formatter for TwoDecimals {
    fn write_f64<W: ?Sized + io::Write>(&mut self, to: &mut W, value: f64) -> io::Result<()> {
        write!(to, "{value:.2}")
    }
}

pub fn json(value: &impl Serialize) -> Answer {
    with_type("application/json", as_srs(value))
}

/// JSON as SRS writes it.
pub fn as_srs(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    // Writing to memory does not fail, and JSON is UTF-8.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut bytes, TwoDecimals));
    String::from_utf8(bytes).unwrap_or_default()
}

fn unauthorized(challenge: Option<HeaderValue>) -> Answer {
    let mut answer = Response::new(Body::default());
    *answer.status_mut() = StatusCode::UNAUTHORIZED;
    if let Some(challenge) = challenge {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    answer
}

/// `allow` are the methods that it takes (RFC 9110 §15.5.6).
pub fn not_allowed(allow: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    answer
}

pub fn with_type(content_type: &'static str, body: impl Into<Body>) -> Answer {
    let mut answer = Response::new(body.into());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

pub fn text(status: StatusCode, words: impl Into<Body>) -> Answer {
    let mut answer = with_type("text/plain; charset=utf-8", words);
    *answer.status_mut() = status;
    answer
}

/// To one who may not play.
pub fn refused(why: &Refusal) -> Answer {
    let (status, words) = refusal::words(why);
    let mut answer = text(status, words);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(refusal::RETRY_AFTER));
    }
    answer
}

/// As Go's mux, and SRS's.
pub fn redirect(status: StatusCode, to: &str, query: &str) -> Answer {
    let location = if query.is_empty() { to.to_owned() } else { format!("{to}?{query}") };
    let mut answer = with_type("text/plain; charset=utf-8", format!("Redirect to {location}"));
    *answer.status_mut() = status;
    if let Ok(location) = HeaderValue::from_str(&location) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer
}

fn allow_origins(headers: &mut HeaderMap) {
    for (name, value) in CORS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_no_integers_have_two_decimals() {
        let value = serde_json::json!({ "duration": 2.0, "share": 0.123456, "count": 3 });
        assert_eq!(as_srs(&value), r#"{"duration":2.00,"share":0.12,"count":3}"#);
    }
}
