//! SRT: ffmpeg and libsrt as publishers and players, judged by the file that was published.

use crate::support::{
    PATIENCE,
    judge::{self, Judge},
    media::{FRAMES_PER_SECOND, Media},
    probe::Decoder,
    process::Process,
    publisher::Publisher,
    relay::Relay,
    server::{Server, local, stream_at},
    until,
};
use std::{io::Write, net::UdpSocket, path::Path, process::Command};

const SECONDS: u32 = 3;
const MIN_PICTURES: usize = FRAMES_PER_SECOND * SECONDS as usize * 4 / 5;

/// ffmpeg, MPEG-TS over SRT, until dropped.
fn publish(url: &str) -> Process {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(Media::Plain.file());
    Process::start(command.args(["-c", "copy", "-f", "mpegts", url]))
}

/// libsrt, the marked clip as a transport stream from its standard input.
fn publish_by_libsrt(url: &str) -> [Process; 2] {
    let mut media = Command::new("ffmpeg");
    media.args(["-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(Media::Marked.file());
    media.args(["-c", "copy", "-f", "mpegts", "pipe:1"]);
    Process::pipe(&mut media, Command::new("srt-live-transmit").args(["-q", "-a:no", "file://con", url]))
}

/// libsrt, a transport stream to its standard output.
fn play_by_libsrt(url: &str) -> Process {
    Process::start(Command::new("srt-live-transmit").args(["-q", "-a:no", url, "file://con"]))
}

/// What a player of the marked clip has got plays.
fn assert_piece(python: &Path, player: Process) {
    player.terminate();
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&player.finish(PATIENCE).stdout).expect("write a file");
    Judge::of(python, file.path(), SECONDS).finish();
}

/// Each of `urls` plays, and shows the pictures of the file in their order.
fn plays(urls: &[String]) {
    let decoders: Vec<_> = urls.iter().map(|url| Decoder::seconds(url, SECONDS)).collect();
    for (url, decoder) in urls.iter().zip(decoders) {
        decoder.finish(PATIENCE).assert_is_of(url, Media::Plain, MIN_PICTURES);
    }
}

#[test]
fn what_comes_over_srt_plays_everywhere() {
    let server = Server::start(2);
    for home in 0..2 {
        let name = stream_at(home, 2, "srt");
        let publisher = publish(&server.srt_in(&name));
        server.wait_until_live(&name);
        until("there is a playlist", || (server.get(&format!("/{name}.m3u8")).status == 200).then_some(()));
        plays(&[server.srt(&name), server.rtmp(&name), server.flv(&name), server.ts(&name), server.hls(&name)]);
        drop(publisher);
        server.wait_until_over(&name);
    }
    server.stop();
}

#[test]
fn what_comes_over_rtmp_plays_over_srt() {
    let server = Server::start(2);
    let _publisher = Publisher::looping(&server, "live/a", Media::Plain);
    server.wait_until_live("live/a");
    plays(&[server.srt("live/a")]);
    server.stop();
}

#[test]
fn player_that_is_early_waits_for_its_publisher() {
    let server = Server::start(2);
    let early = Decoder::seconds(&server.srt("live/early"), SECONDS);
    server.wait_for_clients("live/early", 1);
    let _publisher = publish(&server.srt_in("live/early"));
    assert!(early.finish(PATIENCE).pictures.len() >= MIN_PICTURES);
    server.stop();
}

#[test]
fn second_publisher_is_turned_away() {
    let server = Server::start(2);
    let _first = publish(&server.srt_in("live/a"));
    server.wait_until_live("live/a");
    let _second = publish(&server.srt_in("live/a"));
    server.wait_for_log(&["connection of", "is busy: it has a publisher"]);
    plays(&[server.flv("live/a")]);
    server.stop();
}

#[test]
fn passphrase_lets_in_who_knows_it() {
    let server = Server::of_conf(
        "srs_log_tank console; http_server { enabled on; } http_api { enabled on; }
        srt_server { enabled on; passphrase correct-horse; pbkeylen 24; connect_timeout 4000; maxbw 0; tlpktdrop off;
            sendbuf 2000000; recvbuf 2000000; }
        vhost __defaultVhost__ { http_remux { enabled on; } srt { enabled on; } }",
        2,
    );
    let with = |url: String, words: &str| format!("{url}&passphrase={words}");
    let refused = |url: &str, why: &str| {
        let seen = server.log().with(&["refused", why]).len();
        let mut caller = publish(url);
        until("the caller is refused", || caller.ended());
        assert!(server.log().with(&["refused", why]).len() > seen);
    };
    refused(&with(server.srt_in("live/a"), "another-horse"), "passphrase is another");
    refused(&server.srt_in("live/a"), "encrypts");
    // Of the server's size, then of their own.
    for bytes in [0, 16, 32] {
        let name = format!("live/key{bytes}");
        let _publisher = publish(&format!("{}&pbkeylen={bytes}", with(server.srt_in(&name), "correct-horse")));
        server.wait_until_live(&name);
        plays(&[server.flv(&name), with(server.srt(&name), "correct-horse")]);
    }
    server.stop();
}

#[test]
fn libsrt_publishes_and_plays_with_each_length_of_key() {
    let Some(python) = judge::python() else { return };
    let server = Server::of_conf(
        "srs_log_tank console; http_server { enabled on; } http_api { enabled on; }
        srt_server { enabled on; passphrase correct-horse; }
        vhost __defaultVhost__ { http_remux { enabled on; } srt { enabled on; } }",
        2,
    );
    for bytes in [16, 24, 32] {
        let name = format!("live/key{bytes}");
        let key = format!("&passphrase=correct-horse&pbkeylen={bytes}");
        let publisher = publish_by_libsrt(&(server.srt_in(&name) + &key));
        server.wait_until_live(&name);
        let player = play_by_libsrt(&(server.srt(&name) + &key));
        server.wait_for_clients(&name, 2);
        server.wait_for_pictures(&name, (SECONDS as usize + 1) * FRAMES_PER_SECOND);
        assert_piece(&python, player);
        drop(publisher);
    }
    server.stop();
}

#[test]
fn fifty_players_each_get_a_piece() {
    let Some(python) = judge::python() else { return };
    const PLAYERS: u64 = 50;
    let server = Server::start(2);
    let _publisher = publish_by_libsrt(&server.srt_in("live/many"));
    server.wait_until_live("live/many");
    let players: Vec<_> = (0..PLAYERS).map(|_| play_by_libsrt(&server.srt("live/many"))).collect();
    server.wait_for_clients("live/many", 1 + PLAYERS);
    server.wait_for_pictures("live/many", (SECONDS as usize + 1) * FRAMES_PER_SECOND);
    players.into_iter().for_each(|player| assert_piece(&python, player));
    server.stop();
}

#[test]
fn encrypted_caller_of_an_open_server_is_refused_and_others_play_on() {
    let server = Server::start(2);
    let _publisher = publish(&server.srt_in("live/a"));
    server.wait_until_live("live/a");
    let mut caller = publish(&format!("{}&passphrase=whatever-it-is", server.srt_in("live/b")));
    until("the caller is refused", || caller.ended());
    server.wait_for_log(&["refused", "encrypts"]);
    plays(&[server.srt("live/a")]);
    server.stop();
}

#[test]
fn garbage_from_the_callers_own_address_harms_no_other() {
    let Some(python) = judge::python() else { return };
    let server = Server::start(2);
    let _clean = publish_by_libsrt(&server.srt_in("live/clean"));
    server.wait_until_live("live/clean");
    // Some begin with the handshake, some when there is a session.
    for (seed, first) in [(1, 0), (2, 8), (3, 8), (4, 8)] {
        let roads = [(); 2].map(|()| Relay::to(server.ports.srt, seed, first));
        let by = |relay: &Relay, url: String| url.replace(&server.ports.srt.to_string(), &relay.port.to_string());
        // What it sends has no check sum: its own stream may be spoiled, or end.
        let mut publisher = publish(&by(&roads[0], server.srt_in("live/spoiled")));
        let mut player = play_by_libsrt(&by(&roads[1], server.srt("live/clean")));
        let judges = [server.srt("live/clean"), server.flv("live/clean")].map(|url| Judge::of(&python, url, SECONDS));
        until("packets are spoiled", || {
            // A player only acknowledges, on a busy machine a dozen times a second.
            let enough = |relay: &Relay, client: &mut Process| relay.spoiled() > 50 || client.ended().is_some();
            (enough(&roads[0], &mut publisher) && enough(&roads[1], &mut player)).then_some(())
        });
        judges.into_iter().for_each(Judge::finish);
    }
    server.wait_until_over("live/spoiled");
    let _next = publish_by_libsrt(&server.srt_in("live/spoiled"));
    server.wait_until_live("live/spoiled");
    let judges = [server.srt("live/spoiled"), server.flv("live/clean")].map(|url| Judge::of(&python, url, SECONDS));
    judges.into_iter().for_each(Judge::finish);
    server.stop();
}

#[test]
fn garbage_harms_nobody() {
    let server = Server::start(2);
    let _publisher = publish(&server.srt_in("live/a"));
    server.wait_until_live("live/a");
    let socket = UdpSocket::bind(local(0)).expect("a socket");
    let mut bytes = [0; 1400];
    for control in 0..4_000_u16 {
        getrandom::fill(&mut bytes).expect("random bytes");
        // Every kind of control packet, to sockets that may be there.
        bytes[0] = 0x80 | (control >> 8) as u8 & 0x7f;
        bytes[1] = (control % 10) as u8;
        bytes[12..16].copy_from_slice(&u32::from(control % 4).to_be_bytes());
        let length = usize::from(control) % bytes.len();
        socket.send_to(&bytes[..length], local(server.ports.srt)).expect("send");
    }
    plays(&[server.srt("live/a"), server.flv("live/a")]);
    server.stop();
}
