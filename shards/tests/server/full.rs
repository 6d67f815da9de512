//! A server that is full: new viewers are told so, those who are there and publishers go on.

use crate::support::{
    http,
    media::Media,
    probe::Probe,
    publisher::Publisher,
    refusal,
    server::{Server, stream_at},
    until,
    viewer::Viewer,
};
use shardcast_protocols::rtmp::client::{Client, ClientError};

/// Any tick is late enough, so a shard with a viewer is full.
const CONF: &str = "
    srs_log_tank console;
    http_server { enabled on; }
    http_api { enabled on; }
    srt_server { enabled on; }
    rtc_server { enabled on; }
    circuit_breaker { late_threshold 0; }
    vhost __defaultVhost__ {
        http_remux { enabled on; }
        hls { enabled on; hls_fragment 1; }
        srt { enabled on; }
        rtc { enabled on; }
    }
";

fn full_shards(server: &Server) -> f64 {
    server.total("shardcast_full", "")
}

#[test]
fn a_full_server_refuses_viewers_and_welcomes_publishers() {
    let server = Server::of_conf(CONF, 1);
    let name = "live/full";
    let _publisher = Publisher::looping(&server, name, Media::Plain);
    server.wait_until_live(name);
    assert_eq!(full_shards(&server), 0.0);
    let playlist = |target: &str| http::request(server.ports.http, "GET", target, &[]);
    let master = until("there is a playlist", || Some(playlist("/live/full.m3u8")).filter(|a| a.status == 200));
    let viewer = Viewer::open(server.ports.http, name);
    server.wait_for_log(&["shard 0 is full"]);

    let answer = http::request(server.ports.http, "GET", "/live/full.flv", &[]);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert_eq!(http::request(server.ports.http, "GET", "/live/full.ts", &[]).status, 503);
    let answer = playlist("/live/full.m3u8");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    let text = String::from_utf8_lossy(&master.body).into_owned();
    let own = text.lines().find(|line| line.contains("hls_ctx=")).expect("a playlist of its own");
    assert_eq!(playlist(own).status, 200, "one who was there goes on");
    let refused = refusal::of(&server, Client::play(&server.rtmp(name), [7; 32]).expect("an RTMP URL"));
    let ClientError::Refused { code, description } = refused else { panic!("{refused}") };
    assert_eq!((code.as_str(), description.contains("full")), ("NetStream.Play.Failed", true), "{description}");
    let offer = http::post(server.ports.api, "POST", "/rtc/v1/whep/?app=live&stream=full", "v=0");
    assert_eq!(offer.status, 503);
    let srt = Probe::seconds(&server.srt(name), 1.0);
    server.wait_for_log(&["SRT caller", "refused: too many connections"]);
    drop(srt);
    for (protocol, count) in [("http", 2.0), ("hls", 1.0), ("rtmp", 1.0), ("rtc", 1.0)] {
        assert_eq!(server.total("shardcast_viewers_refused_total", &format!("protocol=\"{protocol}\"")), count);
    }

    // A publisher is let in, and the viewer goes on.
    let _second = Publisher::looping(&server, "live/second", Media::Plain);
    server.wait_until_live("live/second");
    let now = until("the viewer plays", || viewer.newest_ms());
    until("the viewer goes on", || viewer.newest_ms().filter(|newest| *newest > now + 1_000));

    // When it has gone there is room again.
    drop(viewer);
    server.wait_for_log(&["shard 0 takes viewers again"]);
    let _next = Viewer::open(server.ports.http, name);
    // With the publisher and the one by HLS.
    server.wait_for_clients(name, 3);
    server.stop();
}

#[test]
fn a_shard_with_little_left_of_its_core_is_full() {
    let conf = CONF.replace("late_threshold 0;", "late_threshold 60000; load_threshold 1;");
    let server = Server::of_conf(&conf, 1);
    let name = "live/busy";
    let _publisher = Publisher::looping(&server, name, Media::Heavy);
    server.wait_until_live(name);
    let _viewers: Vec<_> = (0..4).map(|_| Viewer::open(server.ports.http, name)).collect();
    server.wait_for_log(&["shard 0 is full", "% of its core: new viewers are refused"]);
    assert_eq!(http::request(server.ports.http, "GET", "/live/busy.flv", &[]).status, 503);
    server.stop();
}

#[test]
fn a_full_server_sends_viewers_elsewhere_where_it_knows_another() {
    let conf =
        CONF.replace("late_threshold 0;", "late_threshold 0; redirect http://other.example:81/ rtmp://other.example;");
    let server = Server::of_conf(&conf, 1);
    let name = "live/full";
    let _publisher = Publisher::looping(&server, name, Media::Plain);
    server.wait_until_live(name);
    let playlist = "/live/full.m3u8?token=x";
    let begun = || http::request(server.ports.http, "GET", playlist, &[]).status == 200;
    until("there is a playlist", || begun().then_some(()));
    let _viewer = Viewer::open(server.ports.http, name);
    server.wait_for_log(&["shard 0 is full"]);
    let answer = http::request(server.ports.http, "GET", playlist, &[]);
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, Some("http://other.example:81/live/full.m3u8?token=x"))
    );
    let answer = http::request(server.ports.http, "GET", "/live/a%20b.flv?token=x", &[]);
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, Some("http://other.example:81/live/a%20b.flv?token=x"))
    );
    let offer = http::post(server.ports.api, "POST", "/rtc/v1/whep/?app=live&stream=full", "v=0");
    assert_eq!(
        (offer.status, offer.header("location")),
        (307, Some("http://other.example:81/rtc/v1/whep/?app=live&stream=full"))
    );
    let url = format!("{}?token=x", server.rtmp("live/full"));
    assert_eq!(
        refusal::of(&server, Client::play(&url, [7; 32]).expect("an RTMP URL")),
        ClientError::Redirected { url: "rtmp://other.example/live/full?token=x".into() }
    );
    server.stop();
}

#[test]
fn who_comes_to_a_full_shard_is_served_by_another() {
    let server = Server::of_conf(CONF, 2);
    let name = &stream_at(0, 2, "full");
    let _publisher = Publisher::looping(&server, name, Media::Plain);
    server.wait_until_live(name);
    // One that the kernel gives to the stream's home, so that the other shard has nothing to do.
    let _first = loop {
        let viewer = Viewer::open(server.ports.http, name);
        server.wait_for_clients(name, 2);
        if server.total("shardcast_viewers", "shard=\"0\"") == 1.0 {
            break viewer;
        }
        drop(viewer);
        until("no shard is full", || (full_shards(&server) == 0.0).then_some(()));
    };
    until("its shard is full", || (full_shards(&server) == 1.0).then_some(()));
    // Either shard accepts, as the kernel's hash of addresses has it; the one that is full passes on.
    until("a connection is passed on", || {
        assert_eq!(http::request(server.ports.http, "HEAD", &format!("/{name}.flv"), &[]).status, 200);
        (server.total("shardcast_connections_passed_total", "") > 0.0).then_some(())
    });
    let second = Viewer::open(server.ports.http, name);
    until("both shards are full", || (full_shards(&server) == 2.0).then_some(()));
    until("the second plays", || second.newest_ms());
    assert_eq!(http::request(server.ports.http, "GET", &format!("/{name}.flv"), &[]).status, 503);
    server.stop();
}
