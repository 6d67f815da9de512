//! What sessions ask a stream's home, and what the home does about it.

use super::Shard;
use crate::{
    config::{Config, Vhost},
    hls::Hls,
    hooks::{Call, Client, Event, Farewell},
    mesh::{Ask, Mail},
    record::{disk::Disk, recorder::Recorder},
    stream::{Publication, Role, Stream},
};
use shardcast_engine::{frame::Media, key::StreamKey};
use shardcast_protocols::{
    hls::Content,
    session::{Refusal, Verdict},
};
use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::error;

/// A home that does not answer in this time has nothing.
pub const FETCH_TIME: Duration = Duration::from_secs(2);
/// In which it says whether it takes a publisher, or has a place for a stream.
pub const VERDICT_TIME: Duration = Duration::from_secs(5);
/// Who is asked has a time of its own for each call; this bounds the wait for a turn too.
const CONSULT_TIME: Duration = Duration::from_secs(300);

impl Shard {
    /// Asks the stream's home.
    pub async fn publish(&self, publication: Publication) -> Verdict {
        let (key, publisher, session) = (publication.key.clone(), publication.publisher(), publication.session);
        let post = || self.post(key.home(self.shards()), Mail::Publish(Box::new(publication)));
        self.verdicts.ask_as(session, VERDICT_TIME, post).await.unwrap_or_else(|| {
            // It may yet say yes, to nobody.
            self.unpublish(&key, publisher);
            no_answer()
        })
    }

    /// Asks the home of a stream whether it has a place for it, unless it has given that already.
    pub(super) async fn room_at_home(&self, key: &StreamKey) -> Verdict {
        let home = key.home(self.shards());
        if home == self.index() || self.streams.borrow().get(key).is_some_and(Stream::is_subscribed) {
            return Verdict::Allowed;
        }
        let post = |request| self.mesh.post(home, Mail::Room { key: key.clone(), request, from: self.index() });
        self.consults.ask(VERDICT_TIME, post).await.unwrap_or_else(no_answer)
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

    /// Tells of a publisher that has gone: of its recordings first, as SRS does.
    pub fn tell_last(&self, farewell: Farewell) {
        let key = farewell.key();
        if self.config().vhost(key.vhost()).is_some_and(|vhost| vhost.dvr.applies_to(key)) {
            self.post(key.home(self.shards()), Mail::Farewell(farewell));
        }
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

    /// At home: the vhost of a stream that has a place here.
    pub(super) fn place<'c>(&self, config: &'c Config, key: &StreamKey) -> Result<&'c Vhost, Refusal> {
        let vhost = config.vhost(key.vhost()).ok_or_else(|| Refusal::NoVhost(key.vhost().into()))?;
        if self.has_place(key) { Ok(vhost) } else { Err(Refusal::NoPlace) }
    }

    pub(super) fn publish_here(&self, publication: Publication) {
        let (shard, session) = (publication.shard, publication.session);
        let config = self.config();
        let verdict = match self.place(&config, &publication.key) {
            Err(why) => Verdict::Refused(why),
            Ok(vhost) => self.with_stream(&publication.key.clone(), vhost, |stream| {
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
    pub(super) fn record(&self, stream: &mut Stream, client: Arc<Client>, vhost: &Vhost) {
        if vhost.dvr.applies_to(&stream.key)
            && let Role::Home(home) = &mut stream.role
        {
            home.recorder = self.recorder(&stream.key, client, vhost, stream.ring.next());
        }
    }

    /// A recorder from the ring's unit `next` on, with the thread that writes its files.
    pub(super) fn recorder(&self, key: &StreamKey, client: Arc<Client>, vhost: &Vhost, next: u64) -> Option<Recorder> {
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
}

/// Of a home.
pub fn no_answer() -> Verdict {
    Verdict::Refused(Refusal::Other("its home does not answer".into()))
}
