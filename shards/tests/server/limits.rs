//! Bounds that docs/limits.md names and no other test meets.

use crate::support::{
    PATIENCE, http,
    media::Media,
    publisher::Publisher,
    server::{Server, local},
    until, viewer, within,
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

#[test]
fn who_stands_still_is_ended() {
    // By itself it would have lost its place after 20 s.
    let conf = "srs_log_tank console; http_server { enabled on; } http_api { enabled on; } rtc_server { enabled on; }
        vhost __defaultVhost__ { http_remux { enabled on; } rtc { enabled on; } play { queue_length 30; } }";
    let server = Server::of_conf(conf, 1);
    let publisher = Publisher::looping(&server, "live/still", Media::Plain);
    server.wait_until_live("live/still");
    let mut viewer = viewer::narrow(server.ports.http);
    viewer.write_all(b"GET /live/still.flv HTTP/1.1\r\nHost: h\r\n\r\n").expect("send");
    // On a connection of the API nothing moves; of an offer's body half comes.
    let quiet =
        [&b""[..], b"POST /rtc/v1/whep/?app=live&stream=still HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nv=0"];
    let api = server.ports.api;
    let quiet = quiet.map(|said| {
        thread::spawn(move || {
            let mut socket = TcpStream::connect(local(api)).expect("connect");
            socket.write_all(said).expect("send");
            socket.set_read_timeout(Some(PATIENCE * 2)).expect("a deadline");
            let (since, mut answer) = (Instant::now(), Vec::new());
            // The server may have bytes left to read when it closes.
            let _ = socket.read_to_end(&mut answer);
            (since.elapsed(), String::from_utf8(answer).expect("text"))
        })
    });
    for (thread, answer) in quiet.into_iter().zip(["", "HTTP/1.1 400 "]) {
        let (took, got) = thread.join().expect("a connection");
        assert!((14..25).contains(&took.as_secs()) && got.starts_with(answer), "{took:?}: {got}");
    }
    within(Duration::from_secs(50), "the viewer is ended", || {
        (!server.log().with(&["took nothing for 30 s"]).is_empty()).then_some(())
    });
    drop(publisher);
    until("its stream is forgotten", || (server.total("shardcast_streams", "") == 0.0).then_some(()));
    server.stop();
}

#[test]
fn the_server_has_so_many_connections() {
    let conf = "srs_log_tank console; max_connections 3; http_server { enabled on; } http_api { enabled on; }
        vhost __defaultVhost__ { }";
    let server = Server::of_conf(conf, 2);
    until("the test's own first one has gone", || (server.total("shardcast_connections", "") == 0.0).then_some(()));
    let open = || TcpStream::connect(local(server.ports.http)).expect("connect");
    let others: Vec<_> = (0..3).map(|_| open()).collect();
    until("all are counted", || (server.total("shardcast_connections", "") == 3.0).then_some(()));
    assert_eq!(open().read(&mut [0; 1]).unwrap_or(0), 0, "it is closed");
    assert_eq!(server.total("shardcast_connections_refused_total", ""), 1.0);
    server.wait_for_log(&["max_connections of 3 reached"]);
    drop(others);
    until("there is room again", || (server.total("shardcast_connections", "") == 0.0).then_some(()));
    server.stop();
}

#[test]
fn the_apis_port_has_1024_connections_and_an_offer_64_kb() {
    let server = Server::start(1);
    let offer = http::post(server.ports.api, "POST", "/rtc/v1/whep/?app=live&stream=long", &"v".repeat(65_537));
    assert_eq!(offer.status, 400, "{}", offer.text());
    let open = || TcpStream::connect(local(server.ports.api)).expect("connect");
    let others: Vec<_> = (0..1_024).map(|_| open()).collect();
    let mut refused = open();
    refused.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    assert_eq!(refused.read(&mut [0; 1]).unwrap_or(0), 0, "it is closed");
    server.wait_for_log(&["API connection of", "refused: 1024 are open"]);
    drop(others);
    until("there is room again", || {
        let mut socket = open();
        socket.write_all(b"GET /api/v1/versions HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.0 200").then_some(())
    });
    server.stop();
}
