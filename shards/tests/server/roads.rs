//! Every way in by every way out: the marked clip goes in by one protocol and out by all the others at
//! once, each to a client that is not ours, and `judge.py` says what was seen and heard.

use crate::support::{
    judge::{self, Judge},
    media::{FRAMES_PER_SECOND, Media},
    process::Process,
    publisher::Publisher,
    server::{Server, stream_at},
    until,
};
use std::{fs, path::PathBuf, process::Command};
use tempfile::TempDir;

/// What every player plays at least.
const SECONDS: u32 = 6;
/// So late a player may be on a busy machine.
const LATE_SECONDS: u32 = 4;
/// How often a player is sent away that the kernel gave to the stream's own shard.
const TRIES: usize = 30;

#[derive(Clone, Copy, Debug)]
enum In {
    Rtmp,
    Srt,
    /// aiortc.
    Whip,
    /// ffmpeg's own.
    WhipFfmpeg,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Out {
    Rtmp,
    HttpFlv,
    HttpTs,
    Hls,
    Srt,
    Whep,
    /// A recording: FLV by one shard, MP4 by two.
    File,
}

const OUTS: [Out; 7] = [Out::Hls, Out::Rtmp, Out::HttpFlv, Out::HttpTs, Out::Srt, Out::Whep, Out::File];

macro_rules! roads {
    ($($name:ident: $from:ident $media:ident $shards:literal;)*) => {
        $(#[test] fn $name() { road(In::$from, Media::$media, $shards); })*
    };
}

roads! {
    from_rtmp_on_one_shard: Rtmp Marked 1;
    from_rtmp_across_two_shards: Rtmp Marked 2;
    from_rtmp_with_b_frames: Rtmp MarkedReordered 2;
    from_srt_on_one_shard: Srt Marked 1;
    from_srt_across_two_shards: Srt Marked 2;
    from_srt_with_b_frames: Srt MarkedReordered 2;
    from_whip_on_one_shard: Whip Marked 1;
    from_whip_across_two_shards: Whip Marked 2;
    from_whip_by_ffmpeg_on_one_shard: WhipFfmpeg Marked 1;
    from_whip_by_ffmpeg_across_two_shards: WhipFfmpeg Marked 2;
}

#[test]
fn publisher_that_vanishes_leaves_its_name() {
    let Some(python) = judge::python() else { return };
    let stage = Stage::open(python, 2);
    let server = &stage.server;
    let ways = [(In::Rtmp, "killed"), (In::Rtmp, "frozen"), (In::Srt, "killed"), (In::Whip, "killed")];
    let mut gone = ways.map(|(from, end)| {
        let name = format!("live/{from:?}-{end}");
        let publisher = stage.publish(from, &name, Media::Marked);
        server.wait_until_live(&name);
        (name, publisher)
    });
    for ((_, publisher), (_, end)) in gone.iter_mut().zip(ways) {
        if end == "killed" { publisher.kill() } else { publisher.freeze() }
    }
    for ((name, _), (from, _)) in gone.iter().zip(ways) {
        server.wait_until_over(name);
        let _next = stage.publish(from, name, Media::Marked);
        server.wait_until_live(name);
    }
    stage.server.stop();
}

fn road(from: In, media: Media, shards: usize) {
    let Some(python) = judge::python() else { return };
    let stage = Stage::open(python, shards);
    let publisher = stage.publish(from, &stage.stream, media);
    stage.server.wait_until_live(&stage.stream);
    let settling = if matches!(from, In::Whip | In::WhipFfmpeg) { 9 } else { 0 };
    let live = OUTS.into_iter().filter(|out| *out != Out::File);
    let judges = live.map(|out| {
        // WebRTC gets no B-frame that others do without: of the clip's pictures each third.
        let thinned = media == Media::MarkedReordered && out == Out::Whep;
        stage.seat(out).settling(settling).by_steps_of(if thinned { 2 } else { 1 })
    });
    let judges: Vec<_> = judges.collect();
    stage.server.wait_for_pictures(&stage.stream, (SECONDS + LATE_SECONDS) as usize * FRAMES_PER_SECOND);
    judges.iter().for_each(Judge::stop);
    judges.into_iter().for_each(Judge::finish);
    let left_out = stage.server.total("shardcast_viewer_drops_total", "reason=\"bframe\"");
    assert_eq!(left_out > 0.0, media == Media::MarkedReordered, "{left_out} pictures");
    publisher.terminate();
    stage.judge(Out::File).settling(settling).finish();
    stage.server.stop();
}

/// A server, and a stream of it.
struct Stage {
    server: Server,
    stream: String,
    /// The shard that the stream is at.
    home: usize,
    python: PathBuf,
    /// What recordings are.
    container: &'static str,
    /// Of recordings and segments.
    folder: TempDir,
}

impl Stage {
    fn open(python: PathBuf, shards: usize) -> Self {
        let container = if shards == 1 { "flv" } else { "mp4" };
        let folder = tempfile::tempdir().expect("a folder");
        let conf = format!(
            "srs_log_tank console; http_server {{ enabled on; }} http_api {{ enabled on; }}
            srt_server {{ enabled on; }} rtc_server {{ enabled on; candidate 127.0.0.1; }}
            vhost __defaultVhost__ {{
                http_remux {{ enabled on; }}
                srt {{ enabled on; }}
                rtc {{ enabled on; rtmp_to_rtc on; rtc_to_rtmp on; stun_timeout 5; }}
                hls {{ enabled on; hls_fragment 1; hls_window 10; hls_path {folder}; }}
                dvr {{ enabled on; dvr_path {folder}/[timestamp].{container}; }}
            }}",
            folder = folder.path().display(),
        );
        let (home, server) = (shards - 1, Server::of_conf(&conf, shards));
        Self { server, stream: stream_at(home, shards, "road"), home, python, container, folder }
    }

    /// Publishes over and over, until told to end.
    fn publish(&self, from: In, stream: &str, media: Media) -> Process {
        let looping = ["-v", "error", "-re", "-stream_loop", "-1", "-i"];
        match from {
            In::Rtmp => Publisher::looping(&self.server, stream, media).process,
            In::Srt => {
                let mut command = Command::new("ffmpeg");
                command.args(looping).arg(media.file());
                Process::start(command.args(["-c", "copy", "-f", "mpegts", &self.server.srt_in(stream)]))
            }
            In::Whip => {
                let mut command = judge::script(&self.python, "webrtc");
                Process::start(command.args(["publish", &self.server.whip(stream)]).arg(media.file()))
            }
            In::WhipFfmpeg => {
                let mut command = Command::new(judge::ffmpeg_with_whip(&self.python));
                command.args(looping).arg(media.file()).args(["-c:v", "copy", "-c:a", "libopus", "-ar", "48000"]);
                Process::start(command.args(["-b:a", "96k", "-f", "whip", &self.server.whip(stream)]))
            }
        }
    }

    /// A player that takes its place on another shard than the stream's, where there is one.
    fn seat(&self, out: Out) -> Judge {
        // Each request for HLS is a connection of its own, and the kernel spreads them.
        if out == Out::Hls {
            return self.judge(out);
        }
        for _ in 0..TRIES {
            let before = self.viewers();
            let judge = self.judge(out);
            let now = until("there is a viewer more", || {
                let now = self.viewers();
                (now.iter().sum::<u64>() > before.iter().sum()).then_some(now)
            });
            if self.server.shards == 1 || now[self.home] == before[self.home] {
                return judge;
            }
            judge.leave();
            until("the viewer is gone", || (self.viewers() == before).then_some(()));
        }
        panic!("{TRIES} players by {out:?} were all given to shard {}", self.home);
    }

    fn judge(&self, out: Out) -> Judge {
        let (server, stream, python) = (&self.server, &self.stream, &self.python);
        let address = match out {
            Out::Rtmp => server.rtmp(stream),
            Out::HttpFlv => server.flv(stream),
            Out::HttpTs => server.ts(stream),
            Out::Hls => {
                let playlist = format!("/{stream}.m3u8");
                until("there is a playlist", || (server.get(&playlist).status == 200).then_some(()));
                server.hls(stream)
            }
            Out::Srt => server.srt(stream),
            Out::Whep => {
                let url = server.whep(stream);
                return Judge::by(judge::script(python, "webrtc").args(["play", &url]), SECONDS);
            }
            // Its end may be in the middle of pictures that belong together.
            Out::File => return Judge::of(python, self.recording(), SECONDS),
        };
        Judge::endless(python, &address, SECONDS)
    }

    /// By shard.
    fn viewers(&self) -> Vec<u64> {
        let of = |shard| self.server.total("shardcast_viewers", &format!("shard=\"{shard}\"")) as u64;
        (0..self.server.shards).map(of).collect()
    }

    /// The only recording, once it is whole.
    fn recording(&self) -> PathBuf {
        let is_whole = |path: &PathBuf| path.extension().is_some_and(|end| end == self.container);
        until("there is a recording", || {
            let entries = fs::read_dir(self.folder.path()).expect("a folder");
            entries.map(|entry| entry.expect("an entry").path()).find(is_whole)
        })
    }
}
