//! What a session holds of its shard, given back however the session ends.

use crate::{
    access::{self, Deed},
    config::Vhost,
    connection::{Connection, Part},
    hooks::{self, Client, Farewell},
    net::peer::Peer,
    shard::Shard,
    stream::{Publication, Wire},
};
use shardcast_engine::{frame::Media, key::StreamKey, time::Timestamp};
use shardcast_protocols::{
    rtmp::url,
    session::{Client as Kind, Request, Verdict},
};
use std::{rc::Rc, sync::Arc};
use tracing::info;

pub struct Seat<'s> {
    pub shard: &'s Rc<Shard>,
    pub connection: &'s Rc<Connection>,
    playing: Option<(StreamKey, Wire)>,
    /// By WebRTC.
    watching: Option<StreamKey>,
    /// The stream that it publishes, and its number as a publisher.
    publishing: Option<(StreamKey, u64)>,
    has_published: bool,
    /// Told when it plays or publishes no more,
    told: Option<Farewell>,
    /// and when it goes.
    leaving: Option<Farewell>,
}

impl<'s> Seat<'s> {
    pub fn new(shard: &'s Rc<Shard>, connection: &'s Rc<Connection>) -> Self {
        Self {
            shard,
            connection,
            playing: None,
            watching: None,
            publishing: None,
            has_published: false,
            told: None,
            leaving: None,
        }
    }

    /// May it? What it did before has ended.
    pub async fn admit(&mut self, vhost: &Vhost, deed: Deed, request: &Arc<Request>) -> Verdict {
        self.stop();
        let ip = self.connection.peer.get().ip();
        let key = self.shard.shared(key(vhost, request));
        let client = Arc::new(Client::new(&self.connection.id, ip, key, request.clone()));
        // The time until the answer is not the peer's.
        self.connection.deadline.set(None);
        let (over_srt, over_http) = match request.client {
            Kind::SrtPlay | Kind::SrtPublish => (true, false),
            Kind::FlvPlay => (false, true),
            _ => (false, false),
        };
        if !over_http {
            if let Some(earlier) = self.leaving.replace(self.shard.herald.farewell(self.close(), &client)) {
                earlier.forget();
            }
            let verdict = self.shard.consult(hooks::Event::Connect, &client).await;
            if verdict != Verdict::Allowed {
                return verdict;
            }
        }
        let page = match (over_srt, over_http) {
            (true, _) => None,
            (_, true) => vhost.refer.of_http(&request.page_url),
            _ => Some(&*request.page_url),
        };
        let verdict = access::judge(vhost, deed, ip, page);
        if verdict != Verdict::Allowed {
            return verdict;
        }
        let (start, end) = deed.events();
        let verdict = self.shard.consult(start, &client).await;
        self.told = (verdict == Verdict::Allowed).then(|| self.shard.herald.farewell(end, &client));
        verdict
    }

    fn close(&self) -> hooks::Event {
        hooks::Event::Close { sent: self.connection.sent.get(), received: self.connection.received.get() }
    }

    pub async fn publish(&mut self, vhost: &Vhost, request: Arc<Request>) -> Verdict {
        let admitted = self.admit(vhost, Deed::Publish, &request).await;
        if admitted != Verdict::Allowed {
            return admitted;
        }
        let publication = Publication {
            key: key(vhost, &request),
            shard: self.shard.index(),
            session: self.connection.number,
            id: self.connection.id.clone(),
            ip: self.connection.peer.get().ip(),
            request,
        };
        let (key, publisher) = (publication.key.clone(), publication.publisher());
        // Held before the answer is there, so that a session that ends meanwhile leaves nothing behind.
        self.publishing = Some((key.clone(), publisher));
        self.shard.reads.enter();
        let (client, request) = (publication.request.client, publication.request.clone());
        let verdict = self.shard.publish(publication).await;
        if verdict == Verdict::Allowed {
            info!(
                cid = %self.connection.id,
                "{} publishes {key} as {client:?}, home shard {}", self.connection.peer.get(), key.home(self.shard.shards()),
            );
            self.take_part(Part { key, request, publishes: true, wire: None });
        } else {
            self.publishing = None;
            self.shard.reads.leave();
            // Over SRT it is told that this one is gone, elsewhere it never was: so SRS.
            if let Some(told) = self.told.take_if(|_| client != Kind::SrtPublish) {
                told.forget();
            }
        }
        verdict
    }

    pub async fn bring(&self, batch: Vec<Media>) {
        if let Some((key, publisher)) = self.publishing.as_ref().filter(|_| !batch.is_empty()) {
            if self.shard.fault.as_deref().is_some_and(|fault| fault == key.stream()) {
                panic!("the fault that was asked for");
            }
            // The way may be congested; that is not the publisher's silence.
            self.connection.deadline.set(None);
            self.shard.bring(key, *publisher, batch).await;
        }
    }

    /// Plays, as it was admitted to.
    pub fn play(&mut self, vhost: &Vhost, request: &Arc<Request>, wire: Wire) {
        let key = key(vhost, request);
        if !self.shard.has_place(&key) {
            return self.connection.close("this server has too many streams".into());
        }
        self.connection.cursor.borrow_mut().want(request.duration.map(Timestamp::from));
        let (key, wire) = self.shard.play(self.connection, &key, wire, vhost);
        self.take_part(Part { key: key.clone(), request: request.clone(), publishes: false, wire: Some(wire) });
        self.playing = Some((key, wire));
    }

    /// Goes on with what it plays by `wire`, which has other tracks.
    pub fn switch(&mut self, wire: Wire) {
        let config = self.shard.config();
        let Some((key, old)) = &mut self.playing else { return };
        let Some(vhost) = config.vhost(key.vhost()) else { return };
        self.shard.switch(self.connection, key, std::mem::replace(old, wire), wire, vhost);
        let mut part = self.connection.part.borrow_mut();
        *part = part.take().map(|part| Arc::new(Part { wire: Some(wire), ..Part::clone(&part) }));
    }

    /// Goes on as publisher `number` of `key`, who has the stream already.
    pub fn adopt(&mut self, part: Part, number: u64, told: Farewell) {
        self.told = Some(told);
        let key = part.key.clone();
        info!(
            cid = %self.connection.id,
            "{} publishes {key} by WebRTC, home shard {}", self.connection.peer.get(), key.home(self.shard.shards()),
        );
        self.take_part(part);
        self.publishing = Some((key, number));
        self.shard.reads.enter();
    }

    /// Plays by WebRTC.
    pub fn watch(&mut self, part: Part, peer: &Rc<Peer>, told: Farewell) {
        self.told = Some(told);
        let (key, config) = (part.key.clone(), self.shard.config());
        let Some(vhost) = config.vhost(key.vhost()).filter(|_| self.shard.has_place(&key)) else {
            return self.connection.close("this server has too many streams".into());
        };
        self.shard.watch(self.connection, peer, &key, vhost);
        self.take_part(part);
        self.watching = Some(key);
    }

    fn take_part(&self, part: Part) {
        let Connection { id, peer, feed, .. } = &**self.connection;
        feed.begin(id, peer.get().ip(), &part);
        *self.connection.part.borrow_mut() = Some(self.shard.share(part));
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

    pub fn is_publishing(&self) -> bool {
        self.publishing.is_some()
    }

    pub fn is_playing(&self) -> bool {
        self.playing.is_some()
    }

    /// Neither publishes nor plays any more.
    pub fn stop(&mut self) {
        if let Some(part) = self.connection.part.take() {
            let Connection { id, peer, ending, feed, .. } = &**self.connection;
            feed.end(id, peer.get().ip(), &part, ending.get().is_none());
        }
        if let Some((key, wire)) = self.playing.take() {
            self.shard.stop(self.connection, &key, wire);
        }
        if let Some(key) = self.watching.take() {
            self.shard.unwatch(self.connection, &key);
        }
        if let Some((key, publisher)) = self.publishing.take() {
            self.shard.reads.leave();
            self.shard.unpublish(&key, publisher);
            if let Some(told) = self.told.take() {
                self.shard.tell_last(told);
            }
            self.has_published = true;
        }
        self.told = None;
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.stop();
        if let Some(leaving) = self.leaving.take().map(|leaving| leaving.with(self.close()))
            && self.has_published
        {
            self.shard.tell_last(leaving);
        }
        self.shard.dismiss(self.connection);
    }
}

/// The stream that `request` names.
pub fn key(vhost: &Vhost, request: &Request) -> StreamKey {
    StreamKey::new(&vhost.name, &request.app, url::identity(&request.stream))
}
