//! One core's share of the server: its connections, its streams, its mail.

use crate::{
    addresses::{Addresses, Counted},
    config::{Config, Vhost},
    connection::{Connection, METER_STEP, Part},
    control::snapshot,
    fanout::{
        audience::{Audience, Turn},
        hand::TICK,
        reads::Reads,
        rtp::RtpAudience,
        window::{Law, Window},
    },
    feed::Feed,
    files,
    hls::Hls,
    hooks::{Call, Client, Event, Herald},
    ingress::{
        accept::{self, Door},
        rtc::{self, Port},
    },
    launch::security::Security,
    load::{Board, Lateness, Load},
    mesh::{Ask, Change, Handover, Mail, Mesh},
    net::{
        doors::Doors,
        link::Link,
        peer::Peer,
        socket::{READ_BUFFER, ReadBuffer},
        sys,
    },
    record::{disk::Disk, recorder::Recorder},
    requests::Requests,
    stream::{Publication, Role, Stream, Wire},
};
use glommio::channels::local_channel::{self, LocalSender};
use shardcast_engine::{
    fanout::{Ring, Tape, ring::Policy},
    frame::Media,
    key::StreamKey,
    time::Timestamp,
};
use shardcast_protocols::{
    hls::Content,
    session::{Client as Kind, Refusal, Verdict},
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tracing::{error, info, warn};

/// Payload bytes that one stream's ring, and each of its tapes, may hold.
const STREAM_BYTES: usize = 64 << 20;
/// Streams that one shard may have, mirrors included.
const STREAMS: usize = 20_000;
/// A stream without publisher, viewers and subscribers is forgotten after this; a tape without viewers too.
const IDLE: Duration = Duration::from_secs(5);
/// What newcomers may take of a tick.
const GREETING: Duration = Duration::from_millis(4);
/// A home that does not answer in this time has nothing.
pub const FETCH_TIME: Duration = Duration::from_secs(2);
/// Who is asked has a time of its own for each call; this bounds the wait for a turn too.
const CONSULT_TIME: Duration = Duration::from_secs(300);

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
    verdicts: RefCell<HashMap<u64, LocalSender<Verdict>>>,
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
    /// Ticks of the hand so far, and how short a window they allow.
    ticks: Cell<u64>,
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
            verdicts: RefCell::default(),
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
            ticks: Cell::default(),
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

    // --- connections -----------------------------------------------------------------------------------

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
        let number = self.next_number.replace(self.next_number.get() + 1);
        let connection = Rc::new(Connection::new(id, number, peer, socket, self.feed.clone()));
        connection.counted.replace(counted);
        self.connections.borrow_mut().insert(number, connection.clone());
        Some(connection)
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

    /// Whether another viewer, by `protocol`, finds time here; one that does not is counted and told.
    pub fn room(&self, protocol: &'static str, peer: SocketAddr) -> Result<(), Refusal> {
        if !self.board.is_full(self.index()) {
            return Ok(());
        }
        metrics::counter!("shardcast_viewers_refused_total", "protocol" => protocol).increment(1);
        info!("viewer {peer} refused: shard {} is full, its ticks are {} ms late", self.index(), self.late_ms());
        Err(Refusal::Full)
    }

    fn late_ms(&self) -> u128 {
        self.late.borrow().mean().as_millis()
    }

    /// A tick came, `elapsed` after the last; the next follows after `pace`, none where there is nothing to do.
    fn look_at_lateness(&self, elapsed: Duration, pace: Option<Duration>) {
        let breaker = self.config.borrow().circuit_breaker.late_threshold;
        let mut late = self.late.borrow_mut();
        match (sys::thread_time(), pace) {
            (Ok(used), Some(pace)) => late.note(elapsed, used, pace),
            _ => *late = Lateness::default(),
        }
        let was = self.board.is_full(self.index());
        let is = breaker.is_some_and(|limit| late.is_over(limit, was));
        drop(late);
        if is != was {
            self.board.tell_full(self.index(), is);
            let (index, late) = (self.index(), self.late_ms());
            match is {
                true => warn!("shard {index} is full, its ticks are {late} ms late: new viewers are refused"),
                false => info!("shard {index} takes viewers again, its ticks are {late} ms late"),
            }
        }
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
                    if audience.has_come_round() {
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

    // --- viewers ---------------------------------------------------------------------------------------

    /// The connection becomes a viewer of `key`, live or not yet, by the wire that `wire` is for newcomers. Returns that,
    /// and the key that all viewers of the stream share.
    pub fn play(&self, connection: &Rc<Connection>, key: &StreamKey, wire: Wire, vhost: &Vhost) -> (StreamKey, Wire) {
        let plays = self.with_stream(key, vhost, |stream| {
            let wire = wire.at(stream.ring.oldest_time());
            let state = stream.state();
            let audience = audience(&mut stream.audiences[wire as usize], &stream.ring, wire, vhost);
            audience.join(connection.clone(), &stream.ring);
            info!(
                cid = %connection.id,
                "{} plays {key} by {wire:?}, {}, viewer {} here",
                connection.peer.get(),
                state,
                audience.len(),
            );
            (stream.key.clone(), wire)
        });
        self.wake();
        plays
    }

    /// The viewer of `key` by `from` goes on by `to`, which has other tracks of it.
    pub fn switch(&self, viewer: &Rc<Connection>, key: &StreamKey, from: Wire, to: Wire, vhost: &Vhost) {
        self.with_known(key, |Stream { audiences, ring, .. }| {
            let Some(mut old) = audiences[from as usize].take() else { return };
            old.give(viewer, audience(&mut audiences[to as usize], ring, to, vhost), ring);
            audiences[from as usize] = Some(old);
            metrics::counter!("shardcast_track_switches_total").increment(1);
            info!(cid = %viewer.id, "{} plays {key} by {to:?} from now on", viewer.peer.get());
        });
        self.wake();
    }

    pub fn stop(&self, connection: &Connection, key: &StreamKey, wire: Wire) {
        if let Some(stream) = self.streams.borrow_mut().get_mut(key)
            && let Some(audience) = &mut stream.audiences[wire as usize]
            && audience.leave(connection)
        {
            stream.sent_before += connection.sent.get();
            info!(cid = %connection.id, "{} stops playing {key}", connection.peer.get());
        }
        self.forget_unused(key);
    }

    /// The connection becomes a viewer of `key` by WebRTC, live or not yet.
    pub fn watch(&self, connection: &Rc<Connection>, peer: &Rc<Peer>, key: &StreamKey, vhost: &Vhost) {
        self.with_stream(key, vhost, |stream| {
            let (state, ring) = (stream.state(), &stream.ring);
            let audience = stream.rtp.get_or_insert_with(|| RtpAudience::new(ring, vhost.rtc));
            audience.join(connection.clone(), peer.clone());
            info!(
                cid = %connection.id,
                "{} plays {key} by WebRTC, {}, viewer {} here",
                connection.peer.get(),
                state,
                audience.viewers().count(),
            );
        });
        self.ask(key, Ask::Opus);
        self.wake();
    }

    /// Streams with viewers by WebRTC here.
    fn watched(&self) -> Vec<StreamKey> {
        let streams = self.streams.borrow();
        let watched = streams.values().filter(|stream| stream.rtp.as_ref().is_some_and(|rtp| !rtp.is_empty()));
        watched.map(|stream| stream.key.clone()).collect()
    }

    pub fn unwatch(&self, connection: &Connection, key: &StreamKey) {
        if let Some(stream) = self.streams.borrow_mut().get_mut(key)
            && let Some(audience) = &mut stream.rtp
            && audience.leave(connection.number)
        {
            stream.sent_before += connection.sent.get();
            info!(cid = %connection.id, "{} stops playing {key}", connection.peer.get());
        }
        self.forget_unused(key);
    }

    /// A viewer's answers and the like go out at its next boundary, now if that is now.
    pub fn hurry(&self, viewer: &Rc<Connection>, key: &StreamKey, wire: Wire) {
        self.with_known(key, |stream| {
            if let Some(audience) = &mut stream.audiences[wire as usize] {
                audience.hurry(viewer);
            }
        });
        self.wake();
    }

    // --- publishers ------------------------------------------------------------------------------------

    /// Asks the stream's home.
    pub async fn publish(&self, publication: Publication) -> Verdict {
        let (sender, receiver) = local_channel::new_bounded(1);
        let session = publication.session;
        self.verdicts.borrow_mut().insert(session, sender);
        let home = publication.key.home(self.shards());
        self.post(home, Mail::Publish(Box::new(publication)));
        let verdict = receiver.recv().await;
        self.verdicts.borrow_mut().remove(&session);
        verdict.unwrap_or_else(|| Verdict::Refused(Refusal::Other("the server is ending".into())))
    }

    /// Brings media to the stream's home; waits while the way there is congested.
    pub async fn bring(&self, key: &StreamKey, publisher: u64, batch: Vec<Media>) {
        let home = key.home(self.shards());
        while home != self.index() && self.mesh.congested(home) {
            glommio::timer::sleep(Duration::from_millis(5)).await;
        }
        self.post(home, Mail::Media { key: key.clone(), publisher, batch });
    }

    /// Waits for a publisher's turn to be read.
    pub async fn turn_to_read(&self) {
        if !self.reads.span().is_zero() {
            self.wake();
            self.reads.turn().await;
        }
    }

    pub fn unpublish(&self, key: &StreamKey, publisher: u64) {
        self.post(key.home(self.shards()), Mail::Unpublish { key: key.clone(), publisher });
    }

    /// Asks the stream's home for something that viewers here need.
    pub fn ask(&self, key: &StreamKey, what: Ask) {
        self.post(key.home(self.shards()), Mail::Ask { key: key.clone(), what });
    }

    /// What HLS has at `path` of a stream, asked of its home.
    pub async fn fetch(&self, key: &StreamKey, path: &str) -> Option<Content> {
        let post = |request| {
            let fetch = Mail::Fetch { key: key.clone(), path: path.to_owned(), request, from: self.index() };
            self.post(key.home(self.shards()), fetch);
        };
        self.fetches.ask(FETCH_TIME, post).await.flatten()
    }

    /// What those say who are asked at `event`.
    pub async fn consult(&self, event: Event, client: &Arc<Client>) -> Verdict {
        if !self.herald.is_wanted(&event, client) {
            return Verdict::Allowed;
        }
        let action = event.action();
        let post = |request| {
            let call = Box::new(Call { event, client: client.clone() });
            self.mesh.post(self.mesh.control(), Mail::Consult { call, request, from: self.index() });
        };
        self.consults.ask(CONSULT_TIME, post).await.unwrap_or(Verdict::Refused(Refusal::Rejected(action)))
    }

    // --- mail ------------------------------------------------------------------------------------------

    /// Posts mail, or acts on it at once where it is for this shard.
    pub fn post(&self, to: usize, mail: Mail) {
        if to == self.index() { self.handle(mail) } else { self.mesh.post(to, mail) }
    }

    /// Acts on mail. A panic on the way ends the stream that it is about, and nothing else.
    pub fn handle(&self, mail: Mail) {
        let key = mail.key().cloned();
        if catch_unwind(AssertUnwindSafe(|| self.act(mail))).is_err() {
            metrics::counter!("shardcast_session_panics_total").increment(1);
            error!("mail about {key:?} panicked, its stream here is dropped; please report this");
            if let Some(mut stream) = key.and_then(|key| self.streams.borrow_mut().remove(&key)) {
                stream.abort();
            }
        }
    }

    fn act(&self, mail: Mail) {
        match mail {
            Mail::Publish(publication) => self.publish_here(*publication),
            Mail::Verdict { session, verdict } => {
                if let Some(waiting) = self.verdicts.borrow().get(&session) {
                    // Its one place is free: a session asks once at a time.
                    let _ = waiting.try_send(verdict);
                }
            }
            Mail::Media { key, publisher, batch } => {
                self.with_known(&key, |stream| {
                    stream.take(publisher, batch);
                    self.pass_on(stream);
                });
            }
            Mail::Unpublish { key, publisher } => {
                let grace = self.config().vhost(key.vhost()).map(|vhost| vhost.republish_grace).unwrap_or_default();
                self.with_known(&key, |stream| stream.unpublish(publisher, grace, &self.mesh));
                self.forget_unused(&key);
                self.wake();
            }
            Mail::Subscribe { key, from } => {
                let config = self.config();
                let Some(vhost) = config.vhost(key.vhost()).filter(|_| !self.is_full(&key)) else { return };
                self.with_stream(&key, vhost, |stream| stream.subscribe(from, &self.mesh));
                self.wake();
            }
            Mail::Unsubscribe { key, from } => {
                self.with_known(&key, |stream| stream.unsubscribe(from));
                self.forget_unused(&key);
            }
            Mail::Units { key, batch } => {
                self.with_known(&key, |stream| {
                    stream.mirror(batch);
                    self.pass_on(stream);
                });
            }
            Mail::Published { key } => self.with_known(&key, Stream::published),
            Mail::Unpublished { key, over } => {
                self.with_known(&key, |stream| stream.unpublished(over));
                self.wake();
            }
            Mail::Fetch { key, path, request, from } => {
                let mut streams = self.streams.borrow_mut();
                let stream = streams.get_mut(&key);
                let content = stream.and_then(|stream| {
                    let content = stream.hls()?.content(&path)?;
                    // The control shard gives it to a viewer.
                    if from == self.mesh.control() {
                        let [received, sent] = self.moved.get();
                        self.moved.set([received, sent + content.bytes().len() as u64]);
                        stream.sent_before += content.bytes().len() as u64;
                    }
                    Some(content)
                });
                drop(streams);
                self.post(from, Mail::Fetched { request, content });
            }
            Mail::Consulted { request, verdict } => self.consults.answer(request, verdict),
            Mail::Fetched { request, content } => self.fetches.answer(request, content),
            Mail::Ask { key, what: Ask::Opus } => {
                self.with_known(&key, |stream| stream.wants_opus(Instant::now()));
                self.wake();
            }
            Mail::Ask { key, what: Ask::Keyframe } => {
                let streams = self.streams.borrow();
                let publication = streams.get(&key).and_then(Stream::publication);
                if let Some(publisher) = publication.filter(|p| p.request.client == Kind::RtcPublish) {
                    self.mesh.post(self.mesh.control(), Mail::Keyframe { number: publisher.publisher() });
                }
            }
            Mail::Accepted { door, fd, peer } => {
                if let Some(shard) = self.me.upgrade()
                    && let Err(error) = accept::welcome(&shard, door, sys::adopt(fd), peer)
                {
                    info!("connection of {peer} was gone before it was served: {error}");
                }
            }
            Mail::Keyframe { number } => self.rtc.ask_keyframe(number),
            Mail::Settle { prepared, socket, source, bytes } => {
                if let Some(shard) = self.me.upgrade() {
                    rtc::settle(&shard, *prepared, socket, source, &bytes);
                }
            }
            Mail::Datagram { socket, source, bytes, via } => rtc::take(self, socket, source, &bytes, Some(via)),
            Mail::Way { source, to } => self.rtc.lead(source, to),
            Mail::HangUp { number } => self.rtc.hang_up(number),
            Mail::Snapshot { request } => {
                let snapshot = Box::new(self.snapshot());
                self.post(self.mesh.control(), Mail::Shard { request, snapshot });
            }
            Mail::Clients { request } => {
                let (shard, clients) = (self.index(), self.clients());
                self.post(self.mesh.control(), Mail::ClientList { request, shard, clients });
            }
            Mail::Kick { id } => {
                // It may have left meanwhile.
                if let Some(client) = self.connections.borrow().values().find(|connection| connection.id == id) {
                    metrics::counter!("shardcast_clients_kicked_total").increment(1);
                    client.close("kicked through the API".into());
                }
            }
            Mail::Configure(change) => self.configure(*change),
            Mail::Drain => {
                self.draining.set(true);
                self.doors.keep(|_| false);
                let connections: Vec<_> = self.connections.borrow().values().cloned().collect();
                connections.iter().for_each(|connection| self.part(connection));
            }
            Mail::Quit => {
                for connection in self.connections.borrow().values() {
                    connection.close("the server is ending".into());
                }
                if let Some(quit) = &*self.quit.borrow() {
                    let _ = quit.try_send(());
                }
            }
            Mail::Http(_)
            | Mail::Shard { .. }
            | Mail::ClientList { .. }
            | Mail::Consult { .. }
            | Mail::Claim { .. }
            | Mail::Left { .. } => {
                warn!("mail for the control shard came to shard {}", self.index())
            }
        }
    }

    /// Tells a peer that the server begins to end, where it can be told.
    fn part(&self, connection: &Rc<Connection>) {
        let Some(parting) = connection.parting.take() else { return };
        connection.say(&parting);
        match connection.part.borrow().as_deref() {
            Some(Part { key, wire: Some(wire), .. }) => self.hurry(connection, key, *wire),
            // What the kernel does not take now goes with the next answer.
            _ => drop(connection.flush(None)),
        }
        info!(cid = %connection.id, "{} is asked to reconnect", connection.peer.get());
        metrics::counter!("shardcast_reconnect_requests_total").increment(1);
    }

    /// Takes over what an operator changed; who is not concerned does not notice.
    fn configure(&self, change: Change) {
        let old = self.config.replace(change.config.clone());
        let new = change.config;
        self.connections_max.set(change.connections_max);
        self.doors.keep(|door| change.doors.contains(door));
        if let Some(shard) = self.me.upgrade().filter(|_| !self.draining.get()) {
            change.opened.into_iter().for_each(|(door, listener)| accept::open(&shard, door, listener));
        }
        for connection in self.connections.borrow().values() {
            let serves = |key: &StreamKey| new.vhost(key.vhost()).is_some_and(|vhost| vhost.name == key.vhost());
            if let Some(part) = connection.part.borrow().as_ref().filter(|part| !serves(&part.key)) {
                connection.close(format!("vhost {} is not served any more", part.key.vhost()));
            }
        }
        for stream in self.streams.borrow_mut().values_mut() {
            let name = stream.key.vhost().to_owned();
            if let (Some(old), Some(new)) = (old.vhost(&name), new.vhost(&name)) {
                self.adapt(stream, old, new);
            }
        }
    }

    /// Who watches goes on; what is made of the stream for others begins anew where its settings changed.
    fn adapt(&self, stream: &mut Stream, old: &Vhost, new: &Vhost) {
        stream.ring.set_policy(policy(new));
        for (wire, audience) in Wire::ALL.into_iter().zip(&mut stream.audiences) {
            if let Some(audience) = audience {
                audience.set_window(window(new, wire));
            }
        }
        if old.hls != new.hls {
            let hls = new.hls.enabled.then(|| Hls::new(&stream.key, &new.hls, &self.files, self.herald.clone()));
            stream.repackage(hls);
        }
        if old.dvr != new.dvr {
            stream.finish_recording();
            if let Some(client) = stream.publication().map(|publication| Arc::new(Client::of(publication))) {
                self.record(stream, client, new);
            }
        }
    }

    /// Hands a connection that asks for something else than a stream to the control shard.
    pub fn hand_over(&self, handover: Handover) {
        self.mesh.post(self.mesh.control(), Mail::Http(handover));
    }

    // --- the hand --------------------------------------------------------------------------------------

    /// One turn: tapes, viewers, subscribers. How long the hand may rest; `None` where there is nobody to serve.
    pub fn tick(&self, elapsed: Duration) -> Option<Duration> {
        self.ticks.set(self.ticks.get() + 1);
        let now = Instant::now();
        let busy = self.mesh.flush() | self.rtc.tick(now) | self.reads.are_many();
        let mut pace = busy.then_some(TICK);
        let (mut asks, mut viewers) = (Vec::new(), 0);
        let law = self.law.borrow().window();
        let mut streams = self.streams.borrow_mut();
        for stream in streams.values_mut().filter(|stream| stream.is_attended()) {
            let wanted = stream.pace(law);
            pace = Some(pace.map_or(wanted, |pace| pace.min(wanted)));
            viewers += stream.audiences.iter().flatten().map(|audience| audience.len()).sum::<usize>();
            stream.listen();
            stream.forward(&self.mesh);
            if let Some(rtp) = &mut stream.rtp {
                let (key, ring) = (&stream.key, &stream.ring);
                match guarded(key, || rtp.tick(key, ring, now)) {
                    Some(true) => asks.push(key.clone()),
                    Some(false) => {}
                    None => {
                        rtp.abort();
                        stream.rtp = None;
                    }
                }
            }
        }
        self.serve(elapsed, now, streams.values_mut());
        self.law.borrow_mut().settle(viewers);
        drop(streams);
        let pace = pace.or(self.reads.are_awaited().then_some(TICK));
        self.reads.set_pace(pace.unwrap_or_default());
        self.look_at_lateness(elapsed, pace);
        for key in asks {
            self.ask(&key, Ask::Keyframe);
        }
        pace
    }

    /// What a stream brought goes out at once where there is time for that and somebody to take it, else on the next
    /// tick.
    fn pass_on(&self, stream: &mut Stream) {
        if !stream.is_attended() {
            return;
        }
        let (idle, law) = (self.law.borrow().is_idle(), self.law.borrow().window());
        if idle && stream.pace(law) <= TICK {
            stream.forward(&self.mesh);
            self.serve(Duration::ZERO, Instant::now(), std::iter::once(stream));
        }
        self.wake();
    }

    /// Moves the hands of audiences on, and measures what that costs.
    fn serve<'s>(&self, elapsed: Duration, now: Instant, streams: impl Iterator<Item = &'s mut Stream>) {
        let law = self.law.borrow().window();
        let turn = Turn { tick: self.ticks.get(), elapsed, now, law, greet_until: now + GREETING };
        let before = sys::thread_time();
        let mut turns = 0;
        for Stream { key, ring, audiences, .. } in streams {
            for slot in audiences {
                // Without viewers a tape stands still.
                let Some(audience) = slot.as_mut().filter(|audience| !audience.is_empty()) else { continue };
                match guarded(key, || audience.tick(ring, turn)) {
                    Some(served) => turns += served,
                    None => {
                        audience.abort();
                        *slot = None;
                    }
                }
            }
        }
        if turns > 0
            && let (Ok(before), Ok(after)) = (before, sys::thread_time())
        {
            self.law.borrow_mut().note(after.saturating_sub(before), turns);
        }
    }

    pub fn wake(&self) {
        if let Some(awake) = &*self.awake.borrow() {
            // Full means that it is awake already.
            let _ = awake.try_send(());
        }
    }

    pub fn on_wake(&self, sender: LocalSender<()>) {
        *self.awake.borrow_mut() = Some(sender);
    }

    pub fn on_quit(&self, sender: LocalSender<()>) {
        *self.quit.borrow_mut() = Some(sender);
    }

    /// No room for another stream than those that are here.
    pub fn is_full(&self, key: &StreamKey) -> bool {
        let streams = self.streams.borrow();
        streams.len() >= STREAMS && !streams.contains_key(key)
    }

    fn publish_here(&self, publication: Publication) {
        let (shard, session) = (publication.shard, publication.session);
        let config = self.config();
        let verdict = match config.vhost(publication.key.vhost()) {
            None => Verdict::Refused(Refusal::NoVhost(publication.key.vhost().into())),
            Some(_) if self.is_full(&publication.key) => {
                Verdict::Refused(Refusal::Other("the server has too many streams".into()))
            }
            Some(vhost) => self.with_stream(&publication.key.clone(), vhost, |stream| {
                let client = Arc::new(Client::of(&publication));
                match stream.publish(publication, vhost.rtc, &self.mesh) {
                    Ok(()) => {
                        if vhost.hls.enabled {
                            stream.package(&client, |key| Hls::new(key, &vhost.hls, &self.files, self.herald.clone()));
                        }
                        self.record(stream, client, vhost);
                        Verdict::Allowed
                    }
                    Err(holder) => Verdict::Refused(Refusal::StreamBusy(format!("{} ({holder})", stream.key))),
                }
            }),
        };
        self.post(shard, Mail::Verdict { session, verdict });
    }

    /// At home: records the stream from its next unit on, where the vhost wants that.
    fn record(&self, stream: &mut Stream, client: Arc<Client>, vhost: &Vhost) {
        if vhost.dvr.applies_to(&stream.key)
            && let Role::Home(home) = &mut stream.role
        {
            home.recorder = self.recorder(&stream.key, client, vhost, stream.ring.next());
        }
    }

    /// A recorder from the ring's unit `next` on, with the thread that writes its files.
    fn recorder(&self, key: &StreamKey, client: Arc<Client>, vhost: &Vhost, next: u64) -> Option<Recorder> {
        let mut slot = self.disk.borrow_mut();
        if slot.is_none() {
            match Disk::start(format!("disk-{}", self.index()), self.herald.clone()) {
                Ok(disk) => *slot = Some(Rc::new(disk)),
                Err(wrong) => error!(cid = %client.id, "{key} is not recorded: start a thread: {wrong}"),
            }
        }
        let disk = slot.clone()?;
        Some(Recorder::new(key.clone(), client, Rc::new(vhost.dvr.clone()), disk, next))
    }

    /// At the end: finishes all recordings, and gives the disk some time to have them.
    pub async fn finish_recordings(&self, limit: Duration) {
        self.streams.borrow_mut().values_mut().for_each(Stream::finish_recording);
        let Some(disk) = self.disk.borrow_mut().take() else { return };
        disk.end();
        let deadline = Instant::now() + limit;
        while !disk.has_ended() {
            if Instant::now() >= deadline {
                error!("the disk is too slow: recordings of shard {} are cut off", self.index());
                return;
            }
            glommio::timer::sleep(Duration::from_millis(5)).await;
        }
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
        if let Role::Mirror { home } = stream.role {
            self.mesh.post(home, Mail::Unsubscribe { key: stream.key.clone(), from: self.index() });
        }
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
                self.mesh.post(home, Mail::Subscribe { key: key.clone(), from: self.index() });
                Role::Mirror { home }
            };
            Stream::new(key.clone(), policy(vhost), role)
        });
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

/// Serves viewers of a stream; `None` where that panicked, which is told.
fn guarded<R>(key: &StreamKey, serve: impl FnOnce() -> R) -> Option<R> {
    let served = catch_unwind(AssertUnwindSafe(serve)).ok();
    if served.is_none() {
        error!("{key} panicked while it was sent, its viewers are closed; please report this");
        metrics::counter!("shardcast_session_panics_total").increment(1);
    }
    served
}

/// The audience by `wire`, with a tape of `ring`, made where it is not there.
fn audience<'a>(slot: &'a mut Option<Box<Audience>>, ring: &Ring, wire: Wire, vhost: &Vhost) -> &'a mut Audience {
    slot.get_or_insert_with(|| {
        let time = ring.oldest_time();
        Box::new(Audience::new(Tape::new(wire.format(vhost, time), ring), window(vhost, wire), wire.end(time)))
    })
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

/// How long frames for viewers by `wire` may gather.
fn window(vhost: &Vhost, wire: Wire) -> Window {
    let at_once = vhost.min_latency || wire == Wire::Srt;
    Window { longest: if at_once { Duration::ZERO } else { vhost.mw_latency }, adapts: vhost.mw_adaptive }
}

/// Eight random characters of [a-z0-9].
pub fn random_id() -> String {
    let mut bytes = [0u8; 8];
    // The kernel's generator works on every system that has io_uring.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[usize::from(*byte) % 36])).collect()
}
