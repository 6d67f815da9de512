//! UDP sockets that all shards share a port with: the kernel keeps each peer at one of them.

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

/// What the kernel keeps while the shard is busy, bytes; it may allow less.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Bound first without `reuse_port` and dropped, it tells whether the port is free.
pub fn bind(addr: SocketAddr, reuse_port: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(reuse_port)?;
    // Only an optimisation: a smaller buffer loses packets sooner, and SRT asks for them again.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    let _ = socket.set_send_buffer_size(RECEIVE_BUFFER);
    socket.bind(&SockAddr::from(addr))?;
    Ok(socket.into())
}
