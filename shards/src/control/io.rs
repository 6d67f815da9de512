//! hyper over glommio: one connection with what was read from it before.

use crate::net::tls::Stream;
use bytes::{Buf, Bytes};
use futures_lite::io::{AsyncRead, AsyncWrite};
use hyper::rt::{Read, ReadBufCursor, Write};
use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

pub struct Io {
    stream: Stream,
    read: Bytes,
    /// When bytes last moved.
    active: Rc<Cell<Instant>>,
}

const CHUNK: usize = 8 << 10;

impl Io {
    pub fn new(stream: Stream, read: Bytes, active: Rc<Cell<Instant>>) -> Self {
        Self { stream, read, active }
    }
}

impl Read for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut out: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let count = self.read.len().min(out.remaining());
            out.put_slice(&self.read[..count]);
            self.read.advance(count);
            return Poll::Ready(Ok(()));
        }
        let mut chunk = [0; CHUNK];
        let room = out.remaining().min(CHUNK);
        let count = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut chunk[..room]))?;
        self.active.set(Instant::now());
        out.put_slice(&chunk[..count]);
        Poll::Ready(Ok(()))
    }
}

impl Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.active.set(Instant::now());
        Poll::Ready(Ok(count))
    }

    /// Else hyper copies a body to what stands before it.
    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is short goes out with what follows, so that no packet waits for another's acknowledgement.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        if first.len() >= CHUNK {
            return self.poll_write(cx, first);
        }
        let (mut chunk, mut length) = ([0; CHUNK], 0);
        for slice in slices {
            let count = slice.len().min(CHUNK - length);
            chunk[length..length + count].copy_from_slice(&slice[..count]);
            length += count;
        }
        self.poll_write(cx, &chunk[..length])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
