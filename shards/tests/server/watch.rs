//! What an operator follows: events as they happen, the log's level, Prometheus.

use crate::support::{
    PATIENCE, http,
    media::Media,
    process::{Lines, Process},
    publisher::Publisher,
    server::{Ports, Server, local},
    until,
    viewer::{Laggard, PAUSE_MS, SKIPPING, Viewer},
};
use serde_json::Value;
use std::{collections::BTreeSet, fs, net::TcpStream, path::Path, process::Command};

const SHARDS: usize = 2;

#[test]
fn events_tell_who_publishes_plays_fails_and_ends() {
    let conf = |ports: Ports, gop: &str| {
        format!(
            "listen 127.0.0.1:{}; srs_log_tank console; daemon off;
             http_server {{ enabled on; listen 127.0.0.1:{}; }}
             http_api {{ enabled on; listen 127.0.0.1:{}; raw_api {{ enabled on; allow_reload on; }} }}
             vhost __defaultVhost__ {{ http_remux {{ enabled on; }} play {{ gop_cache {gop}; }} }}",
            ports.rtmp, ports.http, ports.api
        )
    };
    let server = Server::of_ports(|ports| conf(ports, "on"), SHARDS);
    let (mut follower, mut other) = (Follower::new(&server), Follower::new(&server));
    let publisher = Publisher::looping(&server, "live/told", Media::Plain);
    let began = follower.next("publish");
    let id = began["id"].as_str().expect("an id");
    assert_eq!(server.wait_until_live("live/told")["publish"]["cid"], id);
    assert_eq!((&began["url"], &began["ip"]), (&"/live/told".into(), &"127.0.0.1".into()));
    assert_eq!(began["type"], "fmle-publish");
    let at = began["time_ms"].as_u64().expect("a time");
    assert!(
        at.abs_diff(
            http::request(server.ports.api, "GET", "/api/v1/summaries", &[]).json()["data"]["now_ms"]
                .as_u64()
                .expect("now")
        ) < 60_000
    );

    let viewer = Viewer::open(server.ports.http, "live/told");
    let plays = follower.next("play");
    assert_eq!((&plays["type"], &plays["url"]), (&"flv-play".into(), &"/live/told".into()));
    let kicked = plays["id"].as_str().expect("an id");
    http::request(server.ports.api, "DELETE", &format!("/api/v1/clients/{kicked}"), &[]);
    assert_eq!(follower.next("stop")["id"], kicked);
    let error = follower.next("error");
    assert_eq!((&error["id"], &error["why"]), (&kicked.into(), &"kicked through the API".into()));
    drop(viewer);

    let reload = || http::request(server.ports.api, "GET", "/api/v1/raw?rpc=reload", &[]).json();
    server.rewrite(&conf(server.ports, "off"));
    reload();
    assert_eq!(follower.next("reload").get("why"), None);
    server.rewrite("nonsense;");
    reload();
    assert!(follower.next("reload")["why"].as_str().is_some_and(|why| why.contains("nonsense")));
    drop(publisher);
    assert_eq!(follower.next("unpublish")["id"], id);
    // Each who follows gets them all.
    for event in ["publish", "play", "stop", "error", "reload", "reload", "unpublish"] {
        other.next(event);
    }
    server.stop();
}

#[test]
fn a_skip_is_an_event() {
    let server = Server::of_conf(SKIPPING, SHARDS);
    let mut follower = Follower::new(&server);
    let fast = Viewer::open(server.ports.http, "live/heavy");
    let mut laggard = Laggard::open(server.ports.http, "live/heavy");
    server.wait_for_clients("live/heavy", 2);
    let _publisher = Publisher::looping(&server, "live/heavy", Media::Heavy);
    let live_up_to = |time_ms| until("the stream goes on", || fast.newest_ms().filter(|newest| *newest >= time_ms));
    let now = live_up_to(1_000);
    laggard.read_up_to(500, PATIENCE);
    laggard.read_up_to(live_up_to(now + PAUSE_MS), PATIENCE);
    let skip = follower.next("skip");
    assert!(skip["lag_ms"].as_i64() > Some(0) && skip["url"] == "/live/heavy", "{skip}");
    server.wait_for_log(&[skip["id"].as_str().expect("an id"), &laggard.peer(), "ms behind, skipped"]);
    server.stop();
}

#[test]
fn the_log_level_changes_while_it_runs() {
    let server = Server::start(SHARDS);
    let ask =
        |method, query: &str| http::request(server.ports.api, method, &format!("/api/v1/log-level{query}"), &[]).json();
    assert_eq!(ask("GET", "")["data"]["level"], "info");
    assert_eq!(ask("POST", "?level=debug")["data"]["level"], "debug");
    server.wait_for_log(&["[WARN]", "the log level is debug now and was info"]);
    for bad in ["?level=loud", ""] {
        assert_eq!(ask("POST", bad)["code"], 1063, "{bad}");
    }
    assert_eq!(ask("GET", "")["data"]["level"], "debug");
    // What is told at level info is there, until it is too low.
    let connect = || drop(TcpStream::connect(local(server.ports.rtmp)).expect("connect"));
    connect();
    server.wait_for_log(&["[INFO]", "Rtmp connection from"]);
    assert_eq!(ask("POST", "?level=warn")["data"]["level"], "warn");
    let count = || server.log().with(&["Rtmp connection from"]).len();
    let before = count();
    let unseen = TcpStream::connect(local(server.ports.rtmp)).expect("connect");
    until("it is there", || (server.total("shardcast_connections", "") == 1.0).then_some(()));
    drop(unseen);
    assert_eq!(ask("POST", "?level=info")["data"]["level"], "info");
    connect();
    until("it is told again", || (count() > before).then_some(()));
    assert_eq!(count(), before + 1);
    server.stop();
}

#[test]
fn prometheus_finds_srs_s_metrics_on_the_exporter_s_port() {
    let port = Ports::free().api;
    let conf = format!(
        "srs_log_tank console; http_server {{ enabled on; }} http_api {{ enabled on; }}
         exporter {{ enabled on; listen 127.0.0.1:{port}; label cn-beijing; tag cn-edge; }}
         vhost __defaultVhost__ {{ http_remux {{ enabled on; }} }}"
    );
    let server = Server::of_conf(&conf, SHARDS);
    let publisher = Publisher::looping(&server, "live/export", Media::Plain);
    server.wait_until_live("live/export");
    let viewers: Vec<_> = (0..3).map(|_| Viewer::open(server.ports.http, "live/export")).collect();
    server.wait_for_clients("live/export", 4);
    let page = until("bytes and CPU are seen", || {
        let page = http::request(port, "GET", "/metrics", &[]).text();
        let seen = ["srs_cpu_percent", "srs_send_bytes_total", "srs_receive_bytes_total"];
        seen.iter().all(|name| value(&page, name) > Some(0.0)).then_some(page)
    });
    let info = |name: &str| page.lines().find(|line| line.starts_with(name)).expect("a line").to_owned();
    let build = info("srs_build_info{");
    for part in [
        "server=\"",
        "service=\"",
        "pid=\"",
        "build_date=\"",
        "major=\"8\"",
        "version=\"8.",
        "label=\"cn-beijing\"",
        "tag=\"cn-edge\"",
    ] {
        assert!(build.contains(part), "{part} in {build}");
    }
    assert!(info("srs_node_uname_info{").starts_with("srs_node_uname_info{sysname=\"Linux\",nodename=\""));
    for (name, wanted) in
        [("srs_streams", 1.0), ("srs_clients", 4.0), ("srs_clients_total", 4.0), ("srs_clients_errs_total", 0.0)]
    {
        assert_eq!(value(&page, name), Some(wanted), "{name}");
    }
    assert!(value(&page, "srs_memory") > Some(1_000.0));
    // Each has its type before it, and our own follow.
    let types: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE srs_")).collect();
    assert_eq!(types.len(), 10, "{types:?}");
    assert!(value(&page, "shardcast_session_panics_total").is_none() && page.contains("\nshardcast_viewers{"));
    drop(viewers);
    let failed = || value(&http::request(port, "GET", "/metrics", &[]).text(), "srs_clients_errs_total");
    until("those who went are counted", || (failed() == Some(3.0)).then_some(()));
    // What they moved is not forgotten with them.
    let sent = value(&http::request(port, "GET", "/metrics", &[]).text(), "srs_send_bytes_total");
    assert!(sent >= value(&page, "srs_send_bytes_total"));
    assert_eq!(http::request(port, "GET", "/api/v1/versions", &[]).json()["data"]["major"], 8);
    drop(publisher);
    server.stop();
}

#[test]
fn promtool_finds_nothing_wrong() {
    let promtool = |arguments: &[&str]| {
        let mut command = Command::new("promtool");
        command.args(arguments);
        command
    };
    if promtool(&["--version"]).output().is_err() {
        return eprintln!("SKIPPED: no promtool; run deploy/install-deps test and then deploy/test");
    }
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus");
    for (what, file) in [("rules", "alerts.yml"), ("config", "prometheus.yml")] {
        let file = deploy.join(file).display().to_string();
        let checked = Process::start(&mut promtool(&["check", what, &file])).finish(PATIENCE);
        assert!(checked.status.success(), "{file}: {}", checked.stderr.join("\n"));
    }
    let port = Ports::free().api;
    let conf = format!(
        "srs_log_tank console; http_server {{ enabled on; }} http_api {{ enabled on; }} rtc_server {{ enabled on; }}
         srt_server {{ enabled on; }} exporter {{ enabled on; listen 127.0.0.1:{port}; label cn-beijing; tag cn-edge; }}
         vhost __defaultVhost__ {{ http_remux {{ enabled on; }} hls {{ enabled on; hls_fragment 1; }}
             http_hooks {{ enabled on; on_stop http://127.0.0.1:1/; }} rtc {{ enabled on; rtmp_to_rtc on; }} }}"
    );
    let server = Server::of_conf(&conf, SHARDS);
    let _publisher = Publisher::looping(&server, "live/a", Media::Plain);
    server.wait_until_live("live/a");
    drop(Viewer::open(server.ports.http, "live/a"));
    until("hooks are called", || (server.total("shardcast_hooks_failed_total", "") > 0.0).then_some(()));
    until("there is a playlist", || (server.playlist("live/a").status == 200).then_some(()));
    for port in [port, server.ports.api] {
        let page = tempfile::NamedTempFile::new().expect("a file");
        fs::write(page.path(), http::request(port, "GET", "/metrics", &[]).body).expect("write a file");
        let [_, checked] = Process::pipe(Command::new("cat").arg(page.path()), &mut promtool(&["check", "metrics"]));
        let checked = checked.finish(PATIENCE);
        assert!(checked.status.success() && checked.stderr.is_empty(), "{port}: {}", checked.stderr.join("\n"));
    }
    server.stop();
}

#[test]
fn dashboard_and_alerts_use_metrics_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut source = String::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("rs") => source.push_str(&fs::read_to_string(path).expect("a source")),
                None if path.is_dir() => folders.push(path),
                _ => {}
            }
        }
    }
    let mut used = BTreeSet::new();
    for file in ["prometheus/alerts.yml", "grafana/shardcast.json"] {
        let text = fs::read_to_string(root.join("../deploy").join(file)).expect("a file");
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        used.extend(words.filter(|word| word.starts_with("shardcast_") || word.starts_with("srs_")).map(str::to_owned));
    }
    assert!(used.len() > 10, "{used:?}");
    for name in used {
        let literal = format!("\"{}\"", name.strip_prefix("srs_").unwrap_or(&name));
        assert!(source.contains(&literal), "{name} is no metric");
    }
    let dashboard = fs::read_to_string(root.join("../deploy/grafana/shardcast.json")).expect("a dashboard");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 5));
}

#[test]
fn clients_are_summed_up_in_the_log_and_lines_may_be_json() {
    let server = Server::of_conf(
        "srs_log_tank console; log_json on; pithy_print_ms 500; http_server { enabled on; } http_api { enabled on; }
         vhost __defaultVhost__ { http_remux { enabled on; } }",
        SHARDS,
    );
    let _publisher = Publisher::looping(&server, "live/sum", Media::Plain);
    server.wait_until_live("live/sum");
    let _viewers: Vec<_> = (0..3).map(|_| Viewer::open(server.ports.http, "live/sum")).collect();
    let line = server.wait_for_log(&["flv-play: 3 clients, ikbps="]);
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&line["level"], &line["pid"]), (&"INFO".into(), &server.pid().into()));
    assert!(line["text"].as_str().is_some_and(|text| text.contains(" ms behind, 0 skips")), "{line}");
    server.wait_for_log(&["fmle-publish: 1 clients, ikbps="]);
    let ended = server.log().with(&["publishes /live/sum"]);
    let began: Value = serde_json::from_str(&ended[0]).expect("JSON");
    assert_eq!(began["cid"], server.stream("live/sum").expect("the stream")["publish"]["cid"]);
    server.stop();
}

#[test]
fn a_crash_leaves_a_line_with_its_thread_and_its_frames() {
    for (name, number) in [("SEGV", 11), ("ABRT", 6)] {
        let server = Server::start(SHARDS);
        let told = format!("[ERROR][{}][-] crash: SIG{name} in thread ", server.pid());
        let log = server.log().clone();
        server.signal(name);
        let status = server.wait_for_end(PATIENCE);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(number), "{status}");
        log.wait_for(&[&told], PATIENCE);
        let frames = log.all().into_iter().skip_while(|line| !line.contains(&told)).skip(1);
        assert!(frames.filter(|line| line.contains("shardcast(+0x")).count() > 1, "{:?}", log.all());
    }
}

/// The value of a metric without labels.
fn value(page: &str, name: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Reads `/api/v1/events`.
struct Follower {
    lines: Lines,
    seen: usize,
}

impl Follower {
    fn new(server: &Server) -> Self {
        let stream = http::open(server.ports.api, "GET", "/api/v1/events", &[]);
        let lines = Lines::default();
        lines.fill(stream);
        // The comment after the head: from now on it follows.
        lines.wait_for(&["text/event-stream"], PATIENCE);
        until("it follows", || (lines.all().iter().any(|line| line.starts_with(':'))).then_some(()));
        Self { lines, seen: 0 }
    }

    /// The next event of this kind; those between are passed over.
    fn next(&mut self, event: &str) -> Value {
        until(&format!("event {event}"), || {
            let all = self.lines.all();
            let data = all.iter().filter_map(|line| line.strip_prefix("data: "));
            let events: Vec<Value> = data.map(|data| serde_json::from_str(data).expect("JSON")).collect();
            let found = events.iter().enumerate().skip(self.seen).find(|(_, found)| found["event"] == event)?;
            self.seen = found.0 + 1;
            Some(found.1.clone())
        })
    }
}
