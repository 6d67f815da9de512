//! The tool against a whole server of two shards: all its viewers get every picture, and who comes and goes leaves
//! nothing.

use serde_json::Value;
use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);
const VIEWERS: u64 = 200;
const CYCLES: u64 = 150;

/// Ends with its value.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Server {
    process: Running,
    folder: PathBuf,
    rtmp: u16,
    rtmps: u16,
    http: u16,
    https: u16,
}

impl Server {
    /// `name`: of the folder for its files.
    fn start(name: &str) -> Self {
        Self::start_with(name, "")
    }

    /// Viewers of `url`, with whom both shards are full where any tick is late enough.
    fn fill(&self, url: &str) -> Running {
        let viewers = Running::start(&mut bench(&["play", url, "-n", "8", "--for", "60"]));
        let deadline = Instant::now() + PATIENCE;
        while [0, 1].iter().any(|shard| !self.log().contains(&format!("shard {shard} is full"))) {
            assert!(Instant::now() < deadline, "both are full");
            thread::sleep(LOOK);
        }
        viewers
    }

    /// `more`: of its conf.
    fn start_with(name: &str, more: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // What an earlier run has left there.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        let (key, cert) = (folder.join("key.pem"), folder.join("cert.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt"]);
        openssl.args(["ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost", "-keyout"]);
        let made = openssl.arg(&key).arg("-out").arg(&cert).output().expect("start openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

        let held = [(); 5].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
        let [rtmp, rtmps, http, https, api] = held.each_ref().map(|held| held.local_addr().expect("a port").port());
        let [srt, rtc] = [(); 2].map(|()| {
            let held = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
            held.local_addr().expect("a port").port()
        });
        drop(held);
        let conf = folder.join("shardcast.conf");
        let files = format!("key {}; cert {};", key.display(), cert.display());
        let text = format!(
            "listen 127.0.0.1:{rtmp}; daemon off; srs_log_tank file; srs_log_file {log}; pid {pid};
             rtmps {{ enabled on; listen 127.0.0.1:{rtmps}; {files} }}
             http_server {{ enabled on; listen 127.0.0.1:{http};
                 https {{ enabled on; listen 127.0.0.1:{https}; {files} }} }}
             http_api {{ enabled on; listen 127.0.0.1:{api}; }}
             srt_server {{ enabled off; listen {srt}; }} rtc_server {{ enabled off; listen {rtc}; }}
             vhost __defaultVhost__ {{ http_remux {{ enabled on; }} }} {more}",
            log = folder.join("log").display(),
            pid = folder.join("pid").display(),
        );
        fs::write(&conf, text).expect("write a conf");
        // `make test` builds the whole workspace, so the server lies beside the tool.
        let program = Path::new(env!("CARGO_BIN_EXE_shardbench")).with_file_name("shardcast");
        let mut command = Command::new(&program);
        command.args(["--shards", "2", "-c"]).arg(&conf);
        let process = Running::start(&mut command);
        let mut server = Self { process, folder, rtmp, rtmps, http, https };
        let deadline = Instant::now() + PATIENCE;
        while [rtmp, rtmps, http, https].iter().any(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_err()) {
            let ended = server.process.0.try_wait().expect("look at a child");
            assert!(ended.is_none() && Instant::now() < deadline, "it does not serve: {ended:?}\n{}", server.log());
            thread::sleep(LOOK);
        }
        server
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn rtmp(&self, stream: &str) -> String {
        format!("rtmp://127.0.0.1:{}/{stream}", self.rtmp)
    }

    /// Runs the tool to its end, which must be a good one; its figures.
    fn figures(&self, name: &str, arguments: &[&str]) -> Value {
        let file = self.folder.join(name).with_extension("json");
        let output = bench(arguments).arg("--json").arg(&file).output().expect("start shardbench");
        assert_ended_well(&output, &format!("{name}\n{}", self.log()));
        let record: Value = serde_json::from_slice(&fs::read(&file).expect("a result file")).expect("JSON");
        assert!(record["command"].as_str().expect("a command").starts_with(&format!("shardbench {}", arguments[0])));
        record["figures"].clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let log = self.log();
        if thread::panicking() {
            eprintln!("--- the server's log\n{log}\n---");
        } else if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
            panic!("the server's log has: {line}");
        }
    }
}

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardbench"));
    command.args(arguments);
    command
}

fn assert_ended_well(output: &Output, what: &str) {
    let [out, err] = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
    assert!(output.status.success(), "{what}: {}\n{out}\n{err}", output.status);
}

#[test]
fn two_hundred_viewers_get_every_picture_over_each_way() {
    let server = Server::start("viewers");
    let stream = server.rtmp("live/a");
    let arguments = ["publish", &stream, "--size", "320x180", "--kbps", "300", "--fill", "--burst", "20"];
    let _publisher = Running::start(&mut bench(&arguments));
    let urls = [
        stream.clone(),
        format!("rtmps://localhost:{}/live/a", server.rtmps),
        format!("http://127.0.0.1:{}/live/a.flv", server.http),
        format!("https://127.0.0.1:{}/live/a.flv", server.https),
        format!("ws://localhost:{}/live/a.flv", server.http),
        format!("wss://127.0.0.1:{}/live/a.flv", server.https),
    ];
    let (viewers, pid) = (VIEWERS.to_string(), server.process.0.id().to_string());
    for url in urls {
        let way = url.split(':').next().expect("a scheme").to_owned();
        // Half of them read all, the others throw it away.
        let arguments = ["play", &url, "-n", &viewers, "--check", "100", "--for", "3", "--server-pid", &pid];
        let figures = server.figures(&way, &arguments);
        let number = |pointer: &str| figures.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
        assert_eq!(figures["playing"], VIEWERS, "{way}: {figures:#}");
        assert_eq!((&figures["failed"], &figures["lost"]), (&0.into(), &0.into()), "{way}: {figures:#}");
        // 30 pictures a second, each with its mark.
        assert!(number("/delay_ms/pictures") > 100.0 * 30.0 * 2.0, "{way}: {figures:#}");
        assert!((0.0..5_000.0).contains(&number("/delay_ms/p50")), "{way}: {figures:#}");
        assert!(number("/viewer_kbps/min") > 200.0 && number("/viewer_kbps/p50") < 800.0, "{way}: {figures:#}");
        assert!(number("/server/cpu_percent") > 0.0 && number("/server/resident_bytes") > 1e6, "{way}: {figures:#}");
    }
}

#[test]
fn viewers_go_where_a_full_server_sends_them() {
    let other = Server::start("elsewhere");
    // Any tick is late enough, so a shard with a viewer is full.
    let redirect = format!("circuit_breaker {{ late_threshold 0; redirect rtmp://127.0.0.1:{}; }}", other.rtmp);
    let full = Server::start_with("full", &redirect);
    let urls = [&other, &full].map(|server| server.rtmp("live/a"));
    let publish = |url| Running::start(&mut bench(&["publish", url, "--size", "320x180", "--kbps", "300", "--fill"]));
    let _publishers = urls.each_ref().map(|url| publish(url));
    let _first = full.fill(&urls[1]);
    let figures = other.figures("redirected", &["play", &urls[1], "-n", "20", "--for", "2"]);
    assert_eq!((&figures["playing"], &figures["failed"]), (&20.into(), &0.into()), "{figures:#}");
    assert!(other.log().matches("plays /live/a by Rtmp").count() >= 20);
}

#[test]
fn whom_a_full_server_turns_away_is_counted() {
    let full = Server::start_with("refuses", "circuit_breaker { late_threshold 0; }");
    let stream = full.rtmp("live/a");
    let _publisher = Running::start(&mut bench(&["publish", &stream, "--size", "320x180", "--kbps", "300", "--fill"]));
    let _first = full.fill(&stream);
    for (way, url) in [("rtmp", stream), ("http", format!("http://127.0.0.1:{}/live/a.flv", full.http))] {
        let figures = full.figures(way, &["play", &url, "-n", "20", "--for", "1", "--admission", "--from-start"]);
        let counts = ["playing", "refused", "failed"].map(|name| figures[name].as_u64());
        assert_eq!(counts, [0, 20, 0].map(Some), "{way}: {figures:#}");
    }
}

#[test]
fn gaps_are_counted_from_the_first_viewer_on() {
    let server = Server::start("gaps");
    let stream = server.rtmp("live/a");
    let _publisher = Running::start(&mut bench(&["publish", &stream, "--size", "320x180", "--kbps", "300", "--fill"]));
    let play = |name: &str, bound: &str| {
        let ramp = ["play", &stream, "-n", "10", "--ramp", "1", "--for", "1", "--from-start", "--gap-bound", bound];
        let figures = server.figures(name, &ramp);
        assert!(figures["measured_s"].as_f64() > Some(1.9), "{figures:#}");
        assert_eq!(figures["failed"], 0, "{figures:#}");
        figures["gaps_above_bound"]["viewers"].as_u64()
    };
    // Frames come 70 times a second.
    assert_eq!((play("short", "1"), play("long", "10000")), (Some(10), Some(0)));
}

#[test]
fn who_stalls_costs_the_others_nothing() {
    let server = Server::start("stalled");
    let stream = server.rtmp("live/a");
    let _publisher = Running::start(&mut bench(&["publish", &stream, "--size", "320x180", "--kbps", "300", "--fill"]));
    let url = format!("http://127.0.0.1:{}/live/a.flv", server.http);
    let figures =
        server.figures("stalled", &["play", &url, "-n", "50", "--check", "50", "--stall", "10", "--for", "3"]);
    let counts = ["playing", "stalled", "checked", "failed", "lost"].map(|name| figures[name].as_u64());
    assert_eq!(counts, [40, 10, 40, 0, 0].map(Some), "{figures:#}");
    assert!(figures["viewer_kbps"]["min"].as_f64() > Some(200.0), "{figures:#}");
}

#[test]
fn who_comes_and_goes_leaves_nothing() {
    let server = Server::start("churn");
    let (cycles, pid) = (CYCLES.to_string(), server.process.0.id().to_string());
    let flv = format!("http://127.0.0.1:{}/live/", server.http);
    // What the server opens once, for whoever is first, is open after the first round.
    let rounds = [("a", server.rtmp("live/a{}")), ("b", server.rtmp("live/b{}")), ("c", format!("{flv}c{{}}.flv"))];
    let open_files = rounds.map(|(name, play)| {
        let publish = server.rtmp(&format!("live/{name}{{}}"));
        let arguments = ["churn", &publish, "--play", &play, "-n", &cycles, "--at-once", "20", "--server-pid", &pid];
        let figures = server.figures(name, &arguments);
        assert_eq!((&figures["cycles"], &figures["failed"]), (&CYCLES.into(), &0.into()), "{figures:#}");
        figures["server"]["open_files"]["after"].as_u64().expect("a number")
    });
    assert!(open_files.iter().all(|files| *files <= open_files[0] + 4), "{open_files:?}");
}

#[test]
fn the_limit_serves_as_it_says() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("limit.json");
    let arguments = ["limit", "-n", "50", "--kbps", "800", "--window", "100", "--for", "3", "--json"];
    let output = bench(&arguments).arg(&folder).output().expect("start shardbench");
    assert_ended_well(&output, "limit");
    let record: Value = serde_json::from_slice(&fs::read(&folder).expect("a result file")).expect("JSON");
    let figures = &record["figures"];
    assert_eq!((&figures["playing"], &figures["limit"]["bytes_each"]), (&50.into(), &10_000.into()), "{figures:#}");
    let kbps = figures["viewer_kbps"]["p50"].as_f64().expect("a number");
    assert!((600.0..900.0).contains(&kbps), "{figures:#}");
}

#[test]
fn a_refused_viewer_makes_the_tool_fail() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("rtmp://{}/live/a", closed.local_addr().expect("a port"));
    drop(closed);
    let output = bench(&["play", &url, "-n", "3", "--for", "1"]).output().expect("start shardbench");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("3 of 3 viewers failed"));
}
