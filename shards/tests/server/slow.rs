//! Viewers that read too slowly: they skip to keyframes and cost neither memory nor their neighbours anything.

use crate::support::{
    PATIENCE,
    flv::{self, Tag},
    media::Media,
    probe::Decoder,
    publisher::Publisher,
    server::Server,
    until,
    viewer::{Laggard, PAUSE_MS, SKIPPING, Viewer},
};
use serde_json::json;
use std::io::Write;

const PAUSES: u32 = 2;
/// They never read.
const STUCK: usize = 20;
/// What they would cost in 8 s if it were kept for them: 400 MB; if one copy of all were kept: 20 MB.
const GROWTH_MAX: u64 = 10 << 20;

#[test]
fn slow_viewers_skip_to_keyframes_at_no_cost_to_others() {
    let server = Server::of_conf(SKIPPING, 2);
    let fast = Viewer::open(server.ports.http, "live/heavy");
    let stuck: Vec<_> = (0..STUCK).map(|_| Laggard::open(server.ports.http, "live/heavy")).collect();
    let mut laggard = Laggard::open(server.ports.http, "live/heavy");
    server.wait_for_clients("live/heavy", 2 + stuck.len() as u64);
    let _publisher = Publisher::looping(&server, "live/heavy", Media::Heavy);

    let live_up_to = |time_ms| until("the stream goes on", || fast.newest_ms().filter(|newest| *newest >= time_ms));
    let mut now = live_up_to(1_000);
    laggard.read_up_to(500, PATIENCE);
    for _ in 0..PAUSES {
        now = live_up_to(now + PAUSE_MS);
        laggard.read_up_to(now, PATIENCE);
    }
    let settled = server.resident();
    live_up_to(now + 8_000);
    let resident = server.resident();
    eprintln!("resident {} KiB, 8 s later {} KiB", settled >> 10, resident >> 10);
    assert!(resident < settled + GROWTH_MAX, "from {settled} to {resident} bytes");

    // The laggard: gaps, after each a keyframe, and all of it decodes.
    let pictures: Vec<_> = laggard.frames().into_iter().filter(|frame| frame.kind == flv::VIDEO).collect();
    let gaps: Vec<_> = pictures.windows(2).filter(|pair| pair[1].time_ms - pair[0].time_ms > 80).collect();
    assert_eq!(gaps.len() as u32, PAUSES, "one skip a pause");
    assert!(gaps.iter().all(|pair| pair[1].is_keyframe()));
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(laggard.flv()).expect("write a file");
    assert_eq!(Decoder::whole(file.path()).finish(PATIENCE).pictures.len(), pictures.len());

    // It is counted and told.
    let skips = server.log().with(&["viewer", &laggard.peer(), "ms behind, skipped"]);
    assert_eq!(skips.len() as u32, PAUSES, "{skips:?}");
    assert!(server.total("shardcast_viewer_skips_total", "") >= f64::from(PAUSES));
    let seen = laggard.frames();
    let (first, last) = (seen[0].time_ms, seen[seen.len() - 1].time_ms);
    let between = |tags: Vec<Tag>| tags.iter().filter(|tag| (first + 1..last).contains(&tag.time_ms)).count();
    let missed = between(fast.frames()) - between(seen);
    let clients = server.get("/api/v1/clients/?count=100").json()["clients"].as_array().cloned().unwrap_or_default();
    let told = clients.iter().find(|client| client["drops"] == json!({ "behind": missed }));
    assert!(told.is_some_and(|client| client["skips"] == PAUSES), "missed {missed}, told {clients:?}");
    assert!(server.total("shardcast_viewer_drops_total", "reason=\"behind\"") >= missed as f64);

    // Beside it nobody misses a frame.
    flv::assert_every_picture(&fast.frames(), &Media::Heavy.file());
    drop(stuck);
    server.stop();
}
