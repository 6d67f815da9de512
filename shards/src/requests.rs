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
        self.ask_as(number, limit, || post(number)).await
    }

    /// As [`Self::ask`], under a number that is the caller's own.
    pub async fn ask_as(&self, number: u64, limit: Duration, post: impl FnOnce()) -> Option<T> {
        let (sender, receiver) = local_channel::new_bounded(1);
        self.waiting.borrow_mut().insert(number, sender);
        // Forgotten also where the one who asks goes away meanwhile.
        let _open = Open { requests: self, number };
        post();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_or_the_question_is_forgotten() {
        let requests = Requests::default();
        glommio::LocalExecutor::default().run(async {
            let second = Duration::from_secs(1);
            assert_eq!(requests.ask(second, |number| requests.answer(number, "yes")).await, Some("yes"));
            assert_eq!(requests.ask_as(7, second, || requests.answer(7, "no")).await, Some("no"));
            assert_eq!(requests.ask_as(8, Duration::from_millis(1), || requests.answer(7, "to another")).await, None);
            requests.answer(8, "late");
        });
        assert!(requests.waiting.into_inner().is_empty());
    }
}
