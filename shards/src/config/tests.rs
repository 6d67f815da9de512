//! Whole files and environments, through `Config::load` and `Config::built_in`.

use super::{
    directives::{self, Kind, Row, Section, Status, dotted},
    *,
};
use crate::access::{Deed, Refer, Security, judge};
use crate::net::certificates::Pair;
use shardcast_engine::time::Timestamp;
use shardcast_protocols::{
    hls::{self, Names, Template},
    session::Verdict,
    srt::{
        Bandwidth,
        stream_id::{Defaults, Mode},
    },
};
use std::time::Duration;

fn load_with(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.conf");
    std::fs::write(&path, text).unwrap();
    let shown = path.display().to_string();
    Config::load(&path, &env.iter().copied().collect()).map_err(|e| e.to_string().replace(&shown, "t.conf"))
}

fn load(text: &str) -> Config {
    load_with(text, &[]).unwrap()
}

fn refusal(text: &str) -> String {
    load_with(text, &[]).expect_err(text)
}

fn shown(listens: &[Listen]) -> String {
    listens.iter().map(Listen::to_string).collect::<Vec<_>>().join(" ")
}

/// `name` with plausible arguments, as it would stand in a file.
fn line(section: &Section, row: &Row) -> String {
    let name = row.name;
    match row.kind {
        Kind::Block => {
            let path = dotted(section.path, name);
            format!("{name} name {{\n{}}}\n", body(directives::find(&path).unwrap()))
        }
        Kind::Free => format!("{name} {{ any thing; }}\n"),
        Kind::Bool | Kind::BoolOn if matches!(name, "is_full" | "asprocess") => format!("{name} off;\n"),
        Kind::Bool | Kind::BoolOn => format!("{name} on;\n"),
        Kind::Number(_, max, _) => format!("{name} {max};\n"),
        Kind::Int(_) => format!("{name} 7;\n"),
        Kind::Float(_) => format!("{name} 1.5;\n"),
        Kind::OneOf(names) => format!("{name} {};\n", names.split(", ").next().unwrap()),
        Kind::Endpoints => format!("{name} 1234 [::]:1235;\n"),
        Kind::Rule => format!("{name} play 10.0.0.0/8;\n"),
        _ => format!("{name} word;\n"),
    }
}

fn body(section: &Section) -> String {
    section.rows.iter().map(|row| line(section, row)).collect()
}

/// A line inside the blocks of a dotted path.
fn inside(path: &str, line: &str) -> String {
    path.rsplit('.').filter(|name| !name.is_empty()).fold(line.into(), |text, name| {
        let arg = if name == "vhost" { " v.io" } else { "" };
        format!("{name}{arg} {{\n{text} }}\n")
    })
}

#[test]
fn a_file_with_every_directive_is_accepted_and_tells_what_does_not_act() {
    let config = load(&body(directives::find("").unwrap()));
    let silent = |row: &Row| row.status == Status::Accepted && row.kind != Kind::Block;
    let mut expected: Vec<_> =
        directives::all().filter(|(_, row)| silent(row)).map(|(section, row)| dotted(section.path, row.name)).collect();
    let mut accepted = config.accepted;
    expected.sort();
    accepted.sort();
    assert_eq!(accepted, expected);
    assert!(accepted.contains(&"utc_time".into()) && accepted.contains(&"vhost.dash.enabled".into()));
    assert_eq!(config.chunk_size, 16_777_215);
}

#[test]
fn unknown_names_are_refused_in_every_block_that_srs_checks() {
    for section in table::SECTIONS {
        let path = section.path;
        let text = inside(path, "foo_bar 1;");
        if !section.checked {
            let config = load(&text);
            assert!(config.warnings.iter().any(|w| w.ends_with(&format!("{path}.foo_bar is unknown and ignored"))));
            continue;
        }
        let depth = path.split('.').filter(|name| !name.is_empty()).count();
        let what = match path {
            "" => "directive foo_bar".into(),
            _ if path.starts_with("vhost") => format!("{path}.foo_bar of v.io"),
            _ => format!("{path}.foo_bar"),
        };
        assert_eq!(refusal(&text), format!("t.conf:{}:1: illegal {what}", depth + 1));
    }
}

#[test]
fn what_srs_refuses_is_refused() {
    for (text, error) in [
        ("", "t.conf: conf is empty"),
        ("# nothing", "t.conf: conf is empty"),
        ("worker_processes 1;", "t.conf:1:1: illegal directive worker_processes"),
        (
            "listen 1935;\nis_full on;",
            "t.conf:2:1: is_full marks a file that only documents; write one with what you need",
        ),
        ("vhost v { http_remux { } http_remux { } }", "t.conf:1:26: v has more than one http_remux"),
        ("vhost { }", "t.conf:1:1: a vhost needs a name"),
        ("http_server on;", "t.conf:1:1: http_server is a block, expecting { }"),
        ("listen 1935 { }", "t.conf:1:1: listen is not a block, expecting ;"),
        ("listen 1935", "t.conf:1:12: unexpected end of file, expecting ; or \"}\""),
    ] {
        assert_eq!(refusal(text), error, "{text}");
    }
}

#[test]
fn values_out_of_range_are_refused_with_what_was_expected() {
    let endpoint = "expecting port, ip:port or [ipv6]:port, with a port from 1 to 65535";
    let level = "expecting one of verbose, info, trace, warn, error, off";
    for (text, error) in [
        ("max_connections 0;", "t.conf:1:1: max_connections 0: expecting number from 1 to 10000000".into()),
        ("max_connections many;", "t.conf:1:1: max_connections many: expecting number from 1 to 10000000".into()),
        ("shards 1025;", "t.conf:1:1: shards 1025: expecting number from 1 to 1024".into()),
        ("listen 1935 0;", format!("t.conf:1:1: listen 0: {endpoint}")),
        ("rtmp { listen h:1; }", format!("t.conf:1:8: rtmp.listen h:1: {endpoint}")),
        ("http_api { listen x; }", format!("t.conf:1:12: http_api.listen x: {endpoint}")),
        ("srs_log_level loud;", format!("t.conf:1:1: srs_log_level loud: {level}")),
        (
            "vhost v { play { queue_length -1; } }",
            "t.conf:1:18: vhost.play.queue_length -1: expecting number from 1 to 3600 s".into(),
        ),
        ("chunk_size 0;", "t.conf:1:1: chunk_size 0: expecting number from 1 to 16777215 bytes".into()),
    ] {
        assert_eq!(refusal(text), error, "{text}");
    }
    let many = (1..=65).map(|port| port.to_string()).collect::<Vec<_>>().join(" ");
    assert!(refusal(&format!("listen {many};")).ends_with("expecting at most 64 endpoints"));
    let error = load_with("listen 1;", &[("SRS_MAX_CONNECTIONS", "0")]).unwrap_err();
    assert_eq!(error, "SRS_MAX_CONNECTIONS: max_connections 0: expecting number from 1 to 10000000");
}

/// As it stands where a vhost says nothing of it.
fn hls() -> Hls {
    Hls {
        enabled: false,
        settings: hls::Settings {
            fragment: Timestamp::from_ms(10_000),
            overflow: Timestamp::from_ms(21_000),
            window: Timestamp::from_ms(60_000),
            wait_keyframe: true,
            bytes: 64 << 20,
        },
        names: Names {
            playlist: Template::of_playlist("[app]/[stream].m3u8").unwrap(),
            segment: Template::of_segment("[app]/[stream]-[seq].ts").unwrap(),
            entry_prefix: String::new(),
        },
        fragment: Duration::from_secs(10),
        window: Duration::from_secs(60),
        folder: None,
        cleanup: true,
        dispose: Duration::from_secs(120),
        ctx: true,
        ts_ctx: true,
        relative_master: false,
    }
}

fn rtc() -> Rtc {
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

#[test]
fn templates_that_cannot_tell_segments_apart_give_way_to_the_default() {
    let config = load("vhost v { hls { hls_ts_file [app]/[stream].ts; } }");
    assert_eq!(config.vhosts[0].hls.names, hls().names);
    assert_eq!(config.warnings, ["vhost v: hls_ts_file: [seq] is missing; the default is used"]);
    let error = refusal("vhost v { hls { hls_fragment long; } }");
    assert_eq!(error, "t.conf:1:17: vhost.hls.hls_fragment long: expecting decimal number (s)");
}

#[test]
fn defaults_are_those_of_srs_but_for_the_documented_ones() {
    let config = load("vhost v.io { }");
    assert_eq!((config.shards, config.max_connections, config.chunk_size), (None, None, 60_000));
    assert_eq!(shown(&config.rtmp_listen), "0.0.0.0:1935");
    let http = &config.http_server;
    assert_eq!((http.enabled, shown(&http.listen).as_str(), http.crossdomain), (false, "0.0.0.0:8080", true));
    assert_eq!(http.dir, std::path::Path::new("./objs/nginx/html"));
    let api = &config.http_api;
    assert_eq!((api.enabled, shown(&api.listen).as_str(), api.crossdomain), (false, "0.0.0.0:1985", true));
    assert_eq!(config.log, Log { tank: Tank::File, level: Level::Info, file: "./objs/srs.log".into(), json: false });
    let ms = Duration::from_millis;
    assert_eq!(
        config.vhosts,
        [Vhost {
            name: "v.io".into(),
            enabled: true,
            chunk_size: 60_000,
            tcp_nodelay: false,
            min_latency: false,
            gop_cache: true,
            gop_cache_max_frames: 2500,
            queue_length: ms(10_000),
            mw_latency: ms(350),
            mw_adaptive: true,
            first_packet_timeout: ms(20_000),
            normal_timeout: ms(5_000),
            republish_grace: Duration::ZERO,
            hooks: hooks(),
            refer: Refer::default(),
            security: Security::default(),
            srt_enabled: false,
            rtc: rtc(),
            http_remux: HttpRemux { enabled: false, mount: "[vhost]/[app]/[stream].flv".into() },
            hls: hls(),
            dvr: Dvr {
                enabled: false,
                apply: vec!["all".into()],
                plan: DvrPlan::Session,
                path: "./objs/nginx/html/[app]/[stream].[timestamp].flv".into(),
                duration: ms(30_000),
                wait_keyframe: true,
            },
        }]
    );
    assert_eq!((config.accepted, config.warnings), (vec![], vec![]));
}

#[test]
fn a_file_sets_everything_that_acts() {
    let config = load(
        "listen 1935 [::]:19350; max_connections 77; shards 3; chunk_size 4096;
        srs_log_tank console; srs_log_level info; srs_log_file /var/x.log;
        http_server { enabled on; listen 127.0.0.1:80; dir /srv; crossdomain off;
            https { enabled on; listen 443; cert /a.crt; key /a.key; cert /b.crt; key /b.key; } }
        http_api { enabled on; listen 81 82; crossdomain off; raw_api { enabled on; allow_reload on; }
            auth { enabled on; type bearer; token t; rtc_bearer_enabled on; } }
        stats { enabled off; disk sda sdb; }
        rtmps { enabled on; listen 1444; cert /c.crt; key /c.key; }
        vhost v.io { enabled off; chunk_size 128; tcp_nodelay on; min_latency on;
            play { gop_cache off; gop_cache_max_frames 9; queue_length 8; mw_latency 7; }
            publish { firstpkt_timeout 6; normal_timeout 5; republish_grace 4; }
            http_remux { enabled on; mount /[app]/[stream].flv; }
            hls { enabled on; hls_fragment 2; hls_td_ratio 1.5; hls_aof_ratio 3; hls_window 9.5; hls_path /srv/hls;
                hls_m3u8_file [stream].m3u8; hls_ts_file [stream]/[seq].ts; hls_entry_prefix http://cdn;
                hls_cleanup off; hls_dispose 4; hls_wait_keyframe off; hls_ctx off; hls_ts_ctx off;
                hls_master_m3u8_path_relative on; }
            dvr { enabled on; dvr_apply live/a live/b; dvr_plan segment; dvr_path /d/[stream].mp4; dvr_duration 4;
                dvr_wait_keyframe off; }
            rtc { enabled on; stun_timeout 9; keep_bframe on; keep_avc_nalu_sei off; pli_for_rtmp 0.5;
                rtmp_to_rtc on; rtc_to_rtmp on; opus_bitrate 96000; aac_bitrate 128000; } }",
    );
    assert_eq!(shown(&config.rtmp_listen), "0.0.0.0:1935 [::]:19350");
    assert_eq!((config.shards, config.max_connections, config.chunk_size), (Some(3), Some(77), 4096));
    assert_eq!(config.log, Log { tank: Tank::Console, level: Level::Debug, file: "/var/x.log".into(), json: false });
    let listen = |text: &str| text.split(' ').map(|word| word.parse().unwrap()).collect();
    let pair = |name: &str| Pair { cert: format!("{name}.crt").into(), key: format!("{name}.key").into() };
    let tls = |ports, names: &[&str]| Tls {
        enabled: true,
        listen: listen(ports),
        pairs: names.iter().map(|name| pair(name)).collect(),
    };
    let https = tls("443", &["/a", "/b"]);
    let http =
        HttpServer { enabled: true, listen: listen("127.0.0.1:80"), dir: "/srv".into(), crossdomain: false, https };
    assert_eq!(config.rtmps, tls("1444", &["/c"]));
    assert_eq!(config.http_server, http);
    assert_eq!(config.stats, Stats { enabled: false, network: 0, disks: vec!["sda".into(), "sdb".into()] });
    let https = Tls { enabled: false, ..tls("1990", &["./conf/server"]) };
    let api = HttpApi {
        enabled: true,
        listen: listen("81 82"),
        crossdomain: false,
        https,
        raw_api: RawApi { enabled: true, allow_reload: true },
        auth: Some(Auth::Bearer { token: "t".into(), rtc: true }),
    };
    assert_eq!(config.http_api, api);
    let ms = Duration::from_millis;
    assert_eq!(
        config.vhosts,
        [Vhost {
            name: "v.io".into(),
            enabled: false,
            chunk_size: 128,
            tcp_nodelay: true,
            min_latency: true,
            gop_cache: false,
            gop_cache_max_frames: 9,
            queue_length: ms(8_000),
            mw_latency: ms(7),
            mw_adaptive: false,
            first_packet_timeout: ms(6),
            normal_timeout: ms(5),
            republish_grace: ms(4),
            hooks: hooks(),
            refer: Refer::default(),
            security: Security::default(),
            srt_enabled: false,
            rtc: Rtc {
                enabled: true,
                stun_timeout: ms(9_000),
                keep_bframe: true,
                keep_avc_nalu_sei: false,
                pli_for_rtmp: ms(500),
                rtmp_to_rtc: true,
                rtc_to_rtmp: true,
                opus_bitrate: 96_000,
                aac_bitrate: 128_000,
            },
            http_remux: HttpRemux { enabled: true, mount: "/[app]/[stream].flv".into() },
            hls: Hls {
                enabled: true,
                settings: hls::Settings {
                    fragment: Timestamp::from_ms(3_000),
                    overflow: Timestamp::from_ms(6_000),
                    window: Timestamp::from_ms(9_500),
                    wait_keyframe: false,
                    ..hls().settings
                },
                names: Names {
                    playlist: Template::of_playlist("[stream].m3u8").unwrap(),
                    segment: Template::of_segment("[stream]/[seq].ts").unwrap(),
                    entry_prefix: "http://cdn".into(),
                },
                fragment: ms(2_000),
                window: ms(9_500),
                folder: Some("/srv/hls".into()),
                cleanup: false,
                dispose: ms(4_000),
                ctx: false,
                ts_ctx: false,
                relative_master: true,
            },
            dvr: Dvr {
                enabled: true,
                apply: vec!["live/a".into(), "live/b".into()],
                plan: DvrPlan::Segment,
                path: "/d/[stream].mp4".into(),
                duration: ms(4_000),
                wait_keyframe: false,
            },
        }]
    );
    assert_eq!((config.accepted, config.warnings), (vec![], vec![]));
}

#[test]
fn authentication_that_keeps_nobody_out_ends_the_start() {
    let auth = |inner: &str| format!("http_api {{ auth {{ enabled on; {inner} }} }}");
    for (inner, error) in [
        ("", "SRS_HTTP_API_AUTH_USERNAME: http_api.auth.username is not set: expecting a name without a colon"),
        (
            "username a;",
            "SRS_HTTP_API_AUTH_PASSWORD: http_api.auth.password is not set: expecting a password without a colon",
        ),
        ("username a; password b:c;", "t.conf:1:43: http_api.auth.password b:c: expecting a password without a colon"),
        ("type bearer;", "SRS_HTTP_API_AUTH_TOKEN: http_api.auth.token is not set: expecting a token"),
        ("type digest;", "t.conf:1:31: http_api.auth.type digest: expecting one of basic, bearer"),
    ] {
        assert_eq!(refusal(&auth(inner)), error);
    }
    // As before SRS 8, which wants a type.
    let basic = Auth::Basic { username: "a".into(), password: "b".into() };
    assert_eq!(load(&auth("username a; password b;")).http_api.auth, Some(basic));
    assert_eq!(load("http_api { auth { username a; } }").http_api.auth, None);
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

/// The warnings, without the path of the file.
fn remarks(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    let warnings = load_with(text, env).unwrap().warnings;
    warnings
        .iter()
        .map(|warning| warning.rsplit_once("t.conf:").map_or(warning.as_str(), |(_, it)| it).into())
        .collect()
}

#[test]
fn what_is_always_so_is_remarked_upon_only_where_it_is_wanted_otherwise() {
    for (text, remark) in [
        ("rtc_server { protocol tcp; }", "1:14: rtc_server.protocol tcp: not supported, it is always udp"),
        ("rtc_server { encrypt off; }", "1:14: rtc_server.encrypt off: not supported, it is always on"),
        ("rtc_server { tcp { enabled on; } }", "1:20: rtc_server.tcp.enabled on: not supported, it is always off"),
        (
            "rtc_server { black_hole { enabled on; } }",
            "1:27: rtc_server.black_hole.enabled on: not supported, it is always off",
        ),
        ("srt_server { tsbpdmode off; }", "1:14: srt_server.tsbpdmode off: not supported, it is always on"),
        ("srt_server { mss 1400; }", "1:14: srt_server.mss 1400: not supported, it is always 1500"),
    ] {
        let text = format!("{text} vhost v {{ }}");
        assert_eq!((load(&text).accepted, remarks(&text, &[])), (vec![], vec![remark.into()]));
    }
    let vhost = "vhost v { srt { srt_to_rtmp off; } rtc { nack true; twcc off; } }";
    assert_eq!(
        remarks(vhost, &[("SRS_RTC_SERVER_ENCRYPT", "off"), ("SRS_RTC_SERVER_ECDSA", "on")]),
        [
            "1:17: vhost.srt.srt_to_rtmp off: not supported, it is always on",
            "1:53: vhost.rtc.twcc off: not supported, it is always on",
            "SRS_RTC_SERVER_ENCRYPT: rtc_server.encrypt off: not supported, it is always on",
        ]
    );
    assert_eq!(
        remarks("vhost v { rtc { pli_for_rtmp 31; } }", &[]),
        ["vhost v: pli_for_rtmp 31: not from 0.5 to 30 s, 6.0 is used"]
    );
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

/// Of a vhost that has none.
fn hooks() -> Hooks {
    load("vhost v { }").vhosts[0].hooks.clone()
}

#[test]
fn hooks_have_their_urls_in_order_and_are_warned_about_where_they_cannot_act() {
    let text =
        "vhost v { http_hooks { enabled on; on_publish http://a/1 http://b/2; on_play https://c/; on_stop ftp://c/; on_hls http://d/; }
        hls { enabled on; hls_nb_notify 7; hls_ctx off; } }";
    let Vhost { hooks, hls, .. } = &load(text).vhosts[0];
    assert_eq!(hooks.urls("on_publish"), ["http://a/1", "http://b/2"]);
    assert_eq!((hooks.urls("on_close"), hooks.notify_bytes), (&[][..], 7));
    assert_eq!(hls.folder.as_deref(), Some(std::path::Path::new("./objs/nginx/html")), "its files are told of");
    assert_eq!(
        remarks(text, &[]),
        [
            "vhost v: on_stop ftp://c/: only http and https are called, this fails",
            "vhost v: without hls_ctx on_play is NOT ASKED about viewers by HLS"
        ]
    );
    let off = load(&text.replace("hooks { enabled on;", "hooks { enabled off;"));
    assert!(off.vhosts[0].hooks.urls("on_publish").is_empty() && off.warnings.is_empty());
}

#[test]
fn access_rules_are_read_and_judge() {
    let config = load(
        "vhost v { refer a.io b.io; security { enabled on; allow play all; deny play 10.0.0.0/8; allow publish ::1; } }",
    );
    let vhost = &config.vhosts[0];
    assert!(vhost.refer.enabled && vhost.refer.all == ["a.io", "b.io"]);
    let judged = |deed, ip: &str, page| judge(vhost, deed, ip.parse().unwrap(), Some(page)) == Verdict::Allowed;
    assert!(judged(Deed::Play, "9.9.9.9", "http://a.io/") && judged(Deed::Publish, "::1", "http://b.io/"));
    assert!(!judged(Deed::Play, "::ffff:10.1.1.1", "http://a.io/"), "an IPv4 address in an IPv6 one");
    assert!(!judged(Deed::Publish, "::2", "http://a.io/") && !judged(Deed::Play, "9.9.9.9", "http://c.io/"));
    let expected = "expecting `publish` or `play`, then `all`, an address or a network";
    for words in ["deny play 10.0.0.0/33", "allow play", "deny all"] {
        let refused = refusal(&format!("vhost v {{ security {{ {words}; }} }}"));
        assert!(refused.starts_with("t.conf:1:22: vhost.security.") && refused.ends_with(expected), "{refused}");
    }
}

#[test]
fn rtmp_block_wins_over_the_older_place() {
    let config = load("listen 1; chunk_size 1000; rtmp { listen 2; } vhost v { }");
    assert_eq!((shown(&config.rtmp_listen).as_str(), config.chunk_size), ("0.0.0.0:2", 1000));
    let config = load("chunk_size 1000; rtmp { chunk_size 2000; } vhost v { } vhost w { chunk_size 300; }");
    assert_eq!((config.vhosts[0].chunk_size, config.vhosts[1].chunk_size), (2000, 300));
}

#[test]
fn variables_win_over_the_file_and_over_the_built_in() {
    let env = [
        ("SRS_LISTEN", "1 [::1]:2"),
        ("SRS_MAX_CONNECTIONS", "5"),
        ("SHARDCAST_SHARDS", "2"),
        ("SRS_HTTP_SERVER_LISTEN", "8"),
        ("SRS_HTTP_SERVER_ENABLED", "off"),
        ("SRS_HTTP_API_ENABLED", "on"),
        ("SRS_VHOST_PLAY_GOP_CACHE", "off"),
        ("SRS_VHOST_PLAY_QUEUE_LENGTH", ""),
        ("SRS_LOG_LEVEL", "warn"),
        ("SRS_LOG_FILE", "/x"),
        ("SRS_VHOST_DASH_ENABLED", "on"),
        ("SRS_DAEMON", "off"),
        ("SRS_SERVICE_HOST", "10.0.0.1"),
    ];
    let text = "listen 9; rtmp { listen 10; } max_connections 9; shards 9; http_server { enabled on; }
        srs_log_level error; daemon on;
        vhost a { play { gop_cache on; } } vhost b { }";
    let loaded = load_with(text, &env).unwrap();
    assert_eq!(loaded.accepted, ["vhost.dash.enabled"]);
    assert!(!loaded.process.daemon);
    let built_in = Config::built_in(&env.into_iter().collect()).unwrap();
    for config in [&loaded, &built_in] {
        assert_eq!(shown(&config.rtmp_listen), "0.0.0.0:1 [::1]:2");
        assert_eq!((config.max_connections, config.shards), (Some(5), Some(2)));
        assert_eq!((config.http_server.enabled, shown(&config.http_server.listen).as_str()), (false, "0.0.0.0:8"));
        assert_eq!((config.log.level, config.log.file.to_str()), (Level::Warn, Some("/x")));
        assert!(config.http_api.enabled);
        assert!(config.vhosts.iter().all(|v| !v.gop_cache && v.queue_length.as_secs() == 10));
    }

    // The stronger of two names, and the two chunk sizes.
    let env =
        [("SRS_LISTEN", "1"), ("SRS_RTMP_LISTEN", "2"), ("SRS_SRS_LOG_TANK", "console"), ("SRS_LOG_TANK", "file")];
    let config = load_with("listen 9;", &env).unwrap();
    assert_eq!((shown(&config.rtmp_listen).as_str(), config.log.tank), ("0.0.0.0:2", Tank::Console));
    let text = "chunk_size 1000; vhost a { chunk_size 2000; } vhost b { }";
    for (variable, sizes) in [("SRS_CHUNK_SIZE", (500, 2000, 500)), ("SRS_VHOST_CHUNK_SIZE", (500, 500, 500))] {
        let config = load_with(text, &[(variable, "500")]).unwrap();
        assert_eq!((config.chunk_size, config.vhosts[0].chunk_size, config.vhosts[1].chunk_size), sizes, "{variable}");
    }
}

#[test]
fn every_variable_of_what_acts_has_an_effect() {
    for (section, row) in directives::all().filter(|(_, row)| row.status == Status::Acts) {
        let (one, other) = match row.kind {
            Kind::Bool | Kind::BoolOn => ("on".into(), "off".into()),
            Kind::Number(min, max, _) => (min.to_string(), max.to_string()),
            Kind::Endpoints => ("7".into(), "8".into()),
            Kind::OneOf(names) => {
                let mut names = names.split(", ").map(String::from);
                (names.next().unwrap(), names.next().unwrap())
            }
            Kind::Int(_) => ("7".into(), "8".into()),
            Kind::Float(_) => ("1.5".into(), "2".into()),
            Kind::Template => ("[stream]x[seq]".into(), "[stream]y[seq]".into()),
            _ => ("x".into(), "y".into()),
        };
        for variable in row.env_names(section) {
            // Authentication is whole, or ends the start.
            let kind = if matches!(row.name, "token" | "rtc_bearer_enabled") { "bearer" } else { "basic" };
            let whole = [("ENABLED", "on"), ("TYPE", kind), ("USERNAME", "u"), ("PASSWORD", "p"), ("TOKEN", "t")];
            let block = section.path.to_uppercase().replace('.', "_");
            let company = whole.map(|(name, value)| (format!("SRS_{block}_{name}"), value.to_owned()));
            let company = company.into_iter().filter(|_| section.path.ends_with(".auth"));
            // Of these, what they are about must be there too.
            let about = variable.ends_with("_FOR_DOCKER").then_some(["SRS_IN_DOCKER", "SRS_DAEMON"]);
            let about = about.into_iter().flatten().map(|name| (name.to_owned(), "on".to_owned()));
            let company: Vec<_> = company.chain(about).collect();
            let config = |value: String| {
                let env = company.iter().cloned().chain([(variable.clone(), value)]).collect();
                Config::built_in(&env).unwrap()
            };
            let (one, other) = (config(one.clone()), config(other.clone()));
            assert_ne!(Config { warnings: vec![], ..one }, Config { warnings: vec![], ..other }, "{variable}");
        }
    }
}

#[test]
fn without_a_file_the_default_vhost_is_served() {
    let config = Config::built_in(&Env::default()).unwrap();
    assert_eq!((&config.source, shown(&config.rtmp_listen).as_str()), (&Source::BuiltIn, "0.0.0.0:1935"));
    assert!(config.http_server.enabled && config.http_api.enabled && config.log.tank == Tank::Console);
    assert!(config.vhost("any.host").is_some_and(|vhost| vhost.http_remux.enabled));
    assert_eq!((config.accepted, config.warnings), (vec![], vec![]));
}

#[test]
fn a_vhost_is_looked_up_by_name_then_default() {
    let config = load("vhost a { } vhost off { enabled off; } vhost __defaultVhost__ { }");
    let name = |host| config.vhost(host).map(|vhost| vhost.name.as_str());
    assert_eq!(name("a"), Some("a"));
    assert_eq!(name("b"), Some("__defaultVhost__"));
    assert_eq!(name("off"), None);
    let config = load("vhost a { }");
    assert_eq!(config.vhost("b"), None);
    let config = load("vhost __defaultVhost__ { enabled off; }");
    assert_eq!(config.vhost("b"), None);
}

#[test]
fn flags_are_read_as_srs_reads_them() {
    for (word, bool_is_on, pref_true_is_on) in
        [("on", true, true), ("off", false, false), ("true", false, true), ("1", false, true), ("\"\"", false, true)]
    {
        let config = load(&format!("vhost v {{ tcp_nodelay {word}; enabled {word}; }}"));
        let vhost = &config.vhosts[0];
        assert_eq!((vhost.tcp_nodelay, vhost.enabled), (bool_is_on, pref_true_is_on), "{word}");
        assert_eq!(config.warnings.len(), if matches!(word, "true" | "1") { 2 } else { 0 }, "{word}");
    }
}

#[test]
fn latency_is_small_when_asked_for() {
    for (text, ms) in [("", 350), ("min_latency on;", 0), ("min_latency on; play { mw_latency 100; }", 100)] {
        let config = load(&format!("vhost v {{ {text} }}"));
        assert_eq!(config.vhosts[0].mw_latency, Duration::from_millis(ms), "{text}");
    }
}

#[test]
fn a_window_adapts_unless_its_length_is_set() {
    for (text, adapts) in
        [("", true), ("mw_latency 350;", false), ("mw_latency 350; mw_adaptive on;", true), ("mw_adaptive off;", false)]
    {
        let config = load(&format!("vhost v {{ play {{ {text} }} }}"));
        assert_eq!(config.vhosts[0].mw_adaptive, adapts, "{text}");
    }
}

#[test]
fn a_server_is_full_by_lateness_unless_that_is_off() {
    let breaker = |text: &str| load(&format!("circuit_breaker {{ {text} }} vhost v {{}}")).circuit_breaker;
    let of = |ms, [http, rtmp]: [Option<&str>; 2]| CircuitBreaker {
        late_threshold: Option::map(ms, Duration::from_millis),
        redirect_http: http.map(str::to_owned),
        redirect_rtmp: rtmp.map(str::to_owned),
    };
    assert_eq!(breaker(""), of(Some(100), [None; 2]));
    let http = Some("http://other:80");
    assert_eq!(breaker("late_threshold 7; redirect http://other:80/;"), of(Some(7), [http, None]));
    let both = "redirect rtmp://other http://other:80/;";
    assert_eq!(breaker(both), of(Some(100), [http, Some("rtmp://other")]));
    assert_eq!(breaker("enabled off; late_threshold 7;"), of(None, [None; 2]));
}

#[test]
fn log_levels_have_two_sets_of_names() {
    for (text, level) in [
        ("srs_log_level verbose;", Level::Trace),
        ("srs_log_level info;", Level::Debug),
        ("srs_log_level trace;", Level::Info),
        ("srs_log_level error; srs_log_level_v2 debug;", Level::Debug),
        ("srs_log_level_v2 trace;", Level::Trace),
        ("srs_log_level_v2 info;", Level::Info),
        ("srs_log_level_v2 off;", Level::Off),
    ] {
        assert_eq!(load(text).log.level, level, "{text}");
    }
}

#[test]
fn the_first_of_two_counts_and_the_second_is_remarked_upon() {
    let config = load("listen 1; listen 2;\nvhost v { play { gop_cache off; } play { gop_cache on; } }\nvhost v { }");
    assert_eq!((shown(&config.rtmp_listen).as_str(), config.vhosts.len()), ("0.0.0.0:1", 1));
    assert!(!config.vhosts[0].gop_cache);
    let ends = ["t.conf:1:11: listen again", "t.conf:2:35: vhost.play again", "t.conf:3:1: vhost v again"];
    assert_eq!(config.warnings.len(), ends.len(), "{:?}", config.warnings);
    for (warning, end) in config.warnings.iter().zip(ends) {
        assert!(warning.ends_with(&format!("{end}, the first one counts")), "{warning}");
    }
}

#[test]
fn what_is_odd_but_works_is_remarked_upon() {
    for (text, remark) in [
        ("chunk_size 65537; vhost v { }", ":1:1: chunk_size 65537 is outside of 128 to 65536"),
        ("vhost v { chunk_size 127; }", ":1:11: chunk_size 127 is outside of 128 to 65536"),
        ("max_connections 1 2; vhost v { }", ":1:1: max_connections takes one argument, the rest is ignored"),
        ("vhost v { rtc { opus_bitrate 7999; } }", "vhost v: opus_bitrate 7999 is out of range, 8000 is used"),
        ("listen 1;", "no vhost is configured: nobody can publish or play"),
        (
            "vhost v { http_remux { enabled on; mount /[app]/[stream].aac; } }",
            "vhost v: http_remux mount /[app]/[stream].aac: only .flv and .ts are served yet",
        ),
        ("vhost v { gop_cache on; }", ":1:11: vhost.gop_cache is now vhost.play.gop_cache"),
    ] {
        let warnings = load(text).warnings;
        assert!(warnings.len() == 1 && warnings[0].ends_with(remark), "{text}: {warnings:?}");
    }
    assert_eq!(load("chunk_size 128; vhost v { chunk_size 65536; }").warnings, [""; 0]);
}

#[test]
fn old_spellings_act() {
    let config = load("http_stream { enabled on; } vhost v { gop_cache off; publish_normal_timeout 9; }");
    assert!(config.http_server.enabled && !config.vhosts[0].gop_cache);
    assert_eq!(config.vhosts[0].normal_timeout, Duration::from_millis(9));
    let config =
        load("vhost v { nack { enabled on; no_copy on; } twcc { enabled on; } rtc { enabled on; bframe keep; } }");
    assert_eq!(config.vhosts[0].rtc, Rtc { enabled: true, keep_bframe: true, ..rtc() });
    assert!(config.warnings.iter().all(|warning| !warning.contains("not supported")), "{:?}", config.warnings);
}

#[test]
fn an_included_vhost_is_a_vhost() {
    let dir = tempfile::tempdir().unwrap();
    let (main, part) = (dir.path().join("main.conf"), dir.path().join("part.conf"));
    std::fs::write(&part, "vhost v.io {\n    play { nope 1; }\n}").unwrap();
    std::fs::write(&main, format!("listen 1; include {};", part.display())).unwrap();
    let error = Config::load(&main, &Env::default()).unwrap_err().to_string();
    assert_eq!(error, format!("{}:2:12: illegal vhost.play.nope of v.io", part.display()));
    std::fs::write(&part, "vhost v.io { min_latency on; }").unwrap();
    assert!(Config::load(&main, &Env::default()).unwrap().vhost("v.io").is_some_and(|v| v.min_latency));
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

#[test]
fn what_a_start_leaves_out_depends_on_where_it_is() {
    let of = |text: &str, env: &[(&str, &str)]| {
        let config = load_with(text, env).unwrap();
        (config.process.daemon, config.log.tank, config.process.auto_reload)
    };
    let conf = "listen 1935; vhost a {}";
    assert_eq!(of(conf, &[]), (true, Tank::File, false));
    assert_eq!(of(&format!("{conf} in_docker on;"), &[]), (false, Tank::Console, true));
    let told = "in_docker on; disable_daemon_for_docker off; auto_reload_for_docker off; srs_log_tank file;";
    assert_eq!(of(&format!("{conf} {told}"), &[]), (true, Tank::File, false));
    let alone = Source::EnvOnly.read(&Env::default()).unwrap();
    assert_eq!((alone.process.daemon, alone.log.tank, alone.rtmp_listen.len()), (false, Tank::Console, 0));
    assert!(!alone.http_server.enabled && !alone.srt_server.enabled && alone.vhost("any.host").is_some());
    let told = [("SRS_LISTEN", "1935"), ("SRS_DAEMON", "on"), ("SRS_LOG_TANK", "file")];
    let told = Source::EnvOnly.read(&told.into_iter().collect()).unwrap();
    assert_eq!((told.process.daemon, told.log.tank, told.rtmp_listen.len()), (true, Tank::File, 1));
    assert_eq!(refusal("listen 1; asprocess on;").split(": ").nth(1), Some("daemon and asprocess exclude each other"));
}

#[test]
fn differences_are_told_by_directive_and_by_what_becomes_of_them() {
    let old = "listen 1935; daemon off; pid a; vhost a { play { gop_cache on; } } vhost gone { min_latency on; }";
    let new =
        "listen 1935 1936; daemon off; pid b; utc_time on; max_connections 5; vhost a { play { queue_length 3; } }
        vhost b { hls { enabled on; } }";
    let env: Env = [("SRS_MAX_CONNECTIONS", "7")].into_iter().collect();
    let (old, new) = (load(old), load(new));
    let mut told: Vec<_> = old.differences(&new, &env).iter().map(|difference| difference.to_string()).collect();
    told.sort();
    assert_eq!(
        told,
        [
            "listen: 1935 1936, was 1935",
            "max_connections: 5, was not there; the environment says otherwise and wins",
            "pid: b, was a; this needs a restart",
            "utc_time: on, was not there; accepted, not supported yet",
            "vhost b: new",
            "vhost gone: gone",
            "vhost.play.gop_cache of a: gone, was on",
            "vhost.play.queue_length of a: 3, was not there",
        ]
    );
    assert!(old.differences(&old.clone(), &env).is_empty());
    let mut kept = new.clone();
    kept.keep_of(&old);
    assert_eq!((&kept.process.pid, &kept.vhosts), (&old.process.pid, &new.vhosts));
}
