//! What each value becomes.

use super::{servers::rtc, *};
use crate::{
    access::{Deed, Refer, Security, judge},
    net::certificates::Pair,
};
use shardcast_engine::time::Timestamp;
use shardcast_protocols::{
    hls::{self, Names, Template},
    session::Verdict,
};
use std::time::Duration;

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
    assert_eq!(
        config.log,
        Log { tank: Tank::File, level: Level::Info, file: "./objs/srs.log".into(), json: false, utc: false }
    );
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
            http_static: None,
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
        srs_log_tank console; srs_log_level info; srs_log_file /var/x.log; utc_time on;
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
            http_static { enabled on; mount [vhost]/f; dir /srv/[vhost]; }
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
    assert_eq!(
        config.log,
        Log { tank: Tank::Console, level: Level::Debug, file: "/var/x.log".into(), json: false, utc: true }
    );
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
            http_static: Some(HttpStatic { host: Some("v.io".into()), path: "/f/".into(), dir: "/srv/v.io".into() }),
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
        load_threshold: 80,
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
fn templates_that_cannot_tell_segments_apart_give_way_to_the_default() {
    let config = load("vhost v { hls { hls_ts_file [app]/[stream].ts; } }");
    assert_eq!(config.vhosts[0].hls.names, hls().names);
    assert_eq!(config.warnings, ["vhost v: hls_ts_file: [seq] is missing; the default is used"]);
    let error = refusal("vhost v { hls { hls_fragment long; } }");
    assert_eq!(error, "t.conf:1:17: vhost.hls.hls_fragment long: expecting decimal number (s)");
}
