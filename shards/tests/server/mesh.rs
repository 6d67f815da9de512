//! Between shards: each frame crosses once to each shard that has viewers of it, and to no other.

use crate::support::{
    flv,
    media::Media,
    publisher::Publisher,
    server::{Server, stream_at},
    until,
    viewer::Viewer,
};
use std::time::Duration;

/// More than any spread of the kernel's needs to reach each shard.
const VIEWERS_MAX: usize = 200;

#[test]
fn frames_cross_once_to_each_of_two_shards() {
    frames_cross_once(2, true);
}

#[test]
fn frames_cross_once_to_each_of_four_shards() {
    frames_cross_once(4, true);
}

#[test]
fn frames_cross_only_where_viewers_are() {
    frames_cross_once(16, false);
}

fn frames_cross_once(shards: usize, everywhere: bool) {
    let server = Server::start(shards);
    let home = shards - 1;
    let name = stream_at(home, shards, "cross");
    let mut viewers = Vec::new();
    let watching = loop {
        viewers.push(Viewer::open(server.ports.http, &name));
        server.wait_for_clients(&name, viewers.len() as u64);
        let watching = watching(&server);
        let remote = watching.iter().filter(|shard| **shard != home).count();
        if if everywhere { watching.len() == shards } else { remote == 2 } {
            break watching;
        }
        assert!(viewers.len() < VIEWERS_MAX, "{VIEWERS_MAX} viewers are on shards {watching:?} only");
    };
    Publisher::once(&server, &name, Media::Short).finish(Duration::from_secs(4));
    let frames = flv::frames(&Media::Short.file());
    for viewer in &viewers {
        until("the FLV ends with its publisher", || viewer.ended().then_some(()));
        let sent = frames.iter().skip_while(|frame| !frame.is_keyframe()).map(|frame| &frame.body);
        let got = viewer.frames();
        assert!(got.iter().map(|frame| &frame.body).eq(sent), "{} of {} frames", got.len(), frames.len());
    }
    let remote = watching.iter().filter(|shard| **shard != home).count();
    let crossed = server.total("shardcast_mesh_frames_total", "");
    assert_eq!(crossed, (frames.len() * remote) as f64, "{} frames to {remote} shards", frames.len());
    assert_eq!(server.total("shardcast_mesh_frames_total", &format!("shard=\"{home}\"")), crossed);
    assert_eq!(server.total("shardcast_mesh_skips_total", ""), 0.0);
    server.stop();
}

/// The shards that have viewers.
fn watching(server: &Server) -> Vec<usize> {
    let by_shard = server.metric("shardcast_viewers").into_iter().filter(|(_, viewers)| *viewers > 0.0);
    by_shard
        .map(|(labels, _)| {
            let number: String = labels.chars().filter(char::is_ascii_digit).collect();
            number.parse().expect("a shard's number")
        })
        .collect()
}
