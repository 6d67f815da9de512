//! `/api/v1/shards`: what each core serves. SRS, of one core, has nothing like it.

use super::envelope;
use crate::control::{Control, snapshot::Shard};
use serde_json::{Value, json};
use std::time::Duration;

pub async fn shards(control: &Control) -> Value {
    let shards: Vec<_> = control.snapshot().await.iter().map(object).collect();
    envelope(control, "shards", shards.into())
}

/// `load` is the share of a core in the last second, `late_ms` how late its ticks come by its own work, `window_ms`
/// the shortest merge window that it has time for, `read_span_ms` the time between two reads of a publisher, 0 where
/// each is read at once. Bytes are those of the streams that are there now: received by
/// the shard that is their home, sent by the one that has the viewers.
fn object(shard: &Shard) -> Value {
    let homes = || shard.streams.iter().filter_map(|share| share.home.as_ref());
    json!({
        "id": shard.index,
        "load": shard.load,
        "late_ms": milliseconds(shard.late),
        "window_ms": milliseconds(shard.window),
        "read_span_ms": milliseconds(shard.read_span),
        "full": shard.is_full,
        "connections": shard.connections,
        "streams": shard.streams.len(),
        "publishers": shard.streams.iter().filter(|share| share.is_published()).count(),
        "viewers": shard.streams.iter().map(|share| share.viewers).sum::<usize>(),
        "recv_bytes": homes().map(|home| home.received).sum::<u64>(),
        "send_bytes": shard.streams.iter().map(|share| share.sent).sum::<u64>(),
        "mesh_frames": shard.frames_crossed,
    })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}
