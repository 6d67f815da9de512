//! Floods of connections that come and say little or nothing: who watches does not notice.

use crate::support::{
    flv,
    media::Media,
    publisher::Publisher,
    server::{Server, local},
    until,
    viewer::Viewer,
    within,
};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

/// Connections that stay, of each kind.
const IDLE: usize = 1_000;
/// Connections that come and go.
const COMING: usize = 3_000;
/// Times of a live stream and of the clock that shows them may part by so much: `mw_latency` and a loaded machine.
const GAP: Duration = Duration::from_millis(1_500);

#[test]
fn viewers_do_not_notice_who_says_nothing() {
    let server = Server::start(2);
    let _publisher = Publisher::looping(&server, "live/calm", Media::Plain);
    server.wait_until_live("live/calm");
    let viewer = Viewer::open(server.ports.http, "live/calm");
    until("pictures come", || viewer.newest_ms());
    let watch = Watch::start(&viewer);

    // Half of an RTMP handshake, and a request whose head never ends.
    let silent: Vec<_> = (0..IDLE).map(|_| begun(server.ports.rtmp, &[3; 700])).collect();
    let mut slow: Vec<_> =
        (0..IDLE).map(|_| begun(server.ports.http, b"GET /live/calm.flv HTTP/1.1\r\nX-A: ")).collect();
    within(Duration::from_secs(30), "all are here", || {
        watch.look();
        (server.total("shardcast_connections", "") >= (2 * IDLE + 2) as f64).then_some(())
    });
    for round in 0..COMING {
        drop(begun([server.ports.rtmp, server.ports.http][round % 2], &[]));
        if round % 30 == 0 {
            watch.look();
            // Slowloris: one byte of the head each.
            for socket in slow.iter_mut().skip(round % IDLE).take(30) {
                let _ = socket.write_all(b"a");
            }
        }
    }
    // Neither is waited for longer than its deadline: 15 s for a head, 30 s to connect.
    for (what, sockets, limit) in [("heads", slow, 25), ("handshakes", silent, 45)] {
        let since = Instant::now();
        for mut socket in sockets {
            socket.set_nonblocking(true).expect("a socket");
            within(Duration::from_secs(limit), what, || {
                watch.look();
                let mut answer = [0; 4096];
                match socket.read(&mut answer) {
                    Ok(0) => Some(()),
                    Ok(_) => None,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                    Err(_) => Some(()),
                }
            });
        }
        assert!(since.elapsed() < Duration::from_secs(limit), "{what}");
    }
    until("nobody is left but publisher and viewer", || {
        (server.total("shardcast_connections", "") == 2.0).then_some(())
    });
    watch.look();
    flv::assert_every_picture(&viewer.frames(), &Media::Plain.file());
    server.stop();
}

fn begun(port: u16, bytes: &[u8]) -> TcpStream {
    let mut socket = until("the server accepts", || TcpStream::connect(local(port)).ok());
    socket.write_all(bytes).expect("send");
    socket
}

/// Looks at what a viewer has: stream time must go on as the clock does.
struct Watch<'v> {
    viewer: &'v Viewer,
    start: Instant,
    start_ms: u32,
}

impl<'v> Watch<'v> {
    fn start(viewer: &'v Viewer) -> Self {
        Self { viewer, start: Instant::now(), start_ms: viewer.newest_ms().expect("a picture") }
    }

    fn look(&self) {
        let shown = Duration::from_millis(u64::from(self.viewer.newest_ms().expect("a picture") - self.start_ms));
        let behind = self.start.elapsed().saturating_sub(shown);
        assert!(behind < GAP, "the viewer is {behind:?} behind");
        thread::yield_now();
    }
}
