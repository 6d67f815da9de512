//! `shardbench limit`: what serving viewers costs on this machine at the least. One thread, one send of the same bytes
//! for each viewer and window, and nothing else; the viewers are those of `play`, in a child.

use crate::{
    child::{ChildError, Measurement},
    stand::{Cpus, Stand, StandError},
};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use std::{
    io::{self, ErrorKind, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// Between two rounds of the hand.
const TICK: Duration = Duration::from_millis(10);
const BACKLOG: i32 = 4096;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many viewers
    #[arg(short, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    number: u32,
    /// What each gets, kbit/s
    #[arg(long, default_value_t = 1000)]
    kbps: u32,
    /// Milliseconds from one send to a viewer to the next
    #[arg(long, default_value_t = 350, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    window: u32,
    /// Seconds to measure, once all viewers are there
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 10.0)]
    duration: f64,
    /// Seconds from when all are there until the measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    settle: f64,
    /// CPUs that the viewers run on
    #[arg(long, value_name = "LIST")]
    viewer_cpus: Option<Cpus>,
    #[command(flatten)]
    stand: Stand,
}

#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    #[error(transparent)]
    Stand(#[from] StandError),
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error("socket: {0}")]
    Io(#[from] io::Error),
}

pub fn run(options: &Options) -> Result<(), LimitError> {
    options.stand.prepare(options.number as usize)?;
    let figures = measure(options)?;
    println!(
        "limit        {} sends of {} bytes, {} that the kernel did not take whole",
        figures["limit"]["sends"], figures["limit"]["bytes_each"], figures["limit"]["cut_short"]
    );
    Ok(options.stand.write(&figures)?)
}

/// The figures of `play`, with `limit` among them.
fn measure(options: &Options) -> Result<Value, LimitError> {
    let listener = listen()?;
    let mut arguments = vec![format!("tcp://{}", listener.local_addr()?)];
    let pairs = [
        ("-n", options.number.to_string()),
        ("--for", options.duration.to_string()),
        ("--settle", options.settle.to_string()),
        ("--check", "0".into()),
        ("--server-pid", std::process::id().to_string()),
    ];
    let cpus = options.viewer_cpus.as_ref().map(|cpus| ("--cpus", cpus.to_string()));
    arguments.extend(pairs.into_iter().chain(cpus).flat_map(|(name, value)| [name.to_owned(), value]));
    let mut viewers = Measurement::start("play", &arguments, false)?;
    let window = Duration::from_millis(options.window.into());
    let mut hand = Hand::new(vec![0; (u64::from(options.kbps) * u64::from(options.window) / 8) as usize], window);
    loop {
        let next = Instant::now() + TICK;
        hand.accept(&listener)?;
        hand.turn(Instant::now());
        if let Some(mut figures) = viewers.figures()? {
            figures["limit"] = json!({
                "kbps": options.kbps, "window_ms": options.window, "bytes_each": hand.bytes.len(),
                "sends": hand.sends, "cut_short": hand.cut_short,
            });
            return Ok(figures);
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Goes round over the viewers, as a clock's does, once in a window.
struct Hand {
    bytes: Vec<u8>,
    window: Duration,
    viewers: Vec<TcpStream>,
    at: usize,
    turned: Instant,
    /// The part of a viewer that is due beyond whole ones.
    rest: f64,
    sends: u64,
    cut_short: u64,
}

impl Hand {
    fn new(bytes: Vec<u8>, window: Duration) -> Self {
        let turned = Instant::now();
        Self { bytes, window, viewers: Vec::new(), at: 0, turned, rest: 0.0, sends: 0, cut_short: 0 }
    }

    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            match listener.accept() {
                Ok((viewer, _)) => {
                    viewer.set_nonblocking(true)?;
                    viewer.set_nodelay(true)?;
                    self.viewers.push(viewer);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Serves those who are due; nobody twice, however late it is.
    fn turn(&mut self, now: Instant) {
        let all = self.viewers.len() as f64;
        let part = now.saturating_duration_since(self.turned).as_secs_f64() / self.window.as_secs_f64();
        self.turned = now;
        let due = (self.rest + all * part).min(all);
        self.rest = due.fract();
        for _ in 0..due as usize {
            self.at = (self.at + 1) % self.viewers.len();
            // What the kernel does not take is not sent again: it is counted, and the viewers' rate shows it.
            let sent = self.viewers[self.at].write(&self.bytes).unwrap_or_default();
            self.sends += 1;
            self.cut_short += u64::from(sent < self.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_viewer_is_served_once_in_a_window() {
        let listener = listen().unwrap();
        let far: Vec<TcpStream> = (0..7).map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
        let window = Duration::from_millis(350);
        let mut hand = Hand::new(vec![7; 100], window);
        while hand.viewers.len() < far.len() {
            hand.accept(&listener).unwrap();
        }
        let begin = hand.turned;
        for tick in 1..=70 {
            hand.turn(begin + tick * TICK);
        }
        assert_eq!((hand.sends, hand.cut_short), (14, 0), "two windows");
        hand.turn(begin + 10 * window);
        assert_eq!(hand.sends, 21, "a late hand goes round once");
    }
}
