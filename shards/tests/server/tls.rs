//! TLS: RTMP, live streams, pages and the API over it, by clients that we did not write; certificates that are many,
//! change or are wrong; peers that speak no TLS.

use crate::{
    hostile::Random,
    support::{
        PATIENCE,
        certificate::{Certificate, shown},
        media::Media,
        probe::{Decoder, Probe},
        process::{Output, Process, signal},
        publisher::Publisher,
        server::{Ports, Server, command, local},
        stage::MIN_PICTURES,
        until,
        viewer::{PAUSE_MS, Viewer},
        within,
    },
};
use serde_json::Value;
use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

const SHARDS: usize = 2;
const HANDSHAKES: &str = "shardcast_tls_handshakes_total";
/// A handshake has 10 s; the server looks once a second.
const HANDSHAKE: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(6);

/// A server with TLS, for localhost.
struct Secure {
    server: Server,
    rtmps: u16,
    https: u16,
    api: u16,
    certificate: Certificate,
    folder: TempDir,
}

impl Secure {
    fn start() -> Self {
        Self::with("")
    }

    /// `more`: further directives of the HTTPS port.
    fn with(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::of(Certificate::make(folder.path(), "server", "localhost"), folder, more)
    }

    fn of(certificate: Certificate, folder: TempDir, more: &str) -> Self {
        let Ports { rtmp: rtmps, http: https, api, .. } = Ports::free();
        let files = certificate.conf();
        let conf = format!(
            "srs_log_tank console;
             rtmps {{ enabled on; listen 127.0.0.1:{rtmps}; {files} }}
             http_server {{ enabled on; https {{ enabled on; listen 127.0.0.1:{https}; {files} {more} }} }}
             http_api {{ enabled on; https {{ enabled on; listen 127.0.0.1:{api}; {files} }} }}
             rtc_server {{ enabled on; }}
             vhost __defaultVhost__ {{
                 http_remux {{ enabled on; }} hls {{ enabled on; hls_fragment 2; }} rtc {{ enabled on; rtmp_to_rtc on; }}
                 play {{ queue_length 5; }}
             }}"
        );
        Self { server: Server::of_conf(&conf, SHARDS), rtmps, https, api, certificate, folder }
    }

    fn rtmps(&self, stream: &str) -> String {
        format!("rtmps://127.0.0.1:{}/{stream}", self.rtmps)
    }

    fn https(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}/{path}", self.https)
    }

    fn handshakes(&self, result: &str) -> f64 {
        self.server.total(HANDSHAKES, &format!("result=\"{result}\""))
    }

    /// A curl that trusts the certificate alone.
    fn curl(&self, arguments: &[&str]) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--cacert"]).arg(&self.certificate.cert).args(arguments);
        curl
    }

    fn curled(&self, arguments: &[&str]) -> Output {
        Process::start(&mut self.curl(arguments)).finish(PATIENCE)
    }
}

#[test]
fn ffmpeg_publishes_and_plays_over_rtmps_and_https() {
    let secure = Secure::start();
    let server = &secure.server;
    let publishers = ["live/tls0", "live/tls1", "live/tls2"]
        .map(|name| (name, Publisher::looping_to(&secure.rtmps(name), Media::Plain)));
    for (name, _) in &publishers {
        server.wait_until_live(name);
        let sources = [
            secure.rtmps(name),
            secure.https(&format!("{name}.flv")),
            secure.https(&format!("{name}.ts")),
            server.flv(name),
        ];
        for (source, decoder) in sources.each_ref().map(|source| (source, Decoder::seconds(source, 4))) {
            decoder.finish(PATIENCE).assert_is_of(source, Media::Plain, MIN_PICTURES);
        }
    }
    until("there is a playlist", || (server.get("/live/tls0.m3u8").status == 200).then_some(()));
    let hls = Probe::seconds(&secure.https("live/tls0.m3u8"), 2.0).finish(PATIENCE);
    assert_eq!(hls.codecs, ["h264", "aac"]);
    server.wait_for_log(&["Rtmp connection over TLS from"]);
    assert!(secure.handshakes("ok") >= 12.0);
    assert_eq!(secure.handshakes("failed"), 0.0);
    drop(publishers);
    secure.server.stop();
}

#[test]
fn pages_and_the_api_answer_over_both_versions_and_both_ports() {
    let secure = Secure::start();
    for (port, path) in [(secure.https, "/vendor/mpegts.js"), (secure.api, "/api/v1/openapi.json")] {
        let long = secure.server.get(path).body;
        assert!(long.len() > 16 << 10, "more than a record of TLS");
        for version in [&["--tlsv1.3"][..], &["--tlsv1.2", "--tls-max", "1.2"]] {
            let at = |path: &str| format!("https://127.0.0.1:{port}{path}");
            let body = secure.curled(&[version, &[&at(path)]].concat()).clean("curl");
            assert!(body == long, "{} of {} bytes over {version:?}", body.len(), long.len());
            let answer = secure.curled(&[version, &[&at("/api/v1/versions")]].concat()).clean("curl");
            let answer: Value = serde_json::from_slice(&answer).expect("JSON");
            assert!(answer["data"].is_object(), "{answer}");
        }
        // curl offers h2 first; two requests, on one connection where it is kept.
        let url = format!("https://127.0.0.1:{port}/api/v1/versions");
        let said = secure.curled(&["-w", "%{http_version} ", "-o", "/dev/null", "-o", "/dev/null", &url, &url]);
        assert_eq!(String::from_utf8_lossy(&said.clean("curl")), "1.1 1.1 ");
        let failed = secure.handshakes("failed");
        let old = secure.curled(&["--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", &url]);
        assert!(!old.status.success());
        until("the handshake is counted", || (secure.handshakes("failed") == failed + 1.0).then_some(()));
    }
    secure.server.wait_for_log(&["TLS handshake: "]);
    secure.server.stop();
}

#[test]
fn certificates_are_chosen_by_name_and_renewed() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Certificate::make(folder.path(), "first", "first.example");
    let second = Certificate::make(folder.path(), "second", "second.example");
    let more = second.conf();
    let secure = Secure::of(first, folder, &more);
    assert_eq!(shown(secure.https, "first.example"), "first.example");
    assert_eq!(shown(secure.https, "second.example"), "second.example");
    assert_eq!(shown(secure.https, "third.example"), "first.example");

    let name = "live/renewed";
    let _publisher = Publisher::looping_to(&secure.rtmps(name), Media::Plain);
    secure.server.wait_until_live(name);
    let file = secure.folder.path().join("flv");
    let mut viewer =
        Process::start(&mut secure.curl(&["-k", "-o", &file.display().to_string(), &secure.https("live/renewed.flv")]));
    secure.server.wait_for_clients(name, 2);

    // The old pair stays while the new one is no pair.
    fs::write(&second.key, "no key").expect("write a file");
    secure.server.wait_for_log(&["has changed, the old one stays in use", "second.key"]);
    assert_eq!(shown(secure.https, "second.example"), "second.example");
    Certificate::make(secure.folder.path(), "second", "renewed.example");
    until("the new certificate is shown", || {
        (shown(secure.https, "renewed.example") == "renewed.example").then_some(())
    });
    assert_eq!(shown(secure.https, "first.example"), "first.example");
    assert!(viewer.ended().is_none(), "who had a connection keeps it");
    secure.server.stop();
}

#[test]
fn a_certificate_that_is_wrong_ends_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = Certificate::make(folder.path(), "good", "localhost");
    let other = Certificate::make(folder.path(), "other", "localhost");
    let junk = folder.path().join("junk");
    fs::write(&junk, "no PEM").expect("write a file");
    let missing = folder.path().join("missing");
    for (cert, key, word) in [
        (&good.cert, &other.key, "KeyMismatch"),
        (&junk, &good.key, "there is none in it"),
        (&good.cert, &junk, "junk"),
        (&missing, &good.key, "missing"),
        (&good.cert, &missing, "missing"),
    ] {
        let ports = Ports::free();
        let conf = folder.path().join("test.conf");
        let text =
            format!("rtmps {{ enabled on; listen {}; cert {}; key {}; }}", ports.http, cert.display(), key.display());
        fs::write(&conf, format!("listen {}; {text} vhost __defaultVhost__ {{}}", ports.rtmp)).expect("write a file");
        let ended = Process::talking(command(ports).arg("-c").arg(conf)).finish(PATIENCE);
        let said = ended.stderr.join("\n");
        assert!(!ended.status.success() && said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_viewer_that_pauses_skips_and_ends_whole() {
    let secure = Secure::start();
    let server = &secure.server;
    let name = "live/pause";
    let publisher = Publisher::looping_to(&secure.rtmps(name), Media::Heavy);
    server.wait_until_live(name);
    let witness = Viewer::open(server.ports.http, name);
    let file = secure.folder.path().join("flv");
    let curl = Process::start(&mut secure.curl(&["-o", &file.display().to_string(), &secure.https("live/pause.flv")]));
    until("curl writes", || fs::metadata(&file).is_ok_and(|about| about.len() > 1 << 20).then_some(()));
    curl.freeze();
    let stopped = until("a picture", || witness.newest_ms());
    within(PATIENCE * 2, "time passes", || (witness.newest_ms()? >= stopped + PAUSE_MS + 1_000).then_some(()));
    signal(curl.id(), "CONT");
    until("it skips", || (server.total("shardcast_viewer_skips_total", "") >= 1.0).then_some(()));
    let skipped = until("a picture", || witness.newest_keyframe_ms());
    within(PATIENCE, "a keyframe later", || (witness.newest_keyframe_ms()? > skipped).then_some(()));
    drop(publisher);
    // Chunked: curl complains of a body that is not whole.
    assert_eq!(curl.finish(PATIENCE).clean("curl"), b"");
    assert!(Decoder::whole(&file).finish(PATIENCE).pictures.len() > 25);
    secure.server.stop();
}

#[test]
fn peers_without_tls_end_alone() {
    let secure = Secure::start();
    let name = "live/witness";
    let _publisher = Publisher::looping_to(&secure.rtmps(name), Media::Plain);
    secure.server.wait_until_live(name);
    let witness = Viewer::open(secure.server.ports.http, name);
    let hello = client_hello();
    let mut silent = TcpStream::connect(local(secure.rtmps)).expect("connect");
    silent.set_read_timeout(Some(HANDSHAKE + SLACK)).expect("a deadline");
    silent.write_all(&hello[..hello.len() / 2]).expect("send half a ClientHello");

    let plain = b"GET /live/witness.flv HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
    let mut rounds = vec![plain, vec![0xff; 70_000], vec![22, 3, 1, 0xff, 0xff], Vec::new()];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    rounds.extend((0..300).map(|_| random.mutate(&hello, 0)));
    for (round, bytes) in rounds.iter().enumerate() {
        for port in [secure.https, secure.rtmps, secure.api] {
            let mut socket = TcpStream::connect(local(port)).expect("connect");
            socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
            // The server may be gone before all is sent.
            let _ = socket.write_all(bytes).and_then(|()| socket.shutdown(std::net::Shutdown::Write));
            let mut answer = Vec::new();
            match socket.read_to_end(&mut answer) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                Err(error) => panic!("round {round} on {port}: {error}"),
            }
        }
    }
    let count = (rounds.len() * 3) as f64;
    until("all are counted", || (secure.handshakes("failed") >= count).then_some(()));
    // It ends within the deadline of its reads.
    match silent.read_to_end(&mut Vec::new()) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("a silent peer: {error}"),
        _ => {}
    }
    secure.server.wait_for_log(&["TLS handshake: not done within 10 s"]);
    let seen = witness.frames().len();
    until("the witness goes on", || (witness.frames().len() > seen + 50).then_some(()));
    assert_eq!(secure.server.total("shardcast_session_panics_total", ""), 0.0);
    secure.server.stop();
}

#[test]
fn chromium_plays_by_wss_and_whep_from_an_https_page() {
    let (Ok(python), Ok(chromium)) = (std::env::var("SHARDCAST_PYTHON"), std::env::var("SHARDCAST_CHROMIUM")) else {
        return eprintln!("SKIPPED: TLS is not tested in a browser: set SHARDCAST_PYTHON and SHARDCAST_CHROMIUM");
    };
    let secure = Secure::start();
    let publisher = Publisher::looping_to(&secure.rtmps("live/page"), Media::Plain);
    secure.server.wait_until_live("live/page");
    let script = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    let answer = |browser: Process| -> Value {
        let seen = browser.finish(Duration::from_secs(150));
        assert!(seen.status.success(), "{}\n{}", seen.status, seen.stderr.join("\n"));
        serde_json::from_slice(&seen.stdout).expect("JSON")
    };

    let page = secure.https("?stream=live/page&play=whep");
    let seen = answer(Process::start(Command::new(&python).arg(script("page.py")).args([&chromium, &page])));
    assert_eq!((&seen["later"]["state"], &seen["later"]["method"]), (&"playing".into(), &"whep".into()), "{seen}");
    assert_eq!((&seen["later"]["width"], &seen["errors"]), (&640.into(), &Value::Array(Vec::new())), "{seen}");

    let socket = |suffix: &str| format!("wss://127.0.0.1:{}/live/page.{suffix}", secure.https);
    let (flv, ts) = (socket("flv"), socket("ts"));
    let mut command = Command::new(&python);
    command.arg(script("websocket.py")).args([&chromium, &secure.https(""), &flv, &ts]);
    let browser = Process::start(&mut command);
    browser.lines.wait_for(&["listening"], Duration::from_secs(120));
    drop(publisher);
    let seen = answer(browser);
    for kind in ["flv", "mpegts"] {
        assert_eq!((&seen[kind]["error"], &seen[kind]["width"]), (&Value::Null, &640.into()), "{seen}");
    }
    assert_eq!((&seen["heard"]["code"], &seen["heard"]["wasClean"]), (&1000.into(), &true.into()), "{seen}");
    secure.server.stop();
}

/// What openssl says first.
fn client_hello() -> Vec<u8> {
    let listener = TcpListener::bind(local(0)).expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let mut openssl = Command::new("openssl");
    let _client = Process::start(openssl.args(["s_client", "-connect", &address, "-servername", "localhost"]));
    let (mut socket, _) = listener.accept().expect("a connection");
    let mut record = vec![0; 5];
    socket.read_exact(&mut record).expect("a record's header");
    record.resize(5 + usize::from(u16::from_be_bytes([record[3], record[4]])), 0);
    socket.read_exact(&mut record[5..]).expect("a record");
    record
}
