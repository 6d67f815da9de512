//! What a connection runs over: TCP, an SRT session that looks like it, or a WebRTC session that does not.

use super::{
    outlet::Outlet,
    peer::Peer,
    socket::{ReadBuffer, Socket},
};
use std::{
    io::{self, IoSlice},
    os::fd::OwnedFd,
    rc::Rc,
};

pub enum Link {
    Tcp(Socket),
    Srt(Rc<Outlet>),
    /// Has no stream of bytes: whoever serves it holds the peer too.
    Rtc(Rc<Peer>),
}

impl Link {
    /// As [`Socket::read`].
    pub async fn read<R>(&self, buffer: &ReadBuffer, parse: impl FnMut(&[u8]) -> R) -> io::Result<Option<R>> {
        match self {
            Self::Tcp(socket) => socket.read(buffer, parse).await,
            Self::Srt(outlet) => outlet.read(parse).await,
            Self::Rtc(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// As [`Socket::send`].
    pub fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.send(slices),
            Self::Srt(outlet) => outlet.send(slices),
            Self::Rtc(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub fn shutdown(&self) {
        match self {
            Self::Tcp(socket) => socket.shutdown(),
            Self::Srt(outlet) => outlet.shutdown(),
            Self::Rtc(peer) => peer.shutdown(),
        }
    }

    /// SRT bounds by itself what is on the way; WebRTC drops it.
    pub fn bound_unsent(&self, bytes: u32) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.bound_unsent(bytes),
            Self::Srt(_) | Self::Rtc(_) => Ok(()),
        }
    }

    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_nodelay(on),
            Self::Srt(_) | Self::Rtc(_) => Ok(()),
        }
    }

    pub fn local_ip(&self) -> String {
        match self {
            Self::Tcp(socket) => socket.local_ip(),
            Self::Srt(_) | Self::Rtc(_) => String::new(),
        }
    }

    /// As [`Socket::duplicate`]; SRT and WebRTC sessions have no socket of their own.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(socket) => socket.duplicate(),
            Self::Srt(_) | Self::Rtc(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}
