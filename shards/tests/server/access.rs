//! Who is let in: by address, and by the page that it comes from.

use crate::support::{
    PATIENCE, http,
    media::Media,
    process::{Output, Process},
    publisher::Publisher,
    server::Server,
    until,
};
use std::process::Command;

fn server(rules: &str) -> Server {
    let conf = format!(
        "srs_log_tank console; http_server {{ enabled on; }} http_api {{ enabled on; }}
        srt_server {{ enabled on; }} rtc_server {{ enabled on; }}
        vhost __defaultVhost__ {{ {rules}
            http_remux {{ enabled on; }} hls {{ enabled on; }} srt {{ enabled on; }} rtc {{ enabled on; }} }}"
    );
    Server::of_conf(&conf, 2)
}

/// ffmpeg from `input` to `url`, to its end.
fn ffmpeg(options: &[&str], input: &str, output: &[&str]) -> Output {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error"]).args(options).args(["-i", input, "-c", "copy"]).args(output);
    Process::start(&mut command).finish(PATIENCE)
}

fn publish(url: &str, format: &str) -> Output {
    ffmpeg(&["-re"], &Media::Short.file().display().to_string(), &["-f", format, url])
}

#[test]
fn publishers_that_the_rules_keep_out_are_told_so() {
    let server = server("security { enabled on; deny publish all; allow play all; }");
    let refused = publish(&server.rtmp("live/a"), "flv");
    assert!(!refused.status.success());
    assert!(refused.stderr.join("\n").contains("denied: 127.0.0.1 may not publish"), "{:?}", refused.stderr);
    assert!(!publish(&server.srt_in("live/b"), "mpegts").status.success());
    server.wait_for_log(&["connection of", "denied: 127.0.0.1 may not publish", "received"]);
    let whip = http::post(server.ports.api, "POST", "/rtc/v1/whip/?app=live&stream=c", "v=0\r\n");
    assert_eq!((whip.status, whip.text().contains("SecurityDeny")), (403, true));
    assert_eq!(server.total("shardcast_access_denied_total", "by=\"security\""), 3.0);
    assert!(["a", "b", "c"].iter().all(|name| server.stream(&format!("live/{name}")).is_none()));
    server.stop();
}

#[test]
fn viewers_that_the_rules_keep_out_are_told_so_and_publishers_go_on() {
    let server = server("security { enabled on; deny play 127.0.0.0/8; }");
    let _publisher = Publisher::looping(&server, "live/a", Media::Plain);
    server.wait_until_live("live/a");
    for path in ["/live/a.flv", "/live/a.ts", "/live/a.m3u8", "/live/a-0.ts"] {
        let refused = server.get(path);
        assert_eq!(refused.status, 403, "{path}");
        assert_eq!(refused.text(), "1053: SecurityDeny: denied: 127.0.0.1 may not play\n", "{path}");
    }
    let head = http::request(server.ports.http, "HEAD", "/live/a.flv", &[]);
    assert_eq!((head.status, head.body.len()), (403, 0));
    let whep = http::post(server.ports.api, "POST", "/rtc/v1/whep/?app=live&stream=a", "v=0\r\n");
    assert_eq!(whep.status, 403);
    let refused = ffmpeg(&[], &server.rtmp("live/a"), &["-f", "null", "-"]);
    assert!(refused.stderr.join("\n").contains("denied: 127.0.0.1 may not play"), "{:?}", refused.stderr);
    assert!(!ffmpeg(&[], &server.srt("live/a"), &["-f", "null", "-"]).status.success());
    server.wait_for_clients("live/a", 1);
    server.wait_until_live("live/a");
    server.stop();
}

#[test]
fn only_viewers_of_listed_pages_are_served() {
    let server = server("refer { enabled on; play example.com; http on; }");
    let _publisher = Publisher::looping(&server, "live/a", Media::Plain);
    server.wait_until_live("live/a");
    let get = |page| http::request(server.ports.http, "HEAD", "/live/a.flv", &[page]).status;
    assert_eq!(get("Referer: https://www.example.com/live"), 200);
    assert_eq!(get("Referer: https://www.example.com.evil.net/"), 403);
    assert_eq!(server.get("/live/a.m3u8").status, 403);
    let page = ["-t", "1", "-rtmp_pageurl", "http://www.example.com/x"];
    let played = ffmpeg(&page, &server.rtmp("live/a"), &["-f", "null", "-"]);
    assert!(played.status.success(), "{:?}", played.stderr);
    let refused = ffmpeg(&[], &server.rtmp("live/a"), &["-f", "null", "-"]);
    assert!(refused.stderr.join("\n").contains("denied: a client of page"), "{:?}", refused.stderr);
    assert_eq!(server.total("shardcast_access_denied_total", "by=\"refer\""), 3.0);
    server.stop();
}

#[test]
fn page_that_is_not_listed_does_not_even_connect() {
    let server = server("refer { enabled on; all example.com; }");
    // RTMP's pages alone, as SRS has it: there is no stream, but nobody is denied.
    assert_eq!(http::request(server.ports.http, "HEAD", "/live/a.flv", &[]).status, 200);
    let refused = publish(&server.rtmp("live/a"), "flv");
    assert!(refused.stderr.join("\n").contains("denied: no client of page"), "{:?}", refused.stderr);
    server.stop();
}

#[test]
fn proxies_name_their_clients_and_are_judged_beside_them() {
    let server = server("security { enabled on; allow publish all; allow play all; deny play 10.9.9.9; }");
    let _publisher = Publisher::looping(&server, "live/p", Media::Plain);
    server.wait_until_live("live/p");
    let asked = |header| http::open(server.ports.http, "GET", "/live/p.flv", &[header]);
    let _viewer = asked("X-Forwarded-For: 10.1.1.1, 10.2.2.2");
    let ip = until("the viewer", || {
        let list = http::request(server.ports.api, "GET", "/api/v1/clients/?count=10", &[]).json();
        let viewer = list["clients"].as_array()?.iter().find(|client| client["publish"] == false)?.clone();
        Some(viewer["ip"].clone())
    });
    assert_eq!(ip, "10.1.1.1");
    let status = |path: &str, header| http::request(server.ports.http, "GET", path, &[header]).status;
    assert_eq!(status("/live/p.flv", "X-Real-IP: 10.9.9.9"), 403);
    assert_eq!(status("/live/p.m3u8", "X-Forwarded-For: 10.9.9.9"), 403);
    server.stop();
    // Whoever may not come does not by saying that it is another.
    let server = self::server("security { enabled on; allow play 10.1.1.1; }");
    assert_eq!(http::request(server.ports.http, "GET", "/live/p.flv", &["X-Forwarded-For: 10.1.1.1"]).status, 403);
    server.stop();
}
