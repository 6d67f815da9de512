//! The SRT port of a media shard: its sessions, publishers and viewers alike.

use super::{
    guarded,
    seat::{self, Seat},
};
use crate::{
    access::Deed,
    connection::Connection,
    net::{datagram, link::Link, outlet::Outlet, sys},
    pause::pause,
    shard::Shard,
    stream::Wire,
};
use glommio::{channels::local_channel, spawn_local, yield_if_needed};
use shardcast_protocols::{
    session::{Client, Request, Verdict},
    srt::{
        Caller, Heard, Listener, Rejection, Settings, packet,
        stream_id::{self, Mode},
    },
    ts::TsReader,
};
use socket2::SockRef;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{error, info};

/// How often the sessions' clocks are looked at while there are any.
const TICK: Duration = Duration::from_millis(10);

struct Port {
    shard: Rc<Shard>,
    udp: Rc<UdpSocket>,
    listener: Listener,
    /// By our socket id.
    sessions: RefCell<HashMap<u32, Member>>,
    /// Our socket id, by the caller's address and its own: handshakes come again.
    callers: RefCell<HashMap<(SocketAddr, u32), u32>>,
    next_id: Cell<u32>,
    /// An address of this machine, for the URL that callers do not say.
    host: IpAddr,
}

struct Member {
    outlet: Rc<Outlet>,
    /// The caller's socket id.
    socket: u32,
    /// What its handshake was answered with.
    answer: Vec<u8>,
}

/// Runs for ever.
pub async fn run(shard: Rc<Shard>, udp: UdpSocket) {
    let config = &shard.config().srt_server;
    let settings = Settings {
        passphrase: config.passphrase.clone(),
        recv_latency: config.recv_latency,
        peer_latency: config.peer_latency,
        peer_idle_timeout: config.peer_idle_timeout,
        connect_timeout: config.connect_timeout,
        key_size: config.key_size,
        bandwidth: config.bandwidth,
        too_late_drop: config.too_late_drop,
        send_buffer: config.send_buffer,
        recv_buffer: config.recv_buffer,
    };
    let mut secret = [0; 32];
    if let Err(error) = getrandom::fill(&mut secret) {
        return error!("SRT is off on this shard: no random bytes: {error}");
    }
    let incoming = match udp.try_clone() {
        Ok(incoming) => sys::adopt_datagrams(incoming),
        Err(error) => return error!("SRT is off on this shard: {error}"),
    };
    let interfaces = sys::interface_addresses().unwrap_or_default();
    let host = interfaces.into_iter().find(|ip| ip.is_ipv4() && !ip.is_loopback());
    let port = Rc::new(Port {
        host: host.unwrap_or(Ipv4Addr::LOCALHOST.into()),
        listener: Listener::new(Instant::now(), secret, settings),
        udp: Rc::new(udp),
        sessions: RefCell::default(),
        callers: RefCell::default(),
        // The top byte names the shard, so that no two sessions of the process share an id.
        next_id: Cell::new((shard.index() as u32 & 0x3f) << 24 | 1),
        shard,
    });
    let (awake, sleeper) = local_channel::new_bounded(1);
    let clock = port.clone();
    spawn_local(async move {
        while sleeper.recv().await.is_some() {
            while clock.tick(Instant::now()) {
                pause(TICK).await;
            }
        }
    })
    .detach();
    datagram::receive(incoming, "SRT", |bytes, peer| {
        // Full means that it is awake already.
        let _ = awake.try_send(());
        port.take(bytes, peer);
    })
    .await;
}

impl Port {
    fn take(self: &Rc<Self>, bytes: &[u8], peer: SocketAddr) {
        let now = Instant::now();
        let to = packet::destination(bytes).unwrap_or_default();
        let member = self.sessions.borrow().get(&to).map(|member| member.outlet.clone());
        if let Some(outlet) = member {
            if outlet.peer() == peer {
                outlet.input(now, bytes);
            }
            return;
        }
        if !packet::is_handshake(bytes) {
            return;
        }
        match self.listener.hear(now, bytes, peer) {
            Heard::Answer(answer) => self.send(&answer, peer),
            Heard::Caller(caller) => self.welcome(now, &caller),
            Heard::Nothing => {}
        }
    }

    fn welcome(self: &Rc<Self>, now: Instant, caller: &Caller) {
        let known = self.callers.borrow().get(&(caller.from, caller.socket)).copied();
        if let Some(member) = known.and_then(|id| self.sessions.borrow().get(&id).map(|member| member.answer.clone())) {
            return self.send(&member, caller.from);
        }
        if let Err(why) = self.admit(now, caller) {
            metrics::counter!("shardcast_session_errors_total", "protocol" => "srt").increment(1);
            info!("SRT caller {} refused: {why}", caller.from);
            self.send(&caller.reject(&why), caller.from);
        }
    }

    fn admit(self: &Rc<Self>, now: Instant, caller: &Caller) -> Result<(), Rejection> {
        let config = self.shard.config();
        let (mode, mut request) = stream_id::parse(&caller.stream_id, &config.srt_server.defaults)
            .map_err(|error| Rejection::BadRequest(error.to_string()))?;
        request.tc_url = format!("srt://{}/{}", self.host, request.app);
        request.client = if mode == Mode::Publish { Client::SrtPublish } else { Client::SrtPlay };
        let Some(vhost) = config.vhost(&request.vhost).filter(|vhost| vhost.srt_enabled) else {
            return Err(Rejection::Forbidden(format!("vhost {:?} serves no SRT", request.vhost)));
        };
        if mode == Mode::Play {
            self.shard.room_here("srt", &seat::key(vhost, &request), caller.from).map_err(|_| Rejection::Overload)?;
        }
        let id = self.next_id();
        let (session, answer) = self.listener.accept(now, caller, id)?;
        let outlet = Rc::new(Outlet::new(self.udp.clone(), caller.from, session));
        let connection = self.shard.admit(Link::Srt(outlet.clone()), caller.from).ok_or(Rejection::Overload)?;
        self.send(&answer, caller.from);
        self.callers.borrow_mut().insert((caller.from, caller.socket), id);
        self.sessions.borrow_mut().insert(id, Member { outlet, socket: caller.socket, answer });
        spawn_local(guard(self.shard.clone(), connection, mode, Arc::new(request))).detach();
        Ok(())
    }

    fn next_id(&self) -> u32 {
        loop {
            let id = self.next_id.get();
            self.next_id.set(id & 0xff00_0000 | (id + 1) & 0x00ff_ffff);
            if id & 0x00ff_ffff != 0 && !self.sessions.borrow().contains_key(&id) {
                return id;
            }
        }
    }

    /// False where there are no sessions.
    fn tick(&self, now: Instant) -> bool {
        let outlets: Vec<_> = self.sessions.borrow().iter().map(|(id, m)| (*id, m.outlet.clone())).collect();
        for (id, outlet) in outlets {
            outlet.tick(now);
            if outlet.is_over(now)
                && let Some(member) = self.sessions.borrow_mut().remove(&id)
            {
                self.callers.borrow_mut().remove(&(member.outlet.peer(), member.socket));
            }
        }
        !self.sessions.borrow().is_empty()
    }

    fn send(&self, packet: &[u8], peer: SocketAddr) {
        // Lost where the kernel has no room: the caller asks again.
        let _ = SockRef::from(&*self.udp).send_to_with_flags(packet, &peer.into(), libc::MSG_DONTWAIT);
    }
}

/// Serves a session to its end; a panic ends it and nothing else.
async fn guard(shard: Rc<Shard>, connection: Rc<Connection>, mode: Mode, request: Arc<Request>) {
    info!(cid = %connection.id, "SRT connection from {}", connection.peer.get());
    if let Some(Err(why)) = guarded(&connection, serve(&shard, &connection, mode, request)).await {
        metrics::counter!("shardcast_session_errors_total", "protocol" => "srt").increment(1);
        connection.close(why);
    }
    connection.socket.shutdown();
}

async fn serve(
    shard: &Rc<Shard>,
    connection: &Rc<Connection>,
    mode: Mode,
    request: Arc<Request>,
) -> Result<(), String> {
    let mut seat = Seat::new(shard, connection);
    let config = shard.config();
    let vhost = config.vhost(&request.vhost).ok_or("its vhost is gone")?;
    if mode == Mode::Play {
        if let Verdict::Refused(why) = seat.admit(vhost, Deed::Play, &request).await {
            return Err(why.to_string());
        }
        seat.play(vhost, &request, Wire::Srt);
        while connection.socket.read(&shard.buffer, <[u8]>::len).await.map_err(|e| e.to_string())?.is_some() {
            yield_if_needed().await;
        }
        return Ok(());
    }
    if let Verdict::Refused(why) = seat.publish(vhost, request).await {
        return Err(why.to_string());
    }
    let mut reader = TsReader::default();
    loop {
        let read = connection.socket.read(&shard.buffer, |bytes| {
            connection.received.set(connection.received.get() + bytes.len() as u64);
            reader.push(bytes);
        });
        let more = read.await.map_err(|error| error.to_string())?.is_some();
        if !more {
            reader.finish();
        }
        let mut batch = Vec::new();
        while let Some(media) = reader.next().map_err(|error| error.to_string())? {
            batch.push(media);
        }
        seat.bring(batch).await;
        if !more {
            return Ok(());
        }
        yield_if_needed().await;
    }
}
