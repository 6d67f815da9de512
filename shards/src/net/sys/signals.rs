//! What the operator tells the process.

use super::check;
use std::{
    fs::File,
    io::{self, Read},
    mem::MaybeUninit,
    os::fd::{FromRawFd, OwnedFd},
};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
