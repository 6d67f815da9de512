//! Mail between shards: the only way from one to another.
//!
//! Each ordered pair of peers has one bounded channel. Mail leaves in order through an outbox: control
//! mail is never dropped, media are refused while the outbox is long, so that their cursor stops.

use crate::{
    config::Config,
    control::snapshot,
    hooks::{Call, Farewell},
    ingress::{accept::Door, rtc::Prepared},
    net::tls::Session,
    pause::pause,
    stream::Publication,
};
use bytes::Bytes;
use glommio::{
    channels::shared_channel::{self, ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender},
    spawn_local,
};
use shardcast_engine::{fanout::Unit, frame::Media, key::StreamKey};
use shardcast_protocols::{hls::Content, session::Verdict};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

/// Mails in one channel.
const CHANNEL: usize = 1024;
/// Media stop while more mails than this wait for a place in the channel.
const CONGESTED: usize = 64;

pub enum Mail {
    /// To the home: may this publisher have the stream?
    Publish(Box<Publication>),
    /// Back to the publisher's shard.
    Verdict {
        session: u64,
        verdict: Verdict,
    },
    /// To the home: what a publisher on another shard brought.
    Media {
        key: StreamKey,
        publisher: u64,
        batch: Vec<Media>,
    },
    /// To the home: the publisher is gone.
    Unpublish {
        key: StreamKey,
        publisher: u64,
    },
    /// To the home: what is to be told of a publisher once its recordings are.
    Farewell(Farewell),
    /// To the home: has it a place for this stream? The answer is a `Consulted`.
    Room {
        key: StreamKey,
        request: u64,
        from: usize,
    },
    /// To the home: this shard has viewers of the stream, or has them no more.
    Subscribe {
        key: StreamKey,
        number: u64,
        from: usize,
    },
    Unsubscribe {
        key: StreamKey,
        from: usize,
    },
    /// From the home to one that would subscribe under this number: it cannot.
    NoPlace {
        key: StreamKey,
        number: u64,
        why: &'static str,
    },
    /// From the home to a subscriber.
    Units {
        key: StreamKey,
        batch: Vec<Arc<Unit>>,
    },
    /// From the home to a subscriber: a publisher starts.
    Published {
        key: StreamKey,
    },
    /// From the home to a subscriber: the publisher is gone; `over`: for good.
    Unpublished {
        key: StreamKey,
        over: bool,
    },
    /// To the home: what does its HLS have at this path? And the answer.
    Fetch {
        key: StreamKey,
        path: String,
        request: u64,
        from: usize,
    },
    Fetched {
        request: u64,
        content: Option<Content>,
    },
    /// To the control shard: what do those say who are asked at this event? And the answer.
    Consult {
        call: Box<Call>,
        request: u64,
        from: usize,
    },
    Consulted {
        request: u64,
        verdict: Verdict,
    },
    /// To the home: this shard has viewers who need something of the stream. Opus is asked for each second.
    Ask {
        key: StreamKey,
        what: Ask,
    },
    /// To a shard that has less to do: a connection that was accepted at this door.
    Accepted {
        door: Door,
        fd: OwnedFd,
        peer: SocketAddr,
    },
    /// By way of the control shard: the WebRTC publisher of this number is to send a keyframe.
    Keyframe {
        number: u64,
    },
    /// To the control shard: a WebRTC peer named this session, which nobody here knows.
    Claim {
        ufrag: String,
        socket: usize,
        source: SocketAddr,
        bytes: Bytes,
        from: usize,
    },
    /// From the control shard: a session comes to live where its peer's packets arrive.
    Settle {
        prepared: Box<Prepared>,
        socket: usize,
        source: SocketAddr,
        bytes: Bytes,
    },
    /// To the shard of a WebRTC session: a packet that arrived at another, on this socket there.
    Datagram {
        socket: usize,
        source: SocketAddr,
        bytes: Bytes,
        via: usize,
    },
    /// From the shard of a WebRTC session: what comes from this address is for it.
    Way {
        source: SocketAddr,
        to: usize,
    },
    /// From the control shard: this WebRTC session is to end. And back: it has.
    HangUp {
        number: u64,
    },
    Left {
        number: u64,
    },
    /// From the control shard, and the answer.
    Snapshot {
        request: u64,
    },
    Shard {
        request: u64,
        snapshot: Box<snapshot::Shard>,
    },
    /// From the control shard, and the answer: who publishes and plays here.
    Clients {
        request: u64,
    },
    ClientList {
        request: u64,
        shard: usize,
        clients: Vec<snapshot::Client>,
    },
    /// From the control shard: the connection of this id is to end.
    Kick {
        id: String,
    },
    /// To the control shard: a connection that asks for something else than a stream.
    Http(Handover),
    /// From the control shard: what an operator changed.
    Configure(Box<Change>),
    /// From the control shard: the sessions that are here are the last.
    Drain,
    /// End all sessions and stop.
    Quit,
}

/// What viewers may need beside what a stream has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Its sound as Opus.
    Opus,
    /// A keyframe of a publisher who can be asked.
    Keyframe,
}

impl Mail {
    /// The stream that it is about.
    pub fn key(&self) -> Option<&StreamKey> {
        match self {
            Mail::Publish(publication) => Some(&publication.key),
            Mail::Media { key, .. }
            | Mail::Unpublish { key, .. }
            | Mail::Room { key, .. }
            | Mail::Subscribe { key, .. }
            | Mail::Unsubscribe { key, .. }
            | Mail::NoPlace { key, .. }
            | Mail::Units { key, .. }
            | Mail::Published { key }
            | Mail::Unpublished { key, .. }
            | Mail::Fetch { key, .. }
            | Mail::Ask { key, .. } => Some(key),
            Mail::Farewell(farewell) => Some(farewell.key()),
            Mail::Accepted { .. }
            | Mail::Keyframe { .. }
            | Mail::Claim { .. }
            | Mail::Settle { .. }
            | Mail::Datagram { .. }
            | Mail::Way { .. }
            | Mail::HangUp { .. }
            | Mail::Left { .. }
            | Mail::Verdict { .. }
            | Mail::Fetched { .. }
            | Mail::Consult { .. }
            | Mail::Consulted { .. }
            | Mail::Snapshot { .. }
            | Mail::Shard { .. }
            | Mail::Clients { .. }
            | Mail::ClientList { .. }
            | Mail::Kick { .. }
            | Mail::Http(_)
            | Mail::Configure(_)
            | Mail::Drain
            | Mail::Quit => None,
        }
    }
}

/// A configuration that comes into force.
pub struct Change {
    pub config: Arc<Config>,
    pub connections_max: usize,
    /// All that are open from now on,
    pub doors: Vec<Door>,
    /// and those of them that were not before.
    pub opened: Vec<(Door, TcpListener)>,
}

/// A connection on its way to another shard.
pub struct Handover {
    pub fd: OwnedFd,
    /// Its TLS, where it has that.
    pub session: Option<Session>,
    pub peer: SocketAddr,
    /// What was read from it already.
    pub read: Bytes,
}

/// The channel ends of one peer, before its executor runs.
pub struct Ends {
    senders: Vec<Option<SharedSender<Mail>>>,
    receivers: Vec<Option<SharedReceiver<Mail>>>,
}

/// The ends of `peers` peers, each connected to each other.
pub fn ends(peers: usize) -> Vec<Ends> {
    let mut ends: Vec<Ends> = (0..peers)
        .map(|_| Ends { senders: (0..peers).map(|_| None).collect(), receivers: (0..peers).map(|_| None).collect() })
        .collect();
    for from in 0..peers {
        for to in (0..peers).filter(|to| *to != from) {
            let (sender, receiver) = shared_channel::new_bounded(CHANNEL);
            ends[from].senders[to] = Some(sender);
            ends[to].receivers[from] = Some(receiver);
        }
    }
    ends
}

/// One peer's side of the mesh.
pub struct Mesh {
    index: usize,
    links: Vec<Option<Link>>,
    /// Frames sent to subscribers, each once per subscriber.
    pub frames_crossed: Cell<u64>,
}

struct Link {
    sender: ConnectedSender<Mail>,
    outbox: RefCell<VecDeque<Mail>>,
}

impl Mesh {
    /// Waits until every peer has connected. Returns the receivers, one per peer.
    pub async fn connect(index: usize, ends: Ends) -> (Self, Vec<ConnectedReceiver<Mail>>) {
        // Each end waits for the other. All at once: one by one, a machine with few CPUs takes seconds. And
        // with a timer running: an executor of glommio 0.9 may fall asleep over a peer that has not connected.
        let awake = spawn_local(async {
            loop {
                pause(Duration::from_millis(1)).await;
            }
        });
        let senders: Vec<_> =
            ends.senders.into_iter().map(|sender| sender.map(|sender| spawn_local(sender.connect()))).collect();
        let inboxes: Vec<_> =
            ends.receivers.into_iter().flatten().map(|receiver| spawn_local(receiver.connect())).collect();
        let mut links = Vec::new();
        for sender in senders {
            links.push(match sender {
                Some(connecting) => Some(Link { sender: connecting.await, outbox: RefCell::default() }),
                None => None,
            });
        }
        let mut receivers = Vec::new();
        for connecting in inboxes {
            receivers.push(connecting.await);
        }
        awake.cancel().await;
        (Self { index, links, frames_crossed: Cell::new(0) }, receivers)
    }

    pub fn index(&self) -> usize {
        self.index
    }

    /// The control shard: the last peer.
    pub fn control(&self) -> usize {
        self.links.len() - 1
    }

    /// Posts mail to another peer that must arrive.
    pub fn post(&self, to: usize, mail: Mail) {
        if let Some(link) = &self.links[to] {
            link.outbox.borrow_mut().push_back(mail);
            link.flush();
        }
    }

    /// Media for `to` would only wait.
    pub fn congested(&self, to: usize) -> bool {
        self.links[to].as_ref().is_some_and(|link| {
            link.flush();
            link.outbox.borrow().len() > CONGESTED
        })
    }

    /// Sends what found no place earlier. True while some still waits.
    pub fn flush(&self) -> bool {
        let mut waiting = false;
        for link in self.links.iter().flatten() {
            link.flush();
            waiting |= !link.outbox.borrow().is_empty();
        }
        waiting
    }
}

impl Link {
    fn flush(&self) {
        let mut outbox = self.outbox.borrow_mut();
        while let Some(mail) = outbox.pop_front() {
            use glommio::{GlommioError, ResourceType};
            match self.sender.try_send(mail) {
                Ok(()) => {}
                Err(GlommioError::WouldBlock(ResourceType::Channel(mail))) => {
                    outbox.push_front(mail);
                    break;
                }
                // The peer has stopped: the process is ending.
                Err(_) => outbox.clear(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch;
    use std::sync::mpsc;

    #[test]
    fn media_stop_where_a_shard_does_not_look_into_its_mail() {
        let mut ends = ends(2);
        let (other, one) = (ends.remove(1), ends.remove(0));
        let (done, sent) = mpsc::channel::<()>();
        let run = |name: &str| launch::executor::executor(name, None, 64);
        let other = run("other").spawn(move || async move {
            let (_mesh, receivers) = Mesh::connect(1, other).await;
            // Meanwhile it does nothing.
            let _ = sent.recv();
            let mut mails = 0;
            while receivers[0].recv().await.is_some() {
                mails += 1;
            }
            mails
        });
        let one = run("one").spawn(move || async move {
            let (mesh, _receivers) = Mesh::connect(0, one).await;
            let post = || mesh.post(1, Mail::Keyframe { number: 7 });
            let posted = (0..).take_while(|_| !mesh.congested(1)).map(|_| post()).count();
            // Other mail is never refused.
            post();
            drop(done);
            while mesh.flush() {
                pause(Duration::from_millis(1)).await;
            }
            assert!(!mesh.congested(1));
            posted
        });
        let (posted, mails) = (one.unwrap().join().unwrap(), other.unwrap().join().unwrap());
        assert_eq!((posted, mails), (CHANNEL + CONGESTED + 1, posted + 1));
    }
}
