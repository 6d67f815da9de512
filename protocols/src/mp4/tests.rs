//! Structure of what is written, read back box by box.

use super::*;
use bytes::Bytes;
use shardcast_engine::{
    codec::{Codec, Kind},
    frame::Frame,
    prologue::Prologue,
    time::Timestamp,
    track::{Picture, Shape, Sound, Track},
};

fn prologue() -> Prologue {
    let picture = Picture { width: 640, height: 360, ..Picture::default() };
    let sound = Sound { sample_rate: 48_000, channels: 2, profile: "LC" };
    let video = Track { codec: Codec::H264, config: Bytes::from_static(&[1, 2, 3]), shape: Shape::Video(picture) };
    let audio = Track { codec: Codec::Aac, config: Bytes::from_static(&[0x11, 0x90]), shape: Shape::Audio(sound) };
    Prologue::default().with_track(video).unwrap().with_track(audio).unwrap()
}

fn frame(kind: Kind, dts_ms: i64, pts_ms: i64, keyframe: bool, len: usize) -> Frame {
    let payload = Bytes::from(vec![(dts_ms / 20) as u8; len]);
    Frame { kind, dts: Timestamp::from_ms(dts_ms), pts: Timestamp::from_ms(pts_ms), keyframe, payload }
}

/// Three seconds at 25 pictures, a keyframe each second, and 50 pieces of sound, which start 20 ms late.
fn frames() -> Vec<Frame> {
    let mut frames = Vec::new();
    for n in 0..75 {
        frames.push(frame(Kind::Video, n * 40, n * 40 + 80, n % 25 == 0, 100 + n as usize));
        frames.push(frame(Kind::Audio, n * 40 + 20, n * 40 + 20, false, 10));
    }
    frames
}

/// The file of fragments, its fragments, and what makes it plain.
fn file() -> (Vec<u8>, Vec<Fragment>, Plain) {
    let mut fragmenter = Fragmenter::new(&prologue()).unwrap();
    let mut bytes = Vec::new();
    fragmenter.init(&mut bytes);
    let mut index = Index::new(&fragmenter, &bytes);
    let mut fragments: Vec<_> = frames().into_iter().filter_map(|frame| fragmenter.push(frame)).collect();
    fragments.extend(fragmenter.finish());
    for fragment in &fragments {
        index.add(fragment);
        bytes.extend_from_slice(&fragment.bytes);
    }
    (bytes, fragments, index.finish())
}

/// Boxes side by side: type and content.
fn boxes(mut bytes: &[u8]) -> Vec<(String, &[u8])> {
    let mut found = Vec::new();
    while let Some((head, _)) = bytes.split_first_chunk::<8>() {
        let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        found.push((String::from_utf8_lossy(&head[4..]).into_owned(), &bytes[8..size]));
        bytes = &bytes[size..];
    }
    found
}

/// The content of the box at the end of a path, the first of each name.
fn at<'a>(bytes: &'a [u8], path: &str) -> &'a [u8] {
    path.split('/').fold(bytes, |bytes, name| {
        boxes(bytes).into_iter().find(|(kind, _)| kind == name).unwrap_or_else(|| panic!("no {name} of {path}")).1
    })
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|four| u32::from_be_bytes(four.try_into().unwrap())).collect()
}

fn names(bytes: &[u8]) -> Vec<String> {
    boxes(bytes).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn fragments_start_with_keyframes_and_have_exact_durations() {
    let (bytes, fragments, _) = file();
    let pairs = ["moof", "mdat"].repeat(fragments.len());
    assert_eq!(names(&bytes), [&["ftyp", "moov"][..], &pairs].concat());
    assert_eq!(fragments.len(), 3);
    for fragment in &fragments {
        let pictures = &fragment.runs[0].samples;
        assert_eq!((pictures.len(), pictures[0].sync), (25, true));
        assert!(pictures.iter().all(|sample| (sample.duration, sample.composition) == (3_600, 7_200)));
        assert!(fragment.runs[1].samples.iter().all(|sample| sample.duration == 1_920 && sample.sync));
    }
    let starts: Vec<_> = fragments.iter().map(|fragment| fragment.runs[0].start).collect();
    assert_eq!(starts, [0, 90_000, 180_000]);
}

#[test]
fn every_sample_lies_where_the_index_says() {
    let (mut bytes, _, Plain { moov, overwrite }) = file();
    let media = bytes.clone();
    bytes.extend_from_slice(&moov);
    for place in overwrite {
        bytes[place as usize..][..4].copy_from_slice(&Plain::FREE);
    }
    let expected = [&["ftyp", "free"][..], &["free", "mdat"].repeat(3), &["moov"]].concat();
    assert_eq!(names(&bytes), expected);
    let traks: Vec<_> = boxes(at(&bytes, "moov")).into_iter().filter(|(name, _)| name == "trak").collect();
    for ((_, trak), kind) in traks.into_iter().zip([Kind::Video, Kind::Audio]) {
        let table = |name: &str| numbers(at(trak, &format!("mdia/minf/stbl/{name}")));
        let sizes = table("stsz")[3..].to_vec();
        let chunks: Vec<_> = table("co64")[2..].chunks(2).map(|pair| pair[1] as usize).collect();
        let counts: Vec<_> = table("stsc")[2..].chunks(3).map(|entry| (entry[0], entry[1] as usize)).collect();
        let sent: Vec<_> = frames().into_iter().filter(|frame| frame.kind == kind).collect();
        let mut next = 0;
        for (number, start) in (1..).zip(chunks) {
            let mut start = start;
            let count = counts.iter().rev().find(|(first, _)| *first <= number).unwrap().1;
            for _ in 0..count {
                let end = start + sizes[next] as usize;
                assert_eq!(media[start..end], sent[next].payload[..], "{kind:?} {next}");
                (start, next) = (end, next + 1);
            }
        }
        assert_eq!(next, sent.len());
    }
}

#[test]
fn tables_are_runs() {
    let (_, _, Plain { moov, .. }) = file();
    let table = |name: &str| numbers(at(&moov, &format!("moov/trak/mdia/minf/stbl/{name}")));
    assert_eq!(table("stts"), [0, 1, 75, 3_600]);
    assert_eq!(table("ctts"), [1 << 24, 1, 75, 7_200]);
    assert_eq!(table("stss"), [0, 3, 1, 26, 51]);
    let traks = boxes(at(&moov, "moov"));
    // Version, entries, then twice: duration, media time, rate.
    let edits = numbers(at(traks[2].1, "edts/elst"));
    assert_eq!(edits, [1 << 24, 2, 0, 20, u32::MAX, u32::MAX, 1 << 16, 0, 3_000, 0, 0, 1 << 16]);
}

#[test]
fn configurations_are_in_the_sample_entries() {
    let (bytes, ..) = file();
    let holds = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    assert!(holds(b"\0\0\0\x0bavcC\x01\x02\x03"));
    assert!(holds(&[0x04, 0x80, 0x80, 0x80, 20, 0x40, 0x15]));
    assert!(holds(&[0x05, 0x80, 0x80, 0x80, 2, 0x11, 0x90, 0x06, 0x80, 0x80, 0x80, 1, 2]));
}

#[test]
fn odd_frames_are_left_out_or_clamped() {
    assert!(Fragmenter::new(&Prologue::default()).is_none());
    let sound_alone = Prologue { video: None, ..prologue() };
    let mut fragmenter = Fragmenter::new(&sound_alone).unwrap();
    assert_eq!(fragmenter.push(frame(Kind::Video, 0, 0, true, 9)), None);
    assert_eq!(fragmenter.push(frame(Kind::Audio, -1, 0, false, 9)), None);
    assert_eq!(fragmenter.finish(), None);
    fragmenter.push(frame(Kind::Audio, 0, i64::MAX, false, 9));
    let fragment = fragmenter.push(frame(Kind::Audio, i64::MAX, i64::MIN, false, 0)).unwrap();
    assert_eq!(fragment.runs[0].samples, [Sample { size: 9, duration: u32::MAX, composition: i32::MAX, sync: true }]);
    assert_eq!(fragmenter.finish().unwrap().runs[0].samples[0].duration, u32::MAX);
}

#[test]
fn a_stream_without_keyframes_is_cut_all_the_same() {
    let mut fragmenter = Fragmenter::new(&prologue()).unwrap();
    let cut = (0..500).filter(|n| fragmenter.push(frame(Kind::Video, n * 40, n * 40, *n == 0, 9)).is_some());
    assert!(cut.count() >= 8);
}

#[test]
fn opus_has_its_head_in_the_order_of_mp4() {
    let sound = Sound { sample_rate: 48_000, channels: 2, profile: "" };
    let config = Bytes::from_static(b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0");
    let opus = Track { codec: Codec::Opus, config, shape: Shape::Audio(sound) };
    let mut init = Vec::new();
    let prologue = Prologue { audio: Some(opus), ..prologue() };
    Fragmenter::new(&prologue).unwrap().init(&mut init);
    let at = init.windows(4).position(|window| window == b"dOps").unwrap();
    assert_eq!(&init[at + 4..at + 15], [0, 2, 0x01, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0]);
    assert!(init.windows(4).any(|window| window == b"Opus") && !init.windows(4).any(|window| window == b"mp4a"));
}
