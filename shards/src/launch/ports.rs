//! Listening sockets: bound before any shard runs, so that a port that is taken stops the start, and bound or closed
//! when the configuration changes.

use super::Failure;
use crate::{
    config::{Config, Listen, Tls},
    ingress::accept::{Door, Service},
    net::{datagram, doors::Endpoint, listener, port},
};
use std::{
    io,
    net::{TcpListener, UdpSocket},
    thread,
    time::{Duration, Instant},
};

/// How long the kernel may hold a port of a server that has ended.
const LETTING_GO: Duration = Duration::from_secs(2);

pub struct Ports {
    /// By shard.
    pub media: Vec<MediaPorts>,
    pub api: Vec<(Endpoint, TcpListener)>,
    /// For the log.
    pub words: String,
}

/// What one shard listens on.
pub struct MediaPorts {
    pub tcp: Vec<(Door, TcpListener)>,
    pub srt: Vec<UdpSocket>,
    pub rtc: Vec<UdpSocket>,
}

impl Ports {
    pub fn bind(config: &Config, shards: usize) -> Result<Self, Failure> {
        let (doors, api) = (doors(config), api(config));
        for endpoint in doors.iter().map(|door| door.endpoint).chain(api.iter().copied()) {
            free(|| Ok(port::probe(endpoint.listen.addr())?))?;
        }
        let of = |enabled, listen: &Vec<Listen>| if enabled { listen.clone() } else { Vec::new() };
        let srt = of(config.srt_server.enabled, &config.srt_server.listen);
        let rtc = of(config.rtc_server.enabled, &config.rtc_server.listen);
        // Sharing would hide another server on the port: asked first without, all at once.
        free(|| datagrams(&[&srt[..], &rtc].concat(), false).map(drop))?;
        let media = media(&doors, &srt, &rtc, shards)?;
        let words = |service: Service| {
            let ports = doors.iter().filter(|door| door.service == service).map(|door| door.endpoint.to_string());
            ports.collect::<Vec<_>>().join(" ")
        };
        let api_words = api.iter().map(Endpoint::to_string).collect::<Vec<_>>().join(" ");
        let udp_words = |name, listens: &[Listen]| {
            let ports: String = listens.iter().map(|listen| format!(" {listen}/udp")).collect();
            if ports.is_empty() { ports } else { format!(", {name} on{ports}") }
        };
        Ok(Self {
            media,
            words: format!(
                "RTMP on {}, HTTP on {}{}{}, API on {api_words}",
                words(Service::Rtmp),
                words(Service::Http),
                udp_words("SRT", &srt),
                udp_words("WebRTC", &rtc),
            ),
            api: bound(api)?,
        })
    }
}

/// What `new` has and `old` has not, bound: for each of `shards`, and for the API. None is, where one cannot be.
pub fn opened(old: &Config, new: &Config, shards: usize) -> Result<Ports, Failure> {
    let (had, had_api) = (doors(old), api(old));
    let doors: Vec<_> = doors(new).into_iter().filter(|door| !had.contains(door)).collect();
    let api: Vec<_> = api(new).into_iter().filter(|api| !had_api.contains(api)).collect();
    for endpoint in doors.iter().map(|door| door.endpoint).chain(api.iter().copied()) {
        port::probe(endpoint.listen.addr())?;
    }
    let media = media(&doors, &[], &[], shards)?;
    let words = doors.iter().map(|door| format!("{:?} on {}", door.service, door.endpoint));
    let words = words.chain(api.iter().map(|api| format!("API on {api}"))).collect::<Vec<_>>().join(", ");
    Ok(Ports { media, api: bound(api)?, words })
}

/// By shard.
fn media(doors: &[Door], srt: &[Listen], rtc: &[Listen], shards: usize) -> Result<Vec<MediaPorts>, Failure> {
    let of_one = |_| {
        let tcp = doors.iter().map(|door| Ok((*door, bind(door.endpoint, true)?))).collect::<Result<_, Failure>>()?;
        Ok(MediaPorts { tcp, srt: datagrams(srt, true)?, rtc: datagrams(rtc, true)? })
    };
    (0..shards).map(of_one).collect()
}

fn bound(api: Vec<Endpoint>) -> Result<Vec<(Endpoint, TcpListener)>, Failure> {
    api.into_iter().map(|api| Ok((api, bind(api, false)?))).collect()
}

/// What every media shard listens on, over TCP.
pub fn doors(config: &Config) -> Vec<Door> {
    let server = &config.http_server;
    let of = |service| move |endpoint| Door { endpoint, service };
    let rtmp = endpoints(true, &config.rtmp_listen, &config.rtmps).map(of(Service::Rtmp));
    rtmp.chain(endpoints(server.enabled, &server.listen, &server.https).map(of(Service::Http))).collect()
}

/// What the control shard listens on, the exporter too. Where the API shares the HTTP server's port, that serves it.
pub fn api(config: &Config) -> Vec<Endpoint> {
    let (doors, api) = (doors(config), &config.http_api);
    let exporter = config.exporter.listen.iter().filter(|_| config.exporter.enabled);
    let exporter = exporter.map(|listen| Endpoint { listen: *listen, tls: false });
    let mut found = Vec::new();
    for endpoint in endpoints(api.enabled, &api.listen, &api.https).chain(exporter) {
        if !found.contains(&endpoint) && !doors.iter().any(|door| door.endpoint == endpoint) {
            found.push(endpoint);
        }
    }
    found
}

fn endpoints<'c>(enabled: bool, plain: &'c [Listen], secure: &'c Tls) -> impl Iterator<Item = Endpoint> + 'c {
    let of = |tls| move |listen: &Listen| Endpoint { listen: *listen, tls };
    let plain = plain.iter().filter(move |_| enabled).map(of(false));
    plain.chain(secure.listen.iter().filter(|_| secure.enabled).map(of(true)))
}

fn bind(endpoint: Endpoint, shared: bool) -> Result<TcpListener, Failure> {
    let address = endpoint.listen.addr();
    listener::listener(address, shared).map_err(|error| Failure::Listen { address, error })
}

/// A socket for each address.
fn datagrams(wanted: &[Listen], shared: bool) -> Result<Vec<UdpSocket>, Failure> {
    let bind = |listen: &Listen| {
        let address = listen.addr();
        datagram::bind(address, shared).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                let holder = port::holder(address, &port::UDP);
                port::Unavailable::Taken(port::PortTaken { addr: address, holder }).into()
            }
            _ => Failure::Listen { address, error },
        })
    };
    wanted.iter().map(bind).collect()
}

/// Refuses a port that is taken. One that nobody seems to hold may be a server's that has just ended: the
/// kernel lets go of the sockets in its rings a little later.
fn free(probe: impl Fn() -> Result<(), Failure>) -> Result<(), Failure> {
    let deadline = Instant::now() + LETTING_GO;
    loop {
        match probe() {
            Err(Failure::Port(port::Unavailable::Taken(taken)))
                if taken.holder.is_none() && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(20));
            }
            probed => return probed,
        }
    }
}
