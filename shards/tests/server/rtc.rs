//! WebRTC's signalling as clients see it, and its UDP port as strangers use it. What plays is in `server_roads.rs`.

use crate::support::{
    PATIENCE,
    http::post,
    judge::{self, Judge},
    media::Media,
    process::Process,
    publisher::Publisher,
    relay::Relay,
    server::{Server, local},
    until,
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::Path,
    process::Command,
};

const SECONDS: u32 = 3;

/// What Chromium offers, as a publisher or as a player.
fn offer(direction: &str) -> String {
    let media = |kind: &str, mid, rtpmap: &str| {
        format!(
            "m={kind} 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
             a=ice-ufrag:EoqQ\r\na=ice-pwd:L5uJ9vN3W6iZcMPcH1yl7tZk\r\na=ice-options:trickle\r\n\
             a=fingerprint:sha-256 {}\r\na=setup:actpass\r\na=mid:{mid}\r\na={direction}\r\na=rtcp-mux\r\n\
             a=rtpmap:96 {rtpmap}\r\n",
            ["AB"; 32].join(":")
        )
    };
    let picture =
        media("video", 1, "H264/90000").replace("a=rtpmap:96", "a=fmtp:96 packetization-mode=1\r\na=rtpmap:96");
    let sound = media("audio", 0, "opus/48000/2").replace(" 96", " 111").replace(":96", ":111");
    format!("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n{sound}{picture}")
}

fn server(more: &str) -> Server {
    let conf = format!(
        "srs_log_tank console; http_server {{ enabled on; }} http_api {{ enabled on; }}
        rtc_server {{ enabled on; candidate 127.0.0.1; }}
        vhost __defaultVhost__ {{
            http_remux {{ enabled on; }}
            rtc {{ enabled on; rtmp_to_rtc on; rtc_to_rtmp on; stun_timeout 2; }}
        }}
        {more}"
    );
    Server::of_conf(&conf, 2)
}

#[test]
fn an_offer_is_answered_and_its_session_can_be_ended() {
    let server = server("");
    for (port, path, direction) in [
        (server.ports.api, "/rtc/v1/whip/?app=live&stream=a", "sendonly"),
        (server.ports.http, "/rtc/v1/whip?app=live&stream=b", "sendonly"),
        (server.ports.api, "/rtc/v1/whep/?app=live&stream=a", "recvonly"),
        (server.ports.http, "/rtc/v1/whip-play/?stream=c", "recvonly"),
        (server.ports.api, "/rtc/v1/whip/?stream=c&action=play", "recvonly"),
    ] {
        let made = post(port, "POST", path, &offer(direction));
        assert_eq!((made.status, made.header("content-type")), (201, Some("application/sdp")), "{}", made.text());
        let answer = made.text();
        let wanted = if direction == "sendonly" { "a=recvonly" } else { "a=sendonly" };
        for line in ["a=ice-lite", "a=group:BUNDLE 0 1", "a=setup:passive", "a=rtcp-mux", wanted] {
            assert!(answer.lines().any(|found| found == line), "{line}: {answer}");
        }
        assert!(answer.contains(&format!(" 127.0.0.1 {} typ host", server.ports.rtc)), "{answer}");
        let location = made.header("location").expect("a Location").to_owned();
        let forged = location.replace("token=", "token=x");
        assert_eq!(post(port, "DELETE", &forged, "").status, 403);
        assert_eq!(post(port, "DELETE", &location, "").status, 200);
        // Twice is once.
        assert_eq!(post(port, "DELETE", &location, "").status, 200);
    }
    let by_json = serde_json::json!({
        "api": "http://127.0.0.1/rtc/v1/play/", "streamurl": "webrtc://127.0.0.1/live/a?k=v", "sdp": offer("recvonly"),
    });
    let made = post(server.ports.api, "POST", "/rtc/v1/play/", &by_json.to_string()).json();
    assert_eq!(made["code"], 0);
    assert!(made["sdp"].as_str().is_some_and(|sdp| sdp.starts_with("v=0")), "{made}");
    assert!(made["sessionid"].as_str().is_some_and(|id| id.ends_with(":EoqQ")), "{made}");
    server.stop();
}

/// Sessions that nobody comes to, from one address and then from another.
#[test]
fn an_address_cannot_take_all_places_of_offers() {
    let conf = "srs_log_tank console; http_api { enabled on; }
        rtc_server { enabled on; candidate 127.0.0.1; } vhost __defaultVhost__ { rtc { enabled on; stun_timeout 600; } }";
    let server = Server::of_conf(conf, 1);
    let offer = offer("recvonly");
    // Its status, asked over a connection of that address.
    let asks = |address: [u8; 4]| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((address, 0)).into()).expect("bind");
        socket.connect(&local(server.ports.api).into()).expect("connect");
        let mut socket = TcpStream::from(socket);
        let head = "POST /rtc/v1/whep/?app=live&stream=a HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n";
        write!(socket, "{head}Content-Length: {}\r\n\r\n{offer}", offer.len()).expect("send");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        answer.split(' ').nth(1).map(str::to_owned)
    };
    let [one, other] = [[127, 0, 0, 1], [127, 0, 0, 2]];
    let answered = (0..10_000).take_while(|_| asks(one).as_deref() == Some("201")).count();
    assert_eq!(answered, 5_000);
    assert_eq!([asks(one), asks(other)].map(Option::unwrap), ["503", "201"]);
    server.stop();
}

#[test]
fn offers_are_refused_with_a_status_and_a_reason() {
    let server = server("vhost closed.example { rtc { enabled off; } }");
    let (whip, whep) = ("/rtc/v1/whip/?app=live&stream=a", "/rtc/v1/whep/?app=live&stream=a");
    let far = offer("sendonly").replace("H264", "VP8").replace("opus", "PCMU");
    let long = offer("sendonly") + &"a=x:y\r\n".repeat(20_000);
    for (method, path, body, status, reason) in [
        ("POST", whip, "", 400, "5043: RtcInvalidSdp"),
        ("GET", whip, "", 400, "5043: RtcInvalidSdp"),
        ("POST", whip, "hello", 400, "5012: RtcSdpDecode"),
        ("POST", whip, &long, 400, "5043: RtcInvalidSdp"),
        ("POST", whip, &far, 400, "neither H.264 nor Opus"),
        ("POST", whip, &offer("recvonly"), 400, "5018: RtcSdpNegotiate"),
        ("POST", whep, &offer("sendonly"), 400, "5018: RtcSdpNegotiate"),
        ("POST", "/rtc/v1/whip/?stream=a&vhost=closed.example", &offer("sendonly"), 403, "5021: RtcDisabled"),
        ("PATCH", whip, &offer("sendonly"), 405, "Method Not Allowed"),
        ("DELETE", "/rtc/v1/whip/?action=delete", "", 400, ""),
    ] {
        let answer = post(server.ports.api, method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert!(answer.text().contains(reason), "{method} {path}: {}", answer.text());
    }
    let refused = post(server.ports.api, "POST", "/rtc/v1/publish/", r#"{"sdp": "v=0", "streamurl": 7}"#);
    assert_eq!(refused.json(), serde_json::json!({ "code": 400 }));
    server.stop();
}

#[test]
fn publisher_whose_packets_never_come_leaves_its_name() {
    let server = server("");
    let whip = "/rtc/v1/whip/?app=live&stream=a";
    let publish = || post(server.ports.api, "POST", whip, &offer("sendonly"));
    assert_eq!(publish().status, 201);
    let second = publish();
    assert_eq!((second.status, second.text().contains("5020: RtcStreamBusy")), (409, true), "{}", second.text());
    server.wait_for_log(&["/live/a", "no packet of its peer came"]);
    let made = until("the name is free", || Some(publish()).filter(|answer| answer.status == 201));
    let location = made.header("location").expect("a Location").to_owned();
    assert_eq!(post(server.ports.api, "DELETE", &location, "").status, 200);
    until("the name is free at once", || Some(publish()).filter(|answer| answer.status == 201));
    server.stop();
}

/// How many pictures each of [`play`] sees at least.
const PICTURES: usize = 30;

/// aiortc's players by WHEP, until [`seen`].
fn play(python: &Path, url: &str, count: usize) -> Process {
    let [count, pictures] = [count, PICTURES].map(|number| number.to_string());
    Process::start(judge::script(python, "webrtc").args(["many", url, &count, &pictures]))
}

/// What each has seen.
fn seen(players: Process) -> Vec<Value> {
    players.terminate();
    serde_json::from_slice(&players.finish(2 * PATIENCE).clean("players")).expect("JSON")
}

#[test]
fn fifty_players_on_both_shards_see_each_picture_and_are_gone_afterwards() {
    let Some(python) = judge::python() else { return };
    const PLAYERS: usize = 50;
    let server = Server::start(2);
    let _publisher = Publisher::looping(&server, "live/many", Media::Tiny);
    server.wait_until_live("live/many");
    let players = play(&python, &server.whep("live/many"), PLAYERS);
    server.wait_for_clients("live/many", 1 + PLAYERS as u64);
    // So some are on another shard than the publisher, and some on another than the stream's.
    let viewers = server.metric("shardcast_viewers");
    assert!(viewers.len() == 2 && viewers.iter().all(|(_, count)| *count > 0.0), "{viewers:?}");
    let verdicts = seen(players);
    assert_eq!(verdicts.len(), PLAYERS);
    for seen in verdicts {
        assert_eq!((&seen["first_is_key"], &seen["size"]), (&true.into(), &serde_json::json!(Media::Tiny.size())));
        assert!(seen["pictures"].as_u64() >= Some(PICTURES as u64), "{seen}");
        let faults = ["corrupt", "backwards"].map(|name| seen[name].as_u64());
        assert_eq!((faults, seen["longest_step"].as_u64()), ([Some(0); 2], Some(1)), "{seen}");
        assert_eq!(seen["holes"], serde_json::json!([]), "{seen}");
    }
    server.wait_for_clients("live/many", 1);
    until("the publisher's connection alone is left", || {
        let left = [("shardcast_viewers", 0.0), ("shardcast_connections", 1.0)];
        left.iter().all(|(metric, count)| server.total(metric, "") == *count).then_some(())
    });
    server.stop();
}

#[test]
fn a_silent_player_is_over_after_stun_timeout() {
    let Some(python) = judge::python() else { return };
    let server = server("");
    let _publisher = Publisher::looping(&server, "live/a", Media::Tiny);
    server.wait_until_live("live/a");
    let player = play(&python, &server.whep("live/a"), 1);
    server.wait_for_clients("live/a", 2);
    player.freeze();
    server.wait_for_log(&["nothing was heard of it for 2 s"]);
    server.wait_for_clients("live/a", 1);
    server.stop();
}

#[test]
fn a_publisher_that_agrees_on_no_keys_leaves_its_name() {
    let Some(python) = judge::python() else { return };
    let server = Server::start(2);
    let mut publish = judge::script(&python, "webrtc");
    let _publisher = Process::start(publish.args(["ice", &server.whip("live/a")]).arg(Media::Marked.file()));
    server.wait_for_log(&["publishes /live/a by WebRTC"]);
    server.log().wait_for(&["no keys were agreed on in 30 s"], 2 * PATIENCE);
    server.wait_until_over("live/a");
    server.stop();
}

#[test]
fn sei_goes_to_players_unless_told_otherwise() {
    let Some(python) = judge::python() else { return };
    let server = server("vhost bare.example { rtc { enabled on; keep_avc_nalu_sei off; } }");
    for (name, vhost, kept) in [("live/a", "", true), ("bare.example/live/a", "vhost=bare.example", false)] {
        let _publisher = Publisher::looping(&server, &format!("live/a?{vhost}"), Media::Tiny);
        server.wait_until_live(name);
        let player = play(&python, &format!("{}&{vhost}", server.whep("live/a")), 1);
        server.wait_for_clients(name, 2);
        let seen = seen(player).remove(0);
        assert_eq!((&seen["longest_step"], &seen["corrupt"]), (&1.into(), &0.into()), "{seen}");
        assert_eq!(seen["views"].as_u64() > Some(0), kept, "{seen}");
    }
    server.stop();
}

#[test]
fn garbage_from_a_peers_own_address_harms_nobody() {
    let Some(python) = judge::python() else { return };
    let server = Server::start(2);
    let publish = |url: &str| {
        let mut command = judge::script(&python, "webrtc");
        Process::start(command.args(["publish", url]).arg(Media::Marked.file()))
    };
    let through = |relay: &Relay, url: String| format!("{url}&eip=127.0.0.1:{}", relay.port);
    // All is authenticated once there is a session, so that even the spoiled roads carry all.
    let roads = [1, 2].map(|seed| Relay::to(server.ports.rtc, seed, 40));
    let _publisher = publish(&through(&roads[0], server.whip("live/a")));
    server.wait_until_live("live/a");
    let mut play = judge::script(&python, "webrtc");
    play.args(["play", &through(&roads[1], server.whep("live/a")), &SECONDS.to_string()]);
    let judges = [Judge::by(&mut play, SECONDS), Judge::of(&python, server.flv("live/a"), SECONDS)];
    judges.into_iter().for_each(Judge::finish);
    assert!(roads[0].spoiled() > 50, "{}", roads[0].spoiled());
    server.stop();
}

#[test]
fn garbage_harms_nobody() {
    let Some(python) = judge::python() else { return };
    let server = Server::start(2);
    let _publisher = Publisher::looping(&server, "live/a", Media::Marked);
    server.wait_until_live("live/a");
    let sockets: Vec<_> = (0..64).map(|_| UdpSocket::bind(local(0)).expect("a socket")).collect();
    let mut bytes = [0; 1400];
    for n in 0..20_000_usize {
        getrandom::fill(&mut bytes).expect("random bytes");
        match n % 4 {
            // A binding request for nobody, with the cookie and a user name.
            0 => {
                bytes[..8].copy_from_slice(&[0, 1, 0, 16, 0x21, 0x12, 0xa4, 0x42]);
                bytes[20..24].copy_from_slice(&[0, 6, 0, 9]);
                bytes[24..33].copy_from_slice(format!("u{:03}:them", n % 1000).as_bytes().get(..9).expect("nine"));
            }
            // A handshake of DTLS, RTP, RTCP.
            1 => bytes[..3].copy_from_slice(&[22, 0xfe, 0xfd]),
            2 => bytes[..2].copy_from_slice(&[0x80, 96]),
            _ => bytes[..2].copy_from_slice(&[0x80, 200]),
        }
        let length = if n % 4 == 0 { 36 } else { n % bytes.len() };
        sockets[n % sockets.len()].send_to(&bytes[..length], local(server.ports.rtc)).expect("send");
    }
    let mut play: Command = judge::script(&python, "webrtc");
    play.args(["play", &server.whep("live/a"), &SECONDS.to_string()]);
    Judge::by(&mut play, SECONDS).finish();
    server.stop();
}
