//! Mail between shards: the only way from one to another.
//!
//! Each ordered pair of peers has one bounded channel. Mail leaves in order through an outbox: control
//! mail is never dropped, media are refused while the outbox is long, so that their cursor stops.

use crate::{control::snapshot, stream::Publication};
use bytes::Bytes;
use glommio::channels::shared_channel::{
    self, ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender,
};
use shardcast_engine::{fanout::Unit, frame::Media, key::StreamKey};
use shardcast_protocols::session::Verdict;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::Arc,
};

/// Mails in one channel.
const CHANNEL: usize = 1024;
/// Media stop while more mails than this wait for a place in the channel.
const CONGESTED: usize = 64;

pub enum Mail {
    /// To the home: may this publisher have the stream?
    Publish(Box<Publication>),
    /// Back to the publisher's shard.
    Verdict { session: u64, verdict: Verdict },
    /// To the home: what a publisher on another shard brought.
    Media { key: StreamKey, publisher: u64, batch: Vec<Media> },
    /// To the home: the publisher is gone.
    Unpublish { key: StreamKey, publisher: u64 },
    /// To the home: this shard has viewers of the stream, or has them no more.
    Subscribe { key: StreamKey, from: usize },
    Unsubscribe { key: StreamKey, from: usize },
    /// From the home to a subscriber.
    Units { key: StreamKey, batch: Vec<Arc<Unit>> },
    /// From the home to a subscriber: a publisher starts.
    Published { key: StreamKey },
    /// From the home to a subscriber: the publisher is gone.
    Unpublished { key: StreamKey },
    /// From the control shard, and the answer.
    Snapshot { request: u64 },
    Shard { request: u64, snapshot: Box<snapshot::Shard> },
    /// To the control shard: a connection that asks for something else than a stream.
    Http(Handover),
    /// End all sessions and stop.
    Quit,
}

/// A connection on its way to another shard.
pub struct Handover {
    pub fd: OwnedFd,
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
        .map(|_| Ends {
            senders: (0..peers).map(|_| None).collect(),
            receivers: (0..peers).map(|_| None).collect(),
        })
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
        let mut links = Vec::new();
        let mut receivers = Vec::new();
        // Both ends of a channel wait for each other, so all peers walk the pairs in one order.
        let peers = ends.senders.len();
        let (mut senders, mut inboxes) = (ends.senders, ends.receivers);
        links.resize_with(peers, || None);
        for low in 0..peers {
            for high in low + 1..peers {
                for (from, to) in [(low, high), (high, low)] {
                    if from == index
                        && let Some(sender) = senders[to].take()
                    {
                        let sender = sender.connect().await;
                        links[to] = Some(Link { sender, outbox: RefCell::default() });
                    } else if to == index
                        && let Some(receiver) = inboxes[from].take()
                    {
                        receivers.push(receiver.connect().await);
                    }
                }
            }
        }
        (Self { index, links, frames_crossed: Cell::new(0) }, receivers)
    }

    pub fn index(&self) -> usize {
        self.index
    }

    /// The number of peers, this one included; the last is the control shard.
    pub fn peers(&self) -> usize {
        self.links.len()
    }

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
