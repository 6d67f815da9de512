//! What Linux tells of this process and of the machine: /proc, read and parsed (proc(5)). Anything that is not
//! there, as in some containers, is zero.

use crate::net::sys;
use std::{
    fs,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Members of /proc/self/stat after the state, in their order.
pub const STAT: [&str; 41] = [
    "ppid",
    "pgrp",
    "session",
    "tty_nr",
    "tpgid",
    "flags",
    "minflt",
    "cminflt",
    "majflt",
    "cmajflt",
    "utime",
    "stime",
    "cutime",
    "cstime",
    "priority",
    "nice",
    "num_threads",
    "itrealvalue",
    "starttime",
    "vsize",
    "rss",
    "rsslim",
    "startcode",
    "endcode",
    "startstack",
    "kstkesp",
    "kstkeip",
    "signal",
    "blocked",
    "sigignore",
    "sigcatch",
    "wchan",
    "nswap",
    "cnswap",
    "exit_signal",
    "processor",
    "rt_priority",
    "policy",
    "delayacct_blkio_ticks",
    "guest_time",
    "cguest_time",
];
const UTIME: usize = 10;
const STIME: usize = 11;

/// Members of the first line of /proc/stat.
pub const CPU: [&str; 9] = ["user", "nice", "sys", "idle", "iowait", "irq", "softirq", "steal", "guest"];
const IDLE: usize = 3;

/// Of the kernel's times in /proc, a second; the same on every Linux.
const TICKS: f64 = 100.0;
/// Bytes of a sector in /proc/diskstats.
const SECTOR: u64 = 512;

/// One look.
#[derive(Clone, Debug)]
pub struct Look {
    pub at: Instant,
    pub unix_ms: u64,
    pub usage: [i64; 16],
    pub comm: String,
    pub state: String,
    pub stat: [i128; STAT.len()],
    pub cpu: [u64; CPU.len()],
    pub memory: Memory,
    pub disks: Disks,
    pub network: Network,
    pub sockets: Sockets,
    /// Seconds that the machine is up, and that its CPUs were idle.
    pub uptime: [f64; 2],
    /// Over 1, 5 and 15 minutes.
    pub loads: [f64; 3],
}

/// In kB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub total: u64,
    pub free: u64,
    pub buffers: u64,
    pub cached: u64,
    pub swap_total: u64,
    pub swap_free: u64,
}

/// Totals of the devices that were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disks {
    pub read: u64,
    pub written: u64,
    pub busy_ms: u64,
    pub devices: u64,
}

/// Bytes that the interfaces received and sent; of the loopback apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network {
    pub received: u64,
    pub sent: u64,
    pub received_inside: u64,
    pub sent_inside: u64,
}

/// Of the whole machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    pub tcp: u64,
    pub established: u64,
    pub time_wait: u64,
    pub udp: u64,
}

impl Look {
    /// Blocks for as long as the kernel takes. `disks` names devices.
    pub fn take(disks: &[String]) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let (comm, state, stat) = stat(&read("/proc/self/stat"));
        Self {
            at: Instant::now(),
            unix_ms: unix.as_millis() as u64,
            usage: sys::usage().unwrap_or_default(),
            comm,
            state,
            stat,
            cpu: cpu(&read("/proc/stat")),
            memory: Memory::parse(&read("/proc/meminfo")),
            disks: if disks.is_empty() { Disks::default() } else { Disks::parse(&read("/proc/diskstats"), disks) },
            network: Network::parse(&read("/proc/net/dev")),
            sockets: Sockets::parse(&read("/proc/net/sockstat"), &read("/proc/net/snmp")),
            uptime: numbers(&read("/proc/uptime")),
            loads: numbers(&read("/proc/loadavg")),
        }
    }

    /// Cores that this process had since `earlier`: 1.0 is one.
    pub fn own_share(&self, earlier: &Self) -> f64 {
        let used = |look: &Self| look.stat[UTIME] + look.stat[STIME];
        ratio((used(self) - used(earlier)) as f64, self.seconds_since(earlier) * TICKS)
    }

    /// Share of all cores' time since `earlier` that was not idle, 0 to 1.
    pub fn busy_share(&self, earlier: &Self) -> f64 {
        // Guests' time is in the users' already.
        let total = |look: &Self| look.cpu[..8].iter().sum::<u64>() as f64;
        let idle = self.cpu[IDLE] as f64 - earlier.cpu[IDLE] as f64;
        let all = total(self) - total(earlier);
        ratio(all - idle, all)
    }

    /// kB/s read and written, and the share of the time that a device was busy, since `earlier`.
    pub fn disk_rates(&self, earlier: &Self) -> (u64, u64, f64) {
        let seconds = self.seconds_since(earlier);
        let rate = |now: u64, then: u64| ratio(now.saturating_sub(then) as f64 / 1024.0, seconds) as u64;
        let (now, then) = (self.disks, earlier.disks);
        let busy = now.busy_ms.saturating_sub(then.busy_ms) as f64 / 1000.0;
        (rate(now.read, then.read), rate(now.written, then.written), ratio(busy, seconds * now.devices as f64))
    }

    fn seconds_since(&self, earlier: &Self) -> f64 {
        self.at.saturating_duration_since(earlier.at).as_secs_f64()
    }
}

/// Zero where there is nothing to be a part of.
pub fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole).max(0.0) } else { 0.0 }
}

impl Memory {
    fn parse(text: &str) -> Self {
        let kb = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Self {
            total: kb("MemTotal"),
            free: kb("MemFree"),
            buffers: kb("Buffers"),
            cached: kb("Cached"),
            swap_total: kb("SwapTotal"),
            swap_free: kb("SwapFree"),
        }
    }

    /// As SRS counts: all that is not free,
    pub fn active(&self) -> u64 {
        self.total.saturating_sub(self.free)
    }

    /// and of that what is no cache.
    pub fn in_use(&self) -> u64 {
        self.active().saturating_sub(self.buffers + self.cached)
    }

    pub fn share(&self) -> f64 {
        ratio(self.in_use() as f64, self.total as f64)
    }

    pub fn swap_share(&self) -> f64 {
        ratio(self.swap_total.saturating_sub(self.swap_free) as f64, self.swap_total as f64)
    }
}

impl Disks {
    /// A line is major, minor, name, then reads, merged, sectors, ms; writes likewise; in flight, busy ms, weighted.
    fn parse(text: &str, devices: &[String]) -> Self {
        let mut all = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().skip(2);
            if !words.next().is_some_and(|name| devices.iter().any(|device| device == name)) {
                continue;
            }
            let values: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
            let value = |index: usize| values.get(index).copied().unwrap_or(0);
            all.read += value(2) * SECTOR;
            all.written += value(6) * SECTOR;
            all.busy_ms += value(9);
            all.devices += 1;
        }
        all
    }
}

impl Network {
    /// A line is `name: ` and eight numbers each of receiving and sending, bytes first.
    fn parse(text: &str) -> Self {
        let mut all = Self::default();
        for (name, rest) in text.lines().filter_map(|line| line.split_once(':')) {
            let values: Vec<u64> = rest.split_whitespace().map_while(|word| word.parse().ok()).collect();
            let (Some(received), Some(sent)) = (values.first(), values.get(8)) else { continue };
            if name.trim() == "lo" {
                all.received_inside += received;
                all.sent_inside += sent;
            } else {
                all.received += received;
                all.sent += sent;
            }
        }
        all
    }
}

impl Sockets {
    /// From lines like `TCP: inuse 7 orphan 0 tw 3`, and the table `Tcp:` of /proc/net/snmp.
    fn parse(sockstat: &str, snmp: &str) -> Self {
        let value = |line: &str, name: &str| {
            let words = sockstat.lines().find_map(|l| l.strip_prefix(line))?;
            words.split_whitespace().skip_while(|word| *word != name).nth(1)?.parse::<u64>().ok()
        };
        let mut tcp = snmp.lines().filter_map(|line| line.strip_prefix("Tcp:"));
        let (names, values) = (tcp.next().unwrap_or_default(), tcp.next().unwrap_or_default());
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        let established = pairs.find(|(name, _)| *name == "CurrEstab").and_then(|(_, value)| value.parse().ok());
        let time_wait = value("TCP:", "tw").unwrap_or(0);
        Self {
            tcp: value("TCP:", "inuse").unwrap_or(0) + time_wait,
            established: established.unwrap_or(0),
            time_wait,
            udp: value("UDP:", "inuse").unwrap_or(0),
        }
    }
}

/// Name, state and numbers of /proc/self/stat. The name is in parentheses and may have anything in it.
fn stat(text: &str) -> (String, String, [i128; STAT.len()]) {
    let mut numbers = [0; STAT.len()];
    let Some((before, after)) = text.rsplit_once(')') else {
        return (String::new(), String::new(), numbers);
    };
    let comm = before.split_once('(').map_or("", |(_, name)| name);
    let mut words = after.split_whitespace();
    let state = words.next().unwrap_or_default();
    for (number, word) in numbers.iter_mut().zip(words) {
        *number = word.parse().unwrap_or(0);
    }
    (format!("({comm})"), state.to_owned(), numbers)
}

fn cpu(text: &str) -> [u64; CPU.len()] {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    numbers(line)
}

/// The first numbers of a text.
fn numbers<T: std::str::FromStr + Default + Copy, const N: usize>(text: &str) -> [T; N] {
    let mut numbers = [T::default(); N];
    for (number, word) in numbers.iter_mut().zip(text.split_whitespace()) {
        *number = word.parse().unwrap_or_default();
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_may_have_parentheses() {
        let line = "12 (a) b (c) S 1 2 3 0 -1 4194560 5 0 6 0 70 30 0 0 20 0 9 0 100 200 300 18446744073709551615 1";
        let (comm, state, stat) = stat(line);
        assert_eq!((&*comm, &*state), ("(a) b (c)", "S"));
        assert_eq!((stat[0], stat[4], stat[UTIME], stat[STIME], stat[21]), (1, -1, 70, 30, i128::from(u64::MAX)));
        assert_eq!(super::stat("nonsense").2, [0; STAT.len()]);
    }

    #[test]
    fn tables_of_the_machine_are_read() {
        let memory = Memory::parse("MemTotal:  1000 kB\nMemFree: 400 kB\nBuffers: 50 kB\nCached: 150 kB\n");
        assert_eq!((memory.active(), memory.in_use(), memory.share(), memory.swap_share()), (600, 400, 0.4, 0.0));
        let disks = "   8  0 sda 1 2 10 4 5 6 20 8 0 30 40\n   8  1 sdb 1 2 10 4 5 6 20 8 0 30 40\n";
        let counted = Disks::parse(disks, &["sdb".into()]);
        assert_eq!(counted, Disks { read: 5_120, written: 10_240, busy_ms: 30, devices: 1 });
        let dev = "Inter-| Receive\n face |bytes\n    lo: 7 1 0 0 0 0 0 0 8 1\n  eth0:100 1 0 0 0 0 0 0 200 1 0\n";
        let network = Network::parse(dev);
        assert_eq!(network, Network { received: 100, sent: 200, received_inside: 7, sent_inside: 8 });
        let sockets =
            Sockets::parse("TCP: inuse 7 orphan 0 tw 3 alloc 9\nUDP: inuse 2\n", "Tcp: A CurrEstab\nTcp: 1 5\n");
        assert_eq!(sockets, Sockets { tcp: 10, established: 5, time_wait: 3, udp: 2 });
    }

    #[test]
    fn this_process_is_seen_at_work() {
        let before = Look::take(&[]);
        let start = sys::thread_time().unwrap();
        while sys::thread_time().unwrap() < start + Duration::from_millis(60) {}
        let after = Look::take(&[]);
        assert!(after.own_share(&before) > 0.0 && after.busy_share(&before) > 0.0);
        assert!(after.memory.total > 0 && after.usage[2] > 0 && after.uptime[0] > 0.0);
    }
}
