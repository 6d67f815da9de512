//! The CPUs that a thread may run on.

use super::check;
use std::io;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
