//! The listening sockets of one shard, by what they are for: so that each can be closed while its task waits on it.

use crate::config::Listen;
use socket2::SockRef;
use std::{
    cell::{Cell, RefCell},
    fmt,
    net::{Shutdown, TcpListener},
    rc::Rc,
};

/// Where a listening socket listens, and whether with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub listen: Listen,
    pub tls: bool,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.listen, if self.tls { "/tls" } else { "" })
    }
}

pub struct Doors<D>(RefCell<Vec<Opened<D>>>);

struct Opened<D> {
    door: D,
    handle: TcpListener,
    is_open: Rc<Cell<bool>>,
}

impl<D> Default for Doors<D> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<D> Doors<D> {
    /// `handle` is a second one of the socket that is accepted from. Returns whether it is open, now and later.
    pub fn open(&self, door: D, handle: TcpListener) -> Rc<Cell<bool>> {
        let is_open = Rc::new(Cell::new(true));
        self.0.borrow_mut().push(Opened { door, handle, is_open: is_open.clone() });
        is_open
    }

    /// Closes all but those that are to stay: the kernel refuses whoever comes, and the accept that waits fails.
    pub fn keep(&self, stays: impl Fn(&D) -> bool) {
        self.0.borrow_mut().retain(|opened| {
            let stays = stays(&opened.door);
            if !stays {
                opened.is_open.set(false);
                // Fails only where it listens no more.
                let _ = SockRef::from(&opened.handle).shutdown(Shutdown::Both);
            }
            stays
        });
    }
}
