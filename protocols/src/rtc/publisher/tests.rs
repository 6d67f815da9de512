//! What str0m, as a client behind a path of 20 ms that may lose datagrams, makes of a publisher, on virtual time.

use super::*;
use crate::{
    rtc::tests::{is_mode_1, picture, settings, track},
    rtp::{MAX_PAYLOAD_LEN, h264},
};
use shardcast_engine::timeline::{Placed, Timeline};
use std::sync::Arc;
use str0m::{
    Candidate, RtcConfig,
    change::SdpAnswer,
    format::Codec,
    media::{Direction, KeyframeRequest, MediaTime},
    net::{Protocol, Receive},
    rtp::{RawPacket, RtpWrite, rtcp::Rtcp},
};

const STEP: Duration = Duration::from_millis(5);
const DELAY: Duration = Duration::from_millis(20);

struct Pair {
    start: Instant,
    now: Instant,
    client: Rtc,
    server: Publisher,
    sound: Mid,
    picture: Mid,
    connected: bool,
    /// To the client and to the server, with the time when it arrives.
    under_way: [VecDeque<(Instant, Vec<u8>)>; 2],
    /// Of so many datagrams one is lost, once there is a connection.
    loss: Option<u64>,
    datagrams: u64,
    /// The next of the sound and of the pictures.
    sequences: [u64; 2],
    media: Vec<Media>,
    /// When the client was asked for a keyframe, in milliseconds, and how.
    asked: Vec<(u128, KeyframeRequestKind)>,
    feedback: Feedback,
}

/// RTCP that reached the client.
#[derive(Debug, Default)]
struct Feedback {
    nacks: u64,
    receiver_reports: u64,
    transport: u64,
}

impl Pair {
    /// A pair that is connected, by the client's offer as `change` leaves it.
    fn connect(change: impl Fn(String) -> String) -> Self {
        let start = Instant::now();
        let provider = Arc::new(str0m::crypto::from_feature_flags());
        let mut client =
            RtcConfig::new().set_crypto_provider(provider).set_rtp_mode(true).enable_raw_packets(true).build(start);
        client.add_local_candidate(Candidate::host(there(), "udp").unwrap());
        let mut api = client.sdp_api();
        let sound = api.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
        let picture = api.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
        let (offer, pending) = api.apply().unwrap();
        let (server, answer) = Publisher::answer(start, &change(offer.to_sdp_string()), &settings()).unwrap();
        client.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&answer).unwrap()).unwrap();
        let mut pair = Self {
            start,
            now: start,
            client,
            server,
            sound,
            picture,
            connected: false,
            under_way: Default::default(),
            loss: None,
            datagrams: 0,
            sequences: [100; 2],
            media: Vec::new(),
            asked: Vec::new(),
            feedback: Feedback::default(),
        };
        while !pair.connected {
            pair.step();
            assert!(pair.now < start + Duration::from_secs(10), "no connection");
        }
        pair
    }

    fn ms(&self) -> u128 {
        (self.now - self.start).as_millis()
    }

    fn step(&mut self) {
        self.now += STEP;
        self.client.handle_input(Input::Timeout(self.now)).unwrap();
        if self.server.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.server.expire(self.now).unwrap();
        }
        for way in 0..2 {
            while let Some((_, bytes)) = self.under_way[way].pop_front_if(|(due, _)| *due <= self.now) {
                if way == 0 {
                    let receive = Receive::new(Protocol::Udp, here(), there(), &bytes).unwrap();
                    self.client.handle_input(Input::Receive(self.now, receive)).unwrap();
                    self.poll_client();
                } else {
                    self.server.input(self.now, there(), &bytes).unwrap();
                }
            }
        }
        self.poll_client();
        while let Some(output) = self.server.poll() {
            match output {
                Output::Send { bytes, .. } => self.send(0, bytes),
                Output::Media(media) => self.media.push(media),
                Output::Connected => self.connected = true,
                Output::Closed => panic!("closed"),
                Output::KeyframeWanted => panic!("a publisher wants nothing"),
            }
        }
    }

    fn poll_client(&mut self) {
        loop {
            match self.client.poll_output().unwrap() {
                str0m::Output::Timeout(_) => break,
                str0m::Output::Transmit(send) => self.send(1, send.contents.to_vec()),
                str0m::Output::Event(Event::KeyframeRequest(KeyframeRequest { kind, .. })) => {
                    self.asked.push((self.ms(), kind));
                }
                str0m::Output::Event(Event::RawPacket(packet)) => match *packet {
                    RawPacket::RtcpRx(Rtcp::Nack(_)) => self.feedback.nacks += 1,
                    RawPacket::RtcpRx(Rtcp::ReceiverReport(_)) => self.feedback.receiver_reports += 1,
                    RawPacket::RtcpRx(Rtcp::Twcc(_)) => self.feedback.transport += 1,
                    _ => {}
                },
                str0m::Output::Event(_) => {}
            }
        }
    }

    fn send(&mut self, way: usize, bytes: Vec<u8>) {
        self.datagrams += u64::from(self.connected);
        if self.connected && self.loss.is_some_and(|loss| self.datagrams.is_multiple_of(loss)) {
            return;
        }
        self.under_way[way].push_back((self.now + DELAY, bytes));
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 5 {
            self.step();
        }
    }

    fn write_sound(&mut self, payload: &[u8], timestamp: u32) {
        let format = self.client.codec_config().find(|params| params.spec().codec == Codec::Opus).unwrap().pt();
        let mut direct = self.client.direct_api();
        let stream = direct.stream_tx_by_mid(self.sound, None).unwrap();
        stream.write_rtp(RtpWrite::new(format, self.sequences[0].into(), timestamp, self.now, payload.to_vec()));
        self.sequences[0] += 1;
        self.poll_client();
    }

    /// One that was taken `late` ago. Without parameter sets where `bare`.
    fn write_picture(&mut self, n: u64, keyframe: bool, late: Duration, bare: bool) {
        let format = self.client.codec_config().find(|p| p.spec().codec == Codec::H264 && is_mode_1(p)).unwrap().pt();
        let mut payloads = h264::packetize(&track(), &picture(n, keyframe), MAX_PAYLOAD_LEN, true);
        if bare {
            payloads.retain(|payload| payload[0] & 31 != 24);
        }
        let last = payloads.len() - 1;
        for (at, payload) in payloads.into_iter().enumerate() {
            let timestamp = n as u32 * 3600;
            let write = RtpWrite::new(format, self.sequences[1].into(), timestamp, self.now - late, payload.to_vec());
            let mut direct = self.client.direct_api();
            let stream = direct.stream_tx_by_mid(self.picture, None).unwrap();
            stream.write_rtp(write.marker(at == last).nackable(true));
            self.sequences[1] += 1;
            self.poll_client();
        }
    }

    fn frames(&self, kind: Kind) -> Vec<&shardcast_engine::frame::Frame> {
        let frames = self.media.iter().filter_map(|media| match media {
            Media::Frame(frame) if frame.kind == kind => Some(frame),
            _ => None,
        });
        frames.collect()
    }
}

fn here() -> SocketAddr {
    "10.0.0.1:8000".parse().unwrap()
}

fn there() -> SocketAddr {
    "10.0.0.2:9000".parse().unwrap()
}

#[test]
fn what_is_lost_on_the_way_is_sent_again() {
    let mut pair = Pair::connect(|offer| offer);
    pair.loss = Some(10);
    let mut expected = Vec::new();
    for n in 0..500 {
        pair.write_picture(n, n % 50 == 0, Duration::ZERO, false);
        expected.push(picture(n, n % 50 == 0).payload);
        pair.run(40);
    }
    pair.run(1000);
    let shown: Vec<_> = pair.frames(Kind::Video).into_iter().map(|frame| frame.payload.clone()).collect();
    assert_eq!(shown.len(), expected.len(), "{:?}", pair.server.stats(Kind::Video));
    assert!(shown == expected);
    let stats = pair.server.stats(Kind::Video);
    assert_eq!((stats.received.lost, stats.received.dropped, stats.received.wrong), (0, 0, 0));
    assert!(stats.nacks > 50 && stats.received.packets >= 1510, "{stats:?}");
    // Some of these were lost themselves. A report for each second of pictures, transport feedback each 100 ms.
    let Feedback { nacks, receiver_reports, transport } = pair.feedback;
    assert!(nacks > stats.nacks * 3 / 4 && receiver_reports >= 15 && transport >= 150, "{:?}", pair.feedback);
}

#[test]
fn without_retransmission_a_loss_is_told_and_a_keyframe_asked_for() {
    let mut pair = Pair::connect(|offer| offer.replace("nack\r\n", "none\r\n").replace(" rtx/", " rtz/"));
    pair.write_picture(0, true, Duration::ZERO, false);
    pair.run(500);
    pair.loss = Some(2);
    pair.write_picture(1, false, Duration::ZERO, false);
    pair.run(10);
    pair.loss = None;
    pair.run(1000);
    pair.write_picture(2, false, Duration::ZERO, false);
    pair.run(1000);
    assert_eq!(pair.frames(Kind::Video).len(), 1);
    assert!(pair.server.stats(Kind::Video).received.lost > 0 && !pair.asked.is_empty());
    pair.write_picture(3, true, Duration::ZERO, false);
    pair.run(500);
    assert_eq!(pair.frames(Kind::Video).len(), 2);
}

#[test]
fn sender_reports_bring_late_pictures_to_their_sound_and_a_stream_keeps_that() {
    for late in [0, 200, 700] {
        let mut pair = Pair::connect(|offer| offer);
        for n in 0..500 {
            // Pictures are taken with their sound, and sent later.
            pair.write_picture(n, n == 0, Duration::from_millis(late), false);
            for part in 0..2 {
                pair.write_sound(&[0xfc, 1], ((n * 2 + part) * 960) as u32);
                pair.run(20);
            }
        }
        let (mut timeline, mut times) = (Timeline::default(), [Vec::new(), Vec::new()]);
        for media in pair.media {
            let Media::Frame(mut frame) = media else { continue };
            assert_eq!(timeline.place(&mut frame), Placed::InOrder, "{late}");
            times[usize::from(frame.kind == Kind::Opus)].push(frame.pts.as_ms());
        }
        let [pictures, sound] = times;
        assert!(pictures.is_sorted_by(|a, b| (34..=41).contains(&(b - a))), "{late}: {pictures:?}");
        let apart = |at: usize| pictures[at] - sound[at * 2];
        assert_eq!(apart(0), 0);
        assert!((apart(490) + late as i64).abs() <= 1, "{late}: {}", apart(490));
    }
}

#[test]
fn reports_without_a_clock_or_of_another_stream_move_nothing() {
    for (since_epoch, other, moved) in [(0, 0, 0), (1_000_000, 1, 0), (1_000_000, 0, 300)] {
        let mut pair = Pair::connect(|offer| offer);
        pair.write_sound(&[0xfc, 1], 0);
        pair.write_picture(0, true, Duration::ZERO, false);
        pair.run(100);
        for (source, ms) in [(Kind::Audio, 0), (Kind::Video, if since_epoch == 0 { 0 } else { 300 })] {
            let source = if source == Kind::Audio { &pair.server.audio } else { &pair.server.video };
            let info = SenderInfo {
                ssrc: (*source.main.as_ref().unwrap().ssrc + other).into(),
                ntp_time: UNIX_EPOCH + Duration::from_millis(since_epoch + ms),
                rtp_time: MediaTime::from_90khz(0),
                sender_packet_count: 0,
                sender_octet_count: 0,
            };
            pair.server.report(&info);
        }
        let before = pair.frames(Kind::Video)[0].pts;
        // The next picture comes before further reports.
        let (now, receiver) = (pair.now + Duration::from_secs(8), &mut pair.server.video.receiver);
        let (marker, sequence, timestamp) = (true, pair.sequences[1] as u16, 8 * 90_000);
        let header = Header { marker, sequence, timestamp, ..Header::default() };
        receiver.input(now, Packet { header, payload: bytes::Bytes::from_static(&[0x41, 1, 2]) });
        let Some(Media::Frame(frame)) = receiver.poll() else { panic!("no picture") };
        assert_eq!((frame.pts - before).as_ms(), 8000 + moved);
    }
}

#[test]
fn keyframes_are_asked_for_at_once_and_merged() {
    let mut pair = Pair::connect(|offer| offer);
    // Before there is a stream the wish is kept.
    pair.server.ask_keyframe(pair.now);
    pair.run(100);
    pair.write_picture(0, false, Duration::ZERO, false);
    pair.run(100);
    assert_eq!(pair.asked.len(), 1);
    pair.write_picture(1, true, Duration::ZERO, false);
    pair.run(1000);
    assert_eq!(pair.asked.len(), 1);
    // Two in a row, then one later in the same half second.
    let first = pair.ms();
    pair.server.ask_keyframe(pair.now);
    pair.server.ask_keyframe(pair.now);
    pair.run(100);
    pair.write_picture(2, true, Duration::ZERO, false);
    pair.run(100);
    pair.server.ask_keyframe(pair.now);
    pair.run(400);
    pair.write_picture(3, true, Duration::ZERO, false);
    pair.run(2000);
    let times: Vec<_> = pair.asked[1..].iter().map(|(at, kind)| (at - first, *kind)).collect();
    let [(a, KeyframeRequestKind::Pli), (b, KeyframeRequestKind::Pli)] = times[..] else { panic!("{times:?}") };
    assert!((20..=30).contains(&a) && (520..=530).contains(&b), "{times:?}");
    // Lost or not heeded: again, until one comes.
    pair.server.ask_keyframe(pair.now);
    pair.run(2100);
    assert_eq!(pair.asked.len(), 3 + 5);
    assert_eq!(pair.server.stats(Kind::Video).keyframe_requests, 3 + 5);
}

#[test]
fn a_peer_that_knows_full_intra_requests_alone_gets_those() {
    let lines = |offer: String| offer.lines().filter(|line| !line.ends_with("nack pli")).fold(String::new(), concat);
    let mut pair = Pair::connect(lines);
    pair.write_picture(0, false, Duration::ZERO, false);
    pair.run(100);
    assert!(matches!(pair.asked[..], [(_, KeyframeRequestKind::Fir)]), "{:?}", pair.asked);
}

fn concat(text: String, line: &str) -> String {
    text + line + "\r\n"
}

#[test]
fn parameter_sets_of_the_offer_serve_a_stream_without() {
    let sets = "packetization-mode=1;sprop-parameter-sets=Z0LADdkBQfsBEAAAAwAQAAADA8DxQqSA,aMuMsg==";
    let mut pair = Pair::connect(|offer| offer.replace("packetization-mode=1", sets));
    pair.write_picture(0, true, Duration::ZERO, true);
    pair.write_picture(1, false, Duration::ZERO, true);
    pair.run(500);
    assert_eq!(pair.media[0], Media::Track(track()));
    assert_eq!(pair.frames(Kind::Video).len(), 2);
}

#[test]
fn a_stream_that_takes_the_place_of_another_begins_with_a_keyframe_after_a_second() {
    let mut pair = Pair::connect(|offer| offer);
    for n in 0..50 {
        pair.write_picture(n, n == 0, Duration::ZERO, false);
        pair.run(40);
    }
    assert_eq!(pair.frames(Kind::Video).len(), 50);
    let last = pair.frames(Kind::Video)[49].pts;
    // The encoder restarts, with other timestamps and no keyframe before one is asked for.
    let mut direct = pair.client.direct_api();
    let (ssrc, again) = (direct.new_ssrc(), direct.new_ssrc());
    direct.reset_stream_tx(pair.picture, None, ssrc, Some(again)).unwrap();
    pair.sequences[1] = 30_000;
    // str0m files the client's stream by its old name and does not hear what the server asks of it.
    let asked = |pair: &Pair| pair.server.stats(Kind::Video).keyframe_requests;
    let mut heeded = asked(&pair);
    for n in 0..100 {
        let keyframe = heeded < asked(&pair);
        heeded = asked(&pair);
        pair.write_picture(1_000_000 + n, keyframe, Duration::ZERO, false);
        pair.run(40);
    }
    let frames = pair.frames(Kind::Video);
    let stats = pair.server.stats(Kind::Video);
    assert!((50 + 60..50 + 76).contains(&frames.len()), "{} {stats:?}", frames.len());
    assert!(frames[50].keyframe && frames.is_sorted_by(|a, b| a.dts < b.dts));
    let gap = (frames[50].pts - last).as_ms();
    assert!((1000..1600).contains(&gap), "{gap}");
    let ignored = pair.server.stats(Kind::Video).ignored;
    assert!((60..=78).contains(&ignored), "{ignored}");
}

#[test]
fn further_streams_are_ignored_while_one_is_heard_and_further_media_always() {
    let start = Instant::now();
    let mut source = Source::new(Receiver::h264(start));
    let mut take = |ms, ssrc: u32, mid: &str| {
        let taken = source.take(start + Duration::from_millis(ms), ssrc.into(), mid.into());
        (taken, source.stats.ignored)
    };
    assert_eq!(take(0, 1, "a"), (Taken::New, 0));
    assert_eq!(take(10, 2, "a"), (Taken::Other, 1));
    assert_eq!(take(500, 1, "a"), (Taken::Main, 1));
    assert_eq!(take(1499, 2, "a"), (Taken::Other, 2));
    assert_eq!(take(1500, 3, "b"), (Taken::Other, 3));
    assert_eq!(take(1501, 2, "a"), (Taken::New, 3));
    assert_eq!(take(1502, 1, "a"), (Taken::Other, 4));
}
