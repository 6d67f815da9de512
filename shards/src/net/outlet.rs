//! The socket-like face of one SRT session: what a connection reads from it and sends to it.

use super::inbox::{Full, Inbox};
use crate::drops::Drops;
use bytes::{Bytes, BytesMut};
use shardcast_protocols::srt::Session;
use socket2::SockRef;
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::{self, IoSlice},
    net::{SocketAddr, UdpSocket},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

/// Seven packets of MPEG-TS: what fits an Ethernet frame, and what every SRT peer expects.
const PAYLOAD: usize = 7 * 188;
/// How long what was sent may take to arrive after the end.
const PARTING: Duration = Duration::from_secs(2);

pub struct Outlet {
    udp: Rc<UdpSocket>,
    peer: SocketAddr,
    session: RefCell<Session>,
    received: Inbox<Bytes>,
    /// Less than a payload.
    rest: RefCell<BytesMut>,
    /// We end it, at the latest then.
    parting: Cell<Option<Instant>>,
    failed: Cell<Option<&'static str>>,
    late: Cell<u64>,
}

impl Outlet {
    pub fn new(udp: Rc<UdpSocket>, peer: SocketAddr, session: Session) -> Self {
        Self {
            udp,
            peer,
            session: RefCell::new(session),
            received: Inbox::default(),
            rest: RefCell::default(),
            parting: Cell::default(),
            failed: Cell::default(),
            late: Cell::default(),
        }
    }

    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// As [`Session::late`].
    pub fn late(&self) -> u64 {
        self.late.get()
    }

    pub fn input(&self, now: Instant, bytes: &[u8]) {
        self.act(|session| session.input(now, bytes));
    }

    pub fn tick(&self, now: Instant) {
        self.act(|session| {
            if session.deadline().is_none_or(|deadline| deadline <= now) {
                session.tick(now);
            }
        });
    }

    /// Neither side has anything to say any more.
    pub fn is_over(&self, now: Instant) -> bool {
        self.is_done() || self.parting.get().is_some_and(|end| end <= now)
    }

    fn is_done(&self) -> bool {
        self.failed.get().is_some() || self.session.borrow().is_over()
    }

    /// Waits for payload and hands it to `parse`; `None` at the end of the session.
    pub async fn read<R>(&self, mut parse: impl FnMut(&[u8]) -> R) -> io::Result<Option<R>> {
        poll_fn(|cx| {
            if let Some(why) = self.failed.get() {
                return Poll::Ready(Err(io::Error::other(why)));
            }
            if self.parting.get().is_some() {
                return Poll::Ready(Ok(None));
            }
            match self.received.pop() {
                Some(payload) => Poll::Ready(Ok(Some(parse(&payload)))),
                None if self.is_done() => Poll::Ready(Ok(None)),
                None => {
                    self.received.wait(cx);
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Takes what there is room for. Less than a payload waits here for more.
    pub fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_done() || self.parting.get().is_some() {
            // Whoever reads it sees the end, and why.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let now = Instant::now();
        let mut taken = 0;
        for slice in slices {
            let mut bytes: &[u8] = slice;
            while !bytes.is_empty() {
                let mut rest = self.rest.borrow_mut();
                let (head, tail) = bytes.split_at(bytes.len().min(PAYLOAD - rest.len()));
                if rest.len() + head.len() == PAYLOAD && !self.act(|session| session.has_room(now)).unwrap_or(false) {
                    return if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) };
                }
                // Copied: the crate wants payloads of its own, and a tape's blocks do not end at them.
                rest.extend_from_slice(head);
                taken += head.len();
                bytes = tail;
                if rest.len() == PAYLOAD {
                    let payload = rest.split().freeze();
                    drop(rest);
                    self.act(|session| session.send(now, payload));
                }
            }
        }
        Ok(taken)
    }

    /// Ends the session; what was sent still arrives, and a waiting read returns.
    pub fn shutdown(&self) {
        if self.parting.get().is_none() {
            let now = Instant::now();
            self.parting.set(Some(now + PARTING));
            let rest = self.rest.borrow_mut().split().freeze();
            self.act(|session| {
                if !rest.is_empty() {
                    session.send(now, rest);
                }
                session.close(now);
            });
        }
        self.received.wake();
    }

    /// Lets the session act, then moves what came out of it. The crate below panics at some input that it
    /// does not know: that ends this session.
    fn act<R>(&self, act: impl FnOnce(&mut Session) -> R) -> Option<R> {
        if self.failed.get().is_some() {
            return None;
        }
        let mut session = self.session.borrow_mut();
        let Ok(result) = catch_unwind(AssertUnwindSafe(|| act(&mut session))) else {
            metrics::counter!("shardcast_session_panics_total").increment(1);
            self.failed.set(Some("internal error"));
            drop(session);
            self.received.wake();
            return None;
        };
        while let Some(packet) = session.packet() {
            // What the kernel does not take is lost as on any other way; SRT asks for it again.
            let _ = SockRef::from(&*self.udp).send_to_with_flags(&packet, &self.peer.into(), libc::MSG_DONTWAIT);
        }
        while let Some(payload) = session.payload() {
            if self.received.push(payload).is_err() {
                self.failed.set(Some(Full::WHY));
                break;
            }
        }
        let late = session.late();
        Drops { late: late - self.late.replace(late), ..Drops::default() }.count();
        let news = !self.received.is_empty() || session.is_over() || self.failed.get().is_some();
        drop(session);
        if news {
            self.received.wake();
        }
        Some(result)
    }
}
