//! Viewers over HTTP-FLV that keep all they get: one reads as fast as it can, one only when told to.

use super::{flv, flv::Tag, http, server::local, within};
use socket2::{Domain, Socket, Type};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Reads as fast as it can, on a thread of its own.
pub struct Viewer {
    got: Arc<Mutex<Got>>,
    socket: TcpStream,
    reader: Option<JoinHandle<()>>,
}

/// What came so far.
#[derive(Default)]
struct Got {
    /// The answer's head, until that is whole.
    head: Vec<u8>,
    answered: bool,
    chunks: http::Chunks,
    flv: Vec<u8>,
    /// Bytes of the FLV that are in `tags`.
    parsed: usize,
    tags: Vec<Tag>,
    read_at: Vec<Instant>,
    ended: bool,
}

impl Viewer {
    pub fn open(port: u16, stream: &str) -> Self {
        let socket = http::open(port, "GET", &format!("/{stream}.flv"), &[]);
        socket.set_read_timeout(None).expect("no deadline");
        let got = Arc::new(Mutex::new(Got::default()));
        let (to, mut from) = (got.clone(), socket.try_clone().expect("a second handle"));
        let reader = thread::spawn(move || {
            let mut buffer = vec![0; 256 << 10];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                to.lock().expect("what came").take(&buffer[..count]);
            }
            to.lock().expect("what came").ended = true;
        });
        Self { got, socket, reader: Some(reader) }
    }

    /// The server has closed the connection, after a whole body.
    pub fn ended(&self) -> bool {
        self.got(|got| got.ended && got.chunks.complete)
    }

    /// All frames so far.
    pub fn frames(&self) -> Vec<Tag> {
        self.got(|got| got.tags.iter().filter(|tag| tag.is_frame()).cloned().collect())
    }

    /// Time of the newest picture.
    pub fn newest_ms(&self) -> Option<u32> {
        self.got(|got| got.newest(|tag| tag.kind == flv::VIDEO && tag.is_frame()))
    }

    /// Time of the newest keyframe.
    pub fn newest_keyframe_ms(&self) -> Option<u32> {
        self.got(|got| got.newest(Tag::is_keyframe))
    }

    /// How often something came.
    pub fn reads(&self) -> usize {
        self.got(|got| got.read_at.len())
    }

    /// The longest time since `start` in which nothing came.
    pub fn silence(&self, start: Instant) -> Duration {
        self.got(|got| {
            let later = &got.read_at[got.read_at.partition_point(|at| *at <= start)..];
            let ends = later.iter().copied().chain([Instant::now()]);
            [start]
                .into_iter()
                .chain(later.iter().copied())
                .zip(ends)
                .map(|(from, to)| to - from)
                .max()
                .unwrap_or_default()
        })
    }

    /// The FLV so far, up to its last whole tag.
    pub fn flv(&self) -> Vec<u8> {
        self.got(|got| got.flv().to_vec())
    }

    fn got<R>(&self, look: impl FnOnce(&Got) -> R) -> R {
        look(&self.got.lock().expect("what came"))
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        // Fails only where the server closed it already.
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Viewers more than 5 s behind skip; 10 s are kept.
pub const SKIPPING: &str = "
    srs_log_tank console;
    http_server { enabled on; }
    http_api { enabled on; }
    vhost __defaultVhost__ {
        http_remux { enabled on; }
        play { queue_length 5; }
    }
";

/// At 20 Mbit/s this is well above the 5 s and what the kernel holds for a viewer, and well below the 10 s.
pub const PAUSE_MS: u32 = 7_500;

/// Reads only when told to, into a small receive buffer.
pub struct Laggard {
    socket: TcpStream,
    got: Got,
}

impl Laggard {
    pub fn open(port: u16, stream: &str) -> Self {
        let mut socket = narrow(port);
        let request = format!("GET /{stream}.flv HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("send a request");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a deadline");
        Self { socket, got: Got::default() }
    }

    pub fn peer(&self) -> String {
        self.socket.local_addr().expect("its address").to_string()
    }

    /// Reads until it has a picture of `time_ms` or later.
    pub fn read_up_to(&mut self, time_ms: u32, limit: Duration) {
        let mut buffer = vec![0; 64 << 10];
        within(limit, "the laggard catches up", || {
            loop {
                match self.socket.read(&mut buffer) {
                    Ok(0) => panic!("the server closed the laggard's connection"),
                    Ok(count) => self.got.take(&buffer[..count]),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
                    Err(error) => panic!("the laggard: {error}"),
                }
                if self.got.newest(|tag| tag.kind == flv::VIDEO && tag.is_frame()) >= Some(time_ms) {
                    return Some(());
                }
            }
        });
    }

    pub fn frames(&self) -> Vec<Tag> {
        self.got.tags.iter().filter(|tag| tag.is_frame()).cloned().collect()
    }

    /// The FLV so far, up to its last whole tag.
    pub fn flv(&self) -> &[u8] {
        self.got.flv()
    }
}

/// A connection to the server with a small receive buffer.
pub fn narrow(port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // Set before connecting, or the window is agreed on without it.
    socket.set_recv_buffer_size(32 << 10).expect("a small buffer");
    socket.connect(&local(port).into()).expect("connect");
    socket.into()
}

impl Got {
    fn take(&mut self, bytes: &[u8]) {
        self.read_at.push(Instant::now());
        if self.answered {
            self.chunks.take(bytes, &mut self.flv);
        } else {
            self.head.extend_from_slice(bytes);
            let Some(answer) = http::Response::parse(&self.head) else { return };
            assert_eq!((answer.status, answer.header("transfer-encoding")), (200, Some("chunked")));
            self.answered = true;
            self.chunks.take(&answer.body, &mut self.flv);
        }
        let (tags, parsed) = flv::tags_from(&self.flv, self.parsed);
        self.tags.extend(tags);
        self.parsed = parsed;
    }

    fn newest(&self, wanted: impl Fn(&Tag) -> bool) -> Option<u32> {
        self.tags.iter().rev().find(|tag| wanted(tag)).map(|tag| tag.time_ms)
    }

    fn flv(&self) -> &[u8] {
        &self.flv[..self.parsed]
    }
}
