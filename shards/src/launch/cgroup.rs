//! How much CPU time the cgroup of this process may use: what `docker --cpus` and systemd's CPUQuota set.

use std::fs;
use std::path::Path;

/// CPUs' worth of time, rounded up; `None` without a quota.
pub fn cpu_quota() -> Option<usize> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    own.lines().filter_map(membership).filter_map(tightest).min()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// A line of /proc/self/cgroup (cgroups(7)): `0::/path`, or with version 1 `4:cpu,cpuacct:/path`.
fn membership(line: &str) -> Option<(Version, &str)> {
    let (id, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    if id == "0" && controllers.is_empty() {
        return Some((Version::Two, path));
    }
    controllers.split(',').any(|controller| controller == "cpu").then_some((Version::One, path))
}

/// The least quota of a group and all above it. In a container the path may be the host's and not be there;
/// then the walk ends at the container's own root.
fn tightest((version, path): (Version, &str)) -> Option<usize> {
    let root = match version {
        Version::One => Path::new("/sys/fs/cgroup/cpu"),
        Version::Two => Path::new("/sys/fs/cgroup"),
    };
    let relative = Path::new(path.trim_start_matches('/'));
    relative
        .ancestors()
        .filter_map(|group| {
            let read = |file| fs::read_to_string(root.join(group).join(file)).ok();
            match version {
                Version::One => quota(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?),
                Version::Two => {
                    let max = read("cpu.max")?;
                    let (quota_us, period_us) = max.trim().split_once(' ')?;
                    quota(quota_us, period_us)
                }
            }
        })
        .min()
}

/// Microseconds of CPU time a period, as CPUs. No quota is `max` in version 2, -1 in version 1.
fn quota(quota_us: &str, period_us: &str) -> Option<usize> {
    let quota_us: u64 = quota_us.trim().parse().ok()?;
    let period_us: u64 = period_us.trim().parse().ok().filter(|us| *us > 0)?;
    usize::try_from(quota_us.div_ceil(period_us)).ok().map(|cpus| cpus.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_is_read_in_both_versions() {
        assert_eq!(membership("0::/a.slice"), Some((Version::Two, "/a.slice")));
        assert_eq!(membership("4:cpu,cpuacct:/x:y"), Some((Version::One, "/x:y")));
        assert_eq!(membership("3:cpuset:/"), None);
        assert_eq!(membership("2:cpuacct:/"), None);
        assert_eq!(membership("nonsense"), None);
    }

    #[test]
    fn quota_rounds_up_to_whole_cpus() {
        assert_eq!(quota("150000", "100000\n"), Some(2));
        assert_eq!(quota("200000", "100000"), Some(2));
        assert_eq!(quota("1000", "100000"), Some(1));
        assert_eq!(quota("max", "100000"), None);
        assert_eq!(quota("-1\n", "100000\n"), None);
        assert_eq!(quota("1", "0"), None);
    }
}
