//! The WebRTC port of a media shard.

use crate::{net::sys, shard::Shard};
use glommio::{timer::sleep, yield_if_needed};
use std::{net::UdpSocket, rc::Rc, time::Duration};
use tracing::warn;

/// After a receive that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// No packet of WebRTC is longer, bytes.
const LARGEST: usize = 2048;

/// Runs for ever. Nothing has a session yet: every packet is a stranger's.
pub async fn run(_shard: Rc<Shard>, udp: UdpSocket) {
    let incoming = sys::adopt_datagrams(udp);
    let mut buffer = vec![0; LARGEST];
    loop {
        if let Err(error) = incoming.recv_from(&mut buffer).await {
            warn!("receive for WebRTC: {error}; pausing for {} ms", PAUSE.as_millis());
            sleep(PAUSE).await;
        }
        yield_if_needed().await;
    }
}
