//! Many viewers over one tape, at random: what reaches each must be whole, in order and decodable.

use bytes::Bytes;
use shardcast_engine::{
    codec::{Codec, Kind},
    fanout::{
        Cursor, Format, Ring, Step, Tape,
        cursor::{ASIDE_LIMIT, SLICES},
        ring::Policy,
    },
    frame::Frame,
    metadata::{Metadata, Value},
    prologue::Prologue,
    time::Timestamp,
    track::{Picture, Shape, Sound, Track},
};
use std::{collections::BTreeMap, io::IoSlice, sync::Arc};

/// `| kind 8 | length 32 | payload |`: kinds are `H`ead, `P`rologue, keyframe `V`, other picture `v`,
/// sound `A`, and the aside `X`.
#[derive(Default)]
struct Records {
    /// What it leaves out.
    without: Option<Kind>,
}

impl Format for Records {
    fn takes(&self, _: &Prologue, kind: Kind) -> bool {
        self.without != Some(kind)
    }

    fn head(&self, prologue: &Prologue, _: Timestamp, out: &mut Vec<u8>) {
        record(b'H', &configs(prologue), out);
    }

    fn prologue(&self, prologue: &Prologue, _: Timestamp, out: &mut Vec<u8>) {
        record(b'P', &configs(prologue), out);
    }

    fn mux(&mut self, _: &Prologue, frame: &Frame, out: &mut Vec<u8>) {
        record(kind(frame), &frame.payload, out);
    }
}

fn record(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
}

fn kind(frame: &Frame) -> u8 {
    match (frame.kind, frame.keyframe) {
        (Kind::Video, true) => b'V',
        (Kind::Video, false) => b'v',
        (Kind::Audio | Kind::Opus, _) => b'A',
    }
}

fn configs(prologue: &Prologue) -> [u8; 2] {
    [&prologue.video, &prologue.audio].map(|track| track.as_ref().map_or(0, |track| track.config[0]))
}

fn track(codec: Codec, config: u8) -> Track {
    let shape = match codec.kind() {
        Kind::Video => Shape::Video(Picture::default()),
        Kind::Audio | Kind::Opus => Shape::Audio(Sound::default()),
    };
    Track { codec, config: Bytes::from(vec![config]), shape }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A publisher, its ring, and every frame that it ever brought.
struct Source {
    ring: Ring,
    prologue: Arc<Prologue>,
    ms: i64,
    sent: BTreeMap<u64, Frame>,
    since_key: u64,
    gop: u64,
    shape: Streams,
    largest: u64,
}

#[derive(Clone, Copy, Debug)]
struct Streams {
    video: bool,
    audio: bool,
    late_audio_ms: i64,
    /// Pictures stop for seconds now and then.
    pauses: bool,
}

impl Source {
    fn new(policy: Policy, shape: Streams, gop: u64, largest: u64) -> Self {
        let prologue = Arc::default();
        let mut source =
            Self { ring: Ring::new(policy), prologue, ms: 0, sent: BTreeMap::new(), since_key: 0, gop, shape, largest };
        source.configure(1);
        source
    }

    fn configure(&mut self, config: u8) {
        if self.shape.video {
            self.change(track(Codec::H264, config));
            self.since_key = 0;
        }
        if self.shape.audio && self.ms >= self.shape.late_audio_ms {
            self.change(track(Codec::Aac, config));
        }
    }

    fn change(&mut self, track: Track) {
        if let Some(next) = self.prologue.with_track(track) {
            self.prologue = Arc::new(next);
        }
    }

    fn frame(&mut self, random: &mut Random, kind: Kind, keyframe: bool) {
        let seq = self.ring.next();
        let config = configs(&self.prologue)[usize::from(kind == Kind::Audio)];
        let mut payload = seq.to_be_bytes().to_vec();
        payload.push(config);
        payload.resize(9 + random.below(self.largest) as usize, seq as u8);
        let dts = Timestamp::from_ms(self.ms);
        let frame = Frame { kind, dts, pts: dts, keyframe, payload: payload.into() };
        self.sent.insert(seq, frame.clone());
        self.ring.append(self.prologue.clone(), frame);
    }

    /// 20 ms of stream.
    fn go_on(&mut self, random: &mut Random) {
        self.ms += 20;
        if self.shape.audio && self.ms >= self.shape.late_audio_ms {
            if self.prologue.audio.is_none() {
                self.change(track(Codec::Aac, 1));
            }
            self.frame(random, Kind::Audio, false);
        }
        let paused = self.shape.pauses && self.ms / 4_000 % 2 == 1;
        if self.shape.video && self.ms % 40 == 0 && !paused {
            let keyframe = self.since_key.is_multiple_of(self.gop);
            self.since_key += 1;
            self.frame(random, Kind::Video, keyframe);
        }
    }

    /// Another publisher, who sometimes starts amid a GOP.
    fn splice(&mut self, random: &mut Random, tapes: &mut [&mut Tape]) {
        self.ring.clear();
        tapes.iter_mut().for_each(|tape| tape.splice());
        self.prologue = Arc::new(self.prologue.cleared());
        self.configure(1 + random.below(200) as u8);
        self.since_key = random.below(2) * random.below(self.gop);
    }
}

#[derive(Default)]
struct Viewer {
    cursor: Cursor,
    wire: Vec<u8>,
    read: usize,
    configs: Option<[u8; 2]>,
    last: Option<u64>,
    frames: u64,
    sighted: bool,
    said: u32,
    heard: u32,
    parked: bool,
    skips: u64,
    /// In one of how many turns it reads, and how much at the most.
    sloth: u64,
    gulp: u64,
}

impl Viewer {
    /// One turn: false where it lost its place.
    fn turn(&mut self, tape: &Tape, random: &mut Random) -> bool {
        for _ in 0..3 {
            match self.cursor.step(tape) {
                Step::Idle | Step::Over => return true,
                Step::Lost => return false,
                Step::Skip { .. } => self.skips += 1,
                Step::Send => {}
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.cursor.slices(Some(tape), &mut slices);
            let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            let sent = bytes.len().min(random.below(self.gulp) as usize);
            self.wire.extend_from_slice(&bytes[..sent]);
            self.cursor.advance(Some(tape), sent);
        }
        true
    }

    fn say(&mut self) {
        let mut bytes = Vec::new();
        record(b'X', &self.said.to_be_bytes(), &mut bytes);
        if self.cursor.say(&bytes) {
            self.said += 1;
        } else {
            panic!("{} bytes unsaid", ASIDE_LIMIT);
        }
    }

    /// Reads whole records and holds them against what was published.
    fn check(&mut self, source: &Source) {
        while let Some(header) = self.wire[self.read..].first_chunk::<5>() {
            let len = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            let kind = header[0];
            let Some(payload) = self.wire[self.read + 5..].get(..len) else { break };
            self.read += 5 + len;
            match kind {
                b'H' => {
                    assert_eq!(self.configs, None, "a second head");
                    self.configs = Some(payload.try_into().unwrap());
                }
                b'P' => {
                    assert!(self.configs.is_some(), "a prologue before the head");
                    self.configs = Some(payload.try_into().unwrap());
                }
                b'X' => {
                    assert_eq!(payload, self.heard.to_be_bytes(), "asides out of order");
                    self.heard += 1;
                }
                b'V' | b'v' | b'A' => {
                    let seq = u64::from_be_bytes(*payload.first_chunk().unwrap());
                    let frame = &source.sent[&seq];
                    assert_eq!((kind, payload), (crate::kind(frame), &frame.payload[..]), "another frame's bytes");
                    let known = self.configs.expect("a frame before the head");
                    assert_eq!(known[usize::from(kind == b'A')], payload[8], "under another configuration");
                    let next = self.last.map_or(seq, |last| last + 1);
                    assert!(seq >= next, "{seq} after {:?}", self.last);
                    if source.sent.range(next..seq).any(|(_, missed)| missed.kind == Kind::Video) {
                        self.sighted = false;
                    }
                    self.sighted |= kind == b'V';
                    assert!(kind != b'v' || self.sighted, "picture {seq} without its keyframe");
                    self.last = Some(seq);
                    self.frames += 1;
                }
                _ => panic!("no record starts with {kind}: the stream is torn"),
            }
        }
        if self.read > 1 << 16 {
            self.wire.drain(..self.read);
            self.read = 0;
        }
    }
}

fn policy(skip_ms: i64, bytes: usize, gop_cache: bool) -> Policy {
    Policy { skip: Timestamp::from_ms(skip_ms), bytes, gop_cache, gop_cache_max_frames: 2_500 }
}

const BOTH: Streams = Streams { video: true, audio: true, late_audio_ms: 0, pauses: false };

#[test]
fn every_viewer_reads_whole_records_in_order_under_their_prologue() {
    let shapes = [
        BOTH,
        Streams { audio: false, ..BOTH },
        Streams { video: false, ..BOTH },
        Streams { late_audio_ms: 500, ..BOTH },
        Streams { late_audio_ms: 3_000, ..BOTH },
        Streams { pauses: true, ..BOTH },
    ];
    let (mut skips, mut lost, mut frames) = (0, 0, 0);
    for seed in 1..=60u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let shape = shapes[seed as usize % shapes.len()];
        let bytes = [2_000, 60_000, 1 << 20][random.below(3) as usize];
        let kept = policy([200, 1_000, 4_000][random.below(3) as usize], bytes, !random.one_in(3));
        let gop = [1, 7, 50, 400][random.below(4) as usize];
        let largest = [20, 900, 30_000][random.below(3) as usize];
        let mut source = Source::new(kept, shape, gop, largest);
        let mut tape = Tape::new(Box::<Records>::default(), &source.ring);
        let mut viewers: Vec<Viewer> = Vec::new();
        for round in 0..1_500 {
            if random.one_in(400) {
                source.splice(&mut random, &mut [&mut tape]);
            }
            if random.one_in(150) {
                source.configure(1 + random.below(200) as u8);
            }
            source.go_on(&mut random);
            // Now and then the ring runs ahead of the tape by more than it keeps.
            if random.one_in(300) {
                (0..random.below(400)).for_each(|_| source.go_on(&mut random));
            }
            tape.catch_up(&source.ring);
            let unit = largest as usize + 64;
            // The last unit stays, with what it takes beside its payload.
            assert!(source.ring.bytes() <= bytes.max(unit + unit / 8 + 192 + source.prologue.weight()));
            let bound = 2 * (bytes + (256 << 10) + 2 * unit);
            assert!(tape.bytes() <= bound, "{} > {bound}", tape.bytes());
            assert!(tape.end() - tape.start() <= bytes.max(unit + 16) as u64);
            if viewers.len() < 12 && random.one_in(20) {
                let mut viewer = Viewer {
                    sloth: [1, 1, 2, 30, 300][random.below(5) as usize],
                    gulp: [2, 40, 5_000, 1 << 24][random.below(4) as usize],
                    ..Viewer::default()
                };
                viewer.cursor.join(&tape);
                viewers.push(viewer);
            }
            viewers.retain_mut(|viewer| {
                if viewer.said - viewer.heard < 100 && random.one_in(15) {
                    viewer.say();
                }
                if random.one_in(200) {
                    viewer.parked = !viewer.parked;
                    viewer.cursor.park(viewer.parked);
                }
                let kept = round % viewer.sloth != 0 || viewer.turn(&tape, &mut random);
                viewer.check(&source);
                skips += viewer.skips;
                viewer.skips = 0;
                lost += u64::from(!kept);
                frames += std::mem::take(&mut viewer.frames);
                kept
            });
        }
        // At rest every viewer drains, and has heard every answer.
        for viewer in &mut viewers {
            viewer.gulp = 1 << 24;
            let kept = (0..200).all(|_| viewer.turn(&tape, &mut random));
            viewer.check(&source);
            if kept {
                assert_eq!((viewer.heard, viewer.read), (viewer.said, viewer.wire.len()));
                assert!(viewer.parked || viewer.cursor.drained(Some(&tape)));
            }
        }
    }
    // The run has been where it should have been.
    assert!(skips > 500 && lost > 50 && frames > 100_000, "{skips} skips, {lost} lost, {frames} frames");
}

#[test]
fn a_fast_viewer_gets_every_frame_once_from_the_newest_keyframe_on() {
    for gop in [1, 12, 50] {
        let mut random = Random(gop);
        let mut source = Source::new(policy(10_000, 1 << 24, true), BOTH, gop, 3_000);
        (0..200).for_each(|_| source.go_on(&mut random));
        let entry = source.ring.entry().unwrap();
        let newest = source.sent.iter().rev().find(|(_, frame)| frame.keyframe).unwrap();
        assert_eq!(entry, *newest.0);
        let mut tape = Tape::new(Box::<Records>::default(), &source.ring);
        let mut viewer = Viewer { gulp: 1 << 24, ..Viewer::default() };
        viewer.cursor.join(&tape);
        for round in 0..2_000 {
            assert!(viewer.turn(&tape, &mut random));
            viewer.check(&source);
            source.go_on(&mut random);
            if round % 500 == 499 {
                tape.catch_up(&source.ring);
                assert!(viewer.turn(&tape, &mut random));
                source.splice(&mut Random(2), &mut [&mut tape]);
                source.since_key = 0;
            }
            tape.catch_up(&source.ring);
        }
        while !viewer.cursor.drained(Some(&tape)) {
            assert!(viewer.turn(&tape, &mut random));
        }
        viewer.check(&source);
        assert_eq!((viewer.skips, viewer.last), (0, Some(source.ring.next() - 1)));
        assert_eq!(viewer.frames, source.ring.next() - entry);
    }
}

#[test]
fn a_tape_made_late_gives_the_same_bytes() {
    let mut random = Random(7);
    let mut source = Source::new(policy(10_000, 1 << 24, true), BOTH, 25, 3_000);
    let mut early = Tape::new(Box::<Records>::default(), &source.ring);
    (0..333).for_each(|_| source.go_on(&mut random));
    early.catch_up(&source.ring);
    let mut late = Tape::new(Box::<Records>::default(), &source.ring);
    let wires = [&mut early, &mut late].map(|tape| {
        let mut random = Random(1);
        let mut viewer = Viewer { gulp: 1 << 24, ..Viewer::default() };
        viewer.cursor.join(tape);
        while viewer.turn(tape, &mut random) && !viewer.cursor.drained(Some(tape)) {}
        viewer.wire
    });
    assert!(wires[0].len() > 10_000);
    assert!(wires[0] == wires[1]);
}

#[test]
fn without_gop_cache_newcomers_start_at_the_next_keyframe() {
    let mut random = Random(3);
    let mut source = Source::new(policy(10_000, 1 << 24, false), BOTH, 25, 100);
    let mut tape = Tape::new(Box::<Records>::default(), &source.ring);
    (0..120).for_each(|_| source.go_on(&mut random));
    tape.catch_up(&source.ring);
    let joined = source.ring.next();
    let mut viewer = Viewer { gulp: 1 << 24, ..Viewer::default() };
    viewer.cursor.join(&tape);
    assert_eq!(viewer.cursor.step(&tape), Step::Idle);
    (0..50).for_each(|_| source.go_on(&mut random));
    tape.catch_up(&source.ring);
    assert!(viewer.turn(&tape, &mut random));
    while !viewer.cursor.drained(Some(&tape)) {
        assert!(viewer.turn(&tape, &mut random));
    }
    viewer.check(&source);
    let first = source.sent.range(joined..).find(|(_, frame)| frame.keyframe).unwrap().0;
    assert_eq!(viewer.frames, source.ring.next() - first);
}

#[test]
fn a_mirror_that_misses_units_goes_on_at_a_keyframe() {
    let mut random = Random(11);
    let mut source = Source::new(policy(1_000, 1 << 20, false), BOTH, 20, 500);
    let mut mirror = Ring::new(source.ring.policy());
    let mut tape = Tape::new(Box::<Records>::default(), &mirror);
    let mut viewer = Viewer { gulp: 1 << 24, ..Viewer::default() };
    viewer.cursor.join(&tape);
    let (mut next, mut missed) = (0, 0);
    for _ in 0..200 {
        // The way there is congested for up to six seconds, three times what the ring keeps.
        (0..random.below(300)).for_each(|_| source.go_on(&mut random));
        if next < source.ring.oldest() {
            let Some(entry) = source.ring.resume() else { continue };
            missed += entry - next;
            next = entry;
        }
        source.ring.from(next).cloned().for_each(|unit| {
            mirror.mirror(unit);
        });
        next = source.ring.next();
        assert_eq!(mirror.next(), next);
        tape.catch_up(&mirror);
        (0..4).for_each(|_| assert!(viewer.turn(&tape, &mut random)));
        viewer.check(&source);
        assert_eq!(viewer.last, Some(next - 1));
    }
    assert!(missed > 1_000 && viewer.frames > 1_000, "{missed} missed, {} read", viewer.frames);
}

/// Sound, pictures, both: a viewer that changes between them gets each frame of what it wants, once; pictures from a
/// keyframe on.
#[test]
fn who_changes_tapes_goes_on_at_the_same_frame() {
    for (seed, gulp) in [(1, 1 << 24), (2, 1 << 24), (3, 40), (4, 5_000)] {
        let mut random = Random(seed);
        let mut source = Source::new(policy(4_000, 1 << 24, seed % 2 == 0), BOTH, 30, 900);
        let withouts = [None, Some(Kind::Audio), Some(Kind::Video)];
        let mut tapes = withouts.map(|without| Tape::new(Box::new(Records { without }), &source.ring));
        let mut viewer = Viewer { gulp, ..Viewer::default() };
        viewer.cursor.join(&tapes[0]);
        let (mut at, mut begun, mut seen, mut wanted, mut frames) = (0, false, false, 0, 0);
        for round in 0..4_000 {
            if random.one_in(40) {
                source.configure(1 + random.below(200) as u8);
            }
            let next = source.ring.next();
            source.go_on(&mut random);
            for unit in source.ring.from(next) {
                seen |= unit.frame.keyframe && withouts[at] != Some(Kind::Video);
                let kind = unit.frame.kind;
                begun |= seen;
                wanted += u64::from(begun && withouts[at] != Some(kind) && (seen || kind != Kind::Video));
            }
            // One that is made late has no more than others have.
            if random.one_in(50) {
                let spare = (at + 1) % 3;
                tapes[spare] = Tape::new(Box::new(Records { without: withouts[spare] }), &source.ring);
            }
            for tape in &mut tapes {
                tape.catch_up(&source.ring);
            }
            assert!(viewer.turn(&tapes[at], &mut random));
            while gulp == 1 << 24 && !viewer.cursor.drained(Some(&tapes[at])) {
                assert!(viewer.turn(&tapes[at], &mut random));
            }
            viewer.check(&source);
            if round > 100 && random.one_in(20) {
                let to = random.below(3) as usize;
                seen &= withouts[at] != Some(Kind::Video);
                if !viewer.cursor.switch(&tapes[at], &tapes[to]) {
                    assert!(gulp < 1 << 24, "one that reads is not given up");
                    viewer = Viewer { gulp, ..Viewer::default() };
                    viewer.cursor.join(&tapes[to]);
                }
                at = to;
            }
            frames += std::mem::take(&mut viewer.frames);
        }
        assert!(frames > 300, "{frames}");
        assert!(gulp < 1 << 24 || frames == wanted, "{frames} of {wanted}");
    }
}

#[test]
fn who_changes_tapes_again_and_again_and_reads_nothing_is_given_up() {
    let mut random = Random(5);
    let mut source = Source::new(policy(4_000, 1 << 24, true), BOTH, 30, 900);
    (0..100).for_each(|_| source.go_on(&mut random));
    let tapes = [None, Some(Kind::Video)].map(|without| Tape::new(Box::new(Records { without }), &source.ring));
    let mut viewer = Viewer { gulp: 1 << 24, ..Viewer::default() };
    viewer.cursor.join(&tapes[0]);
    for round in 0..100 {
        assert!(viewer.cursor.switch(&tapes[round % 2], &tapes[1 - round % 2]), "it waits for nothing, or reads");
        while round > 50 && viewer.cursor.step(&tapes[1 - round % 2]) != Step::Idle {
            assert!(viewer.turn(&tapes[1 - round % 2], &mut random));
        }
    }
    viewer.check(&source);
    assert!((0..100).any(|round| !viewer.cursor.switch(&tapes[round % 2], &tapes[1 - round % 2])));
}

/// The kinds of records in `wire`, and the configurations of its heads and prologues.
fn records(wire: &[u8]) -> (String, Vec<[u8; 2]>) {
    let (mut kinds, mut configs, mut rest) = (String::new(), Vec::new(), wire);
    while let Some((header, after)) = rest.split_first_chunk::<5>() {
        let (payload, after) =
            after.split_at(u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize);
        kinds.push(header[0].into());
        configs.extend((b"HP".contains(&header[0])).then(|| [payload[0], payload[1]]));
        rest = after;
    }
    (kinds, configs)
}

/// What one who comes at `joined_ms` reads up to `until_ms` of such a stream; `act` each 20 ms.
fn read(source: &mut Source, joined_ms: i64, until_ms: i64, mut act: impl FnMut(&mut Source)) -> Vec<u8> {
    let mut random = Random(9);
    let mut tape = Tape::new(Box::<Records>::default(), &source.ring);
    let mut viewer = Viewer { gulp: 1 << 24, ..Viewer::default() };
    let mut wire = Vec::new();
    while source.ms < until_ms {
        act(source);
        source.go_on(&mut random);
        tape.catch_up(&source.ring);
        if source.ms == joined_ms {
            viewer.cursor.join(&tape);
        }
        if source.ms >= joined_ms {
            assert!(viewer.turn(&tape, &mut random));
            wire.append(&mut viewer.wire);
        }
    }
    wire
}

#[test]
fn metadata_alone_makes_a_new_prologue() {
    let mut source = Source::new(policy(4_000, 1 << 20, true), BOTH, 25, 100);
    let wire = read(&mut source, 20, 2_000, |source| {
        if source.ms == 1_000 {
            let mut metadata = Metadata::default();
            metadata.set("title", Value::Text("another".into()));
            source.prologue = Arc::new(source.prologue.with_metadata(metadata).expect("a change"));
        }
    });
    let (kinds, configs) = records(&wire);
    assert_eq!((kinds.matches('P').count(), configs), (1, vec![[1, 1]; 2]));
}

#[test]
fn a_head_waits_a_second_for_the_other_track_and_a_prologue_brings_it_later() {
    for (late_audio_ms, heads) in [(500, vec![[1, 1]; 2]), (3_000, vec![[1, 0], [1, 1]])] {
        let mut source = Source::new(policy(4_000, 1 << 20, true), Streams { late_audio_ms, ..BOTH }, 25, 100);
        let wire = read(&mut source, 20, 5_000, |_| {});
        let (kinds, configs) = records(&wire);
        assert_eq!(configs, heads, "{late_audio_ms} ms");
        assert!(kinds.starts_with("HV") && kinds.matches('A').count() > 90, "{late_audio_ms} ms: {kinds}");
    }
}

#[test]
fn newcomers_wait_while_there_is_no_keyframe_or_none_is_kept_any_more() {
    let gop = |ms: i64| (ms / 40) as u64;
    // The first picture is amid a GOP; the next keyframe comes after four seconds.
    let mut source = Source::new(policy(4_000, 1 << 20, true), BOTH, gop(4_000), 100);
    source.since_key = 1;
    let (kinds, _) = records(&read(&mut source, 1_000, 5_000, |_| {}));
    assert!(kinds.starts_with("HV") && kinds.matches('v').count() < gop(1_100) as usize, "{kinds}");
    // A GOP of minutes: offered for as long as the ring has its keyframe, twice `skip`.
    for (joined_ms, gets) in [(7_000, true), (20_000, false)] {
        let mut source = Source::new(policy(4_000, 1 << 20, true), BOTH, gop(300_000), 100);
        let wire = read(&mut source, joined_ms, 25_000, |_| {});
        assert_eq!(!wire.is_empty(), gets, "{joined_ms} ms");
    }
}
