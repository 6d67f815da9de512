//! A real encoder publishes, real players play: every frame, whole and in time, on any number of shards.

use crate::support::{
    PATIENCE, flv,
    media::Media,
    probe::{Decoded, Decoder, Kind, Packet, Probe, Probed},
    process::Process,
    publisher::Publisher,
    server::Server,
    stage::{MIN_PICTURES, PLAY_SECONDS, Stage},
    tone, until,
};
use std::{
    collections::{HashMap, HashSet},
    fs,
    process::Command,
    time::Duration,
};

#[test]
fn plays_on_one_shard() {
    streams_play(1);
}

#[test]
fn plays_across_two_shards() {
    streams_play(2);
}

#[test]
fn plays_across_sixteen_shards() {
    streams_play(16);
}

/// Each stream played by RTMP and by HTTP-FLV.
fn streams_play(shards: usize) {
    let Stage { server, streams, publishers: _publishers } = Stage::open(shards);
    let mut players = Vec::new();
    for (name, media) in &streams {
        for url in [server.rtmp(name), server.flv(name)] {
            let probe = Probe::seconds(&url, PLAY_SECONDS as f32);
            let decoder = Decoder::seconds(&url, PLAY_SECONDS);
            players.push((url, *media, probe, decoder));
        }
    }
    for (url, media, probe, decoder) in players {
        eprintln!("{url}");
        let source = Probe::whole(media.file()).finish(PATIENCE);
        let probed = probe.finish(PATIENCE);
        assert_eq!(probed.size, media.size());
        assert_entry_is_a_keyframe(&probed);
        assert_order(&probed);
        assert_times_of_source(&probed.packets, &source.packets);
        assert_decoded(&decoder.finish(PATIENCE));
    }
    server.stop();
}

#[test]
fn every_frame_arrives_unchanged_and_in_time() {
    let server = Server::start(2);
    for media in [Media::Plain, Media::Reordered] {
        let name = format!("live/whole{media:?}");
        // RTMP players stay when the publisher leaves: this one stops by itself a little earlier.
        let rtmp = Probe::seconds(&server.rtmp(&name), 8.0);
        let flv = Probe::whole(server.flv(&name));
        server.wait_for_clients(&name, 2);
        Publisher::once(&server, &name, media).finish(Duration::from_secs(10));
        let source = Probe::whole(media.file()).finish(PATIENCE);
        // A stream starts with its first keyframe.
        let start = source.packets.iter().position(|packet| packet.keyframe && packet.kind == Kind::Video);
        let sent = &source.packets[start.expect("a keyframe")..];
        for (probed, all) in [(flv.finish(PATIENCE), true), (rtmp.finish(PATIENCE), false)] {
            for kind in [Kind::Video, Kind::Audio] {
                let got = probed.of(kind);
                let sent: Vec<_> = sent.iter().filter(|packet| packet.kind == kind).collect();
                let least = if all { sent.len() } else { sent.len() * 3 / 4 };
                assert!((least..=sent.len()).contains(&got.len()), "{kind:?}: {} of {}", got.len(), sent.len());
                let same = got.iter().zip(&sent).take_while(|(got, sent)| got.hash == sent.hash).count();
                assert_eq!(same, got.len(), "{media:?} {kind:?}: the first frame that differs");
            }
            assert_order(&probed);
            assert_times_of_source(&probed.packets, &source.packets);
        }
    }
    server.stop();
}

#[test]
fn rtmpdump_plays() {
    let server = Server::start(2);
    let _publisher = Publisher::looping(&server, "live/dump", Media::Plain);
    server.wait_until_live("live/dump");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dump.flv");
    let mut command = Command::new("rtmpdump");
    command.args(["--quiet", "--live", "--rtmp", &server.rtmp("live/dump"), "--flv"]).arg(&file);
    let dump = Process::start(&mut command);
    until("rtmpdump has its seconds", || {
        let (tags, _) = flv::tags(&fs::read(&file).ok()?);
        (tags.iter().filter(|tag| tag.kind == flv::VIDEO).count() > MIN_PICTURES).then_some(())
    });
    // It finishes its file when told to end; its status then says that the stream went on.
    dump.terminate();
    dump.finish(PATIENCE);
    let (_, whole) = flv::tags(&fs::read(&file).expect("the dump"));
    fs::OpenOptions::new().write(true).open(&file).and_then(|file| file.set_len(whole as u64)).expect("cut the dump");
    assert_decoded(&Decoder::whole(&file).finish(PATIENCE));
    let source = Probe::whole(Media::Plain.file()).finish(PATIENCE);
    let probed = Probe::whole(&file).finish(PATIENCE);
    assert_entry_is_a_keyframe(&probed);
    assert_times_of_source(&probed.packets, &source.packets);
    server.stop();
}

#[test]
fn tells_tones_apart() {
    let tone: Vec<i16> = (0..48_000)
        .map(|n| (10_000.0 * (std::f64::consts::TAU * 440.0 * f64::from(n) / 48_000.0).sin()) as i16)
        .collect();
    assert!(tone::share(&tone, 48_000, 440.0) > 0.99);
    assert!(tone::share(&tone, 48_000, 660.0) < 0.01);
    assert_eq!(tone::share(&[0; 48_000], 48_000, 440.0), 0.0);
}

fn assert_decoded(decoded: &Decoded) {
    assert!(decoded.pictures.len() >= MIN_PICTURES, "{} pictures", decoded.pictures.len());
    let different: HashSet<_> = decoded.pictures.iter().collect();
    assert_eq!(different.len(), decoded.pictures.len(), "a picture came twice");
    let share = tone::share(&decoded.sound, 48_000, 440.0);
    assert!(share > 0.9, "{share} of the sound is the tone of 440 Hz");
}

fn assert_entry_is_a_keyframe(probed: &Probed) {
    assert!(probed.of(Kind::Video).first().is_some_and(|packet| packet.keyframe));
}

fn assert_order(probed: &Probed) {
    for kind in [Kind::Video, Kind::Audio] {
        for pair in probed.of(kind).windows(2) {
            assert!(pair[0].dts_ms < pair[1].dts_ms, "{kind:?} runs from {} to {}", pair[0].dts_ms, pair[1].dts_ms);
        }
    }
}

/// What ffmpeg's publisher may add when it rounds times to milliseconds once more.
const ROUNDING_MS: i64 = 1;

/// Each packet is one of the source, unchanged, and all are moved on the time axis by the same distance,
/// sound like picture; where the source starts over, by a new one.
fn assert_times_of_source(packets: &[Packet], source: &[Packet]) {
    let by_hash: HashMap<_, _> = source.iter().enumerate().map(|(at, p)| ((p.kind, &p.hash), (at, p))).collect();
    assert_eq!(by_hash.len(), source.len(), "packets of the source are told apart by their content");
    let mut last: HashMap<Kind, usize> = HashMap::new();
    let mut rounds: HashMap<(Kind, usize), i64> = HashMap::new();
    let mut round: HashMap<Kind, usize> = HashMap::new();
    for packet in packets {
        let Some(&(at, sent)) = by_hash.get(&(packet.kind, &packet.hash)) else {
            panic!("a packet that the source has not: {packet:?}");
        };
        if last.insert(packet.kind, at).is_some_and(|last| at < last) {
            *round.entry(packet.kind).or_default() += 1;
        }
        let moved = packet.dts_ms - sent.dts_ms;
        let known = *rounds.entry((packet.kind, round.get(&packet.kind).copied().unwrap_or(0))).or_insert(moved);
        assert!((moved - known).abs() <= ROUNDING_MS, "{packet:?} is moved by {moved} ms, others by {known} ms");
        assert_eq!(packet.pts_ms - packet.dts_ms, sent.pts_ms - sent.dts_ms, "composition time of {packet:?}");
        assert_eq!(packet.keyframe, sent.keyframe, "{packet:?}");
    }
    // A player may enter between the last picture and the last sound of a round; the source is more than
    // three times as long as what is played, so one round at least has both.
    let common: Vec<_> =
        (0..2).filter_map(|n| Some(rounds.get(&(Kind::Video, n))? - rounds.get(&(Kind::Audio, n))?)).collect();
    assert!(!common.is_empty());
    let both_whole = common.iter().any(|difference| difference.abs() <= ROUNDING_MS);
    assert!(both_whole, "picture and sound are moved apart by {common:?} ms");
}
