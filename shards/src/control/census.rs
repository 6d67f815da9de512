//! One question to all media shards, their answers kept for a moment.

use futures_lite::FutureExt;
use glommio::{
    channels::local_channel::{self, LocalSender},
    sync::Semaphore,
    timer::sleep,
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};
use tracing::warn;

/// Answers are good for this time.
const FRESH: Duration = Duration::from_millis(100);
/// A shard that does not answer in this time is left out.
const PATIENCE: Duration = Duration::from_secs(2);

pub struct Census<T> {
    asking: Semaphore,
    newest: RefCell<Option<(Instant, Rc<Vec<T>>)>>,
    next: Cell<u64>,
    waiting: RefCell<HashMap<u64, LocalSender<(usize, T)>>>,
}

impl<T> Default for Census<T> {
    fn default() -> Self {
        Self { asking: Semaphore::new(1), newest: RefCell::default(), next: Cell::new(1), waiting: RefCell::default() }
    }
}

impl<T> Census<T> {
    /// What each of `shards` says, in their order; asked anew at most ten times a second, however many clients
    /// want to know. `post` puts the question to a shard, under a number.
    pub async fn take(&self, shards: usize, post: impl Fn(usize, u64)) -> Rc<Vec<T>> {
        // Closed only with the control shard itself.
        let _one_at_a_time = self.asking.acquire_permit(1).await;
        if let Some((at, newest)) = &*self.newest.borrow()
            && at.elapsed() < FRESH
        {
            return newest.clone();
        }
        let mut answers = self.ask(shards, post).await;
        answers.sort_by_key(|(shard, _)| *shard);
        let newest: Rc<Vec<T>> = Rc::new(answers.into_iter().map(|(_, answer)| answer).collect());
        *self.newest.borrow_mut() = Some((Instant::now(), newest.clone()));
        newest
    }

    /// What `shard` says to question `request`.
    pub fn answer(&self, request: u64, shard: usize, answer: T) {
        if let Some(waiting) = self.waiting.borrow().get(&request) {
            // It has a place for each shard; one that comes twice is of no use.
            let _ = waiting.try_send((shard, answer));
        }
    }

    async fn ask(&self, shards: usize, post: impl Fn(usize, u64)) -> Vec<(usize, T)> {
        let request = self.next.replace(self.next.get() + 1);
        let (sender, receiver) = local_channel::new_bounded(shards);
        self.waiting.borrow_mut().insert(request, sender);
        for shard in 0..shards {
            post(shard, request);
        }
        let deadline = Instant::now() + PATIENCE;
        let mut answers = Vec::new();
        while answers.len() < shards {
            let late = async {
                sleep(deadline.saturating_duration_since(Instant::now())).await;
                None
            };
            match receiver.recv().or(late).await {
                Some(answer) => answers.push(answer),
                None => {
                    warn!("{} of {shards} shards answered in time", answers.len());
                    break;
                }
            }
        }
        self.waiting.borrow_mut().remove(&request);
        answers
    }
}
