//! The one door to the kernel: every raw file descriptor and every `unsafe` of the server is in this file,
//! behind functions that any caller may use. What the kernel's answers mean is decided elsewhere.

use socket2::SockAddr;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering::Relaxed};
use std::time::Duration;

/// The most slices one `sendmsg` takes (`IOV_MAX` of Linux).
pub const SLICES_MAX: usize = 1024;
/// The most datagrams of one [`send_segments`] (`UDP_MAX_SEGMENTS` of Linux before 6.9).
pub const SEGMENTS_MAX: usize = 64;

/// No page of this process is a huge one from now on (prctl(2), `PR_SET_THP_DISABLE`): the allocator asks for them, and
/// what it frees in pieces would stay resident 2 MB at a time.
pub fn avoid_huge_pages() -> io::Result<()> {
    // SAFETY: takes and gives plain numbers.
    match unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends what the socket takes now, in order, in one system call; never waits and never raises SIGPIPE.
/// A full socket is `ErrorKind::WouldBlock`. Slices beyond [`SLICES_MAX`] wait for the next call.
pub fn send_vectored(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let slices = slices.get(..SLICES_MAX).unwrap_or(slices);
    // SAFETY: msghdr is plain data for which all zeros is "no address, no slices, no control".
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // `IoSlice` has the layout of iovec on Unix; the kernel only reads through this pointer.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len() as _;
    loop {
        // SAFETY: `message` and the slices it points to outlive the call; the kernel only reads them.
        let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
        match size(sent) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => return other,
        }
    }
}

/// Takes what the socket has received, 0 at its end; never waits. Nothing there is `ErrorKind::WouldBlock`.
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: the kernel writes no more than the length of `buffer`, which outlives the call.
        let got = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
        match size(got) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => return other,
        }
    }
}

/// Sends `slices` to `to` as datagrams of `segment` bytes each, the last perhaps shorter, in one system call that
/// never waits (udp(7), `UDP_SEGMENT`). At most [`SEGMENTS_MAX`] of them, 64 KB together. A full socket is
/// `ErrorKind::WouldBlock`; a way that cannot do it is EIO, EINVAL or EMSGSIZE, and nothing was sent.
pub fn send_segments(fd: BorrowedFd<'_>, to: &SockAddr, slices: &[IoSlice<'_>], segment: u16) -> io::Result<()> {
    /// Room for one control message with two bytes of data, aligned as its header must be.
    #[repr(C)]
    union Control {
        _align: libc::cmsghdr,
        bytes: [u8; 32],
    }
    let mut control = Control { bytes: [0; 32] };
    // SAFETY: plain data for which all zeros is "nothing".
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len() as _;
    message.msg_control = (&raw mut control).cast();
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute. `control` has room for the header and two bytes of data
    // (checked below), so CMSG_FIRSTHDR and CMSG_DATA point into it; the value is written unaligned.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as _;
        const { assert!(libc::CMSG_SPACE(size_of::<u16>() as u32) as usize <= size_of::<Control>()) };
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_UDP;
        (*header).cmsg_type = libc::UDP_SEGMENT;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
        libc::CMSG_DATA(header).cast::<u16>().write_unaligned(segment);
    }
    // SAFETY: `message` and all it points to outlive the call; the kernel only reads them.
    size(unsafe { libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) }).map(drop)
}

/// A child of ours must not inherit the descriptor. Sockets accepted by glommio come without it.
pub fn set_cloexec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_GETFD and F_SETFD take and return plain numbers.
    unsafe {
        let flags = check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFD))?;
        check(libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, flags | libc::FD_CLOEXEC))?;
    }
    Ok(())
}

/// The socket counts as writable only below this many unsent bytes (tcp(7), `TCP_NOTSENT_LOWAT`), so that
/// what waits for a slow viewer waits with us, where it can be dropped.
pub fn set_notsent_lowat(fd: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    set_tcp_option(fd, libc::TCP_NOTSENT_LOWAT, bytes)
}

/// Small writes leave at once (tcp(7), `TCP_NODELAY`).
pub fn set_nodelay(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    set_tcp_option(fd, libc::TCP_NODELAY, libc::c_int::from(on))
}

fn set_tcp_option(fd: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads one int from a pointer to one.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Gives a connection to the executor of this thread. Panics outside of an executor, as glommio does.
pub fn adopt(connection: OwnedFd) -> glommio::net::TcpStream {
    // SAFETY: ownership goes over whole; nobody else closes this descriptor.
    unsafe { glommio::net::TcpStream::from_raw_fd(into_raw(connection)) }
}

/// The descriptor of a stream of glommio's, which has `AsRawFd` only.
pub fn borrow<S: AsRawFd>(stream: &S) -> BorrowedFd<'_> {
    // SAFETY: glommio's streams own an open descriptor, and the borrow of the stream outlives the result.
    // A type that lies in AsRawFd could only make a system call fail or act on another descriptor.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

/// Gives a listening socket to the executor of this thread. Panics outside of an executor.
pub fn adopt_listener(listener: std::net::TcpListener) -> glommio::net::TcpListener {
    // SAFETY: ownership goes over whole.
    unsafe { glommio::net::TcpListener::from_raw_fd(into_raw(listener.into())) }
}

/// Gives a UDP socket to the executor of this thread. Panics outside of an executor.
pub fn adopt_datagrams(socket: std::net::UdpSocket) -> glommio::net::UdpSocket {
    // SAFETY: ownership goes over whole.
    unsafe { glommio::net::UdpSocket::from_raw_fd(into_raw(socket.into())) }
}

fn into_raw(fd: OwnedFd) -> libc::c_int {
    use std::os::fd::IntoRawFd;
    fd.into_raw_fd()
}

/// Makes the smallest ring and closes it again. The error is the kernel's: ENOSYS, EPERM, EACCES, ENOMEM.
pub fn io_uring_probe() -> io::Result<()> {
    const ENTRIES: libc::c_uint = 8;
    // struct io_uring_params is 120 bytes of plain numbers; zeros mean no flags.
    let mut params = [0u64; 15];
    // SAFETY: the kernel reads and writes 120 bytes at the pointer, and there are 120.
    let fd = check_long(unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, params.as_mut_ptr()) })?;
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the descriptor is new and ours alone.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}

/// The addresses of this machine's interfaces that are up (getifaddrs(3)), loopback too, in the kernel's order,
/// each once.
pub fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut list = std::ptr::null_mut();
    // SAFETY: getifaddrs writes a list, which is ours until it is freed below, or fails.
    check(unsafe { libc::getifaddrs(&mut list) })?;
    let mut addresses = Vec::new();
    let mut next = list;
    // SAFETY: each entry is whole, and its `ifa_next` null or the next one.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        let is_up = entry.ifa_flags & libc::IFF_UP as libc::c_uint != 0;
        // SAFETY: an address is null or a sockaddr of its family.
        let address = unsafe { ip_address(entry.ifa_addr) };
        addresses.extend(address.filter(|ip| is_up && !addresses.contains(ip)));
    }
    // SAFETY: nothing borrowed from the list is left.
    unsafe { libc::freeifaddrs(list) };
    Ok(addresses)
}

/// # Safety
/// `address` is null or points to what its family says.
unsafe fn ip_address(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: as promised. The copies are unaligned reads, as only sockaddr's own alignment is sure.
    unsafe {
        match libc::c_int::from(address.as_ref()?.sa_family) {
            libc::AF_INET => {
                let address = address.cast::<libc::sockaddr_in>().read_unaligned();
                Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 => {
                let address = address.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

/// A resource that the kernel limits per process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Number of descriptors.
    OpenFiles,
    /// Bytes of memory that may be locked or registered.
    LockedMemory,
}

/// What the kernel allows of a resource; `u64::MAX` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub soft: u64,
    pub hard: u64,
}

pub fn limit(resource: Resource) -> io::Result<Limit> {
    let mut raw = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit to a pointer to one.
    check(unsafe { libc::getrlimit(number(resource) as _, &mut raw) })?;
    Ok(Limit { soft: raw.rlim_cur, hard: raw.rlim_max })
}

pub fn set_limit(resource: Resource, limit: Limit) -> io::Result<()> {
    let raw = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: the kernel reads one rlimit from a pointer to one.
    check(unsafe { libc::setrlimit(number(resource) as _, &raw) })?;
    Ok(())
}

fn number(resource: Resource) -> libc::c_int {
    match resource {
        Resource::OpenFiles => libc::RLIMIT_NOFILE as libc::c_int,
        Resource::LockedMemory => libc::RLIMIT_MEMLOCK as libc::c_int,
    }
}

/// The CPUs that the calling thread may run on, in rising order, on machines of any size.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    Ok(bits(&affinity(0)?))
}

/// The CPUs of the process: those of its first thread, which is never pinned.
pub fn process_cpus() -> io::Result<Vec<usize>> {
    Ok(bits(&affinity(first_thread())?))
}

/// Lets the calling thread run on all CPUs of the process: a thread that a pinned one started is pinned as well.
pub fn unpin() -> io::Result<()> {
    let mask = affinity(first_thread())?;
    // SAFETY: the kernel reads the given number of bytes, which is the size of `mask`.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&mask[..]), mask.as_ptr().cast()) })?;
    Ok(())
}

fn first_thread() -> libc::pid_t {
    // SAFETY: takes nothing and cannot fail. A process has the number of its first thread.
    unsafe { libc::getpid() }
}

/// The mask of a thread; 0 is the calling one.
fn affinity(thread: libc::pid_t) -> io::Result<Vec<u64>> {
    const WORDS_MAX: usize = 1 << 14;
    let mut words = 16;
    loop {
        let mut mask = vec![0u64; words];
        // SAFETY: the kernel writes at most the given number of bytes, which is the size of `mask`.
        let answer =
            check(unsafe { libc::sched_getaffinity(thread, size_of_val(&mask[..]), mask.as_mut_ptr().cast()) });
        match answer {
            Ok(_) => return Ok(mask),
            // EINVAL: the kernel's mask is longer than ours.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) && words < WORDS_MAX => words *= 2,
            Err(e) => return Err(e),
        }
    }
}

/// The numbers of the bits that are set. glibc and the kernel number CPUs through an array of longs.
fn bits(mask: &[u64]) -> Vec<usize> {
    let set = |cpu: &usize| mask[cpu / 64] >> (cpu % 64) & 1 == 1;
    (0..mask.len() * 64).filter(set).collect()
}

/// A moment as the clock on the wall shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    /// 60 in a leap second.
    pub second: u8,
}

/// Seconds since 1970 as time of this machine's zone; `None` for a year that no clock shows.
pub fn local_time(unix_seconds: i64) -> Option<LocalTime> {
    let seconds = libc::time_t::try_from(unix_seconds).ok()?;
    let mut raw = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: localtime_r reads one time_t, writes a whole tm where it returns non-null, and keeps neither
    // pointer. Nothing here changes the environment, so its reading of TZ does not race.
    let raw = unsafe {
        if libc::localtime_r(&seconds, raw.as_mut_ptr()).is_null() {
            return None;
        }
        raw.assume_init()
    };
    Some(LocalTime {
        year: raw.tm_year.checked_add(1900)?,
        month: u8::try_from(raw.tm_mon).ok()?.checked_add(1)?,
        day: u8::try_from(raw.tm_mday).ok()?,
        hour: u8::try_from(raw.tm_hour).ok()?,
        minute: u8::try_from(raw.tm_min).ok()?,
        second: u8::try_from(raw.tm_sec).ok()?,
    })
}

/// Seconds since 1970 as UTC, by arithmetic alone: a signal handler may call it. (Days from a year that begins in
/// March, so that leap days come last; an era is 400 years.)
pub fn utc_time(unix_seconds: i64) -> LocalTime {
    let (days, second) = (unix_seconds.div_euclid(86_400) + 719_468, unix_seconds.rem_euclid(86_400));
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    LocalTime {
        year: (era * 400 + year + i64::from(month <= 2)) as i32,
        month: month as u8,
        day: day as u8,
        hour: (second / 3_600) as u8,
        minute: (second / 60 % 60) as u8,
        second: (second % 60) as u8,
    }
}

/// Signals of a process that is broken.
const CRASHES: [(libc::c_int, &str); 5] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGABRT, "SIGABRT"),
];
/// Frames of a crash that are told.
const FRAMES: usize = 64;

/// Where a crash is told. It must stay open as long as it stands here.
static CRASH_LOG: AtomicI32 = AtomicI32::new(libc::STDERR_FILENO);
/// What the clock on the wall is ahead of UTC, seconds.
static ZONE_SECONDS: AtomicI64 = AtomicI64::new(0);
static CRASHED: AtomicBool = AtomicBool::new(false);

/// Crashes are told to this file, which the caller keeps open, or replaces by another one.
pub fn tell_crashes(to: BorrowedFd<'_>) {
    CRASH_LOG.store(to.as_raw_fd(), Relaxed);
}

/// A crash leaves a line in the log, with thread and session, and its frames below it (`addr2line -Cfe` reads
/// them); then the process dies of it as it would have.
pub fn catch_crashes() -> io::Result<()> {
    let now = clock(libc::CLOCK_REALTIME)?.as_secs() as i64;
    if let Some(local) = local_time(now) {
        // Both are the same day or its neighbours: hours and minutes say it all.
        let of = |time: LocalTime| i64::from(time.hour) * 3_600 + i64::from(time.minute) * 60;
        let ahead = of(local) - of(utc_time(now));
        ZONE_SECONDS.store((ahead + 43_200).rem_euclid(86_400) - 43_200, Relaxed);
    }
    let mut frames = [std::ptr::null_mut(); 1];
    // SAFETY: one pointer is written to room for one. The first call loads what later ones need, which a signal
    // handler may not.
    unsafe { libc::backtrace(frames.as_mut_ptr(), 1) };
    for (signal, _) in CRASHES {
        // SAFETY: plain data for which all zeros is "no flags, an empty mask".
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = crashed;
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the kernel reads one sigaction; the handler does only what signal-safety(7) allows.
        check(unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) })?;
    }
    Ok(())
}

extern "C" fn crashed(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    if CRASHED.swap(true, Relaxed) {
        // Another thread tells of its own, and ends the process.
        loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
    }
    let log = CRASH_LOG.load(Relaxed);
    let mut thread = [0u8; 16];
    // SAFETY: the kernel writes at most 16 bytes with the zero at the end.
    unsafe { libc::prctl(libc::PR_GET_NAME, thread.as_mut_ptr()) };
    // SAFETY: with SA_SIGINFO the kernel hands over a whole siginfo, which has an address for these signals.
    let address = unsafe { info.as_ref().map_or(0, |info| info.si_addr() as u64) };
    let now = clock(libc::CLOCK_REALTIME).unwrap_or_default();
    let line = crash_line(signal, now, &thread, &crate::current::id(), std::process::id(), address);
    let mut frames = [std::ptr::null_mut(); FRAMES];
    // SAFETY: write(2) reads what there is of the line; backtrace(3) writes at most so many pointers as there is room
    // for, and its sibling turns them into lines without allocating. signal(2) and raise(3) may be called here; the
    // signal comes when this handler returns, and ends the process.
    unsafe {
        libc::write(log, line.bytes.as_ptr().cast(), line.len);
        let count = libc::backtrace(frames.as_mut_ptr(), FRAMES as libc::c_int);
        libc::backtrace_symbols_fd(frames.as_ptr(), count, log);
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// As lines of the log are.
fn crash_line(signal: libc::c_int, now: Duration, thread: &[u8], cid: &[u8], pid: u32, address: u64) -> CrashLine {
    let name = CRASHES.iter().find(|(number, _)| *number == signal).map_or("a signal", |(_, name)| name);
    let until_zero = |text: &[u8]| text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    let t = utc_time(now.as_secs() as i64 + ZONE_SECONDS.load(Relaxed));
    let mut line = CrashLine { bytes: [0; 256], len: 0 };
    for (before, number, digits) in [
        ("[", t.year as u64, 4),
        ("-", t.month.into(), 2),
        ("-", t.day.into(), 2),
        (" ", t.hour.into(), 2),
        (":", t.minute.into(), 2),
        (":", t.second.into(), 2),
        (".", now.subsec_millis().into(), 3),
        ("][ERROR][", pid.into(), 1),
    ] {
        line.text(before.as_bytes());
        line.number(number, 10, digits);
    }
    line.text(b"][");
    match until_zero(cid) {
        0 => line.text(b"-"),
        end => line.text(&cid[..end]),
    }
    for part in [b"] crash: ", name.as_bytes(), b" in thread ", &thread[..until_zero(thread)], b" at address 0x"] {
        line.text(part);
    }
    line.number(address, 16, 1);
    line.text(b"\n");
    line
}

/// A line that is written without allocating; what is too long is left out.
struct CrashLine {
    bytes: [u8; 256],
    len: usize,
}

impl CrashLine {
    fn text(&mut self, text: &[u8]) {
        for byte in text {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = *byte;
                self.len += 1;
            }
        }
    }

    fn number(&mut self, number: u64, base: u64, digits: u32) {
        let count = number.checked_ilog(base).map_or(1, |log| log + 1).max(digits);
        for digit in (0..count).rev() {
            let digit = base.checked_pow(digit).map_or(0, |power| number / power % base);
            self.text(&[b"0123456789abcdef"[digit as usize]]);
        }
    }
}

/// What the operator tells the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: stop now.
    Interrupt,
    /// SIGTERM: stop now, or with grace where the configuration wants it.
    Terminate,
    /// SIGQUIT: stop with grace.
    Quit,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: open the log file again.
    ReopenLog,
}

const SIGNALS: [(libc::c_int, Signal); 5] = [
    (libc::SIGINT, Signal::Interrupt),
    (libc::SIGTERM, Signal::Terminate),
    (libc::SIGQUIT, Signal::Quit),
    (libc::SIGHUP, Signal::Reload),
    (libc::SIGUSR1, Signal::ReopenLog),
];

/// The signals of the process as a file to read: see [`signals`].
#[derive(Debug)]
pub struct Signals(File);

/// Blocks our signals in this thread, and in every thread it starts from now on, and queues them on a file
/// instead. Call it before any thread is started, else a thread without the mask takes the signal and dies.
/// SIGPIPE needs nothing: Rust ignores it.
pub fn signals() -> io::Result<Signals> {
    block_signals()?;
    let set = signal_set();
    // SAFETY: the call only reads the set; -1 asks for a new descriptor, which becomes ours.
    let fd = unsafe { OwnedFd::from_raw_fd(check(libc::signalfd(-1, &set, libc::SFD_CLOEXEC))?) };
    Ok(Signals(File::from(fd)))
}

/// Leaves our signals to other threads: for a thread that may start before [`signals`] is called.
pub fn block_signals() -> io::Result<()> {
    let set = signal_set();
    // SAFETY: the call only reads the set, and null asks for no copy of the old mask.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

impl Signals {
    /// Waits for the next signal: for a thread that does nothing else.
    pub fn wait(&self) -> io::Result<Signal> {
        loop {
            // signalfd(2): one signalfd_siginfo of 128 bytes a signal, its number in the first four.
            let mut record = [0u8; size_of::<libc::signalfd_siginfo>()];
            match (&self.0).read_exact(&mut record) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            let number = u32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
            let known = |(raw, _): &&(libc::c_int, Signal)| u32::try_from(*raw) == Ok(number);
            if let Some((_, signal)) = SIGNALS.iter().find(known) {
                return Ok(*signal);
            }
        }
    }
}

fn signal_set() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initializes the whole set; sigaddset changes it in place, and the numbers are valid.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        let mut set = set.assume_init();
        for (number, _) in SIGNALS {
            libc::sigaddset(&mut set, number);
        }
        set
    }
}

/// CPU time of the calling thread so far (clock_gettime(2), `CLOCK_THREAD_CPUTIME_ID`).
pub fn thread_time() -> io::Result<Duration> {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// What the process has used, in the order of `struct rusage` (getrusage(2)): whole seconds of user and system
/// time, then its counters from `ru_maxrss` (kB) to `ru_nivcsw`.
pub fn usage() -> io::Result<[i64; 16]> {
    // SAFETY: plain data for which all zeros is "nothing".
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one rusage.
    check(unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) })?;
    Ok([
        usage.ru_utime.tv_sec,
        usage.ru_stime.tv_sec,
        usage.ru_maxrss,
        usage.ru_ixrss,
        usage.ru_idrss,
        usage.ru_isrss,
        usage.ru_minflt,
        usage.ru_majflt,
        usage.ru_nswap,
        usage.ru_inblock,
        usage.ru_oublock,
        usage.ru_msgsnd,
        usage.ru_msgrcv,
        usage.ru_nsignals,
        usage.ru_nvcsw,
        usage.ru_nivcsw,
    ])
}

/// Who started a process that went into the background, and waits to hear how the start went.
#[derive(Debug)]
pub struct Starter(File);

impl Starter {
    /// Lets the one who waits end with `status`.
    pub fn tell(self, status: u8) {
        // Fails where nobody waits any more.
        let _ = (&self.0).write_all(&[status]);
    }
}

/// Goes on in the background, in a session of its own, with the working directory and the standard streams it has
/// (fork(2) twice, as SRS). The process that called waits, and ends with the status that [`Starter::tell`] gives or,
/// where the background ends without a word, with 1. Call it before any thread is started: a fork has only the
/// thread that forks.
pub fn go_to_background() -> io::Result<Starter> {
    let (mut read, write) = io::pipe()?;
    // SAFETY: one thread runs, so the child may go on like its parent.
    if check(unsafe { libc::fork() })? > 0 {
        drop(write);
        let mut status = [1];
        let _ = read.read(&mut status);
        std::process::exit(status[0].into());
    }
    // SAFETY: the calls take nothing; a fresh child leads no group, so it may begin a session. The second fork
    // leaves the leader of the session, so that no terminal can become its own.
    unsafe {
        check(libc::setsid())?;
        if check(libc::fork())? > 0 {
            libc::_exit(0);
        }
    }
    Ok(Starter(File::from(OwnedFd::from(write))))
}

/// Locks a whole file for this process, as SRS does (fcntl(2), `F_SETLK`); false where another has it. The lock ends
/// with the process, or with any descriptor of the file that is closed.
pub fn lock(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: flock is plain data for which all zeros is "from the start to the end".
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as _;
    lock.l_whence = libc::SEEK_SET as _;
    // SAFETY: the kernel reads one flock from a pointer to one.
    match check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLK, &raw const lock) }) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EAGAIN)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Time since the machine started (clock_gettime(2), `CLOCK_MONOTONIC`).
pub fn uptime() -> io::Result<Duration> {
    clock(libc::CLOCK_MONOTONIC)
}

fn clock(id: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to a pointer to one.
    check(unsafe { libc::clock_gettime(id, &mut time) })?;
    Ok(Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default()))
}

/// Word of files that were written, made or renamed in one directory (inotify(7)).
#[derive(Debug)]
pub struct Watch(File);

impl Watch {
    pub fn directory(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the descriptor is new and ours alone; the path ends in a NUL and outlives the call.
        unsafe {
            let watch = Self(File::from(OwnedFd::from_raw_fd(check(libc::inotify_init1(libc::IN_CLOEXEC))?)));
            let events = libc::IN_CLOSE_WRITE | libc::IN_CREATE | libc::IN_MOVED_TO;
            check(libc::inotify_add_watch(watch.0.as_raw_fd(), path.as_ptr(), events))?;
            Ok(watch)
        }
    }

    /// Waits, then tells the names of one or more: for a thread that does nothing else.
    pub fn wait(&self) -> io::Result<Vec<Vec<u8>>> {
        /// Of struct inotify_event, before its name; the name's length is its last field.
        const HEADER: usize = size_of::<libc::inotify_event>();
        let mut buffer = [0; 4096];
        let read = loop {
            match (&self.0).read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => break other?,
            }
        };
        let mut rest = buffer.get(..read).unwrap_or_default();
        let mut names = Vec::new();
        while let Some((header, after)) = rest.split_at_checked(HEADER) {
            let length = header.last_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes)) as usize;
            let Some((name, next)) = after.split_at_checked(length) else { break };
            names.push(name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec());
            rest = next;
        }
        Ok(names)
    }
}

/// The kernel's release, as in `uname -r`.
pub fn kernel_release() -> io::Result<String> {
    let mut raw = MaybeUninit::<libc::utsname>::uninit();
    // SAFETY: uname fills the whole struct where it succeeds, and its fields end in a NUL.
    let release = unsafe {
        check(libc::uname(raw.as_mut_ptr()))?;
        let raw = raw.assume_init();
        CStr::from_ptr(raw.release.as_ptr()).to_owned()
    };
    Ok(release.to_string_lossy().into_owned())
}

fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer)
}

fn check_long(answer: libc::c_long) -> io::Result<libc::c_long> {
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer)
}

fn size(answer: isize) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn utc_is_the_calendar_s() {
        for (seconds, wanted) in [
            (0, (1970, 1, 1, 0, 0, 0)),
            (951_782_399, (2000, 2, 28, 23, 59, 59)),
            (951_782_400, (2000, 2, 29, 0, 0, 0)),
            (951_868_800, (2000, 3, 1, 0, 0, 0)),
            (1_798_761_599, (2026, 12, 31, 23, 59, 59)),
            (4_107_542_400, (2100, 3, 1, 0, 0, 0)),
            (-1, (1969, 12, 31, 23, 59, 59)),
        ] {
            let t = utc_time(seconds);
            assert_eq!((t.year, t.month, t.day, t.hour, t.minute, t.second), wanted, "{seconds}");
        }
    }

    #[test]
    fn a_crash_is_told_as_lines_of_the_log_are() {
        let now = Duration::from_millis(1_798_761_599_042);
        let told = |cid: &[u8], address| {
            let line = crash_line(libc::SIGSEGV, now, b"shard-1\0\0\0", cid, 42, address);
            String::from_utf8(line.bytes[..line.len].to_vec()).unwrap()
        };
        let line = "[2026-12-31 23:59:59.042][ERROR][42][a1b2c3d4] crash: SIGSEGV in thread shard-1 at address 0x1f0\n";
        assert_eq!(told(b"a1b2c3d4", 0x1f0), line);
        assert!(
            told(&[0; 8], 0).contains("[42][-] crash") && told(&[0; 8], u64::MAX).ends_with("0xffffffffffffffff\n")
        );
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn send_vectored_keeps_the_order_of_slices() {
        let (near, mut far) = pair();
        let slices = [IoSlice::new(b"chunk"), IoSlice::new(b""), IoSlice::new(b" header")];
        assert_eq!(send_vectored(near.as_fd(), &slices).unwrap(), 12);
        let mut got = [0; 12];
        far.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"chunk header");
    }

    #[test]
    fn receive_takes_what_is_there_and_never_waits() {
        let (near, mut far) = pair();
        let mut buffer = [0; 4];
        assert_eq!(receive(near.as_fd(), &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        far.write_all(b"chunk").unwrap();
        assert_eq!((receive(near.as_fd(), &mut buffer).unwrap(), &buffer), (4, b"chun"));
        drop(far);
        assert_eq!([(); 2].map(|()| receive(near.as_fd(), &mut buffer).unwrap()), [1, 0]);
    }

    #[test]
    fn send_vectored_takes_no_more_than_the_kernel_does() {
        let (near, _far) = pair();
        let many = vec![IoSlice::new(b"x"); SLICES_MAX + 7];
        assert_eq!(send_vectored(near.as_fd(), &many).unwrap(), SLICES_MAX);
    }

    #[test]
    fn segments_arrive_as_datagrams() {
        use std::net::UdpSocket;
        let (near, far) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let slices = [IoSlice::new(b"one"), IoSlice::new(b"two"), IoSlice::new(b"3")];
        send_segments(near.as_fd(), &far.local_addr().unwrap().into(), &slices, 3).unwrap();
        let mut buffer = [0; 16];
        for expected in [&b"one"[..], b"two", b"3"] {
            let length = far.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected);
        }
    }

    #[test]
    fn full_socket_would_block() {
        let (near, _far) = pair();
        set_notsent_lowat(near.as_fd(), 16 << 10).unwrap();
        let block = vec![0; 1 << 20];
        let error = loop {
            if let Err(e) = send_vectored(near.as_fd(), &[IoSlice::new(&block)]) {
                break e;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn broken_pipe_is_an_error_and_not_a_signal() {
        let (near, far) = pair();
        drop(far);
        let kind = loop {
            match send_vectored(near.as_fd(), &[IoSlice::new(b"x")]) {
                Ok(_) => continue,
                Err(e) => break e.kind(),
            }
        };
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        assert!(matches!(kind, BrokenPipe | ConnectionReset), "{kind}");
    }

    #[test]
    fn socket_options_take() {
        let (near, _far) = pair();
        set_nodelay(near.as_fd(), true).unwrap();
        assert!(near.nodelay().unwrap());
        set_nodelay(near.as_fd(), false).unwrap();
        assert!(!near.nodelay().unwrap());
    }

    #[test]
    fn connection_moves_between_executors() {
        use futures_lite::{AsyncReadExt, AsyncWriteExt};
        let (near, mut far) = pair();
        let executor = || glommio::LocalExecutorBuilder::default().make().unwrap();
        far.write_all(b"one").unwrap();
        let fd = executor().run(async move {
            let mut stream = adopt(near.into());
            let mut got = [0; 3];
            stream.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"one");
            borrow(&stream).try_clone_to_owned().unwrap()
        });
        far.write_all(b"two").unwrap();
        executor().run(async move {
            let mut stream = adopt(fd);
            let mut got = [0; 3];
            stream.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"two");
            stream.write_all(b"back").await.unwrap();
        });
        let mut got = Vec::new();
        far.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"back", "and the peer sees the end, so no descriptor is left behind");
    }

    #[test]
    fn cloexec_is_set() {
        let (near, _far) = pair();
        // SAFETY: F_SETFD and F_GETFD take and return plain numbers.
        let flags = |set: bool| unsafe {
            if set {
                libc::fcntl(near.as_raw_fd(), libc::F_SETFD, 0);
            }
            libc::fcntl(near.as_raw_fd(), libc::F_GETFD)
        };
        assert_eq!(flags(true), 0);
        set_cloexec(near.as_fd()).unwrap();
        assert_eq!(flags(false), libc::FD_CLOEXEC);
    }

    #[test]
    fn io_uring_works_here() {
        io_uring_probe().unwrap();
    }

    #[test]
    fn interfaces_have_addresses_that_can_be_bound() {
        let addresses = interface_addresses().unwrap();
        assert!(addresses.contains(&Ipv4Addr::LOCALHOST.into()), "{addresses:?}");
        // Link-local ones need a zone.
        let plain = addresses.iter().filter(|ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
        for ip in plain {
            TcpListener::bind((*ip, 0)).unwrap_or_else(|error| panic!("{ip}: {error}"));
        }
    }

    #[test]
    fn limits_read_and_write_back() {
        for resource in [Resource::OpenFiles, Resource::LockedMemory] {
            let now = limit(resource).unwrap();
            assert!(now.soft <= now.hard && now.soft > 0);
            set_limit(resource, now).unwrap();
            assert_eq!(limit(resource).unwrap(), now);
        }
    }

    #[test]
    fn mask_bits_become_cpu_numbers() {
        assert_eq!(bits(&[0b101, 1 << 63, 1]), [0, 2, 127, 128]);
        assert_eq!(bits(&[]), [0usize; 0]);
    }

    #[test]
    fn a_thread_of_a_pinned_one_can_be_unpinned() {
        let pinned = std::thread::spawn(|| {
            let first = 1u64 << allowed_cpus().unwrap()[0];
            // SAFETY: the kernel reads eight bytes.
            assert_eq!(unsafe { libc::sched_setaffinity(0, 8, (&raw const first).cast()) }, 0);
            std::thread::spawn(|| {
                let before = allowed_cpus().unwrap();
                unpin().unwrap();
                (before.len(), allowed_cpus().unwrap())
            })
        });
        assert_eq!(pinned.join().unwrap().join().unwrap(), (1, process_cpus().unwrap()));
    }

    #[test]
    fn this_thread_may_run_somewhere() {
        assert!(!allowed_cpus().unwrap().is_empty());
    }

    #[test]
    fn local_time_is_a_time() {
        let epoch = local_time(0).unwrap();
        assert!(epoch.year == 1970 || epoch.year == 1969);
        assert_eq!(local_time(59).unwrap().second, (epoch.second + 59) % 60);
        assert_eq!(local_time(i64::MAX), None);
    }

    #[test]
    fn signals_arrive_on_the_file() {
        // The mask is this thread's alone, and so is a signal sent to the thread.
        let signals = signals().unwrap();
        for (number, signal) in SIGNALS {
            // SAFETY: sends a signal that this thread has blocked to itself.
            assert_eq!(unsafe { libc::raise(number) }, 0);
            assert_eq!(signals.wait().unwrap(), signal);
        }
    }

    #[test]
    fn a_watch_names_what_is_written_and_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let watch = Watch::directory(folder.path()).unwrap();
        std::fs::write(folder.path().join("srs.conf"), "x").unwrap();
        std::fs::rename(folder.path().join("srs.conf"), folder.path().join("..data")).unwrap();
        let mut names = Vec::new();
        while names.len() < 3 {
            names.extend(watch.wait().unwrap());
        }
        assert_eq!(names, [&b"srs.conf"[..], b"srs.conf", b"..data"]);
    }

    #[test]
    fn kernel_release_starts_with_a_number() {
        assert!(kernel_release().unwrap().starts_with(|c: char| c.is_ascii_digit()));
    }
}
