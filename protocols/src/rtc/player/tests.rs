//! str0m as a viewing client, on virtual time, through ICE, DTLS and SRTP.

use super::*;
use crate::codec::hostile::mutations;
use std::{sync::Arc, time::SystemTime};
use str0m::{
    Candidate, RtcConfig,
    change::SdpAnswer,
    media::{Direction, KeyframeRequestKind, MediaKind},
    net::{Protocol, Receive},
    rtp::{RawPacket, Ssrc, rtcp::Rtcp},
};

const HERE: &str = "10.0.0.1:8000";
const THERE: &str = "10.0.0.2:9000";
const STEP: Duration = Duration::from_millis(5);
/// Where the stream's time stands at the first step, s: 90 kHz times wrap 2 s later.
const BASE: u64 = 47_719;

type Loss = Box<dyn FnMut(&[u8]) -> bool>;

struct Stage {
    now: Instant,
    start: Instant,
    client: Rtc,
    player: Player,
    /// Whether a datagram of the player's does not arrive.
    lose: Loss,
    /// Of the client's datagrams.
    heard: Vec<Vec<u8>>,
    pictures: Vec<(u64, u32, bool, Vec<u8>)>,
    sounds: Vec<(u64, u32, bool, Vec<u8>)>,
    /// SSRC, wall clock, media time.
    reports: Vec<(Ssrc, SystemTime, u32)>,
    video_ssrc: Option<Ssrc>,
    connected: bool,
    wanted: usize,
    closed: usize,
    client_closed: bool,
}

impl Stage {
    fn new() -> Self {
        let start = Instant::now();
        let provider = Arc::new(str0m::crypto::from_feature_flags());
        let config = RtcConfig::new().set_crypto_provider(provider).set_rtp_mode(true).enable_raw_packets(true);
        let mut client = config.build(start);
        client.add_local_candidate(Candidate::host(THERE.parse().unwrap(), "udp").unwrap());
        let mut api = client.sdp_api();
        api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        let (offer, pending) = api.apply().unwrap();
        let settings = Settings { candidates: vec![("10.0.0.1".into(), 8000)], ice: None };
        let (mut player, answer) = Player::answer(start, &offer.to_sdp_string(), &settings).unwrap();
        assert!(answer.contains(&format!("a=ice-ufrag:{}", player.ufrag())));
        assert!(player.video.is_some() && player.audio.is_some());
        client.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&answer).unwrap()).unwrap();
        Self {
            now: start,
            start,
            client,
            player,
            lose: Box::new(|_| false),
            heard: Vec::new(),
            pictures: Vec::new(),
            sounds: Vec::new(),
            reports: Vec::new(),
            video_ssrc: None,
            connected: false,
            wanted: 0,
            closed: 0,
            client_closed: false,
        }
    }

    fn connected() -> Self {
        let mut stage = Self::new();
        stage.until(|stage| stage.connected);
        stage
    }

    fn until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..4000 {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("it did not come within 20 s");
    }

    /// Lets 5 ms pass.
    fn step(&mut self) {
        self.now += STEP;
        self.client.handle_input(Input::Timeout(self.now)).unwrap();
        self.listen();
        if self.player.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.player.expire(self.now).unwrap();
        }
        self.carry();
    }

    /// What the client has to say.
    fn listen(&mut self) {
        loop {
            match self.client.poll_output().unwrap() {
                str0m::Output::Timeout(_) => break,
                str0m::Output::Transmit(send) => {
                    assert_eq!(send.destination, HERE.parse().unwrap());
                    self.player.input(self.now, THERE.parse().unwrap(), &send.contents).unwrap();
                    self.heard.push(send.contents.to_vec());
                }
                str0m::Output::Event(event) => self.event(event),
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::RtpPacket(packet) => {
                let video = self.client.direct_api().stream_rx(&packet.header.ssrc).unwrap().mid();
                let video = self.client.media(video).unwrap().kind() == MediaKind::Video;
                let header = &packet.header;
                let kept = (*packet.seq_no, header.timestamp, header.marker, packet.payload.to_vec());
                if video {
                    self.video_ssrc = Some(header.ssrc);
                }
                if video { &mut self.pictures } else { &mut self.sounds }.push(kept);
            }
            Event::RawPacket(packet) => {
                if let RawPacket::RtcpRx(Rtcp::SenderReport(report)) = *packet {
                    let info = report.sender_info;
                    self.reports.push((info.ssrc, info.ntp_time, info.rtp_time.numer() as u32));
                }
            }
            Event::Closed => self.client_closed = true,
            _ => {}
        }
    }

    /// Gives the player's output to the client.
    fn carry(&mut self) {
        while let Some(output) = self.player.poll() {
            match output {
                Output::Send { to, bytes } => {
                    assert_eq!(to, THERE.parse().unwrap());
                    if (self.lose)(&bytes) {
                        continue;
                    }
                    let receive = Receive::new(Protocol::Udp, HERE.parse().unwrap(), to, &bytes).unwrap();
                    self.client.handle_input(Input::Receive(self.now, receive)).unwrap();
                    self.listen();
                }
                Output::Connected => self.connected = true,
                Output::KeyframeWanted => self.wanted += 1,
                Output::Closed => self.closed += 1,
                Output::Media(_) => panic!("media of a player"),
            }
        }
    }

    /// Time of the stream, ms since `BASE`.
    fn elapsed(&self) -> u64 {
        (self.now - self.start).as_millis() as u64
    }

    /// A picture of 3 payloads, of the stream's time `ms`.
    fn picture(&mut self, ms: u64) {
        let payloads = [0, 1, 2].map(|part| Bytes::from(vec![part + 1, ms as u8, (ms >> 8) as u8, 7]));
        self.player.video(self.now, time(ms, 90), &payloads);
    }

    fn sound(&mut self, ms: u64) {
        self.player.audio(self.now, time(ms, 48), &Bytes::from(vec![0xfc, ms as u8, (ms >> 8) as u8]));
    }

    /// Pictures each 40 ms and sound each 20 ms, for `ms`.
    fn play(&mut self, ms: u64) {
        for _ in 0..ms / 5 {
            self.step();
            let at = self.elapsed();
            if at.is_multiple_of(40) {
                self.picture(at);
            }
            if at.is_multiple_of(20) {
                self.sound(at);
            }
            self.player.drive(self.now).unwrap();
            self.carry();
        }
    }
}

fn time(ms: u64, per_ms: u64) -> u32 {
    ((BASE * 1000 + ms) * per_ms) as u32
}

/// That nothing is missing between first and last, each once.
fn assert_whole(packets: &[(u64, u32, bool, Vec<u8>)]) {
    let mut numbers: Vec<_> = packets.iter().map(|(number, ..)| *number).collect();
    numbers.sort_unstable();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
}

#[test]
fn pictures_and_sound_arrive_in_order() {
    let mut stage = Stage::connected();
    stage.play(2000);
    stage.step();
    assert_eq!((stage.pictures.len(), stage.sounds.len()), (3 * 50, 100));
    assert!(stage.pictures.is_sorted() && stage.sounds.is_sorted());
    assert_whole(&stage.pictures);
    assert_whole(&stage.sounds);
    for (n, (_, at, marker, payload)) in stage.pictures.iter().enumerate() {
        assert_eq!((*marker, payload[0]), (n % 3 == 2, n as u8 % 3 + 1));
        let ms = u64::from(u16::from_le_bytes([payload[1], payload[2]]));
        assert_eq!(*at, time(ms, 90));
    }
    assert_eq!((stage.wanted, stage.closed), (0, 0));
}

#[test]
fn nothing_is_kept_for_a_peer_that_is_not_connected() {
    let mut stage = Stage::new();
    for ms in 0..100 {
        stage.picture(ms);
        stage.sound(ms);
    }
    stage.until(|stage| stage.connected);
    stage.play(100);
    assert!(stage.pictures.len() <= 3 * 3 && !stage.pictures.is_empty());
}

#[test]
fn payloads_that_fit_no_packet_are_dropped() {
    let mut stage = Stage::connected();
    for len in [1400, 1401, 70_000] {
        stage.player.audio(stage.now, 0, &vec![7; len].into());
        stage.player.drive(stage.now).unwrap();
        stage.carry();
    }
    stage.step();
    assert_eq!(stage.sounds.iter().map(|(.., payload)| payload.len()).collect::<Vec<_>>(), [1400]);
}

#[test]
fn what_is_lost_is_sent_again() {
    let mut stage = Stage::connected();
    let mut n = 0;
    stage.lose = Box::new(move |_| {
        n += 1;
        n % 10 == 0
    });
    stage.play(4000);
    stage.lose = Box::new(|_| false);
    stage.play(1000);
    assert_whole(&stage.pictures);
    assert_eq!(stage.pictures.len(), 3 * 125);
    assert!(!stage.pictures.is_sorted());
}

#[test]
fn reports_keep_late_sound_in_step_with_pictures() {
    let mut stage = Stage::connected();
    // A second of pictures at once, as a player that joins gets them, then sound that is 200 ms behind.
    for ms in (0..stage.elapsed() / 40 * 40).step_by(40) {
        stage.picture(ms);
    }
    for _ in 0..1000 {
        stage.step();
        let at = stage.elapsed();
        if at.is_multiple_of(40) {
            stage.picture(at);
        }
        if at.is_multiple_of(20) && at >= 200 {
            stage.sound(at - 200);
        }
        stage.player.drive(stage.now).unwrap();
        stage.carry();
    }
    let (mut kinds, mut zeros) = ([0, 0], Vec::new());
    for (ssrc, wallclock, media) in &stage.reports {
        let video = Some(*ssrc) == stage.video_ssrc;
        kinds[usize::from(video)] += 1;
        let per_ms = if video { 90 } else { 48 };
        let ms = f64::from(media.wrapping_sub(time(0, per_ms)) as i32) / per_ms as f64;
        let wallclock = wallclock.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64() * 1000.0;
        zeros.push(wallclock - ms);
    }
    assert!(kinds[0] >= 4 && kinds[1] >= 4, "{kinds:?}");
    let spread = zeros.iter().copied().fold(f64::MIN, f64::max) - zeros.iter().copied().fold(f64::MAX, f64::min);
    assert!(spread < 2.0, "{zeros:?}");
}

#[test]
fn a_picture_loss_is_passed_on() {
    let mut stage = Stage::connected();
    stage.play(100);
    let ssrc = stage.video_ssrc.unwrap();
    for wanted in 0..2 {
        assert_eq!(stage.wanted, wanted);
        stage.client.direct_api().stream_rx(&ssrc).unwrap().request_keyframe(KeyframeRequestKind::Pli);
        stage.play(1000);
    }
    assert_eq!(stage.wanted, 2);
}

#[test]
fn a_lost_first_flight_costs_less_than_half_a_second() {
    let mut stage = Stage::new();
    stage.until(|stage| stage.connected);
    let plain = stage.now - stage.start;
    let mut stage = Stage::new();
    let mut lost = 0;
    stage.lose = Box::new(move |bytes| {
        // The first datagram of the handshake: ServerHello and what follows.
        let lose = bytes[0] == 22 && lost == 0;
        lost += usize::from(lose);
        lose
    });
    stage.until(|stage| stage.connected);
    let took = stage.now - stage.start;
    assert!(took > plain && took < plain + Duration::from_millis(500), "{plain:?} {took:?}");
}

#[test]
fn both_sides_say_goodbye() {
    let mut stage = Stage::connected();
    stage.play(100);
    stage.player.close(stage.now);
    stage.carry();
    stage.step();
    assert!(stage.client_closed);
    assert_eq!(stage.closed, 0);

    let mut stage = Stage::connected();
    stage.play(100);
    stage.client.close().unwrap();
    stage.step();
    assert_eq!(stage.closed, 1);
    // And what is written then goes nowhere.
    stage.play(100);
    assert_eq!(stage.closed, 1);
}

#[test]
fn a_peer_may_be_silent_for_an_hour() {
    let mut stage = Stage::connected();
    stage.play(100);
    let back = stage.now + Duration::from_secs(3600);
    while stage.player.deadline().is_some_and(|deadline| deadline < back) {
        stage.now = stage.now.max(stage.player.deadline().unwrap());
        stage.player.expire(stage.now).unwrap();
        while let Some(output) = stage.player.poll() {
            assert!(matches!(output, Output::Send { .. }), "{output:?}");
        }
    }
    stage.now = back;
    let before = stage.pictures.len();
    stage.play(1000);
    assert!(stage.pictures.len() > before);
}

#[test]
fn only_a_request_made_for_this_session_is_accepted() {
    let stage = Stage::connected();
    let mut other = Stage::connected();
    let strange = "192.0.2.1:1234".parse().unwrap();
    let request = stage.heard.iter().find(|bytes| bytes.starts_with(&[0, 1])).unwrap();
    for source in [THERE.parse().unwrap(), strange] {
        assert!(stage.player.accepts(stage.now, source, request));
        assert!(!other.player.accepts(stage.now, source, request));
        for bytes in stage.heard.iter().filter(|bytes| !bytes.starts_with(&[0, 1])) {
            assert!(!stage.player.accepts(stage.now, source, bytes));
        }
        for at in 0..request.len() - 8 {
            // All that integrity covers, which is all but the fingerprint.
            let mut forged = request.clone();
            forged[at] ^= 1;
            assert!(!stage.player.accepts(stage.now, source, &forged), "byte {at}");
        }
    }
    // A peer whose port changes goes on there.
    other.play(100);
    let before = other.pictures.len();
    let again = other.heard.iter().rfind(|bytes| bytes.starts_with(&[0, 1])).unwrap().clone();
    assert!(other.player.accepts(other.now, strange, &again));
    other.player.input(other.now, strange, &again).unwrap();
    assert!(matches!(other.player.poll(), Some(Output::Send { to, .. }) if to == strange));
    other.play(100);
    assert!(other.pictures.len() > before);
}

#[test]
fn hostile_datagrams_end_nothing() {
    let mut stage = Stage::connected();
    stage.play(1000);
    let mut golden: Vec<Vec<u8>> = Vec::new();
    // All of the handshake, and one each of STUN and RTCP.
    for bytes in &stage.heard {
        if bytes[0] == 22 || !golden.iter().any(|other| other[..2] == bytes[..2]) {
            golden.push(bytes.clone());
        }
    }
    assert!(golden.iter().any(|bytes| bytes[0] == 0) && golden.iter().any(|bytes| bytes[0] == 22));
    assert!(golden.iter().any(|bytes| bytes[0] & 0xc0 == 0x80));
    golden.push([&[0x90, 111, 0, 1, 0, 0, 0, 9, 0, 0, 0, 5, 0xbe, 0xde, 0, 1, 0x10, 1, 2, 3][..], &[7; 60]].concat());
    for golden in golden {
        mutations(&golden, 2000, |bytes| {
            stage.player.input(stage.now, THERE.parse().unwrap(), bytes).unwrap();
            while stage.player.poll().is_some() {}
        });
    }
    stage.pictures.clear();
    stage.play(1000);
    assert!(stage.pictures.len() >= 3 * 24);
    assert_eq!(stage.closed, 0);
}

#[test]
fn hostile_handshakes_do_not_panic() {
    let plain = Stage::connected().heard.len();
    let mut connected = 0;
    for seed in 0..600 {
        let mut stage = Stage::new();
        let (mut sent, mut failed) = (0, false);
        while !failed && !stage.connected && stage.now - stage.start < Duration::from_secs(1) {
            stage.now += STEP;
            stage.client.handle_input(Input::Timeout(stage.now)).unwrap();
            while let str0m::Output::Transmit(send) = stage.client.poll_output().unwrap() {
                let mut bytes = send.contents.to_vec();
                if sent == seed % plain {
                    let at = seed * 7919 % bytes.len();
                    bytes[at] ^= 1 << (seed % 8);
                    bytes.truncate(if seed % 3 == 0 { seed * 31 % bytes.len() + 1 } else { bytes.len() });
                }
                sent += 1;
                failed |= stage.player.input(stage.now, THERE.parse().unwrap(), &bytes).is_err();
            }
            failed |= stage.player.expire(stage.now).is_err();
            stage.carry();
        }
        connected += usize::from(stage.connected);
    }
    assert!(connected > 200, "{connected}");
}
