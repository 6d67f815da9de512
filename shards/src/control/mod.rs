//! The control shard: HTTP API, pages and metrics. It never touches media; media shards never wait for it.

pub mod api;
mod auth;
mod body;
mod caller;
mod census;
mod exporter;
mod file;
mod followers;
mod heartbeat;
mod hls;
mod hooks;
pub mod http;
mod io;
pub mod pages;
mod proc;
mod process;
mod reload;
mod rtc;
pub mod snapshot;
mod summary;
mod system;
mod viewers;

pub use process::{Course, Process};

use crate::{
    config::Config,
    feed::Feed,
    hooks::Herald,
    launch::security::Security,
    load::Board,
    mesh::{Mail, Mesh},
    net::{
        doors::{Doors, Endpoint},
        sys,
        tls::{self, Stream},
    },
    requests::Requests,
    shard::{Common, FETCH_TIME, random_id},
};
use bytes::Bytes;
use census::Census;
use futures_lite::FutureExt;
use glommio::{channels::shared_channel::ConnectedReceiver, spawn_local, timer::sleep};
use metrics_exporter_prometheus::PrometheusHandle;
use rustls::ServerConfig;
use shardcast_engine::key::StreamKey;
use shardcast_protocols::{hls::Content, session::Verdict};
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    panic::AssertUnwindSafe,
    rc::Rc,
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, SystemTime},
};
use tracing::{error, info, warn};

/// What SRS answers to a request of another origin.
pub const CORS: [(&str, &str); 6] = [
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Headers", "*"),
    ("Access-Control-Allow-Methods", "*"),
    ("Access-Control-Expose-Headers", "*"),
    ("Access-Control-Allow-Credentials", "false"),
    ("Access-Control-Request-Private-Network", "true"),
];

/// API and page connections at a time.
const CONNECTIONS: usize = 1024;

pub struct Control {
    pub metrics: PrometheusHandle,
    /// This process, to clients of the API.
    pub server_id: String,
    pub service_id: String,
    pub started: SystemTime,
    config: RefCell<Arc<Config>>,
    /// Connections of media, of the whole process.
    connections_open: Arc<AtomicUsize>,
    board: Arc<Board>,
    mesh: Mesh,
    /// Where it accepts connections.
    doors: Doors<Endpoint>,
    /// Of its ports, and of the others' while it has them read anew.
    security: Arc<Security>,
    process: Process,
    connections: Cell<usize>,
    pub system: system::System,
    snapshots: Census<snapshot::Shard>,
    clients: Census<Vec<snapshot::Client>>,
    fetches: Requests<Option<Content>>,
    /// Asked of the homes of streams that somebody wants to publish by WebRTC.
    verdicts: Requests<Verdict>,
    rtc: rtc::Sessions,
    viewers: viewers::Viewers,
    hooks: hooks::Hooks,
    caller: caller::Caller,
    herald: Herald,
    feed: Feed,
    followers: followers::Followers,
}

impl Control {
    pub fn new(common: Common, mesh: Mesh, metrics: PrometheusHandle, process: Process) -> Rc<Self> {
        Rc::new(Self {
            metrics,
            server_id: process.server_id.clone(),
            service_id: random_id(),
            started: SystemTime::now(),
            config: RefCell::new(common.config),
            connections_open: common.connections_open,
            board: common.board,
            mesh,
            doors: Doors::default(),
            security: common.security,
            process,
            connections: Cell::new(0),
            system: system::System::default(),
            snapshots: Census::default(),
            clients: Census::default(),
            fetches: Requests::default(),
            verdicts: Requests::default(),
            rtc: rtc::Sessions::default(),
            viewers: viewers::Viewers::default(),
            hooks: hooks::Hooks::default(),
            caller: caller::Caller::default(),
            herald: common.herald,
            feed: common.feed,
            followers: followers::Followers::default(),
        })
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// Media shards.
    pub fn shards(&self) -> usize {
        self.mesh.control()
    }

    /// Acts on the mail of one media shard, for ever.
    pub async fn receive(self: Rc<Self>, inbox: ConnectedReceiver<Mail>) {
        while let Some(mail) = inbox.recv().await {
            match mail {
                Mail::Http(handover) => {
                    let stream = Stream::new(sys::adopt(handover.fd), handover.session);
                    self.serve(stream, handover.peer, handover.read);
                }
                Mail::Shard { request, snapshot } => {
                    self.snapshots.answer(request, snapshot.index, *snapshot);
                }
                Mail::ClientList { request, shard, clients } => self.clients.answer(request, shard, clients),
                Mail::Fetched { request, content } => self.fetches.answer(request, content),
                Mail::Verdict { session: asked, verdict } | Mail::Consulted { request: asked, verdict } => {
                    self.verdicts.answer(asked, verdict);
                }
                Mail::Consult { call, request, from } => {
                    // What was told of the client before goes first.
                    self.take_calls();
                    self.call(*call, Some((from, request)));
                }
                Mail::Claim { ufrag, socket, source, bytes, from } => self.claim(&ufrag, socket, source, bytes, from),
                Mail::Left { number } => self.left(number),
                Mail::Keyframe { number } => self.ask_keyframe(number),
                _ => warn!("media mail came to the control shard"),
            }
        }
    }

    /// Accepts on an API port until that is closed.
    pub fn open(self: &Rc<Self>, endpoint: Endpoint, listener: std::net::TcpListener) {
        match listener.try_clone() {
            Ok(handle) => {
                let open = self.doors.open(endpoint, handle);
                let tls = endpoint.tls.then(|| self.security.api.config.clone());
                spawn_local(self.clone().accept(listener, tls, open)).detach();
            }
            Err(error) => error!("the API on {endpoint} is off: {error}"),
        }
    }

    async fn accept(
        self: Rc<Self>,
        listener: std::net::TcpListener,
        config: Option<Arc<ServerConfig>>,
        open: Rc<Cell<bool>>,
    ) {
        let listener = sys::adopt_listener(listener);
        loop {
            match listener.accept().await {
                Ok(stream) => {
                    let _ = sys::set_cloexec(sys::borrow(&stream));
                    let peer = stream.peer_addr().unwrap_or_else(|_| SocketAddr::from(([0; 4], 0)));
                    match config.as_ref().map(tls::session).transpose() {
                        Ok(session) => self.serve(Stream::new(stream, session), peer, Bytes::new()),
                        Err(error) => warn!("TLS for the API: {error}"),
                    }
                }
                Err(_) if !open.get() => return,
                Err(error) => {
                    warn!("accept for the API: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Serves a connection in a task of its own, or drops it where there are too many.
    fn serve(self: &Rc<Self>, stream: Stream, peer: SocketAddr, read: Bytes) {
        if self.connections.get() >= CONNECTIONS {
            metrics::counter!("shardcast_connections_refused_total").increment(1);
            return warn!("API connection of {peer} refused: {CONNECTIONS} are open");
        }
        self.connections.set(self.connections.get() + 1);
        let control = self.clone();
        spawn_local(async move {
            let served = AssertUnwindSafe(http::serve(control.clone(), stream, peer, read));
            if served.catch_unwind().await.is_err() {
                error!("an API request of {peer} panicked; please report this");
            }
            control.connections.set(control.connections.get() - 1);
        })
        .detach();
    }

    /// What each media shard says of itself, in order.
    pub async fn snapshot(&self) -> Rc<Vec<snapshot::Shard>> {
        self.snapshots.take(self.shards(), |shard, request| self.mesh.post(shard, Mail::Snapshot { request })).await
    }

    /// What HLS has at `path` of a stream, asked of its home.
    pub async fn fetch(&self, key: &StreamKey, path: &str) -> Option<Content> {
        let post = |request| {
            let fetch = Mail::Fetch { key: key.clone(), path: path.to_owned(), request, from: self.shards() };
            self.mesh.post(key.home(self.shards()), fetch);
        };
        self.fetches.ask(FETCH_TIME, post).await.flatten()
    }

    /// Who publishes and plays, by shard.
    pub async fn clients(&self) -> Rc<Vec<Vec<snapshot::Client>>> {
        self.clients.take(self.shards(), |shard, request| self.mesh.post(shard, Mail::Clients { request })).await
    }

    /// Ends the connection of a client of `shard`.
    pub fn kick(&self, shard: usize, id: String) {
        info!(cid = %id, "kicked through the API");
        self.mesh.post(shard, Mail::Kick { id });
    }

    /// Tells all media shards to end, and those who are told of viewers that these have gone.
    pub fn quit(&self) {
        self.viewers.clear(&self.feed);
        for shard in 0..self.shards() {
            self.mesh.post(shard, Mail::Quit);
        }
    }

    /// Sends what found no place in a channel, and tells of events.
    pub fn deliver(self: &Rc<Self>) {
        self.mesh.flush();
        self.take_calls();
        self.spread();
    }

    fn take_calls(self: &Rc<Self>) {
        self.process.calls.try_iter().for_each(|call| self.call(call, None));
    }
}
