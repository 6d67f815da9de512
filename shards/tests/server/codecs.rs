//! The codecs of Enhanced RTMP: an ffmpeg that knows them publishes and plays each, on two shards, and all that it
//! sent is in what it gets back, in its order, from RTMP, HTTP-FLV and a recording.

use crate::support::{
    PATIENCE, flv,
    media::Media,
    process::{Process, enhanced_ffmpeg},
    server::Server,
    speaker::Speaker,
    until,
    viewer::Viewer,
};
use bytes::Bytes;
use shardcast_engine::{
    codec::{Codec, Kind},
    frame::Frame,
    time::Timestamp,
};
use shardcast_protocols::codec::vpx;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Of what is published.
const SECONDS: u64 = 4;

/// What one stream is made of.
struct Pair {
    name: &'static str,
    /// ffmpeg's encoders, and the names in the API.
    video: (&'static [&'static str], &'static str),
    audio: (&'static str, &'static str),
    /// Whether MPEG-TS carries picture and sound.
    ts: (bool, bool),
}

const PAIRS: [Pair; 4] = [
    Pair {
        name: "hevc",
        video: (&["libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"], "HEVC"),
        audio: ("libopus", "Opus"),
        ts: (true, true),
    },
    Pair { name: "av1", video: (&["libsvtav1", "-preset", "12"], "AV1"), audio: ("flac", "FLAC"), ts: (false, false) },
    Pair {
        name: "vp9",
        video: (&["libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"], "VP9"),
        audio: ("ac3", "AC3"),
        ts: (false, true),
    },
    Pair {
        name: "vvc",
        video: (&["libvvenc", "-preset", "faster", "-period", "10"], "VVC"),
        audio: ("eac3", "EAC3"),
        ts: (false, true),
    },
];

impl Pair {
    fn stream(&self) -> String {
        format!("live/{}", self.name)
    }

    fn make(&self, ffmpeg: &Path, folder: &Path) -> PathBuf {
        let file = folder.join(format!("{}.flv", self.name));
        let mut command = Command::new(ffmpeg);
        command.args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=160x96:rate=25"]);
        command.args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", &SECONDS.to_string()]);
        command.args(["-pix_fmt", if self.name == "vvc" { "yuv420p10le" } else { "yuv420p" }, "-g", "100", "-c:v"]);
        command.args(self.video.0).args(["-ac", "2", "-c:a", self.audio.0, "-f", "flv"]).arg(&file);
        let output = Process::start(command.env("SVT_LOG", "0")).finish(Duration::from_secs(100));
        assert!(output.status.success(), "{}: {}", self.name, output.stderr.join("\n"));
        file
    }
}

/// The packets of picture and sound, by what they hold.
#[derive(Debug, PartialEq)]
struct Packets([Vec<String>; 2]);

impl Packets {
    /// `got` has all; a stream starts with its first picture, and what sounds before it is left out.
    fn assert_whole(&self, got: &Packets, what: &str) {
        let Packets([pictures, sounds]) = got;
        assert_eq!(pictures, &self.0[0], "{what}");
        let (got, sent) = (sounds.len(), self.0[1].len());
        let start = sounds.first().and_then(|first| self.0[1].iter().position(|packet| packet == first));
        let rest = start.and_then(|start| self.0[1].get(start..));
        let same = rest.map_or(0, |rest| rest.iter().zip(sounds).take_while(|(sent, got)| sent == got).count());
        let whole = rest == Some(&sounds[..]) && got + 8 >= sent;
        assert!(whole, "{what}: {got} of {sent} sounds, the first of them {start:?}, {same} the same");
    }
}

/// An ffmpeg that copies what it plays and tells the hash of each packet.
fn copy(ffmpeg: &Path, from: impl AsRef<Path>, options: &[&str]) -> Process {
    let mut command = Command::new(ffmpeg);
    command.args(["-v", "error", "-xerror", "-i"]).arg(from.as_ref()).args(["-map", "0:v?", "-map", "0:a?"]);
    Process::start(command.args(options).args(["-c", "copy", "-f", "framemd5", "-"]))
}

fn packets(what: &str, player: Process) -> Packets {
    let text = String::from_utf8(player.finish(Duration::from_secs(SECONDS) + PATIENCE).clean(what)).expect("framemd5");
    // "#media_type 0: video", then rows of "stream, dts, pts, duration, size, hash", perhaps with side data.
    let kind = |stream: &str| text.contains(&format!("#media_type {stream}: audio"));
    let mut packets = Packets(Default::default());
    for row in text.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = row.split(',').map(str::trim);
        let stream = fields.next().expect("a stream");
        packets.0[usize::from(kind(stream))].push(fields.nth(4).expect("a hash").to_owned());
    }
    packets
}

/// Decodes all; a word of complaint fails the test.
fn decode(ffmpeg: &Path, from: impl AsRef<Path>) -> Process {
    let mut command = Command::new(ffmpeg);
    Process::start(command.args(["-v", "error", "-xerror", "-i"]).arg(from.as_ref()).args(["-f", "null", "-"]))
}

#[test]
fn every_codec_comes_back_as_it_was_sent() {
    let Some(ffmpeg) = enhanced_ffmpeg() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let files = PAIRS.each_ref().map(|pair| pair.make(&ffmpeg, folder.path()));
    let conf = format!(
        "srs_log_tank console; http_server {{ enabled on; }} http_api {{ enabled on; }}
        vhost __defaultVhost__ {{
            min_latency on; http_remux {{ enabled on; }}
            dvr {{ enabled on; dvr_path {}/[stream].mp4; }}
        }}",
        folder.path().display()
    );
    let server = Server::of_conf(&conf, 2);
    let mut players = Vec::new();
    for pair in &PAIRS {
        let stream = pair.stream();
        // They stop by themselves a little earlier: over RTMP the publisher's end is none for players, and ffmpeg 9
        // takes the end of any chunked body for an error.
        let live = [server.rtmp(&stream), server.flv(&stream)].map(|url| copy(&ffmpeg, url, &["-frames:v", "40"]));
        players.push((live, Viewer::open(server.ports.http, &stream)));
        server.wait_for_clients(&stream, 3);
    }
    let mut publishers = Vec::new();
    for (pair, file) in PAIRS.iter().zip(&files) {
        let mut command = Command::new(&ffmpeg);
        command
            .args(["-v", "error", "-re", "-readrate_initial_burst", "0.01", "-i"])
            .arg(file)
            .args(["-c", "copy", "-f", "flv"]);
        publishers.push(Process::start(command.arg(server.rtmp(&pair.stream()))));
    }
    for pair in &PAIRS {
        let told = until("the API tells both tracks", || {
            let told = server.stream(&pair.stream())?;
            (told["video"]["width"].as_u64() > Some(0) && told["audio"].is_object()).then_some(told)
        });
        assert_eq!((&told["video"]["codec"], &told["audio"]["codec"]), (&pair.video.1.into(), &pair.audio.1.into()));
        assert_eq!((&told["video"]["width"], &told["video"]["height"]), (&160.into(), &96.into()), "{}", pair.name);
    }
    for publisher in publishers {
        publisher.finish(Duration::from_secs(SECONDS) + PATIENCE).clean("the publisher");
    }
    for ((pair, file), player) in PAIRS.iter().zip(&files).zip(players) {
        let (live, viewer) = player;
        let name = pair.name;
        let sent = packets("the source", copy(&ffmpeg, file, &[]));
        assert!(sent.0[0].len() > 90 && sent.0[1].len() > 30, "{name}: {} {}", sent.0[0].len(), sent.0[1].len());
        for player in live {
            let got = packets(&format!("{name} live"), player);
            assert!(sent.0[0].starts_with(&got.0[0]), "{name}: pictures");
            let start = got.0[1].first().and_then(|first| sent.0[1].iter().position(|packet| packet == first));
            let rest = start.and_then(|start| sent.0[1].get(start..)).expect("sound that was sent");
            assert!(rest.starts_with(&got.0[1]) && got.0[1].len() > 20, "{name}: sound");
            assert_eq!(got.0[0].len(), 40, "{name}");
        }
        until("the body ends", || viewer.ended().then_some(()));
        let flv = folder.path().join(format!("{name}.http.flv"));
        fs::write(&flv, viewer.flv()).expect("write what came");
        sent.assert_whole(&packets("the body", copy(&ffmpeg, &flv, &[])), &format!("{name} over HTTP-FLV"));
        decode(&ffmpeg, &flv).finish(PATIENCE).clean(&format!("decoding {name}"));
        let mp4 = folder.path().join(format!("{name}.mp4"));
        until("there is a recording", || mp4.exists().then_some(()));
        sent.assert_whole(&packets("the recording", copy(&ffmpeg, &mp4, &[])), &format!("{name} in MP4"));
        decode(&ffmpeg, &mp4).finish(PATIENCE).clean(&format!("decoding {name} in MP4"));
    }
    server.stop();
}

#[test]
fn the_first_of_several_tracks_comes_back_alone() {
    let Some(ffmpeg) = enhanced_ffmpeg() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (first, other) = (Media::Short.file(), PAIRS[0].make(&ffmpeg, folder.path()));
    let server = Server::start(2);
    let viewer = Viewer::open(server.ports.http, "live/many");
    server.wait_for_clients("live/many", 1);
    let mut publish = Command::new(&ffmpeg);
    publish.args(["-v", "fatal"]);
    for file in [&first, &other] {
        publish.args(["-re", "-readrate_initial_burst", "0.01", "-i"]).arg(file);
    }
    publish.args(["-map", "0:v", "-map", "1:v", "-map", "0:a", "-map", "1:a", "-c", "copy", "-f", "flv"]);
    let publisher = Process::start(publish.arg(server.rtmp("live/many")));
    let told = until("the API tells both tracks", || {
        server.stream("live/many").filter(|told| told["video"].is_object() && told["audio"].is_object())
    });
    assert_eq!((&told["video"]["codec"], &told["audio"]["codec"]), (&"H264".into(), &"AAC".into()));
    let others = until("the API tells the other tracks", || {
        let tracks = server.stream("live/many")?["tracks"].as_array()?.clone();
        let others: Vec<_> = tracks.into_iter().filter(|track| track["served"] == false).collect();
        (others.len() == 2).then_some(others)
    });
    let told: Vec<_> = others.iter().map(|track| (&track["number"], &track["type"], &track["codec"])).collect();
    let number = &1.into();
    assert_eq!(told, [(number, &"video".into(), &"HEVC".into()), (number, &"audio".into(), &"Opus".into())]);
    publisher.finish(Duration::from_secs(SECONDS) + PATIENCE).clean("the publisher");
    until("the body ends", || viewer.ended().then_some(()));
    let flv = folder.path().join("many.http.flv");
    fs::write(&flv, viewer.flv()).expect("write what came");
    packets("the first", copy(&ffmpeg, &first, &[]))
        .assert_whole(&packets("the body", copy(&ffmpeg, &flv, &[])), "the first track");
    for kind in ["video", "audio"] {
        server.wait_for_log(&["several", kind, "tracks: the lowest is served"]);
    }
    server.stop();
}

#[test]
fn mpeg_ts_carries_what_it_can_and_the_log_names_the_rest() {
    let Some(ffmpeg) = enhanced_ffmpeg() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::of_conf(
        "srs_log_tank console; http_server { enabled on; } http_api { enabled on; }
        vhost __defaultVhost__ { min_latency on; http_remux { enabled on; mount [vhost]/[app]/[stream].ts; } }",
        2,
    );
    for pair in &PAIRS {
        let (file, stream) = (pair.make(&ffmpeg, folder.path()), pair.stream());
        let player = (pair.ts.0 || pair.ts.1).then(|| {
            let player = copy(Path::new("ffmpeg"), server.ts(&stream), &[]);
            server.wait_for_clients(&stream, 1);
            player
        });
        let mut command = Command::new(&ffmpeg);
        command
            .args(["-v", "error", "-re", "-readrate_initial_burst", "0.01", "-i"])
            .arg(&file)
            .args(["-c", "copy", "-f", "flv"]);
        let publisher = Process::start(command.arg(server.rtmp(&stream)));
        publisher.finish(Duration::from_secs(SECONDS) + PATIENCE).clean("the publisher");
        let sent = packets("the source", copy(&ffmpeg, &file, &[]));
        if let Some(player) = player {
            let got = packets(&format!("{} over HTTP-TS", pair.name), player);
            let expected =
                [pair.ts.0, pair.ts.1].into_iter().zip(&sent.0).map(|(is, sent)| if is { sent.len() } else { 0 });
            for (got, expected) in got.0.iter().zip(expected) {
                // ffmpeg sends VVC's first second at once; in sound alone a newcomer enters a second back at the most.
                assert!(
                    got.len() <= expected && got.len() + expected / 4 >= expected,
                    "{}: {} {expected}",
                    pair.name,
                    got.len()
                );
            }
        }
        for (carried, codec) in [(pair.ts.0, pair.video.1), (pair.ts.1, pair.audio.1)] {
            let line = format!("{stream} is {codec}, which MPEG-TS does not carry");
            assert_eq!(server.log().with(&[&line]).len(), usize::from(!carried), "{line}");
        }
    }
    server.stop();
}

/// Chromium has no HEVC. Firefox decodes it where the distribution's libavcodec does.
#[test]
fn firefox_plays_hevc_of_http_flv() {
    let (Ok(python), Ok(firefox)) = (std::env::var("SHARDCAST_PYTHON"), std::env::var("SHARDCAST_FIREFOX")) else {
        return eprintln!("SKIPPED: HEVC is not tested in a browser: set SHARDCAST_PYTHON and SHARDCAST_FIREFOX");
    };
    let Some(ffmpeg) = enhanced_ffmpeg() else { return };
    let server = Server::start(2);
    let stream = "live/firefox";
    let mut publish = Command::new(&ffmpeg);
    publish.args(["-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-f", "lavfi", "-i"]);
    publish.args(["sine=sample_rate=48000", "-pix_fmt", "yuv420p", "-g", "25", "-c:v", "libx265", "-preset"]);
    publish.args(["ultrafast", "-x265-params", "log-level=none", "-c:a", "aac", "-f", "flv", &server.rtmp(stream)]);
    let _publisher = Process::start(&mut publish);
    let told = server.wait_until_live(stream);
    assert_eq!(told["video"]["codec"], "HEVC");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/firefox.py");
    let page = format!("http://127.0.0.1:{}/", server.ports.http);
    let browser = Process::start(Command::new(python).arg(script).args([&firefox, &page, &server.flv(stream)]));
    let text = browser.finish(Duration::from_secs(120)).clean("Firefox");
    let seen: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(
        (&seen["error"], &seen["width"], &seen["height"]),
        (&serde_json::Value::Null, &320.into(), &180.into()),
        "{seen}"
    );
    server.stop();
}

/// ffmpeg has no VP8 in FLV: our client publishes it, a recording shows it.
#[test]
fn vp8_is_recorded_as_it_was_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let ivf = folder.path().join("vp8.ivf");
    let mut make = Command::new("ffmpeg");
    make.args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=160x96:rate=25", "-t", "4", "-g", "25", "-c:v"]);
    Process::start(make.arg("libvpx").arg(&ivf)).finish(PATIENCE).clean("making VP8");
    let conf = format!(
        "srs_log_tank console; http_server {{ enabled on; }} http_api {{ enabled on; }}
        vhost __defaultVhost__ {{ http_remux {{ enabled on; }} dvr {{ enabled on; dvr_path {}/[stream].mp4; }} }}",
        folder.path().display()
    );
    let server = Server::of_conf(&conf, 2);
    let viewer = Viewer::open(server.ports.http, "live/vp8");
    server.wait_for_clients("live/vp8", 1);
    let mut speaker = Speaker::publish(&server, "live/vp8");
    // Profile 0, 8 bits, 4:2:0.
    let config = Bytes::from_static(&[1, 0, 0, 0, 0, 0, 0x82, 1, 1, 1, 0, 0]);
    speaker.track(vpx::track(Codec::Vp8, config).expect("a configuration"), Timestamp::ZERO);
    // A header of 32 bytes, then | length 32 | time 64 | frame |, little-endian.
    let bytes = fs::read(&ivf).expect("VP8");
    let (mut rest, mut sent) = (&bytes[32..], Vec::new());
    while let Some(([a, b, c, d, ..], after)) = rest.split_first_chunk::<12>() {
        let (frame, after) = after.split_at(u32::from_le_bytes([*a, *b, *c, *d]) as usize);
        let dts = Timestamp::from_ms(sent.len() as i64 * 40);
        let payload = Bytes::copy_from_slice(frame);
        speaker.frame(&Frame { kind: Kind::Video, dts, pts: dts, keyframe: frame[0] & 1 == 0, payload });
        sent.push(frame.to_vec());
        rest = after;
    }
    assert_eq!(sent.len(), 100);
    let told = until("the API tells the track", || {
        server.stream("live/vp8").filter(|told| told["video"]["width"].as_u64() > Some(0))
    });
    assert_eq!((&told["video"]["codec"], &told["video"]["height"]), (&"VP8".into(), &96.into()));
    speaker.finish();
    let mp4 = folder.path().join("vp8.mp4");
    until("there is a recording", || mp4.exists().then_some(()));
    let ffmpeg = Path::new("ffmpeg");
    let source = packets("the source", copy(ffmpeg, &ivf, &[]));
    assert_eq!(packets("the recording", copy(ffmpeg, &mp4, &[])).0[0], source.0[0]);
    decode(ffmpeg, &mp4).finish(PATIENCE).clean("decoding VP8");
    until("the body ends", || viewer.ended().then_some(()));
    // CodedFrames, 1, and the FourCC stand before each frame.
    let (tags, _) = flv::tags(&viewer.flv());
    let coded = tags.iter().filter(|tag| tag.kind == flv::VIDEO && tag.body[0] & 0xf == 1);
    let got: Vec<_> = coded.map(|tag| tag.body.split_at(5)).collect();
    assert!(got.iter().all(|(header, _)| header[1..] == *b"vp08"));
    // For a second sound may still turn up; then the viewer enters at the newest keyframe.
    assert!(got.iter().map(|(_, frame)| *frame).eq(sent[25..].iter().map(Vec::as_slice)), "{} frames", got.len());
    server.stop();
}

/// Within one publication: pictures of H.264, then of HEVC, and the same sound.
#[test]
fn a_codec_may_change_on_air() {
    let Some(ffmpeg) = enhanced_ffmpeg() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let hevc = folder.path().join("hevc.flv");
    let mut make = Command::new(&ffmpeg);
    make.args(["-v", "error", "-i"]).arg(Media::Short.file()).args(["-c:a", "copy", "-c:v", "libx265", "-preset"]);
    make.args(["ultrafast", "-x265-params", "log-level=none"]).arg(&hevc);
    Process::start(&mut make).finish(Duration::from_secs(60)).clean("making HEVC");
    let server = Server::of_conf(
        "srs_log_tank console; http_server { enabled on; } http_api { enabled on; }
        vhost __defaultVhost__ { http_remux { enabled on; } publish { republish_grace 4000; } }",
        2,
    );
    let stream = "live/on-air";
    let viewer = Viewer::open(server.ports.http, stream);
    let sound = ["-map", "0:a", "-t", "7"];
    let mut play = Command::new(&ffmpeg);
    play.args(["-v", "error", "-i", &server.rtmp(stream)]).args(sound).args(["-c", "copy", "-f", "framemd5", "-"]);
    let player = Process::start(&mut play);
    server.wait_for_clients(stream, 2);
    let mut speaker = Speaker::publish(&server, stream);
    speaker.file(&Media::Short.file(), Timestamp::ZERO);
    speaker.file(&hevc, Timestamp::from_ms(4_000));
    let text = String::from_utf8(player.finish(PATIENCE).clean("ffmpeg")).expect("framemd5");
    let sounds = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(sounds > 6 * 46, "{sounds} frames of sound");
    // Its answers are good for a tenth of a second.
    until("the API tells the new codec", || (server.stream(stream)?["video"]["codec"] == "HEVC").then_some(()));
    speaker.finish();
    until("the stream is over", || viewer.ended().then_some(()));
    let (tags, _) = flv::tags(&viewer.flv());
    let seam = tags.iter().position(|tag| tag.kind == flv::VIDEO && tag.body[1..5] == *b"hvc1").expect("HEVC");
    assert_eq!(tags[..seam].iter().filter(|tag| tag.kind == flv::VIDEO && tag.is_frame()).count(), 100);
    let file = folder.path().join("second.flv");
    fs::write(&file, flv::file(&tags[seam..])).expect("write what came");
    let [got, sent] = [&file, &hevc].map(|file| packets("HEVC", copy(&ffmpeg, file, &[])));
    assert_eq!(got.0[0], sent.0[0]);
    decode(&ffmpeg, &file).finish(PATIENCE).clean("decoding HEVC");
    server.stop();
}
