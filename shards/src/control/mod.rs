//! The control shard: HTTP API, pages and metrics. It never touches media; media shards never wait for it.

pub mod api;
pub mod http;
mod io;
pub mod pages;
pub mod snapshot;

use crate::{
    mesh::{Mail, Mesh},
    net::sys,
    shard::{Common, random_id},
};
use futures_lite::FutureExt;
use glommio::{
    channels::{
        local_channel::{self, LocalSender},
        shared_channel::ConnectedReceiver,
    },
    spawn_local,
    timer::sleep,
};
use metrics_exporter_prometheus::PrometheusHandle;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};
use tracing::warn;

/// What SRS answers to a request of another origin.
pub const CORS: [(&str, &str); 6] = [
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Headers", "*"),
    ("Access-Control-Allow-Methods", "*"),
    ("Access-Control-Expose-Headers", "*"),
    ("Access-Control-Allow-Credentials", "false"),
    ("Access-Control-Request-Private-Network", "true"),
];

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
    next_request: Cell<u64>,
    waiting: RefCell<HashMap<u64, LocalSender<snapshot::Shard>>>,
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
            next_request: Cell::new(1),
            waiting: RefCell::default(),
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
                    let stream = sys::adopt(handover.fd);
                    spawn_local(http::serve(self.clone(), stream, handover.peer, handover.read)).detach();
                }
                Mail::Shard { request, snapshot } => {
                    if let Some(waiting) = self.waiting.borrow().get(&request) {
                        // It has a place for each shard; one that comes twice is of no use.
                        let _ = waiting.try_send(*snapshot);
                    }
                }
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
                    let read = bytes::Bytes::new();
                    spawn_local(http::serve(self.clone(), stream, peer, read)).detach();
                }
                Err(error) => {
                    warn!("accept for the API: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// What each media shard says of itself now, in order.
    pub async fn snapshot(&self) -> Vec<snapshot::Shard> {
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
