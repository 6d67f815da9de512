//! Which session a thread is at work for, so that a panic or a crash can be told of it.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
};

/// As long as ids of connections are.
pub type Id = [u8; 8];

thread_local! {
    /// Zeros where it is at work for none. Nothing to make and nothing to drop: a signal handler may read it.
    static CURRENT: Cell<Id> = const { Cell::new([0; 8]) };
}

/// Of this thread now.
pub fn id() -> Id {
    CURRENT.get()
}

/// The same as text, where there is one.
pub fn name(id: &Id) -> Option<&str> {
    std::str::from_utf8(id).ok().filter(|id| !id.starts_with('\0'))
}

/// A session's work.
pub fn of<F: Future>(id: &str, work: F) -> impl Future<Output = F::Output> {
    let mut name = Id::default();
    name.iter_mut().zip(id.bytes()).for_each(|(to, byte)| *to = byte);
    Work { id: name, work: Box::pin(work) }
}

struct Work<F> {
    id: Id,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Work<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _turn = Turn(CURRENT.replace(self.id));
        self.work.as_mut().poll(cx)
    }
}

/// However a poll ends, what was before it is there again.
struct Turn(Id);

impl Drop for Turn {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, yield_now};

    #[test]
    fn a_thread_knows_whom_it_works_for_while_it_does() {
        let inner = async {
            yield_now().await;
            name(&id()).map(str::to_owned)
        };
        let outer = async { (of("22222222", inner).await, name(&id()).map(str::to_owned)) };
        let told = block_on(of("11111111", outer));
        assert_eq!(told, (Some("22222222".into()), Some("11111111".into())));
        assert_eq!(name(&id()), None);
        let _ = std::panic::catch_unwind(|| block_on(of("33333333", async { panic!("for the test") })));
        assert_eq!(name(&id()), None);
    }
}
