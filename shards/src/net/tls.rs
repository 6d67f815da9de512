//! TLS on a connection (RFC 8446, RFC 5246): rustls, which knows no socket, on one of ours.

use super::socket::{ReadBuffer, Socket};
use bytes::{Buf, BytesMut};
use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::{net::TcpStream, yield_if_needed};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection, pki_types::ServerName};
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::{self, IoSlice, Read, Write},
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// Keys and counters of one connection; it may go to another shard with its socket.
pub type Session = Box<Connection>;

/// A session that no handshake has begun.
pub fn session(config: &Arc<ServerConfig>) -> io::Result<Session> {
    let session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
    Ok(Box::new(session.into()))
}

/// What became of a handshake.
pub fn count_handshake(result: &'static str) {
    metrics::counter!("shardcast_tls_handshakes_total", "result" => result).increment(1);
}

/// A media shard's socket with TLS: takes and gives bytes as a plain one does.
pub struct Secure {
    socket: Socket,
    /// `None` once another shard has it.
    session: RefCell<Option<Session>>,
    /// Decrypted and not yet read.
    waiting: RefCell<BytesMut>,
    /// The peer has said that it ends.
    over: Cell<bool>,
}

impl Secure {
    pub fn new(socket: Socket, session: Session) -> Self {
        Self { socket, session: RefCell::new(Some(session)), waiting: RefCell::default(), over: Cell::default() }
    }

    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Waits until both sides have keys.
    pub async fn handshake(&self, buffer: &ReadBuffer) -> io::Result<()> {
        while self.with(|session| Ok(session.is_handshaking()))? {
            let read = self.socket.read(buffer, |bytes| self.input(bytes)).await?;
            read.ok_or(io::ErrorKind::UnexpectedEof)??;
            yield_if_needed().await;
        }
        Ok(())
    }

    /// As [`Socket::read`]. An end without a close_notify is an end as well.
    pub async fn read<R>(&self, buffer: &ReadBuffer, mut parse: impl FnMut(&[u8]) -> R) -> io::Result<Option<R>> {
        loop {
            let waiting = self.waiting.take();
            if !waiting.is_empty() {
                return Ok(Some(parse(&waiting)));
            }
            if self.over.get() {
                return Ok(None);
            }
            let Some(read) = self.socket.read(buffer, |bytes| self.input(bytes)).await? else { return Ok(None) };
            read?;
            yield_if_needed().await;
        }
    }

    /// As [`Socket::send`]. What is taken may wait in sealed records, 64 KB at the most, for [`Self::flush`] or the
    /// next call; while it does, nothing more is taken.
    pub fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.with(|session| {
            self.drain(session)?;
            let mut taken = 0;
            for slice in slices {
                let mut bytes: &[u8] = slice;
                while !bytes.is_empty() {
                    let count = session.writer().write(bytes)?;
                    taken += count;
                    bytes = &bytes[count..];
                    if bytes.is_empty() {
                        break;
                    }
                    match self.drain(session) {
                        Ok(()) if count == 0 => return Err(io::ErrorKind::BrokenPipe.into()),
                        Ok(()) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(taken),
                        Err(error) => return Err(error),
                    }
                }
            }
            match self.drain(session) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                _ => Ok(taken),
            }
        })
    }

    /// Sends what is sealed; `WouldBlock` where some of it stays.
    pub fn flush(&self) -> io::Result<()> {
        self.with(|session| self.drain(session))
    }

    /// As [`Socket::shutdown`], after a close_notify where the kernel takes it.
    pub fn shutdown(&self) {
        let _ = self.with(|session| {
            session.send_close_notify();
            self.drain(session)
        });
        self.socket.shutdown();
    }

    /// Descriptor and session, for another executor.
    pub fn hand_over(&self) -> io::Result<(OwnedFd, Session)> {
        let fd = self.socket.duplicate()?;
        let session = self.session.borrow_mut().take().ok_or(io::ErrorKind::NotConnected)?;
        Ok((fd, session))
    }

    fn with<R>(&self, act: impl FnOnce(&mut Connection) -> io::Result<R>) -> io::Result<R> {
        act(self.session.borrow_mut().as_mut().ok_or(io::ErrorKind::NotConnected)?)
    }

    /// Takes bytes of the socket, and sends what rustls wants said to them.
    fn input(&self, bytes: &[u8]) -> io::Result<()> {
        self.with(|session| {
            let opened = open(session, bytes, &mut self.waiting.borrow_mut());
            // Also where that failed: then it is the alert which says why.
            let drained = self.drain(session);
            self.over.set(self.over.get() || opened?);
            match drained {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                _ => Ok(()),
            }
        })
    }

    fn drain(&self, session: &mut Connection) -> io::Result<()> {
        while session.wants_write() {
            session.write_tls(&mut Sink(&self.socket))?;
        }
        Ok(())
    }
}

/// Decrypts `bytes` into `plain`: copied, since records end where they like. True when the peer ends here.
fn open(session: &mut Connection, mut bytes: &[u8], plain: &mut BytesMut) -> io::Result<bool> {
    while !bytes.is_empty() {
        session.read_tls(&mut bytes)?;
        let state = session.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let from = plain.len();
        plain.resize(from + state.plaintext_bytes_to_read(), 0);
        if plain.len() > from {
            session.reader().read_exact(&mut plain[from..])?;
        }
        if state.peer_has_closed() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A socket as rustls writes to it.
struct Sink<'s>(&'s Socket);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The control shard's connections, plain or with TLS.
pub struct Stream {
    tcp: TcpStream,
    session: Option<Session>,
    waiting: BytesMut,
    over: bool,
}

/// Read from the socket at a time.
const CHUNK: usize = 8 << 10;

impl Stream {
    pub fn new(tcp: TcpStream, session: Option<Session>) -> Self {
        Self { tcp, session, waiting: BytesMut::new(), over: false }
    }

    /// Of a server that goes by `name`.
    pub fn client(tcp: TcpStream, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self::new(tcp, Some(Box::new(session.into()))))
    }

    pub fn is_tls(&self) -> bool {
        self.session.is_some()
    }

    /// Waits until both sides have keys; at once where there is no TLS or they have.
    pub async fn handshake(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            while self.session.as_ref().is_some_and(|session| session.is_handshaking()) {
                if self.over {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                // A client speaks first.
                ready!(self.poll_drain(cx))?;
                ready!(self.poll_input(cx))?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Reads from the socket once, into `waiting`.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [0; CHUNK];
        let count = ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut chunk))?;
        let opened = match &mut self.session {
            Some(session) => open(session, &chunk[..count], &mut self.waiting),
            None => {
                self.waiting.extend_from_slice(&chunk[..count]);
                Ok(false)
            }
        };
        // Also where that failed: then it is the alert which says why.
        if let Poll::Ready(Err(error)) = self.poll_drain(cx) {
            return Poll::Ready(opened.and(Err(error)));
        }
        self.over = opened? || count == 0;
        Poll::Ready(Ok(()))
    }

    /// Sends what is sealed.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(session) = &mut self.session else { return Poll::Ready(Ok(())) };
        while session.wants_write() {
            match session.write_tls(&mut Polled { tcp: &mut self.tcp, cx }) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        while self.waiting.is_empty() {
            if self.over {
                return Poll::Ready(Ok(0));
            }
            ready!(self.poll_input(cx))?;
        }
        let count = self.waiting.len().min(out.len());
        self.waiting.copy_to_slice(&mut out[..count]);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // What is sealed and not sent is bounded: it goes first.
        ready!(self.poll_drain(cx))?;
        let Some(session) = &mut self.session else { return Pin::new(&mut self.tcp).poll_write(cx, bytes) };
        let count = session.writer().write(bytes)?;
        match self.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(count)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(session) = &mut self.session {
            session.send_close_notify();
        }
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.tcp).poll_close(cx)
    }
}

/// A stream as rustls writes to it, within one poll.
struct Polled<'p, 'c> {
    tcp: &'p mut TcpStream,
    cx: &'p mut Context<'c>,
}

impl Write for Polled<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.tcp).poll_write(self.cx, bytes) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
