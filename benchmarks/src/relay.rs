//! `shardbench relay`: a road between a client and a server, with delay, jitter, loss, reordering and a rate.
//!
//! Over UDP each packet has its own fate. Over TCP bytes are only late: the relay ends both connections, so their
//! congestion control sees the way to the relay, not the road.

use crate::{
    lane::{Lane, Road},
    stand::{Cpus, StandError},
    sys::{self, Epoll, Ready},
};
use bytes::Bytes;
use socket2::SockRef;
use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
    os::fd::AsFd,
    sync::mpsc::{self, Receiver, SyncSender},
    thread,
    time::{Duration, Instant},
};

const LOOK_UP: Duration = Duration::from_millis(100);
/// A client that says nothing for this long has gone.
const IDLE: Duration = Duration::from_secs(60);
const CLIENTS: usize = 1024;
const PACKET_BYTES: usize = 65_536;
/// Packets of one socket before the others have their turn.
const PACKETS_AT_ONCE: usize = 64;
const PIECE_BYTES: usize = 16 * 1024;
/// On their way over TCP in one direction, of up to 16 KB each.
const PIECES: usize = 1024;
const TCP_BUFFER_BYTES: usize = 128 * 1024;
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where clients come, udp://HOST:PORT or tcp://HOST:PORT
    listen: String,
    /// Where the server is, HOST:PORT
    target: String,
    /// Milliseconds in each direction
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    delay: f64,
    /// Up to so many milliseconds more, at random; the order stays
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    jitter: f64,
    /// Percentage of packets that get lost; UDP only
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    loss: f64,
    /// Percentage of packets that others overtake; UDP only
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    reorder: f64,
    /// By how much those are later, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10.0)]
    reorder_by: f64,
    /// kbit/s in each direction; without it there is no limit
    #[arg(long, value_name = "KBPS")]
    rate: Option<u64>,
    /// What the rate holds back waits up to so many milliseconds; more is lost (UDP) or not read yet (TCP)
    #[arg(long, value_name = "MS", default_value_t = 200.0)]
    queue: f64,
    /// The same seed has the same fate for the same packets
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds to go on; for ever without it
    #[arg(long = "for", value_name = "SECONDS")]
    duration: Option<f64>,
    /// CPUs that this tool runs on, as in 1,4-7; all without it
    #[arg(long, value_name = "LIST")]
    cpus: Option<Cpus>,
}

#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error(transparent)]
    Stand(#[from] StandError),
    #[error("{0}: begins neither with udp:// nor with tcp://")]
    Scheme(String),
    #[error("{0}: {1}")]
    Address(String, io::Error),
    #[error("{0}: no address")]
    NoAddress(String),
    #[error("loss and reordering are for packets: with tcp:// there are none")]
    NotOverTcp,
    #[error("{name} is {value}, not within 0 to {max}")]
    Range { name: &'static str, value: f64, max: f64 },
    #[error("{0}")]
    Io(#[from] io::Error),
}

pub fn run(options: &Options) -> Result<(), RelayError> {
    let end = options.duration.map(crate::stand::seconds).transpose()?.map(|duration| Instant::now() + duration);
    let road = options.road()?;
    let target = resolve(&options.target)?;
    crate::stand::prepare(options.cpus.as_ref(), CLIENTS)?;
    if let Some(listen) = options.listen.strip_prefix("udp://") {
        let socket = UdpSocket::bind(resolve(listen)?).map_err(|e| RelayError::Address(options.listen.clone(), e))?;
        println!("relaying udp://{} to {target}", socket.local_addr()?);
        datagrams(&socket, target, &road, options.seed, end)
    } else if let Some(listen) = options.listen.strip_prefix("tcp://") {
        if options.loss > 0.0 || options.reorder > 0.0 {
            return Err(RelayError::NotOverTcp);
        }
        let listener =
            TcpListener::bind(resolve(listen)?).map_err(|e| RelayError::Address(options.listen.clone(), e))?;
        println!("relaying tcp://{} to {target}", listener.local_addr()?);
        connections(&listener, target, &road, options.seed, end)
    } else {
        Err(RelayError::Scheme(options.listen.clone()))
    }
}

impl Options {
    fn road(&self) -> Result<Road, RelayError> {
        /// An hour is no road.
        const MS_MAX: f64 = 3_600_000.0;
        let within = |name, value: f64, max| {
            if (0.0..=max).contains(&value) { Ok(value) } else { Err(RelayError::Range { name, value, max }) }
        };
        let ms = |name, value| Ok::<_, RelayError>(Duration::from_secs_f64(within(name, value, MS_MAX)? / 1e3));
        Ok(Road {
            delay: ms("delay", self.delay)?,
            jitter: ms("jitter", self.jitter)?,
            loss: within("loss", self.loss, 100.0)? / 100.0,
            reorder: within("reorder", self.reorder, 100.0)? / 100.0,
            reorder_by: ms("reorder-by", self.reorder_by)?,
            bytes_per_second: self.rate.map(|kbps| (kbps * 125).max(1)),
            queue: ms("queue", self.queue)?,
        })
    }
}

fn resolve(address: &str) -> Result<SocketAddr, RelayError> {
    let mut all = address.to_socket_addrs().map_err(|error| RelayError::Address(address.into(), error))?;
    all.next().ok_or_else(|| RelayError::NoAddress(address.into()))
}

/// What one client and the server say to each other.
struct Flow {
    client: SocketAddr,
    server: UdpSocket,
    forth: Lane,
    back: Lane,
    heard: Instant,
}

/// The socket where clients come; a flow's number is its token.
const FRONT: usize = usize::MAX;

fn datagrams(
    front: &UdpSocket,
    target: SocketAddr,
    road: &Road,
    seed: u64,
    end: Option<Instant>,
) -> Result<(), RelayError> {
    front.set_nonblocking(true)?;
    let (mut epoll, mut ready) = (Epoll::new()?, Vec::new());
    epoll.add(front.as_fd(), FRONT, false)?;
    let mut flows: HashMap<usize, Flow> = HashMap::new();
    let mut by_client: HashMap<SocketAddr, usize> = HashMap::new();
    let mut buffer = vec![0; PACKET_BYTES];
    let (mut made, mut refused) = (0, 0u64);
    let mut tally = [0u64; 3];
    loop {
        let now = Instant::now();
        if sys::stop_requested() || end.is_some_and(|end| now >= end) {
            flows.values().for_each(|flow| flow.add_to(&mut tally));
            let [sent, lost, overflown] = tally;
            println!("relayed {sent} packets, lost {lost}, {overflown} beyond the rate; {refused} of clients too many");
            return Ok(());
        }
        let mut until = now + LOOK_UP;
        for flow in flows.values_mut() {
            // A peer that is gone, or a full socket, takes nothing: packets get lost.
            while let Some(packet) = flow.forth.take(now) {
                let _ = flow.server.send(&packet);
            }
            while let Some(packet) = flow.back.take(now) {
                let _ = front.send_to(&packet, flow.client);
            }
            until = [flow.forth.due(), flow.back.due()].into_iter().flatten().fold(until, Instant::min);
        }
        epoll.wait(until.saturating_duration_since(Instant::now()), &mut ready)?;
        let now = Instant::now();
        for Ready { token, .. } in ready.drain(..) {
            if let Some(flow) = flows.get_mut(&token) {
                for _ in 0..PACKETS_AT_ONCE {
                    let Ok(len) = flow.server.recv(&mut buffer) else { break };
                    flow.back.put(now, Bytes::copy_from_slice(&buffer[..len]));
                }
                continue;
            }
            for _ in 0..PACKETS_AT_ONCE {
                let Ok((len, client)) = front.recv_from(&mut buffer) else { break };
                let token = match by_client.get(&client) {
                    Some(token) => *token,
                    None if flows.len() >= CLIENTS => {
                        refused += 1;
                        continue;
                    }
                    None => {
                        let flow = Flow::new(client, target, road, seed.wrapping_add(made), now)?;
                        made += 1;
                        let token = made as usize;
                        epoll.add(flow.server.as_fd(), token, false)?;
                        flows.insert(token, flow);
                        by_client.insert(client, token);
                        token
                    }
                };
                if let Some(flow) = flows.get_mut(&token) {
                    flow.heard = now;
                    flow.forth.put(now, Bytes::copy_from_slice(&buffer[..len]));
                }
            }
        }
        flows.retain(|_, flow| {
            let stays = now.saturating_duration_since(flow.heard) < IDLE;
            if !stays {
                flow.add_to(&mut tally);
                by_client.remove(&flow.client);
            }
            stays
        });
    }
}

impl Flow {
    fn new(client: SocketAddr, target: SocketAddr, road: &Road, seed: u64, now: Instant) -> io::Result<Self> {
        let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let server = UdpSocket::bind(any)?;
        server.connect(target)?;
        server.set_nonblocking(true)?;
        let [forth, back] = [seed, !seed].map(|seed| Lane::new(road.clone(), seed, now));
        Ok(Self { client, server, forth, back, heard: now })
    }

    fn add_to(&self, tally: &mut [u64; 3]) {
        for lane in [&self.forth, &self.back] {
            for (sum, count) in std::iter::zip(&mut *tally, [lane.sent, lane.lost, lane.overflown]) {
                *sum += count;
            }
        }
    }
}

fn connections(
    listener: &TcpListener,
    target: SocketAddr,
    road: &Road,
    seed: u64,
    end: Option<Instant>,
) -> Result<(), RelayError> {
    listener.set_nonblocking(true)?;
    let (mut epoll, mut ready) = (Epoll::new()?, Vec::new());
    epoll.add(listener.as_fd(), FRONT, false)?;
    for made in 0.. {
        let client = loop {
            if sys::stop_requested() || end.is_some_and(|end| Instant::now() >= end) {
                println!("relayed {made} connections");
                return Ok(());
            }
            epoll.wait(LOOK_UP, &mut ready)?;
            match listener.accept() {
                Ok((client, _)) => break client,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => eprintln!("accept: {error}"),
            }
        };
        let (road, seed) = (road.clone(), seed.wrapping_add(made));
        thread::spawn(move || {
            if let Err(error) = connection(client, target, &road, seed) {
                eprintln!("connection {made}: {error}");
            }
        });
    }
    Ok(())
}

/// Both directions of one connection, two threads each: one reads and tells when, one waits and writes.
fn connection(client: TcpStream, target: SocketAddr, road: &Road, seed: u64) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let server = TcpStream::connect_timeout(&target, CONNECT)?;
    for socket in [&client, &server] {
        socket.set_nodelay(true)?;
        if road.bytes_per_second.is_some() {
            // What waits here is not on the road: it must not hide the rate from who sends.
            SockRef::from(socket).set_recv_buffer_size(TCP_BUFFER_BYTES)?;
            SockRef::from(socket).set_send_buffer_size(TCP_BUFFER_BYTES)?;
        }
    }
    for (from, to, seed) in [(&client, &server, seed), (&server, &client, !seed)] {
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let (put, taken) = mpsc::sync_channel(PIECES);
        let lane = Lane::new(road.clone(), seed, Instant::now());
        thread::spawn(move || read(from, lane, &put));
        thread::spawn(move || write(to, &taken));
    }
    Ok(())
}

type Piece = (Instant, Bytes);

/// Until the end of what `from` says, or nobody takes it any more.
fn read(mut from: TcpStream, mut lane: Lane, put: &SyncSender<Piece>) {
    let mut buffer = vec![0; PIECE_BYTES];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        thread::sleep(lane.full_for(Instant::now()));
        lane.put(Instant::now(), Bytes::copy_from_slice(&buffer[..len]));
        if lane.drain().any(|piece| put.send(piece).is_err()) {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Read);
}

fn write(mut to: TcpStream, taken: &Receiver<Piece>) {
    for (due, bytes) in taken {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
