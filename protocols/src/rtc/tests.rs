//! str0m as a publishing client, on virtual time, through ICE, DTLS and SRTP.

use super::*;
use crate::{
    codec::{
        avc,
        hostile::{hex, mutations},
    },
    rtp::{MAX_PAYLOAD_LEN, h264},
};
use shardcast_engine::{
    codec::Kind,
    frame::{Frame, Media},
    time::Timestamp,
    track::Track,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use str0m::{
    Candidate, Event, Input, RtcConfig,
    change::SdpAnswer,
    format::{Codec, PayloadParams},
    media::{Direction, MediaKind},
    net::{Protocol, Receive},
    rtp::RtpWrite,
};

const HERE: &str = "10.0.0.1:8000";
const THERE: &str = "10.0.0.2:9000";

pub fn settings() -> Settings {
    Settings { candidates: vec![("10.0.0.1".into(), 8000)], ice: None }
}

#[test]
fn a_clients_picture_and_sound_arrive_and_keyframes_are_asked_for() {
    let start = Instant::now();
    let (here, there) = (HERE.parse().unwrap(), THERE.parse().unwrap());
    let provider = Arc::new(str0m::crypto::from_feature_flags());
    let mut client = RtcConfig::new().set_crypto_provider(provider).set_rtp_mode(true).build(start);
    client.add_local_candidate(Candidate::host(there, "udp").unwrap());
    let mut api = client.sdp_api();
    let mid = api.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
    let video = api.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
    let (offer, pending) = api.apply().unwrap();
    let (mut server, answer) = Publisher::answer(start, &offer.to_sdp_string(), &settings()).unwrap();
    assert!(answer.contains(&format!("a=ice-ufrag:{}", server.ufrag())) && answer.contains("a=ice-lite"));
    client.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&answer).unwrap()).unwrap();

    let (mut sent, mut got, mut connected) = (0u64, Vec::new(), false);
    // Pictures are no keyframes until one is asked for.
    let (mut asked, mut sequence, mut pictures, mut shown) = (None, 65_530u64, Vec::new(), Vec::new());
    for ms in (0..5000).step_by(5) {
        let now = start + Duration::from_millis(ms);
        client.handle_input(Input::Timeout(now)).unwrap();
        if connected && sent < 20 && ms % 20 == 0 {
            let pt = client.codec_config().find(|p| p.spec().codec == Codec::Opus).unwrap().pt();
            let payload = [0xfc, sent as u8, 7];
            let time = sent as u32 * 960;
            let mut direct = client.direct_api();
            let stream = direct.stream_tx_by_mid(mid, None).unwrap();
            stream.write_rtp(RtpWrite::new(pt, (100 + sent).into(), time, now, payload.to_vec()));
            let format = client.codec_config().find(|p| p.spec().codec == Codec::H264 && is_mode_1(p)).unwrap().pt();
            let picture = picture(sent, asked == Some(0));
            asked = asked.map(|since: u32| since + 1);
            let payloads = h264::packetize(&track(), &picture, MAX_PAYLOAD_LEN, true);
            let last = payloads.len() - 1;
            let mut direct = client.direct_api();
            let stream = direct.stream_tx_by_mid(video, None).unwrap();
            for (n, payload) in payloads.into_iter().enumerate() {
                let write = RtpWrite::new(format, sequence.into(), sent as u32 * 1800, now, payload.to_vec());
                stream.write_rtp(write.marker(n == last));
                sequence += 1;
            }
            if asked.is_some() {
                pictures.push((picture.keyframe, picture.payload));
            }
            sent += 1;
        }
        loop {
            match client.poll_output().unwrap() {
                str0m::Output::Timeout(_) => break,
                str0m::Output::Transmit(send) => server.input(now, there, &send.contents).unwrap(),
                str0m::Output::Event(Event::KeyframeRequest(_)) => asked = asked.or(Some(0)),
                str0m::Output::Event(_) => {}
            }
        }
        server.expire(now).unwrap();
        while let Some(output) = server.poll() {
            match output {
                Output::Send { bytes, .. } => {
                    let receive = Receive::new(Protocol::Udp, here, there, &bytes).unwrap();
                    client.handle_input(Input::Receive(now, receive)).unwrap();
                }
                Output::Media(Media::Frame(frame)) if frame.kind == Kind::Video => {
                    shown.push((frame.keyframe, frame.payload));
                }
                Output::Media(Media::Frame(frame)) => got.push(frame.payload.to_vec()),
                Output::Media(_) => {}
                Output::Connected => connected = true,
                Output::Closed | Output::KeyframeWanted => panic!("{output:?}"),
            }
        }
    }
    assert_eq!(got, (0..20).map(|n| vec![0xfc, n, 7]).collect::<Vec<_>>());
    assert!(shown.len() > 10 && shown[0].0);
    assert_eq!(shown, pictures);
}

pub(super) fn is_mode_1(params: &PayloadParams) -> bool {
    params.spec().format.packetization_mode == Some(1)
}

pub(super) fn track() -> Track {
    let (sps, pps) = (hex("6742c00dd90141fb0110000003001000000303c0f142a480"), hex("68cb8cb2"));
    avc::track(avc::config_record(&sps, &pps)).unwrap()
}

/// 3000 bytes in one slice.
pub(super) fn picture(n: u64, keyframe: bool) -> Frame {
    let mut payload = vec![0, 0, 0x0b, 0xb8, if keyframe { 0x65 } else { 0x41 }];
    payload.resize(4 + 3000, (n % 255) as u8 + 1);
    Frame { kind: Kind::Video, dts: Timestamp::ZERO, pts: Timestamp::ZERO, keyframe, payload: payload.into() }
}

#[test]
fn bad_offers_are_refused_with_a_reason() {
    let now = Instant::now();
    assert!(matches!(Publisher::answer(now, "hello", &settings()), Err(OfferError::Sdp(_))));
    let long = "v".repeat(1 << 17);
    assert!(matches!(Publisher::answer(now, &long, &settings()), Err(OfferError::TooLong { .. })));
    mutations(b"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n", 200, |bytes| {
        let _ = Publisher::answer(now, &String::from_utf8_lossy(bytes), &settings());
    });
}
