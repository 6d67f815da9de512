//! A publisher's recording: what its stream's ring has, muxed, to one file after the other.

use super::{
    disk::Disk,
    file::Ending,
    path::{self, Container},
};
use crate::{
    config::{Dvr, DvrPlan},
    hooks::Client,
    net::sys::{self, LocalTime},
};
use shardcast_engine::{
    codec::Kind,
    fanout::{Format, Ring, Unit},
    frame::Frame,
    key::StreamKey,
    prologue::Prologue,
    time::Timestamp,
};
use shardcast_protocols::{
    flv::Flv,
    mp4::{Fragment, Fragmenter, Index},
};
use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};
use tracing::warn;

/// FLV tags gather for so long, or to so many bytes, before they are handed to the disk.
const GATHER: Timestamp = Timestamp::from_whole_ms(500);
const GATHER_BYTES: usize = 128 << 10;

/// Files begin at zero by themselves.
const FLV: Flv = Flv { zero: Some(Timestamp::ZERO), colour: true };

/// What a clock shows that cannot be read.
const EPOCH: LocalTime = LocalTime { year: 1970, month: 1, day: 1, hour: 0, minute: 0, second: 0 };

pub struct Recorder {
    key: StreamKey,
    /// The publisher.
    client: Arc<Client>,
    dvr: Rc<Dvr>,
    disk: Rc<Disk>,
    /// The next unit of the ring that it has not looked at.
    next: u64,
    file: Option<Recording>,
    /// Files opened.
    opened: u64,
    failed: Arc<AtomicBool>,
}

/// A file that is being written.
struct Recording {
    number: u64,
    /// Stream time that is zero in the file.
    start: Timestamp,
    prologue: Arc<Prologue>,
    muxer: Muxer,
}

enum Muxer {
    Flv { buffer: Vec<u8>, since: Timestamp },
    Mp4 { fragmenter: Fragmenter, index: Box<Index> },
}

impl Recorder {
    pub fn new(key: StreamKey, client: Arc<Client>, dvr: Rc<Dvr>, disk: Rc<Disk>, next: u64) -> Self {
        Self { key, client, dvr, disk, next, file: None, opened: 0, failed: Arc::default() }
    }

    /// Takes what the ring has got since. Where the disk cannot keep up it stays where it is; where the ring has
    /// left it behind it goes on at the newest keyframe.
    pub fn catch_up(&mut self, ring: &Ring) {
        self.advance(ring, ring.settled());
    }

    /// The publisher is gone: the file gets the rest.
    pub fn finish(mut self, ring: &Ring) {
        self.advance(ring, true);
        if self.next < ring.next() && !self.failed.load(Ordering::Relaxed) {
            self.skipped();
        }
    }

    fn advance(&mut self, ring: &Ring, settled: bool) {
        if self.failed.load(Ordering::Relaxed) {
            self.file = None;
            return;
        }
        if !self.disk.has_room() {
            return;
        }
        if self.next < ring.oldest() {
            // Before the first file nothing is lost that could be played.
            if self.opened > 0 {
                let Some(resume) = ring.resume() else { return };
                self.skipped();
                self.next = resume;
            } else {
                self.next = ring.oldest();
            }
        }
        if self.file.is_none() && self.opened == 0 && !settled {
            return;
        }
        for unit in ring.from(self.next) {
            self.take(unit, ring);
            self.next = unit.seq + 1;
        }
    }

    fn take(&mut self, unit: &Arc<Unit>, ring: &Ring) {
        if !unit.prologue.plays(unit.frame.kind) {
            return;
        }
        if self.file.as_ref().is_some_and(|file| file.ends_before(unit, &self.dvr)) {
            self.close();
        }
        if self.file.is_none() && self.may_start(unit, ring) {
            self.open(unit, ring);
        }
        if let Some(file) = &mut self.file {
            file.take(unit, &self.disk);
        }
    }

    /// A file starts with a picture that needs no other, or with sound where there are no pictures.
    fn may_start(&self, unit: &Unit, ring: &Ring) -> bool {
        if unit.prologue.video.is_none() || unit.frame.keyframe {
            return true;
        }
        let pictures_are_overdue = || ring.resume().is_some_and(|_| !ring.from(0).any(|u| u.frame.kind == Kind::Video));
        self.opened > 0 && !self.dvr.wait_keyframe && self.dvr.plan == DvrPlan::Segment || pictures_are_overdue()
    }

    fn open(&mut self, unit: &Unit, ring: &Ring) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(now.as_secs()).ok().and_then(sys::local_time).unwrap_or(EPOCH);
        let (path, container) = path::fill(&self.dvr.path, &self.key, now, wall);
        let start = unit.frame.dts;
        // A track that turned up just after the file's start belongs into its head.
        let newest = ring.newest_prologue().filter(|newest| unit.prologue.grows_into(newest));
        let prologue = newest.unwrap_or(&unit.prologue).clone();
        let mut head = Vec::new();
        let muxer = match container {
            Container::Mp4 => {
                // A frame has its track, so there is one.
                let Some(fragmenter) = Fragmenter::new(&prologue) else { return };
                fragmenter.init(&mut head);
                Muxer::Mp4 { index: Box::new(Index::new(&fragmenter, &head)), fragmenter }
            }
            Container::Flv => {
                FLV.head(&prologue, Timestamp::ZERO, &mut head);
                Muxer::Flv { buffer: Vec::new(), since: start }
            }
        };
        let number = self.disk.open(path, self.client.clone(), self.failed.clone());
        self.disk.write(number, head);
        self.opened += 1;
        self.file = Some(Recording { number, start, prologue, muxer });
    }

    fn close(&mut self) {
        if let Some(file) = self.file.take() {
            file.close(&self.disk);
        }
    }

    fn skipped(&self) {
        warn!(cid = %self.client.id, "{} skipped frames on the way to the disk", self.key);
        metrics::counter!("shardcast_recording_skips_total").increment(1);
    }
}

/// However a recording ends, with its stream's fault too, its file is made whole.
impl Drop for Recorder {
    fn drop(&mut self) {
        self.close();
    }
}

impl Recording {
    /// The plan, or what an MP4 can hold, ends the file here.
    fn ends_before(&self, unit: &Unit, dvr: &Dvr) -> bool {
        let Unit { frame, prologue, .. } = unit;
        let at_a_keyframe = frame.keyframe || prologue.video.is_none();
        let cut = dvr.plan == DvrPlan::Segment && frame.dts - self.start >= Timestamp::from(dvr.duration);
        let plan = cut && (at_a_keyframe || !dvr.wait_keyframe);
        let Muxer::Mp4 { index, .. } = &self.muxer else { return plan };
        // The tracks of an MP4 stand fast once it is begun.
        plan || !prologue.grows_into(&self.prologue) || index.is_full() && at_a_keyframe
    }

    fn take(&mut self, unit: &Unit, disk: &Disk) {
        let Unit { prologue, frame, .. } = unit;
        // Sound that belongs before the first picture.
        if frame.dts < self.start {
            return;
        }
        let at = frame.dts - self.start;
        let frame = Frame { dts: at, pts: frame.pts - self.start, ..frame.clone() };
        match &mut self.muxer {
            Muxer::Flv { buffer, since } => {
                if prologue.version > self.prologue.version {
                    FLV.prologue(prologue, at, buffer);
                    self.prologue = prologue.clone();
                }
                Flv { ..FLV }.mux(prologue, &frame, buffer);
                if buffer.len() >= GATHER_BYTES || unit.frame.dts - *since >= GATHER {
                    disk.write(self.number, std::mem::take(buffer));
                    *since = unit.frame.dts;
                }
            }
            Muxer::Mp4 { fragmenter, index } => {
                if let Some(fragment) = fragmenter.push(frame) {
                    append(self.number, fragment, index, disk);
                }
            }
        }
    }

    fn close(self, disk: &Disk) {
        match self.muxer {
            Muxer::Flv { buffer, .. } => {
                disk.write(self.number, buffer);
                disk.close(self.number, Ending::Nothing);
            }
            Muxer::Mp4 { mut fragmenter, mut index } => {
                if let Some(fragment) = fragmenter.finish() {
                    append(self.number, fragment, &mut index, disk);
                }
                disk.close(self.number, Ending::Plain(index));
            }
        }
    }
}

fn append(number: u64, fragment: Fragment, index: &mut Index, disk: &Disk) {
    index.add(&fragment);
    disk.write(number, fragment.bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Config, Env},
        hooks::Herald,
    };
    use bytes::Bytes;
    use shardcast_engine::{
        codec::Codec,
        fanout::ring::Policy,
        key::DEFAULT_VHOST,
        track::{Picture, Shape, Sound, Track},
    };
    use std::{path::Path, time::Duration};

    fn prologue(config: &'static [u8]) -> Arc<Prologue> {
        let shape = Shape::Video(Picture { width: 64, height: 36, ..Picture::default() });
        let track = Track { codec: Codec::H264, config: Bytes::from_static(config), shape };
        Arc::new(Prologue::default().with_track(track).unwrap())
    }

    fn ring() -> Ring {
        let skip = Timestamp::from_ms(1_000);
        Ring::new(Policy { skip, bytes: 1 << 20, gop_cache: true, gop_cache_max_frames: 2_500 })
    }

    /// Pictures `range`, 40 ms each, every 25th a keyframe, each with its number as payload.
    fn append(ring: &mut Ring, prologue: &Arc<Prologue>, range: std::ops::Range<i64>) {
        for n in range {
            let dts = Timestamp::from_ms(n * 40);
            let payload = Bytes::from(format!("<picture {n}>"));
            let frame = Frame { kind: Kind::Video, dts, pts: dts, keyframe: n % 25 == 0, payload };
            ring.append(prologue.clone(), frame);
        }
    }

    fn disk() -> Rc<Disk> {
        let (herald, _) = Herald::new(Arc::new(Config::built_in(&Env::default()).unwrap()));
        Rc::new(Disk::start("disk".into(), herald).unwrap())
    }

    fn recorder(folder: &Path, name: &str, disk: &Rc<Disk>) -> Recorder {
        let dvr = Dvr {
            enabled: true,
            apply: vec!["all".into()],
            plan: DvrPlan::Session,
            path: format!("{}/{name}", folder.display()),
            duration: Duration::from_secs(30),
            wait_keyframe: true,
        };
        let key = StreamKey::new(DEFAULT_VHOST, "live", "a");
        let client = Client::new("cid", [127, 0, 0, 1].into(), key.clone(), Arc::default());
        Recorder::new(key, Arc::new(client), Rc::new(dvr), disk.clone(), 0)
    }

    /// The numbers of the pictures in each file, once the disk has all.
    fn recorded(folder: &Path, disk: &Disk) -> Vec<Vec<i64>> {
        disk.end();
        while !disk.has_ended() {
            std::thread::yield_now();
        }
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let pictures = |path: &std::path::PathBuf| {
            let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
            text.split("<picture ").skip(1).map(|rest| rest.split('>').next().unwrap().parse().unwrap()).collect()
        };
        paths.iter().map(pictures).collect()
    }

    #[test]
    fn goes_on_at_a_keyframe_where_the_ring_has_left_it_behind() {
        for name in ["a.flv", "a.mp4"] {
            let (folder, disk) = (tempfile::tempdir().unwrap(), disk());
            let (mut ring, prologue) = (ring(), prologue(b"one"));
            let mut recorder = recorder(folder.path(), name, &disk);
            append(&mut ring, &prologue, 0..30);
            recorder.catch_up(&ring);
            append(&mut ring, &prologue, 30..110);
            recorder.catch_up(&ring);
            append(&mut ring, &prologue, 110..120);
            recorder.finish(&ring);
            let expected: Vec<_> = (0..30).chain(100..120).collect();
            assert_eq!(recorded(folder.path(), &disk), [expected], "{name}");
        }
    }

    #[test]
    fn other_tracks_begin_another_mp4_and_none_of_flv() {
        for (name, expected) in [
            ("[timestamp].flv", vec![(0..60).collect::<Vec<_>>()]),
            ("[timestamp].mp4", vec![(0..50).collect(), (50..60).collect()]),
        ] {
            let (folder, disk) = (tempfile::tempdir().unwrap(), disk());
            let mut ring = ring();
            let mut recorder = recorder(folder.path(), name, &disk);
            append(&mut ring, &prologue(b"one"), 0..50);
            recorder.catch_up(&ring);
            let begun = SystemTime::now();
            // The next file's name is the time, in milliseconds.
            while begun.elapsed().unwrap_or_default() < Duration::from_millis(2) {}
            append(&mut ring, &prologue(b"two"), 50..60);
            recorder.finish(&ring);
            let got: Vec<Vec<i64>> = recorded(folder.path(), &disk);
            assert_eq!(got, expected, "{name}");
        }
    }
    #[test]
    fn a_track_that_turns_up_just_after_the_start_is_in_the_first_file() {
        for name in ["[timestamp].flv", "[timestamp].mp4"] {
            let (folder, disk) = (tempfile::tempdir().unwrap(), disk());
            let (mut ring, pictures) = (ring(), prologue(b"one"));
            let shape = Shape::Audio(Sound { sample_rate: 44_100, channels: 2, ..Sound::default() });
            let sound = Track { codec: Codec::Aac, config: Bytes::from_static(b"\x12\x10"), shape };
            let mut recorder = recorder(folder.path(), name, &disk);
            append(&mut ring, &pictures, 0..5);
            recorder.catch_up(&ring);
            append(&mut ring, &Arc::new(pictures.with_track(sound).unwrap()), 5..50);
            recorder.finish(&ring);
            let expected: Vec<_> = (0..50).collect();
            assert_eq!(recorded(folder.path(), &disk), [expected], "{name}");
        }
    }
}
