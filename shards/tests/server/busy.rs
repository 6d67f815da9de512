//! Two of what there can be only one of: a stream's publisher, a port's server.

use crate::support::{
    PATIENCE, flv,
    media::Media,
    process::Process,
    publisher::Publisher,
    refusal,
    server::{self, Ports, Server, local, stream_at},
    until,
    viewer::Viewer,
};
use shardcast_protocols::rtmp::client::{Client, ClientError};
use std::{
    net::{TcpListener, UdpSocket},
    process::Command,
    time::Duration,
};

const SHARDS: usize = 2;

#[test]
fn a_second_publisher_is_refused_and_the_first_goes_on() {
    let server = Server::start(SHARDS);
    for home in 0..SHARDS {
        let name = stream_at(home, SHARDS, "busy");
        let viewer = Viewer::open(server.ports.http, &name);
        server.wait_for_clients(&name, 1);
        let first = Publisher::once(&server, &name, Media::Short);
        let holder = server.wait_until_live(&name)["publish"]["cid"].clone();
        // Some on either shard.
        for _ in 0..8 {
            let refused = refusal::of(&server, Client::publish(&server.rtmp(&name), [7; 32]).expect("an RTMP URL"));
            let ClientError::Refused { code, description } = refused else { panic!("{refused}") };
            assert_eq!(code, "NetStream.Publish.BadName");
            assert!(description.contains("busy"), "{description}");
        }
        let entry = server.stream(&name).expect("the stream");
        assert_eq!((&entry["publish"]["cid"], &entry["clients"]), (&holder, &2.into()));
        first.finish(Duration::from_secs(4));
        until("the FLV ends with its publisher", || viewer.ended().then_some(()));
        let frames = flv::frames(&Media::Short.file());
        let sent = frames.iter().skip_while(|frame| !frame.is_keyframe()).map(|frame| &frame.body);
        assert!(viewer.frames().iter().map(|frame| &frame.body).eq(sent), "frames are missing");
    }
    server.stop();
}

#[test]
fn ffmpeg_as_second_publisher_fails() {
    let server = Server::start(SHARDS);
    let _first = Publisher::looping(&server, "live/busy", Media::Plain);
    server.wait_until_live("live/busy");
    let second = Publisher::looping(&server, "live/busy", Media::Plain).process.finish(PATIENCE);
    assert!(!second.status.success());
    assert!(second.stderr.iter().any(|line| line.contains("busy")), "{}", second.stderr.join("\n"));
    server.stop();
}

#[test]
fn the_name_is_free_again_when_its_publisher_is_gone() {
    let server = Server::start(SHARDS);
    let first = Publisher::looping(&server, "live/again", Media::Plain);
    let holder = server.wait_until_live("live/again")["publish"]["cid"].clone();
    // Killed, as by a crash.
    drop(first);
    server.wait_until_over("live/again");
    let _second = Publisher::looping(&server, "live/again", Media::Plain);
    assert_ne!(server.wait_until_live("live/again")["publish"]["cid"], holder);
    server.stop();
}

#[test]
fn a_second_server_names_who_has_its_port() {
    let mut server = Server::start(SHARDS);
    let second = Process::start(&mut server::command(server.ports)).finish(PATIENCE);
    assert_eq!(second.status.code(), Some(234), "as SRS, 1002 & 0xff");
    let said = format!("{}\n{}", String::from_utf8_lossy(&second.stdout), second.stderr.join("\n"));
    let wanted = format!("port {} is taken by shardcast (pid {})", server.ports.rtmp, server.pid());
    assert!(said.contains(&wanted), "{said}");
    assert!(server.is_running());
    let _publisher = Publisher::looping(&server, "live/still", Media::Plain);
    server.wait_until_live("live/still");
    server.stop();
}

#[test]
fn a_port_that_another_program_has_is_named() {
    let refused = |ports: Ports, port: u16| {
        let mut command: Command = server::command(ports);
        let refused = Process::start(&mut command).finish(PATIENCE);
        assert_eq!(refused.status.code(), Some(234));
        let said = format!("{}\n{}", String::from_utf8_lossy(&refused.stdout), refused.stderr.join("\n"));
        assert!(said.contains(&format!("port {port} is taken by")), "{said}");
        said
    };
    let own = format!("(pid {})", std::process::id());
    let ports = Ports::free();
    let _other = TcpListener::bind(local(ports.http)).expect("a port");
    let said = refused(ports, ports.http);
    assert!(said.contains(&own), "{said}");
    for port in [|ports: Ports| ports.srt, |ports: Ports| ports.rtc] {
        let ports = Ports::free();
        let _other = UdpSocket::bind(local(port(ports))).expect("a port");
        let said = refused(ports, port(ports));
        assert!(said.contains(&own), "{said}");
    }
    // Nor do two protocols share one.
    let ports = Ports::free();
    refused(Ports { rtc: ports.srt, ..ports }, ports.srt);
}
