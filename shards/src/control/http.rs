//! HTTP on the control shard: one hyper connection, and which request goes where.

use super::{CORS, Control, api, hls, io::Io, pages, rtc};
use bytes::Bytes;
use futures_lite::FutureExt;
use glommio::{net::TcpStream, timer::sleep};
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use std::{
    cell::Cell,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};
use tracing::debug;

pub type Answer = Response<Full<Bytes>>;

/// A connection on which nothing moves for so long is closed.
const IDLE: Duration = Duration::from_secs(15);

pub async fn serve(control: Rc<Control>, stream: TcpStream, peer: SocketAddr, read: Bytes) {
    let active = Rc::new(Cell::new(Instant::now()));
    let handed_over = !read.is_empty();
    let io = Io::new(stream, read, active.clone());
    let service = service_fn(|request| {
        let control = control.clone();
        async move { Ok::<_, Infallible>(answer(&control, request, peer).await) }
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

async fn answer(control: &Control, request: Request<Incoming>, peer: SocketAddr) -> Answer {
    let crossdomain = control.common.config.http_server.crossdomain;
    let with_cors = crossdomain && request.headers().contains_key(header::ORIGIN);
    let head = request.method() == Method::HEAD;
    let path = request.uri().path().to_owned();
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let asker = Asker { host: header(header::HOST), page: header(header::REFERER), ip: peer.ip() };
    let not_found = || text(StatusCode::NOT_FOUND, "Not Found");
    let mut answer = match *request.method() {
        Method::OPTIONS if crossdomain => Response::new(Full::default()),
        _ if path.starts_with("/rtc/v1/") => rtc::answer(control, request, peer).await.unwrap_or_else(not_found),
        Method::GET | Method::HEAD => {
            route(control, &path, request.uri().query().unwrap_or(""), asker).await.unwrap_or_else(not_found)
        }
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
    };
    let headers = answer.headers_mut();
    if with_cors {
        allow_origins(headers);
    }
    headers.insert(header::SERVER, HeaderValue::from_static(crate::SERVER));
    if head {
        // hyper keeps Content-Length of the body that a GET would have, and sends no body.
        let length = hyper::body::Body::size_hint(answer.body()).exact().unwrap_or(0);
        answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    answer
}

/// What a request says of who sends it.
#[derive(Clone, Copy)]
pub struct Asker<'r> {
    /// By which it reached the server.
    pub host: &'r str,
    pub page: &'r str,
    pub ip: IpAddr,
}

async fn route(control: &Control, path: &str, query: &str, asker: Asker<'_>) -> Option<Answer> {
    match path {
        _ if path.starts_with("/api/") && path != "/api/v1/versions" && !control.common.config.http_api.enabled => None,
        "/api/v1/versions" => Some(json(&api::versions(control))),
        "/api/v1/streams" => Some(redirect("/api/v1/streams/", query)),
        "/config.json" => Some(json(&api::page_config(control))),
        "/metrics" => Some(api::metrics(control).await),
        _ => match path.strip_prefix("/api/v1/streams/") {
            Some(id) => Some(json(&api::streams(control, id, query).await)),
            None => match hls::answer(control, path, query, asker).await {
                Some(answer) => Some(answer),
                None => pages::page(&control.common.config.http_server, path).await,
            },
        },
    }
}

pub fn json(value: &serde_json::Value) -> Answer {
    with_type("application/json", value.to_string().into())
}

pub fn with_type(content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

pub fn text(status: StatusCode, words: &'static str) -> Answer {
    let mut answer = with_type("text/plain; charset=utf-8", Bytes::from_static(words.as_bytes()));
    *answer.status_mut() = status;
    answer
}

fn redirect(to: &str, query: &str) -> Answer {
    let location = if query.is_empty() { to.to_owned() } else { format!("{to}?{query}") };
    let mut answer = text(StatusCode::FOUND, "Redirect");
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
