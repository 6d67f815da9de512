//! Accepting connections on one listening socket of one shard.

use super::{http, rtmp};
use crate::{
    config::Listen,
    connection::Connection,
    net::{link::Link, socket::Socket, sys},
    shard::Shard,
};
use futures_lite::FutureExt;
use glommio::{spawn_local, timer::sleep, yield_if_needed};
use std::{cell::Cell, panic::AssertUnwindSafe, rc::Rc, time::Duration};
use tracing::{error, info, warn};

/// What a listening socket serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Rtmp,
    Http,
}

/// A listening socket, as the configuration asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    pub listen: Listen,
    pub service: Service,
}

/// After an accept that failed, as it does while descriptors are short.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts at `door` until the shard closes it.
pub fn open(shard: &Rc<Shard>, door: Door, listener: std::net::TcpListener) {
    match listener.try_clone() {
        Ok(handle) => {
            let open = shard.doors.open(door, handle);
            spawn_local(run(shard.clone(), listener, door.service, open)).detach();
        }
        Err(error) => error!("{:?} on {} is off on this shard: {error}", door.service, door.listen),
    }
}

async fn run(shard: Rc<Shard>, listener: std::net::TcpListener, service: Service, open: Rc<Cell<bool>>) {
    let listener = sys::adopt_listener(listener);
    loop {
        let accepted = listener.accept().await.map_err(std::io::Error::from).and_then(|stream| {
            let peer = stream.peer_addr().map_err(std::io::Error::from)?;
            Ok((Socket::new(stream)?, peer))
        });
        match accepted {
            Ok((socket, peer)) => {
                if let Some(connection) = shard.admit(Link::Tcp(socket), peer) {
                    spawn_local(guard(shard.clone(), connection, service)).detach();
                }
            }
            Err(_) if !open.get() => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotConnected => {} // gone before we looked
            Err(error) => {
                warn!("accept for {service:?}: {error}; pausing for {} ms", PAUSE.as_millis());
                sleep(PAUSE).await;
            }
        }
        yield_if_needed().await;
    }
}

/// Serves a connection to its end; a panic ends it and nothing else.
async fn guard(shard: Rc<Shard>, connection: Rc<Connection>, service: Service) {
    info!(cid = %connection.id, "{service:?} connection from {}", connection.peer);
    let session = async {
        match service {
            Service::Rtmp => rtmp::serve(&shard, &connection).await,
            Service::Http => http::serve(&shard, &connection).await,
        }
    };
    if AssertUnwindSafe(session).catch_unwind().await.is_err() {
        metrics::counter!("shardcast_session_panics_total").increment(1);
        error!(cid = %connection.id, "the session of {} panicked and was ended; please report this", connection.peer);
        connection.close("internal error".into());
    }
}
