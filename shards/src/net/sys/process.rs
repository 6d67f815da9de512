//! The process: what it may use and has used, its way into the background, its locks.

use super::check;
use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

/// No page of this process is a huge one from now on (prctl(2), `PR_SET_THP_DISABLE`): the allocator asks for them, and
/// what it frees in pieces would stay resident 2 MB at a time.
pub fn avoid_huge_pages() -> io::Result<()> {
    // SAFETY: takes and gives plain numbers.
    match unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_and_write_back() {
        for resource in [Resource::OpenFiles, Resource::LockedMemory] {
            let now = limit(resource).unwrap();
            assert!(now.soft <= now.hard && now.soft > 0);
            set_limit(resource, now).unwrap();
            assert_eq!(limit(resource).unwrap(), now);
        }
    }
}
