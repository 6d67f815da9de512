//! The built-in page in a real browser: it plays, picture and sound, and publishes.

use crate::support::{
    PATIENCE,
    media::Media,
    probe::{Decoder, Probe},
    process::Process,
    publisher::Publisher,
    server::Server,
    tone, until, within,
};
use serde_json::Value;
use std::{path::Path, process::Command, time::Duration};

/// A browser needs so long at most on a loaded machine.
const START: Duration = Duration::from_secs(60);

#[test]
fn the_page_plays_flv() {
    the_page_plays("flv");
}

#[test]
fn the_page_plays_hls() {
    the_page_plays("hls");
}

#[test]
fn the_page_plays_webrtc() {
    let Some(seen) = the_page_plays("whep") else { return };
    let figures = seen["later"]["figures"].as_str().unwrap_or_default();
    for name in ["Packets lost", "NACKs", "Round trip"] {
        assert!(figures.contains(name), "{figures}");
    }
    for name in ["kbps", "bufferMs", "rttMs", "lost", "nacks"] {
        assert!(seen["later"]["stats"][name].is_number(), "{name} in {seen}");
    }
}

#[test]
fn the_page_publishes_a_test_picture() {
    let Some((browser, server)) = the_page_publishes("test") else { return };
    let probed = Probe::seconds(&server.flv("live/page"), 2.0).finish(PATIENCE);
    assert_eq!((probed.codecs, probed.size), (vec!["h264".to_owned(), "aac".to_owned()], (640, 360)));
    let sound = Decoder::seconds(&server.flv("live/page"), 2).finish(PATIENCE).sound;
    let share = tone::share(&sound, 48_000, 440.0);
    assert!(share > 0.9, "{share} of the sound is the tone of 440 Hz");
    stops(browser, server);
}

#[test]
fn the_page_publishes_a_camera() {
    let Some((browser, server)) = the_page_publishes("camera") else { return };
    let probed = Probe::seconds(&server.flv("live/page"), 2.0).finish(PATIENCE);
    assert_eq!(probed.codecs, ["h264", "aac"]);
    stops(browser, server);
}

#[test]
fn the_page_says_why_it_may_not_publish() {
    let server = Server::start(2);
    let _publisher = Publisher::looping(&server, "live/busy", Media::Plain);
    server.wait_until_live("live/busy");
    let Some(browser) = browser(&server, "publish=busy", &["test"]) else { return };
    let seen = answer(browser);
    let status = seen["begun"]["status"].as_str().unwrap_or_default();
    assert!(status.contains("StreamBusy") && status.contains("live/busy"), "{seen}");
    assert_eq!((&seen["begun"]["state"], &seen["begun"]["button"]), (&"idle".into(), &"Start".into()), "{seen}");
    server.stop();
}

/// A browser with the server's page; `None` where there is no browser.
pub fn browser(server: &Server, query: &str, arguments: &[&str]) -> Option<Process> {
    let (Ok(python), Ok(chromium)) = (std::env::var("SHARDCAST_PYTHON"), std::env::var("SHARDCAST_CHROMIUM")) else {
        eprintln!(
            "SKIPPED: the page is not tested in a browser; set SHARDCAST_PYTHON to a Python with playwright and \
             SHARDCAST_CHROMIUM to a Chromium, or run deploy/install-deps test and then deploy/test"
        );
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page.py");
    let url = format!("http://127.0.0.1:{}/?{query}", server.ports.http);
    Some(Process::start(Command::new(python).arg(script).args([&chromium, &url]).args(arguments)))
}

/// What page.py saw.
pub fn answer(browser: Process) -> Value {
    let seen = browser.finish(Duration::from_secs(150));
    assert!(seen.status.success(), "{}\n{}", seen.status, seen.stderr.join("\n"));
    serde_json::from_slice(&seen.stdout).expect("JSON")
}

/// What was seen; `None` where there is no browser.
fn the_page_plays(method: &str) -> Option<Value> {
    let server = Server::start(2);
    let _publisher = Publisher::looping(&server, "live/page", Media::Plain);
    server.wait_until_live("live/page");
    until("there is a playlist", || (server.get("/live/page.m3u8").status == 200).then_some(()));
    let seen = answer(browser(&server, &format!("stream=live/page&play={method}"), &[])?);

    let (first, later) = (&seen["first"], &seen["later"]);
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("no number in {seen}"));
    assert_eq!((&first["state"], &later["state"]), (&"playing".into(), &"playing".into()), "{seen}");
    assert_eq!((&later["stream"], &later["method"]), (&"live/page".into(), &method.into()));
    assert_eq!((&later["width"], &later["height"]), (&640.into(), &360.into()));
    assert_eq!((&later["stats"]["width"], &later["stats"]["height"]), (&640.into(), &360.into()));
    assert!(number(&later["time"]) > number(&first["time"]) + 3.0, "{seen}");
    assert!(number(&later["frames"]) > number(&first["frames"]) + 50.0, "{seen}");
    assert_ne!(first["picture"], later["picture"], "the picture stands still");
    assert_eq!(later["muted"], false);
    assert!((number(&seen["tone"]["hz"]) - 440.0).abs() < 10.0, "{}", seen["tone"]);
    assert!(number(&seen["tone"]["db"]) > -60.0, "{}", seen["tone"]);
    assert!(seen["listed"][0].as_str().is_some_and(|row| row.contains("live/page") && row.contains("H264")), "{seen}");
    assert_eq!(seen["rtmp"], server.rtmp("live/page"));
    assert_eq!(seen["errors"], Value::Array(Vec::new()));
    server.stop();
    Some(seen)
}

/// A browser that publishes `live/page` from `source`, and its server.
fn the_page_publishes(source: &str) -> Option<(Process, Server)> {
    let server = Server::start(2);
    let browser = browser(&server, "publish=page", &[source])?;
    within(START, "the browser starts", || server.log().with(&["publishes /live/page by WebRTC"]).pop());
    server.wait_until_live("live/page");
    Some((browser, server))
}

/// The browser is told to stop publishing; then the stream is over, while the page stays.
fn stops(browser: Process, server: Server) {
    browser.terminate();
    let seen = answer(browser);
    assert!(seen["listed"][0].as_str().is_some_and(|row| row.contains("live/page")), "{seen}");
    assert_eq!(seen["left"], Value::Array(Vec::new()), "still live");
    let later = &seen["later"];
    assert_eq!((&later["state"], &later["button"]), (&"live".into(), &"Stop".into()), "{seen}");
    assert_eq!(later["stats"]["codec"], "H264", "{seen}");
    for name in ["width", "height", "fps", "kbps"] {
        assert!(later["stats"][name].as_f64() > Some(0.0), "{name} in {seen}");
    }
    assert!(later["stats"]["limit"].is_string() && later["stats"]["rttMs"].is_number(), "{seen}");
    let figures = later["figures"].as_str().unwrap_or_default();
    assert!(figures.contains("Limited by") && figures.contains("H264"), "{figures}");
    assert_eq!((&seen["ended"]["state"], &seen["ended"]["button"]), (&"idle".into(), &"Start".into()), "{seen}");
    assert_eq!(seen["flv"], server.flv("live/page"));
    assert_eq!(seen["errors"], Value::Array(Vec::new()));
    server.stop();
}
