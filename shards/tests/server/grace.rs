//! Streams that outlive their publisher: with `republish_grace` all viewers go on with the next one, whatever it
//! sends, and end when none comes in time.

use crate::support::{
    PATIENCE, flv,
    media::Media,
    probe::{Decoder, Kind, Probe},
    process::{Process, enhanced_ffmpeg},
    publisher::Publisher,
    server::{Server, stream_at},
    tone, until,
    viewer::Viewer,
};
use std::{fs, path::Path, process::Command, time::Duration};

const SHARDS: usize = 2;

fn server(grace_ms: u32) -> Server {
    let conf = format!(
        "srs_log_tank console; http_server {{ enabled on; }} http_api {{ enabled on; }} srt_server {{ enabled on; }}
        vhost __defaultVhost__ {{
            http_remux {{ enabled on; }} srt {{ enabled on; }} publish {{ republish_grace {grace_ms}; }}
        }}"
    );
    Server::of_conf(&conf, SHARDS)
}

/// Of another size, sound rate and encoder: players of every protocol decode both without a complaint, and in one time.
#[test]
fn viewers_go_on_with_the_next_publisher_and_end_when_none_comes() {
    let server = server(4_000);
    for home in 0..SHARDS {
        let stream = stream_at(home, SHARDS, "grace");
        let flv = [(); 2].map(|()| Decoder::whole(server.flv(&stream)));
        let ts = Decoder::whole(server.ts(&stream));
        // RTMP has no end. Where the size changes ffmpeg counts its seconds anew: it stops 6 s into the second.
        let rtmp = Decoder::seconds(&server.rtmp(&stream), 6);
        let times = Probe::whole(server.flv(&stream));
        server.wait_for_clients(&stream, 5);
        Publisher::once(&server, &stream, Media::Short).finish(Duration::from_secs(4));
        Publisher::once(&server, &stream, Media::Marked).finish(Duration::from_secs(8));
        for (what, player) in flv.map(|player| ("FLV", player)).into_iter().chain([("TS", ts), ("RTMP", rtmp)]) {
            let got = player.finish(PATIENCE);
            // 4 and 8 seconds.
            let least = if what == "RTMP" { 240 } else { 290 };
            assert!((least..=300).contains(&got.pictures.len()), "{what}: {} pictures", got.pictures.len());
            let seconds = got.sound.len() / 48_000;
            assert!((9..=12).contains(&seconds), "{what}: {seconds} s of sound");
            let share = tone::share(&got.sound[..3 * 48_000], 48_000, 440.0);
            assert!(share > 0.9, "{what}: {share} of the sound is the tone of the first publisher");
        }
        let times = times.finish(PATIENCE);
        for kind in [Kind::Video, Kind::Audio] {
            let times: Vec<_> = times.of(kind).iter().map(|packet| packet.dts_ms).collect();
            assert!(times.is_sorted_by(|a, b| a < b && b - a < 500), "{kind:?}: {times:?}");
        }
        server.wait_for_log(&[&stream["live/".len()..], "goes on with its next publisher"]);
    }
    for result in ["in_time", "late"] {
        let label = format!("result=\"{result}\"");
        assert_eq!(server.total("shardcast_republishes_total", &label), SHARDS as f64, "{result}");
    }
    server.stop();
}

/// H.264 becomes HEVC: the sound of an ffmpeg that plays goes on, and what comes is whole in the new codec.
#[test]
fn viewers_go_on_with_another_codec() {
    let Some(ffmpeg) = enhanced_ffmpeg() else { return };
    let server = server(4_000);
    let stream = "live/codec";
    let folder = tempfile::tempdir().expect("a folder");
    let media = folder.path().join("hevc.flv");
    let mut make = Command::new(&ffmpeg);
    make.args(["-v", "error", "-i"]).arg(Media::Short.file()).args(["-c:a", "copy", "-c:v", "libx265", "-preset"]);
    make.args(["ultrafast", "-x265-params", "log-level=none"]).arg(&media);
    Process::start(&mut make).finish(Duration::from_secs(60)).clean("making HEVC");

    let viewer = Viewer::open(server.ports.http, stream);
    let mut play = Command::new(&ffmpeg);
    play.args([
        "-v",
        "error",
        "-i",
        &server.rtmp(stream),
        "-map",
        "0:a",
        "-t",
        "7",
        "-c",
        "copy",
        "-f",
        "framemd5",
        "-",
    ]);
    let player = Process::start(&mut play);
    server.wait_for_clients(stream, 2);
    Publisher::once(&server, stream, Media::Short).finish(Duration::from_secs(4));
    let mut publish = Command::new(&ffmpeg);
    publish.args(["-v", "error", "-re", "-i"]).arg(&media).args(["-c", "copy", "-f", "flv", &server.rtmp(stream)]);
    Process::start(&mut publish).finish(Duration::from_secs(4) + PATIENCE).clean("the second publisher");

    let text = String::from_utf8(player.finish(PATIENCE).clean("ffmpeg")).expect("framemd5");
    let sounds = text.lines().filter(|line| !line.starts_with('#')).count();
    // 48000 / 1024 a second; either publisher has four.
    assert!(sounds > 6 * 46, "{sounds} frames of sound");
    until("the stream is over", || viewer.ended().then_some(()));
    let (tags, _) = flv::tags(&viewer.flv());
    let enhanced = |tag: &flv::Tag| tag.kind == flv::VIDEO && tag.body[1..5] == *b"hvc1";
    let seam = tags.iter().position(enhanced).expect("HEVC");
    assert!(tags[..seam].iter().any(flv::Tag::is_keyframe), "H.264 before it");
    for kind in [flv::AUDIO, flv::VIDEO] {
        let times: Vec<_> = tags.iter().filter(|tag| tag.kind == kind).map(|tag| tag.time_ms).collect();
        assert!(times.is_sorted(), "{kind}: {times:?}");
    }
    let file = folder.path().join("second.flv");
    fs::write(&file, flv::file(&tags[seam..])).expect("write what came");
    let count = |file: &Path| {
        let mut decode = Command::new(&ffmpeg);
        decode.args(["-v", "error", "-xerror", "-i"]).arg(file).args(["-map", "0:v", "-f", "framemd5", "-"]);
        let text = Process::start(&mut decode).finish(PATIENCE).clean("decoding HEVC");
        String::from_utf8(text).expect("framemd5").lines().filter(|line| !line.starts_with('#')).count()
    };
    assert_eq!(count(&file), count(&media), "pictures of the second publisher");
    server.stop();
}
