//! What whole-server tests share: a server of their own, real clients with deadlines, media to send.
//!
//! Nothing here waits for a time to pass; it waits for a condition, and fails when its deadline does.

pub mod certificate;
pub mod flv;
pub mod http;
pub mod judge;
pub mod media;
pub mod probe;
pub mod process;
pub mod publisher;
pub mod refusal;
pub mod relay;
pub mod server;
pub mod speaker;
pub mod stage;
pub mod tone;
pub mod viewer;

use std::time::{Duration, Instant};

/// How long to wait for what a loaded machine may need time for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until `look` finds something; fails naming `what` after [`PATIENCE`].
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// Waits until `look` finds something; fails naming `what` after `limit`.
pub fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(LOOK);
    }
}
