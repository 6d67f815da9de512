//! SRT, WebRTC and TLS.

use super::*;
use crate::net::certificates::Pair;
use shardcast_protocols::srt::{
    Bandwidth,
    stream_id::{Defaults, Mode},
};
use std::time::Duration;

pub(super) fn rtc() -> Rtc {
    Rtc {
        enabled: false,
        stun_timeout: Duration::from_secs(30),
        keep_bframe: false,
        keep_avc_nalu_sei: true,
        pli_for_rtmp: Duration::from_secs(6),
        rtmp_to_rtc: false,
        rtc_to_rtmp: false,
        opus_bitrate: 48_000,
        aac_bitrate: 48_000,
    }
}

fn srt_server() -> SrtServer {
    let ms = Duration::from_millis;
    SrtServer {
        enabled: false,
        listen: vec!["10080".parse().unwrap()],
        peer_idle_timeout: ms(10_000),
        connect_timeout: ms(3_000),
        defaults: Defaults {
            app: "live".into(),
            stream_id: "#!::r=live/livestream,m=publish".into(),
            mode: Mode::Play,
        },
        recv_latency: ms(120),
        peer_latency: ms(0),
        passphrase: String::new(),
        key_size: 0,
        bandwidth: Bandwidth::Unlimited,
        too_late_drop: true,
        send_buffer: 12_058_624,
        recv_buffer: 12_058_624,
    }
}

#[test]
fn srt_is_set_by_its_block() {
    assert_eq!(load("vhost v { }").srt_server, srt_server());
    let config = load(
        "srt_server { enabled on; listen 1 2; peer_idle_timeout 3; connect_timeout 4; default_app a; default_mode publish;
            default_streamid a/b; recvlatency 5; peerlatency 6; passphrase 0123456789; pbkeylen 24; maxbw 1000000000;
            tlpktdrop off; sendbuf 50000; recvbuf 60000; }
        vhost v { srt { enabled on; srt_to_rtmp on; } }",
    );
    let ms = Duration::from_millis;
    let expected = SrtServer {
        enabled: true,
        listen: vec!["1".parse().unwrap(), "2".parse().unwrap()],
        peer_idle_timeout: ms(3),
        connect_timeout: ms(4),
        defaults: Defaults { app: "a".into(), stream_id: "a/b".into(), mode: Mode::Publish },
        recv_latency: ms(5),
        peer_latency: ms(6),
        passphrase: "0123456789".into(),
        key_size: 24,
        bandwidth: Bandwidth::Most(1_000_000_000),
        too_late_drop: false,
        send_buffer: 50_000,
        recv_buffer: 60_000,
    };
    assert_eq!(config.srt_server, expected);
    assert!(config.vhosts[0].srt_enabled);
    assert_eq!((config.accepted, config.warnings), (vec![], vec![]));
    let config = load("srt_server { maxbw 0; latency 200; tlpkdrop off; } vhost v { }").srt_server;
    let [recv_latency, peer_latency] = [ms(200); 2];
    let bandwidth = Bandwidth::Measured;
    assert_eq!(config, SrtServer { bandwidth, recv_latency, peer_latency, too_late_drop: false, ..srt_server() });
    for (text, error) in [
        ("maxbw -2;", "maxbw -2: expecting number (B/s, -1 for any, 0 for what is sent and a quarter)"),
        ("pbkeylen 17;", "pbkeylen 17: expecting one of 0, 16, 24, 32"),
        ("default_mode both;", "default_mode both: expecting one of publish, request"),
        ("sendbuf 0;", "sendbuf 0: expecting number from 47104 to 2147483647 bytes"),
    ] {
        assert_eq!(refusal(&format!("srt_server {{ {text} }}")), format!("t.conf:1:14: srt_server.{error}"));
    }
}

fn rtc_server() -> RtcServer {
    RtcServer {
        enabled: false,
        listen: vec!["8000".parse().unwrap()],
        candidate: "*".into(),
        auto_detect: true,
        ip_family: IpFamily::V4,
        api_as_candidates: true,
        resolve_api_domain: true,
        keep_api_domain: false,
    }
}

#[test]
fn rtc_is_set_by_its_block() {
    assert_eq!(load("vhost v { }").rtc_server, rtc_server());
    let config = load(
        "rtc_server { enabled on; listen 1 [::]:2; candidate 203.0.113.1; use_auto_detect_network_ip off; ip_family all;
            api_as_candidates off; resolve_api_domain off; keep_api_domain on; protocol udp; ecdsa on; encrypt on;
            merge_nalus off; tcp { enabled off; } black_hole { enabled off; } }
        vhost v { rtc { nack on; nack_no_copy on; twcc on; stun_strict_check off; dtls_role passive; dtls_version auto;
            drop_for_pt 0; } }",
    );
    let expected = RtcServer {
        enabled: true,
        listen: vec!["1".parse().unwrap(), "[::]:2".parse().unwrap()],
        candidate: "203.0.113.1".into(),
        auto_detect: false,
        ip_family: IpFamily::All,
        api_as_candidates: false,
        resolve_api_domain: false,
        keep_api_domain: true,
    };
    assert_eq!(config.rtc_server, expected);
    assert_eq!((config.accepted, config.warnings), (vec![], vec![]));
    for (text, error) in [
        ("rtc_server { ip_family v5; }", "1:14: rtc_server.ip_family v5: expecting one of ipv4, ipv6, all"),
        ("vhost v { rtc { stun_timeout 0; } }", "1:17: vhost.rtc.stun_timeout 0: expecting number from 1 to 3600 s"),
        ("vhost v { rtc { pli_for_rtmp x; } }", "1:17: vhost.rtc.pli_for_rtmp x: expecting decimal number (s)"),
    ] {
        assert_eq!(refusal(text), format!("t.conf:{error}"));
    }
    let env = Env::default();
    let built_in = Config::built_in(&env).unwrap();
    assert_eq!(built_in.rtc_server, RtcServer { enabled: true, ..rtc_server() });
    let pli_for_rtmp = Duration::from_secs(2);
    let both_ways = Rtc { enabled: true, rtmp_to_rtc: true, rtc_to_rtmp: true, pli_for_rtmp, ..rtc() };
    assert_eq!(built_in.vhosts[0].rtc, both_ways);
}

#[test]
fn candidate_may_stand_in_another_variable() {
    let file = "rtc_server { candidate $CANDIDATE; } vhost v { }";
    let name = "SRS_RTC_SERVER_CANDIDATE";
    for (text, env, candidate) in [
        (file, &[][..], "*"),
        (file, &[("CANDIDATE", "")], "*"),
        (file, &[("CANDIDATE", "10.0.0.1")], "10.0.0.1"),
        (file, &[("CANDIDATE", "10.0.0.1"), (name, "10.0.0.2")], "10.0.0.2"),
        (file, &[("CANDIDATE", "10.0.0.1"), (name, "$OTHER"), ("OTHER", "10.0.0.3")], "10.0.0.3"),
        ("vhost v { }", &[(name, "$OTHER")], "*"),
        ("rtc_server { candidate $; } vhost v { }", &[], "*"),
    ] {
        assert_eq!(load_with(text, env).unwrap().rtc_server.candidate, candidate, "{text} {env:?}");
    }
}

#[test]
fn stock_files_of_srs_for_rtc_and_srt_load_without_a_warning() {
    let head = "listen 1935; max_connections 1000; daemon off; srs_log_tank console;
        http_server { enabled on; listen 8080; dir ./objs/nginx/html; }
        http_api { enabled on; listen 1985; }
        stats { network 0; }
        rtc_server {
            enabled on;
            listen 8000; # UDP port
            # @see the documentation
            candidate $CANDIDATE;
        }";
    let remux = "http_remux { enabled on; mount [vhost]/[app]/[stream].flv; }";
    let rtc = |rtmp_to_rtc, rtc_to_rtmp| {
        format!("rtc {{ enabled on; rtmp_to_rtc {rtmp_to_rtc}; rtc_to_rtmp {rtc_to_rtmp}; }}")
    };
    let srt = "srt_server { enabled on; listen 10080; maxbw 1000000000; connect_timeout 4000; peerlatency 0;
        recvlatency 0; latency 0; tlpktdrop off; sendbuf 2000000; recvbuf 2000000; }";
    for (name, text) in [
        ("rtc.conf", format!("{head} vhost __defaultVhost__ {{ {} {remux} }}", rtc("off", "off"))),
        ("rtmp2rtc.conf", format!("{head} vhost __defaultVhost__ {{ {} {remux} }}", rtc("on", "off"))),
        (
            "rtc2rtmp.conf",
            format!("{head} vhost __defaultVhost__ {{ {} {remux} min_latency on; tcp_nodelay on; }}", rtc("on", "on")),
        ),
        (
            "srt2rtc.conf",
            format!(
                "{head} {srt} vhost __defaultVhost__ {{ srt {{ enabled on; srt_to_rtmp on; }} {} {remux}
                play {{ gop_cache off; queue_length 10; mw_latency 100; }} }}",
                rtc("on", "off")
            ),
        ),
        (
            "docker.conf",
            format!(
                "{head} vhost __defaultVhost__ {{ hls {{ enabled on; }} {remux} {} play{{ gop_cache_max_frames 2500; }} }}",
                rtc("on", "on")
            ),
        ),
    ] {
        let config = load(&text);
        assert_eq!(config.warnings, [""; 0], "{name}");
        assert_eq!(config.rtc_server, RtcServer { enabled: true, ..rtc_server() }, "{name}");
        assert!(config.vhosts[0].rtc.enabled, "{name}");
        assert_eq!(
            (config.srt_server.enabled, config.vhosts[0].srt_enabled),
            (name == "srt2rtc.conf", name == "srt2rtc.conf")
        );
    }
}

#[test]
fn tls_needs_its_plain_port_and_pairs() {
    let config = load(
        "http_server { enabled on; listen 80; https { enabled on; listen 443; } }
        http_api { enabled on; listen 80; https { enabled on; } }",
    );
    assert_eq!(shown(&config.http_api.https.listen), "0.0.0.0:443", "the API shares both ports");
    let config = load("http_api { https { enabled on; } }");
    assert!(!config.http_api.https.enabled);
    assert!(config.warnings[0].contains("http_api.https needs what it stands in enabled"), "{:?}", config.warnings);
    assert!(
        refusal("rtmps { enabled on; cert /a; cert /b; key /c; }").contains("rtmps.cert /a: expecting a key for each")
    );
    let env = [("SRS_RTMPS_ENABLED", "on"), ("SRS_RTMPS_CERT", "/a /b"), ("SRS_RTMPS_KEY", "/c /d")];
    let rtmps = load_with("listen 1;", &env).unwrap().rtmps;
    let pair = |cert: &str, key: &str| Pair { cert: cert.into(), key: key.into() };
    assert_eq!((rtmps.enabled, rtmps.pairs), (true, vec![pair("/a", "/c"), pair("/b", "/d")]));
}
