//! The WebRTC port of a media shard: whose packet it is, and the sessions that live here.
//!
//! A session is prepared on the control shard, which answered the offer. The first STUN request that proves to
//! know its password brings it to the shard where that arrived; there it stays. What arrives for it elsewhere,
//! once its peer changes address, is forwarded.

use super::{guarded, seat::Seat};
use crate::{
    connection::{Connection, Part},
    hooks::Farewell,
    mesh::Mail,
    net::{datagram, link::Link, peer::Peer, sys},
    shard::Shard,
};
use bytes::Bytes;
use glommio::{spawn_local, yield_if_needed};
use shardcast_engine::{codec::Kind, key::StreamKey};
use shardcast_protocols::{
    rtc::{Session, stun},
    session::Request,
};
use std::{
    cell::RefCell,
    collections::HashMap,
    net::{SocketAddr, UdpSocket},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{error, info};

/// Requests of strangers that are being asked about.
const CLAIMS: usize = 1024;
/// So long one address is asked about once.
const CLAIM_TIME: Duration = Duration::from_millis(500);
/// Addresses that one session may have come from.
const ADDRESSES: usize = 16;
/// Addresses whose session lives elsewhere.
const ABROAD: usize = 100_000;
/// A way that was not used for so long is forgotten.
const WAY_TIME: Duration = Duration::from_secs(60);

/// A session that was answered and waits for its peer.
pub struct Prepared {
    /// Names the session in the process; a publisher's number.
    pub number: u64,
    /// Names it in logs and the API.
    pub id: String,
    pub ufrag: String,
    pub key: StreamKey,
    pub request: Arc<Request>,
    pub session: Session,
    pub told: Farewell,
}

/// Where packets come from that are no strangers.
#[derive(Clone, Copy)]
enum Way {
    /// To the session of this number here.
    Here(u64),
    /// To another shard.
    There { shard: usize, used: Instant },
}

/// The sessions of one shard.
#[derive(Default)]
pub struct Port {
    sockets: RefCell<Vec<Rc<UdpSocket>>>,
    ways: RefCell<HashMap<SocketAddr, Way>>,
    members: RefCell<HashMap<u64, Member>>,
    ufrags: RefCell<HashMap<String, u64>>,
    claims: RefCell<HashMap<SocketAddr, Instant>>,
}

struct Member {
    ufrag: String,
    peer: Rc<Peer>,
    addresses: Vec<SocketAddr>,
    /// How often the publisher is asked for a keyframe, and when next.
    keyframes: Option<(Duration, Instant)>,
}

/// Runs for ever.
pub async fn run(shard: Rc<Shard>, udp: UdpSocket) {
    let incoming = match udp.try_clone() {
        Ok(incoming) => sys::adopt_datagrams(incoming),
        Err(error) => return error!("WebRTC is off on this shard: {error}"),
    };
    let socket = {
        let mut sockets = shard.rtc.sockets.borrow_mut();
        sockets.push(Rc::new(udp));
        sockets.len() - 1
    };
    datagram::receive(incoming, "WebRTC", |bytes, source| take(&shard, socket, source, bytes, None)).await;
}

/// A packet that arrived here, or on shard `via`.
pub fn take(shard: &Shard, socket: usize, source: SocketAddr, bytes: &[u8], via: Option<usize>) {
    let port = &shard.rtc;
    let now = Instant::now();
    let asked = stun::asked_ufrag(bytes);
    let way = port.ways.borrow().get(&source).copied();
    match (way, asked) {
        // A peer's address may become another's: STUN tells whose it is.
        (Some(Way::Here(number)), _) if asked.is_none_or(|ufrag| port.is_named(number, ufrag)) => {
            if let Some(peer) = port.peer(number) {
                peer.input(now, source, bytes);
            }
        }
        (Some(Way::There { shard: to, .. }), None) => {
            port.ways.borrow_mut().insert(source, Way::There { shard: to, used: now });
            shard.post(to, Mail::Datagram { socket, source, bytes: Bytes::copy_from_slice(bytes), via: shard.index() });
        }
        (_, Some(ufrag)) => {
            let known = port.ufrags.borrow().get(ufrag).copied();
            let Some((number, peer)) = known.and_then(|number| Some((number, port.peer(number)?))) else {
                if via.is_none() && port.may_claim(now, source) {
                    let (ufrag, bytes) = (ufrag.to_owned(), Bytes::copy_from_slice(bytes));
                    let claim = Mail::Claim { ufrag, socket, source, bytes, from: shard.index() };
                    shard.post(shard.shards(), claim);
                }
                return;
            };
            if peer.accepts(now, source, bytes) {
                port.open(number, source);
                if let Some(via) = via {
                    shard.post(via, Mail::Way { source, to: shard.index() });
                }
                peer.input(now, source, bytes);
            }
        }
        // A stranger's.
        (_, None) => {}
    }
}

/// A session comes to live here, with the request that brought it.
pub fn settle(shard: &Rc<Shard>, prepared: Prepared, socket: usize, source: SocketAddr, bytes: &[u8]) {
    let Prepared { number, id, ufrag, key, request, session, told } = prepared;
    let port = &shard.rtc;
    let publishes = matches!(session, Session::Publisher(_));
    let config = shard.config();
    let admitted = (|| {
        let vhost = config.vhost(key.vhost())?;
        let udp = port.sockets.borrow().get(socket)?.clone();
        let peer = Rc::new(Peer::new(udp, session, vhost.rtc.stun_timeout));
        let connection = shard.admit_as(id, Link::Rtc(peer.clone()), source)?;
        Some((vhost, peer, connection))
    })();
    let Some((vhost, peer, connection)) = admitted else {
        shard.post(shard.shards(), Mail::Left { number });
        if publishes {
            shard.unpublish(&key, number);
        }
        return;
    };
    let every = vhost.rtc.pli_for_rtmp;
    let keyframes = (publishes && vhost.rtc.rtc_to_rtmp).then(|| (every, Instant::now() + every));
    port.claims.borrow_mut().remove(&source);
    port.ufrags.borrow_mut().insert(ufrag.clone(), number);
    let member = Member { ufrag, peer: peer.clone(), addresses: Vec::new(), keyframes };
    port.members.borrow_mut().insert(number, member);
    port.open(number, source);
    let begins = Begins { number, part: Part { key, request, publishes, wire: None }, told };
    spawn_local(guard(shard.clone(), connection, peer.clone(), begins)).detach();
    peer.input(Instant::now(), source, bytes);
    shard.wake();
}

impl Port {
    fn peer(&self, number: u64) -> Option<Rc<Peer>> {
        self.members.borrow().get(&number).map(|member| member.peer.clone())
    }

    fn is_named(&self, number: u64, ufrag: &str) -> bool {
        self.members.borrow().get(&number).is_some_and(|member| member.ufrag == ufrag)
    }

    /// Packets from `source` are for session `number` from now on.
    fn open(&self, number: u64, source: SocketAddr) {
        let mut members = self.members.borrow_mut();
        let Some(member) = members.get_mut(&number) else { return };
        if member.addresses.contains(&source)
            && matches!(self.ways.borrow().get(&source), Some(Way::Here(n)) if *n == number)
        {
            return;
        }
        if member.addresses.len() >= ADDRESSES {
            self.ways.borrow_mut().remove(&member.addresses.remove(0));
        }
        member.addresses.push(source);
        self.ways.borrow_mut().insert(source, Way::Here(number));
    }

    /// Packets from `source` belong to a session of another shard.
    pub fn lead(&self, source: SocketAddr, to: usize) {
        self.claims.borrow_mut().remove(&source);
        let mut ways = self.ways.borrow_mut();
        if ways.len() < ABROAD {
            ways.insert(source, Way::There { shard: to, used: Instant::now() });
        }
    }

    fn may_claim(&self, now: Instant, source: SocketAddr) -> bool {
        let mut claims = self.claims.borrow_mut();
        let open = claims.get(&source).is_some_and(|since| now.saturating_duration_since(*since) < CLAIM_TIME);
        if open || claims.len() >= CLAIMS && !claims.contains_key(&source) {
            metrics::counter!("shardcast_rtc_claims_dropped_total").increment(1);
            return false;
        }
        claims.insert(source, now);
        true
    }

    /// Every session's clock. True while there are any.
    pub fn tick(&self, now: Instant) -> bool {
        let mut members = self.members.borrow_mut();
        for member in members.values_mut() {
            member.peer.tick(now);
            if let Some((every, next)) = &mut member.keyframes
                && *next <= now
            {
                *next = now + *every;
                member.peer.ask_keyframe(now);
            }
        }
        !members.is_empty()
    }

    /// Once a second.
    pub fn sweep(&self, now: Instant) {
        self.claims.borrow_mut().retain(|_, since| now.saturating_duration_since(*since) < CLAIM_TIME);
        self.ways.borrow_mut().retain(|_, way| match way {
            Way::Here(_) => true,
            Way::There { used, .. } => now.saturating_duration_since(*used) < WAY_TIME,
        });
    }

    /// A viewer wants a keyframe of the publisher with this number.
    pub fn ask_keyframe(&self, number: u64) {
        if let Some(peer) = self.peer(number) {
            peer.ask_keyframe(Instant::now());
        }
    }

    /// Its owner is done with it.
    pub fn hang_up(&self, number: u64) {
        if let Some(peer) = self.peer(number) {
            peer.end("its client took leave");
        }
    }

    fn remove(&self, number: u64) {
        let Some(member) = self.members.borrow_mut().remove(&number) else { return };
        self.ufrags.borrow_mut().remove(&member.ufrag);
        let mut ways = self.ways.borrow_mut();
        for address in member.addresses {
            if matches!(ways.get(&address), Some(Way::Here(n)) if *n == number) {
                ways.remove(&address);
            }
        }
    }
}

/// What a session begins with.
struct Begins {
    number: u64,
    part: Part,
    told: Farewell,
}

/// Serves a session to its end; a panic ends it and nothing else.
async fn guard(shard: Rc<Shard>, connection: Rc<Connection>, peer: Rc<Peer>, begins: Begins) {
    let number = begins.number;
    info!(cid = %connection.id, "WebRTC connection from {}", connection.peer.get());
    guarded(&connection, serve(&shard, &connection, &peer, begins)).await;
    connection.received.set(peer.received.get());
    connection.sent.set(peer.sent.get());
    account(&connection, &peer);
    if let Some(why) = peer.over() {
        connection.close(why);
    }
    peer.shutdown();
    shard.rtc.remove(number);
    shard.post(shard.shards(), Mail::Left { number });
}

/// What came of a publisher's packets.
fn account(connection: &Connection, peer: &Peer) {
    for (kind, name) in [(Kind::Video, "video"), (Kind::Audio, "audio")] {
        let Some(stats) = peer.publisher(|publisher| publisher.stats(kind)) else { return };
        let received = stats.received;
        let count = |metric: &'static str, count| metrics::counter!(metric, "kind" => name).increment(count);
        count("shardcast_rtc_packets_received_total", received.packets);
        count("shardcast_rtc_packets_lost_total", received.lost);
        count("shardcast_rtc_nacks_sent_total", stats.nacks);
        count("shardcast_rtc_keyframe_requests_total", stats.keyframe_requests);
        info!(
            cid = %connection.id,
            "{name}: {} packets, {} lost, {} late, {} unreadable, {} frames left out; {} asked for again, {} keyframes \
             asked for",
            received.packets, received.lost, received.late, received.wrong, received.dropped, stats.nacks,
            stats.keyframe_requests,
        );
    }
}

async fn serve(shard: &Rc<Shard>, connection: &Rc<Connection>, peer: &Rc<Peer>, begins: Begins) {
    let Begins { number, part, told } = begins;
    let mut seat = Seat::new(shard, connection);
    if part.publishes {
        seat.adopt(part, number, told);
    } else {
        seat.watch(part, peer, told);
    }
    loop {
        let batch = peer.media().await;
        if batch.is_empty() {
            return;
        }
        connection.received.set(peer.received.get());
        connection.sent.set(peer.sent.get());
        seat.bring(batch).await;
        yield_if_needed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_strangers_are_asked_about_each_once_in_a_while() {
        let (port, now) = (Port::default(), Instant::now());
        let claim = |n: usize, now| port.may_claim(now, SocketAddr::from(([192, 0, 2, 1], n as u16)));
        assert!((0..CLAIMS).all(|n| claim(n, now)));
        assert!(!claim(0, now) && !claim(CLAIMS, now));
        let later = now + CLAIM_TIME;
        assert!(claim(0, later) && !claim(CLAIMS, later));
        port.sweep(later);
        assert!(claim(CLAIMS, later) && !claim(0, later));
    }
}
