//! A server with two streams, at home on its first and its last shard; the kernel spreads publishers and
//! players over all shards.

use super::{
    media::{FRAMES_PER_SECOND, Media},
    publisher::Publisher,
    server::{Server, stream_at},
};

/// How long a player plays, and the least pictures it must have seen then.
pub const PLAY_SECONDS: u32 = 3;
pub const MIN_PICTURES: usize = FRAMES_PER_SECOND * PLAY_SECONDS as usize * 4 / 5;

pub struct Stage {
    pub server: Server,
    /// Name and media.
    pub streams: [(String, Media); 2],
    /// They publish until dropped.
    pub publishers: [Publisher; 2],
}

impl Stage {
    pub fn open(shards: usize) -> Self {
        let server = Server::start(shards);
        let streams = [(0, Media::Plain), (shards - 1, Media::Reordered)]
            .map(|(home, media)| (stream_at(home, shards, &format!("{media:?}")), media));
        let publishers = streams.each_ref().map(|(name, media)| Publisher::looping(&server, name, *media));
        for (name, _) in &streams {
            server.wait_until_live(name);
        }
        Self { server, streams, publishers }
    }
}
