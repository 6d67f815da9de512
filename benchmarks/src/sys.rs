//! The few calls that Rust's standard library does not offer, each behind a safe face.

use openh264::encoder;
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn on_stop(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// From now on SIGINT and SIGTERM end no process, but set what `stop_requested` reads and interrupt `poll`.
pub fn catch_stop_signals() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: all zeros is a valid sigaction: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_stop as extern "C" fn(libc::c_int) as usize;
        // SAFETY: `action` outlives the call, and the handler does nothing but store to an atomic, which
        // is async-signal-safe.
        if unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

pub fn stop_requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// A descriptor to wait for, and what came of it.
pub struct Wait<'fd> {
    pub fd: BorrowedFd<'fd>,
    pub write: bool,
    /// Readable, closed or broken: a read tells which.
    pub readable: bool,
    pub writable: bool,
}

impl<'fd> Wait<'fd> {
    pub fn new(fd: BorrowedFd<'fd>, write: bool) -> Self {
        Self { fd, write, readable: false, writable: false }
    }
}

/// Waits until one of `waits` is ready, `timeout` has passed (rounded up to whole milliseconds) or a
/// signal comes.
pub fn poll(waits: &mut [Wait<'_>], timeout: Duration) -> io::Result<()> {
    let mut fds: Vec<libc::pollfd> = waits
        .iter()
        .map(|wait| libc::pollfd {
            fd: wait.fd.as_raw_fd(),
            events: libc::POLLIN | if wait.write { libc::POLLOUT } else { 0 },
            revents: 0,
        })
        .collect();
    let timeout_ms = i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    // SAFETY: `fds` is a valid array of that length for the whole call, and each descriptor is borrowed.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
    }
    for (wait, fd) in waits.iter_mut().zip(&fds) {
        wait.readable = fd.revents & (libc::POLLIN | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0;
        wait.writable = fd.revents & libc::POLLOUT != 0;
    }
    Ok(())
}

/// Lets the encoder say nothing on stderr. Before its first picture, or it has already spoken.
pub fn quiet(encoder: &mut encoder::Encoder) {
    let mut level = openh264_sys2::WELS_LOG_QUIET;
    // SAFETY: the option takes a pointer to an int, which outlives the call; it changes nothing that the
    // safe wrapper relies on.
    unsafe {
        encoder.raw_api().set_option(openh264_sys2::ENCODER_OPTION_TRACE_LEVEL, (&raw mut level).cast());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        os::fd::AsFd,
    };

    #[test]
    fn poll_tells_which_socket_is_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let look = |write| {
            let mut waits = [Wait::new(far.as_fd(), write)];
            poll(&mut waits, Duration::ZERO).unwrap();
            (waits[0].readable, waits[0].writable)
        };
        assert_eq!(look(false), (false, false));
        assert_eq!(look(true), (false, true));
        near.write_all(b"x").unwrap();
        let mut waits = [Wait::new(far.as_fd(), false)];
        poll(&mut waits, Duration::from_secs(10)).unwrap();
        assert!(waits[0].readable);
    }
}
