//! The few calls that Rust's standard library does not offer, each behind a safe face.

use openh264::encoder;
use std::{
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn on_stop(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// From now on SIGINT and SIGTERM end no process, but set what `stop_requested` reads and interrupt a wait.
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

/// Descriptors to wait for, each told by a number of the caller's (epoll(7), level-triggered).
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub token: usize,
    /// Readable, closed or broken: a read tells which. Else it takes bytes.
    pub readable: bool,
}

const EVENTS_AT_ONCE: usize = 1024;

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes and returns plain numbers; the new descriptor is owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_AT_ONCE] })
    }

    /// Waits for `fd` from now on, until it is closed; `write`: also until it takes bytes.
    pub fn add(&self, fd: BorrowedFd<'_>, token: usize, write: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, write)
    }

    pub fn modify(&self, fd: BorrowedFd<'_>, token: usize, write: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, write)
    }

    /// Waits for `fd` no more.
    pub fn forget(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, false)
    }

    fn control(&self, operation: libc::c_int, fd: BorrowedFd<'_>, token: usize, write: bool) -> io::Result<()> {
        let events = libc::EPOLLIN | if write { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: events as u32, u64: token as u64 };
        // SAFETY: both descriptors are open, and `event` outlives the call.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd.as_raw_fd(), &mut event) })?;
        Ok(())
    }

    /// Waits until something is ready, `timeout` has passed or a signal comes; puts up to a thousand that are
    /// ready in `ready`.
    pub fn wait(&mut self, timeout: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        let mut fd = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // epoll_wait knows milliseconds alone, epoll_pwait2 is younger than what the server runs on.
        // SAFETY: one pollfd and a timespec that outlive the call; no signal mask.
        let some = unsafe { libc::ppoll(&mut fd, 1, &timeout, std::ptr::null()) };
        if some < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        // SAFETY: `events` has room for as many as are asked for.
        let count = check(unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), EVENTS_AT_ONCE as libc::c_int, 0)
        })?;
        const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR) as u32;
        ready.extend(
            self.events
                .iter()
                .take(count as usize)
                .map(|event| Ready { token: event.u64 as usize, readable: event.events & READABLE != 0 }),
        );
        Ok(())
    }
}

/// Throws away up to `len` bytes that a TCP socket has received, without a copy (tcp(7), `MSG_TRUNC`).
pub fn discard(fd: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
    // SAFETY: with MSG_TRUNC a TCP socket writes nothing; to a null pointer it could not.
    let discarded =
        unsafe { libc::recv(fd.as_raw_fd(), std::ptr::null_mut(), len, libc::MSG_TRUNC | libc::MSG_DONTWAIT) };
    usize::try_from(discarded).map_err(|_| io::Error::last_os_error())
}

/// This thread, and those it starts from now on, run on these CPUs alone.
pub fn pin(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: all zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus {
        // SAFETY: CPU_SET checks the number against the size of the set.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    // SAFETY: `set` outlives the call, and its size is told.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) })?;
    Ok(())
}

/// Opens as many files as this process may at all; how many that is.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives both calls.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))?;
    }
    Ok(limit.rlim_max)
}

/// The child that `command` starts ends with this thread.
pub fn tie(command: &mut Command) {
    // SAFETY: prctl with numbers alone is async-signal-safe.
    unsafe {
        command.pre_exec(|| check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM)).map(drop));
    }
}

/// The child that `command` starts runs on these CPUs alone.
pub fn pin_child(command: &mut Command, cpus: Vec<usize>) {
    // SAFETY: `pin` fills a set on the stack and makes one system call, which is async-signal-safe.
    unsafe {
        command.pre_exec(move || pin(&cpus));
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
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
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        os::fd::AsFd,
    };

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn epoll_tells_which_socket_is_ready() {
        let (mut near, far) = pair();
        let mut epoll = Epoll::new().unwrap();
        let mut look = |write, patience| {
            epoll.modify(far.as_fd(), 7, write).or_else(|_| epoll.add(far.as_fd(), 7, write)).unwrap();
            let mut ready = Vec::new();
            epoll.wait(patience, &mut ready).unwrap();
            ready.iter().map(|ready| (ready.token, ready.readable)).collect::<Vec<_>>()
        };
        assert_eq!(look(false, Duration::ZERO), []);
        assert_eq!(look(true, Duration::ZERO), [(7, false)]);
        near.write_all(b"x").unwrap();
        assert_eq!(look(false, Duration::from_secs(10)), [(7, true)]);
    }

    #[test]
    fn what_is_discarded_is_gone_and_the_rest_is_there() {
        let (mut near, mut far) = pair();
        near.write_all(b"chaff, wheat").unwrap();
        drop(near);
        assert_eq!(discard(far.as_fd(), 7).unwrap(), 7);
        let mut rest = String::new();
        far.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "wheat");
        assert_eq!(discard(far.as_fd(), 7).unwrap(), 0);
    }
}
