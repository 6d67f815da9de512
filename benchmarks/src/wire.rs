//! One TCP connection that never blocks its thread: what is sent waits until it is made.

use crate::{
    endpoint::Endpoint,
    sys::{self, Epoll},
    tls::Tls,
};
use bytes::{Buf, Bytes};
use socket2::{Domain, Socket, Type};
use std::{
    collections::VecDeque,
    io::{self, IoSlice, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs},
    os::fd::AsFd,
    sync::atomic::{AtomicU32, Ordering},
};

/// What may wait to be written: some seconds of a stream.
const OUTGOING_BYTES_MAX: usize = 8 << 20;
const SLICES_MAX: usize = 64;
const DISCARD_BYTES: usize = 1 << 20;
/// Connections from one address of the loopback: there are 28 000 ports, and old ones rest for a minute.
const PER_SOURCE: u32 = 8192;

#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server reads too slowly: {waiting} bytes wait, at most {max} may")]
    Full { waiting: usize, max: usize },
    #[error("no address for {0}")]
    NoAddress(String),
}

pub struct Wire {
    socket: TcpStream,
    /// Addresses to try where this one does not answer.
    others: VecDeque<SocketAddr>,
    connected: bool,
    tls: Option<Tls>,
    /// Whether an epoll knows it, and whether that waits until it takes bytes.
    watched: Option<bool>,
    outgoing: VecDeque<Bytes>,
    waiting: usize,
}

impl Wire {
    /// Begins to connect. Looks its host's name up, which may take a while; an address takes none.
    pub fn dial(to: &Endpoint) -> Result<Self, WireError> {
        let mut others: VecDeque<SocketAddr> = (to.host.as_str(), to.port).to_socket_addrs()?.collect();
        let first = others.pop_front().ok_or_else(|| WireError::NoAddress(to.host.clone()))?;
        let socket = connect(first)?;
        let tls = if to.secure { Some(Tls::new(&to.host)?) } else { None };
        let mut wire =
            Self { socket, others, connected: false, tls, watched: None, outgoing: VecDeque::new(), waiting: 0 };
        wire.send_sealed()?;
        Ok(wire)
    }

    /// Queues `bytes`; `flush` writes them.
    pub fn send(&mut self, bytes: Bytes) -> Result<(), WireError> {
        match &mut self.tls {
            Some(tls) => {
                tls.seal(&bytes)?;
                self.send_sealed()
            }
            None => self.queue(bytes),
        }
    }

    fn send_sealed(&mut self) -> Result<(), WireError> {
        match &mut self.tls {
            Some(tls) => {
                let sealed = tls.sealed()?;
                self.queue(sealed.into())
            }
            None => Ok(()),
        }
    }

    fn queue(&mut self, bytes: Bytes) -> Result<(), WireError> {
        let waiting = self.waiting + bytes.len();
        if waiting > OUTGOING_BYTES_MAX {
            return Err(WireError::Full { waiting, max: OUTGOING_BYTES_MAX });
        }
        if !bytes.is_empty() {
            self.waiting = waiting;
            self.outgoing.push_back(bytes);
        }
        Ok(())
    }

    /// Writes what the socket takes now.
    pub fn flush(&mut self) -> Result<(), WireError> {
        while !self.outgoing.is_empty() {
            let slices: Vec<IoSlice> = self.outgoing.iter().take(SLICES_MAX).map(|b| IoSlice::new(b)).collect();
            let mut written = match self.socket.write_vectored(&slices) {
                Ok(0) => return Err(WireError::Closed),
                Ok(written) => written,
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) => return self.turn_to_another(error),
            };
            self.connected = true;
            self.waiting -= written;
            while let Some(front) = self.outgoing.front_mut().filter(|_| written > 0) {
                let part = front.len().min(written);
                front.advance(part);
                written -= part;
                if front.is_empty() {
                    self.outgoing.pop_front();
                }
            }
        }
        Ok(())
    }

    /// Reads once, into `buffer`, and has `take` take what was said. How many bytes came; `None` if none are there
    /// now.
    pub fn receive<E: From<WireError>>(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        let received = self.socket.read(buffer);
        let Some(len) = self.received(received)? else { return Ok(None) };
        let bytes = buffer.get(..len).unwrap_or_default();
        match &mut self.tls {
            Some(tls) => {
                let mut opened = Vec::new();
                tls.open(bytes, &mut opened).map_err(WireError::from)?;
                self.send_sealed()?;
                take(&opened)?;
            }
            None => take(bytes)?,
        }
        Ok(Some(len))
    }

    /// Throws away what came, sealed or not; how many bytes that was.
    pub fn discard(&mut self) -> Result<Option<usize>, WireError> {
        let received = sys::discard(self.socket.as_fd(), DISCARD_BYTES);
        self.received(received)
    }

    fn received(&mut self, received: io::Result<usize>) -> Result<Option<usize>, WireError> {
        match received {
            Ok(0) => Err(WireError::Closed),
            Ok(len) => {
                self.connected = true;
                Ok(Some(len))
            }
            Err(error) if is_later(&error) => Ok(None),
            Err(error) => self.turn_to_another(error).map(|()| None),
        }
    }

    /// A name may have several addresses, of which one answers.
    fn turn_to_another(&mut self, error: io::Error) -> Result<(), WireError> {
        match self.others.pop_front().filter(|_| !self.connected) {
            Some(next) => {
                self.socket = connect(next)?;
                self.watched = None;
                Ok(())
            }
            None => Err(error.into()),
        }
    }

    pub fn is_flushed(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Has `epoll` wait for what is to be done next; after each call that reads or writes.
    pub fn watch(&mut self, epoll: &Epoll, token: usize) -> io::Result<()> {
        let write = !self.is_flushed();
        match self.watched.replace(write) {
            None => epoll.add(self.socket.as_fd(), token, write),
            Some(before) if before != write => epoll.modify(self.socket.as_fd(), token, write),
            Some(_) => Ok(()),
        }
    }

    /// Has `epoll` wait no more.
    pub fn forget(&mut self, epoll: &Epoll) -> io::Result<()> {
        self.watched.take().map_or(Ok(()), |_| epoll.forget(self.socket.as_fd()))
    }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let SocketAddr::V4(to) = to
        && to.ip().is_loopback()
        && let Some(source) = source()
    {
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// Where the next connection over the loopback comes from: the addresses of 127.0.0.0/8 one after the other, so
/// that ports never run out. `None` is 127.0.0.1, as the kernel has it.
fn source() -> Option<Ipv4Addr> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let nth = MADE.fetch_add(1, Ordering::Relaxed) / PER_SOURCE;
    (nth > 0).then(|| Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + nth))
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, thread, time::Duration};

    fn wire(listener: &TcpListener) -> Wire {
        let url = format!("tcp://{}/", listener.local_addr().unwrap());
        Wire::dial(&url.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_name_is_tried_at_each_of_its_addresses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut wire = wire(&closed);
        drop(closed);
        wire.others.push_back(listener.local_addr().unwrap());
        wire.socket = connect("127.0.0.1:1".parse().unwrap()).unwrap();
        wire.send(Bytes::from_static(b"x")).unwrap();
        let mut epoll = Epoll::new().unwrap();
        while !wire.is_flushed() {
            wire.watch(&epoll, 0).unwrap();
            epoll.wait(Duration::from_secs(10), &mut Vec::new()).unwrap();
            wire.flush().unwrap();
        }
        let mut far = listener.accept().unwrap().0;
        drop(wire);
        let mut got = Vec::new();
        far.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"x");
    }

    #[test]
    fn refuses_to_queue_more_than_its_bound_and_delivers_the_rest_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut wire = wire(&listener);
        let (mut far, _) = listener.accept().unwrap();
        let piece = Bytes::from((0..1 << 20).map(|n: u32| (n % 251) as u8).collect::<Vec<_>>());
        for _ in 0..8 {
            wire.send(piece.clone()).unwrap();
        }
        let full = wire.send(piece.clone()).unwrap_err();
        assert!(matches!(full, WireError::Full { waiting, max } if waiting == 9 << 20 && max == 8 << 20));
        let reader = thread::spawn(move || {
            let mut got = Vec::new();
            far.read_to_end(&mut got).unwrap();
            got
        });
        let mut epoll = Epoll::new().unwrap();
        while !wire.is_flushed() {
            wire.watch(&epoll, 0).unwrap();
            epoll.wait(Duration::from_secs(10), &mut Vec::new()).unwrap();
            wire.flush().unwrap();
        }
        drop(wire);
        let got = reader.join().unwrap();
        assert!(got == piece.repeat(8), "{} bytes came, or others than sent", got.len());
    }
}
