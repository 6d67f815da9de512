//! What other shards post here.

use super::{Shard, policy, viewers::window};
use crate::{
    config::Vhost,
    connection::{Connection, Part},
    hls::Hls,
    hooks::Client,
    ingress::{accept, rtc},
    mesh::{Ask, Change, Handover, Mail},
    net::sys,
    stream::{Stream, Wire},
};
use shardcast_engine::key::StreamKey;
use shardcast_protocols::session::{Client as Kind, Refusal, Verdict};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    time::Instant,
};
use tracing::{error, info, warn};

impl Shard {
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

    pub(super) fn act(&self, mail: Mail) {
        match mail {
            Mail::Publish(publication) => self.publish_here(*publication),
            Mail::Verdict { session, verdict } => self.verdicts.answer(session, verdict),
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
            Mail::Farewell(farewell) => {
                if let Some(disk) = &*self.disk.borrow() {
                    disk.tell(farewell);
                }
            }
            Mail::Room { key, request, from } => {
                let place = self.place(&self.config(), &key).map(drop);
                let verdict = place.map_or_else(Verdict::Refused, |()| Verdict::Allowed);
                self.post(from, Mail::Consulted { request, verdict });
            }
            Mail::Subscribe { key, number, from } => {
                let config = self.config();
                let vhost = match self.place(&config, &key) {
                    Ok(vhost) => vhost,
                    Err(why) => {
                        let is_known = why == Refusal::NoPlace;
                        let why = if is_known { "has too many streams" } else { "knows no such vhost" };
                        return self.post(from, Mail::NoPlace { key, number, why });
                    }
                };
                self.with_stream(&key, vhost, |stream| stream.subscribe(from, &self.mesh));
                self.wake();
            }
            Mail::NoPlace { key, number, why } => self.with_known(&key, |stream| {
                if stream.lose(number) {
                    stream.viewers().for_each(|viewer| viewer.close(format!("its home shard {why}")));
                }
            }),
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
    pub(super) fn part(&self, connection: &Rc<Connection>) {
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
    pub(super) fn configure(&self, change: Change) {
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
    pub(super) fn adapt(&self, stream: &mut Stream, old: &Vhost, new: &Vhost) {
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
}
