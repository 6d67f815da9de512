//! What this machine allows the server: checked before anything starts, raised where we may, and where it is
//! too little, said so. Nothing is changed but the soft limits of this process (and the hard ones, as root).

use super::{Shortfall, cgroup, memlock};
use crate::net::sys::{self, Limit, Resource};
use std::fs;
use std::io;

/// More shards than this gain nothing, and the mesh grows with their square.
pub const SHARDS_MAX: usize = 256;

/// Rings, pipes, listeners and files of a shard.
const FILES_PER_SHARD: u64 = 64;
/// Logs, the API, children and what libraries open.
const FILES_SPARE: u64 = 256;

/// What the server may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub shards: usize,
    /// The CPU of each shard, round robin over those this process may run on.
    pub cpus: Vec<usize>,
    /// Entries of each ring of an executor.
    pub ring_depth: usize,
    /// The soft limit, after it was raised.
    pub open_files: u64,
    /// The most connections, or as many as were asked for.
    pub max_connections: usize,
    /// What an operator should know although the server starts.
    pub notes: Vec<String>,
}

/// Measures, raises, decides. Without `wanted_shards`, one a CPU that the CPU set and the cgroup's quota leave.
pub fn check(wanted_shards: Option<usize>, max_connections: Option<usize>) -> Result<Limits, Shortfall> {
    let mut notes = Vec::new();
    let allowed = sys::allowed_cpus()?;
    let shards = shards(wanted_shards, allowed.len(), cgroup::cpu_quota(), &mut notes);
    ring()?;
    let ring_depth = ring_depth(shards, &mut notes)?;
    let open_files = raise_open_files()?;
    let max_connections = connections(shards, open_files, max_connections)?;
    Ok(Limits { shards, cpus: spread(&allowed, shards), ring_depth, open_files, max_connections, notes })
}

fn shards(wanted: Option<usize>, cpus: usize, quota: Option<usize>, notes: &mut Vec<String>) -> usize {
    let usable = quota.map_or(cpus, |quota| quota.min(cpus)).max(1);
    let shards = wanted.unwrap_or(usable).clamp(1, SHARDS_MAX);
    if let Some(wanted) = wanted.filter(|wanted| *wanted != shards) {
        notes.push(format!("{shards} shards run instead of {wanted}: 1 to {SHARDS_MAX} may"));
    }
    if shards > usable {
        notes.push(format!("{shards} shards share {usable} CPUs: fewer shards do more"));
    } else if wanted.is_none() && usable < cpus {
        notes.push(format!("{usable} shards on {cpus} CPUs: the cgroup's CPU quota gives no more"));
    }
    shards
}

/// The CPU of each shard.
fn spread(cpus: &[usize], shards: usize) -> Vec<usize> {
    cpus.iter().copied().cycle().take(shards).collect()
}

fn ring() -> Result<(), Shortfall> {
    let Err(source) = sys::io_uring_probe() else {
        return Ok(());
    };
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    let release = sys::kernel_release().unwrap_or_else(|_| "unknown".into());
    Err(no_ring(source, disabled.as_deref(), release))
}

/// Why there is no ring. A filter may also answer ENOSYS, as if the kernel were old; then the sysctl, which
/// exists since 6.6, gives it away.
fn no_ring(source: io::Error, disabled: Option<&str>, release: String) -> Shortfall {
    let disabled: Option<u32> = disabled.and_then(|value| value.trim().parse().ok());
    match (source.raw_os_error(), disabled) {
        (Some(libc::EPERM | libc::EACCES), Some(value @ 1..)) => Shortfall::SwitchedOff { value },
        (Some(libc::EPERM | libc::EACCES), _) => Shortfall::Blocked { source },
        (Some(libc::ENOSYS), Some(_)) => Shortfall::Blocked { source },
        (Some(libc::ENOSYS), None) => Shortfall::KernelTooOld { release },
        _ => Shortfall::Ring { source },
    }
}

/// The depth that fits into locked memory, which is raised as far as it may be.
fn ring_depth(shards: usize, notes: &mut Vec<String>) -> Result<usize, Shortfall> {
    // One executor more is control.
    let executors = shards.saturating_add(1);
    let [best, .., least] = memlock::DEPTHS;
    let exempt = locks_freely();
    let wish = if exempt { memlock::FLOOR_BYTES } else { memlock::need_bytes(executors, best) };
    let limit = raise(Resource::LockedMemory, wish)?;
    if exempt && limit >= memlock::FLOOR_BYTES {
        return Ok(best);
    }
    let Some(depth) = memlock::depth(executors, limit) else {
        return Err(Shortfall::LockedMemory {
            shards,
            need_kib: memlock::need_bytes(executors, least).div_ceil(1024),
            limit_kib: limit / 1024,
        });
    };
    if depth < best {
        notes.push(format!(
            "rings of depth {depth} instead of {best}: locked memory is limited to {} KiB, and {best} needs {} KiB",
            limit / 1024,
            wish.div_ceil(1024)
        ));
    }
    Ok(depth)
}

/// Root of the machine with CAP_IPC_LOCK is not counted. Root of a container in a user namespace is.
fn locks_freely() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    has_ipc_lock(&status) && is_initial_namespace(&map)
}

/// From /proc/self/status (proc_pid_status(5)): the mask of effective capabilities, in hex.
fn has_ipc_lock(status: &str) -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> CAP_IPC_LOCK & 1 == 1)
}

/// From /proc/self/uid_map (user_namespaces(7)): only the first namespace maps all users to themselves.
fn is_initial_namespace(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

fn raise_open_files() -> Result<u64, Shortfall> {
    let hard = sys::limit(Resource::OpenFiles)?.hard;
    Ok(raise(Resource::OpenFiles, hard)?)
}

/// Raises the soft limit to `wish`, past the hard one where we may, else to the hard one; gives what it is now.
fn raise(resource: Resource, wish: u64) -> io::Result<u64> {
    let now = sys::limit(resource)?;
    if now.soft < wish {
        let beyond = Limit { soft: wish, hard: now.hard.max(wish) };
        let within = Limit { soft: now.hard.min(wish), hard: now.hard };
        // A refusal leaves the limit as it was, and that is what the caller judges.
        let _ = sys::set_limit(resource, beyond).or_else(|_| sys::set_limit(resource, within));
    }
    Ok(sys::limit(resource)?.soft)
}

pub fn connections(shards: usize, open_files: u64, asked: Option<usize>) -> Result<usize, Shortfall> {
    let ours = FILES_PER_SHARD.saturating_mul(shards as u64).saturating_add(FILES_SPARE);
    let possible = open_files.saturating_sub(ours);
    let asked_or_all = asked.unwrap_or(usize::try_from(possible).unwrap_or(usize::MAX)).max(1);
    if asked_or_all as u64 > possible {
        return Err(Shortfall::OpenFiles {
            shards,
            max_connections: asked_or_all,
            need: ours.saturating_add(asked_or_all as u64),
            limit: open_files,
            possible,
        });
    }
    Ok(asked_or_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_carries_two_shards() {
        let limits = check(Some(2), Some(100)).unwrap();
        assert_eq!((limits.shards, limits.cpus.len(), limits.max_connections), (2, 2, 100));
        let allowed = sys::allowed_cpus().unwrap();
        assert!(limits.cpus.iter().all(|cpu| allowed.contains(cpu)));
        assert!(memlock::DEPTHS.contains(&limits.ring_depth));
        let files = sys::limit(Resource::OpenFiles).unwrap();
        assert_eq!((limits.open_files, files.soft), (files.hard, files.hard));
    }

    #[test]
    fn shards_follow_cpus_and_quota_unless_told() {
        let count = |wanted, cpus, quota| shards(wanted, cpus, quota, &mut Vec::new());
        assert_eq!(count(None, 8, None), 8);
        assert_eq!(count(None, 8, Some(3)), 3);
        assert_eq!(count(None, 2, Some(16)), 2);
        assert_eq!(count(Some(5), 2, Some(1)), 5);
        assert_eq!(count(Some(0), 2, None), 1);
        assert_eq!(count(Some(usize::MAX), 2, None), SHARDS_MAX);
    }

    #[test]
    fn crowded_cpus_are_noted() {
        let mut notes = Vec::new();
        shards(Some(16), 2, None, &mut notes);
        assert!(notes[0].contains("16 shards share 2 CPUs"), "{notes:?}");
    }

    #[test]
    fn shards_go_round_the_cpus() {
        assert_eq!(spread(&[1, 4, 6], 5), [1, 4, 6, 1, 4]);
        assert_eq!(spread(&[3], 1), [3]);
    }

    #[test]
    fn missing_ring_is_told_by_its_cause() {
        let why = |errno, disabled| no_ring(io::Error::from_raw_os_error(errno), disabled, "4.18.0".into());
        assert!(matches!(why(libc::ENOSYS, None), Shortfall::KernelTooOld { .. }));
        assert!(matches!(why(libc::ENOSYS, Some("0\n")), Shortfall::Blocked { .. }));
        assert!(matches!(why(libc::EPERM, Some("2\n")), Shortfall::SwitchedOff { value: 2 }));
        assert!(matches!(why(libc::EPERM, Some("0\n")), Shortfall::Blocked { .. }));
        assert!(matches!(why(libc::EACCES, None), Shortfall::Blocked { .. }));
        assert!(matches!(why(libc::ENOMEM, None), Shortfall::Ring { .. }));
    }

    #[test]
    fn capability_counts_only_in_the_first_namespace() {
        assert!(has_ipc_lock("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(!has_ipc_lock("CapEff:\t00000000a80425fb\n"));
        assert!(!has_ipc_lock(""));
        assert!(is_initial_namespace("         0          0 4294967295\n"));
        assert!(!is_initial_namespace("         0     100000      65536\n"));
    }

    #[test]
    fn connections_leave_files_for_the_server_itself() {
        assert_eq!(connections(2, 1024, None).unwrap(), 640);
        assert_eq!(connections(2, 1024, Some(640)).unwrap(), 640);
        let Err(Shortfall::OpenFiles { need, possible, .. }) = connections(2, 1024, Some(641)) else {
            panic!("one too many");
        };
        assert_eq!((need, possible), (1025, 640));
        assert!(connections(16, 1024, None).is_err());
        assert!(connections(1, u64::MAX, None).is_ok());
    }
}
