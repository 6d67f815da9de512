//! What a connection runs over: TCP, plain or with TLS, an SRT session that looks like it, or a WebRTC session that
//! does not.

use super::{
    outlet::Outlet,
    peer::Peer,
    socket::{ReadBuffer, Socket},
    tls::{Secure, Session},
};
use std::{
    io::{self, IoSlice},
    os::fd::OwnedFd,
    rc::Rc,
};

pub enum Link {
    Tcp(Socket),
    /// In a box: it is half as large again as a socket alone.
    Tls(Box<Secure>),
    Srt(Rc<Outlet>),
    /// Has no stream of bytes: whoever serves it holds the peer too.
    Rtc(Rc<Peer>),
}

impl Link {
    /// As [`Socket::read`].
    pub async fn read<R>(&self, buffer: &ReadBuffer, parse: impl FnMut(&[u8]) -> R) -> io::Result<Option<R>> {
        match self {
            Self::Tcp(socket) => socket.read(buffer, parse).await,
            Self::Tls(secure) => secure.read(buffer, parse).await,
            Self::Srt(outlet) => outlet.read(parse).await,
            Self::Rtc(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// As [`Socket::send`].
    pub fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.send(slices),
            Self::Tls(secure) => secure.send(slices),
            Self::Srt(outlet) => outlet.send(slices),
            Self::Rtc(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// What was taken is on its way: `WouldBlock` while some of it waits in records that the kernel does not take.
    pub fn flush(&self) -> io::Result<()> {
        match self {
            Self::Tls(secure) => secure.flush(),
            Self::Tcp(_) | Self::Srt(_) | Self::Rtc(_) => Ok(()),
        }
    }

    pub fn shutdown(&self) {
        match self {
            Self::Tcp(socket) => socket.shutdown(),
            Self::Tls(secure) => secure.shutdown(),
            Self::Srt(outlet) => outlet.shutdown(),
            Self::Rtc(peer) => peer.shutdown(),
        }
    }

    /// As [`Outlet::late`]; nothing else has it.
    pub fn late(&self) -> u64 {
        match self {
            Self::Srt(outlet) => outlet.late(),
            Self::Tcp(_) | Self::Tls(_) | Self::Rtc(_) => 0,
        }
    }

    /// SRT bounds by itself what is on the way; WebRTC drops it.
    pub fn bound_unsent(&self, bytes: u32) -> io::Result<()> {
        self.socket().map_or(Ok(()), |socket| socket.bound_unsent(bytes))
    }

    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.socket().map_or(Ok(()), |socket| socket.set_nodelay(on))
    }

    pub fn local_ip(&self) -> String {
        self.socket().map(Socket::local_ip).unwrap_or_default()
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// A second descriptor of the same connection for another executor, and its TLS, which goes with it. SRT and WebRTC
    /// sessions have no socket of their own.
    pub fn hand_over(&self) -> io::Result<(OwnedFd, Option<Session>)> {
        match self {
            Self::Tcp(socket) => Ok((socket.duplicate()?, None)),
            Self::Tls(secure) => secure.hand_over().map(|(fd, session)| (fd, Some(session))),
            Self::Srt(_) | Self::Rtc(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Below all that it speaks.
    pub fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Tcp(socket) => Some(socket),
            Self::Tls(secure) => Some(secure.socket()),
            Self::Srt(_) | Self::Rtc(_) => None,
        }
    }
}
