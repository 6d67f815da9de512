//! Sockets: what they send and take at once, their options, and their way to an executor.

use super::{check, size};
use socket2::SockAddr;
use std::{
    io::{self, IoSlice},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// The most slices one `sendmsg` takes (`IOV_MAX` of Linux).
pub const SLICES_MAX: usize = 1024;

/// The most datagrams of one [`send_segments`] (`UDP_MAX_SEGMENTS` of Linux before 6.9).
pub const SEGMENTS_MAX: usize = 64;

/// Sends what the socket takes now, in order, in one system call; never waits and never raises SIGPIPE.
/// A full socket is `ErrorKind::WouldBlock`. Slices beyond [`SLICES_MAX`] wait for the next call.
pub fn send_vectored(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let slices = slices.get(..SLICES_MAX).unwrap_or(slices);
    loop {
        let sent = match slices {
            // What most sends are; the kernel has less to look up.
            // SAFETY: the kernel only reads the slice, which outlives the call.
            [slice] => unsafe { libc::send(fd.as_raw_fd(), slice.as_ptr().cast(), slice.len(), FLAGS) },
            _ => {
                // SAFETY: msghdr is plain data for which all zeros is "no address, no slices, no control".
                let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
                // `IoSlice` has the layout of iovec on Unix; the kernel only reads through this pointer.
                message.msg_iov = slices.as_ptr().cast_mut().cast();
                message.msg_iovlen = slices.len() as _;
                // SAFETY: `message` and the slices it points to outlive the call; the kernel only reads them.
                unsafe { libc::sendmsg(fd.as_raw_fd(), &message, FLAGS) }
            }
        };
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
}
