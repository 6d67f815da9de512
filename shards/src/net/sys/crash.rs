//! The last words of a process that is broken.

use super::{LocalTime, check, clock, local_time, utc_time};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering::Relaxed},
    time::Duration,
};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
