//! The log of a stream's frames: GOP cache, send queue and drop policy in one structure.

use crate::{codec::Kind, frame::Frame, prologue::Prologue, time::Timestamp};
use std::{collections::VecDeque, sync::Arc};

/// One frame in a ring. Immutable, shared by every shard that has it.
#[derive(Debug)]
pub struct Unit {
    /// Counts the stream's frames from 0, without gaps at home.
    pub seq: u64,
    /// The tracks and metadata that it was made under.
    pub prologue: Arc<Prologue>,
    pub frame: Frame,
}

impl Unit {
    /// Bytes of memory.
    fn weight(&self) -> usize {
        let payload = self.frame.payload.len();
        payload + payload / GAPS + UNIT_OVERHEAD
    }
}

/// What a stream keeps, and where newcomers enter.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// A viewer further behind than this jumps to the newest keyframe; twice as much is kept.
    pub skip: Timestamp,
    /// At most so many bytes are kept.
    pub bytes: usize,
    /// Newcomers start at the newest keyframe at once, instead of waiting for the next one.
    pub gop_cache: bool,
    /// A GOP of more frames than this is not offered to newcomers.
    pub gop_cache_max_frames: u64,
}

impl Policy {
    pub fn retention(&self) -> Timestamp {
        self.skip + self.skip
    }
}

/// A stream with a video track that had no picture for so long counts as sound alone.
pub(super) const PURE_AUDIO: Timestamp = Timestamp::from_whole_ms(2_500);
/// How far behind the live edge a newcomer enters where there are no keyframes.
pub(super) const LIVE_BACK: Timestamp = Timestamp::from_whole_ms(1_000);
/// How long a stream with one track is given to bring the other.
const SETTLING: Timestamp = Timestamp::from_whole_ms(1_000);
/// What a unit takes beside its payload: the counts of its `Arc`, a place in a queue that may be half full, and what
/// shares the payload.
const UNIT_OVERHEAD: usize = size_of::<Unit>() + 4 * size_of::<usize>() + 32;
/// Allocators round sizes up and leave gaps: one in so many bytes of payloads of all lengths, as measured.
const GAPS: usize = 8;

#[derive(Debug)]
pub struct Ring {
    units: VecDeque<Arc<Unit>>,
    next: u64,
    bytes: usize,
    policy: Policy,
    newest: Timestamp,
    /// Time of the publisher's first frame.
    opened: Option<Timestamp>,
    newest_picture: Option<Timestamp>,
    newest_keyframe: Option<u64>,
}

impl Ring {
    pub fn new(policy: Policy) -> Self {
        Self {
            units: VecDeque::new(),
            next: 0,
            bytes: 0,
            policy,
            newest: Timestamp::ZERO,
            opened: None,
            newest_picture: None,
            newest_keyframe: None,
        }
    }

    /// Appends a frame and gives it its number.
    pub fn append(&mut self, prologue: Arc<Prologue>, frame: Frame) -> &Arc<Unit> {
        self.mirror(Arc::new(Unit { seq: self.next, prologue, frame }))
    }

    /// Appends a unit that another shard's ring has numbered.
    pub fn mirror(&mut self, unit: Arc<Unit>) -> &Arc<Unit> {
        if unit.seq != self.next {
            // Frames were skipped on the way: what is older cannot be continued by what is newer.
            self.clear();
        }
        self.next = unit.seq + 1;
        self.bytes += unit.weight();
        if self.units.back().is_none_or(|last| !Arc::ptr_eq(&last.prologue, &unit.prologue)) {
            self.bytes += unit.prologue.weight();
        }
        self.newest = self.newest.max(unit.frame.dts);
        self.opened.get_or_insert(unit.frame.dts);
        if unit.frame.kind == Kind::Video {
            self.newest_picture = Some(unit.frame.dts);
            if unit.frame.keyframe {
                self.newest_keyframe = Some(unit.seq);
            }
        }
        self.units.push_back(unit);
        self.evict();
        &self.units[self.units.len() - 1]
    }

    /// Forgets all frames, not the numbering: another publisher follows.
    pub fn clear(&mut self) {
        self.units.clear();
        self.bytes = 0;
        self.opened = None;
        self.newest_picture = None;
        self.newest_keyframe = None;
    }

    /// Where a newcomer enters: the newest keyframe; one second back in sound alone; `None` to wait for
    /// the next keyframe (the GOP cache is off or the GOP has outgrown it) or the first frame.
    pub fn entry(&self) -> Option<u64> {
        let offered = |seq: &u64| {
            !self.has_pictures() || (self.policy.gop_cache && self.next - *seq <= self.policy.gop_cache_max_frames)
        };
        self.resume().filter(offered)
    }

    /// Where a reader that was left behind goes on: as [`Ring::entry`], whatever the GOP cache offers.
    pub fn resume(&self) -> Option<u64> {
        if self.has_pictures() {
            return self.newest_keyframe.filter(|seq| *seq >= self.oldest());
        }
        let edge = self.newest - LIVE_BACK;
        self.units.iter().rev().take_while(|unit| unit.frame.dts >= edge).last().map(|unit| unit.seq)
    }

    /// Pictures are coming, or announced and not overdue.
    fn has_pictures(&self) -> bool {
        let announced = self.units.back().is_some_and(|unit| unit.prologue.video.is_some());
        let since = self.newest_picture.or(self.opened.filter(|_| announced));
        since.is_some_and(|dts| self.newest - dts < PURE_AUDIO)
    }

    /// Pictures and sound are known, or have had their time to turn up: a head that is written now is right.
    pub fn settled(&self) -> bool {
        let both = self.units.back().is_some_and(|u| u.prologue.video.is_some() && u.prologue.sound().is_some());
        both || self.opened.is_some_and(|opened| self.newest - opened >= SETTLING)
    }

    /// What the newest frame was made under.
    pub fn newest_prologue(&self) -> Option<&Arc<Prologue>> {
        self.units.back().map(|unit| &unit.prologue)
    }

    /// The units from `seq` on, or from the oldest where `seq` is gone.
    pub fn from(&self, seq: u64) -> impl Iterator<Item = &Arc<Unit>> {
        let skip = usize::try_from(seq.saturating_sub(self.oldest())).unwrap_or(usize::MAX);
        self.units.range(skip.min(self.units.len())..)
    }

    /// The number of the oldest unit kept; of the next one where none is.
    pub fn oldest(&self) -> u64 {
        self.units.front().map_or(self.next, |unit| unit.seq)
    }

    /// The time of the oldest unit kept, or of the last one where none is.
    pub fn oldest_time(&self) -> Timestamp {
        self.units.front().map_or(self.newest, |unit| unit.frame.dts)
    }

    /// The number that the next unit gets.
    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// What is kept beyond another policy goes with the next frame.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Bytes of memory that its units take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nobody reads: forgets units that are before all that a newcomer may enter at, `most` at the most. (A GOP that
    /// went at once would leave its memory to the kernel, to be asked for again.)
    pub fn forget_unread(&mut self, most: usize) {
        let entry = self.newest_keyframe.unwrap_or(self.next).min(self.oldest() + most as u64);
        let edge = self.newest - LIVE_BACK;
        self.evict_while(|_, front| front.seq < entry && front.frame.dts < edge);
    }

    fn evict(&mut self) {
        let horizon = self.newest - self.policy.retention();
        self.evict_while(|ring, front| front.frame.dts < horizon || ring.bytes > ring.policy.bytes);
    }

    /// Forgets units, the oldest first, as long as they are to go, and never the newest.
    fn evict_while(&mut self, goes: impl Fn(&Self, &Unit) -> bool) {
        while self.units.len() > 1 && goes(self, &self.units[0]) {
            let front = &self.units[0];
            self.bytes -= front.weight();
            if !Arc::ptr_eq(&front.prologue, &self.units[1].prologue) {
                self.bytes -= front.prologue.weight();
            }
            self.units.pop_front();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        codec::Codec,
        track::{Shape, Sound, Track},
    };
    use bytes::Bytes;

    pub fn policy() -> Policy {
        Policy { skip: Timestamp::from_ms(1_000), bytes: 1 << 20, gop_cache: true, gop_cache_max_frames: 2_500 }
    }

    pub fn frame(kind: Kind, ms: i64, keyframe: bool, len: usize) -> Frame {
        let dts = Timestamp::from_ms(ms);
        Frame { kind, dts, pts: dts, keyframe, payload: Bytes::from(vec![ms as u8; len]) }
    }

    fn ring(policy: Policy, frames: impl IntoIterator<Item = Frame>) -> Ring {
        let mut ring = Ring::new(policy);
        let prologue = Arc::new(Prologue::default());
        for frame in frames {
            ring.append(prologue.clone(), frame);
        }
        ring
    }

    #[test]
    fn newcomers_enter_at_the_newest_keyframe() {
        let frames = (0..50).map(|n| frame(Kind::Video, n * 40, n % 20 == 0, 100));
        assert_eq!(ring(policy(), frames).entry(), Some(40));
    }

    #[test]
    fn without_gop_cache_newcomers_wait() {
        let frames = (0..50).map(|n| frame(Kind::Video, n * 40, n % 20 == 0, 100));
        assert_eq!(ring(Policy { gop_cache: false, ..policy() }, frames).entry(), None);
    }

    #[test]
    fn a_gop_beyond_the_frame_limit_is_not_offered() {
        let frames = (0..50).map(|n| frame(Kind::Video, n * 40, n == 0, 100));
        assert_eq!(ring(Policy { gop_cache_max_frames: 10, ..policy() }, frames).entry(), None);
    }

    #[test]
    fn sound_alone_is_entered_a_second_back() {
        let frames = (0..100).map(|n| frame(Kind::Audio, n * 20, false, 100));
        assert_eq!(ring(policy(), frames).entry(), Some(49));
    }

    #[test]
    fn what_nobody_reads_goes_up_to_where_newcomers_enter() {
        // GOPs of ten pictures, and one that goes on; two units go for each that comes.
        let (mut ring, prologue) = (Ring::new(policy()), Arc::<Prologue>::default());
        for n in 0..95 {
            ring.append(prologue.clone(), frame(Kind::Video, n * 40, n % 10 == 0, 100));
            ring.forget_unread(2);
        }
        // A second back at the least, before a keyframe of 200 ms ago.
        assert_eq!((ring.entry(), ring.oldest()), (Some(90), 69));
        for n in 95..130 {
            ring.append(prologue.clone(), frame(Kind::Video, n * 40, false, 100));
            ring.forget_unread(2);
        }
        assert_eq!((ring.entry(), ring.oldest()), (Some(90), 90));
        let bytes = ring.units.iter().map(|unit| unit.weight()).sum::<usize>();
        assert_eq!(ring.bytes(), bytes + prologue.weight());
    }

    #[test]
    fn keeps_no_more_than_its_bounds_in_time_and_bytes() {
        let by_time = ring(policy(), (0..1_000).map(|n| frame(Kind::Video, n * 10, n % 50 == 0, 10)));
        assert_eq!(by_time.oldest(), 1_000 - 201);
        let by_bytes = ring(policy(), (0..1_000).map(|n| frame(Kind::Video, n, false, 100_000)));
        assert!(by_bytes.bytes() <= 1 << 20);
        assert_eq!(by_bytes.next(), 1_000);
    }

    #[test]
    fn prologues_count_as_memory() {
        let mut ring = Ring::new(policy());
        for n in 0..1_000u32 {
            let config = Bytes::from(vec![n as u8; 60_000]);
            let shape = Shape::Audio(Sound::default());
            let audio = Some(Track { codec: Codec::Aac, config, shape });
            let prologue = Arc::new(Prologue { version: n, audio, ..Prologue::default() });
            ring.append(prologue.clone(), frame(Kind::Audio, 0, false, 1));
            ring.append(prologue, frame(Kind::Audio, 0, false, 1));
        }
        assert!(ring.bytes() <= 1 << 20);
        assert!((17..40).contains(&(ring.next() - ring.oldest())), "{} units", ring.next() - ring.oldest());
        ring.clear();
        assert_eq!(ring.bytes(), 0);
    }

    #[test]
    fn a_gap_in_a_mirrored_ring_drops_what_cannot_be_continued() {
        let mut mirrored = ring(policy(), (0..5).map(|n| frame(Kind::Video, n * 40, n == 0, 100)));
        let prologue = Arc::new(Prologue::default());
        mirrored.mirror(Arc::new(Unit { seq: 20, prologue, frame: frame(Kind::Video, 800, true, 9) }));
        assert_eq!((mirrored.oldest(), mirrored.entry()), (20, Some(20)));
    }

    #[test]
    fn a_reader_left_behind_resumes_even_without_gop_cache() {
        let frames = || (0..50).map(|n| frame(Kind::Video, n * 40, n % 20 == 0, 100));
        assert_eq!(ring(Policy { gop_cache: false, ..policy() }, frames()).resume(), Some(40));
        assert_eq!(ring(Policy { gop_cache_max_frames: 5, ..policy() }, frames()).resume(), Some(40));
    }

    #[test]
    fn pictures_that_are_announced_are_waited_for_but_not_for_ever() {
        use crate::track::{Picture, Shape, Track};
        let config = Bytes::from_static(&[1]);
        let track = Track { codec: crate::codec::Codec::H264, config, shape: Shape::Video(Picture::default()) };
        let prologue = Arc::new(Prologue::default().with_track(track).unwrap());
        let mut ring = Ring::new(policy());
        for n in 0..100 {
            ring.append(prologue.clone(), frame(Kind::Audio, n * 50, false, 10));
            assert_eq!(ring.entry().is_some(), n >= 50, "{n}");
        }
    }
}
