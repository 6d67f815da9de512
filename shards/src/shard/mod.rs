//! One core's share of the server: its connections, its streams, its mail.

mod mail;
mod publishers;
mod serve;
mod viewers;

pub use publishers::{FETCH_TIME, VERDICT_TIME, no_answer};

use crate::{
    addresses::{Addresses, Counted},
    config::{Config, Vhost},
    connection::{Connection, METER_STEP},
    control::snapshot,
    fanout::{reads::Reads, window::Law},
    feed::Feed,
    files,
    hooks::Herald,
    ingress::{accept::Door, rtc::Port},
    launch::security::Security,
    load::{Board, Lateness, Load},
    mesh::{Ask, Mail, Mesh},
    net::{
        doors::Doors,
        link::Link,
        socket::{READ_BUFFER, ReadBuffer},
    },
    record::disk::Disk,
    refusal,
    requests::Requests,
    stream::{Role, Stream, Wire},
};
use glommio::channels::local_channel::LocalSender;
use shardcast_engine::{fanout::ring::Policy, key::StreamKey, time::Timestamp};
use shardcast_protocols::{
    hls::Content,
    session::{Refusal, Verdict},
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    os::fd::OwnedFd,
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// Payload bytes that one stream's ring, and each of its tapes, may hold.
const STREAM_BYTES: usize = 64 << 20;
/// A stream without publisher, viewers and subscribers is forgotten after this; a tape without viewers too.
const IDLE: Duration = Duration::from_secs(5);

pub struct Shard {
    config: RefCell<Arc<Config>>,
    pub mesh: Mesh,
    /// Where it accepts connections.
    pub doors: Doors<Door>,
    pub security: Arc<Security>,
    pub buffer: ReadBuffer,
    pub reads: Reads,
    pub fault: Option<String>,
    /// Its WebRTC sessions.
    pub rtc: Port,
    /// For tasks that outlive a call.
    me: Weak<Self>,
    /// Connections of the whole process.
    connections_open: Arc<AtomicUsize>,
    connections_max: Cell<usize>,
    addresses: Addresses,
    /// Those who come are refused: the server ends when those who are here have gone.
    draining: Cell<bool>,
    connections: RefCell<HashMap<u64, Rc<Connection>>>,
    streams: RefCell<HashMap<StreamKey, Stream>>,
    verdicts: Requests<Verdict>,
    fetches: Requests<Option<Content>>,
    consults: Requests<Verdict>,
    files: files::Writer,
    pub herald: Herald,
    feed: Feed,
    /// Bytes received and sent by connections that have gone.
    moved: Cell<[u64; 2]>,
    next_number: Cell<u64>,
    sweeps: Cell<usize>,
    load: RefCell<Load>,
    late: RefCell<Lateness>,
    board: Arc<Board>,
    /// Fresh connections that it handed to others.
    passed: Cell<u64>,
    /// Writes recordings; there once one was wanted.
    disk: RefCell<Option<Rc<Disk>>>,
    /// How short a window its viewers allow.
    law: RefCell<Law>,
    /// There may be something for the hand to do.
    awake: RefCell<Option<LocalSender<()>>>,
    quit: RefCell<Option<LocalSender<()>>>,
}

/// What all shards of a process share.
#[derive(Clone)]
pub struct Common {
    pub config: Arc<Config>,
    pub security: Arc<Security>,
    pub connections_open: Arc<AtomicUsize>,
    pub connections_max: usize,
    pub addresses: Addresses,
    pub board: Arc<Board>,
    /// Writes the files that the configuration asks for.
    pub files: files::Writer,
    /// Takes what happens to who is told of it.
    pub herald: Herald,
    /// Takes what happens to who follows it.
    pub feed: Feed,
    /// For tests: a session that publishes a stream of this name panics at its first frame.
    pub fault: Option<String>,
}

impl Shard {
    pub fn new(common: Common, mesh: Mesh) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            config: RefCell::new(common.config),
            mesh,
            doors: Doors::default(),
            security: common.security,
            buffer: RefCell::new(vec![0; READ_BUFFER].into_boxed_slice()),
            reads: Reads::default(),
            fault: common.fault,
            rtc: Port::default(),
            me: me.clone(),
            connections_open: common.connections_open,
            connections_max: Cell::new(common.connections_max),
            addresses: common.addresses,
            draining: Cell::default(),
            connections: RefCell::default(),
            streams: RefCell::default(),
            verdicts: Requests::default(),
            fetches: Requests::default(),
            consults: Requests::default(),
            files: common.files,
            herald: common.herald,
            feed: common.feed,
            moved: Cell::default(),
            next_number: Cell::new(1),
            sweeps: Cell::default(),
            load: RefCell::default(),
            late: RefCell::default(),
            board: common.board,
            passed: Cell::default(),
            disk: RefCell::default(),
            law: RefCell::default(),
            awake: RefCell::default(),
            quit: RefCell::default(),
        })
    }

    pub fn index(&self) -> usize {
        self.mesh.index()
    }

    /// The configuration in force. A session keeps what it began with where it must not change under it.
    pub fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// Media shards, the control shard not counted.
    pub fn shards(&self) -> usize {
        self.mesh.control()
    }

    /// Registers a fresh connection, or says that there are too many.
    pub fn admit(&self, socket: Link, peer: SocketAddr) -> Option<Rc<Connection>> {
        self.admit_as(random_id(), socket, peer)
    }

    /// One that has its id already.
    pub fn admit_as(&self, id: String, socket: Link, peer: SocketAddr) -> Option<Rc<Connection>> {
        if self.draining.get() {
            metrics::counter!("shardcast_connections_refused_total").increment(1);
            info!("connection of {peer} refused: the server is ending");
            return None;
        }
        // Who is behind a TCP connection may be still to be told.
        let counted = match socket {
            Link::Tcp(_) | Link::Tls(_) => None,
            Link::Srt(_) | Link::Rtc(_) => Some(self.count(peer)?),
        };
        let open = self.connections_open.fetch_add(1, Ordering::Relaxed);
        let most = self.connections_max.get();
        if open >= most {
            self.connections_open.fetch_sub(1, Ordering::Relaxed);
            metrics::counter!("shardcast_connections_refused_total").increment(1);
            warn!("connection of {peer} refused: max_connections of {most} reached");
            return None;
        }
        let number = self.next_number();
        let connection = Rc::new(Connection::new(id, number, peer, socket, self.feed.clone()));
        connection.counted.replace(counted);
        self.connections.borrow_mut().insert(number, connection.clone());
        Some(connection)
    }

    fn next_number(&self) -> u64 {
        self.next_number.replace(self.next_number.get() + 1)
    }

    /// Counts a connection for its address, or says that there are too many of that.
    pub fn count(&self, peer: SocketAddr) -> Option<Counted> {
        let most = self.config().max_connections_per_ip;
        let counted = self.addresses.enter(peer.ip(), most);
        if counted.is_none() {
            metrics::counter!("shardcast_address_refusals_total").increment(1);
            warn!("connection of {peer} refused: max_connections_per_ip of {most} reached");
        }
        counted
    }

    /// The shard to hand a fresh connection to: another one that has less to do, where there is need.
    pub fn lighter(&self) -> Option<usize> {
        self.board.lighter(self.index(), self.passed.get())
    }

    /// Hands a fresh connection to another shard.
    pub fn pass(&self, to: usize, door: Door, fd: OwnedFd, peer: SocketAddr) {
        self.passed.set(self.passed.get() + 1);
        metrics::counter!("shardcast_connections_passed_total").increment(1);
        self.post(to, Mail::Accepted { door, fd, peer });
    }

    /// Whether another viewer, by `protocol`, finds time here, and its stream a place here and at its home; one that
    /// does not is counted and told.
    pub async fn room(&self, protocol: &'static str, key: &StreamKey, peer: SocketAddr) -> Result<(), Refusal> {
        self.room_here(protocol, key, peer)?;
        match self.room_at_home(key).await {
            Verdict::Allowed => Ok(()),
            Verdict::Refused(why) => Err(refusal::counted(protocol, why)),
        }
    }

    /// As [`Self::room`], for who cannot wait for the home's word.
    pub fn room_here(&self, protocol: &'static str, key: &StreamKey, peer: SocketAddr) -> Result<(), Refusal> {
        if self.board.is_full(self.index()) {
            info!("viewer {peer} refused: shard {} is full, {}", self.index(), self.how_busy());
            Err(refusal::counted(protocol, Refusal::Full))
        } else if self.has_place(key) {
            Ok(())
        } else {
            Err(refusal::counted(protocol, Refusal::NoPlace))
        }
    }

    /// For the log.
    fn how_busy(&self) -> String {
        let (late, load) = (self.late.borrow().mean().as_millis(), self.load.borrow().share() * 100.0);
        format!("its ticks are {late} ms late, it has {load:.0} % of its core")
    }

    pub fn dismiss(&self, connection: &Connection) {
        if self.connections.borrow_mut().remove(&connection.number).is_some() {
            self.connections_open.fetch_sub(1, Ordering::Relaxed);
            let [received, sent] = self.moved.get();
            self.moved.set([received + connection.received.get(), sent + connection.sent.get()]);
        }
    }

    /// Looks for deadlines that have passed and things that nobody needs any more. Once a second.
    pub fn sweep(&self, now: Instant) {
        if self.mesh.flush() {
            self.wake();
        }
        let sweep = self.sweeps.replace(self.sweeps.get() + 1);
        self.load.borrow_mut().sample(now);
        self.board.tell(self.index(), self.load.borrow().share());
        for connection in self.connections.borrow().values() {
            if sweep.is_multiple_of(METER_STEP) {
                connection.measure();
            }
            if connection.deadline.get().is_some_and(|deadline| deadline <= now) {
                connection.expire();
            }
        }
        self.rtc.sweep(now);
        for key in self.watched() {
            self.ask(&key, Ask::Opus);
        }
        let law = self.law.borrow().window();
        self.streams.borrow_mut().retain(|_, stream| {
            stream.measure();
            stream.dispose(now);
            stream.sweep(now, &self.mesh);
            for (wire, slot) in Wire::ALL.into_iter().zip(&mut stream.audiences) {
                if let Some(audience) = slot {
                    audience.measure(law);
                    if audience.has_come_round(wire) {
                        info!("{} is 25 days old to {} viewers: they begin anew", stream.key, audience.len());
                        audience.end(wire.last().unwrap_or_default());
                    }
                }
                if slot.as_ref().is_some_and(|a| a.empty_since.is_some_and(|since| now - since >= IDLE)) {
                    *slot = None;
                }
            }
            stream.rtp.take_if(|rtp| rtp.empty_since.is_some_and(|since| now - since >= IDLE));
            if !stream.is_idle() {
                stream.idle_since = None;
                return true;
            }
            if now - *stream.idle_since.get_or_insert(now) < IDLE {
                return true;
            }
            self.part_from(stream);
            false
        });
    }

    pub fn on_quit(&self, sender: LocalSender<()>) {
        *self.quit.borrow_mut() = Some(sender);
    }

    /// The stream is here or may be, perhaps in the place of one that nobody uses; one that may not is counted and told.
    pub fn has_place(&self, key: &StreamKey) -> bool {
        let (mut streams, most) = (self.streams.borrow_mut(), self.config().max_streams_per_shard);
        if streams.len() < most || streams.contains_key(key) {
            return true;
        }
        let spare = streams.values().find(|stream| stream.is_spare()).map(|stream| stream.key.clone());
        if let Some(mut spare) = spare.and_then(|key| streams.remove(&key)) {
            spare.forget_hls("another stream needs its place");
            self.part_from(&spare);
            return true;
        }
        metrics::counter!("shardcast_streams_refused_total").increment(1);
        warn!("{key} refused: max_streams_per_shard of {most} reached on shard {}", self.index());
        false
    }

    /// Drops a stream that nobody uses and that never had a frame: names are cheap to invent.
    fn forget_unused(&self, key: &StreamKey) {
        let mut streams = self.streams.borrow_mut();
        if let Some(stream) = streams.get(key).filter(|stream| stream.is_idle() && stream.frames == 0) {
            self.part_from(stream);
            streams.remove(key);
        }
    }

    /// Tells the home of a mirror that goes.
    fn part_from(&self, stream: &Stream) {
        if let Role::Mirror { home, .. } = stream.role {
            self.mesh.post(home, Mail::Unsubscribe { key: stream.key.clone(), from: self.index() });
        }
    }

    /// The same key as the stream has that is here, so that its viewers share one.
    pub fn shared(&self, key: StreamKey) -> StreamKey {
        self.streams.borrow().get(&key).map_or(key, |stream| stream.key.clone())
    }

    fn with_known(&self, key: &StreamKey, act: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.streams.borrow_mut().get_mut(key) {
            act(stream);
        }
    }

    /// The stream as this shard has it, made and subscribed to where it has it not.
    fn with_stream<R>(&self, key: &StreamKey, vhost: &Vhost, act: impl FnOnce(&mut Stream) -> R) -> R {
        let mut streams = self.streams.borrow_mut();
        let stream = streams.entry(key.clone()).or_insert_with(|| {
            let home = key.home(self.shards());
            let role = if home == self.index() {
                Role::Home(Box::default())
            } else {
                Role::Mirror { home, subscription: None }
            };
            Stream::new(key.clone(), policy(vhost), role)
        });
        if let Role::Mirror { home, subscription: subscription @ None } = &mut stream.role {
            let number = *subscription.insert(self.next_number());
            self.mesh.post(*home, Mail::Subscribe { key: key.clone(), number, from: self.index() });
        }
        act(stream)
    }

    fn snapshot(&self) -> snapshot::Shard {
        let connections = self.connections.borrow();
        let [received, sent] = connections.values().fold(self.moved.get(), |[received, sent], connection| {
            [received + connection.received.get(), sent + connection.sent.get()]
        });
        snapshot::Shard {
            index: self.index(),
            connections: connections.len(),
            received,
            sent,
            frames_crossed: self.mesh.frames_crossed.get(),
            load: self.load.borrow().share(),
            window: self.law.borrow().window(),
            read_span: self.reads.span(),
            late: self.late.borrow().mean(),
            is_full: self.board.is_full(self.index()),
            streams: self.streams.borrow().values().map(snapshot::Share::of).collect(),
        }
    }

    /// All that publish or play here.
    fn clients(&self) -> Vec<snapshot::Client> {
        let (connections, streams) = (self.connections.borrow(), self.streams.borrow());
        let client = |connection: &Rc<Connection>| {
            let part = connection.part.borrow().clone()?;
            let tape = |wire: Wire| Some(&streams.get(&part.key)?.audiences[wire as usize].as_ref()?.tape);
            let lag = part.wire.and_then(tape).map(|tape| connection.cursor.borrow().lag(tape));
            Some(snapshot::Client::of(connection, part, lag))
        };
        connections.values().filter_map(client).collect()
    }
}

fn policy(vhost: &Vhost) -> Policy {
    Policy {
        skip: Timestamp::from(vhost.queue_length),
        bytes: STREAM_BYTES,
        gop_cache: vhost.gop_cache,
        gop_cache_max_frames: match vhost.gop_cache_max_frames {
            0 => u64::MAX,
            bound => bound as u64,
        },
    }
}

/// Eight random characters of [a-z0-9].
pub fn random_id() -> String {
    let mut bytes = [0u8; 8];
    // The kernel's generator works on every system that has io_uring.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[usize::from(*byte) % 36])).collect()
}
