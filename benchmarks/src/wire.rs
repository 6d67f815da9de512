//! One TCP connection that never blocks its thread: dialled on the side, read and written when ready.

use crate::{endpoint::Endpoint, sys::Wait};
use bytes::{Buf, Bytes};
use std::{
    collections::VecDeque,
    io::{self, IoSlice, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::fd::AsFd,
    sync::mpsc::{self, Receiver, TryRecvError},
    thread,
    time::Duration,
};

const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const DIAL_STACK_BYTES: usize = 128 * 1024;
/// What may wait to be written: some seconds of a stream.
const OUTGOING_BYTES_MAX: usize = 8 << 20;
const SLICES_MAX: usize = 64;

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

/// A connection being made, by a thread of its own that ends with the attempt.
pub struct Dial(Receiver<Result<TcpStream, WireError>>);

impl Dial {
    pub fn start(to: &Endpoint) -> io::Result<Self> {
        let (tell, told) = mpsc::sync_channel(1);
        let (host, port) = (to.host.clone(), to.port);
        thread::Builder::new().name("dial".into()).stack_size(DIAL_STACK_BYTES).spawn(move || {
            // An answer that nobody waits for any more may go lost.
            let _ = tell.send(connect(&host, port));
        })?;
        Ok(Self(told))
    }

    /// `None` while it is still trying.
    pub fn result(&self) -> Option<Result<Wire, WireError>> {
        match self.0.try_recv() {
            Ok(result) => Some(result.and_then(|socket| Ok(Wire::new(socket)?))),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(WireError::Closed)),
        }
    }
}

fn connect(host: &str, port: u16) -> Result<TcpStream, WireError> {
    let mut last = WireError::NoAddress(host.into());
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, DIAL_TIMEOUT) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

pub struct Wire {
    socket: TcpStream,
    outgoing: VecDeque<Bytes>,
    waiting: usize,
}

impl Wire {
    pub fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, outgoing: VecDeque::new(), waiting: 0 })
    }

    /// Queues `bytes`; `flush` writes them.
    pub fn send(&mut self, bytes: Bytes) -> Result<(), WireError> {
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
                Err(error) => return Err(error.into()),
            };
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

    /// How many bytes came; `None` if none are there now.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, WireError> {
        match self.socket.read(buffer) {
            Ok(0) => Err(WireError::Closed),
            Ok(len) => Ok(Some(len)),
            Err(error) if is_later(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub fn is_flushed(&self) -> bool {
        self.outgoing.is_empty()
    }

    pub fn wait(&self) -> Wait<'_> {
        Wait::new(self.socket.as_fd(), !self.is_flushed())
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn refuses_to_queue_more_than_its_bound_and_delivers_the_rest_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut wire = Wire::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap()).unwrap();
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
        while !wire.is_flushed() {
            crate::sys::poll(&mut [wire.wait()], Duration::from_secs(10)).unwrap();
            wire.flush().unwrap();
        }
        drop(wire);
        let got = reader.join().unwrap();
        assert!(got == piece.repeat(8), "{} bytes came, or others than sent", got.len());
    }
}
