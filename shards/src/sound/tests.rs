//! Sound that is known, through a transcoder and back to samples.

use super::{RATE, Sample, decode::Decoder, encode::Target, line::Line, transcode::Transcoder};
use bytes::Bytes;
use fdk_aac::enc::{self, AudioObjectType, BitRate, ChannelMode, EncoderParams, Transport};
use shardcast_engine::{
    codec::Codec,
    fanout::Unit,
    frame::{Frame, Media},
    key::{DEFAULT_VHOST, StreamKey},
    prologue::Prologue,
    time::Timestamp,
    track::Track,
};
use shardcast_protocols::{
    codec::{aac, mp3},
    flv::{FlvReader, TagKind, TagReader},
    rtp,
};
use std::{
    collections::VecDeque,
    f64::consts::TAU,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

const OPUS: Target = Target::Opus { bitrate: 64_000 };
const AAC: Target = Target::Aac { bitrate: 128_000 };
/// How far sound may move: 5 ms in ticks of 48 kHz.
const IN_TIME: i64 = 5 * 48;

/// Frames of one track with their times.
struct Source {
    track: Track,
    frames: Vec<(Timestamp, Bytes)>,
}

/// A tone of 440 Hz in the first quarter of each second but the first.
fn beeps(seconds: f64) -> f64 {
    if seconds >= 1.0 && seconds.fract() < 0.25 { 0.5 * (TAU * 440.0 * seconds).sin() } else { 0.0 }
}

const BEEPS: &str = "aevalsrc=gte(t\\,1)*lt(mod(t\\,1)\\,0.25)*0.5*sin(2*PI*440*t)";

/// `seconds` of [`beeps`] from time `start` on, `channels` alike, at `rate`.
fn samples(rate: u32, channels: usize, start: f64, seconds: f64) -> Vec<i16> {
    let one = |n: u32| (beeps(start + f64::from(n) / f64::from(rate)) * 32_767.0) as i16;
    (0..(seconds * f64::from(rate)) as u32).flat_map(|n| vec![one(n); channels]).collect()
}

/// Beeps by fdk-aac, the encoder's delay taken off their times.
fn aac_source(kind: AudioObjectType, rate: u32, channels: usize, start: f64, seconds: f64) -> Source {
    let encoder = enc::Encoder::new(EncoderParams {
        bit_rate: BitRate::Cbr(64_000),
        sample_rate: rate,
        transport: Transport::Raw,
        channels: if channels == 1 { ChannelMode::Mono } else { ChannelMode::Stereo },
        audio_object_type: kind,
    })
    .unwrap();
    let info = encoder.info().unwrap();
    let (len, delay) = (info.frameLength as usize, i64::from(info.nDelay));
    let track = aac::track(Bytes::copy_from_slice(&info.confBuf[..info.confSize as usize])).unwrap();
    let mut frames = Vec::new();
    for piece in samples(rate, channels, start, seconds).chunks_exact(len * channels) {
        let mut coded = vec![0; 8_192];
        let size = encoder.encode(piece, &mut coded).unwrap().output_size;
        coded.truncate(size);
        if size > 0 {
            let at = Timestamp::from_ticks(frames.len() as i64 * len as i64 - delay, rate);
            frames.push((at + Timestamp::from_ms((start * 1_000.0) as i64), coded.into()));
        }
    }
    Source { track, frames }
}

/// Beeps by libopus in packets of `len` samples of 48 kHz, the encoder's delay taken off their times.
fn opus_source(channels: usize, len: usize, seconds: f64) -> Source {
    let shape = if channels == 1 { opus::Channels::Mono } else { opus::Channels::Stereo };
    let mut encoder = opus::Encoder::new(RATE, shape, opus::Application::Audio).unwrap();
    encoder.set_inband_fec(true).unwrap();
    encoder.set_packet_loss_perc(10).unwrap();
    let delay = i64::from(encoder.get_lookahead().unwrap());
    let samples = samples(RATE, channels, 0.0, seconds);
    let frames = samples.chunks_exact(len * channels).zip(0..).map(|(piece, n)| {
        let at = Timestamp::from_ticks(n * len as i64 - delay, RATE);
        (at, encoder.encode_vec(piece, 4_000).unwrap().into())
    });
    Source { frames: frames.collect(), track: rtp::opus::track(channels as u8) }
}

/// What ffmpeg makes of beeps with `arguments`, as FLV carries it.
fn ffmpeg_source(arguments: &[&str]) -> Source {
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-t", "6", "-i", &format!("{BEEPS}:s=48000")])
        .args(arguments)
        .args(["-f", "flv", "-"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (mut flv, mut tags, mut media) = (FlvReader::new(1 << 20), TagReader::default(), VecDeque::new());
    flv.push(&made.stdout);
    while let Some(tag) = flv.next().unwrap() {
        if tag.kind == TagKind::Audio {
            tags.audio(Timestamp::from_ms(tag.timestamp_ms.into()), tag.body, &mut media).unwrap();
        }
    }
    let mut source: Option<Source> = None;
    for media in media {
        match (media, &mut source) {
            (Media::Track(track), _) => source = Some(Source { track, frames: Vec::new() }),
            (Media::Frame(frame), Some(source)) => source.frames.push((frame.dts, frame.payload)),
            _ => {}
        }
    }
    source.unwrap()
}

fn unit(track: &Track, at: Timestamp, payload: Bytes) -> Unit {
    let frame = Frame { kind: track.kind(), dts: at, pts: at, keyframe: false, payload };
    Unit { seq: 0, prologue: Arc::new(Prologue::default().with_track(track.clone()).unwrap()), frame }
}

fn transcoded<'a>(sources: impl IntoIterator<Item = &'a Source>, target: Target) -> Vec<Frame> {
    let mut transcoder = Transcoder::new(target).unwrap();
    let mut out = Vec::new();
    for source in sources {
        for (at, payload) in &source.frames {
            transcoder.push(&unit(&source.track, *at, payload.clone()), &mut out).unwrap();
        }
    }
    out
}

/// What a player hears at each tick of 48 kHz.
fn heard(frames: &[Frame], target: Target) -> Vec<f32> {
    let track = target.track().unwrap_or(rtp::opus::track(2));
    let mut decoder = Decoder::new(&track).unwrap();
    let mut heard = Vec::new();
    for frame in frames {
        let (mut samples, at): (Vec<Sample>, _) = (Vec::new(), frame.dts.as_ticks(RATE));
        let decoded = decoder.decode(at, &frame.payload, &mut samples).unwrap();
        assert_eq!(decoded.rate, RATE);
        for (n, [left, right]) in samples.into_iter().enumerate() {
            let Ok(tick) = usize::try_from(at - decoded.lead as i64 + n as i64) else { continue };
            heard.resize(heard.len().max(tick + 1), 0.0);
            assert!((left - right).abs() < 0.05, "stereo of what was the same left and right");
            heard[tick] = left;
        }
    }
    heard
}

/// The ticks at which a beep begins: sound after a tenth of a second without.
fn onsets(heard: &[f32]) -> Vec<i64> {
    let mut quiet = 0;
    let begins = |value: &f32| {
        let loud = value.abs() > 0.12;
        let begins = loud && quiet > 4_800;
        quiet = if loud { 0 } else { quiet + 1 };
        begins
    };
    let mut begins = begins;
    heard.iter().enumerate().filter_map(|(tick, value)| begins(value).then_some(tick as i64)).collect()
}

/// Share of the energy of `heard` that lies at `hz`.
fn share(heard: &[f32], hz: f64) -> f64 {
    let (mut real, mut imaginary, mut total) = (0.0, 0.0, 0.0);
    for (n, value) in heard.iter().map(|value| f64::from(*value)).enumerate() {
        let angle = TAU * hz * n as f64 / f64::from(RATE);
        real += value * angle.cos();
        imaginary += value * angle.sin();
        total += value * value;
    }
    2.0 * (real * real + imaginary * imaginary) / total / heard.len() as f64
}

/// Each second but the first has its beep, in time and in tune, and frames follow each other without a gap.
#[track_caller]
fn assert_beeps(frames: &[Frame], target: Target, shift: i64, seconds: i64) {
    let heard = heard(frames, target);
    let onsets = onsets(&heard);
    let expected: Vec<_> = (1..seconds).map(|second| second * 48_000 + shift).collect();
    assert_eq!(onsets.len(), expected.len(), "{onsets:?}");
    let off: Vec<_> = onsets.iter().zip(&expected).map(|(onset, expected)| onset - expected).collect();
    assert!(off.iter().all(|off| off.abs() < IN_TIME), "{off:?}");
    for onset in onsets {
        let beep = &heard[onset as usize + 960..][..9_600];
        assert!(share(beep, 440.0) > 0.95, "{} at {onset}", share(beep, 440.0));
    }
    let len = if target == OPUS { 960 } else { 1_024 };
    let gaps = frames.windows(2).skip(1).map(|pair| (pair[1].dts - pair[0].dts).as_ticks(RATE));
    assert!(gaps.into_iter().all(|gap| gap == len));
}

#[test]
fn who_joins_as_a_beep_begins_hears_it_no_louder() {
    let source = ffmpeg_source(&["-c:a", "aac", "-b:a", "96k"]);
    let loudest = |frames: &[Frame]| heard(frames, OPUS).iter().fold(0.0_f32, |top, value| top.max(value.abs()));
    // Where the coder begins decides what it leans on.
    for start in 0..30 {
        let frames = source.frames[start..][..80].iter();
        let frames = frames.map(|(at, payload)| (*at, payload.clone())).collect();
        let made = transcoded(&[Source { track: source.track.clone(), frames }], OPUS);
        for join in 0..made.len() - 10 {
            let loudest = loudest(&made[join..]);
            assert!(loudest < 0.8, "from {start}, joined at {join}: {loudest}");
        }
    }
}

#[test]
fn aac_of_any_rate_becomes_opus_in_time() {
    for (rate, channels) in [(48_000, 2), (44_100, 2), (32_000, 1), (22_050, 1), (16_000, 2), (8_000, 1)] {
        let source = aac_source(AudioObjectType::Mpeg4LowComplexity, rate, channels, 0.0, 5.9);
        assert_beeps(&transcoded([&source], OPUS), OPUS, 0, 6);
    }
}

#[test]
fn he_aac_becomes_opus_in_time() {
    let source = aac_source(AudioObjectType::Mpeg4HeAac, 44_100, 2, 0.0, 5.5);
    assert_beeps(&transcoded([&source], OPUS), OPUS, 0, 6);
}

#[test]
fn aac_of_more_channels_and_mp3_become_opus_in_time() {
    // Before the first sample that went in, ffmpeg's encoders make so many of their own, and FLV starts with them.
    for (arguments, run_up, rate) in [
        (&["-c:a", "aac", "-ac", "6", "-b:a", "256k"][..], 1_024, 48_000),
        (&["-c:a", "aac", "-ar", "44100"], 1_024, 44_100),
        (&["-c:a", "libmp3lame", "-ar", "44100", "-ac", "2"], 1_105, 44_100),
        (&["-c:a", "libmp3lame", "-ar", "22050", "-ac", "1"], 1_105, 22_050),
    ] {
        let source = ffmpeg_source(arguments);
        assert_beeps(&transcoded([&source], OPUS), OPUS, run_up * 48_000 / rate, 6);
    }
}

#[test]
fn opus_of_any_length_becomes_aac_in_time() {
    for (channels, len) in [(2, 960), (1, 960), (2, 120), (1, 480), (2, 2_880)] {
        let source = opus_source(channels, len, 5.5);
        assert_beeps(&transcoded([&source], AAC), AAC, 0, 6);
    }
}

#[test]
fn a_minute_of_rtmp_times_does_not_drift() {
    let mut source = aac_source(AudioObjectType::Mpeg4LowComplexity, 44_100, 2, 0.0, 60.5);
    for (at, _) in &mut source.frames {
        *at = Timestamp::from_ms(at.as_ms());
    }
    assert_beeps(&transcoded([&source], OPUS), OPUS, 0, 61);
}

#[test]
fn what_is_missing_is_silence_and_the_rest_stays_in_time() {
    for (mut source, target) in
        [(aac_source(AudioObjectType::Mpeg4LowComplexity, 44_100, 2, 0.0, 5.5), OPUS), (opus_source(2, 960, 5.5), AAC)]
    {
        // 300 ms of silence.
        let gap = Timestamp::from_ms(2_400)..Timestamp::from_ms(2_700);
        source.frames.retain(|(at, _)| !gap.contains(at));
        assert_beeps(&transcoded([&source], target), target, 0, 6);
    }
}

#[test]
fn after_a_long_gap_the_times_are_those_of_the_source() {
    let mut source = opus_source(2, 960, 8.5);
    source.frames.retain(|(at, _)| !(Timestamp::from_ms(2_400)..Timestamp::from_ms(5_600)).contains(at));
    let heard = heard(&transcoded([&source], AAC), AAC);
    let off: Vec<_> =
        onsets(&heard).into_iter().zip([1, 2, 6, 7, 8]).map(|(onset, second)| onset - second * 48_000).collect();
    assert!(off.len() == 5 && off.iter().all(|off| off.abs() < IN_TIME), "{off:?}");
}

#[test]
fn a_lost_packet_is_concealed() {
    let mut source = opus_source(2, 960, 2.5);
    // In the middle of a beep.
    let at = source.frames.iter().position(|(at, _)| *at > Timestamp::from_ms(1_100)).unwrap();
    source.frames.remove(at);
    let heard = heard(&transcoded([&source], AAC), AAC);
    let beep = &heard[48_000 + 960..][..9_600];
    assert!(share(beep, 440.0) > 0.9, "{}", share(beep, 440.0));
    assert_eq!(onsets(&heard).len(), 2);
}

#[test]
fn another_rate_in_the_middle_changes_nothing() {
    let lc = AudioObjectType::Mpeg4LowComplexity;
    let mut first = aac_source(lc, 44_100, 2, 0.0, 2.6);
    first.frames.retain(|(at, _)| *at < Timestamp::from_ms(2_500));
    let mut second = aac_source(lc, 24_000, 1, 2.0, 3.5);
    second.frames.retain(|(at, _)| *at >= Timestamp::from_ms(2_500));
    assert_beeps(&transcoded([&first, &second], OPUS), OPUS, 0, 6);
}

const ROUNDS: i64 = 20;

#[test]
fn garbage_neither_panics_nor_stops_what_follows() {
    let mut state = 1u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let sources = [
        (aac_source(AudioObjectType::Mpeg4LowComplexity, 44_100, 2, 0.0, 3.0), OPUS),
        (aac_source(AudioObjectType::Mpeg4HeAac, 44_100, 2, 0.0, 3.0), OPUS),
        (ffmpeg_source(&["-c:a", "aac", "-ac", "6"]), OPUS),
        (ffmpeg_source(&["-c:a", "libmp3lame", "-ar", "44100"]), OPUS),
        (opus_source(2, 960, 3.0), AAC),
    ];
    for (source, target) in sources {
        let mut transcoder = Transcoder::new(target).unwrap();
        let mut out = Vec::new();
        let end = source.frames.last().unwrap().0;
        for round in 0..ROUNDS {
            // Some of other configurations, which are as little to be trusted.
            let mut track = source.track.clone();
            if round % 2 == 1 && track.codec == Codec::Aac {
                let mut config = track.config.to_vec();
                let at = random(config.len());
                config[at] ^= 1 << random(8);
                track.config = config.into();
            }
            for (at, payload) in &source.frames {
                let mut payload = payload.to_vec();
                match random(4) {
                    0 => payload.truncate(random(payload.len())),
                    1 => payload = (0..random(10_000)).map(|_| random(256) as u8).collect(),
                    _ => (0..=random(9)).for_each(|_| {
                        let at = random(payload.len());
                        payload[at] = random(256) as u8;
                    }),
                }
                let at = *at + Timestamp::from_ms(end.as_ms() * round);
                let _ = transcoder.push(&unit(&track, at, payload.into()), &mut out);
            }
        }
        out.clear();
        for (at, payload) in &source.frames {
            let at = *at + Timestamp::from_ms(end.as_ms() * ROUNDS);
            transcoder.push(&unit(&source.track, at, payload.clone()), &mut out).unwrap();
        }
        assert!(out.len() as i64 > end.as_ms() / 25, "{}", out.len());
    }
}

fn key(name: &str) -> StreamKey {
    StreamKey::new(DEFAULT_VHOST, "live", name)
}

/// Waits for the pool.
fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
}

#[test]
fn lines_give_what_a_transcoder_gives() {
    let source = opus_source(2, 960, 3.0);
    let expected = transcoded([&source], AAC);
    let mut lines: Vec<_> = (0..8).map(|n| (Line::new(key(&n.to_string()), AAC), Vec::new())).collect();
    for (line, got) in &mut lines {
        for (at, payload) in &source.frames {
            line.feed(&Arc::new(unit(&source.track, *at, payload.clone())));
        }
        until(|| {
            got.extend(line.collect());
            got.len() >= expected.len()
        });
        assert_eq!(*got, expected);
        assert!(!line.has_ended());
    }
}

#[test]
fn a_line_with_nothing_but_garbage_ends_and_others_go_on() {
    let track = rtp::opus::track(2);
    let mut line = Line::new(key("bad"), AAC);
    until(|| {
        // A code 3 packet without its count (RFC 6716 §3.2.5).
        line.feed(&Arc::new(unit(&track, Timestamp::ZERO, Bytes::from_static(&[0xff]))));
        line.has_ended()
    });
    assert!(line.collect().is_empty());
    lines_give_what_a_transcoder_gives();
}

#[test]
fn queues_of_a_line_are_bounded() {
    let track = mp3::track(&[0xff, 0xfb, 0x90, 0x64]).unwrap();
    assert_eq!(track.codec, Codec::Mp3);
    let source = opus_source(2, 120, 30.0);
    let mut line = Line::new(key("fast"), AAC);
    // Twelve thousand packets at once, and nobody collects.
    for (at, payload) in &source.frames {
        line.feed(&Arc::new(unit(&source.track, *at, payload.clone())));
        assert!(line.waiting() <= (256, 256), "{:?}", line.waiting());
    }
    assert!(line.dropped() > 0);
}
