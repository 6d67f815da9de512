//! Accepting connections on one listening socket of one shard.

use super::{guarded, http, rtmp};
use crate::{
    connection::{Closed, Connection},
    net::{
        doors::Endpoint,
        link::Link,
        socket::Socket,
        sys,
        tls::{self, Secure},
    },
    shard::Shard,
};
use glommio::{net::TcpStream, spawn_local, timer::sleep, yield_if_needed};
use shardcast_protocols::proxy::Header;
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};
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
    pub endpoint: Endpoint,
    pub service: Service,
}

/// A TLS handshake may take so long.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// After an accept that failed, as it does while descriptors are short.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts at `door` until the shard closes it.
pub fn open(shard: &Rc<Shard>, door: Door, listener: std::net::TcpListener) {
    match listener.try_clone() {
        Ok(handle) => {
            let open = shard.doors.open(door, handle);
            spawn_local(run(shard.clone(), listener, door, open)).detach();
        }
        Err(error) => error!("{:?} on {} is off on this shard: {error}", door.service, door.endpoint),
    }
}

async fn run(shard: Rc<Shard>, listener: std::net::TcpListener, door: Door, open: Rc<Cell<bool>>) {
    let listener = sys::adopt_listener(listener);
    loop {
        let accepted = listener.accept().await.map_err(std::io::Error::from).and_then(|stream| {
            let peer = stream.peer_addr().map_err(std::io::Error::from)?;
            match shard.lighter() {
                Some(to) => shard.pass(to, door, sys::borrow(&stream).try_clone_to_owned()?, peer),
                None => welcome(&shard, door, stream, peer)?,
            }
            Ok(())
        });
        match accepted {
            Ok(()) => {}
            Err(_) if !open.get() => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotConnected => {} // gone before we looked
            Err(error) => {
                warn!("accept for {:?}: {error}; pausing for {} ms", door.service, PAUSE.as_millis());
                sleep(PAUSE).await;
            }
        }
        yield_if_needed().await;
    }
}

/// Serves a fresh connection from `door`, unless there are too many.
pub fn welcome(shard: &Rc<Shard>, door: Door, stream: TcpStream, peer: SocketAddr) -> std::io::Result<()> {
    let secured = match door.service {
        Service::Rtmp => &shard.security.rtmps,
        Service::Http => &shard.security.https,
    };
    let socket = Socket::new(stream)?;
    let link = match door.endpoint.tls {
        true => Link::Tls(Box::new(Secure::new(socket, tls::session(&secured.config)?))),
        false => Link::Tcp(socket),
    };
    if let Some(connection) = shard.admit(link, peer) {
        spawn_local(guard(shard.clone(), connection, door.service)).detach();
    }
    Ok(())
}

/// Serves a connection to its end; a panic ends it and nothing else.
async fn guard(shard: Rc<Shard>, connection: Rc<Connection>, service: Service) {
    let over = if connection.socket.is_tls() { " over TLS" } else { "" };
    info!(cid = %connection.id, "{service:?} connection{over} from {}", connection.peer.get());
    let session = async {
        let welcome = Box::pin(introduce(&shard, &connection, service)).await && count(&shard, &connection);
        if !welcome || !Box::pin(agree(&shard, &connection)).await {
            return shard.dismiss(&connection);
        }
        // In boxes: each takes what it needs, not what the largest needs.
        match service {
            Service::Rtmp => Box::pin(rtmp::serve(&shard, &connection)).await,
            Service::Http => Box::pin(http::serve(&shard, &connection)).await,
        }
    };
    if guarded(&connection, session).await.is_none() {
        // Its seat has done so, unless it had none yet.
        shard.dismiss(&connection);
    }
}

/// Takes over whose connection it is from a proxy, where one is to say that; false where it does not.
async fn introduce(shard: &Shard, connection: &Connection, service: Service) -> bool {
    let proxied = service == Service::Rtmp && shard.config().proxy_protocol;
    let Some(socket) = connection.socket.socket().filter(|_| proxied) else { return true };
    connection.deadline.set(Some(Instant::now() + HANDSHAKE));
    let mut header = Vec::new();
    let client = loop {
        match Header::read(&header) {
            // Not a byte more: what follows is for others.
            Ok(Header::More(more)) => {
                let room = RefCell::new(vec![0; more].into_boxed_slice());
                match socket.read(&room, |bytes| header.extend_from_slice(bytes)).await {
                    Ok(Some(())) => {}
                    _ if connection.closed() == Some(Closed::Expired) => {
                        break Err(format!("no PROXY header within {} s", HANDSHAKE.as_secs()));
                    }
                    // Who leaves so early looked whether somebody is here.
                    _ => return false,
                }
            }
            Ok(Header::Client(client)) => break Ok(client),
            Err(error) => break Err(error.to_string()),
        }
    };
    connection.deadline.set(None);
    let proxy = connection.peer.get();
    match client {
        Ok(client) => {
            connection.peer.set(client.unwrap_or(proxy));
            info!(cid = %connection.id, "{proxy} is a proxy, its client is {}", connection.peer.get());
        }
        Err(why) => {
            metrics::counter!("shardcast_session_errors_total", "protocol" => "proxy").increment(1);
            connection.close(why);
            return false;
        }
    }
    true
}

/// Counts it for its address; false where there are too many.
fn count(shard: &Shard, connection: &Connection) -> bool {
    let counted = shard.count(connection.peer.get());
    let welcome = counted.is_some();
    connection.counted.replace(counted);
    if !welcome {
        connection.close("its address has too many connections".into());
    }
    welcome
}

/// The TLS handshake, where there is one; false where it failed.
async fn agree(shard: &Shard, connection: &Connection) -> bool {
    let Link::Tls(secure) = &connection.socket else { return true };
    connection.deadline.set(Some(Instant::now() + HANDSHAKE));
    let agreed = secure.handshake(&shard.buffer).await;
    connection.deadline.set(None);
    tls::count_handshake(if agreed.is_ok() { "ok" } else { "failed" });
    if let Err(error) = &agreed {
        let why = match connection.closed() {
            Some(Closed::Expired) => format!("not done within {} s", HANDSHAKE.as_secs()),
            _ => error.to_string(),
        };
        connection.close(format!("TLS handshake: {why}"));
    }
    agreed.is_ok()
}
