//! Listening TCP sockets. Which of them serves which protocol is the ingress's business.

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that may wait for `accept`; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// A listening socket, with CLOEXEC. With `reuse_port`, every shard listens on the same address and the kernel
/// spreads connections over them; probe the port first (`port::probe`), else a second server shares it silently.
///
/// It is blocking on purpose: glommio first accepts without waiting, then on the ring, and kernels before
/// 5.19 answer EAGAIN to an accept on the ring at a non-blocking socket instead of waiting.
pub fn listener(addr: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = bound(addr, reuse_port)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The socket before it listens.
pub(super) fn bound(addr: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // 0.0.0.0 and :: are then two addresses, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier run in TIME_WAIT must not keep us out.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.bind(&SockAddr::from(addr))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[test]
    fn two_shards_share_a_port_only_with_reuse_port() {
        let first = listener("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let addr = first.local_addr().unwrap();
        let _second = listener(addr, true).unwrap();
        let error = listener(addr, false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn v4_and_v6_of_one_port_are_two_listeners() {
        let Ok(six) = listener("[::]:0".parse().unwrap(), false) else {
            eprintln!("this machine has no IPv6");
            return;
        };
        let port = six.local_addr().unwrap().port();
        listener(SocketAddr::from(([0, 0, 0, 0], port)), false).unwrap();
    }

    #[test]
    fn an_executor_accepts_from_it_both_at_once_and_after_waiting() {
        use futures_lite::AsyncWriteExt;
        let listener = listener("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let addr = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            for _ in 0..2 {
                let mut connection = TcpStream::connect(addr).unwrap();
                let mut got = String::new();
                connection.read_to_string(&mut got).unwrap();
                assert_eq!(got, "hello");
                connection.write_all(b"x").ok();
            }
        });
        let executor = glommio::LocalExecutorBuilder::default().make().unwrap();
        executor.run(async move {
            let listener = crate::net::sys::adopt_listener(listener);
            for _ in 0..2 {
                let mut connection = listener.accept().await.unwrap();
                connection.write_all(b"hello").await.unwrap();
            }
        });
        client.join().unwrap();
    }
}
