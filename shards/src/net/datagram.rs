//! UDP sockets that all shards share a port with: the kernel keeps each peer at one of them.

use glommio::{timer::sleep, yield_if_needed};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};
use tracing::{error, warn};

/// What the kernel keeps while the shard is busy, bytes; it may allow less.
const RECEIVE_BUFFER: usize = 4 << 20;

/// After a receive that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// No packet of SRT or WebRTC is longer, bytes.
const LARGEST: usize = 2048;

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

/// Hands each packet and its source to `take`, for ever; a panic there drops that packet and nothing else.
pub async fn receive(incoming: glommio::net::UdpSocket, what: &str, mut take: impl FnMut(&[u8], SocketAddr)) {
    let mut buffer = vec![0; LARGEST];
    loop {
        match incoming.recv_from(&mut buffer).await {
            Ok((length, source)) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                if catch_unwind(AssertUnwindSafe(|| take(bytes, source))).is_err() {
                    metrics::counter!("shardcast_session_panics_total").increment(1);
                    error!("a packet of {source} panicked and was dropped; please report this");
                }
            }
            Err(error) => {
                warn!("receive for {what}: {error}; pausing for {} ms", PAUSE.as_millis());
                sleep(PAUSE).await;
            }
        }
        yield_if_needed().await;
    }
}
