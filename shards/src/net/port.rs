//! Is a port free, and if not, who holds it? Asked once per address before the shards listen.

use super::listener::bound;
use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Binds without SO_REUSEPORT and listens, then lets go: fails if any other process listens on the port, even
/// one that would share it. Connections in TIME_WAIT are no obstacle.
pub fn probe(addr: SocketAddr) -> Result<(), Unavailable> {
    // Listening matters: two bound sockets with SO_REUSEADDR get along until one of them listens.
    let tried = bound(addr, false).and_then(|socket| socket.listen(1));
    match tried {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            Err(Unavailable::Taken(PortTaken { addr, holder: holder(addr, &TCP) }))
        }
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(Unavailable::Privileged(addr)),
        Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable => Err(Unavailable::NotOurs(addr)),
        Err(source) => Err(Unavailable::Other { addr, source }),
    }
}

/// Why the server cannot listen on an address.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    #[error(transparent)]
    Taken(PortTaken),
    #[error(
        "port {} needs a privilege: choose a port of 1024 or more, or allow it with \
         `setcap cap_net_bind_service+ep` on the binary (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE; \
         Docker: --cap-add NET_BIND_SERVICE)", .0.port()
    )]
    Privileged(SocketAddr),
    #[error("no interface of this machine has the address {}: listen on one that `ip addr` shows, or on all", .0.ip())]
    NotOurs(SocketAddr),
    #[error("cannot listen on {addr}: {source}")]
    Other { addr: SocketAddr, source: io::Error },
}

/// Another process listens where we should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PortTaken {
    pub addr: SocketAddr,
    /// `None` where /proc does not show it to this user.
    pub holder: Option<Holder>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    pub name: String,
}

impl fmt::Display for PortTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.addr.port();
        match &self.holder {
            Some(Holder { pid, name }) => write!(
                f,
                "port {port} is taken by {name} (pid {pid}): stop it, or choose another port in the configuration"
            ),
            None => write!(
                f,
                "port {port} is taken by a process of another user or container (root sees which: \
                 `ss -tulnp sport = :{port}`): stop it, or choose another port in the configuration"
            ),
        }
    }
}

/// Where the kernel tells its sockets, and the state of those that wait for anyone.
pub struct Table {
    files: [&'static str; 2],
    state: &'static str,
}

pub const TCP: Table = Table { files: ["/proc/net/tcp", "/proc/net/tcp6"], state: "0A" };
/// Sockets that are connected to nobody.
pub const UDP: Table = Table { files: ["/proc/net/udp", "/proc/net/udp6"], state: "07" };

/// The first process that has a listening socket in the way of `addr` open.
pub fn holder(addr: SocketAddr, table: &Table) -> Option<Holder> {
    let mut inodes = Vec::new();
    for file in table.files {
        let text = fs::read_to_string(file).unwrap_or_default();
        inodes.extend(
            text.lines()
                .skip(1)
                .filter_map(|line| listening(line, table.state))
                .filter_map(|(held, inode)| collides(held, addr).then_some(inode)),
        );
    }
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    if links.is_empty() {
        return None;
    }
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| holds(*pid, &links)).map(|pid| Holder { pid, name: name(pid) })
}

fn holds(pid: u32, links: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors.flatten().any(|descriptor| {
        fs::read_link(descriptor.path())
            .is_ok_and(|target| target.to_str().is_some_and(|target| links.iter().any(|link| link == target)))
    })
}

/// The process's own name for itself; a hostile one may hold anything, so only plain characters pass.
fn name(pid: u32) -> String {
    let raw = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name: String = raw.chars().filter(|c| c.is_ascii_graphic()).collect();
    if name.is_empty() { "a process".into() } else { name }
}

/// Would both listen to the same connections? An address held on all IPv6 interfaces may hold IPv4 too.
fn collides(held: SocketAddr, wanted: SocketAddr) -> bool {
    let same_kind = held.is_ipv4() == wanted.is_ipv4();
    let any = held.ip().is_unspecified() || wanted.ip().is_unspecified();
    let both_kinds = held.is_ipv6() && held.ip().is_unspecified() && wanted.is_ipv4();
    held.port() == wanted.port() && (same_kind && (any || held.ip() == wanted.ip()) || both_kinds)
}

/// A line of /proc/net/tcp or its like (proc_net_tcp in the kernel's documentation), if it is of a socket in
/// `state`:
///
/// ```text
///   sl  local_address rem_address   st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...
///    0: 0100007F:078F 00000000:0000 0A ...
/// ```
/// The address is printed as 32-bit words in the machine's byte order, the port as a number.
fn listening(line: &str, state: &str) -> Option<(SocketAddr, u64)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
    let [_, local, _, its, _, _, _, _, _, inode] = fields[..] else {
        return None;
    };
    if its != state {
        return None;
    }
    let (ip, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(ip)?)),
        32 => {
            let mut octets = [0; 16];
            for (i, octets) in octets.chunks_exact_mut(4).enumerate() {
                octets.copy_from_slice(&word(ip.get(i * 8..i * 8 + 8)?)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some((SocketAddr::new(ip, port), inode.parse().ok()?))
}

fn word(hex: &str) -> Option<[u8; 4]> {
    Some(u32::from_str_radix(hex, 16).ok()?.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listener::listener;
    use std::io::Read;
    use std::net::TcpStream;

    #[test]
    fn taken_port_is_named_with_its_holder() {
        // With reuse_port, as another server of ours would hold it.
        let held = listener("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let addr = held.local_addr().unwrap();
        for wanted in [addr, SocketAddr::from(([0, 0, 0, 0], addr.port()))] {
            let Err(Unavailable::Taken(taken)) = probe(wanted) else {
                panic!("{wanted} is taken");
            };
            let holder = taken.holder.clone().unwrap();
            assert_eq!(holder.pid, std::process::id());
            let text = taken.to_string();
            let expected = format!("port {} is taken by {} (pid {})", addr.port(), holder.name, holder.pid);
            assert!(text.starts_with(&expected), "{text}");
        }
    }

    #[test]
    fn holder_of_datagrams_is_not_that_of_connections() {
        let held = crate::net::datagram::bind("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let addr = held.local_addr().unwrap();
        let is_ours = |table| holder(addr, table).is_some_and(|holder| holder.pid == std::process::id());
        assert!(is_ours(&UDP) && !is_ours(&TCP));
        drop(held);
        assert!(!is_ours(&UDP));
    }

    #[test]
    fn port_that_was_let_go_is_free_although_a_connection_is_in_time_wait() {
        let held = listener("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let addr = held.local_addr().unwrap();
        let mut client = TcpStream::connect(addr).unwrap();
        // The side that closes first goes to TIME_WAIT: the server's.
        drop(held.accept().unwrap());
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        drop(client);
        drop(held);
        probe(addr).unwrap();
    }

    #[test]
    fn foreign_address_is_told_apart_from_a_taken_port() {
        // TEST-NET-1 of RFC 5737 is nobody's.
        let addr = "192.0.2.77:1935".parse().unwrap();
        assert!(matches!(probe(addr), Err(Unavailable::NotOurs(_))));
    }

    #[test]
    fn unseen_holder_sends_the_reader_to_root() {
        let addr = "0.0.0.0:1935".parse().unwrap();
        let text = PortTaken { addr, holder: None }.to_string();
        assert!(text.contains("port 1935") && text.contains("root"), "{text}");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn listeners_are_read_from_the_kernels_tables() {
        let four = "   0: 0100007F:078F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 34057 1 0 100 0 0 10 0";
        assert_eq!(listening(four, TCP.state), Some(("127.0.0.1:1935".parse().unwrap(), 34057)));
        let six = "   1: B80D0120000000000000000001000000:07C1 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 9 1";
        assert_eq!(listening(six, TCP.state), Some(("[2001:db8::1]:1985".parse().unwrap(), 9)));
        let connected = four.replace(" 0A ", " 01 ");
        assert_eq!(listening(&connected, TCP.state), None);
        for end in 0..four.find("34057").unwrap() {
            assert_eq!(listening(&four[..end], TCP.state), None);
        }
    }

    #[test]
    fn addresses_collide_as_in_the_kernel() {
        let collide = |a: &str, b: &str| collides(a.parse().unwrap(), b.parse().unwrap());
        assert!(collide("0.0.0.0:1", "127.0.0.1:1"));
        assert!(collide("[::]:1", "127.0.0.1:1"));
        assert!(!collide("0.0.0.0:1", "[::]:1"));
        assert!(!collide("127.0.0.2:1", "127.0.0.1:1"));
        assert!(!collide("0.0.0.0:1", "0.0.0.0:2"));
    }
}
