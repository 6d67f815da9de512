//! Offers as clients write them, and what they are answered with. Those of Chromium 156, ffmpeg 9.0 and aiortc are
//! recorded, the others written after them.

use super::*;
use crate::{
    codec::hostile::mutations,
    rtc::{Output, Publisher},
};
use shardcast_engine::frame::Media;
use str0m::{change::SdpAnswer, media::Direction, rtp::RtpWrite};

const CHROMIUM: &str = include_str!("chromium.sdp");
const FIREFOX: &str = include_str!("firefox.sdp");
const SAFARI: &str = include_str!("safari.sdp");
const FFMPEG: &str = include_str!("ffmpeg.sdp");
const AIORTC: &str = include_str!("aiortc.sdp");
const OBS: &str = include_str!("obs.sdp");

fn settings() -> Settings {
    Settings { candidates: vec![("10.0.0.1".into(), 8000)], ice: Some(("frag".into(), "p".repeat(22))) }
}

fn reply(offer: &str, role: Role) -> Result<String, OfferError> {
    answer(Instant::now(), offer, &settings(), role).map(|(_, answer)| answer)
}

/// The lines of an answer that are the same each time, without those of the transport.
fn media(offer: &str, role: Role) -> String {
    let answer = reply(offer, role).unwrap();
    let parts = ["c=", "o=", "s=", "t=", "v=", "a=ice", "a=fingerprint", "a=candidate", "a=end-of", "a=ssrc", "a=msid"];
    let lines = answer.lines().filter(|line| !parts.iter().any(|part| line.starts_with(part)));
    lines.collect::<Vec<_>>().join("\n")
}

/// The text of one line after another, without the indentation of this file.
fn lines(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[test]
fn browsers_that_watch_are_offered_their_best_profile_and_retransmissions() {
    let chromium = "
        a=group:BUNDLE 0 1
        m=audio 9 UDP/TLS/RTP/SAVPF 111
        a=setup:passive
        a=mid:0
        a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
        a=sendonly
        a=rtcp-mux
        a=rtcp-rsize
        a=rtpmap:111 opus/48000/2
        a=fmtp:111 minptime=10;useinbandfec=1
        m=video 9 UDP/TLS/RTP/SAVPF 116 117
        a=setup:passive
        a=mid:1
        a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
        a=sendonly
        a=rtcp-mux
        a=rtcp-rsize
        a=rtpmap:116 H264/90000
        a=rtcp-fb:116 nack
        a=rtcp-fb:116 nack pli
        a=rtcp-fb:116 ccm fir
        a=fmtp:116 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f
        a=rtpmap:117 rtx/90000
        a=fmtp:117 apt=116";
    assert_eq!(media(CHROMIUM, Role::Player), lines(chromium));
    let high = CHROMIUM.replace("f4001f", "64001f");
    assert!(media(&high, Role::Player).contains("m=video 9 UDP/TLS/RTP/SAVPF 41 42\n"));
    // Pictures first, the parameters before their names, direction and fingerprint of the session.
    let firefox = "
        a=group:BUNDLE 0 1
        m=video 9 UDP/TLS/RTP/SAVPF 126 127
        a=setup:passive
        a=mid:0
        a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid
        a=sendonly
        a=rtcp-mux
        a=rtcp-rsize
        a=rtpmap:126 H264/90000
        a=rtcp-fb:126 nack
        a=rtcp-fb:126 nack pli
        a=rtcp-fb:126 ccm fir
        a=fmtp:126 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
        a=rtpmap:127 rtx/90000
        a=fmtp:127 apt=126
        m=audio 9 UDP/TLS/RTP/SAVPF 109
        a=setup:passive
        a=mid:1
        a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid
        a=sendonly
        a=rtcp-mux
        a=rtpmap:109 opus/48000/2
        a=fmtp:109 maxplaybackrate=48000;stereo=1;useinbandfec=1";
    assert_eq!(media(FIREFOX, Role::Player), lines(firefox));
    let aiortc = media(AIORTC, Role::Player);
    assert!(aiortc.contains("m=video 9 UDP/TLS/RTP/SAVPF 99 100") && aiortc.contains("m=audio 9 UDP/TLS/RTP/SAVPF 96"));
}

#[test]
fn publishers_are_taken_as_they_offer() {
    let safari = "
        a=group:BUNDLE 0 1
        m=video 9 UDP/TLS/RTP/SAVPF 96 97
        a=setup:passive
        a=mid:0
        a=extmap:9 urn:ietf:params:rtp-hdrext:sdes:mid
        a=extmap:4 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
        a=recvonly
        a=rtcp-mux
        a=rtcp-rsize
        a=rtpmap:96 H264/90000
        a=rtcp-fb:96 nack
        a=rtcp-fb:96 nack pli
        a=rtcp-fb:96 ccm fir
        a=rtcp-fb:96 transport-cc
        a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f
        a=rtpmap:97 rtx/90000
        a=fmtp:97 apt=96
        m=audio 9 UDP/TLS/RTP/SAVPF 111
        a=setup:passive
        a=mid:1
        a=extmap:9 urn:ietf:params:rtp-hdrext:sdes:mid
        a=extmap:4 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
        a=recvonly
        a=rtcp-mux
        a=rtpmap:111 opus/48000/2
        a=rtcp-fb:111 transport-cc
        a=fmtp:111 minptime=10;useinbandfec=1";
    assert_eq!(media(SAFARI, Role::Publisher), lines(safari));
    // It waits for our ClientHello.
    let ffmpeg = "
        a=group:BUNDLE 0 1
        m=audio 9 UDP/TLS/RTP/SAVPF 111
        a=setup:active
        a=mid:0
        a=recvonly
        a=rtcp-mux
        a=rtpmap:111 opus/48000/2
        m=video 9 UDP/TLS/RTP/SAVPF 106 105
        a=setup:active
        a=mid:1
        a=recvonly
        a=rtcp-mux
        a=rtcp-rsize
        a=rtpmap:106 H264/90000
        a=rtcp-fb:106 nack
        a=fmtp:106 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001e
        a=rtpmap:105 rtx/90000
        a=fmtp:105 apt=106";
    assert_eq!(media(FFMPEG, Role::Publisher), lines(ffmpeg));
    // The transport of the session part, no extensions, no retransmission payload.
    let obs = "
        a=group:BUNDLE 0 1
        m=audio 9 UDP/TLS/RTP/SAVPF 111
        a=setup:passive
        a=mid:0
        a=recvonly
        a=rtcp-mux
        a=rtpmap:111 opus/48000/2
        a=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1;sprop-stereo=1;useinbandfec=1
        m=video 9 UDP/TLS/RTP/SAVPF 96
        a=setup:passive
        a=mid:1
        a=recvonly
        a=rtcp-mux
        a=rtpmap:96 H264/90000
        a=rtcp-fb:96 nack
        a=rtcp-fb:96 nack pli
        a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
    assert_eq!(media(OBS, Role::Publisher), lines(obs));
}

#[test]
fn mids_of_any_text_come_back_and_other_sections_are_refused() {
    let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\nc=IN IP4 0.0.0.0\na=mid:data\na=sctp-port:5000\n";
    let offer = AIORTC
        .replace("BUNDLE 0 1", "BUNDLE data the-sound_of/2026 video")
        .replace("a=mid:0", "a=mid:the-sound_of/2026")
        .replace("a=mid:1", "a=mid:video")
        .replacen("m=audio", &format!("{data}m=audio"), 1);
    let answer = media(&offer, Role::Player);
    assert!(answer.starts_with(
        "a=group:BUNDLE the-sound_of/2026 video\nm=application 0 UDP/DTLS/SCTP webrtc-datachannel\n\
         a=mid:data\na=inactive\nm=audio 9"
    ));
    assert!(answer.contains("a=mid:the-sound_of/2026\n") && answer.contains("a=mid:video\n"));
    let nameless = offer.replace("a=mid:video", "a=mid:").replace(" video\n", "\n");
    assert!(media(&nameless, Role::Player).contains("m=video 0"));
    // Such a mid does not fit into a packet as str0m writes it.
    assert!(!answer.contains("extmap"));

    let second = CHROMIUM.replace("BUNDLE 0 1", "BUNDLE 0 1 2");
    let video = &CHROMIUM[CHROMIUM.find("m=video").unwrap()..];
    let answer = media(&format!("{second}{}", video.replace("a=mid:1", "a=mid:2")), Role::Player);
    assert!(answer.contains("a=group:BUNDLE 0 1\n") && answer.ends_with("a=mid:2\na=inactive"));
    assert!(answer.contains("m=video 0 UDP/TLS/RTP/SAVPF 96 97 98"));
}

#[test]
fn one_kind_alone_is_enough() {
    let at = CHROMIUM.find("m=video").unwrap();
    let audio = CHROMIUM[..at].replace("BUNDLE 0 1", "BUNDLE 0");
    let (agreed, answer) = super::answer(Instant::now(), &audio, &settings(), Role::Player).unwrap();
    assert!(agreed.tracks.video.is_none() && agreed.tracks.audio.is_some() && !answer.contains("m=video"));
    let inactive = CHROMIUM.replacen("a=recvonly", "a=inactive", 1);
    let (agreed, answer) = super::answer(Instant::now(), &inactive, &settings(), Role::Player).unwrap();
    assert!(agreed.tracks.video.is_some() && agreed.tracks.audio.is_none() && answer.contains("m=audio 0"));
    // Packetization mode 0 where there is no other.
    let zero = OBS.replace("packetization-mode=1;", "");
    assert!(media(&zero, Role::Publisher).contains("a=fmtp:96 level-asymmetry-allowed=1;profile-level-id=42e01f"));
}

#[test]
fn all_candidates_stand_in_all_sections() {
    let candidates = [("203.0.113.7", 8000), ("live.example.org", 8001), ("2001:db8::7", 8000)];
    let settings = Settings { candidates: candidates.map(|(host, port)| (host.into(), port)).into(), ..settings() };
    let (agreed, answer) = super::answer(Instant::now(), CHROMIUM, &settings, Role::Player).unwrap();
    let all = "a=candidate:0 1 udp 2130706431 203.0.113.7 8000 typ host generation 0\r\n\
               a=candidate:1 1 udp 2130706175 live.example.org 8001 typ host generation 0\r\n\
               a=candidate:2 1 udp 2130705919 2001:db8::7 8000 typ host generation 0\r\n\
               a=end-of-candidates\r\n";
    assert_eq!(answer.matches(all).count(), 2);
    assert_eq!(answer.matches("a=candidate").count(), 6);
    assert_eq!(answer.matches("a=ice-ufrag:frag\r\na=ice-pwd:pppppppppppppppppppppp\r\n").count(), 2);
    assert_eq!(agreed.local, "203.0.113.7:8000".parse().unwrap());
    let named = Settings { candidates: vec![("live.example.org".into(), 8001)], ..settings };
    let (agreed, _) = super::answer(Instant::now(), CHROMIUM, &named, Role::Player).unwrap();
    assert_eq!(agreed.local, "127.0.0.1:8001".parse().unwrap());
}

#[test]
fn bad_offers_are_refused_with_a_reason() {
    let check = |offer: &str, role, reason: &str| {
        let error = reply(offer, role).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}, not {reason}");
    };
    check(CHROMIUM, Role::Publisher, "it sends nothing");
    check(OBS, Role::Player, "it receives nothing");
    check(&CHROMIUM.replace("H264", "H265").replace("opus", "speex"), Role::Player, "neither H.264 nor Opus");
    check("v=0\r\ns=-\r\n", Role::Player, "neither H.264 nor Opus");
    check("hello", Role::Player, "v=0");
    check("v=0\nm=audio 9\n", Role::Player, "too short");
    check(&format!("v=0\n{}", "m=audio 9 a b\n".repeat(17)), Role::Player, "more than 16");
    check("v=0\na=\0\n", Role::Player, "control");
    check(&CHROMIUM.replace("a=ice-ufrag", "a=x"), Role::Player, "ice-ufrag");
    check(&CHROMIUM.replace("sha-256 ", "sha-256 x"), Role::Player, "a=fingerprint");
    check(&CHROMIUM.replace("sha-256", "sha-512"), Role::Player, "a=fingerprint");
    check(&CHROMIUM.replace("actpass", "holdconn"), Role::Player, "a=setup");
    check(&CHROMIUM.replace("a=mid:1", "a=mid:0"), Role::Player, "one mid");
    check(&OBS.replace("111", "96"), Role::Publisher, "share a payload type");
    check(&CHROMIUM.replacen("t=0 0", "t=0 0\na=ice-lite", 1), Role::Player, "ICE-lite");
    check(&" ".repeat(MAX_OFFER_LEN + 1), Role::Player, "longer");
    let now = Instant::now();
    for (host, ice) in [("", None), ("a b", None), ("1.2.3.4", Some(("frag".into(), "short".into())))] {
        let bad = Settings { candidates: vec![(host.into(), 1)], ice };
        assert!(answer(now, CHROMIUM, &bad, Role::Player).is_err());
    }
    assert!(matches!(answer(now, CHROMIUM, &Settings::default(), Role::Player), Err(OfferError::Candidate(_))));
}

#[test]
fn hostile_offers_do_not_panic() {
    let mut answered = 0;
    for (offer, role) in [(CHROMIUM, Role::Player), (SAFARI, Role::Publisher), (OBS, Role::Publisher)] {
        mutations(offer.as_bytes(), 3000, |bytes| {
            let Ok(answer) = reply(&String::from_utf8_lossy(bytes), role) else { return };
            let known = ["v=", "o=", "s=", "t=", "m=", "c=", "a="];
            assert!(answer.lines().all(|line| known.iter().any(|start| line.starts_with(start))));
            answered += 1;
        });
    }
    assert!(answered > 1000);
}

/// str0m as a publishing client whose packets alone say by their payload type whose they are.
#[test]
fn a_publisher_without_ssrcs_and_mids_is_heard_and_hostile_packets_end_nothing() {
    let (mut now, provider) = (Instant::now(), std::sync::Arc::new(str0m::crypto::from_feature_flags()));
    let mut client = RtcConfig::new().set_crypto_provider(provider).set_rtp_mode(true).build(now);
    let there: SocketAddr = "10.0.0.2:9000".parse().unwrap();
    client.add_local_candidate(Candidate::host(there, "udp").unwrap());
    let mut api = client.sdp_api();
    let mid = api.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
    api.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
    let (offer, pending) = api.apply().unwrap();
    let offer = offer.to_sdp_string();
    let kept = offer.lines().filter(|line| !line.starts_with("a=ssrc") && !line.contains("hdrext:sdes"));
    let offer = kept.collect::<Vec<_>>().join("\r\n");
    let (mut publisher, answer) = Publisher::answer(now, &offer, &settings()).unwrap();
    client.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&answer).unwrap()).unwrap();
    let payload_type = client.codec_config().find(|params| params.spec().codec == Codec::Opus).unwrap().pt();

    let (mut sent, mut connected, mut sounds, mut golden) = (0_u32, false, 0, Vec::<Vec<u8>>::new());
    for step in 0..400 {
        now += Duration::from_millis(5);
        client.handle_input(Input::Timeout(now)).unwrap();
        if connected && step % 4 == 0 {
            let mut api = client.direct_api();
            let stream = api.stream_tx_by_mid(mid, None).unwrap();
            stream.write_rtp(RtpWrite::new(payload_type, u64::from(sent).into(), sent * 960, now, vec![0xfc, 1, 2]));
            sent += 1;
        }
        loop {
            match client.poll_output().unwrap() {
                str0m::Output::Timeout(_) => break,
                str0m::Output::Transmit(send) => {
                    publisher.input(now, there, &send.contents).unwrap();
                    if golden.iter().all(|other| other[..2] != send.contents[..2]) {
                        golden.push(send.contents.to_vec());
                    }
                }
                str0m::Output::Event(_) => {}
            }
        }
        if step == 200 {
            assert!(golden.iter().any(|bytes| bytes[1] & 0x7f == *payload_type));
            for golden in &golden {
                mutations(golden, 2000, |bytes| {
                    publisher.input(now, there, bytes).unwrap();
                });
            }
        }
        publisher.expire(now).unwrap();
        while let Some(output) = publisher.poll() {
            match output {
                Output::Send { bytes, .. } => {
                    let receive = Receive::new(Protocol::Udp, "10.0.0.1:8000".parse().unwrap(), there, &bytes);
                    // Answers to hostile packets among them.
                    let _ = receive.map(|receive| client.handle_input(Input::Receive(now, receive)));
                }
                Output::Media(Media::Frame(frame)) => {
                    assert_eq!(frame.payload[..], [0xfc, 1, 2]);
                    sounds += 1;
                }
                Output::Media(_) => {}
                Output::Connected => connected = true,
                Output::Closed | Output::KeyframeWanted => panic!("{output:?}"),
            }
        }
    }
    assert!(sent > 90 && sounds + 10 > sent, "{sounds} of {sent}");
}
