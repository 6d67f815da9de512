//! ffmpeg as a publisher, in real time.

use super::{PATIENCE, media::Media, process::Process, server::Server};
use std::{process::Command, time::Duration};

pub struct Publisher {
    pub process: Process,
}

impl Publisher {
    /// Publishes over and over, until dropped.
    pub fn looping(server: &Server, stream: &str, media: Media) -> Self {
        Self::start(&server.rtmp(stream), media, &["-stream_loop", "-1"])
    }

    /// Publishes once and leaves.
    pub fn once(server: &Server, stream: &str, media: Media) -> Self {
        Self::start(&server.rtmp(stream), media, &[])
    }

    /// Publishes over and over to `url`, until dropped.
    pub fn looping_to(url: &str, media: Media) -> Self {
        Self::start(url, media, &["-stream_loop", "-1"])
    }

    fn start(url: &str, media: Media, input: &[&str]) -> Self {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-re"]).args(input).arg("-i").arg(media.file());
        command.args(["-c", "copy", "-flvflags", "no_duration_filesize", "-f", "flv", url]);
        Self { process: Process::start(&mut command) }
    }

    /// Waits for its end, which must be a good one.
    pub fn finish(self, media_time: Duration) {
        self.process.finish(media_time + PATIENCE).clean("the publisher");
    }
}
