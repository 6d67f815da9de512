//! Viewers by HLS: all that is fetched under one id is one client's, as SRS has it (`vhost.hls.hls_ctx`).

use super::{
    Control,
    api::Asked,
    http::{Answer, redirect, refused, text},
    snapshot,
};
use crate::{
    access::Deed,
    addresses::{Addresses, Counted},
    config::{Config, Vhost},
    connection::{METER_STEP, Part},
    drops::Drops,
    feed::Feed,
    hooks::{self, Call, Farewell},
    ingress::http::host_name,
    meter::Meter,
    query::value,
    refusal,
    shard::random_id,
};
use hyper::StatusCode;
use shardcast_engine::key::StreamKey;
use shardcast_protocols::session::{Client, Refusal, Request, Verdict};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// The member of a query with the id.
pub const NAME: &str = "hls_ctx";
/// At a time, shared between the addresses of connections: those that a proxy tells of cost it nothing to invent.
const VIEWERS: usize = 100_000;
/// The longest id that a player may bring.
const LONGEST: usize = 32;
/// One that has its id is to use it within this time.
const FIRST: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Viewers {
    by_id: RefCell<HashMap<String, Viewer>>,
    addresses: Addresses,
    sweeps: Cell<usize>,
}

struct Viewer {
    ip: IpAddr,
    part: Arc<Part>,
    since: Instant,
    /// It is gone then, unless it asks again.
    ends: Instant,
    sent: u64,
    meter: Meter<METER_STEP>,
    /// Told when it is gone; `None`: it was kicked, and its id is of no use any more.
    told: Option<Farewell>,
    _counted: Counted,
}

/// Who asks for a playlist.
pub enum Entry {
    /// A new one, that is to come again under this id.
    Begins(String),
    Plays(String),
    Refused(Answer),
}

impl Control {
    /// Takes a request for `key`'s playlist as a viewer's. `on_play` is asked about who is new. An id that is unknown,
    /// such as another server gave, is taken over: its player cannot do anything with a master playlist any more.
    pub(super) async fn enter(&self, request: &Asked<'_>, vhost: &Vhost, key: &StreamKey) -> Entry {
        let patience = 2 * vhost.hls.window.max(vhost.hls.fragment);
        let brought = value(request.query, NAME).filter(|id| is_id(id) && !self.viewers.is_of_another(id, key));
        if let Some(id) = &brought
            && let Some(entry) = self.viewers.look(id, patience)
        {
            return entry;
        }
        let ip = request.told.unwrap_or(request.ip).to_canonical();
        if self.board.are_all_full() {
            let full = refusal::counted("hls", Refusal::Full);
            info!("viewer {ip} of {key} refused: all shards are full");
            let elsewhere = &self.config().circuit_breaker.redirect_http;
            let other = |base| redirect(StatusCode::FOUND, &format!("{base}{}", request.path), request.query);
            return Entry::Refused(elsewhere.as_ref().map_or_else(|| refused(&full), other));
        }
        let Some(counted) = self.viewers.addresses.share(request.ip, VIEWERS) else {
            let full = refusal::counted("hls", Refusal::Full);
            warn!("viewer {ip} of {key} refused: {} play by HLS, too many of them from there", self.viewers.len());
            return Entry::Refused(refused(&full));
        };
        let id = brought.clone().unwrap_or_else(random_id);
        let asked = Arc::new(Request {
            vhost: vhost.name.clone(),
            app: key.app().to_owned(),
            stream: format!("{}.m3u8", key.stream()),
            param: others(request.query).map_or_else(String::new, |query| format!("?{query}")),
            tc_url: format!("http://{}/{}", host_name(request.host), key.app()),
            page_url: request.page.to_owned(),
            client: Client::HlsPlay,
            ..Request::default()
        });
        let client = Arc::new(hooks::Client::new(&id, ip, key.clone(), asked.clone()));
        let (start, end) = Deed::Play.events();
        if let Verdict::Refused(why) = self.consult(&Call { event: start, client: client.clone() }).await {
            info!(cid = %id, "{ip} may not play {key} by HLS: {why}");
            return Entry::Refused(refused(&why));
        }
        // The player may have asked twice meanwhile.
        if let Some(entry) = brought.as_ref().and_then(|id| self.viewers.look(id, patience)) {
            return entry;
        }
        let part = Part { key: key.clone(), request: asked, publishes: false, wire: None };
        self.feed.begin(&id, ip, &part);
        let now = Instant::now();
        let viewer = Viewer {
            ip,
            part: Arc::new(part),
            since: now,
            ends: now + if brought.is_some() { patience } else { patience.min(FIRST) },
            sent: 0,
            meter: Meter::default(),
            told: Some(self.herald.farewell(end, &client)),
            _counted: counted,
        };
        self.viewers.by_id.borrow_mut().insert(id.clone(), viewer);
        info!(cid = %id, "{ip} plays {key} by HLS, viewer {}", self.viewers.of(key));
        if brought.is_some() { Entry::Plays(id) } else { Entry::Begins(id) }
    }
}

impl Viewers {
    fn is_of_another(&self, id: &str, key: &StreamKey) -> bool {
        self.by_id.borrow().get(id).is_some_and(|viewer| viewer.part.key != *key)
    }

    /// A viewer that is known asks for its playlist, and will be here for `patience` more.
    fn look(&self, id: &str, patience: Duration) -> Option<Entry> {
        let mut by_id = self.by_id.borrow_mut();
        let viewer = by_id.get_mut(id)?;
        viewer.ends = Instant::now() + patience;
        if viewer.told.is_none() {
            return Some(Entry::Refused(over(id)));
        }
        Some(Entry::Plays(id.to_owned()))
    }

    pub fn is_kicked(&self, id: &str) -> bool {
        self.by_id.borrow().get(id).is_some_and(|viewer| viewer.told.is_none())
    }

    /// So many bytes are sent to it.
    pub fn note(&self, id: &str, bytes: usize) {
        if let Some(viewer) = self.by_id.borrow_mut().get_mut(id) {
            viewer.sent += bytes as u64;
        }
    }

    /// Those that were kicked are among them.
    pub fn len(&self) -> usize {
        self.by_id.borrow().len()
    }

    /// How many play `key`.
    pub fn of(&self, key: &StreamKey) -> usize {
        let mut count = 0;
        self.each_key(|its| count += usize::from(its == key));
        count
    }

    /// The stream of each.
    pub fn each_key(&self, mut see: impl FnMut(&StreamKey)) {
        for viewer in self.by_id.borrow().values().filter(|viewer| viewer.told.is_some()) {
            see(&viewer.part.key);
        }
    }

    pub fn clients(&self) -> Vec<snapshot::Client> {
        let by_id = self.by_id.borrow();
        let here = by_id.iter().filter(|(_, viewer)| viewer.told.is_some());
        here.map(|(id, viewer)| viewer.client(id)).collect()
    }

    /// Sends `id` away; false where it is not here.
    pub fn kick(&self, id: &str, feed: &Feed) -> bool {
        if !self.by_id.borrow_mut().get_mut(id).is_some_and(|viewer| viewer.end(id, feed)) {
            return false;
        }
        metrics::counter!("shardcast_clients_kicked_total").increment(1);
        info!(cid = %id, "kicked through the API");
        true
    }

    /// Once a second: looks who has gone, or is not served any more.
    pub fn sweep(&self, now: Instant, config: &Config, feed: &Feed) {
        let sweep = self.sweeps.replace(self.sweeps.get() + 1);
        self.by_id.borrow_mut().retain(|id, viewer| {
            if sweep.is_multiple_of(METER_STEP) {
                viewer.meter.sample(viewer.sent);
            }
            let name = viewer.part.key.vhost();
            let vhost = config.vhost(name).filter(|vhost| vhost.name == name && vhost.hls.enabled && vhost.hls.ctx);
            let stays = viewer.ends > now && vhost.is_some();
            if !stays {
                viewer.end(id, feed);
            }
            stays
        });
    }

    /// All have gone.
    pub fn clear(&self, feed: &Feed) {
        for (id, mut viewer) in self.by_id.take() {
            viewer.end(&id, feed);
        }
    }
}

impl Viewer {
    /// False where it has gone before.
    fn end(&mut self, id: &str, feed: &Feed) -> bool {
        if self.told.take().is_none() {
            return false;
        }
        feed.end(id, self.ip, &self.part, false);
        info!(cid = %id, "{} stops playing {}", self.ip, self.part.key);
        true
    }

    fn client(&self, id: &str) -> snapshot::Client {
        snapshot::Client {
            id: id.to_owned(),
            ip: self.ip,
            part: self.part.clone(),
            alive: self.since.elapsed(),
            received: 0,
            sent: self.sent,
            kbps: [0, self.meter.kbps()],
            lag: None,
            skips: 0,
            drops: Drops::default(),
        }
    }
}

/// What who was kicked gets, in SRS's words.
pub fn over(id: &str) -> Answer {
    text(StatusCode::NOT_FOUND, format!("HLS stream {id} is EOF"))
}

/// Fit for a log and a playlist.
fn is_id(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// The members of a query without the id; `None` where there are no others.
pub fn others(query: &str) -> Option<String> {
    let others: Vec<_> = query.split('&').filter(|pair| pair.split('=').next() != Some(NAME)).collect();
    Some(others.join("&")).filter(|others| !others.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_and_short() {
        for (text, fits) in [
            ("a1b2c3d4", true),
            ("A-z_9", true),
            ("", false),
            ("a\nb", false),
            ("a&b", false),
            (&"a".repeat(33), false),
        ] {
            assert_eq!(is_id(text), fits, "{text}");
        }
    }

    #[test]
    fn queries_lose_the_id_alone() {
        for (query, wanted) in [
            ("", None),
            ("hls_ctx=x", None),
            ("a=b&hls_ctx=x&vhost=v", Some("a=b&vhost=v")),
            ("hls_ctxs=x", Some("hls_ctxs=x")),
        ] {
            assert_eq!(others(query).as_deref(), wanted, "{query}");
        }
    }
}
