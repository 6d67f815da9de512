//! The threads that transcode, for the whole process: a share of its CPUs, not pinned.

use super::line::Shared;
use crate::net::sys;
use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError},
    thread,
};
use tracing::error;

/// One thread for so many CPUs.
const CPUS: usize = 4;

#[derive(Default)]
pub struct Pool {
    /// Lines that have work, each once.
    ready: Mutex<VecDeque<Arc<Shared>>>,
    wake: Condvar,
}

/// The pool, with its threads at the first call.
pub fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    static THREADS: OnceLock<()> = OnceLock::new();
    let pool = POOL.get_or_init(Pool::default);
    THREADS.get_or_init(|| {
        let cpus = sys::process_cpus().map_or(1, |cpus| cpus.len());
        for number in 0..(cpus / CPUS).max(1) {
            if let Err(wrong) = thread::Builder::new().name(format!("sound-{number}")).spawn(|| pool.run()) {
                error!("start a thread for sound: {wrong}");
            }
        }
    });
    pool
}

impl Pool {
    pub fn schedule(&self, line: Arc<Shared>) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).push_back(line);
        self.wake.notify_one();
    }

    fn run(&self) {
        // It was started by an executor, which is pinned.
        if let Err(wrong) = sys::unpin() {
            error!("a thread for sound stays on its shard's CPU: {wrong}");
        }
        loop {
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            let line = loop {
                match ready.pop_front() {
                    Some(line) => break line,
                    None => ready = self.wake.wait(ready).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(ready);
            if line.work() {
                self.schedule(line);
            }
        }
    }
}
