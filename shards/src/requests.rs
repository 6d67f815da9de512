//! Questions that wait for an answer by mail.

use futures_lite::FutureExt;
use glommio::{
    channels::local_channel::{self, LocalSender},
    timer::sleep,
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    time::Duration,
};

/// Those of one peer that are open, by number.
pub struct Requests<T> {
    next: Cell<u64>,
    waiting: RefCell<HashMap<u64, LocalSender<T>>>,
}

impl<T> Default for Requests<T> {
    fn default() -> Self {
        Self { next: Cell::new(1), waiting: RefCell::default() }
    }
}

impl<T> Requests<T> {
    /// Posts a question under its number and waits for the answer; `None` after `limit`.
    pub async fn ask(&self, limit: Duration, post: impl FnOnce(u64)) -> Option<T> {
        let number = self.number();
        let (sender, receiver) = local_channel::new_bounded(1);
        self.waiting.borrow_mut().insert(number, sender);
        // Forgotten also where the one who asks goes away meanwhile.
        let _open = Open { requests: self, number };
        post(number);
        let late = async {
            sleep(limit).await;
            None
        };
        receiver.recv().or(late).await
    }

    /// A number of its own for something else that must not be confused with a question.
    pub fn number(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    /// The answer to question `number` is there. One that came too late is dropped.
    pub fn answer(&self, number: u64, answer: T) {
        if let Some(waiting) = self.waiting.borrow().get(&number) {
            // Its one place is free: a question is answered once.
            let _ = waiting.try_send(answer);
        }
    }
}

struct Open<'r, T> {
    requests: &'r Requests<T>,
    number: u64,
}

impl<T> Drop for Open<'_, T> {
    fn drop(&mut self) {
        self.requests.waiting.borrow_mut().remove(&self.number);
    }
}
