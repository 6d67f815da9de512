//! The socket-like face of one WebRTC session: a publisher's media come out of it, a viewer's packets go in.

use super::{
    inbox::{Full, Inbox},
    sys::{self, SEGMENTS_MAX},
};
use shardcast_engine::frame::Media;
use shardcast_protocols::rtc::{Output, Player, Publisher, Session};
use socket2::SockRef;
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::{self, IoSlice},
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

/// So long ICE and DTLS may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(30);
/// What one system call may carry, bytes.
const RUN_BYTES: usize = 64_000;

pub struct Peer {
    udp: Rc<UdpSocket>,
    session: RefCell<Session>,
    media: Inbox<Media>,
    made: Instant,
    /// When it was last heard of.
    heard: Cell<Instant>,
    /// It has to be heard of so often.
    silence: Duration,
    connected: Cell<bool>,
    wants_keyframe: Cell<bool>,
    /// Why it is over.
    over: RefCell<Option<String>>,
    /// The way to it takes many datagrams in one call.
    segments: Cell<bool>,
    pub received: Cell<u64>,
    pub sent: Cell<u64>,
}

impl Peer {
    pub fn new(udp: Rc<UdpSocket>, session: Session, silence: Duration) -> Self {
        let now = Instant::now();
        Self {
            udp,
            session: RefCell::new(session),
            media: Inbox::default(),
            made: now,
            heard: Cell::new(now),
            silence,
            connected: Cell::default(),
            wants_keyframe: Cell::default(),
            over: RefCell::default(),
            segments: Cell::new(true),
            received: Cell::default(),
            sent: Cell::default(),
        }
    }

    pub fn input(&self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        self.heard.set(now);
        self.received.set(self.received.get() + datagram.len() as u64);
        self.act(|session| session.input(now, source, datagram).map_err(|error| error.to_string()));
    }

    /// A STUN request with this session's credentials.
    pub fn accepts(&self, now: Instant, source: SocketAddr, datagram: &[u8]) -> bool {
        self.session.borrow().accepts(now, source, datagram)
    }

    pub fn tick(&self, now: Instant) {
        if now.saturating_duration_since(self.heard.get()) >= self.silence {
            return self.fail(format!("nothing was heard of it for {} s", self.silence.as_secs()));
        }
        if !self.is_connected() && now.saturating_duration_since(self.made) >= HANDSHAKE_TIME {
            return self.fail(format!("no keys were agreed on in {} s", HANDSHAKE_TIME.as_secs()));
        }
        let due = self.session.borrow().deadline().is_some_and(|deadline| deadline <= now);
        if due {
            self.act(|session| session.expire(now).map_err(|error| error.to_string()));
        }
    }

    /// ICE and DTLS are done.
    pub fn is_connected(&self) -> bool {
        self.connected.get()
    }

    /// Why it is over, once it is.
    pub fn over(&self) -> Option<String> {
        self.over.borrow().clone()
    }

    pub fn is_over(&self) -> bool {
        self.over.borrow().is_some()
    }

    /// The viewer asked for a keyframe since the last look.
    pub fn takes_keyframe_wish(&self) -> bool {
        self.wants_keyframe.take()
    }

    /// Waits for media of the publisher; none at the end of the session.
    pub async fn media(&self) -> Vec<Media> {
        poll_fn(|cx| {
            let batch = self.media.take();
            if !batch.is_empty() || self.is_over() {
                return Poll::Ready(batch);
            }
            self.media.wait(cx);
            Poll::Pending
        })
        .await
    }

    /// Lets a player's session write, then sends what came of it.
    pub fn play(&self, act: impl FnOnce(&mut Player) -> Result<(), String>) {
        self.act(|session| match session {
            Session::Player(player) => act(player),
            Session::Publisher(_) => Ok(()),
        });
    }

    /// Asks the publisher for a keyframe.
    pub fn ask_keyframe(&self, now: Instant) {
        self.act(|session| match session {
            Session::Publisher(publisher) => {
                publisher.ask_keyframe(now);
                publisher.expire(now).map_err(|error| error.to_string())
            }
            Session::Player(_) => Ok(()),
        });
    }

    pub fn publisher<R>(&self, look: impl FnOnce(&Publisher) -> R) -> Option<R> {
        match &*self.session.borrow() {
            Session::Publisher(publisher) => Some(look(publisher)),
            Session::Player(_) => None,
        }
    }

    /// Says goodbye and ends the session, for this reason; whoever waits for media sees the end.
    pub fn end(&self, why: &str) {
        let now = Instant::now();
        self.act(|session| {
            session.close(now);
            Ok(())
        });
        self.finish(why.into());
    }

    pub fn shutdown(&self) {
        self.end("closed");
    }

    fn fail(&self, why: String) {
        if !self.is_over() {
            metrics::counter!("shardcast_session_errors_total", "protocol" => "rtc").increment(1);
        }
        self.finish(why);
    }

    fn finish(&self, why: String) {
        self.over.borrow_mut().get_or_insert(why);
        self.media.wake();
    }

    /// Lets the session act, then moves what came out of it. A panic below ends this session.
    fn act(&self, act: impl FnOnce(&mut Session) -> Result<(), String>) {
        if self.is_over() {
            return;
        }
        let mut session = self.session.borrow_mut();
        let acted = catch_unwind(AssertUnwindSafe(|| act(&mut session)));
        let mut ended = match acted {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => {
                metrics::counter!("shardcast_session_panics_total").increment(1);
                return self.fail("internal error".into());
            }
        };
        let mut run = Run::new(self);
        let mut news = false;
        while let Some(output) = session.poll() {
            match output {
                Output::Send { to, bytes } => run.push(to, bytes),
                Output::Media(media) => {
                    if let Err(Full) = self.media.push(media) {
                        ended.get_or_insert(Full::WHY.into());
                    }
                    news = true;
                }
                Output::Connected => {
                    self.connected.set(true);
                    news = true;
                }
                Output::KeyframeWanted => self.wants_keyframe.set(true),
                Output::Closed => {
                    self.over.borrow_mut().get_or_insert("peer closed".into());
                }
            }
        }
        run.send();
        drop(session);
        if let Some(why) = ended {
            self.fail(why);
        } else if news || self.is_over() {
            self.media.wake();
        }
    }

    /// What the kernel does not take is lost as on any other way; the peer asks for it again.
    fn send(&self, to: SocketAddr, datagrams: &[Vec<u8>]) {
        let address = to.into();
        if self.segments.get() && datagrams.len() > 1 {
            let slices: Vec<_> = datagrams.iter().map(|bytes| IoSlice::new(bytes)).collect();
            let segment = datagrams.first().map_or(0, Vec::len) as u16;
            match sys::send_segments(self.udp.as_fd(), &address, &slices, segment) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE)) => {
                    self.segments.set(false);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return metrics::counter!("shardcast_rtc_unsent_total").increment(datagrams.len() as u64);
                }
                _ => return,
            }
        }
        for bytes in datagrams {
            if SockRef::from(&*self.udp).send_to_with_flags(bytes, &address, libc::MSG_DONTWAIT).is_err() {
                metrics::counter!("shardcast_rtc_unsent_total").increment(1);
            }
        }
    }
}

/// Datagrams that leave in one system call: to one address, all of one size, the last perhaps shorter.
struct Run<'p> {
    peer: &'p Peer,
    to: Option<SocketAddr>,
    datagrams: Vec<Vec<u8>>,
    bytes: usize,
}

impl<'p> Run<'p> {
    fn new(peer: &'p Peer) -> Self {
        Self { peer, to: None, datagrams: Vec::new(), bytes: 0 }
    }

    fn push(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        let segment = self.datagrams.first().map_or(bytes.len(), Vec::len);
        let full = self.datagrams.last().is_some_and(|last| last.len() < segment)
            || bytes.len() > segment
            || self.datagrams.len() == SEGMENTS_MAX
            || self.bytes + bytes.len() > RUN_BYTES;
        if self.to != Some(to) || full {
            self.send();
        }
        self.to = Some(to);
        self.bytes += bytes.len();
        self.datagrams.push(bytes);
    }

    fn send(&mut self) {
        if let Some(to) = self.to.filter(|_| !self.datagrams.is_empty()) {
            self.peer.sent.set(self.peer.sent.get() + self.bytes as u64);
            self.peer.send(to, &self.datagrams);
        }
        self.datagrams.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardcast_protocols::rtc::Settings;

    /// Of ffmpeg 9.0.
    const OFFER: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../protocols/src/rtc/offer/ffmpeg.sdp"));

    fn peer(silence: Duration) -> Peer {
        let now = Instant::now();
        let settings = Settings { candidates: vec![("127.0.0.1".into(), 8000)], ice: None };
        let (publisher, _) = Publisher::answer(now, OFFER, &settings).unwrap();
        let udp = Rc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        Peer::new(udp, Session::Publisher(Box::new(publisher)), silence)
    }

    #[test]
    fn keys_are_to_be_agreed_on_and_something_heard_in_time() {
        for (silence, within, why) in
            [(60, 30, "no keys were agreed on in 30 s"), (10, 10, "nothing was heard of it for 10 s")]
        {
            let peer = peer(Duration::from_secs(silence));
            peer.tick(peer.made + Duration::from_secs(within) - Duration::from_millis(1));
            assert_eq!(peer.over(), None);
            peer.tick(peer.made + Duration::from_secs(within));
            assert_eq!(peer.over().as_deref(), Some(why));
        }
    }
}
