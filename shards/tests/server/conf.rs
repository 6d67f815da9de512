//! The command line, and SRS's configuration files.

use crate::support::{
    PATIENCE,
    certificate::Certificate,
    http,
    media::Media,
    process::{Output, Process},
    publisher::Publisher,
    server::{self, Ports, Server, local},
    until,
    viewer::Viewer,
};
use std::{
    fs,
    net::{TcpStream, UdpSocket},
    path::PathBuf,
};

const SHARDS: usize = 2;

#[test]
fn version_and_help_need_no_server() {
    let version = run(&["--version"], None);
    assert!(version.status.success());
    assert_eq!(text(&version), format!("shardcast {}\n", env!("CARGO_PKG_VERSION")));
    let help = run(&["--help"], None);
    assert!(help.status.success());
    for word in ["-c", "--conf", "--shards", "-t", "1935"] {
        assert!(text(&help).contains(word), "{word} in\n{}", text(&help));
    }
    assert!(!run(&["--no-such-option"], None).status.success());
}

#[test]
fn an_unknown_directive_ends_the_start_with_its_place() {
    for (conf, place, name) in [
        ("listen 1935;\nvhost __defaultVhost__ {\n    nonsense on;\n}\n", ":3:", "nonsense"),
        ("listen 1935;\nnonsense on;\nvhost __defaultVhost__ {}\n", ":2:", "nonsense"),
        ("listen 1935;\nvhost a.example {\n    hls {\n        foo 1;\n    }\n}\n", ":4:", "vhost.hls.foo"),
    ] {
        let refused = run(&[], Some(conf));
        assert_eq!(refused.status.code(), Some(255));
        let said = refused.stderr.join("\n");
        assert!(said.contains(&format!("test.conf{place}")) && said.contains(name), "{said}");
    }
}

#[test]
fn values_that_cannot_be_meant_end_the_start() {
    for conf in [
        "listen 99999;\nvhost __defaultVhost__ {}\n",
        "listen 1935;\nvhost __defaultVhost__ { play { queue_length soon; } }\n",
        "listen 1935;\nvhost __defaultVhost__ {\n",
        "",
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("test.conf");
        fs::write(&file, conf).expect("write a configuration");
        // Without the environment's ports, which would win.
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_shardcast"));
        let refused = Process::start(command.arg("-c").arg(&file)).finish(PATIENCE);
        assert_eq!(refused.status.code(), Some(255), "{conf}");
        assert!(refused.stderr.join("\n").contains("test.conf"), "{:?}", refused.stderr);
    }
}

#[test]
fn a_missing_file_is_named() {
    let refused = run(&["-c", "/nowhere/srs.conf"], None);
    assert!(!refused.status.success());
    assert!(refused.stderr.join("\n").contains("/nowhere/srs.conf"), "{:?}", refused.stderr);
}

#[test]
fn a_good_file_passes_the_check() {
    let checked = run(&["-t"], Some("listen 1935;\nvhost __defaultVhost__ {}\n"));
    assert!(checked.status.success(), "{:?}", checked.stderr);
}

#[test]
fn what_is_accepted_without_effect_is_named_at_start() {
    let server = Server::of_conf(
        "listen 1935;
         srs_log_tank console;
         vhost __defaultVhost__ {
             dash { enabled on; dash_fragment 10; }
             http_remux { enabled on; }
         }",
        SHARDS,
    );
    let line = server.wait_for_log(&["accepted, not supported yet:"]);
    assert!(line.contains("vhost.dash.enabled") && line.contains("vhost.dash.dash_fragment"), "{line}");
    assert!(!line.contains("http_remux.enabled"), "{line}");
    server.stop();
}

#[test]
fn without_http_remux_there_is_no_flv() {
    let server = Server::of_conf(
        "listen 1935;
         http_server { enabled on; }
         http_api { enabled on; }
         vhost __defaultVhost__ { http_remux { enabled off; } }",
        SHARDS,
    );
    let _publisher = Publisher::looping(&server, "live/off", Media::Plain);
    server.wait_until_live("live/off");
    assert_eq!(server.get("/live/off.flv").status, 404);
    server.stop();
}

#[test]
fn what_is_off_does_not_listen() {
    let server = Server::of_conf(
        "listen 1935;
         http_server { enabled off; }
         http_api { enabled off; }
         vhost __defaultVhost__ {}",
        SHARDS,
    );
    for port in [server.ports.http, server.ports.api] {
        assert!(TcpStream::connect(local(port)).is_err(), "port {port} is open");
    }
    for port in [server.ports.srt, server.ports.rtc] {
        assert!(UdpSocket::bind(local(port)).is_ok(), "port {port} is taken");
    }
    server.stop();
}

#[test]
fn what_is_on_says_where_it_listens() {
    let server = Server::start(SHARDS);
    let Ports { srt, rtc, .. } = server.ports;
    server.wait_for_log(&[&format!("SRT on 127.0.0.1:{srt}/udp, WebRTC on 127.0.0.1:{rtc}/udp")]);
    for port in [srt, rtc] {
        assert!(UdpSocket::bind(local(port)).is_err(), "port {port} is free");
    }
    server.stop();
}

#[test]
fn a_vhost_that_is_not_there_or_off_refuses() {
    for vhost in ["vhost other.example {}", "vhost __defaultVhost__ { enabled off; }"] {
        let server = Server::of_conf(&format!("listen 1935; http_api {{ enabled on; }} {vhost}"), SHARDS);
        let refused = Publisher::looping(&server, "live/none", Media::Plain).process.finish(PATIENCE);
        assert!(!refused.status.success());
        assert!(server.stream("live/none").is_none());
        server.stop();
    }
}

#[test]
fn newcomers_start_at_the_last_keyframe_unless_the_gop_cache_is_off() {
    for gop_cache in [true, false] {
        let word = if gop_cache { "on" } else { "off" };
        let server = Server::of_conf(
            &format!(
                "listen 1935;
                 http_server {{ enabled on; }}
                 http_api {{ enabled on; }}
                 vhost __defaultVhost__ {{
                     min_latency on;
                     play {{ gop_cache {word}; }}
                     http_remux {{ enabled on; }}
                 }}"
            ),
            SHARDS,
        );
        let first = Viewer::open(server.ports.http, "live/gop");
        server.wait_for_clients("live/gop", 1);
        let _publisher = Publisher::looping(&server, "live/gop", Media::Plain);
        let entered_at_last = (0..5).any(|_| {
            // Some way into a GOP of one second.
            let keyframe_ms = until("a keyframe and some pictures", || {
                let keyframe_ms = first.newest_keyframe_ms()?;
                (320..=480).contains(&(first.newest_ms()? - keyframe_ms)).then_some(keyframe_ms)
            });
            let newcomer = Viewer::open(server.ports.http, "live/gop");
            let entry = until("the newcomer sees something", || {
                newcomer.frames().into_iter().find(|frame| frame.kind == crate::support::flv::VIDEO)
            });
            assert!(entry.is_keyframe());
            assert!(gop_cache || entry.time_ms > keyframe_ms, "entered at {} ms in the past", entry.time_ms);
            // On a busy machine the next keyframe may have come before the newcomer did.
            entry.time_ms == keyframe_ms
        });
        assert_eq!(entered_at_last, gop_cache);
        server.stop();
    }
}

#[test]
fn frames_gather_where_a_conf_wants_it() {
    let reads_a_second = |play: &str| {
        let server = Server::of_conf(
            &format!(
                "listen 1935;
                 http_server {{ enabled on; }}
                 http_api {{ enabled on; }}
                 vhost __defaultVhost__ {{ {play} http_remux {{ enabled on; }} }}"
            ),
            SHARDS,
        );
        let viewer = Viewer::open(server.ports.http, "live/latency");
        server.wait_for_clients("live/latency", 1);
        let _publisher = Publisher::looping(&server, "live/latency", Media::Plain);
        let from_ms = until("the first pictures", || viewer.newest_ms().filter(|newest| *newest > 1_000));
        let from_reads = viewer.reads();
        let to_ms = until("more", || viewer.newest_ms().filter(|newest| *newest >= from_ms + 4_000));
        let reads = viewer.reads() - from_reads;
        server.stop();
        reads as f64 * 1_000.0 / f64::from(to_ms - from_ms)
    };
    let settings = ["min_latency on;", "play { mw_latency 1000; mw_adaptive on; }", "play { mw_latency 1000; }"];
    let [at_once, adaptive, gathered] = settings.map(reads_a_second);
    eprintln!("reads a second: {at_once:.1} with min_latency, {adaptive:.1} adaptive, {gathered:.1} with 1 s");
    // On a busy machine the viewer finds several frames at once as well, but not a second's.
    let often = [at_once, adaptive].iter().all(|reads| *reads > 4.0 * gathered);
    assert!(often && at_once > 4.0 && gathered > 0.5, "{at_once} {adaptive} {gathered}");
}

fn run(arguments: &[&str], conf: Option<&str>) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let file: PathBuf = folder.path().join("test.conf");
    let mut command = server::command(Ports::free());
    command.args(arguments);
    if let Some(conf) = conf {
        fs::write(&file, conf).expect("write a configuration");
        command.arg("-c").arg(&file);
    }
    Process::start(&mut command).finish(PATIENCE)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_conf_of_deploy_starts_and_serves() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = Certificate::make(folder.path(), "server", "localhost");
    let (cert, key) = (certificate.cert.display().to_string(), certificate.key.display().to_string());
    let confs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/conf");
    let mut count = 0;
    for entry in fs::read_dir(confs).expect("confs") {
        let path = entry.expect("a conf").path();
        let conf = fs::read_to_string(&path).expect("a conf");
        let [tls, secure, secure_api, exporter] =
            [Ports::free().rtmp, Ports::free().http, Ports::free().api, Ports::free().http];
        let ports = [tls, secure, secure_api, exporter].map(|port| local(port).to_string());
        let mut environment = vec![
            ("SRS_RTMPS_LISTEN", &*ports[0]),
            ("SRS_HTTP_SERVER_HTTPS_LISTEN", &ports[1]),
            ("SRS_HTTP_API_HTTPS_LISTEN", &ports[2]),
            ("SRS_EXPORTER_LISTEN", &ports[3]),
            ("CANDIDATE", "127.0.0.1"),
        ];
        for (cert_name, key_name) in [
            ("SRS_RTMPS_CERT", "SRS_RTMPS_KEY"),
            ("SRS_HTTP_SERVER_HTTPS_CERT", "SRS_HTTP_SERVER_HTTPS_KEY"),
            ("SRS_HTTP_API_HTTPS_CERT", "SRS_HTTP_API_HTTPS_KEY"),
        ] {
            environment.extend([(cert_name, &*cert), (key_name, &key)]);
        }
        let server = Server::of_conf_with(&conf, &environment, SHARDS);
        assert_eq!(server.log().with(&["accepted, not supported yet"]), [""; 0], "{}", path.display());
        assert_eq!(server.log().with(&["NOT ASKED"]), [""; 0], "{}", path.display());
        let status = http::request(server.ports.api, "GET", "/api/v1/streams/", &[]).status;
        assert_eq!(status, if path.ends_with("api-auth.conf") { 401 } else { 200 }, "{}", path.display());
        server.stop();
        count += 1;
    }
    assert!(count > 10, "{count} confs");
}
