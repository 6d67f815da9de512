//! Cuts a stream into segments and keeps a window of them.

use super::{names::Names, playlist};
use crate::ts::Ts;
use bytes::Bytes;
use shardcast_engine::{
    codec::Kind,
    fanout::{Format, Unit},
    key::StreamKey,
    prologue::Prologue,
    time::Timestamp,
};
use std::{collections::VecDeque, sync::Arc};

/// When to cut, and how much to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A keyframe that comes this long after the segment's start begins the next one.
    pub fragment: Timestamp,
    /// Sound that comes this long after the segment's start cuts at once: in sound alone, and in a GOP
    /// without an end.
    pub overflow: Timestamp,
    /// What the playlist lists, plus up to one segment.
    pub window: Timestamp,
    /// Off: any picture may begin a segment.
    pub wait_keyframe: bool,
    /// Bytes of all segments kept. A segment of half of it is given up.
    pub bytes: usize,
}

/// One finished segment.
#[derive(Debug)]
pub struct Segment {
    pub seq: u64,
    /// Its path, without a leading slash.
    pub path: String,
    pub duration: Timestamp,
    /// What a decoder knew before does not hold from here on: another publisher, another codec configuration.
    pub discontinuity: bool,
    /// MPEG-TS that starts with tables, and where there are pictures with a keyframe.
    pub bytes: Bytes,
}

/// What a new segment means for a copy of the window elsewhere.
#[derive(Debug)]
pub struct Change {
    pub added: Arc<Segment>,
    /// Paths of segments that are not kept any more.
    pub gone: Vec<String>,
    pub playlist: Bytes,
}

/// What a path stands for.
#[derive(Clone, Debug)]
pub enum Content {
    Playlist(Bytes),
    /// Bytes that never change under this name, while it has them.
    Segment(Bytes),
}

impl Content {
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Playlist(bytes) | Self::Segment(bytes) => bytes,
        }
    }
}

/// Shorter ones are given up, and their number with them is used again.
const SHORTEST: Timestamp = Timestamp::from_whole_ms(100);
/// Sound alone for less than this before the first picture is given up for a segment that starts with it.
const SETTLING: Timestamp = Timestamp::from_whole_ms(1_000);

pub struct Packager {
    settings: Settings,
    key: StreamKey,
    names: Names,
    playlist_path: String,
    ts: Ts,
    current: Option<Current>,
    /// Oldest first. Those before `listed` have left the playlist and are kept for players that have read an
    /// older one (RFC 8216 §6.2.2).
    segments: VecDeque<Arc<Segment>>,
    listed: usize,
    bytes: usize,
    next_seq: u64,
    /// Seconds.
    target: u64,
    discontinuities_gone: u64,
    /// The next segment does not continue the last one.
    discontinuity: bool,
    /// A keyframe came since the stream broke off: pictures can be decoded.
    keyed: bool,
    playlist: Bytes,
}

/// The segment that is being made.
struct Current {
    start: Timestamp,
    newest: Timestamp,
    prologue: Arc<Prologue>,
    bytes: Vec<u8>,
}

impl Packager {
    pub fn new(settings: Settings, key: StreamKey, names: Names) -> Self {
        Self {
            target: whole_seconds(settings.fragment),
            playlist_path: names.playlist(&key),
            settings,
            key,
            names,
            ts: Ts::default(),
            current: None,
            segments: VecDeque::new(),
            listed: 0,
            bytes: 0,
            next_seq: 0,
            discontinuities_gone: 0,
            discontinuity: false,
            keyed: false,
            playlist: Bytes::new(),
        }
    }

    /// Takes the stream's next frame.
    pub fn push(&mut self, unit: &Unit) -> Option<Change> {
        let (frame, prologue) = (&unit.frame, &unit.prologue);
        if !self.ts.takes(prologue, frame.kind) {
            return None;
        }
        let pictures = self.ts.takes(prologue, Kind::Video);
        let mut change = None;
        if let Some(current) = &self.current {
            let age = frame.dts - current.start;
            let entry = frame.kind == Kind::Video && (frame.keyframe || !self.settings.wait_keyframe);
            if !current.prologue.grows_into(prologue) || current.bytes.len() > self.settings.bytes / 2 {
                change = self.close(frame.dts);
                self.break_off();
            } else if entry && !self.keyed && age <= SETTLING {
                self.current = None;
            } else if (entry && (age >= self.settings.fragment || !self.keyed))
                || (frame.kind != Kind::Video && age >= self.settings.overflow)
            {
                change = self.close(frame.dts);
                if change.is_some() {
                    // Where it cut at sound or any picture, in the middle of a GOP.
                    self.open(unit);
                }
            }
        }
        self.keyed |= frame.keyframe;
        if frame.kind == Kind::Video && !self.keyed {
            return change;
        }
        if self.current.is_none() {
            if pictures && !frame.keyframe {
                return change;
            }
            self.open(unit);
        }
        if let Some(current) = &mut self.current {
            current.newest = current.newest.max(frame.dts);
            self.ts.mux(prologue, frame, &mut current.bytes);
        }
        change
    }

    /// The publisher is gone: its last segment is whole, the next publisher's does not continue it.
    pub fn splice(&mut self) -> Option<Change> {
        let newest = self.current.as_ref().map(|current| current.newest);
        let change = newest.and_then(|newest| self.close(newest));
        self.break_off();
        change
    }

    /// What stands at `path` (with or without a leading slash).
    pub fn content(&self, path: &str) -> Option<Content> {
        let path = path.trim_start_matches('/');
        if path == self.playlist_path {
            return (!self.playlist.is_empty()).then(|| Content::Playlist(self.playlist.clone()));
        }
        let segment = self.segments.iter().rev().find(|segment| segment.path == path)?;
        Some(Content::Segment(segment.bytes.clone()))
    }

    /// No segment is finished yet.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The playlist's path, and those of all segments kept.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        [&*self.playlist_path].into_iter().chain(self.segments.iter().map(|segment| &*segment.path))
    }

    pub fn playlist_path(&self) -> &str {
        &self.playlist_path
    }

    /// Bytes of memory that it holds, about.
    pub fn bytes(&self) -> usize {
        self.bytes + self.current.as_ref().map_or(0, |current| current.bytes.capacity())
    }

    /// What comes next does not continue what came before.
    fn break_off(&mut self) {
        self.discontinuity = !self.segments.is_empty();
        self.keyed = false;
    }

    fn open(&mut self, unit: &Unit) {
        self.ts.restart();
        self.current = Some(Current {
            start: unit.frame.dts,
            newest: unit.frame.dts,
            prologue: unit.prologue.clone(),
            // The last one's size is a good guess.
            bytes: Vec::with_capacity(self.segments.back().map_or(64 << 10, |last| last.bytes.len())),
        });
    }

    /// Ends the segment that is being made where the next one starts.
    fn close(&mut self, end: Timestamp) -> Option<Change> {
        let mut current = self.current.take()?;
        let duration = end - current.start;
        if duration < SHORTEST || current.bytes.is_empty() || current.bytes.len() > self.settings.bytes / 2 {
            self.break_off();
            return None;
        }
        current.bytes.shrink_to_fit();
        let segment = Arc::new(Segment {
            seq: self.next_seq,
            path: self.names.segment(&self.key, self.next_seq, duration.as_ms()),
            duration,
            discontinuity: std::mem::take(&mut self.discontinuity),
            bytes: current.bytes.into(),
        });
        self.next_seq += 1;
        self.target = self.target.max(whole_seconds(duration));
        self.bytes += segment.bytes.len();
        self.segments.push_back(segment.clone());
        let gone = self.slide();
        let entry = |segment: &Segment| self.names.entry(&self.playlist_path, &segment.path);
        let listed = self.segments.range(self.listed..);
        self.playlist = playlist::write(self.target, self.discontinuities_gone, listed, entry).into();
        Some(Change { added: segment, gone, playlist: self.playlist.clone() })
    }

    /// Moves the window on. Returns the paths of what is not kept any more.
    fn slide(&mut self) -> Vec<String> {
        let (mut listed, mut kept) = (Timestamp::ZERO, Timestamp::ZERO);
        let (mut first_listed, mut first_kept) = (self.segments.len(), self.segments.len());
        for (n, segment) in self.segments.iter().enumerate().rev() {
            if listed <= self.settings.window {
                listed = listed + segment.duration;
                first_listed = n;
            } else if kept > listed + listed + segment.duration {
                break;
            }
            kept = kept + segment.duration;
            first_kept = n;
        }
        let left = self.segments.range(self.listed.min(first_listed)..first_listed);
        self.discontinuities_gone += left.filter(|segment| segment.discontinuity).count() as u64;
        let mut gone = Vec::new();
        while first_kept > 0 || (self.bytes > self.settings.bytes && self.segments.len() > 1) {
            let Some(segment) = self.segments.pop_front() else { break };
            if first_listed == 0 {
                self.discontinuities_gone += u64::from(segment.discontinuity);
            }
            self.bytes -= segment.bytes.len();
            gone.push(segment.path.clone());
            first_kept = first_kept.saturating_sub(1);
            first_listed = first_listed.saturating_sub(1);
        }
        self.listed = first_listed;
        gone
    }
}

fn whole_seconds(duration: Timestamp) -> u64 {
    u64::try_from(duration.as_ms()).unwrap_or(0).div_ceil(1000).max(1)
}

#[cfg(test)]
mod tests {
    use super::{super::names::Template, *};
    use shardcast_engine::{
        codec::Codec,
        frame::Frame,
        key::DEFAULT_VHOST,
        track::{Picture, Shape, Sound, Track},
    };

    fn settings() -> Settings {
        Settings {
            fragment: Timestamp::from_ms(2_000),
            overflow: Timestamp::from_ms(4_200),
            window: Timestamp::from_ms(6_000),
            wait_keyframe: true,
            bytes: 1 << 20,
        }
    }

    fn packager(settings: Settings) -> Packager {
        let names = Names {
            playlist: Template::of_playlist("[app]/[stream].m3u8").unwrap(),
            segment: Template::of_segment("[app]/[stream]-[seq].ts").unwrap(),
            entry_prefix: String::new(),
        };
        Packager::new(settings, StreamKey::new(DEFAULT_VHOST, "live", "a"), names)
    }

    fn prologue(video: Option<u8>, version: u32) -> Arc<Prologue> {
        let sound = Sound { sample_rate: 44_100, channels: 2, profile: "LC" };
        let audio = Track { codec: Codec::Aac, config: Bytes::from_static(&[0x12, 0x10]), shape: Shape::Audio(sound) };
        let video = video.map(|level| Track {
            codec: Codec::H264,
            config: Bytes::from(vec![1, 0x64, 0, level, 0xff, 0xe1, 0, 1, 0x67, 1, 0, 1, 0x68]),
            shape: Shape::Video(Picture::default()),
        });
        Arc::new(Prologue { version, video, audio: Some(audio), ..Prologue::default() })
    }

    fn unit(prologue: &Arc<Prologue>, kind: Kind, ms: i64, keyframe: bool) -> Unit {
        let dts = Timestamp::from_ms(ms);
        let payload = Bytes::from_static(&[0, 0, 0, 2, 0x65, 1]);
        let frame = Frame { kind, dts, pts: dts, keyframe, payload };
        Unit { seq: 0, prologue: prologue.clone(), frame }
    }

    /// Pictures and sound every 100 ms, a keyframe every `gop`.
    fn feed(packager: &mut Packager, prologue: &Arc<Prologue>, ms: std::ops::Range<i64>, gop: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        for ms in ms.step_by(100) {
            if prologue.video.is_some() {
                changes.extend(packager.push(&unit(prologue, Kind::Video, ms, ms % gop == 0)));
            }
            changes.extend(packager.push(&unit(prologue, Kind::Audio, ms, false)));
        }
        changes
    }

    fn durations(changes: &[Change]) -> Vec<i64> {
        changes.iter().map(|change| change.added.duration.as_ms()).collect()
    }

    fn text(packager: &Packager) -> String {
        match packager.content("/live/a.m3u8") {
            Some(Content::Playlist(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn segments_start_at_the_first_keyframe_after_their_length() {
        let mut packager = packager(settings());
        let changes = feed(&mut packager, &prologue(Some(31), 1), 300..9_000, 1_500);
        // What comes before the first keyframe is of no use to anybody.
        assert_eq!(durations(&changes), [3_000, 3_000]);
        assert!(changes.iter().all(|change| change.added.bytes[0] == 0x47 && change.added.bytes.len() % 188 == 0));
        assert_eq!(
            text(&packager),
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-TARGETDURATION:3\n\
             #EXTINF:3.000, no desc\na-0.ts\n#EXTINF:3.000, no desc\na-1.ts\n"
        );
    }

    #[test]
    fn each_segment_starts_with_tables() {
        let mut packager = packager(settings());
        for change in feed(&mut packager, &prologue(None, 1), 0..20_000, 1_000) {
            let pid = u16::from(change.added.bytes[1] & 0x1f) << 8 | u16::from(change.added.bytes[2]);
            assert_eq!(pid, 0, "the PAT comes first");
        }
    }

    #[test]
    fn window_slides_and_what_left_it_is_kept_a_while() {
        let mut packager = packager(settings());
        let changes = feed(&mut packager, &prologue(Some(31), 1), 0..40_100, 1_000);
        assert_eq!(changes.len(), 20);
        assert!(text(&packager).contains("#EXT-X-MEDIA-SEQUENCE:16\n"), "{}", text(&packager));
        assert!(packager.content("live/a-13.ts").is_some());
        assert!(packager.content("live/a-5.ts").is_none());
        let gone: Vec<_> = changes.iter().flat_map(|change| &change.gone).collect();
        assert_eq!(gone[0], "live/a-0.ts");
        assert_eq!(gone.len() + packager.segments.len(), 20);
    }

    #[test]
    fn sound_alone_and_endless_gops_are_cut_at_sound() {
        let mut sound = packager(settings());
        assert_eq!(durations(&feed(&mut sound, &prologue(None, 1), 0..9_000, 1_000)), [4_200, 4_200]);
        let mut endless = packager(settings());
        assert_eq!(durations(&feed(&mut endless, &prologue(Some(31), 1), 0..9_000, 60_000)), [4_200, 4_200]);
    }

    #[test]
    fn change_of_codec_configuration_is_a_discontinuity_at_the_next_keyframe() {
        let mut packager = packager(settings());
        let mut changes = feed(&mut packager, &prologue(Some(31), 1), 0..3_000, 1_000);
        changes.extend(feed(&mut packager, &prologue(Some(40), 2), 3_000..8_100, 1_000));
        let seen: Vec<_> = changes.iter().map(|c| (c.added.duration.as_ms(), c.added.discontinuity)).collect();
        assert_eq!(seen, [(2_000, false), (1_000, false), (2_000, true), (2_000, false)]);
        assert!(text(&packager).contains("#EXT-X-DISCONTINUITY\n#EXTINF:2.000, no desc\na-2.ts\n"));
    }

    #[test]
    fn discontinuities_that_leave_the_window_are_counted() {
        let mut packager = packager(settings());
        feed(&mut packager, &prologue(Some(31), 1), 0..3_000, 1_000);
        packager.splice();
        feed(&mut packager, &prologue(Some(31), 3), 3_000..30_000, 1_000);
        assert!(text(&packager).contains("#EXT-X-DISCONTINUITY-SEQUENCE:1\n"), "{}", text(&packager));
        assert!(!text(&packager).contains("#EXT-X-DISCONTINUITY\n"));
    }

    #[test]
    fn sound_that_came_before_the_picture_gives_way_to_it() {
        let mut packager = packager(settings());
        feed(&mut packager, &prologue(None, 1), 0..500, 1_000);
        let changes = feed(&mut packager, &prologue(Some(31), 2), 500..4_100, 1_000);
        assert_eq!(durations(&changes), [2_000]);
    }

    #[test]
    fn bytes_have_a_bound() {
        let mut packager = packager(Settings { bytes: 100_000, ..settings() });
        feed(&mut packager, &prologue(Some(31), 1), 0..60_000, 1_000);
        assert!(packager.bytes <= 100_000, "{}", packager.bytes);
        assert!(!text(&packager).is_empty());
    }
}
