//! From a configuration to running shards, and back to nothing at the end.

use super::{
    Shortfall,
    executor::{executor, warm_up},
    probe,
};
use crate::{
    config::{Config, Listen, Tls},
    control::Control,
    fanout::hand,
    files,
    ingress::{
        accept::{self, Port, Service},
        rtc, srt,
    },
    log,
    mesh::{self, Ends, Mesh},
    net::{
        certificates::{CertificateError, Certificates},
        datagram, listener, port, sys,
    },
    shard::{Common, Shard},
};
use glommio::{channels::local_channel, spawn_local, timer::sleep};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rustls::ServerConfig;
use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    rc::Rc,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tracing::{debug, error, info, warn};

/// How long the shards have to close their connections.
const PARTING: Duration = Duration::from_millis(300);
/// How long the disk has to take the recordings.
const WRITING: Duration = Duration::from_secs(3);

/// Directives on which an operator relies to keep people out.
const GUARDS: [&str; 5] = [
    "http_api.auth.enabled",
    "vhost.security.enabled",
    "vhost.refer.enabled",
    "vhost.http_hooks.enabled",
    "vhost.hls.hls_keys",
];
/// How often the control shard looks for WebRTC peers that never came.
const SWEEP: Duration = Duration::from_secs(1);
/// What HTTPS ports speak, in ALPN.
const HTTP: &[&str] = &["http/1.1"];
/// How often it looks whether certificates have changed.
const RENEWAL: Duration = Duration::from_secs(2);
const LETTING_GO: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Limits(#[from] Shortfall),
    #[error("{0}")]
    Port(#[from] port::Unavailable),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("listen on {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("start executor {name}: {error}")]
    Executor { name: String, error: String },
    #[error("a shard ended badly: {0}")]
    Shard(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What to run.
pub struct Options {
    pub config: Config,
    /// A session that publishes a stream of this name panics at its first frame: for tests of what that
    /// does to others. Neither configuration nor command line can set it.
    pub fault: Option<String>,
    /// Set, the server ends.
    pub quit: Arc<AtomicBool>,
}

/// Runs the server until it is told to end.
pub fn run(options: Options) -> Result<(), Failure> {
    let started = Instant::now();
    let config = Arc::new(options.config);
    let limits = probe::check(config.shards, config.max_connections)?;
    for note in &limits.notes {
        warn!("{note}");
    }
    if !config.accepted.is_empty() {
        info!("accepted, not supported yet: {}", config.accepted.join(", "));
    }
    let unguarded: Vec<_> = config.accepted.iter().filter(|name| GUARDS.contains(&name.as_str())).cloned().collect();
    if !unguarded.is_empty() {
        warn!("NOT ENFORCED by this version, what they guard is open: {}", unguarded.join(", "));
    }
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let ports = Ports::bind(&config, limits.shards)?;
    let metrics = install_metrics();
    let wants_files =
        config.vhosts.iter().any(|vhost| vhost.enabled && vhost.hls.enabled && vhost.hls.folder.is_some());
    let files = if wants_files { Some(files::Writer::start()?) } else { None };
    let common = Common {
        files: files.as_ref().map(|(writer, _)| writer.clone()),
        config: config.clone(),
        connections_open: Arc::new(AtomicUsize::new(0)),
        connections_max: config.max_connections.unwrap_or(limits.max_connections),
        fault: options.fault,
    };

    warm_up().map_err(|error| Failure::Executor { name: "warm-up".into(), error: error.to_string() })?;
    let mut ends = mesh::ends(limits.shards + 1);
    let control_ends = ends.pop();
    let mut handles = Vec::new();
    for ((index, ends), ports) in ends.into_iter().enumerate().zip(ports.media) {
        let (common, quit) = (common.clone(), options.quit.clone());
        let name = format!("shard-{index}");
        let builder = executor(&name, Some(limits.cpus[index]), limits.ring_depth);
        let handle = builder
            .spawn(move || media(index, common, ends, ports, quit))
            .map_err(|error| Failure::Executor { name, error: error.to_string() })?;
        handles.push(handle);
    }
    let rtmp_port = config.rtmp_listen.first().map_or(1935, |listen| listen.port);
    let (api, certificates) = (ports.api, ports.certificates);
    let (quit, control_common) = (options.quit, common);
    let index = limits.shards;
    let ready = format!(
        "{} is ready after {} ms: {} shards on CPUs {:?}, ring depth {}, at most {} connections; {}",
        crate::SERVER,
        started.elapsed().as_millis(),
        limits.shards,
        limits.cpus,
        limits.ring_depth,
        control_common.connections_max,
        ports.words,
    );
    let control = executor("control", None, limits.ring_depth)
        .spawn(move || control(index, control_common, control_ends, api, certificates, metrics, rtmp_port, quit, ready))
        .map_err(|error| Failure::Executor { name: "control".into(), error: error.to_string() })?;
    handles.push(control);
    let mut ended = Ok(());
    for handle in handles {
        if let Err(error) = handle.join() {
            ended = Err(Failure::Shard(error.to_string()));
        }
    }
    // All who hand files to it have ended; what they handed is written.
    if let Some((writer, thread)) = files {
        writer.end();
        thread.join().map_err(|_| Failure::Shard("the writer of files panicked".into()))?;
    }
    info!("{} has ended", crate::SERVER);
    ended
}

/// Ends the server at SIGINT or SIGTERM, reopens the log at SIGUSR1.
pub fn heed_signals(signals: sys::Signals, quit: Arc<AtomicBool>, log: Weak<log::Handle>) -> io::Result<()> {
    thread::Builder::new().name("signals".into()).spawn(move || {
        while let Ok(signal) = signals.wait() {
            match signal {
                sys::Signal::ReopenLog => {
                    if let Some(log) = log.upgrade()
                        && let Err(error) = log.reopen()
                    {
                        error!("reopen the log: {error}");
                    }
                }
                sys::Signal::Reload => info!("SIGHUP: reload is not supported yet"),
                sys::Signal::Stop => {
                    info!("{signal:?}: ending");
                    quit.store(true, Ordering::Relaxed);
                }
            }
        }
    })?;
    Ok(())
}

/// One media shard, until it is told to quit.
async fn media(index: usize, common: Common, ends: Ends, ports: MediaPorts, quit: Arc<AtomicBool>) {
    // A shard that is gone takes its streams along: better the whole server ends, and is started again.
    let _alarm = Alarm(quit);
    let (mesh, inboxes) = Mesh::connect(index, ends).await;
    debug!("shard {index} is connected to {} peers", inboxes.len());
    let shard = Shard::new(common, mesh);
    let (sender, quit) = local_channel::new_bounded(1);
    shard.on_quit(sender);
    for inbox in inboxes {
        let shard = shard.clone();
        spawn_local(async move {
            while let Some(mail) = inbox.recv().await {
                shard.handle(mail);
            }
        })
        .detach();
    }
    spawn_local(hand::run(shard.clone())).detach();
    spawn_local(hand::sweep(shard.clone())).detach();
    for port in ports.tcp {
        spawn_local(accept::run(shard.clone(), port)).detach();
    }
    for socket in ports.srt {
        spawn_local(srt::run(shard.clone(), socket)).detach();
    }
    for socket in ports.rtc {
        spawn_local(rtc::run(shard.clone(), socket)).detach();
    }
    quit.recv().await;
    // The sessions notice, say what they have to and go.
    sleep(PARTING).await;
    shard.finish_recordings(WRITING).await;
}

#[allow(clippy::too_many_arguments)] // what the control shard is made of, moved to its thread once
async fn control(
    index: usize,
    common: Common,
    ends: Option<Ends>,
    api: Vec<(TcpListener, Option<Arc<ServerConfig>>)>,
    certificates: Vec<Arc<Certificates>>,
    metrics: PrometheusHandle,
    rtmp_port: u16,
    quit: Arc<AtomicBool>,
    ready: String,
) {
    let Some(ends) = ends else { return };
    let (mesh, inboxes) = Mesh::connect(index, ends).await;
    let control: Rc<Control> = Control::new(common, mesh, metrics, rtmp_port);
    for inbox in inboxes {
        spawn_local(control.clone().receive(inbox)).detach();
    }
    for (listener, tls) in api {
        spawn_local(control.clone().accept(listener, tls)).detach();
    }
    spawn_local(renew(certificates)).detach();
    info!("{ready}");
    let mut swept = Instant::now();
    while !quit.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(20)).await;
        control.deliver();
        if swept.elapsed() >= SWEEP {
            swept = Instant::now();
            control.sweep_rtc(swept);
        }
    }
    control.quit();
    let parted = Instant::now() + PARTING;
    while Instant::now() < parted {
        control.deliver();
        sleep(Duration::from_millis(20)).await;
    }
}

/// Looks after certificates, for ever; the files are read on another thread.
async fn renew(certificates: Vec<Arc<Certificates>>) {
    while !certificates.is_empty() {
        sleep(RENEWAL).await;
        let certificates = certificates.clone();
        glommio::executor().spawn_blocking(move || certificates.iter().for_each(|each| each.refresh())).await;
    }
}

/// Ends the server where the shard that holds it panics.
struct Alarm(Arc<AtomicBool>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Listening sockets, bound before any shard runs so that a port that is taken stops the start.
struct Ports {
    /// By shard.
    media: Vec<MediaPorts>,
    api: Vec<(TcpListener, Option<Arc<ServerConfig>>)>,
    certificates: Vec<Arc<Certificates>>,
    /// For the log.
    words: String,
}

/// What one shard listens on.
struct MediaPorts {
    tcp: Vec<Port>,
    srt: Vec<UdpSocket>,
    rtc: Vec<UdpSocket>,
}

impl Ports {
    fn bind(config: &Config, shards: usize) -> Result<Self, Failure> {
        let mut certificates = Vec::new();
        let mut secure = |tls: &Tls, protocols: &[&str]| {
            let loaded = tls.enabled.then(|| Certificates::load(tls.pairs.clone())).transpose()?;
            certificates.extend(loaded.clone());
            loaded.map(|loaded| loaded.config(protocols)).transpose()
        };
        let (server, api) = (&config.http_server, &config.http_api);
        let rtmps = secure(&config.rtmps, &[])?;
        let https = secure(&server.https, HTTP)?;
        let api_https = secure(&api.https, HTTP)?;
        let of = |enabled, listen: &Vec<Listen>| if enabled { listen.clone() } else { Vec::new() };
        let mut wanted: Vec<(Listen, Service, Option<Arc<ServerConfig>>)> = Vec::new();
        let mut want = |listen: Vec<Listen>, service, tls: &Option<Arc<ServerConfig>>| {
            wanted.extend(listen.into_iter().map(|listen| (listen, service, tls.clone())));
        };
        want(config.rtmp_listen.clone(), Service::Rtmp, &None);
        want(of(config.rtmps.enabled, &config.rtmps.listen), Service::Rtmp, &rtmps);
        want(of(server.enabled, &server.listen), Service::Http, &None);
        want(of(server.https.enabled, &server.https.listen), Service::Http, &https);
        let api: Vec<(Listen, Option<Arc<ServerConfig>>)> = of(api.enabled, &api.listen)
            .into_iter()
            .map(|listen| (listen, None))
            .chain(of(api.https.enabled, &api.https.listen).into_iter().map(|listen| (listen, api_https.clone())))
            // Where the API shares the HTTP server's port, that serves it.
            .filter(|(api, _)| !wanted.iter().any(|(listen, ..)| listen == api))
            .collect();
        for listen in wanted.iter().map(|(listen, ..)| listen).chain(api.iter().map(|(listen, _)| listen)) {
            free(|| Ok(port::probe(listen.addr())?))?;
        }
        let bind = |listen: &Listen, shared: bool| {
            let address = listen.addr();
            listener::listener(address, shared).map_err(|error| Failure::Listen { address, error })
        };
        let srt = of(config.srt_server.enabled, &config.srt_server.listen);
        let rtc = of(config.rtc_server.enabled, &config.rtc_server.listen);
        // Sharing would hide another server on the port: asked first without, all at once.
        free(|| datagrams(&[&srt[..], &rtc].concat(), false).map(drop))?;
        let mut media = Vec::new();
        for _ in 0..shards {
            let tcp = wanted.iter().map(|(listen, service, tls)| {
                Ok(Port { listener: bind(listen, true)?, service: *service, tls: tls.clone() })
            });
            let tcp: Result<Vec<_>, Failure> = tcp.collect();
            media.push(MediaPorts { tcp: tcp?, srt: datagrams(&srt, true)?, rtc: datagrams(&rtc, true)? });
        }
        let shown = |listen: &Listen, tls: &Option<_>| format!("{listen}{}", if tls.is_some() { "/tls" } else { "" });
        let words = |service: Service| {
            let ports = wanted.iter().filter(|(_, s, _)| *s == service).map(|(listen, _, tls)| shown(listen, tls));
            ports.collect::<Vec<_>>().join(" ")
        };
        let api_words = api.iter().map(|(listen, tls)| shown(listen, tls)).collect::<Vec<_>>().join(" ");
        let udp_words = |name, listens: &[Listen]| {
            let ports: String = listens.iter().map(|listen| format!(" {}/udp", listen.addr())).collect();
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
            api: api
                .into_iter()
                .map(|(listen, tls)| Ok((bind(&listen, false)?, tls)))
                .collect::<Result<_, Failure>>()?,
            certificates,
        })
    }
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

/// The process has one recorder; a second server in it, as tests have, shares the first one's.
fn install_metrics() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        warn!("another server of this process has the metrics");
    }
    handle
}
