//! What the machine is: its kernel and its addresses.

use super::{check, check_long};
use std::{
    ffi::CStr,
    io,
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{FromRawFd, OwnedFd},
};

/// Bytes.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

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

/// Asks the CPU to have the memory of `what` at hand when it is used soon. A hint: it reads nothing, and on other
/// machines than x86-64 it does nothing.
#[inline]
pub fn prefetch<T>(what: &T) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..size_of::<T>()).step_by(CACHE_LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: reads nothing, whatever the address is, and SSE is part of every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>((&raw const *what).cast::<i8>().wrapping_add(line)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = what;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

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
    fn kernel_release_starts_with_a_number() {
        assert!(kernel_release().unwrap().starts_with(|c: char| c.is_ascii_digit()));
    }
}
