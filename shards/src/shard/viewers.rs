//! Who watches a stream here: by its tapes and by WebRTC.

use super::Shard;
use crate::{
    config::Vhost,
    connection::{Connection, Part},
    fanout::{audience::Audience, rtp::RtpAudience, window::Window},
    mesh::Ask,
    net::peer::Peer,
    stream::{Stream, Wire},
};
use shardcast_engine::{
    fanout::{Ring, Tape},
    key::StreamKey,
};
use std::{rc::Rc, sync::Arc, time::Duration};
use tracing::info;

impl Shard {
    /// What a client does, as its stream has it.
    pub fn share(&self, part: Part) -> Arc<Part> {
        match self.streams.borrow_mut().get_mut(&part.key) {
            Some(stream) => stream.share(part),
            None => Arc::new(part),
        }
    }

    /// The connection becomes a viewer of `key`, live or not yet, by the wire that `wire` is for newcomers. Returns that,
    /// and the key that all viewers of the stream share.
    pub fn play(&self, connection: &Rc<Connection>, key: &StreamKey, wire: Wire, vhost: &Vhost) -> (StreamKey, Wire) {
        let plays = self.with_stream(key, vhost, |stream| {
            let wire = wire.at(stream.ring.oldest_time());
            let state = stream.state();
            stream.chunk_size = stream.next_chunk_size(vhost);
            let size = stream.chunk_size;
            let audience = audience(&mut stream.audiences[wire as usize], &stream.ring, wire, vhost, size);
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

    /// The chunk size that a player of `key` by RTMP gets.
    pub fn chunk_size(&self, key: &StreamKey, vhost: &Vhost) -> u32 {
        self.streams.borrow().get(key).map_or(vhost.chunk_size, |stream| stream.next_chunk_size(vhost))
    }

    /// The viewer of `key` by `from` goes on by `to`, which has other tracks of it.
    pub fn switch(&self, viewer: &Rc<Connection>, key: &StreamKey, from: Wire, to: Wire, vhost: &Vhost) {
        self.with_known(key, |Stream { audiences, ring, chunk_size, .. }| {
            let Some(mut old) = audiences[from as usize].take() else { return };
            old.give(viewer, audience(&mut audiences[to as usize], ring, to, vhost, *chunk_size), ring);
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
    pub(super) fn watched(&self) -> Vec<StreamKey> {
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
}

/// The audience by `wire`, with a tape of `ring`, made where it is not there.
pub(super) fn audience<'a>(
    slot: &'a mut Option<Box<Audience>>,
    ring: &Ring,
    wire: Wire,
    vhost: &Vhost,
    chunk_size: u32,
) -> &'a mut Audience {
    slot.get_or_insert_with(|| Box::new(Audience::new(Tape::new(wire.format(chunk_size), ring), window(vhost, wire))))
}

/// How long frames for viewers by `wire` may gather.
pub(super) fn window(vhost: &Vhost, wire: Wire) -> Window {
    let at_once = vhost.min_latency || wire == Wire::Srt;
    Window { longest: if at_once { Duration::ZERO } else { vhost.mw_latency }, adapts: vhost.mw_adaptive }
}
