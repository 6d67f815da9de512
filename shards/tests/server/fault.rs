//! A bug in one session: that session dies, the server and all other sessions live.

use crate::support::{
    PATIENCE, http,
    media::Media,
    publisher::Publisher,
    server::{Ports, local},
    until,
    viewer::Viewer,
};
use shardcast::{
    config::{Config, Env},
    launch::{self, Options},
};
use std::{net::TcpStream, thread};

#[test]
fn a_session_that_panics_ends_alone() {
    let ports = Ports::free();
    let env: Env = ports.environment().into_iter().collect();
    let mut config = Config::built_in(&env).expect("the built-in configuration");
    config.shards = Some(2);
    let options = Options { fault: Some("boom".into()), ..Options::new(config) };
    let orders = options.orders.clone();
    // In this process: the fault can only be set by its own code.
    let server = thread::spawn(move || launch::run(options));
    until("the server is ready", || {
        assert!(!server.is_finished(), "the server ended");
        TcpStream::connect(local(ports.api)).is_ok().then_some(())
    });

    let viewer = Viewer::open(ports.http, "live/good");
    let _good = publish(ports, "good");
    until("a viewer has frames", || viewer.newest_ms());
    for _ in 0..3 {
        let boom = publish(ports, "boom").process.finish(PATIENCE);
        assert!(!boom.status.success(), "the session goes on after its fault");
    }
    let panics = until("the faults are counted", || {
        let page = http::request(ports.api, "GET", "/metrics", &[]).text();
        let line = page.lines().find_map(|line| line.strip_prefix("shardcast_session_panics_total "))?.to_owned();
        (line == "3").then_some(line)
    });
    assert_eq!(panics, "3");

    // The other stream has not noticed: each of its frames follows the one before.
    let now = viewer.newest_ms().expect("frames");
    until("the other stream goes on", || viewer.newest_ms().filter(|newest| *newest > now + 1_000));
    let pictures: Vec<_> = viewer.frames().into_iter().filter(|f| f.kind == crate::support::flv::VIDEO).collect();
    for pair in pictures.windows(2) {
        let step_ms = pair[1].time_ms - pair[0].time_ms;
        assert!((30..=80).contains(&step_ms), "{step_ms} ms between two pictures");
    }
    // Its name is free, and nothing of it is left.
    let streams = http::request(ports.api, "GET", "/api/v1/streams/?count=500", &[]).json();
    for entry in streams["streams"].as_array().expect("streams").iter().filter(|entry| entry["name"] == "boom") {
        assert_eq!((&entry["publish"]["active"], &entry["clients"]), (&false.into(), &0.into()));
    }
    orders.quit.set();
    until("the server ends", || server.is_finished().then_some(()));
    server.join().expect("a server that does not panic").expect("a server that ends well");
}

fn publish(ports: Ports, stream: &str) -> Publisher {
    Publisher::looping_to(&format!("rtmp://127.0.0.1:{}/live/{stream}", ports.rtmp), Media::Plain)
}
