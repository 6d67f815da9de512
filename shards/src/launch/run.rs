//! From a configuration to running shards, and back to nothing at the end.

use super::{
    Shortfall,
    executor::{executor, warm_up},
    probe,
};
use crate::{
    config::{Config, Listen},
    control::Control,
    fanout::hand,
    files,
    ingress::{
        accept::{self, Service},
        rtc, srt,
    },
    log,
    mesh::{self, Ends, Mesh},
    net::{datagram, listener, port, sys},
    shard::{Common, Shard},
};
use glommio::{channels::local_channel, spawn_local, timer::sleep};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
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
const GUARDS: [&str; 4] =
    ["vhost.security.enabled", "vhost.refer.enabled", "vhost.http_hooks.enabled", "vhost.hls.hls_keys"];
/// How often the control shard looks for WebRTC peers that never came.
const SWEEP: Duration = Duration::from_secs(1);
const LETTING_GO: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Limits(#[from] Shortfall),
    #[error("{0}")]
    Port(#[from] port::Unavailable),
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
    let api = ports.api;
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
        .spawn(move || control(index, control_common, control_ends, api, metrics, rtmp_port, quit, ready))
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
    for (listener, service) in ports.tcp {
        spawn_local(accept::run(shard.clone(), listener, service)).detach();
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
    api: Vec<TcpListener>,
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
    spawn_local(control.clone().watch_system()).detach();
    for listener in api {
        spawn_local(control.clone().accept(listener)).detach();
    }
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
    api: Vec<TcpListener>,
    /// For the log.
    words: String,
}

/// What one shard listens on.
struct MediaPorts {
    tcp: Vec<(TcpListener, Service)>,
    srt: Vec<UdpSocket>,
    rtc: Vec<UdpSocket>,
}

impl Ports {
    fn bind(config: &Config, shards: usize) -> Result<Self, Failure> {
        let mut wanted: Vec<(&Listen, Service)> =
            config.rtmp_listen.iter().map(|listen| (listen, Service::Rtmp)).collect();
        if config.http_server.enabled {
            wanted.extend(config.http_server.listen.iter().map(|listen| (listen, Service::Http)));
        }
        let api: Vec<&Listen> = config
            .http_api
            .listen
            .iter()
            // Where the API shares the HTTP server's port, that serves it.
            .filter(|api| config.http_api.enabled && !wanted.iter().any(|(listen, _)| listen == api))
            .collect();
        for listen in wanted.iter().map(|(listen, _)| *listen).chain(api.iter().copied()) {
            free(|| Ok(port::probe(listen.addr())?))?;
        }
        let bind = |listen: &Listen, shared: bool| {
            let address = listen.addr();
            listener::listener(address, shared).map_err(|error| Failure::Listen { address, error })
        };
        let of = |enabled, listen: &Vec<Listen>| if enabled { listen.clone() } else { Vec::new() };
        let srt = of(config.srt_server.enabled, &config.srt_server.listen);
        let rtc = of(config.rtc_server.enabled, &config.rtc_server.listen);
        // Sharing would hide another server on the port: asked first without, all at once.
        free(|| datagrams(&[&srt[..], &rtc].concat(), false).map(drop))?;
        let mut media = Vec::new();
        for _ in 0..shards {
            let tcp: Result<Vec<_>, Failure> =
                wanted.iter().map(|(listen, service)| Ok((bind(listen, true)?, *service))).collect();
            media.push(MediaPorts { tcp: tcp?, srt: datagrams(&srt, true)?, rtc: datagrams(&rtc, true)? });
        }
        let words = |service: Service| {
            let ports = wanted.iter().filter(|(_, s)| *s == service).map(|(listen, _)| listen.addr().to_string());
            ports.collect::<Vec<_>>().join(" ")
        };
        let api_words = api.iter().map(|listen| listen.addr().to_string()).collect::<Vec<_>>().join(" ");
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
            api: api.into_iter().map(|listen| bind(listen, false)).collect::<Result<_, _>>()?,
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
