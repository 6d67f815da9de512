//! Calling those who are told of events.
//!
//! Calls about one client follow each other; a receiver that is slow holds up that client alone. Calls of a vhost,
//! and of all, are bounded.

use super::{Control, caller, http, snapshot::Share};
use crate::{
    config::Hooks as Settings,
    hooks::{Call, Client, Event, Segment},
    mesh::Mail,
    stream,
};
use aws_lc_rs::hmac;
use futures_lite::FutureExt;
use glommio::{spawn_local, sync::Semaphore, timer::sleep};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use shardcast_protocols::session::{Refusal, Verdict};
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    path::Path,
    rc::Rc,
    time::Duration,
};
use tracing::{error, info, warn};

/// To connect, and from there to the end of the answer.
const TIME: Duration = Duration::from_secs(30);
const NOTIFY_TIME: Duration = Duration::from_secs(10);
/// Calls in flight.
const CALLS: u64 = 1024;
const CALLS_OF_VHOST: u64 = 128;
/// Calls of a vhost that wait.
const WAITING: usize = 4096;
/// The longest answer, bytes.
const ANSWER: usize = 64 << 10;
/// Before a call is made again; twice as long before the next time.
const PAUSE: Duration = Duration::from_secs(1);
/// What the body was signed to.
const SIGNATURE: &str = "x-shardcast-signature";

/// Why a call is no yes.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Call(#[from] caller::Fault),
    #[error("{0}")]
    Answer(String),
}

pub struct Hooks {
    /// By client, and apart those of segments.
    lanes: RefCell<HashMap<Lane, VecDeque<Job>>>,
    vhosts: RefCell<HashMap<String, Rc<Budget>>>,
    calls: Semaphore,
}

type Lane = (String, bool);

/// A call, and the shard that waits for its answer with the number of its question.
struct Job {
    call: Call,
    asker: Option<(usize, u64)>,
}

/// Of one vhost.
struct Budget {
    calls: Semaphore,
    waiting: Cell<usize>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { lanes: RefCell::default(), vhosts: RefCell::default(), calls: Semaphore::new(CALLS) }
    }
}

impl Hooks {
    fn budget(&self, vhost: &str) -> Rc<Budget> {
        let new = || Rc::new(Budget { calls: Semaphore::new(CALLS_OF_VHOST), waiting: Cell::new(0) });
        self.vhosts.borrow_mut().entry(vhost.to_owned()).or_insert_with(new).clone()
    }

    /// True where nobody takes from the lane yet.
    fn push(&self, lane: &Lane, job: Job) -> bool {
        let mut lanes = self.lanes.borrow_mut();
        let is_new = !lanes.contains_key(lane);
        lanes.entry(lane.clone()).or_default().push_back(job);
        is_new
    }

    /// The next call of a lane, which goes with its last one.
    fn next(&self, lane: &Lane) -> Option<Job> {
        let mut lanes = self.lanes.borrow_mut();
        let job = lanes.get_mut(lane)?.pop_front();
        if job.is_none() {
            lanes.remove(lane);
        }
        job
    }
}

impl Control {
    /// Queues a call behind those about the same client.
    pub fn call(self: &Rc<Self>, call: Call, asker: Option<(usize, u64)>) {
        let budget = self.hooks.budget(call.client.key.vhost());
        if budget.waiting.get() >= WAITING {
            let verdict = fail(&call, "", &format!("{WAITING} calls wait"));
            return self.answer(asker, verdict);
        }
        budget.waiting.set(budget.waiting.get() + 1);
        let lane = (call.client.id.clone(), call.event.is_of_segments());
        if !self.hooks.push(&lane, Job { call, asker }) {
            return;
        }
        let control = self.clone();
        spawn_local(async move {
            while let Some(Job { call, asker }) = control.hooks.next(&lane) {
                let verdict = AssertUnwindSafe(control.consult(&call)).catch_unwind().await.unwrap_or_else(|_| {
                    error!("a hook of {} panicked; please report this", call.client.key);
                    refused(&call)
                });
                budget.waiting.set(budget.waiting.get() - 1);
                control.answer(asker, verdict);
            }
        })
        .detach();
    }

    fn answer(&self, asker: Option<(usize, u64)>, verdict: Verdict) {
        if let Some((shard, request)) = asker {
            self.mesh.post(shard, Mail::Consulted { request, verdict });
        }
    }

    /// Calls all who are to be told, in order; the first that does not say yes says no for all.
    pub(super) async fn consult(&self, call: &Call) -> Verdict {
        let config = self.config();
        let Some(vhost) = config.vhost(call.client.key.vhost()) else { return Verdict::Allowed };
        let (mut verdict, hooks, action) = (Verdict::Allowed, &vhost.hooks, call.event.action());
        let urls = hooks.urls(action);
        if !urls.is_empty() {
            let body = http::as_srs(&self.body(call).await);
            for url in urls {
                if let Err(fault) = self.tell(call, hooks, url, &body).await {
                    verdict = fail(call, url, &fault.to_string());
                    break;
                }
            }
        }
        if let Event::Hls(segment) = &call.event {
            for url in hooks.urls("on_hls_notify") {
                count_called("on_hls_notify");
                let url = self.notify_url(url, &call.client, segment);
                let request = caller::Call {
                    method: Method::GET,
                    url: &url,
                    body: String::new(),
                    headers: Vec::new(),
                    within: NOTIFY_TIME,
                    most: hooks.notify_bytes,
                    verify: hooks.verify,
                    keep: hooks.keep_alive,
                };
                if let Err(fault) = self.exchange(call, request).await {
                    count_failed("on_hls_notify");
                    warn!(cid = %call.client.id, "on_hls_notify of {} {url}: {fault}", call.client.key);
                }
            }
        }
        verdict
    }

    /// One receiver; it is told again where nobody waits for its answer.
    async fn tell(&self, call: &Call, hooks: &Settings, url: &str, body: &str) -> Result<(), Fault> {
        let action = call.event.action();
        let mut left = if call.event.is_asked() { 0 } else { hooks.retries };
        let mut pause = PAUSE;
        loop {
            count_called(action);
            let fault = match self.post(call, hooks, url, body).await {
                Err(fault) if left > 0 => fault,
                told => return told,
            };
            count_failed(action);
            info!(cid = %call.client.id, "{action} of {} {url}: {fault}; again in {} s", call.client.key, pause.as_secs());
            sleep(pause).await;
            (left, pause) = (left - 1, pause * 2);
        }
    }

    async fn post(&self, call: &Call, hooks: &Settings, url: &str, body: &str) -> Result<(), Fault> {
        let request = caller::Call {
            method: Method::POST,
            url,
            body: body.to_owned(),
            headers: hooks.secret.iter().map(|secret| (SIGNATURE, signature(secret, body))).collect(),
            within: TIME,
            most: ANSWER,
            verify: hooks.verify,
            keep: hooks.keep_alive,
        };
        let (status, answer) = self.exchange(call, request).await?;
        judge(status, &answer)
    }

    /// One call, when it is its turn.
    async fn exchange(&self, call: &Call, request: caller::Call<'_>) -> Result<(StatusCode, Vec<u8>), Fault> {
        let budget = self.hooks.budget(call.client.key.vhost());
        // Closed only with the control shard itself.
        let _of_vhost = budget.calls.acquire_permit(1).await;
        let _of_all = self.hooks.calls.acquire_permit(1).await;
        Ok(self.caller.call(request).await?)
    }

    /// The members that SRS sends, in its order.
    async fn body(&self, Call { event, client }: &Call) -> Value {
        let members: &[&str] = match event {
            Event::Connect => &["stream", "param", "tcUrl", "pageUrl"],
            Event::Close { .. } => &["send_bytes", "recv_bytes"],
            Event::Publish | Event::Unpublish => &["tcUrl", "stream", "param", "stream_url", "stream_id"],
            Event::Play => &["stream", "tcUrl", "param", "pageUrl", "stream_url", "stream_id", "clients"],
            Event::Stop => &["tcUrl", "stream", "param", "stream_url", "stream_id", "clients"],
            Event::Dvr { .. } => &["tcUrl", "stream", "param", "cwd", "file", "stream_url", "stream_id"],
            Event::Hls(_) => &[
                "tcUrl",
                "stream",
                "param",
                "duration",
                "cwd",
                "file",
                "url",
                "m3u8",
                "m3u8_url",
                "seq_no",
                "stream_url",
                "stream_id",
            ],
        };
        let clients = if members.contains(&"clients") { self.clients_of(client).await } else { 0 };
        let mut body = json!({
            "server_id": self.server_id,
            "service_id": self.service_id,
            "action": event.action(),
            "client_id": client.id,
            "ip": client.ip.to_string(),
            "vhost": client.key.vhost(),
            "app": client.key.app(),
        });
        let path = |path: &Path| Value::from(path.to_string_lossy());
        for name in members {
            body[*name] = match (*name, event) {
                ("stream", _) => client.stream().into(),
                ("tcUrl", _) => client.request.tc_url.as_str().into(),
                ("param", _) => client.param().into(),
                ("pageUrl", _) => client.request.page_url.as_str().into(),
                ("stream_url", _) => client.key.to_string().into(),
                ("stream_id", _) => stream::id(&client.key).into(),
                ("clients", _) => clients.into(),
                ("cwd", _) => path(&std::env::current_dir().unwrap_or_default()),
                ("send_bytes", Event::Close { sent, .. }) => (*sent).into(),
                ("recv_bytes", Event::Close { received, .. }) => (*received).into(),
                ("file", Event::Dvr { file }) => path(file),
                ("file", Event::Hls(segment)) => path(&segment.file),
                ("duration", Event::Hls(segment)) => segment.duration_s.into(),
                ("url", Event::Hls(segment)) => segment.url.as_str().into(),
                ("m3u8", Event::Hls(segment)) => path(&segment.m3u8),
                ("m3u8_url", Event::Hls(segment)) => segment.m3u8_url.as_str().into(),
                ("seq_no", Event::Hls(segment)) => segment.seq.into(),
                _ => Value::Null,
            };
        }
        body
    }

    /// Those who publish and play its stream, as the API has it.
    async fn clients_of(&self, client: &Client) -> usize {
        let snapshot = self.snapshot().await;
        let shares = snapshot.iter().flat_map(|shard| &shard.streams).filter(|share| share.key == client.key);
        shares.map(Share::clients).sum::<usize>() + self.viewers.of(&client.key)
    }

    /// A segment's own URL where that is absolute, else `url` with its variables filled in.
    fn notify_url(&self, url: &str, client: &Client, segment: &Segment) -> String {
        if segment.url.contains("://") {
            return segment.url.clone();
        }
        url.replace("[server_id]", &self.server_id)
            .replace("[service_id]", &self.service_id)
            .replace("[app]", client.key.app())
            .replace("[stream]", client.key.stream())
            .replace("[ts_url]", &segment.url)
            .replace("[param]", client.param())
    }
}

/// HMAC (RFC 2104) with SHA-256, in hex, as webhooks have it.
fn signature(secret: &str, body: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body.as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

/// Yes is 200 or 201 with `0`, or with an object whose integer `code` is 0.
fn judge(status: StatusCode, body: &[u8]) -> Result<(), Fault> {
    let no = |why: String| Err(Fault::Answer(why));
    if !matches!(status, StatusCode::OK | StatusCode::CREATED) {
        return no(format!("answered {status}"));
    }
    if body.len() > ANSWER {
        return no(format!("answered more than {ANSWER} bytes"));
    }
    match serde_json::from_slice(body) {
        _ if body == b"0" => Ok(()),
        Ok(Value::Object(answer)) => match answer.get("code").and_then(Value::as_i64) {
            Some(0) => Ok(()),
            Some(code) => no(format!("answered code {code}")),
            None => no("answered without an integer code".into()),
        },
        _ => no("answered neither 0 nor a JSON object".into()),
    }
}

fn fail(call: &Call, url: &str, why: &str) -> Verdict {
    let action = call.event.action();
    count_failed(action);
    warn!(cid = %call.client.id, "{action} of {} {url}: {why}", call.client.key);
    refused(call)
}

fn count_called(action: &'static str) {
    metrics::counter!("shardcast_hooks_total", "event" => action).increment(1);
}

fn count_failed(action: &'static str) {
    metrics::counter!("shardcast_hooks_failed_total", "event" => action).increment(1);
}

fn refused(call: &Call) -> Verdict {
    Verdict::Refused(Refusal::Rejected(call.event.action()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_signed_as_rfc_4231_says() {
        // Its test case 2.
        let wanted = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", "what do ya want for nothing?"), wanted);
    }

    #[test]
    fn only_what_srs_takes_for_a_yes_is_one() {
        for (status, body, yes) in [
            (200, "0", true),
            (201, "0", true),
            (200, r#"{"code":0}"#, true),
            (200, r#"{ "server": "x", "code": 0, "data": null }"#, true),
            (200, r#"{"code":1}"#, false),
            (200, r#"{"code":"0"}"#, false),
            (200, r#"{"code":0.0}"#, false),
            (200, "{}", false),
            (200, "", false),
            (200, "1", false),
            (200, "00", false),
            (200, "[0]", false),
            (200, "OK", false),
            (204, "0", false),
            (302, "0", false),
            (500, r#"{"code":0}"#, false),
        ] {
            let judged = judge(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!(judged.is_ok(), yes, "{status} {body}: {judged:?}");
        }
    }
}
