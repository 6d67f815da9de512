//! SRS's HTTP API: every endpoint, who may use it, and what a client of it can do to others.

use crate::support::{
    PATIENCE, http, media::Media, process::Process, publisher::Publisher, server::Server, until, viewer::Viewer,
};
use serde_json::{Value, json};
use std::{path::Path, process::Command};

const SHARDS: usize = 2;

#[test]
fn every_endpoint_answers_in_srs_s_shape() {
    let server = Server::start(SHARDS);
    let envelope = ["code", "server", "service", "pid"];
    for (path, member, members) in [
        ("/", "urls", "api rtc"),
        ("/nothing", "urls", "api rtc"),
        ("/rtc/v1/nack/", "urls", "api rtc"),
        ("/api/", "urls", "v1"),
        ("/api/nothing", "urls", "v1"),
        (
            "/api/v1/",
            "urls",
            "versions summaries rusages self_proc_stats system_proc_stats meminfos authors features requests vhosts \
             streams clients raw clusters perf shards events log-level openapi.json",
        ),
        ("/api/v1/versions", "data", "major minor revision version"),
        ("/api/v1/summaries", "data", "ok now_ms self system"),
        (
            "/api/v1/rusages",
            "data",
            "ok sample_time ru_utime ru_stime ru_maxrss ru_ixrss ru_idrss ru_isrss ru_minflt ru_majflt ru_nswap \
             ru_inblock ru_oublock ru_msgsnd ru_msgrcv ru_nsignals ru_nvcsw ru_nivcsw",
        ),
        (
            "/api/v1/self_proc_stats",
            "data",
            "ok sample_time percent pid comm state ppid pgrp session tty_nr tpgid flags minflt cminflt majflt cmajflt \
             utime stime cutime cstime priority nice num_threads itrealvalue starttime vsize rss rsslim startcode \
             endcode startstack kstkesp kstkeip signal blocked sigignore sigcatch wchan nswap cnswap exit_signal \
             processor rt_priority policy delayacct_blkio_ticks guest_time cguest_time",
        ),
        (
            "/api/v1/system_proc_stats",
            "data",
            "ok sample_time percent user nice sys idle iowait irq softirq steal guest",
        ),
        (
            "/api/v1/meminfos",
            "data",
            "ok sample_time percent_ram percent_swap MemActive RealInUse NotInUse MemTotal MemFree Buffers Cached \
             SwapTotal SwapFree",
        ),
        ("/api/v1/authors", "data", "license contributors"),
        ("/api/v1/features", "data", "options options2 build build2 features"),
        ("/api/v1/tests/requests?a=b", "data", "uri path METHOD headers"),
    ] {
        until("the first look at /proc", || {
            let ok = &api(&server, path)[member]["ok"];
            (ok.is_null() || ok == true).then_some(())
        });
        let answer = api(&server, path);
        assert_eq!(names(&answer)[..5], [&envelope[..], &[member]].concat(), "{path}");
        assert_eq!(names(&answer[member]), words(members), "{path}");
        assert_eq!(answer["code"], 0);
    }
    for (path, answer) in [
        ("/api/v1/tests/errors", r#"{"code":100}"#),
        ("/api/v1/vhosts/vid-0", r#"{"code":2014}"#),
        ("/api/v1/streams/vid-0", r#"{"code":2048}"#),
        ("/api/v1/clients/00000000", r#"{"code":2049}"#),
        ("/api/v1/raw?rpc=reload", r#"{"code":1061}"#),
        (
            "/api/v1/clusters?vhost=v&ip=1.2.3.4&app=live&stream=none&coworker=h:1985",
            r#"{"code":0,"data":{"query":{"ip":"1.2.3.4","vhost":"v","app":"live","stream":"none"},"origin":null}}"#,
        ),
    ] {
        assert_eq!(get(&server, path).text(), answer, "{path}");
    }
    assert_eq!(get(&server, "/console/nothing").status, 404);
    let raw = api(&server, "/api/v1/raw?rpc=raw");
    assert_eq!(names(&raw), ["code", "http_api"]);
    assert_eq!(names(&raw["http_api"]), ["enabled", "listen", "crossdomain", "raw_api"]);
    assert_eq!(names(&raw["http_api"]["raw_api"]), ["enabled", "allow_reload", "allow_query", "allow_update"]);
    server.stop();
}

#[test]
fn numbers_headers_and_methods_are_srs_s() {
    let server = Server::start(SHARDS);
    until("the first look at /proc", || (api(&server, "/api/v1/meminfos")["data"]["ok"] == true).then_some(()));
    let memory = get(&server, "/api/v1/meminfos");
    let percent = memory.text().split_once("\"percent_ram\":").expect("percent_ram").1[..4].to_owned();
    assert!(percent.starts_with("0.") && percent[2..].bytes().all(|digit| digit.is_ascii_digit()), "{percent}");
    assert_eq!((memory.header("connection"), memory.header("content-type")), (Some("Close"), Some("application/json")));
    assert!(memory.header("content-length").is_some());

    let data = &api(&server, "/api/v1/summaries")["data"];
    for (part, name) in [
        ("self", "mem_kbyte"),
        ("self", "pid"),
        ("system", "mem_ram_kbyte"),
        ("system", "cpus"),
        ("system", "conn_sys"),
    ] {
        assert!(data[part][name].as_u64() > Some(0), "{part}.{name} of {data}");
    }
    assert!(data["system"]["uptime"].as_f64() > Some(0.0));
    let stat = &api(&server, "/api/v1/self_proc_stats")["data"];
    assert!(stat["num_threads"].as_u64() > Some(2) && stat["rss"].as_u64() > Some(0), "{stat}");

    let request = |method, path| http::request(server.ports.api, method, path, &[]);
    let head = request("HEAD", "/api/v1/streams/");
    assert_eq!((head.status, head.body.len()), (200, 0));
    for (method, path) in [("POST", "/api/v1/streams/"), ("DELETE", "/api/v1/vhosts/x"), ("PUT", "/api/v1/clients/x")] {
        let refused = request(method, path);
        assert_eq!((refused.status, refused.header("allow").is_some()), (405, true), "{method} {path}");
    }
    for (path, status, to) in [
        ("/api/v1/clients?count=3", 302, "/api/v1/clients/?count=3"),
        ("/api/v1", 302, "/api/v1/"),
        ("/api/v1/tests/redirects?a=b", 301, "/api/v1/tests/errors?a=b"),
    ] {
        let moved = request("GET", path);
        assert_eq!((moved.status, moved.header("location")), (status, Some(to)));
    }
    server.stop();
}

#[test]
fn scripts_of_other_pages_get_jsonp() {
    let server = Server::start(SHARDS);
    let plain = get(&server, "/api/v1/versions").text();
    let wrapped = get(&server, "/api/v1/versions?callback=on.it_1-x");
    assert_eq!(wrapped.header("content-type"), Some("text/javascript"));
    assert_eq!(wrapped.text(), format!("on.it_1-x({plain})"));
    let deleted = get(&server, "/api/v1/clients/none?callback=f&method=DELETE");
    assert_eq!(deleted.text(), r#"f({"code":2049})"#);
    // What is no name could be a script: there is no answer.
    let mut bytes = Vec::new();
    let mut socket = http::open(server.ports.api, "GET", "/api/v1/versions?callback=alert(1)", &[]);
    std::io::Read::read_to_end(&mut socket, &mut bytes).expect("the connection's end");
    assert!(bytes.is_empty(), "{:?}", String::from_utf8_lossy(&bytes));
    server.stop();
}

#[test]
fn clients_of_all_kinds_are_listed_and_can_be_ended() {
    let server = Server::start(SHARDS);
    let mut publisher = Publisher::looping(&server, "live/kick", Media::Plain);
    server.wait_until_live("live/kick");
    let flv: Vec<_> = (0..3).map(|_| Viewer::open(server.ports.http, "live/kick")).collect();
    let mut rtmp = player(&server.rtmp("live/kick"));
    let mut srt = player(&server.srt("live/kick"));
    let mut sender = Process::start(
        Command::new("ffmpeg")
            .args(["-v", "error", "-re", "-stream_loop", "-1", "-i"])
            .arg(Media::Plain.file())
            .args(["-c", "copy", "-f", "mpegts"])
            .arg(server.srt_in("live/other")),
    );
    let list = until("all clients are there and were sent bytes", || {
        let list = clients(&server);
        let moved = |client: &Value| {
            let member = if client["publish"] == true { "recv_bytes" } else { "send_bytes" };
            client[member].as_u64() > Some(10_000)
        };
        (list.len() == 7 && list.iter().all(moved)).then_some(list)
    });
    let mut kinds: Vec<_> = list.iter().map(|client| client["type"].as_str().expect("a type")).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["flv-play", "flv-play", "flv-play", "fmle-publish", "rtmp-play", "srt-play", "srt-publish"]);
    let ids: Vec<_> = list.iter().map(id).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    for client in &list {
        assert_client(&server, client);
        let one = api(&server, &format!("/api/v1/clients/{}", id(client)));
        assert_eq!((names(&one)[4], &one["client"]["id"]), ("client", &client["id"]));
    }
    assert_eq!(clients_of(&server, "?start=5&count=1").len(), 1);
    assert_eq!(clients_of(&server, "?start=5").len(), 2);
    let stream = server.stream("live/kick").expect("the stream");
    let publishes = |client: &&Value| client["publish"] == true && client["stream"] == stream["id"];
    assert_eq!(list.iter().find(publishes).expect("its publisher")["id"], stream["publish"]["cid"]);
    let vhosts = api(&server, "/api/v1/vhosts/");
    let vhost = &vhosts["vhosts"][0];
    assert_eq!((&vhost["id"], &vhost["streams"]), (&stream["vhost"], &2.into()));
    assert_eq!(names(vhost), words("id name enabled clients streams send_bytes recv_bytes kbps hls"));
    assert_eq!((&vhost["clients"], &vhost["hls"]["fragment"]), (&7.into(), &2.0.into()));

    // One viewer's end is nobody else's.
    let kick = |client: &Value| {
        let answer = http::request(server.ports.api, "DELETE", &format!("/api/v1/clients/{}", id(client)), &[]);
        assert_eq!(names(&answer.json()), ["code", "server", "service", "pid"]);
        server.wait_for_log(&[id(client), "ended after", "kicked through the API"]);
    };
    let of = |kind: &str| list.iter().find(|client| client["type"] == kind).expect("one of its kind");
    kick(of("flv-play"));
    until("one of the three is gone", || (clients(&server).len() == 6).then_some(()));
    let gone = http::request(server.ports.api, "DELETE", &format!("/api/v1/clients/{}", id(of("flv-play"))), &[]);
    assert_eq!(gone.text(), r#"{"code":2049}"#);
    let before: Vec<_> = flv.iter().map(|viewer| viewer.frames().len()).collect();
    until("the other two go on", || {
        let more = flv.iter().zip(&before).filter(|(viewer, before)| viewer.frames().len() > **before + 10).count();
        (more == 2).then_some(())
    });
    kick(of("rtmp-play"));
    until("the player ends", || rtmp.ended());
    kick(of("srt-play"));
    until("the SRT player ends", || srt.ended());
    kick(of("srt-publish"));
    until("the SRT publisher ends", || sender.ended());
    kick(of("fmle-publish"));
    until("the publisher ends", || publisher.process.ended());
    assert_eq!(server.total("shardcast_clients_kicked_total", ""), 5.0);
    server.stop();
}

#[test]
fn shards_tell_their_load_and_what_they_serve() {
    let server = Server::start(SHARDS);
    let _publisher = Publisher::looping(&server, "live/shards", Media::Plain);
    server.wait_until_live("live/shards");
    let _viewers: Vec<_> = (0..8).map(|_| Viewer::open(server.ports.http, "live/shards")).collect();
    let shards = until("all eight are seen, and some load", || {
        let shards = api(&server, "/api/v1/shards")["shards"].as_array().expect("shards").clone();
        let sum = |name: &str| shards.iter().filter_map(|shard| shard[name].as_f64()).sum::<f64>();
        (sum("viewers") == 8.0 && sum("load") > 0.0 && sum("send_bytes") > 0.0).then_some(shards)
    });
    assert_eq!(shards.len(), SHARDS);
    for (index, shard) in shards.iter().enumerate() {
        assert_eq!(
            names(shard),
            words(
                "id load late_ms window_ms read_span_ms full connections streams publishers viewers recv_bytes \
                 send_bytes mesh_frames"
            )
        );
        assert_eq!(shard["id"], index);
        assert!(shard["load"].as_f64() <= Some(1.0), "{shard}");
    }
    server.stop();
}

#[test]
fn names_and_passwords_keep_others_out() {
    let server = guarded("type basic; username admin; password s3cret;");
    for port in [server.ports.api, server.ports.http] {
        let asked = |header: &str| http::request(port, "GET", "/api/v1/streams/", &[header]);
        // admin:s3cret, admin:secret, and no base64.
        assert_eq!(asked("Authorization: Basic YWRtaW46czNjcmV0").status, 200);
        for (header, challenge) in [
            ("X: y", Some("Basic")),
            ("Authorization: Basic YWRtaW46c2VjcmV0", Some("Basic")),
            ("Authorization: Basic ###", None),
        ] {
            let refused = asked(header);
            assert_eq!((refused.status, refused.header("www-authenticate")), (401, challenge), "{header}");
            assert!(refused.body.is_empty());
        }
        assert_eq!(http::request(port, "GET", "/metrics", &[]).status, 200);
        assert_eq!(http::request(port, "OPTIONS", "/api/v1/streams/", &["Origin: http://e.example"]).status, 200);
    }
    assert_eq!(server.total("shardcast_api_denied_total", ""), 6.0);
    server.stop();
}

#[test]
fn tokens_keep_others_out_and_guard_webrtc_where_they_should() {
    let server = guarded("type bearer; token t0ken; rtc_bearer_enabled on;");
    let asked = |method, path, header| http::request(server.ports.api, method, path, &[header]);
    assert_eq!(asked("GET", "/api/v1/clients/", "Authorization: Bearer t0ken").status, 200);
    for path in ["/api/v1/clients/", "/rtc/v1/whip/?app=live&stream=a", "/rtc/v1/whep/"] {
        let refused = asked("POST", path, "Authorization: Bearer other");
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{path}");
    }
    // It gets so far that its offer is missed.
    assert_eq!(asked("POST", "/rtc/v1/whip/", "Authorization: Bearer t0ken").status, 400);
    server.stop();
}

#[test]
fn the_openapi_document_is_true() {
    let server = Server::start(SHARDS);
    let _publisher = Publisher::looping(&server, "live/open", Media::Plain);
    server.wait_until_live("live/open");
    let _viewer = Viewer::open(server.ports.http, "live/open");
    server.wait_for_clients("live/open", 2);
    until("both clients and the machine are seen", || {
        let seen = clients(&server).len() == 2 && api(&server, "/api/v1/summaries")["data"]["ok"] == true;
        seen.then_some(())
    });
    let document = api(&server, "/api/v1/openapi.json");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    let paths = document["paths"].as_object().expect("paths");
    let stream = server.stream("live/open").expect("the stream");
    for (path, item) in paths {
        let Some(get) = item.get("get") else { continue };
        if path == "/api/v1/events" {
            // It goes on for ever.
            continue;
        }
        let id = match &**path {
            "/api/v1/vhosts/{id}" => stream["vhost"].as_str(),
            "/api/v1/streams/{id}" => stream["id"].as_str(),
            "/api/v1/clients/{id}" => stream["publish"]["cid"].as_str(),
            _ => Some(""),
        };
        let path = path.replace("{id}", id.expect("an id"));
        let content = &get["responses"]["200"]["content"];
        let answer = self::get(&server, &path);
        let content_type = answer.header("content-type").expect("a type");
        let schema = &content[content_type.split(';').next().unwrap_or_default()]["schema"];
        assert!(schema.is_object(), "{path} answers {content_type}, not in {content}");
        if content_type == "application/json" {
            check(&document, schema, &answer.json(), &path);
        }
    }
    // All that the index lists, and nothing less.
    let listed = api(&server, "/api/v1/")["urls"].clone();
    for name in names(&listed).into_iter().filter(|name| !matches!(*name, "perf" | "requests")) {
        let known = [format!("/api/v1/{name}"), format!("/api/v1/{name}/")];
        assert!(known.iter().any(|path| paths.contains_key(path)), "{name} is not described");
    }
    server.stop();
}

#[test]
fn schemathesis_finds_nothing() {
    let Ok(python) = std::env::var("SHARDCAST_PYTHON") else {
        println!("SKIPPED: SHARDCAST_PYTHON is not set");
        return;
    };
    let program = Path::new(&python).with_file_name("schemathesis");
    if !program.is_file() {
        println!("SKIPPED: no schemathesis beside {python}");
        return;
    }
    let server = Server::start(SHARDS);
    let _publisher = Publisher::looping(&server, "live/fuzzed", Media::Plain);
    server.wait_until_live("live/fuzzed");
    let api = format!("http://127.0.0.1:{}", server.ports.api);
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(program);
    command.current_dir(folder.path()).args(["run", &format!("{api}/api/v1/openapi.json"), "--url", &api]);
    // Events go on for ever. As SRS, the API takes values that it cannot use for none, and has an answer to any method
    // where it has one to any path.
    command.args([
        "--exclude-path",
        "/api/v1/events",
        "--exclude-checks",
        "unsupported_method,negative_data_rejection",
    ]);
    command.args(["--max-examples", "20", "--seed", "1", "--no-color"]);
    let output = Process::start(&mut command).finish(3 * PATIENCE);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("No issues found"), "{said}\n{}", output.stderr.join("\n"));
    server.stop();
}

/// Checks a value against the part of JSON Schema that the document uses. Members that it does not name fail too.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).expect("what is referred to");
        return check(document, schema, value, at);
    }
    if let Some(either) = schema["anyOf"].as_array() {
        // The first is the answer, the other an error, which is not expected here.
        return check(document, &either[0], value, at);
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let mut whole = serde_json::json!({ "type": "object", "properties": {}, "required": [] });
        for part in parts {
            let part = match part["$ref"].as_str() {
                Some(reference) => document.pointer(reference.trim_start_matches('#')).expect("a schema"),
                None => part,
            };
            for (name, member) in part["properties"].as_object().expect("members") {
                whole["properties"][name] = member.clone();
            }
            let required = part["required"].as_array().expect("required").clone();
            whole["required"].as_array_mut().expect("required").extend(required);
        }
        return check(document, &whole, value, at);
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    let fits = |kind: &Value| match kind.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        other => panic!("{at}: type {other:?}"),
    };
    assert!(types.iter().any(fits), "{at}: {value} is not {types:?}");
    if let (Some(members), Some(of)) = (value.as_object(), schema["properties"].as_object()) {
        for (name, value) in members {
            let schema = of.get(name).unwrap_or_else(|| panic!("{at}: {name} is not described"));
            check(document, schema, value, &format!("{at} {name}"));
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().expect("a name");
            assert!(members.contains_key(name), "{at}: {name} is missing");
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(document, &schema["items"], item, &format!("{at}[{index}]"));
    }
}

fn assert_client(server: &Server, client: &Value) {
    assert_eq!(
        names(client),
        words(
            "id vhost stream ip pageUrl swfUrl tcUrl url name type publish alive send_bytes recv_bytes kbps shard \
             lag_ms skips drops"
        )
    );
    assert_eq!(names(&client["kbps"]), ["recv_30s", "send_30s"]);
    assert_eq!(
        (id(client).len(), &client["ip"], &client["skips"], &client["drops"]),
        (8, &"127.0.0.1".into(), &0.into(), &json!({}))
    );
    let url = client["url"].as_str().expect("a URL");
    assert_eq!(client["name"], url.trim_start_matches("/live/"));
    let stream = server.stream(url.trim_start_matches('/')).expect("its stream");
    assert_eq!((&client["stream"], &client["vhost"]), (&stream["id"], &stream["vhost"]));
    assert!(client["alive"].as_f64() > Some(0.0) && client["shard"].as_u64() < Some(SHARDS as u64), "{client}");
    assert_eq!(client["lag_ms"].is_null(), client["publish"] == true, "{client}");
}

/// A server whose API asks who is there.
fn guarded(auth: &str) -> Server {
    let conf = format!(
        "srs_log_tank console;
         http_server {{ enabled on; }}
         rtc_server {{ enabled on; }}
         http_api {{ enabled on; auth {{ enabled on; {auth} }} }}
         vhost __defaultVhost__ {{ rtc {{ enabled on; }} }}"
    );
    Server::of_conf(&conf, SHARDS)
}

fn player(url: &str) -> Process {
    Process::start(Command::new("ffmpeg").args(["-v", "quiet", "-i", url, "-c", "copy", "-f", "null", "-"]))
}

fn get(server: &Server, path: &str) -> http::Response {
    http::request(server.ports.api, "GET", path, &[])
}

fn api(server: &Server, path: &str) -> Value {
    get(server, path).json()
}

fn clients(server: &Server) -> Vec<Value> {
    clients_of(server, "?count=100")
}

fn clients_of(server: &Server, query: &str) -> Vec<Value> {
    api(server, &format!("/api/v1/clients/{query}"))["clients"].as_array().expect("clients").clone()
}

fn id(client: &Value) -> &str {
    client["id"].as_str().expect("an id")
}

fn names(object: &Value) -> Vec<&str> {
    object.as_object().unwrap_or_else(|| panic!("{object} is no object")).keys().map(String::as_str).collect()
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}
