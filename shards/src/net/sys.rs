//! The one door to the kernel: every raw file descriptor and every `unsafe` of the server is below it,
//! behind functions that any caller may use. What the kernel's answers mean is decided elsewhere.

mod clock;
mod cpus;
mod crash;
mod machine;
mod process;
mod signals;
mod sockets;
mod watch;

pub use self::{clock::*, cpus::*, crash::*, machine::*, process::*, signals::*, sockets::*, watch::*};

use std::io;

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
