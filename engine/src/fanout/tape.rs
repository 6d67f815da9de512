//! A stream's wire bytes in one format, made once for all viewers of a shard.

use super::{
    format::Format,
    ring::{LIVE_BACK, PURE_AUDIO, Policy, Ring, Unit},
};
use crate::{codec::Kind, prologue::Prologue, time::Timestamp};
use std::{collections::VecDeque, io::IoSlice, sync::Arc};

/// Block sizes: what about half a second of stream needs, within these bounds.
const SMALLEST_BLOCK: usize = 16 << 10;
const LARGEST_BLOCK: usize = 256 << 10;

/// Append-only bytes; a position counts them from the tape's first and never changes its meaning.
pub struct Tape {
    format: Box<dyn Format>,
    policy: Policy,
    blocks: VecDeque<Block>,
    entries: VecDeque<Entry>,
    end: u64,
    /// The ring's number of the next unit to mux.
    next_seq: u64,
    settled: bool,
    /// A keyframe came since the last gap in the pictures. Until then other pictures are left out:
    /// no decoder has what they refer to.
    keyed: bool,
    prologue: Option<Arc<Prologue>>,
    newest: Timestamp,
    /// Time of the first frame on it.
    began: Option<Timestamp>,
    /// Time of the publisher's first frame here.
    opened: Option<Timestamp>,
    newest_picture: Option<Timestamp>,
    /// Position and ring number.
    newest_keyframe: Option<(u64, u64)>,
    /// Position of the newest picture that is no keyframe.
    newest_delta: Option<u64>,
    /// Entries popped from the front so far; `entries[i]` has the absolute index `popped + i`.
    popped: u64,
    /// Absolute index of the oldest entry that is not further behind than `policy.skip`.
    skip_index: u64,
    /// Absolute index of the oldest entry within [`LIVE_BACK`], and of this publisher.
    live_index: u64,
}

struct Block {
    start: u64,
    data: Vec<u8>,
}

/// One unit: `start..end` are its bytes; a changed prologue, where it brings one, is `start..body`.
struct Entry {
    start: u64,
    body: u64,
    dts: Timestamp,
    /// The ring's number of it.
    seq: u64,
    content: Content,
    /// Where the format's counters stood before the unit.
    counters: u16,
    prologue: Arc<Prologue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Keyframe,
    /// A picture that needs those before it.
    Delta,
    Sound,
}

/// What an entry costs beside its bytes.
const ENTRY_OVERHEAD: u64 = size_of::<Entry>() as u64;

impl Tape {
    /// A tape of `ring` in `format`, filled from the newest keyframe on, whether newcomers enter there or not.
    pub fn new(format: Box<dyn Format>, ring: &Ring) -> Self {
        let mut tape = Self {
            format,
            policy: ring.policy(),
            blocks: VecDeque::new(),
            entries: VecDeque::new(),
            end: 0,
            next_seq: ring.resume().unwrap_or(ring.next()),
            settled: false,
            keyed: false,
            prologue: None,
            newest: Timestamp::ZERO,
            began: None,
            opened: None,
            newest_picture: None,
            newest_keyframe: None,
            newest_delta: None,
            popped: 0,
            skip_index: 0,
            live_index: 0,
        };
        tape.catch_up(ring);
        tape
    }

    /// Muxes what the ring has and the tape has not. True where that was something.
    pub fn catch_up(&mut self, ring: &Ring) -> bool {
        let before = self.next_seq;
        for unit in ring.from(before) {
            self.append(unit);
        }
        self.settled = ring.settled();
        self.next_seq != before
    }

    /// The position after the last byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The position of the oldest byte kept.
    pub fn start(&self) -> u64 {
        self.entries.front().map_or(self.end, |entry| entry.start)
    }

    /// Bytes of memory that hold wire bytes.
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.data.capacity()).sum()
    }

    /// A cursor before this position has fallen too far behind.
    pub fn skip_line(&self) -> u64 {
        self.entry_at(self.skip_index).map_or(self.end, |entry| entry.start)
    }

    /// Where a newcomer or jumper enters, as [`Ring::entry`], but on keyframes that are on the tape;
    /// `None` to wait.
    pub fn entry(&self) -> Option<u64> {
        if !self.settled {
            return None;
        }
        let announced = self
            .prologue
            .as_ref()
            .is_some_and(|prologue| prologue.video.is_some() && self.format.takes(prologue, Kind::Video));
        let since = self.newest_picture.or(self.opened.filter(|_| announced));
        if since.is_some_and(|dts| self.newest - dts < PURE_AUDIO) {
            let (body, seq) = self.newest_keyframe?;
            let fits = self.next_seq - seq <= self.policy.gop_cache_max_frames;
            return (fits && body >= self.start()).then_some(body);
        }
        self.entry_at(self.live_index).map(|entry| entry.body)
    }

    /// Where a newcomer may enter at the earliest: anywhere, or after all there is without a GOP cache.
    pub fn earliest_entry(&self) -> u64 {
        if self.policy.gop_cache { 0 } else { self.end }
    }

    /// Another publisher follows: nobody enters at the last one's keyframes.
    pub fn splice(&mut self) {
        self.newest_keyframe = None;
        self.newest_picture = None;
        self.opened = None;
        self.settled = false;
        self.keyed = false;
        self.live_index = self.popped + self.entries.len() as u64;
    }

    /// A unit starts, or its body after a prologue, or the tape ends here.
    pub fn is_boundary(&self, position: u64) -> bool {
        position == self.end || self.unit_of(position).is_some_and(|e| e.start == position || e.body == position)
    }

    /// The end of the unit that `position` lies in.
    pub fn unit_end(&self, position: u64) -> u64 {
        let next = self.entries.partition_point(|entry| entry.start <= position);
        self.entries.get(next).map_or(self.end, |entry| entry.start)
    }

    /// How far `position` is behind the newest frame.
    pub fn lag(&self, position: u64) -> Timestamp {
        if position >= self.end {
            return Timestamp::ZERO;
        }
        let entry = self.unit_of(position).or(self.entries.front());
        entry.map_or(Timestamp::ZERO, |entry| self.newest - entry.dts)
    }

    /// Time of the unit at `position`.
    pub fn time_at(&self, position: u64) -> Option<Timestamp> {
        self.unit_of(position).map(|entry| entry.dts)
    }

    /// The position of the first unit at `time` or later; the tape's end where there is none yet.
    pub fn position_at(&self, time: Timestamp) -> u64 {
        let first = self.entries.partition_point(|entry| entry.dts < time);
        self.entries.get(first).map_or(self.end, |entry| entry.start)
    }

    /// The time of the first frame that ever was on it.
    pub fn began(&self) -> Option<Timestamp> {
        self.began
    }

    /// The ring's number of the unit at `position`; of the next one at the tape's end.
    pub fn seq_at(&self, position: u64) -> u64 {
        let entry = self.unit_of(position).or(self.entries.front()).filter(|_| position < self.end);
        entry.map_or(self.next_seq, |entry| entry.seq)
    }

    /// The position of the ring's unit `seq`, or of the first after it; `None` where nothing is kept.
    pub fn position_of(&self, seq: u64) -> Option<u64> {
        let first = self.entries.partition_point(|entry| entry.seq < seq);
        self.entries.back().map(|_| self.entries.get(first).map_or(self.end, |entry| entry.body))
    }

    /// It has pictures, where its stream has.
    pub fn takes_pictures(&self) -> bool {
        self.prologue.as_ref().is_some_and(|prologue| self.format.takes(prologue, Kind::Video))
    }

    /// There is a unit at `time` or later.
    pub fn reaches(&self, time: Timestamp) -> bool {
        self.newest >= time
    }

    /// The version of the prologue that one who has read up to `position` knows; `None` where that is gone.
    pub fn version_before(&self, position: u64) -> Option<u32> {
        let next = self.entries.partition_point(|entry| entry.start < position);
        let last = self.entries.get(next.checked_sub(1)?)?;
        Some(last.prologue.version)
    }

    /// What must come before the unit at `position`: the whole head for a newcomer, the prologue for one who
    /// knows another or none, and what the format wants where reading does not go on but starts.
    pub fn opening(&self, position: u64, newcomer: bool, known: Option<u32>, out: &mut Vec<u8>) {
        let Some(entry) = self.unit_of(position) else { return };
        // A track that turned up just after the entry belongs into the head, which is written once.
        let then = &entry.prologue;
        let newest = self.prologue.as_ref().filter(|now| newcomer && then.grows_into(now));
        let prologue = newest.unwrap_or(then);
        if newcomer {
            self.format.head(prologue, entry.dts, out);
        } else if known != Some(then.version) {
            self.format.prologue(prologue, entry.dts, out);
        }
        self.format.enter(prologue, entry.counters, newcomer, out);
    }

    /// The unit at `position` is a keyframe.
    pub fn is_keyframe(&self, position: u64) -> bool {
        self.unit_of(position).is_some_and(|entry| entry.content == Content::Keyframe && entry.body == position)
    }

    /// Some of the bytes `from..to` are a keyframe's.
    pub fn shows_keyframe(&self, from: u64, to: u64) -> bool {
        let mut units = self.units_from(from).take_while(|entry| entry.body < to);
        units.any(|entry| entry.content == Content::Keyframe && entry.body >= from)
    }

    /// `position`, or behind the pictures that start there and need others before them.
    pub fn past_deltas(&self, mut position: u64) -> u64 {
        while self.newest_delta.is_some_and(|delta| delta >= position)
            && self.unit_of(position).is_some_and(|e| e.content == Content::Delta && e.body == position)
        {
            position = self.unit_end(position);
        }
        position
    }

    /// Up to where one who has not seen a keyframe may read from `position` on: the next picture that
    /// needs one, unless a keyframe comes before it.
    pub fn delta_after(&self, position: u64) -> u64 {
        if self.newest_delta.is_none_or(|delta| delta < position) {
            return self.end;
        }
        match self.units_from(position).find(|e| e.content != Content::Sound && e.body >= position) {
            Some(entry) if entry.content == Content::Delta => entry.body,
            _ => self.end,
        }
    }

    /// Up to `slices.len()` pieces of the bytes `from..to`. Returns how many.
    pub fn slices<'t>(&'t self, from: u64, to: u64, slices: &mut [IoSlice<'t>]) -> usize {
        // Nearly all cursors are in the newest blocks: look from the back.
        let first = self.blocks.iter().rposition(|block| block.start <= from).unwrap_or(0);
        let mut count = 0;
        for block in self.blocks.range(first..) {
            let block_end = block.start + block.data.len() as u64;
            let (low, high) = (from.max(block.start), to.min(block_end));
            if low >= high || count == slices.len() {
                break;
            }
            let range = (low - block.start) as usize..(high - block.start) as usize;
            slices[count] = IoSlice::new(&block.data[range]);
            count += 1;
        }
        count
    }

    fn append(&mut self, unit: &Arc<Unit>) {
        let frame = &unit.frame;
        // Units that the ring dropped before they came here leave a gap.
        self.keyed &= unit.seq == self.next_seq;
        self.next_seq = unit.seq + 1;
        if !self.format.takes(&unit.prologue, frame.kind) {
            return;
        }
        self.newest = self.newest.max(frame.dts);
        self.opened.get_or_insert(frame.dts);
        if frame.kind == Kind::Video {
            self.newest_picture = Some(frame.dts);
            self.keyed |= frame.keyframe;
            if !self.keyed {
                return;
            }
        }
        let changed = self.prologue.as_ref().is_some_and(|known| known.version != unit.prologue.version);
        self.prologue = Some(unit.prologue.clone());

        let start = self.end;
        let block = self.room(frame.payload.len());
        let (format, data) = (&mut self.format, &mut self.blocks[block].data);
        let before = data.len();
        if changed {
            format.prologue(&unit.prologue, frame.dts, data);
        }
        let body = start + (data.len() - before) as u64;
        self.began.get_or_insert(frame.dts);
        let counters = format.counters();
        format.mux(&unit.prologue, frame, data);
        self.end = start + (data.len() - before) as u64;
        if self.end > start {
            let content = match frame.kind {
                // What the format left out is nothing to enter at.
                Kind::Video if self.end == body => Content::Sound,
                Kind::Video if frame.keyframe => Content::Keyframe,
                Kind::Video => Content::Delta,
                Kind::Audio | Kind::Opus => Content::Sound,
            };
            match content {
                Content::Keyframe => self.newest_keyframe = Some((body, unit.seq)),
                Content::Delta => self.newest_delta = Some(body),
                Content::Sound => {}
            }
            let prologue = unit.prologue.clone();
            self.entries.push_back(Entry { start, body, dts: frame.dts, seq: unit.seq, content, counters, prologue });
        }
        self.skip_index = self.first_since(self.skip_index, self.newest - self.policy.skip);
        self.live_index = self.first_since(self.live_index, self.newest - LIVE_BACK);
        self.evict();
    }

    /// The absolute index of the first entry from `index` on that is not before `line`.
    fn first_since(&self, mut index: u64, line: Timestamp) -> u64 {
        while self.entry_at(index).is_some_and(|entry| entry.dts < line) {
            index += 1;
        }
        index
    }

    /// The index of the block to append a unit of about `payload` bytes to: the last, or a new one where
    /// that would have to grow. Only one that is less than half full grows, so that blocks are never waste
    /// for the greater part.
    fn room(&mut self, payload: usize) -> usize {
        // Message, tag and chunk headers, and room for a small prologue.
        let need = payload.saturating_add(payload / 64 + 512);
        if let Some(Block { data, .. }) = self.blocks.back_mut()
            && (data.capacity() - data.len() >= need || data.len() < data.capacity() / 2)
        {
            data.reserve_exact(need);
            return self.blocks.len() - 1;
        }
        let span = (self.newest - self.entries.front().map_or(self.newest, |entry| entry.dts)).as_ms().max(1);
        let per_half_second = (self.end - self.start()).saturating_mul(500) / span as u64;
        let size = (per_half_second as usize).clamp(SMALLEST_BLOCK, LARGEST_BLOCK).max(need);
        self.blocks.push_back(Block { start: self.end, data: Vec::with_capacity(size) });
        self.blocks.len() - 1
    }

    fn evict(&mut self) {
        let horizon = self.newest - self.policy.retention();
        let bytes = self.policy.bytes as u64;
        while self.entries.len() > 1 {
            let front = &self.entries[0];
            let kept = self.end - front.start + self.entries.len() as u64 * ENTRY_OVERHEAD;
            if front.dts >= horizon && kept <= bytes {
                break;
            }
            self.entries.pop_front();
            self.popped += 1;
        }
        self.skip_index = self.skip_index.max(self.popped);
        self.live_index = self.live_index.max(self.popped);
        let start = self.start();
        while self.blocks.front().is_some_and(|block| block.start + block.data.len() as u64 <= start) {
            self.blocks.pop_front();
        }
    }

    fn unit_of(&self, position: u64) -> Option<&Entry> {
        let next = self.entries.partition_point(|entry| entry.start <= position);
        self.entries.get(next.checked_sub(1)?)
    }

    /// The units from the one that `position` lies in.
    fn units_from(&self, position: u64) -> impl Iterator<Item = &Entry> {
        let next = self.entries.partition_point(|entry| entry.start <= position);
        self.entries.range(next.saturating_sub(1)..)
    }

    fn entry_at(&self, index: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.checked_sub(self.popped)?).ok()?)
    }
}
