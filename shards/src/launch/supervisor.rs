//! Who started the server and wants to know how it is: systemd (sd_notify(3)), or the process that sent it to the
//! background.

use crate::net::sys::{self, Starter};
use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<(UnixDatagram, SocketAddr)>,
    starter: Option<Starter>,
    /// Word that the server is well is wanted so often; `None`: not at all.
    pub watchdog: Option<Duration>,
}

impl Supervisor {
    /// From `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. A socket that cannot be used is an error: systemd
    /// would end the server for its silence.
    pub fn of_process(starter: Option<Starter>) -> io::Result<Self> {
        let value = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let socket = match value("NOTIFY_SOCKET") {
            Some(name) => Some((UnixDatagram::unbound()?, address(&name)?)),
            None => None,
        };
        let is_ours = value("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let period = value("WATCHDOG_USEC").and_then(|period| period.parse().ok()).filter(|_| is_ours);
        Ok(Self { socket, starter, watchdog: period.map(Duration::from_micros) })
    }

    /// The server serves.
    pub fn ready(&mut self) {
        self.say(&format!("READY=1\nMAINPID={}", std::process::id()));
        if let Some(starter) = self.starter.take() {
            starter.tell(0);
        }
    }

    /// The server does not start, and ends with this status.
    pub fn failed(&mut self, status: u8) {
        if let Some(starter) = self.starter.take() {
            starter.tell(status);
        }
    }

    /// The configuration is read again; [`Self::ready`] follows.
    pub fn reloading(&self) {
        let since = sys::uptime().unwrap_or_default().as_micros();
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={since}"));
    }

    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    fn say(&self, words: &str) {
        if let Some((socket, to)) = &self.socket {
            // It may have gone, or restart; nothing depends on what it hears.
            let _ = socket.send_to_addr(words.as_bytes(), to);
        }
    }
}

/// A path, or the name of an abstract socket behind `@` (unix(7)).
fn address(name: &str) -> io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}
