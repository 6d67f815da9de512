//! What came for a session by datagrams, until its task takes it.

use std::{
    cell::RefCell,
    collections::VecDeque,
    task::{Context, Waker},
};

/// Payloads of SRT, or media of WebRTC, that wait at the most.
pub const WAITING: usize = 8192;

pub struct Inbox<T> {
    waiting: RefCell<VecDeque<T>>,
    reader: RefCell<Option<Waker>>,
}

/// The session is to end: the way to its stream is congested.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Full {
    pub const WHY: &str = "the way to its stream is congested";
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self { waiting: RefCell::default(), reader: RefCell::default() }
    }
}

impl<T> Inbox<T> {
    pub fn push(&self, item: T) -> Result<(), Full> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= WAITING {
            return Err(Full);
        }
        waiting.push_back(item);
        Ok(())
    }

    pub fn pop(&self) -> Option<T> {
        self.waiting.borrow_mut().pop_front()
    }

    pub fn take(&self) -> Vec<T> {
        self.waiting.borrow_mut().drain(..).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// The task waits for more, or for the end.
    pub fn wait(&self, cx: &Context<'_>) {
        *self.reader.borrow_mut() = Some(cx.waker().clone());
    }

    pub fn wake(&self) {
        if let Some(reader) = self.reader.borrow_mut().take() {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_so_many_until_some_are_taken() {
        let inbox = Inbox::default();
        assert!((0..WAITING).all(|n| inbox.push(n).is_ok()));
        assert_eq!((inbox.push(0), inbox.pop(), inbox.push(WAITING)), (Err(Full), Some(0), Ok(())));
        assert_eq!(inbox.take(), (1..=WAITING).collect::<Vec<_>>());
        assert!(inbox.is_empty());
    }
}
