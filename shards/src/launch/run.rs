//! From a configuration to running shards, and back to nothing at the end.

use super::{
    Orders, Shortfall, Supervisor,
    executor::{executor, warm_up},
    metrics,
    pid_file::fresh_id,
    ports::{MediaPorts, Ports},
    probe,
    security::Security,
};
use crate::{
    addresses::Addresses,
    config::{Config, Env},
    control::{Control, Course, Process},
    fanout::hand,
    feed::Feed,
    files,
    hooks::Herald,
    ingress::{accept, rtc, srt},
    load::Board,
    log,
    mesh::{self, Ends, Mesh},
    net::{certificates::CertificateError, doors::Endpoint, port, sys},
    pause::pause,
    shard::{Common, Shard},
};
use glommio::{channels::local_channel, spawn_local, timer::sleep};
use metrics_exporter_prometheus::PrometheusHandle;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::unix::process::parent_id,
    rc::Rc,
    sync::{Arc, Weak, atomic::AtomicUsize},
    thread,
    time::{Duration, Instant},
};
use tracing::{debug, error, info, warn};

/// How long the shards have to close their connections.
const PARTING: Duration = Duration::from_millis(300);
/// How often the control shard looks whether certificates have changed.
const RENEWAL: Duration = Duration::from_secs(2);
/// How long the disk has to take the recordings.
const WRITING: Duration = Duration::from_secs(3);

/// Directives on which an operator relies to keep people out.
const GUARDS: [&str; 1] = ["vhost.hls.hls_keys"];

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
    #[error("the parent process has gone (asprocess)")]
    Orphaned,
    #[error("a shard ended badly: {0}")]
    Shard(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Failure {
    pub fn status(&self) -> u8 {
        match self {
            Self::Port(_) | Self::Listen { .. } => of_srs(1002),
            Self::Orphaned => of_srs(1073),
            _ => 1,
        }
    }
}

/// The exit status that a shell sees of one of SRS's error numbers.
pub const fn of_srs(error: u16) -> u8 {
    (error & 0xff) as u8
}

/// What to run.
pub struct Options {
    pub config: Config,
    /// A session that publishes a stream of this name panics at its first frame: for tests of what that
    /// does to others. Neither configuration nor command line can set it.
    pub fault: Option<String>,
    /// Names the server to clients of the API.
    pub server_id: String,
    /// For when the file is read again.
    pub env: Env,
    pub orders: Arc<Orders>,
    pub supervisor: Supervisor,
    /// Where its level can be set.
    pub log: Weak<log::Handle>,
    /// The process that started this one.
    pub parent: u32,
}

impl Options {
    /// A server that nobody supervises.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            fault: None,
            server_id: fresh_id(),
            env: Env::default(),
            orders: Arc::default(),
            supervisor: Supervisor::default(),
            log: Weak::new(),
            parent: parent_id(),
        }
    }
}

/// Runs the server until it is told to end.
pub fn run(mut options: Options) -> Result<(), Failure> {
    let started = Instant::now();
    if let Err(error) = sys::avoid_huge_pages() {
        warn!("huge pages stay, and with them memory that nobody uses: {error}");
    }
    let config = Arc::new(options.config);
    let needs = find(&config).inspect_err(|failure| options.supervisor.failed(failure.status()))?;
    let (limits, security, ports) = needs;
    let metrics = metrics::install();
    let (writer, files) = files::Writer::start()?;
    let (herald, calls) = Herald::new(config.clone());
    let (feed, notices) = Feed::new();
    let common = Common {
        files: writer.clone(),
        herald,
        feed,
        config: config.clone(),
        security,
        connections_open: Arc::new(AtomicUsize::new(0)),
        addresses: Addresses::default(),
        board: Arc::new(Board::new(limits.shards)),
        connections_max: config.max_connections.unwrap_or(limits.max_connections),
        fault: options.fault,
    };

    warm_up().map_err(|error| Failure::Executor { name: "warm-up".into(), error: error.to_string() })?;
    let mut ends = mesh::ends(limits.shards + 1);
    let control_ends = ends.pop();
    let mut handles = Vec::new();
    for ((index, ends), ports) in ends.into_iter().enumerate().zip(ports.media) {
        let (common, orders) = (common.clone(), options.orders.clone());
        let name = format!("shard-{index}");
        let builder = executor(&name, Some(limits.cpus[index]), limits.ring_depth);
        let handle = builder
            .spawn(move || media(index, common, ends, ports, orders))
            .map_err(|error| Failure::Executor { name, error: error.to_string() })?;
        handles.push(handle);
    }
    let (api, control_common) = (ports.api, common);
    let process = Process {
        server_id: options.server_id,
        env: options.env,
        orders: options.orders.clone(),
        supervisor: options.supervisor.into(),
        limits: limits.clone(),
        parent: options.parent,
        calls,
        notices,
        log: options.log,
        course: Course::default(),
    };
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
        .spawn(move || control(index, control_common, control_ends, api, metrics, process, ready))
        .map_err(|error| Failure::Executor { name: "control".into(), error: error.to_string() })?;
    handles.push(control);
    let mut ended = Ok(());
    for handle in handles {
        if let Err(error) = handle.join() {
            ended = Err(Failure::Shard(error.to_string()));
        }
    }
    // All who hand files to it have ended; what they handed is written.
    writer.end();
    files.join().map_err(|_| Failure::Shard("the writer of files panicked".into()))?;
    info!("{} has ended", crate::SERVER);
    if options.orders.orphaned.is_set() { Err(Failure::Orphaned) } else { ended }
}

/// What the configuration needs of this machine.
fn find(config: &Config) -> Result<(probe::Limits, Arc<Security>, Ports), Failure> {
    let limits = probe::check(config.shards, config.max_connections)?;
    for note in &limits.notes {
        warn!("{note}");
    }
    tell_remarks(config);
    let security = Security::load(config)?;
    let ports = Ports::bind(config, limits.shards)?;
    Ok((limits, security, ports))
}

/// Logs what a configuration is worth saying about.
pub fn tell_remarks(config: &Config) {
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
}

/// Brings the operator's signals to the server.
pub fn heed_signals(signals: sys::Signals, orders: Arc<Orders>, log: Weak<log::Handle>) -> io::Result<()> {
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
                sys::Signal::Reload => orders.reload.set(),
                sys::Signal::Interrupt => orders.quit.set(),
                sys::Signal::Terminate => orders.terminate.set(),
                sys::Signal::Quit => orders.grace.set(),
            }
        }
    })?;
    Ok(())
}

/// One media shard, until it is told to quit.
async fn media(index: usize, common: Common, ends: Ends, ports: MediaPorts, orders: Arc<Orders>) {
    // A shard that is gone takes its streams along: better the whole server ends, and is started again.
    let _alarm = Alarm(orders);
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
    for (door, listener) in ports.tcp {
        accept::open(&shard, door, listener);
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

async fn control(
    index: usize,
    common: Common,
    ends: Option<Ends>,
    api: Vec<(Endpoint, TcpListener)>,
    metrics: PrometheusHandle,
    process: Process,
    ready: String,
) {
    let Some(ends) = ends else { return };
    let (mesh, inboxes) = Mesh::connect(index, ends).await;
    let security = common.security.clone();
    let control: Rc<Control> = Control::new(common, mesh, metrics, process);
    for inbox in inboxes {
        spawn_local(control.clone().receive(inbox)).detach();
    }
    spawn_local(control.clone().watch_system()).detach();
    for (endpoint, listener) in api {
        control.open(endpoint, listener);
    }
    spawn_local(renew(security)).detach();
    spawn_local(control.clone().sum_up()).detach();
    spawn_local(control.clone().beat()).detach();
    info!("{ready}");
    control.rule().await;
    control.quit();
    let parted = Instant::now() + PARTING;
    while Instant::now() < parted {
        control.deliver();
        pause(Duration::from_millis(20)).await;
    }
}

/// Looks after certificates, for ever; the files are read on another thread.
async fn renew(security: Arc<Security>) {
    loop {
        sleep(RENEWAL).await;
        let security = security.clone();
        glommio::executor().spawn_blocking(move || security.refresh()).await;
    }
}

/// Ends the server where the shard that holds it panics.
struct Alarm(Arc<Orders>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.quit.set();
        }
    }
}
