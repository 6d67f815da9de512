//! What a session holds of its shard, given back however the session ends.

use crate::{
    access::{self, Deed},
    config::Vhost,
    connection::Connection,
    net::peer::Peer,
    shard::Shard,
    stream::{Publication, Wire},
};
use shardcast_engine::{frame::Media, key::StreamKey};
use shardcast_protocols::{
    rtmp::url,
    session::{Client, Request, Verdict},
};
use std::rc::Rc;
use tracing::info;

pub struct Seat<'s> {
    pub shard: &'s Rc<Shard>,
    pub connection: &'s Rc<Connection>,
    playing: Option<(StreamKey, Wire)>,
    /// By WebRTC.
    watching: Option<StreamKey>,
    /// The stream that it publishes, and its number as a publisher.
    publishing: Option<(StreamKey, u64)>,
}

impl<'s> Seat<'s> {
    pub fn new(shard: &'s Rc<Shard>, connection: &'s Rc<Connection>) -> Self {
        Self { shard, connection, playing: None, watching: None, publishing: None }
    }

    /// May it?
    pub fn admit(&self, vhost: &Vhost, deed: Deed, request: &Request) -> Verdict {
        let page = match request.client {
            Client::SrtPlay | Client::SrtPublish => None,
            _ => Some(&*request.page_url),
        };
        access::judge(vhost, deed, self.connection.peer.ip(), page)
    }

    pub async fn publish(&mut self, vhost: &Vhost, request: Request) -> Verdict {
        self.stop();
        let admitted = self.admit(vhost, Deed::Publish, &request);
        if admitted != Verdict::Allowed {
            return admitted;
        }
        let publication = Publication {
            key: key(vhost, &request),
            shard: self.shard.index(),
            session: self.connection.number,
            id: self.connection.id.clone(),
            ip: self.connection.peer.ip(),
            request,
        };
        let (key, publisher) = (publication.key.clone(), publication.publisher());
        // Held before the answer is there, so that a session that ends meanwhile leaves nothing behind.
        self.publishing = Some((key.clone(), publisher));
        let client = publication.request.client;
        let verdict = self.shard.publish(publication).await;
        if verdict == Verdict::Allowed {
            info!(
                cid = %self.connection.id,
                "{} publishes {key} as {client:?}, home shard {}", self.connection.peer, key.home(self.shard.shards()),
            );
        } else {
            self.publishing = None;
        }
        verdict
    }

    pub async fn bring(&self, batch: Vec<Media>) {
        if let Some((key, publisher)) = self.publishing.as_ref().filter(|_| !batch.is_empty()) {
            if self.shard.fault.as_deref() == Some(key.stream()) {
                panic!("the fault that was asked for");
            }
            // The way may be congested; that is not the publisher's silence.
            self.connection.deadline.set(None);
            self.shard.bring(key, *publisher, batch).await;
        }
    }

    pub fn play(&mut self, vhost: &Vhost, request: &Request, wire: Wire) {
        self.stop();
        let key = key(vhost, request);
        if self.shard.is_full(&key) {
            return self.connection.close("this server has too many streams".into());
        }
        self.shard.play(self.connection, &key, wire, vhost);
        self.playing = Some((key, wire));
    }

    /// Goes on as publisher `number` of `key`, who has the stream already.
    pub fn adopt(&mut self, key: StreamKey, number: u64) {
        info!(
            cid = %self.connection.id,
            "{} publishes {key} by WebRTC, home shard {}", self.connection.peer, key.home(self.shard.shards()),
        );
        self.publishing = Some((key, number));
    }

    /// Plays by WebRTC.
    pub fn watch(&mut self, key: StreamKey, peer: &Rc<Peer>) {
        self.stop();
        let config = self.shard.config.clone();
        let Some(vhost) = config.vhost(key.vhost()).filter(|_| !self.shard.is_full(&key)) else {
            return self.connection.close("this server has too many streams".into());
        };
        self.shard.watch(self.connection, peer, &key, vhost);
        self.watching = Some(key);
    }

    /// Sends what was said, at the next boundary of what is playing.
    pub fn hurry(&self) {
        match &self.playing {
            Some((key, wire)) => self.shard.hurry(self.connection, key, *wire),
            None => {
                self.connection.flush(None);
            }
        }
    }

    pub fn is_playing(&self) -> bool {
        self.playing.is_some()
    }

    /// Neither publishes nor plays any more.
    pub fn stop(&mut self) {
        if let Some((key, wire)) = self.playing.take() {
            self.shard.stop(self.connection, &key, wire);
        }
        if let Some(key) = self.watching.take() {
            self.shard.unwatch(self.connection, &key);
        }
        if let Some((key, publisher)) = self.publishing.take() {
            self.shard.unpublish(&key, publisher);
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.stop();
        self.shard.dismiss(self.connection);
    }
}

/// The stream that `request` names.
pub fn key(vhost: &Vhost, request: &Request) -> StreamKey {
    StreamKey::new(&vhost.name, &request.app, url::identity(&request.stream))
}
