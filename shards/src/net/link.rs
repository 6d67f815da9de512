//! What a connection runs over: TCP, or an SRT session that looks like it.

use super::{
    outlet::Outlet,
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
}

impl Link {
    /// As [`Socket::read`].
    pub async fn read<R>(&self, buffer: &ReadBuffer, parse: impl FnMut(&[u8]) -> R) -> io::Result<Option<R>> {
        match self {
            Self::Tcp(socket) => socket.read(buffer, parse).await,
            Self::Srt(outlet) => outlet.read(parse).await,
        }
    }

    /// As [`Socket::send`].
    pub fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.send(slices),
            Self::Srt(outlet) => outlet.send(slices),
        }
    }

    pub fn shutdown(&self) {
        match self {
            Self::Tcp(socket) => socket.shutdown(),
            Self::Srt(outlet) => outlet.shutdown(),
        }
    }

    /// SRT bounds by itself what is on the way.
    pub fn bound_unsent(&self, bytes: u32) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.bound_unsent(bytes),
            Self::Srt(_) => Ok(()),
        }
    }

    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_nodelay(on),
            Self::Srt(_) => Ok(()),
        }
    }

    pub fn local_ip(&self) -> String {
        match self {
            Self::Tcp(socket) => socket.local_ip(),
            Self::Srt(_) => String::new(),
        }
    }

    /// As [`Socket::duplicate`]; an SRT session cannot move.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(socket) => socket.duplicate(),
            Self::Srt(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}
