//! How much locked memory (RLIMIT_MEMLOCK) a number of executors needs at a ring depth. Arithmetic only.

use super::executor::{IO_MEMORY, WARM_UP_DEPTH};

/// The depths to choose from, the best first.
pub const DEPTHS: [usize; 5] = [1024, 512, 256, 128, 64];

/// glommio refuses to start under this soft limit, whatever the depth and the user.
pub const FLOOR_BYTES: u64 = 512 << 10;

const PAGE: u64 = 4096;
const RINGS: u64 = 3;

/// The largest depth at which all executors fit.
pub fn depth(executors: usize, allowed_bytes: u64) -> Option<usize> {
    DEPTHS.into_iter().find(|depth| need_bytes(executors, *depth) <= allowed_bytes)
}

/// Bytes for all executors, with an eighth to spare: the kernel gives the memory of a closed ring (the
/// warm-up's) back late, and ordinary users share one account among all their processes.
pub fn need_bytes(executors: usize, depth: usize) -> u64 {
    let all = executor_bytes(depth).saturating_mul(executors as u64).saturating_add(executor_bytes(WARM_UP_DEPTH));
    all.saturating_add(all / 8).max(FLOOR_BYTES)
}

/// Three rings, each with its queues and the registered buffer. The queues of io_uring (io_uring_setup(2)):
/// an entry of 64 bytes and an index of 4 a submission; two completions of 16 bytes a submission; one head.
/// Kernels 5.12 to 6.12 count the queues elsewhere (memcg): there it is an upper bound.
fn executor_bytes(depth: usize) -> u64 {
    const HEAD: u64 = 128;
    let depth = depth.next_power_of_two() as u64;
    let submissions = (depth * 64).next_multiple_of(PAGE);
    let indices_and_completions = (HEAD + depth * (4 + 2 * 16)).next_multiple_of(PAGE);
    RINGS * (submissions + indices_and_completions + IO_MEMORY as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn need_matches_what_was_measured() {
        // Linux 6.18, ordinary user, the smallest limit under which 17 executors start:
        // 4341 KiB at depth 256, 5572 KiB at 512, more than 8192 KiB at 1024.
        for (depth, least_kib) in [(256, 4341), (512, 5572), (1024, 8192)] {
            let need_kib = need_bytes(17, depth) / 1024;
            assert!(need_kib > least_kib, "{depth}: {need_kib} KiB");
            assert!(need_kib < least_kib * 13 / 10, "{depth}: {need_kib} KiB");
        }
    }

    #[test]
    fn depth_is_lowered_before_giving_up() {
        assert_eq!(depth(17, u64::MAX), Some(1024));
        assert_eq!(depth(17, 8 * MIB), Some(512));
        assert_eq!(depth(17, 6 * MIB), Some(256));
        assert_eq!(depth(3, 8 * MIB), Some(1024));
        assert_eq!(depth(17, 2 * MIB), None);
        assert_eq!(depth(1, FLOOR_BYTES - 1), None);
        assert_eq!(depth(usize::MAX, u64::MAX - 1), None);
    }

    #[test]
    fn need_grows_with_depth_and_executors() {
        for pair in DEPTHS.windows(2) {
            assert!(need_bytes(5, pair[0]) > need_bytes(5, pair[1]));
        }
        assert!(need_bytes(6, 64) > need_bytes(5, 64));
    }
}
