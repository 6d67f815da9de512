//! `GET /api/v1/events`: Server-Sent Events (WHATWG HTML §9.2) for who follows what happens. A follower that reads
//! slowly loses events, and is told how many.

use super::{
    Control,
    body::Body,
    http::{Answer, with_type},
};
use bytes::Bytes;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// Events that wait for one follower.
const WAITING: usize = 1024;
/// A connection on which nothing is said looks dead.
const SILENCE: Duration = Duration::from_secs(5);
/// A comment, which is no event.
const COMMENT: &[u8] = b":\n\n";

pub struct Followers {
    all: RefCell<Vec<Weak<Queue>>>,
    said: Cell<Instant>,
}

#[derive(Default)]
struct Queue {
    waiting: RefCell<VecDeque<Bytes>>,
    lost: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

/// The end of a queue that goes to a client.
pub struct Follower(Rc<Queue>);

impl Default for Followers {
    fn default() -> Self {
        Self { all: RefCell::default(), said: Cell::new(Instant::now()) }
    }
}

impl Control {
    pub fn events(&self) -> Answer {
        let queue = Rc::new(Queue::default());
        // So that it knows that it follows.
        queue.push(Bytes::from_static(COMMENT));
        let mut all = self.followers.all.borrow_mut();
        all.push(Rc::downgrade(&queue));
        self.feed.set_followers(all.len());
        let mut answer = with_type("text/event-stream", Body::Events(Follower(queue)));
        answer.headers_mut().insert(hyper::header::CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-cache"));
        answer
    }

    /// Hands what happened to all who follow.
    pub fn spread(&self) {
        let followers = &self.followers;
        let mut all = followers.all.borrow_mut();
        let before = all.len();
        all.retain(|queue| queue.strong_count() > 0);
        if all.len() != before {
            self.feed.set_followers(all.len());
        }
        let queues: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        for notice in self.process.notices.try_iter() {
            let bytes = of(notice.event, &notice);
            queues.iter().for_each(|queue| queue.push(bytes.clone()));
            followers.said.set(Instant::now());
        }
        if followers.said.get().elapsed() >= SILENCE {
            followers.said.set(Instant::now());
            queues.iter().for_each(|queue| queue.push(Bytes::from_static(COMMENT)));
        }
    }
}

fn of(event: &str, data: &impl serde::Serialize) -> Bytes {
    // What is in it always has a JSON form, on one line.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {event}\ndata: {data}\n\n").into()
}

impl Queue {
    fn push(&self, bytes: Bytes) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= WAITING {
            self.lost.set(self.lost.get() + 1);
            metrics::counter!("shardcast_events_lost_total").increment(1);
            return;
        }
        waiting.push_back(bytes);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Follower {
    pub fn poll(&self, cx: &Context<'_>) -> Poll<Bytes> {
        let Self(queue) = self;
        if let Some(bytes) = queue.waiting.borrow_mut().pop_front() {
            return Poll::Ready(bytes);
        }
        match queue.lost.take() {
            0 => {
                queue.waker.replace(Some(cx.waker().clone()));
                Poll::Pending
            }
            count => Poll::Ready(of(
                "lost",
                &serde_json::json!({ "time_ms": super::api::unix_ms(), "event": "lost", "count": count }),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::Notice;

    #[test]
    fn a_slow_follower_loses_events_and_is_told_how_many() {
        let queue = Rc::new(Queue::default());
        (0..WAITING + 3).for_each(|_| queue.push(of("play", &Notice::new("play", None))));
        let (follower, cx) = (Follower(queue.clone()), Context::from_waker(Waker::noop()));
        let next = || match follower.poll(&cx) {
            Poll::Ready(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Poll::Pending => String::new(),
        };
        for _ in 0..WAITING {
            assert!(next().starts_with("event: play\ndata: {\"time_ms\":"));
        }
        let lost = next();
        assert!(lost.starts_with("event: lost\n") && lost.ends_with(",\"event\":\"lost\",\"count\":3}\n\n"), "{lost}");
        assert_eq!(next(), "");
        queue.push(of("stop", &Notice::new("stop", None)));
        assert!(next().starts_with("event: stop\n"));
    }
}
