//! The built-in page in a real browser: it plays, picture and sound.

mod support;

use serde_json::Value;
use std::{path::Path, process::Command, time::Duration};
use support::{media::Media, process::Process, publisher::Publisher, server::Server, until};

#[test]
fn the_page_plays_flv() {
    the_page_plays("flv");
}

#[test]
fn the_page_plays_hls() {
    the_page_plays("hls");
}

fn the_page_plays(method: &str) {
    let (Ok(python), Ok(chromium)) = (std::env::var("SHARDCAST_PYTHON"), std::env::var("SHARDCAST_CHROMIUM")) else {
        eprintln!(
            "SKIPPED: the page is not tested in a browser; set SHARDCAST_PYTHON to a Python with playwright and \
             SHARDCAST_CHROMIUM to a Chromium, or run deploy/install-deps test and then deploy/test"
        );
        return;
    };
    let server = Server::start(2);
    let _publisher = Publisher::looping(&server, "live/page", Media::Plain);
    server.wait_until_live("live/page");
    until("there is a playlist", || (server.get("/live/page.m3u8").status == 200).then_some(()));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page.py");
    let url = format!("http://127.0.0.1:{}/?stream=live/page&play={method}", server.ports.http);
    let seen =
        Process::start(Command::new(python).arg(script).args([&chromium, &url])).finish(Duration::from_secs(150));
    assert!(seen.status.success(), "{}\n{}", seen.status, seen.stderr.join("\n"));
    let seen: Value = serde_json::from_slice(&seen.stdout).expect("JSON");

    let (first, later) = (&seen["first"], &seen["later"]);
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("no number in {seen}"));
    assert_eq!((&first["state"], &later["state"]), (&"playing".into(), &"playing".into()), "{seen}");
    assert_eq!((&later["stream"], &later["method"]), (&"live/page".into(), &method.into()));
    assert_eq!((&later["width"], &later["height"]), (&640.into(), &360.into()));
    assert!(number(&later["time"]) > number(&first["time"]) + 3.0, "{seen}");
    assert!(number(&later["frames"]) > number(&first["frames"]) + 50.0, "{seen}");
    assert_eq!(later["muted"], false);
    assert!((number(&seen["tone"]["hz"]) - 440.0).abs() < 10.0, "{}", seen["tone"]);
    assert!(number(&seen["tone"]["db"]) > -60.0, "{}", seen["tone"]);
    assert!(seen["listed"][0].as_str().is_some_and(|row| row.contains("live/page") && row.contains("H264")), "{seen}");
    assert_eq!(seen["rtmp"], server.rtmp("live/page"));
    assert_eq!(seen["errors"], Value::Array(Vec::new()));
    server.stop();
}
