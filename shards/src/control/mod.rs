//! The control shard: HTTP API, pages and metrics. It never touches media; media shards never wait for it.

pub mod api;
mod hls;
mod hooks;
pub mod http;
mod io;
pub mod pages;
mod rtc;
pub mod snapshot;

use crate::{
    mesh::{Mail, Mesh},
    net::sys,
    requests::Requests,
    shard::{Common, FETCH_TIME, random_id},
};
use bytes::Bytes;
use futures_lite::FutureExt;
use glommio::{
    channels::{
        local_channel::{self, LocalSender},
        shared_channel::ConnectedReceiver,
    },
    net::TcpStream,
    spawn_local,
    sync::Semaphore,
    timer::sleep,
};
use metrics_exporter_prometheus::PrometheusHandle;
use shardcast_engine::key::StreamKey;
use shardcast_protocols::{hls::Content, session::Verdict};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};
use tracing::{error, warn};

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
/// A snapshot is good for this time.
const FRESH: Duration = Duration::from_millis(100);
/// A shard that does not answer in this time is left out.
const SNAPSHOT_TIME: Duration = Duration::from_secs(2);

pub struct Control {
    pub common: Common,
    pub metrics: PrometheusHandle,
    /// Where RTMP is, for the page.
    pub rtmp_port: u16,
    /// This process, to clients of the API.
    pub server_id: String,
    pub service_id: String,
    pub started: SystemTime,
    mesh: Mesh,
    connections: Cell<usize>,
    asking: Semaphore,
    newest: RefCell<Option<(Instant, Rc<Vec<snapshot::Shard>>)>>,
    next_request: Cell<u64>,
    waiting: RefCell<HashMap<u64, LocalSender<snapshot::Shard>>>,
    fetches: Requests<Option<Content>>,
    /// Asked of the homes of streams that somebody wants to publish by WebRTC.
    verdicts: Requests<Verdict>,
    rtc: rtc::Sessions,
    hooks: hooks::Hooks,
}

impl Control {
    pub fn new(common: Common, mesh: Mesh, metrics: PrometheusHandle, rtmp_port: u16) -> Rc<Self> {
        Rc::new(Self {
            common,
            metrics,
            rtmp_port,
            server_id: format!("vid-{}", &random_id()[..7]),
            service_id: random_id(),
            started: SystemTime::now(),
            mesh,
            connections: Cell::new(0),
            asking: Semaphore::new(1),
            newest: RefCell::default(),
            next_request: Cell::new(1),
            waiting: RefCell::default(),
            fetches: Requests::default(),
            verdicts: Requests::default(),
            rtc: rtc::Sessions::default(),
            hooks: hooks::Hooks::default(),
        })
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
                    self.serve(sys::adopt(handover.fd), handover.peer, handover.read);
                }
                Mail::Shard { request, snapshot } => {
                    if let Some(waiting) = self.waiting.borrow().get(&request) {
                        // It has a place for each shard; one that comes twice is of no use.
                        let _ = waiting.try_send(*snapshot);
                    }
                }
                Mail::Fetched { request, content } => self.fetches.answer(request, content),
                Mail::Verdict { session, verdict } => self.verdicts.answer(session, verdict),
                Mail::Consult { call, request, from } => self.call(*call, Some((from, request))),
                Mail::Claim { ufrag, socket, source, bytes, from } => self.claim(&ufrag, socket, source, bytes, from),
                Mail::Left { number } => self.left(number),
                Mail::Keyframe { number } => self.ask_keyframe(number),
                _ => warn!("media mail came to the control shard"),
            }
        }
    }

    /// Accepts on an API port, for ever.
    pub async fn accept(self: Rc<Self>, listener: std::net::TcpListener) {
        let listener = sys::adopt_listener(listener);
        loop {
            match listener.accept().await {
                Ok(stream) => {
                    let _ = sys::set_cloexec(sys::borrow(&stream));
                    let peer = stream.peer_addr().unwrap_or_else(|_| SocketAddr::from(([0; 4], 0)));
                    self.serve(stream, peer, Bytes::new());
                }
                Err(error) => {
                    warn!("accept for the API: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Serves a connection in a task of its own, or drops it where there are too many.
    fn serve(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, read: Bytes) {
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

    /// What each media shard says of itself, in order; asked anew at most ten times a second, however many
    /// clients want to know.
    pub async fn snapshot(&self) -> Rc<Vec<snapshot::Shard>> {
        // Closed only with the control shard itself.
        let _one_at_a_time = self.asking.acquire_permit(1).await;
        if let Some((at, snapshot)) = &*self.newest.borrow()
            && at.elapsed() < FRESH
        {
            return snapshot.clone();
        }
        let snapshot = Rc::new(self.ask().await);
        *self.newest.borrow_mut() = Some((Instant::now(), snapshot.clone()));
        snapshot
    }

    /// What HLS has at `path` of a stream, asked of its home.
    pub async fn fetch(&self, key: &StreamKey, path: &str) -> Option<Content> {
        let post = |request| {
            let fetch = Mail::Fetch { key: key.clone(), path: path.to_owned(), request, from: self.shards() };
            self.mesh.post(key.home(self.shards()), fetch);
        };
        self.fetches.ask(FETCH_TIME, post).await.flatten()
    }

    async fn ask(&self) -> Vec<snapshot::Shard> {
        let request = self.next_request.replace(self.next_request.get() + 1);
        let (sender, receiver) = local_channel::new_bounded(self.shards());
        self.waiting.borrow_mut().insert(request, sender);
        for shard in 0..self.shards() {
            self.mesh.post(shard, Mail::Snapshot { request });
        }
        let deadline = Instant::now() + SNAPSHOT_TIME;
        let mut snapshots = Vec::new();
        while snapshots.len() < self.shards() {
            let late = async {
                sleep(deadline.saturating_duration_since(Instant::now())).await;
                None
            };
            match receiver.recv().or(late).await {
                Some(snapshot) => snapshots.push(snapshot),
                None => {
                    warn!("{} of {} shards answered in time", snapshots.len(), self.shards());
                    break;
                }
            }
        }
        self.waiting.borrow_mut().remove(&request);
        snapshots.sort_by_key(|snapshot| snapshot.index);
        snapshots
    }

    /// Tells all media shards to end.
    pub fn quit(&self) {
        for shard in 0..self.shards() {
            self.mesh.post(shard, Mail::Quit);
        }
    }

    /// Sends what found no place in a channel.
    pub fn deliver(&self) {
        self.mesh.flush();
    }
}
