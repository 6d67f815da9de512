//! SRS's HTTP callbacks: what a receiver is told by real clients, and what its answers do to them.

use crate::support::{
    PATIENCE,
    certificate::Certificate,
    http,
    media::Media,
    process::{Output, Process},
    publisher::Publisher,
    server::{Server, stream_at},
    until,
    viewer::Viewer,
    within,
};
use serde_json::Value;
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// Recorded offers: to play, and to publish.
const CHROMIUM: &str = include_str!("../../../protocols/src/rtc/offer/chromium.sdp");
const OBS: &str = include_str!("../../../protocols/src/rtc/offer/obs.sdp");

/// A Python that prints what it gets.
struct Receiver {
    process: Process,
    port: u64,
}

impl Receiver {
    fn start() -> Self {
        Self::of(&mut Command::new("python3"), None)
    }

    /// Over TLS.
    fn secured(certificate: &Certificate) -> Self {
        Self::of(&mut Command::new("python3"), Some(certificate))
    }

    fn of(python: &mut Command, certificate: Option<&Certificate>) -> Self {
        python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/receiver.py"));
        python.args(certificate.into_iter().flat_map(|certificate| [&certificate.cert, &certificate.key]));
        let process = Process::talking(python);
        let line = process.lines.wait_for(&["port"], PATIENCE);
        let port = serde_json::from_str::<Value>(&line).expect("JSON")["port"].as_u64().expect("a port");
        Self { process, port }
    }

    /// All calls so far, in order.
    fn calls(&self) -> Vec<Value> {
        self.process.lines.all().iter().skip(1).map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The bodies of the calls about a stream of `app/stream` name, or without one, of its client.
    fn about(&self, stream: &str) -> Vec<Value> {
        let bodies: Vec<Value> = self.calls().into_iter().map(|mut call| call["body"].take()).collect();
        let is_its = |body: &&Value| body["stream"] == stream;
        let clients: Vec<_> = bodies.iter().filter(is_its).map(|body| body["client_id"].clone()).collect();
        let its = |body: &Value| body["stream"] == stream || clients.contains(&body["client_id"]);
        bodies.into_iter().filter(|body| body.is_object() && its(body)).collect()
    }

    /// Waits until these are the actions about `stream`, in this order.
    fn wait_for(&self, stream: &str, actions: &[&str]) -> Vec<Value> {
        let what = format!("{actions:?} of {stream}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let bodies = self.about(stream);
            let told: Vec<_> = bodies.iter().map(|body| body["action"].as_str().unwrap_or_default()).collect();
            if told == actions {
                return bodies;
            }
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}, but {told:?}");
            std::thread::yield_now();
        }
    }
}

/// With a server that tells it of `events`; `{}` in `more` of the vhost is its address.
fn with_receiver(events: &[&str], more: &str) -> (Receiver, Server) {
    let receiver = Receiver::start();
    let at = format!("http://127.0.0.1:{}", receiver.port);
    let hooks: String = events.iter().map(|event| format!("{event} {at}/{event};\n")).collect();
    let more = more.replace("{}", &at);
    let conf = format!(
        "srs_log_tank console; http_server {{ enabled on; }} http_api {{ enabled on; }}
        srt_server {{ enabled on; }} rtc_server {{ enabled on; }}
        vhost __defaultVhost__ {{ http_hooks {{ enabled on;\n{hooks} {more}
            http_remux {{ enabled on; }} srt {{ enabled on; }} rtc {{ enabled on; stun_timeout 1; }} }}"
    );
    (receiver, Server::of_conf(&conf, 2))
}

const CLIENTS: [&str; 6] = ["on_connect", "on_close", "on_publish", "on_unpublish", "on_play", "on_stop"];

fn members(body: &Value) -> String {
    body.as_object().expect("an object").keys().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// ffmpeg to its end, which comes by itself.
fn ffmpeg(input: &str, output: &[&str]) -> Output {
    let mut command = Command::new("ffmpeg");
    Process::start(command.args(["-v", "error", "-re", "-i", input, "-c", "copy"]).args(output)).finish(PATIENCE)
}

fn play(url: &str) -> Output {
    ffmpeg(url, &["-t", "1", "-f", "null", "-"])
}

fn offer(server: &Server, how: &str, stream: &str) -> http::Response {
    let path = format!("/rtc/v1/{how}/?app=live&stream={stream}&k=v");
    http::post(server.ports.api, "POST", &path, if how == "whip" { OBS } else { CHROMIUM })
}

#[test]
fn rtmp_clients_are_told_of_in_full_and_in_order() {
    let (receiver, server) = with_receiver(&CLIENTS, "}");
    let published =
        ffmpeg(&Media::Short.file().display().to_string(), &["-f", "flv", &format!("{}?k=v", server.rtmp("live/a"))]);
    assert!(published.status.success(), "{:?}", published.stderr);
    let told = receiver.wait_for("a", &["on_connect", "on_publish", "on_unpublish", "on_close"]);
    let common = "server_id service_id action client_id ip vhost app";
    let publish = "tcUrl stream param stream_url stream_id";
    let expected = ["stream param tcUrl pageUrl", publish, publish, "send_bytes recv_bytes"];
    for (body, more) in told.iter().zip(expected) {
        assert_eq!(members(body), format!("{common} {more}"));
        assert_eq!(
            (&body["ip"], &body["vhost"], &body["app"]),
            (&"127.0.0.1".into(), &"__defaultVhost__".into(), &"live".into())
        );
        assert_eq!(body["client_id"], told[0]["client_id"]);
    }
    let port = server.ports.rtmp;
    assert_eq!(told[1]["tcUrl"], format!("rtmp://127.0.0.1:{port}/live"));
    assert_eq!((&told[1]["param"], &told[1]["stream_url"]), (&"?k=v".into(), &"/live/a".into()));
    assert!(told[3]["recv_bytes"].as_u64() > Some(100_000), "{}", told[3]);
    let cid = told[0]["client_id"].as_str().expect("an id");
    assert!(server.log().with(&[cid, "publishes /live/a"]).len() == 1);
    let versions = server.get("/api/v1/versions").json();
    assert_eq!((&told[0]["server_id"], &told[0]["service_id"]), (&versions["server"], &versions["service"]));
    let call = &receiver.calls()[0];
    assert_eq!((&call["method"], &call["path"]), (&"POST".into(), &"/on_connect".into()));
    let header = |name: &str| call["headers"][name].as_str().unwrap_or_default().to_owned();
    assert_eq!((header("content-type"), header("connection")), ("application/json".into(), "Keep-Alive".into()));
    assert_eq!(header("host"), format!("127.0.0.1:{}", receiver.port));
    assert_eq!(server.total("shardcast_hooks_total", "event=\"on_publish\""), 1.0);
    server.stop();
}

#[test]
fn viewers_of_each_protocol_are_told_of() {
    let (receiver, server) = with_receiver(&["on_play", "on_stop"], "}");
    let _publisher = Publisher::looping(&server, "live/a", Media::Plain);
    let id = server.wait_until_live("live/a")["id"].clone();
    let mut seen = 0;
    let mut next = |what: &str| {
        let bodies = within(PATIENCE, what, || Some(receiver.about("a")).filter(|told| told.len() >= seen + 2));
        let (play, stop) = (bodies[seen].clone(), bodies[seen + 1].clone());
        seen += 2;
        assert_eq!((&play["action"], &stop["action"]), (&"on_play".into(), &"on_stop".into()), "{what}");
        assert_eq!((&play["client_id"], &play["stream_id"]), (&stop["client_id"], &id), "{what}");
        assert_eq!((&play["clients"], &stop["clients"]), (&1.into(), &1.into()), "{what}");
        play
    };
    assert!(play(&format!("{}?k=v", server.rtmp("live/a"))).status.success());
    let common = "server_id service_id action client_id ip vhost app";
    let rtmp = next("RTMP");
    assert_eq!(members(&rtmp), format!("{common} stream tcUrl param pageUrl stream_url stream_id clients"));
    assert_eq!(rtmp["param"], "?k=v");
    assert!(play(&format!("{}?k=v", server.flv("live/a"))).status.success());
    let flv = next("HTTP-FLV");
    assert_eq!((&flv["tcUrl"], &flv["param"]), (&"rtmp://__defaultVhost__/live".into(), &"?k=v".into()));
    assert!(play(&format!("{},k=v", server.srt("live/a"))).status.success());
    let srt = next("SRT");
    assert_eq!(srt["param"], "k=v");
    assert!(srt["tcUrl"].as_str().is_some_and(|url| url.starts_with("srt://") && url.ends_with("/live")), "{srt}");
    // Its peer never comes, so that it ends after stun_timeout.
    assert_eq!(offer(&server, "whep", "a").status, 201);
    let whep = next("WHEP");
    assert_eq!((&whep["tcUrl"], &whep["param"]), (&"".into(), &"app=live&stream=a&k=v".into()));
    server.stop();
}

#[test]
fn viewers_by_hls_are_asked_about_and_told_of() {
    let (receiver, server) =
        with_receiver(&["on_play", "on_stop"], "} hls { enabled on; hls_fragment 1; hls_window 1; }");
    let _publisher = Publisher::looping(&server, "live/a", Media::Plain);
    let _other = Publisher::looping(&server, "live/no-hls", Media::Plain);
    let playlist = |path: &str| until("a playlist", || Some(server.get(path)).filter(|answer| answer.status != 404));
    let master = playlist("/live/a.m3u8?k=v").text();
    let uri = master.lines().nth(2).expect("a URI").to_owned();
    assert_eq!(server.get(&uri).status, 200);
    let bodies = receiver.wait_for("a.m3u8", &["on_play", "on_stop"]);
    let common = "server_id service_id action client_id ip vhost app";
    assert_eq!(members(&bodies[0]), format!("{common} stream tcUrl param pageUrl stream_url stream_id clients"));
    assert_eq!(members(&bodies[1]), format!("{common} tcUrl stream param stream_url stream_id clients"));
    for (name, wanted) in [("stream_url", "/live/a"), ("tcUrl", "http://127.0.0.1/live"), ("param", "?k=v")] {
        assert_eq!((&bodies[0][name], &bodies[1][name]), (&wanted.into(), &wanted.into()), "{name}");
    }
    let id = bodies[0]["client_id"].as_str().expect("an id");
    assert!(uri.contains(&format!("hls_ctx={id}")) && bodies[1]["client_id"] == id, "{uri}");
    // Nobody that is refused gets a playlist, not even by an id of its own.
    for path in ["/live/no-hls.m3u8", "/live/no-hls.m3u8?hls_ctx=mine"] {
        assert_eq!(playlist(path).status, 401, "{path}");
    }
    receiver.wait_for("no-hls.m3u8", &["on_play", "on_play"]);
    // Those who are here when the server ends are told of too.
    assert_eq!(server.get("/live/a.m3u8?hls_ctx=last").status, 200);
    server.stop();
    receiver.wait_for("a.m3u8", &["on_play", "on_stop", "on_play", "on_stop"]);
}

#[test]
fn publishers_by_srt_and_whip_are_told_of() {
    let (receiver, server) = with_receiver(&CLIENTS, "}");
    let file = Media::Short.file().display().to_string();
    assert!(ffmpeg(&file, &["-f", "mpegts", &server.srt_in("live/srt")]).status.success());
    receiver.wait_for("srt", &["on_connect", "on_publish", "on_unpublish", "on_close"]);
    let whip = offer(&server, "whip", "whip");
    assert_eq!(whip.status, 201);
    let location = whip.header("location").expect("a place").to_owned();
    assert_eq!(http::request(server.ports.api, "DELETE", &location, &[]).status, 200);
    receiver.wait_for("whip", &["on_publish", "on_unpublish"]);
    server.stop();
}

#[test]
fn clients_that_are_refused_see_it() {
    let (receiver, server) = with_receiver(&CLIENTS, "}");
    let file = Media::Short.file().display().to_string();
    let published = ffmpeg(&file, &["-f", "flv", &server.rtmp("live/no-a")]);
    assert!(published.stderr.join("\n").contains("rejected by on_publish"), "{:?}", published.stderr);
    receiver.wait_for("no-a", &["on_connect", "on_publish", "on_close"]);
    let played = play(&server.rtmp("live/no-b"));
    assert!(played.stderr.join("\n").contains("rejected by on_play"), "{:?}", played.stderr);
    receiver.wait_for("no-b", &["on_connect", "on_play", "on_close"]);
    for path in ["/live/no-c.flv", "/live/no-c.ts"] {
        let refused = http::request(server.ports.http, "GET", path, &["Origin: http://elsewhere.example"]);
        let header = |name| refused.header(name).map(str::to_owned);
        assert_eq!(
            (refused.status, header("content-type").as_deref()),
            (401, Some("text/plain; charset=utf-8")),
            "{path}"
        );
        assert_eq!(refused.text(), "3064: HttpResponseCode: rejected by on_play\n", "{path}");
        assert_eq!(header("access-control-allow-origin").as_deref(), Some("*"), "{path}");
    }
    receiver.wait_for("no-c", &["on_play", "on_play"]);
    for how in ["whip", "whep"] {
        assert_eq!(offer(&server, how, &format!("no-{how}")).status, 401);
    }
    assert!(!ffmpeg(&file, &["-f", "mpegts", &server.srt_in("live/no-d")]).status.success());
    receiver.wait_for("no-d", &["on_connect", "on_publish", "on_close"]);
    server.wait_for_log(&["on_publish of /live/no-a http://127.0.0.1", "answered code 1"]);
    assert_eq!(server.total("shardcast_hooks_failed_total", "event=\"on_publish\""), 3.0);
    assert!(server.stream("live/no-a").is_none());
    server.stop();
}

#[test]
fn busy_stream_is_asked_about_and_its_second_publisher_never_was() {
    let (receiver, server) = with_receiver(&CLIENTS, "}");
    let _first = Publisher::looping(&server, "live/a", Media::Plain);
    server.wait_until_live("live/a");
    let second = ffmpeg(&Media::Short.file().display().to_string(), &["-f", "flv", &server.rtmp("live/a")]);
    assert!(!second.status.success());
    receiver.wait_for("a", &["on_connect", "on_publish", "on_connect", "on_publish", "on_close"]);
    server.stop();
}

#[test]
fn all_urls_are_called_in_order_until_one_says_no() {
    let (receiver, server) =
        with_receiver(&[], "on_publish {}/1?x=y {}/zero {}/3; on_play {}/1 ftp://127.0.0.1/ {}/3; }");
    let _publisher = Publisher::looping(&server, "live/a", Media::Plain);
    server.wait_until_live("live/a");
    let paths = || receiver.calls().iter().map(|call| call["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(paths(), ["/1?x=y", "/zero", "/3"]);
    server.wait_for_log(&["on_play ftp://127.0.0.1/: only http and https are called"]);
    assert_eq!(server.get("/live/a.flv").status, 401);
    until("all are told", || (paths() == ["/1?x=y", "/zero", "/3", "/1"]).then_some(()));
    server.stop();
}

#[test]
fn receiver_that_is_not_there_is_a_no() {
    let (receiver, server) = with_receiver(&["on_publish"], "}");
    drop(receiver);
    let refused = ffmpeg(&Media::Short.file().display().to_string(), &["-f", "flv", &server.rtmp("live/a")]);
    assert!(refused.stderr.join("\n").contains("rejected by on_publish"), "{:?}", refused.stderr);
    server.wait_for_log(&["on_publish of /live/a", "connect:"]);
    server.stop();
}

#[test]
fn receiver_that_does_not_answer_holds_up_its_client_alone_and_is_a_no_in_the_end() {
    let (receiver, server) = with_receiver(&["on_play"], "}");
    let _publisher = Publisher::looping(&server, "live/a", Media::Plain);
    server.wait_until_live("live/a");
    let asked = Instant::now();
    let mut waiting = Process::start(Command::new("curl").args([
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &server.flv("live/hang"),
    ]));
    until("the receiver is asked", || (!receiver.about("hang").is_empty()).then_some(()));
    // Meanwhile another comes and plays.
    let viewer = Viewer::open(server.ports.http, "live/a");
    until("the other plays", || viewer.newest_ms().filter(|newest| *newest > 2_000));
    assert!(waiting.ended().is_none(), "refused after {:?}", asked.elapsed());
    let refused = waiting.finish(Duration::from_secs(45));
    assert_eq!(refused.stdout, b"401");
    assert!(asked.elapsed() >= Duration::from_secs(30), "{:?}", asked.elapsed());
    server.wait_for_log(&["on_play of /live/hang", "no answer within 30 s"]);
    let before = viewer.newest_ms();
    until("the other plays on", || (viewer.newest_ms() > before).then_some(()));
    server.stop();
}

#[test]
fn files_are_told_of_once_they_are_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().display();
    let (receiver, server) = with_receiver(
        &["on_dvr", "on_hls"],
        &format!(
            "on_hls_notify {{}}/notify/[app]/[stream]/[ts_url][param]; }}
            dvr {{ enabled on; dvr_path {at}/[app]/[stream].flv; }}
            hls {{ enabled on; hls_fragment 1; hls_path {at}; }}"
        ),
    );
    let url = format!("{}?k=v", server.rtmp("live/a"));
    assert!(ffmpeg(&Media::Short.file().display().to_string(), &["-f", "flv", &url]).status.success());
    let of = |action: &str| receiver.about("a").into_iter().filter(|body| body["action"] == action).collect::<Vec<_>>();
    let dvr = until("the recording is told of", || of("on_dvr").pop());
    let common = "server_id service_id action client_id ip vhost app tcUrl stream param";
    assert_eq!(members(&dvr), format!("{common} cwd file stream_url stream_id"));
    assert_eq!(dvr["file"], format!("{at}/live/a.flv"));
    assert!(std::fs::read(format!("{at}/live/a.flv")).is_ok_and(|file| file.starts_with(b"FLV")));
    let segments = until("four segments are told of", || Some(of("on_hls")).filter(|told| told.len() == 4));
    for (n, segment) in segments.iter().enumerate() {
        let more = "duration cwd file url m3u8 m3u8_url seq_no stream_url stream_id";
        assert_eq!(members(segment), format!("{common} {more}"));
        assert_eq!((&segment["seq_no"], &segment["url"]), (&n.into(), &format!("live/a-{n}.ts").into()));
        assert_eq!(
            (&segment["file"], &segment["m3u8_url"]),
            (&format!("{at}/live/a-{n}.ts").into(), &"live/a.m3u8".into())
        );
        assert!(segment["duration"].as_f64().is_some_and(|s| (0.9..1.1).contains(&s)), "{segment}");
        assert!(Path::new(segment["file"].as_str().expect("a path")).exists());
    }
    let notified = until("all are notified", || {
        let gets: Vec<_> = receiver.calls().into_iter().filter(|call| call["method"] == "GET").collect();
        (gets.len() == 4).then_some(gets)
    });
    assert_eq!(notified[0]["path"], "/notify/live/a/live/a-0.ts?k=v");
    server.stop();
}

#[test]
fn recordings_are_told_of_before_their_publisher_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let more = format!("}} dvr {{ enabled on; dvr_path {}/[stream].mp4; }}", folder.path().display());
    let (receiver, server) = with_receiver(&[&CLIENTS[..], &["on_dvr"]].concat(), &more);
    for home in 0..2 {
        let name = stream_at(home, 2, "d");
        assert!(publish(&server, &name));
        let stream = name.trim_start_matches("live/");
        receiver.wait_for(stream, &["on_connect", "on_publish", "on_dvr", "on_unpublish", "on_close"]);
    }
    // Over SRT, and by who records nothing.
    let file = Media::Short.file().display().to_string();
    assert!(ffmpeg(&file, &["-f", "mpegts", &server.srt_in("live/srt")]).status.success());
    receiver.wait_for("srt", &["on_connect", "on_publish", "on_dvr", "on_unpublish", "on_close"]);
    std::fs::write(folder.path().join("there.mp4"), "mine").expect("write a file");
    assert!(publish(&server, "live/there"));
    receiver.wait_for("there", &["on_connect", "on_publish", "on_unpublish", "on_close"]);
    server.stop();
}

/// Publishes for a moment; whether it might.
fn publish(server: &Server, stream: &str) -> bool {
    let target = server.rtmp(stream);
    ffmpeg(&Media::Short.file().display().to_string(), &["-f", "flv", &target]).status.success()
}

#[test]
fn receivers_over_https_are_called_where_they_are_trusted() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = Certificate::make(folder.path(), "receiver", "localhost");
    let receiver = Receiver::secured(&certificate);
    let conf = |more: &str| {
        format!(
            "srs_log_tank console; http_server {{ enabled on; }} http_api {{ enabled on; }}
             vhost __defaultVhost__ {{ http_hooks {{ enabled on; {more}
                on_publish https://localhost:{0}/on_publish; on_unpublish https://127.0.0.1:{0}/on_unpublish; }} }}",
            receiver.port
        )
    };
    let trusting = certificate.cert.display().to_string();
    let server = Server::of_conf_with(&conf("verify on;"), &[("SSL_CERT_FILE", &trusting)], 2);
    assert!(publish(&server, "live/trusted"));
    receiver.wait_for("trusted", &["on_publish", "on_unpublish"]);
    assert!(!publish(&server, "live/no"), "it was refused");
    server.stop();

    // A certificate that nobody knows: the client is refused, and the log says why.
    let server = Server::of_conf(&conf("verify on;"), 2);
    assert!(!publish(&server, "live/unknown"));
    server.wait_for_log(&["[WARN]", "on_publish of /live/unknown https://localhost", "TLS: invalid peer certificate"]);
    assert!(receiver.about("unknown").is_empty());
    assert!(server.total("shardcast_hooks_failed_total", "event=\"on_publish\"") >= 1.0);
    server.stop();

    // By itself it is looked at as little as by SRS.
    let server = Server::of_conf(&conf(""), 2);
    assert!(publish(&server, "live/anybody"));
    receiver.wait_for("anybody", &["on_publish", "on_unpublish"]);
    server.stop();
}

#[test]
fn bodies_are_signed_connections_kept_and_lost_calls_made_again() {
    let (receiver, server) = with_receiver(
        &["on_connect", "on_publish"],
        "on_unpublish {}/flaky; secret s3cret; keep_alive on; retries 2; }",
    );
    assert!(publish(&server, "live/signed"));
    let told = receiver.wait_for("signed", &["on_connect", "on_publish", "on_unpublish", "on_unpublish"]);
    assert_eq!(told[2], told[3]);
    let calls = receiver.calls();
    let first = &calls[0]["from"];
    assert!(calls.iter().all(|call| call["from"] == *first), "one connection for all: {calls:?}");
    for call in &calls {
        let signature = call["headers"]["x-shardcast-signature"].as_str().expect("a signature");
        let mut openssl = Command::new("openssl");
        let body = serde_json::to_string(&call["body"]).expect("JSON");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), body).expect("write a file");
        openssl.args(["dgst", "-sha256", "-hmac", "s3cret", "-r"]).arg(file.path());
        let output = String::from_utf8(Process::start(&mut openssl).finish(PATIENCE).stdout).expect("UTF-8");
        assert_eq!(signature.strip_prefix("sha256="), output.split(' ').next());
    }
    // What somebody waits for is asked once.
    assert!(!publish(&server, "live/no"));
    assert_eq!(receiver.about("no").iter().filter(|body| body["action"] == "on_publish").count(), 1);
    assert_eq!(server.total("shardcast_hooks_failed_total", "event=\"on_unpublish\""), 1.0);
    server.stop();
}

#[test]
fn the_heart_beats_with_what_it_is_told_to_tell() {
    let receiver = Receiver::start();
    let conf = format!(
        "srs_log_tank console; listen 1935; http_server {{ enabled on; }} http_api {{ enabled on; }}
         srt_server {{ enabled on; }}
         heartbeat {{ enabled on; interval 1; url http://127.0.0.1:{}/api/v1/servers?x=y; device_id my-device;
            summaries on; ports on; auth {{ enabled on; token t0ken; }} }}
         vhost __defaultVhost__ {{ }}",
        receiver.port
    );
    let server = Server::of_conf_with(&conf, &[("SRS_DEVICE_IP", "10.1.2.3")], 2);
    let calls = until("two beats", || Some(receiver.calls()).filter(|calls| calls.len() > 1));
    let (call, body) = (&calls[1], &calls[1]["body"]);
    assert_eq!((&call["method"], &call["path"]), (&"POST".into(), &"/api/v1/servers".into()));
    assert_eq!(call["headers"]["authorization"], "Bearer t0ken");
    assert_eq!(members(body), "device_id ip server service pid summaries rtmp http api srt");
    assert_eq!((&body["device_id"], &body["ip"]), (&"my-device".into(), &"10.1.2.3".into()));
    assert_eq!(body["summaries"]["data"]["ok"], true);
    let ports = server.ports;
    assert_eq!(body["rtmp"][0], format!("127.0.0.1:{}", ports.rtmp));
    assert_eq!(body["srt"][0], format!("udp://127.0.0.1:{}", ports.srt));
    let versions = server.get("/api/v1/versions").json();
    assert_eq!((&body["server"], &body["service"]), (&versions["server"], &versions["service"]));
    until("beats are counted", || (server.total("shardcast_heartbeats_total", "result=\"ok\"") > 1.0).then_some(()));
    server.stop();
}
