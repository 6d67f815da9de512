//! Every way in by every way out: the marked clip goes in by one protocol and out by all the others at
//! once, each to a client that is not ours, and `judge.py` says what was seen and heard.

mod support;

use std::{fs, path::PathBuf, process::Command};
use support::{
    judge::{self, Judge},
    media::{FRAMES_PER_SECOND, Media},
    process::Process,
    publisher::Publisher,
    server::{Server, stream_at},
    until,
};
use tempfile::TempDir;

/// What every player plays at least.
const SECONDS: u32 = 5;
/// How often a player is sent away that the kernel gave to the stream's own shard.
const TRIES: usize = 30;

#[derive(Clone, Copy, Debug)]
enum In {
    Rtmp,
    Srt,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Out {
    Rtmp,
    HttpFlv,
    HttpTs,
    Hls,
    Srt,
}

/// A recording, FLV of one shard and MP4 of two, is judged beside them.
const OUTS: [Out; 5] = [Out::Hls, Out::Rtmp, Out::HttpFlv, Out::HttpTs, Out::Srt];

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
}

#[test]
fn publisher_that_vanishes_leaves_its_name() {
    let server = Server::start(2);
    let ways = [(In::Rtmp, "killed"), (In::Rtmp, "frozen"), (In::Srt, "killed")];
    let mut gone = ways.map(|(from, end)| {
        let name = format!("live/{from:?}-{end}");
        let publisher = from.publish(&server, &name, Media::Marked);
        server.wait_until_live(&name);
        (name, publisher)
    });
    for ((_, publisher), (_, end)) in gone.iter_mut().zip(ways) {
        if end == "killed" { publisher.kill() } else { publisher.freeze() }
    }
    for ((name, _), (from, _)) in gone.iter().zip(ways) {
        server.wait_until_over(name);
        let _next = from.publish(&server, name, Media::Marked);
        server.wait_until_live(name);
    }
    server.stop();
}

fn road(from: In, media: Media, shards: usize) {
    let Some(python) = judge::python() else { return };
    let stage = Stage::open(python, shards);
    let publisher = from.publish(&stage.server, &stage.stream, media);
    stage.server.wait_until_live(&stage.stream);
    let judges = OUTS.map(|out| stage.seat(out));
    stage.server.wait_for_pictures(&stage.stream, SECONDS as usize * FRAMES_PER_SECOND);
    judges.iter().for_each(Judge::stop);
    judges.into_iter().for_each(Judge::finish);
    publisher.terminate();
    let recording = stage.recording();
    Judge::of(&stage.python, &recording, SECONDS).finish();
    stage.server.stop();
}

impl In {
    /// Publishes over and over, until told to end.
    fn publish(self, server: &Server, stream: &str, media: Media) -> Process {
        match self {
            In::Rtmp => Publisher::looping(server, stream, media).process,
            In::Srt => {
                let mut command = Command::new("ffmpeg");
                command.args(["-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(media.file());
                command.args(["-c", "copy", "-f", "mpegts", &server.srt_in(stream)]);
                Process::start(&mut command)
            }
        }
    }
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
            "srs_log_tank console; http_server {{ enabled on; }} http_api {{ enabled on; }} srt_server {{ enabled on; }}
            vhost __defaultVhost__ {{
                http_remux {{ enabled on; }}
                srt {{ enabled on; }}
                hls {{ enabled on; hls_fragment 1; hls_window 10; hls_path {folder}; }}
                dvr {{ enabled on; dvr_path {folder}/[timestamp].{container}; }}
            }}",
            folder = folder.path().display(),
        );
        let (home, server) = (shards - 1, Server::of_conf(&conf, shards));
        Self { server, stream: stream_at(home, shards, "road"), home, python, container, folder }
    }

    /// A player that takes its place on another shard than the stream's, where there is one.
    fn seat(&self, out: Out) -> Judge {
        let address = match out {
            Out::Rtmp => self.server.rtmp(&self.stream),
            Out::HttpFlv => self.server.flv(&self.stream),
            Out::HttpTs => self.server.ts(&self.stream),
            Out::Hls => self.server.hls(&self.stream),
            Out::Srt => self.server.srt(&self.stream),
        };
        if out == Out::Hls {
            // Each request is a connection of its own, and the kernel spreads them.
            let playlist = format!("/{}.m3u8", self.stream);
            until("there is a playlist", || (self.server.get(&playlist).status == 200).then_some(()));
            return Judge::endless(&self.python, &address, SECONDS);
        }
        for _ in 0..TRIES {
            let before = self.viewers();
            let judge = Judge::endless(&self.python, &address, SECONDS);
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
