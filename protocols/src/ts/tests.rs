//! Real streams of ffmpeg read, written and read again; gaps, noise and hostile bytes.

use super::{packet::PACKET_LEN, *};
use crate::codec::{
    avc,
    hostile::{hex, mutations},
};
use bytes::Bytes;
use shardcast_engine::{
    codec::{Codec, Kind},
    fanout::Format,
    frame::{Frame, Media},
    prologue::Prologue,
    time::Timestamp,
    track::Track,
};

/// ffmpeg 5.1 (`-f mpegts`), 0.4 s: x264 at 32x18 with B-frames and a keyframe every 5, AAC at 48 kHz mono.
const AVC_AAC: &[u8] = include_bytes!("golden/avc_aac.ts");
/// The same with x265 at 64x64 and libmp3lame at 44.1 kHz mono.
const HEVC_MP3: &[u8] = include_bytes!("golden/hevc_mp3.ts");

fn read(stream: &[u8], push_len: usize) -> (Vec<Media>, Damage) {
    let mut reader = TsReader::default();
    let mut media = Vec::new();
    for bytes in stream.chunks(push_len) {
        reader.push(bytes);
        while let Some(next) = reader.next().unwrap() {
            media.push(next);
        }
    }
    reader.finish();
    while let Some(next) = reader.next().unwrap() {
        media.push(next);
    }
    (media, reader.damage())
}

fn frames(media: &[Media], kind: Kind) -> Vec<&Frame> {
    let frames = media.iter().filter_map(|media| match media {
        Media::Frame(frame) => Some(frame),
        _ => None,
    });
    frames.filter(|frame| frame.kind == kind).collect()
}

fn tracks(media: &[Media]) -> Vec<&Track> {
    let tracks = media.iter().filter_map(|media| match media {
        Media::Track(track) => Some(track),
        _ => None,
    });
    tracks.collect()
}

/// pts, dts and keyframe as ffprobe tells them.
fn times(frames: &[&Frame]) -> Vec<(i64, i64, bool)> {
    frames.iter().map(|frame| (frame.pts.as_ticks(90_000), frame.dts.as_ticks(90_000), frame.keyframe)).collect()
}

/// Muxes what a reader gave, from the first frame whose tracks are all known.
fn mux(media: &[Media]) -> (Vec<u8>, Prologue) {
    let (mut ts, mut out, mut prologue) = (Ts::default(), Vec::new(), Prologue::default());
    for track in tracks(media) {
        prologue = prologue.with_track(track.clone()).unwrap_or(prologue);
    }
    ts.enter(&prologue, ts.counters(), true, &mut out);
    for media in media {
        if let Media::Frame(frame) = media {
            ts.mux(&prologue, frame, &mut out);
        }
    }
    (out, prologue)
}

#[test]
fn reads_what_ffprobe_sees_in_ffmpegs_avc_and_aac() {
    let (media, damage) = read(AVC_AAC, AVC_AAC.len());
    assert_eq!(damage, Damage::default());
    let pictures = frames(&media, Kind::Video);
    let expected = [
        (133_200, 126_000, true),
        (144_000, 129_600, false),
        (136_800, 133_200, false),
        (140_400, 136_800, false),
        (147_600, 140_400, false),
        (151_200, 144_000, true),
        (162_000, 147_600, false),
        (154_800, 151_200, false),
        (158_400, 154_800, false),
        (165_600, 158_400, false),
    ];
    assert_eq!(times(&pictures), expected);
    let sounds = frames(&media, Kind::Audio);
    // ffprobe's sizes are with the ADTS header.
    let sizes = [149, 166, 64, 65, 73, 77, 76, 86, 94, 92, 86, 99, 93, 93, 97, 94, 89, 81, 99, 86];
    assert_eq!(sounds.iter().map(|frame| frame.payload.len() + 7).collect::<Vec<_>>(), sizes);
    let expected: Vec<_> = (0..20).map(|n| 131_280 + n * 1920).map(|pts| (pts, pts, false)).collect();
    assert_eq!(times(&sounds), expected);
    let [video, audio] = tracks(&media)[..] else { panic!("{:?}", tracks(&media)) };
    assert_eq!((video.codec, audio.codec, &audio.config[..]), (Codec::H264, Codec::Aac, &hex("1188")[..]));
    assert!(format!("{:?}", video.shape).contains("width: 32, height: 18"), "{:?}", video.shape);
    // Slices and SEI, no delimiter and no parameter set.
    let kinds = avc::nal_units(&pictures[0].payload, 4).map(|nal| avc::nal_type(nal.unwrap()).unwrap());
    assert!(kinds.clone().all(|kind| matches!(kind, 5 | 6)), "{:?}", kinds.collect::<Vec<_>>());
}

#[test]
fn reads_what_ffprobe_sees_in_ffmpegs_hevc_and_mp3() {
    let (media, damage) = read(HEVC_MP3, HEVC_MP3.len());
    assert_eq!(damage, Damage::default());
    let expected = [
        (133_200, 126_000, true),
        (144_000, 129_600, false),
        (140_400, 133_200, false),
        (136_800, 136_800, false),
        (151_200, 140_400, true),
        (147_600, 144_000, false),
        (158_400, 147_600, false),
        (154_800, 151_200, false),
        (165_600, 154_800, false),
        (162_000, 158_400, false),
    ];
    assert_eq!(times(&frames(&media, Kind::Video)), expected);
    let sounds = frames(&media, Kind::Audio);
    assert_eq!(sounds.len(), 17);
    assert!(sounds.iter().enumerate().all(|(n, frame)| frame.payload.len() == 104 + n % 2));
    for (n, (pts, ..)) in times(&sounds).into_iter().enumerate() {
        // ffprobe rounds every duration.
        assert!((pts - (130_945 + n as i64 * 2351)).abs() <= n as i64, "{n}: {pts}");
    }
    let [video, audio] = tracks(&media)[..] else { panic!("{:?}", tracks(&media)) };
    assert_eq!((video.codec, audio.codec), (Codec::Hevc, Codec::Mp3));
    assert!(format!("{:?}", video.shape).contains("width: 64, height: 64"), "{:?}", video.shape);
}

#[test]
fn it_does_not_matter_how_bytes_arrive() {
    let whole = read(AVC_AAC, AVC_AAC.len());
    for push_len in [1, 7, 187, 188, 189, 1000] {
        assert_eq!(read(AVC_AAC, push_len), whole);
    }
}

#[test]
fn what_is_written_is_read_again() {
    for golden in [AVC_AAC, HEVC_MP3] {
        let (media, _) = read(golden, golden.len());
        let (out, prologue) = mux(&media);
        assert_eq!(out.len() % PACKET_LEN, 0);
        let (again, damage) = read(&out, 1000);
        assert_eq!(damage, Damage::default());
        for kind in [Kind::Video, Kind::Audio] {
            let delay = Timestamp::from_ms(200);
            let tick = |time: Timestamp| time.as_ticks(90_000);
            let (before, after) = (frames(&media, kind), frames(&again, kind));
            assert_eq!(before.len(), after.len());
            for (before, after) in before.into_iter().zip(after) {
                assert_eq!((&before.payload, before.keyframe), (&after.payload, after.keyframe));
                assert_eq!(tick(before.dts + delay), tick(after.dts));
                assert_eq!(tick(before.pts + delay), tick(after.pts));
            }
            assert_eq!(tracks(&again).into_iter().find(|track| track.kind() == kind), prologue.track(kind));
        }
    }
}

#[test]
fn times_go_on_over_the_wrap() {
    let (media, _) = read(AVC_AAC, AVC_AAC.len());
    // The wrap lies between the pictures.
    let shift = Timestamp::from_ticks((1 << 33) - 140_000 - 18_000, 90_000);
    let moved: Vec<_> = media
        .into_iter()
        .map(|media| match media {
            Media::Frame(f) => Media::Frame(Frame { dts: f.dts + shift, pts: f.pts + shift, ..f }),
            other => other,
        })
        .collect();
    let (again, _) = read(&mux(&moved).0, 1000);
    let delay = Timestamp::from_ms(200);
    for kind in [Kind::Video, Kind::Audio] {
        let expected: Vec<_> = frames(&moved, kind).into_iter().map(|f| (f.pts + delay, f.dts + delay)).collect();
        assert_eq!(frames(&again, kind).into_iter().map(|f| (f.pts, f.dts)).collect::<Vec<_>>(), expected);
    }
}

/// The units of a stream as a tape has them, with their counters.
fn units() -> (Prologue, Vec<(u16, Vec<u8>, Frame)>) {
    let (media, _) = read(AVC_AAC, AVC_AAC.len());
    let (_, prologue) = mux(&media);
    let mut ts = Ts::default();
    let mut frames: Vec<_> =
        media.into_iter().filter_map(|m| if let Media::Frame(f) = m { Some(f) } else { None }).collect();
    frames.sort_by_key(|frame| frame.dts);
    let unit = |frame: Frame| {
        let (counters, mut out) = (ts.counters(), Vec::new());
        ts.mux(&prologue, &frame, &mut out);
        (counters, out, frame)
    };
    let units = frames.into_iter().map(unit).collect();
    (prologue, units)
}

#[test]
fn one_who_skips_sees_no_damage() {
    let (prologue, units) = units();
    let target = units.iter().rposition(|(_, _, frame)| frame.keyframe).unwrap();
    for skip_from in 1..target {
        let mut out = Vec::new();
        Ts::default().enter(&prologue, units[0].0, true, &mut out);
        units[..skip_from].iter().for_each(|(_, unit, _)| out.extend_from_slice(unit));
        let without = [out.clone(), units[target..].iter().flat_map(|(_, unit, _)| unit.clone()).collect()].concat();
        Ts::default().enter(&prologue, units[target].0, false, &mut out);
        units[target..].iter().for_each(|(_, unit, _)| out.extend_from_slice(unit));
        let (media, damage) = read(&out, 500);
        assert_eq!(damage, Damage::default(), "{skip_from}");
        let count = frames(&media, Kind::Video).len() + frames(&media, Kind::Audio).len();
        assert_eq!(count, skip_from + units.len() - target);
        // Were it not told, it would be damage, unless by chance the counters fit.
        let fits = skip_from > 0 && units[skip_from].0 == units[target].0;
        assert!(fits || read(&without, 500).1.discontinuities > 0, "{skip_from}");
    }
}

#[test]
fn clock_comes_often_never_runs_back_and_is_before_what_it_times() {
    let (prologue, units) = units();
    assert!(prologue.video.is_some());
    let mut last = None;
    for (_, unit, frame) in &units {
        for bytes in unit.chunks(PACKET_LEN) {
            let packet = packet::Packet::parse(&Bytes::copy_from_slice(bytes)).unwrap();
            let Some(pcr) = packet.adaptation.pcr else { continue };
            assert_eq!(packet.pid, psi::VIDEO_PID);
            assert!(last.is_none_or(|last| pcr > last && pcr - last <= 9_000), "{last:?} {pcr}");
            assert!((pcr as i64) < frame.dts.as_ticks(90_000) + 18_000);
            last = Some(pcr);
        }
    }
    assert!(last.is_some());
}

#[test]
fn sound_alone_has_tables_and_clock() {
    let (media, _) = read(AVC_AAC, AVC_AAC.len());
    let audio = tracks(&media)[1].clone();
    let prologue = Prologue::default().with_track(audio).unwrap();
    let (mut ts, mut tables, mut clocks) = (Ts::default(), 0, 0);
    let sound = frames(&media, Kind::Audio)[0].clone();
    for n in 0..100 {
        let dts = Timestamp::from_ms(n * 20);
        let mut out = Vec::new();
        ts.mux(&prologue, &Frame { dts, pts: dts, ..sound.clone() }, &mut out);
        for bytes in out.chunks(PACKET_LEN) {
            let packet = packet::Packet::parse(&Bytes::copy_from_slice(bytes)).unwrap();
            tables += usize::from(packet.pid == psi::PMT_PID);
            clocks += usize::from(packet.pid == psi::AUDIO_PID && packet.adaptation.pcr.is_some());
        }
    }
    assert_eq!((tables, clocks), (4, 100));
}

#[test]
fn lost_packet_costs_what_it_was_part_of() {
    let (whole, _) = read(AVC_AAC, 1000);
    let packets: Vec<_> = AVC_AAC.chunks(PACKET_LEN).collect();
    for lost in 0..packets.len() {
        let stream: Vec<u8> =
            packets.iter().enumerate().filter(|(n, _)| *n != lost).flat_map(|(_, packet)| packet.to_vec()).collect();
        let (media, _) = read(&stream, 1000);
        for frame in &media {
            // What is left is whole.
            assert!(matches!(frame, Media::Track(_)) || whole.contains(frame), "{lost}: {frame:?}");
        }
        assert!(media.len() <= whole.len());
    }
}

#[test]
fn finds_packets_again_after_noise() {
    let mut stream = vec![0x11; 300];
    stream.extend_from_slice(AVC_AAC);
    let clean = read(AVC_AAC, 1000);
    assert_eq!(read(&stream, 1000), clean);
    let mut split = AVC_AAC[..PACKET_LEN * 12].to_vec();
    split.extend_from_slice(&[0x47, 1, 2, 3]);
    split.extend_from_slice(&AVC_AAC[PACKET_LEN * 12..]);
    let (media, damage) = read(&split, 1000);
    assert_eq!(damage.sync_lost, 1);
    assert!(media.len() > clean.0.len() / 2);
}

#[test]
fn what_is_no_ts_or_has_no_end_is_refused() {
    let mut reader = TsReader::default();
    reader.push(&vec![0x11; 100_000]);
    assert!(matches!(reader.next(), Err(TsError::NotTs { .. })));

    let (mut ts, mut out) = (Ts::default(), Vec::new());
    let (media, _) = read(AVC_AAC, 1000);
    let prologue = Prologue::default().with_track(tracks(&media)[0].clone()).unwrap();
    let mut payload = (17u32 << 20).to_be_bytes().to_vec();
    payload.resize(4 + (17 << 20), 0x65);
    let frame = Frame { payload: payload.into(), ..frames(&media, Kind::Video)[0].clone() };
    ts.mux(&prologue, &frame, &mut out);
    let mut reader = TsReader::default();
    reader.push(&out);
    assert!(matches!(reader.next(), Err(TsError::PesTooLong { pid: psi::VIDEO_PID, .. })));
}

#[test]
fn hostile_bytes_never_panic() {
    for golden in [AVC_AAC, HEVC_MP3] {
        mutations(&golden[..PACKET_LEN * 20], 20_000, |bytes| {
            let mut reader = TsReader::default();
            reader.push(bytes);
            while let Ok(Some(_)) = reader.next() {}
            reader.finish();
            while let Ok(Some(_)) = reader.next() {}
        });
    }
    // Broken payloads and configurations are written without panic too.
    let (media, _) = read(AVC_AAC, 1000);
    let frame = frames(&media, Kind::Video)[0].clone();
    let video = tracks(&media)[0].clone();
    mutations(&video.config, 2_000, |config| {
        let track = Track { config: Bytes::copy_from_slice(config), ..video.clone() };
        let prologue = Prologue::default().with_track(track).unwrap();
        Ts::default().mux(&prologue, &frame, &mut Vec::new());
    });
}
