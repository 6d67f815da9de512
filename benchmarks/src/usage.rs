//! What a process has used so far, as Linux counts it (proc(5)).

use std::{
    fs, io,
    time::{Duration, Instant},
};

/// Of the times in /proc/PID/stat, per second: the same on every machine that Linux has today (time(7), USER_HZ).
const TICKS: u64 = 100;
/// Of the numbers in /proc/net/sockstat.
const PAGE: u64 = 4096;

#[derive(Clone, Copy, Debug)]
pub struct Usage {
    at: Instant,
    /// On a CPU, of the threads that live: to the nanosecond.
    cpu: Duration,
    /// Ready to run, but the CPU had others on it.
    waited: Duration,
    /// The two parts of `cpu`, to 10 ms, with the threads that have ended.
    user: Duration,
    system: Duration,
    /// Resident memory, bytes.
    pub resident: u64,
    /// Of all TCP sockets of its network namespace, bytes: a peer on this machine is in it.
    pub tcp_memory: u64,
    pub files: usize,
    pub threads: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    #[error("process {pid}: {file}: {error}")]
    Read { pid: u32, file: &'static str, error: io::Error },
    #[error("process {pid}: {file} has no {field}")]
    Field { pid: u32, file: &'static str, field: &'static str },
}

/// From one look to another.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    pub lasted: Duration,
    pub cpu: Duration,
    pub waited: Duration,
    pub user: Duration,
    pub system: Duration,
}

impl Usage {
    pub fn of(pid: u32) -> Result<Self, UsageError> {
        let at = Instant::now();
        let read = |file: &'static str| {
            fs::read_to_string(format!("/proc/{pid}/{file}")).map_err(|error| UsageError::Read { pid, file, error })
        };
        let (mut cpu, mut waited, mut threads) = (0, 0, 0);
        for task in entries(pid, "task")? {
            // A thread may end meanwhile.
            let Ok(line) = fs::read_to_string(task.join("schedstat")) else { continue };
            let mut numbers = line.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
            cpu += numbers.next().unwrap_or_default();
            waited += numbers.next().unwrap_or_default();
            threads += 1;
        }
        let stat = read("stat")?;
        // The command's name, in brackets, may have anything in it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |nth: usize, field| {
            let ticks: u64 = fields.get(nth).and_then(|field| field.parse().ok()).ok_or(UsageError::Field {
                pid,
                file: "stat",
                field,
            })?;
            Ok(Duration::from_millis(ticks * 1000 / TICKS))
        };
        let kib =
            number(&read("status")?, "VmRSS:", "").ok_or(UsageError::Field { pid, file: "status", field: "VmRSS" })?;
        let sockets = read("net/sockstat")?;
        let pages =
            number(&sockets, "TCP:", "mem").ok_or(UsageError::Field { pid, file: "net/sockstat", field: "mem" })?;
        Ok(Self {
            at,
            cpu: Duration::from_nanos(cpu),
            waited: Duration::from_nanos(waited),
            user: ticks(11, "utime")?,
            system: ticks(12, "stime")?,
            resident: kib << 10,
            tcp_memory: pages * PAGE,
            files: entries(pid, "fd")?.count(),
            threads,
        })
    }

    pub fn since(&self, before: &Self) -> Spent {
        Spent {
            lasted: self.at.saturating_duration_since(before.at),
            cpu: self.cpu.saturating_sub(before.cpu),
            waited: self.waited.saturating_sub(before.waited),
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }
}

impl Spent {
    /// `part` of one CPU, percent.
    pub fn percent(&self, part: Duration) -> f64 {
        100.0 * part.as_secs_f64() / self.lasted.as_secs_f64().max(1e-9)
    }
}

fn entries(pid: u32, file: &'static str) -> Result<impl Iterator<Item = std::path::PathBuf>, UsageError> {
    let entries = fs::read_dir(format!("/proc/{pid}/{file}")).map_err(|error| UsageError::Read { pid, file, error })?;
    Ok(entries.filter_map(Result::ok).map(|entry| entry.path()))
}

/// The number behind `word` (or the first one) on the line that begins with `line`.
fn number(text: &str, line: &str, word: &str) -> Option<u64> {
    let mut words = text.lines().find_map(|found| found.strip_prefix(line))?.split_whitespace();
    if !word.is_empty() {
        words.find(|found| *found == word)?;
    }
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen_as_cpu_time() {
        let pid = std::process::id();
        let before = Usage::of(pid).unwrap();
        let begin = Instant::now();
        // The machine may be lent out or busy meanwhile: work goes on until it is seen.
        let (after, spent) = loop {
            std::hint::black_box((0..100_000u64).fold(0, |work, step| std::hint::black_box(work ^ step)));
            let now = Usage::of(pid).unwrap();
            let spent = now.since(&before);
            if spent.cpu >= Duration::from_millis(100) {
                break (now, spent);
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "{spent:?}");
        };
        assert!(spent.cpu <= spent.lasted * after.threads as u32, "{spent:?}");
        assert!(spent.user + spent.system >= Duration::from_millis(50), "{spent:?}");
        assert!(after.resident > 1 << 20 && after.files > 2 && after.threads > 0);
    }

    #[test]
    fn numbers_are_found_by_their_words() {
        let sockets = "sockets: used 290\nTCP: inuse 29 orphan 0 tw 4 alloc 33 mem 12\nUDP: inuse 2 mem 1\n";
        assert_eq!(number(sockets, "TCP:", "mem"), Some(12));
        assert_eq!(number(sockets, "sockets:", "used"), Some(290));
        assert_eq!(number("VmRSS:\t   5120 kB\n", "VmRSS:", ""), Some(5120));
        assert_eq!(number(sockets, "RAW:", "mem"), None);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Usage::of(u32::MAX).unwrap_err().to_string();
        assert!(error.starts_with("process 4294967295: task:"), "{error}");
    }
}
