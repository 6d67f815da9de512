//! One TCP connection: reads through a buffer of the whole shard, sends at once or not at all.

use super::sys;
use futures_lite::io::AsyncRead;
use glommio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};
use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, IoSlice},
    net::Shutdown,
    os::fd::OwnedFd,
    pin::Pin,
    task::{Poll, ready},
    time::Duration,
};

/// Received bytes wait here only while they are parsed, so one buffer serves all sockets of a shard.
pub type ReadBuffer = RefCell<Box<[u8]>>;

/// Large enough for what a 20 Mbit/s publisher sends between two ticks.
pub const READ_BUFFER: usize = 64 << 10;

pub struct Socket {
    stream: RefCell<TcpStream>,
}

impl Socket {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        // glommio accepts without CLOEXEC.
        sys::set_cloexec(sys::borrow(&stream))?;
        sys::set_nodelay(sys::borrow(&stream), true)?;
        // A peer whose network is gone is noticed after a minute and a half, though nothing is sent to it.
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(60))
            .with_interval(Duration::from_secs(10))
            .with_retries(3);
        SockRef::from(&sys::borrow(&stream)).set_tcp_keepalive(&keepalive)?;
        Ok(Self { stream: RefCell::new(stream) })
    }

    /// A second descriptor of the same connection, for another executor.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        sys::borrow(&*self.stream.borrow()).try_clone_to_owned()
    }

    /// Waits for bytes and hands them to `parse`; `None` at the end of the connection.
    /// One task may wait at a time.
    pub async fn read<R>(&self, buffer: &ReadBuffer, mut parse: impl FnMut(&[u8]) -> R) -> io::Result<Option<R>> {
        poll_fn(|cx| {
            let mut buffer = buffer.borrow_mut();
            let mut stream = self.stream.borrow_mut();
            // glommio would go on to poll for what follows, and wake for each frame who reads only in turn.
            let count = match sys::receive(sys::borrow(&*stream), &mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?
                }
                other => other?,
            };
            drop(stream);
            Poll::Ready(Ok((count > 0).then(|| parse(&buffer[..count]))))
        })
        .await
    }

    /// Sends what the kernel takes now. `WouldBlock` where it takes nothing.
    pub fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        sys::send_vectored(sys::borrow(&*self.stream.borrow()), slices)
    }

    /// The address that the peer connected to.
    pub fn local_ip(&self) -> String {
        self.stream.borrow().local_addr().map(|address| address.ip().to_string()).unwrap_or_default()
    }

    /// Bytes that the kernel holds unsent before it says `WouldBlock`.
    pub fn bound_unsent(&self, bytes: u32) -> io::Result<()> {
        sys::set_notsent_lowat(sys::borrow(&*self.stream.borrow()), bytes)
    }

    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        sys::set_nodelay(sys::borrow(&*self.stream.borrow()), on)
    }

    /// Ends the connection in both directions; what was sent still arrives, and a waiting read returns.
    pub fn shutdown(&self) {
        let stream = self.stream.borrow();
        // Fails only where the peer has gone already.
        let _ = SockRef::from(&sys::borrow(&*stream)).shutdown(Shutdown::Both);
    }
}
