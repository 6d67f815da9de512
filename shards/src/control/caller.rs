//! Requests of our own over HTTP and HTTPS, for hooks and the heartbeat.

use super::io::Io;
use crate::{
    ingress::candidates::resolve,
    net::{tls::Stream, trust},
};
use bytes::Bytes;
use futures_lite::FutureExt;
use glommio::{Task, net::TcpStream, spawn_local, timer::sleep};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode, Uri,
    client::conn::http1::{self, SendRequest},
    header,
};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::debug;

/// How long the addresses of a name, and the certificates that are trusted, are good for.
const FRESH: Duration = Duration::from_secs(30);
/// A connection that is kept waits so long for its next request,
const IDLE: Duration = Duration::from_secs(10);
/// and so many to one place do.
const KEPT: usize = 16;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Url(&'static str),
    #[error("its host has no address")]
    Nameless,
    #[error("connect: {0}")]
    Connect(io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("no {what} within {} s", .within.as_secs())]
    Late { what: &'static str, within: Duration },
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

/// What is asked of whom.
pub struct Call<'c> {
    pub method: Method,
    pub url: &'c str,
    pub body: String,
    /// Names and values beside those that every request has.
    pub headers: Vec<(&'static str, String)>,
    /// To connect, and from there to the end of the answer.
    pub within: Duration,
    /// Of the answer's body nothing is read once more than so many bytes are there.
    pub most: usize,
    /// A receiver over TLS must have a certificate that is trusted.
    pub verify: bool,
    /// The connection is kept for the next call.
    pub keep: bool,
}

#[derive(Default)]
pub struct Caller {
    addresses: RefCell<HashMap<String, (Instant, IpAddr)>>,
    trust: RefCell<Option<(Instant, Arc<ClientConfig>)>>,
    /// Oldest first.
    idle: RefCell<HashMap<Place, Vec<(Instant, Line)>>>,
}

/// Where a connection goes.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    host: String,
    port: u16,
    tls: bool,
    verify: bool,
}

/// A connection, whose bytes move as long as it is there.
struct Line {
    sender: SendRequest<Full<Bytes>>,
    _driver: Task<()>,
}

impl Caller {
    pub async fn call(&self, call: Call<'_>) -> Result<(StatusCode, Vec<u8>), Fault> {
        let url: Uri = call.url.parse().map_err(|_| Fault::Url("it is no URL"))?;
        let (tls, usual) = match url.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(Fault::Url("only http and https are called")),
        };
        let host = url.host().ok_or(Fault::Url("it has no host"))?.to_owned();
        let port = url.port_u16().unwrap_or(usual);
        let with_port = if port == usual { host.clone() } else { format!("{host}:{port}") };
        let mut request = Request::builder()
            .method(call.method)
            .uri(url.path_and_query().map_or("/", |path| path.as_str()))
            .header(header::HOST, with_port)
            .header(header::CONNECTION, "Keep-Alive")
            .header(header::USER_AGENT, crate::SERVER)
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let mut request =
            request.body(Full::new(Bytes::from(call.body))).map_err(|_| Fault::Url("it makes no request"))?;
        let place = Place { host, port, tls, verify: call.verify };
        loop {
            let kept = self.kept(&place).filter(|_| call.keep);
            let is_fresh = kept.is_none();
            let mut line = match kept {
                Some(line) => line,
                None => self.connect(&place).or(late("connection", call.within)).await?,
            };
            let ask = async {
                let answer = match line.sender.try_send_request(request).await {
                    Ok(answer) => answer,
                    // The other end closed a kept connection meanwhile: nothing has been said on it.
                    Err(mut error) => match error.take_message().filter(|_| !is_fresh) {
                        Some(unsent) => return Ok(Err(unsent)),
                        None => return Err(error.into_error().into()),
                    },
                };
                let (head, mut body) = answer.into_parts();
                let mut bytes = Vec::new();
                while bytes.len() <= call.most
                    && let Some(frame) = body.frame().await
                {
                    bytes.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
                }
                Ok(Ok((head.status, bytes)))
            };
            match ask.or(late("answer", call.within)).await? {
                Ok(answer) => {
                    if call.keep && answer.1.len() <= call.most {
                        self.keep(place, line);
                    }
                    return Ok(answer);
                }
                Err(unsent) => request = unsent,
            }
        }
    }

    /// The connection that was used last, of those that are still good.
    fn kept(&self, place: &Place) -> Option<Line> {
        let mut idle = self.idle.borrow_mut();
        let lines = idle.get_mut(place)?;
        lines.retain(|(since, line)| since.elapsed() < IDLE && !line.sender.is_closed());
        let line = lines.pop();
        if lines.is_empty() {
            idle.remove(place);
        }
        line.map(|(_, line)| line)
    }

    fn keep(&self, place: Place, line: Line) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|_, lines| {
            lines.retain(|(since, line)| since.elapsed() < IDLE && !line.sender.is_closed());
            !lines.is_empty()
        });
        let lines = idle.entry(place).or_default();
        if lines.len() < KEPT {
            lines.push((Instant::now(), line));
        }
    }

    async fn connect(&self, place: &Place) -> Result<Line, Fault> {
        let address = self.address(&place.host).await?;
        let connected = TcpStream::connect(SocketAddr::new(address, place.port)).await;
        let tcp = connected.map_err(|error| Fault::Connect(error.into()))?;
        let stream = if place.tls {
            let name = ServerName::try_from(bare(&place.host).to_owned()).map_err(|_| Fault::Nameless)?;
            let config = self.trust(place.verify).await.map_err(Fault::Tls)?;
            let mut stream = Stream::client(tcp, config, name).map_err(Fault::Tls)?;
            stream.handshake().await.map_err(Fault::Tls)?;
            stream
        } else {
            Stream::new(tcp, None)
        };
        let io = Io::new(stream, Bytes::new(), Rc::new(Cell::new(Instant::now())));
        let (sender, connection) = http1::handshake(io).await?;
        let host = place.host.clone();
        // What becomes of it shows in the answer.
        let _driver = spawn_local(async move {
            if let Err(error) = connection.await {
                debug!("call of {host}: {error}");
            }
        });
        Ok(Line { sender, _driver })
    }

    /// The system's certificates are read on another thread, from time to time.
    async fn trust(&self, verify: bool) -> io::Result<Arc<ClientConfig>> {
        if !verify {
            return trust::anybody();
        }
        let known = self.trust.borrow().as_ref().filter(|(since, _)| since.elapsed() < FRESH).cloned();
        if let Some((_, config)) = known {
            return Ok(config);
        }
        let config = glommio::executor().spawn_blocking(trust::of_system).await?;
        *self.trust.borrow_mut() = Some((Instant::now(), config.clone()));
        Ok(config)
    }

    async fn address(&self, host: &str) -> Result<IpAddr, Fault> {
        if let Ok(address) = bare(host).parse() {
            return Ok(address);
        }
        let known = self.addresses.borrow().get(host).filter(|(since, _)| since.elapsed() < FRESH).copied();
        if let Some((_, address)) = known {
            return Ok(address);
        }
        let found = resolve(host).await;
        let address = *found.iter().find(|ip| ip.is_ipv4()).or(found.first()).ok_or(Fault::Nameless)?;
        self.addresses.borrow_mut().insert(host.to_owned(), (Instant::now(), address));
        Ok(address)
    }
}

/// An address of IPv6 without its brackets.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

async fn late<T>(what: &'static str, within: Duration) -> Result<T, Fault> {
    sleep(within).await;
    Err(Fault::Late { what, within })
}
