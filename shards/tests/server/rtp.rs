//! RTP and sender reports as ffmpeg writes them, received.

use crate::support::{PATIENCE, process::Process};
use bytes::Bytes;
use shardcast_engine::{
    codec::Kind,
    frame::{Frame, Media},
    time::Timestamp,
};
use shardcast_protocols::rtp::{Packet, Receiver, h264, opus};
use std::{collections::HashMap, net::UdpSocket, process::Command, time::Instant};

const PICTURES: usize = 100;
const SOUNDS: usize = 200;

/// A sender report (RFC 3550 §6.4.1): SSRC, RTP timestamp, and its NTP time.
fn report(datagram: &[u8]) -> Option<(u32, u32, Timestamp)> {
    const SENDER_REPORT: u8 = 200;
    if datagram.get(1) != Some(&SENDER_REPORT) {
        return None;
    }
    let word = |at: usize| u32::from_be_bytes(datagram[at * 4..at * 4 + 4].try_into().unwrap());
    let micros = i64::from(word(2)) * 1_000_000 + ((i64::from(word(3)) * 1_000_000) >> 32);
    Some((word(1), word(4), Timestamp::from_ticks(micros, 1_000_000)))
}

struct Track {
    receiver: Receiver,
    hz: u32,
    /// NTP time less that of the RTP timestamp, by the last report.
    ntp: Timestamp,
    timestamp: u32,
    frames: Vec<Frame>,
}

impl Track {
    fn new(receiver: Receiver, hz: u32) -> Self {
        Self { receiver, hz, ntp: Timestamp::ZERO, timestamp: 0, frames: Vec::new() }
    }

    fn report(&mut self, (_, timestamp, ntp): (u32, u32, Timestamp)) {
        self.receiver.report(timestamp, ntp);
        self.ntp = ntp - Timestamp::from_ticks(timestamp.into(), self.hz);
    }

    fn poll(&mut self) {
        let media = std::iter::from_fn(|| self.receiver.poll());
        self.frames.extend(media.filter_map(|media| if let Media::Frame(frame) = media { Some(frame) } else { None }));
    }

    /// NTP time of the last frame less the time it was given.
    fn off(&self) -> Timestamp {
        self.ntp + Timestamp::from_ticks(self.timestamp.into(), self.hz) - self.frames.last().unwrap().pts
    }
}

/// Pictures and sound of four seconds. The encoder holds pictures back for some 300 ms, sound for none.
fn receive(b_pictures: &str) -> (Track, Track) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let url = format!("rtp://127.0.0.1:{port}?rtcpport={port}&pkt_size=1200");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25"]);
    command.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-map", "0:v", "-t", "4"]);
    command.args(["-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-g", "25"]);
    command.args(["-bf", b_pictures, "-x264-params", "rc-lookahead=6:sync-lookahead=0:b-adapt=0", "-f", "rtp", &url]);
    command.args(["-map", "1:a", "-t", "4", "-c:a", "libopus", "-f", "rtp", &url]);
    let ffmpeg = Process::start(&mut command);

    let start = Instant::now();
    let mut pictures = Track::new(Receiver::h264(start), h264::HZ);
    let mut sound = Track::new(Receiver::opus(start, 1), opus::HZ);
    let (mut ssrcs, mut reports) = (HashMap::new(), HashMap::new());
    let mut buffer = [0; 2000];
    while pictures.frames.len() < PICTURES || sound.frames.len() < SOUNDS {
        let len = socket.recv(&mut buffer).unwrap_or_else(|error| {
            panic!("{} pictures, {} of sound, then {error}", pictures.frames.len(), sound.frames.len())
        });
        let now = Instant::now();
        let datagram = &buffer[..len];
        if let Some(report) = report(datagram) {
            reports.insert(report.0, report);
        } else if (72..=76).contains(&(datagram[1] & 0x7f)) {
            // Other RTCP.
        } else {
            let packet = Packet::parse(&Bytes::copy_from_slice(datagram)).unwrap();
            // As ffmpeg numbers formats that are not assigned.
            let track = match packet.header.payload_type {
                96 => (Kind::Video, &mut pictures),
                97 => (Kind::Audio, &mut sound),
                other => panic!("payload type {other}"),
            };
            ssrcs.insert(packet.header.ssrc, track.0);
            track.1.timestamp = packet.header.timestamp;
            track.1.receiver.input(now, packet);
        }
        for (ssrc, kind) in &ssrcs {
            if let Some(report) = reports.remove(ssrc) {
                if *kind == Kind::Video {
                    pictures.report(report)
                } else {
                    sound.report(report)
                }
                pictures.receiver.follow(&sound.receiver);
            }
        }
        pictures.poll();
        sound.poll();
    }
    ffmpeg.finish(PATIENCE).clean("ffmpeg");
    (pictures, sound)
}

fn check(b_pictures: &str, reordered: bool) {
    let (pictures, sound) = receive(b_pictures);
    for (track, count) in [(&pictures, PICTURES), (&sound, SOUNDS)] {
        let stats = track.receiver.stats();
        assert_eq!((stats.lost, stats.late, stats.wrong, stats.dropped), (0, 0, 0, 0));
        assert!(track.frames.len() >= count);
        assert!(track.frames.is_sorted_by(|a, b| a.dts < b.dts));
        assert!(track.frames.iter().all(|frame| frame.dts <= frame.pts));
    }
    assert_eq!(pictures.frames.iter().any(|frame| frame.dts != frame.pts), reordered);
    // In the order in which they are shown, they are 40 ms apart, but for what the correction takes.
    let mut shown: Vec<_> = pictures.frames.iter().map(|frame| frame.pts.as_ms()).collect();
    shown.sort_unstable();
    assert!(shown.is_sorted_by(|a, b| (34..=41).contains(&(b - a))), "{shown:?}");
    assert_eq!(pictures.frames.iter().filter(|frame| frame.keyframe).count(), PICTURES / 25);
    // What the reports say of the distance of both tracks is what they have in the end.
    let off = (pictures.off() - sound.off()).as_ms();
    assert!((-1..=1).contains(&off), "{off} ms");
    // That is a long way from where arrival had put them.
    let corrected = shown[PICTURES - 1] - shown[0] - 99 * 40;
    assert!(corrected < -150, "{corrected} ms");
}

#[test]
fn pictures_in_their_turn_are_received_with_their_sound() {
    check("0", false);
}

#[test]
fn pictures_out_of_their_turn_are_received_with_their_sound() {
    check("2", true);
}
