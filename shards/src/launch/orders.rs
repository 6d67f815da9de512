//! What the operator wants of the running server: set from any thread, looked at by the control shard.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[derive(Debug, Default)]
pub struct Orders {
    /// End now.
    pub quit: Flag,
    /// End: now, or with grace where the configuration wants that.
    pub terminate: Flag,
    /// End with grace.
    pub grace: Flag,
    /// Read the configuration again.
    pub reload: Flag,
    /// The parent has gone, and with it the reason to run.
    pub orphaned: Flag,
}

#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    pub fn set(&self) {
        self.0.store(true, Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Whether it was set; it is not any more.
    pub fn take(&self) -> bool {
        self.0.swap(false, Relaxed)
    }
}
