//! From sockets to sessions: who connects, what protocol it speaks, and its session's life.

pub mod accept;
pub mod candidates;
pub mod http;
pub mod rtc;
pub mod rtmp;
pub mod seat;
pub mod srt;

use crate::{connection::Connection, current};
use futures_lite::FutureExt;
use std::panic::AssertUnwindSafe;
use tracing::error;

/// A session's work; `None` where it panicked, which ends it and nothing else.
async fn guarded<R>(connection: &Connection, session: impl Future<Output = R>) -> Option<R> {
    let done = AssertUnwindSafe(current::of(&connection.id, session)).catch_unwind().await.ok();
    if done.is_none() {
        metrics::counter!("shardcast_session_panics_total").increment(1);
        error!(cid = %connection.id, "the session of {} panicked and was ended; please report this", connection.peer.get());
        connection.close("internal error".into());
    }
    done
}
