//! What the machine lacks, and exactly what to change on bare metal, under systemd and in Docker.

#[derive(Debug, thiserror::Error)]
pub enum Shortfall {
    #[error("this kernel ({release}) has no io_uring: Linux 5.8 or newer is needed, built with CONFIG_IO_URING=y")]
    KernelTooOld { release: String },

    #[error(
        "io_uring is switched off on this machine (kernel.io_uring_disabled = {value}){newline}\
         bare metal, systemd, Docker (on the host): sysctl -w kernel.io_uring_disabled=0, and to keep it: \
         echo kernel.io_uring_disabled=0 > /etc/sysctl.d/60-io_uring.conf{newline}\
         with the value 1, it is enough to put the user into the group of kernel.io_uring_group",
        newline = NEWLINE
    )]
    SwitchedOff { value: u32 },

    #[error(
        "io_uring is blocked ({source}), most likely by a seccomp filter or a security module{newline}\
         bare metal: start without the sandbox (firejail, bwrap), and see `ausearch -m avc -ts recent` for SELinux{newline}\
         systemd: in [Service], SystemCallFilter=@system-service @io-event io_uring_setup io_uring_enter io_uring_register{newline}\
         Docker: --security-opt seccomp=unconfined, or a profile that allows io_uring_setup, io_uring_enter and \
         io_uring_register; and --ulimit memlock=-1",
        newline = NEWLINE
    )]
    Blocked { source: std::io::Error },

    #[error("io_uring does not work here: {source}")]
    Ring { source: std::io::Error },

    #[error(
        "{shards} shards need {need_kib} KiB of locked memory, and the limit is {limit_kib} KiB{newline}\
         bare metal: in /etc/security/limits.conf, `* - memlock {need_kib}` (as root for this shell: ulimit -l {need_kib}){newline}\
         systemd: in [Service], LimitMEMLOCK={need_kib}K{newline}\
         Docker: --ulimit memlock={need_bytes}:{need_bytes}, or --ulimit memlock=-1{newline}\
         or run fewer shards; all processes of a user share one account, unless they have CAP_IPC_LOCK",
        need_bytes = need_kib * 1024, newline = NEWLINE
    )]
    LockedMemory { shards: usize, need_kib: u64, limit_kib: u64 },

    #[error(
        "{max_connections} connections and {shards} shards need {need} open files, and the limit is {limit}{newline}\
         bare metal: in /etc/security/limits.conf, `* - nofile {need}` (as root for this shell: ulimit -n {need}){newline}\
         systemd: in [Service], LimitNOFILE={need}{newline}\
         Docker: --ulimit nofile={need}:{need}{newline}\
         or set max_connections to {possible} or less",
        newline = NEWLINE
    )]
    OpenFiles { shards: usize, max_connections: usize, need: u64, limit: u64, possible: u64 },

    #[error("cannot read what the kernel allows this process: {0}")]
    Unreadable(#[from] std::io::Error),
}

/// Every way out starts on a line of its own.
const NEWLINE: &str = "\n  ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_run_is_told_what_to_change() {
        let seccomp = Shortfall::Blocked { source: std::io::Error::from_raw_os_error(libc::EPERM) };
        let memory = Shortfall::LockedMemory { shards: 16, need_kib: 3000, limit_kib: 1024 };
        let files = Shortfall::OpenFiles { shards: 2, max_connections: 5000, need: 5384, limit: 1024, possible: 640 };
        for shortfall in [seccomp, memory, files] {
            let text = shortfall.to_string();
            for way in ["\n  bare metal: ", "\n  systemd: ", "\n  Docker: "] {
                assert!(text.contains(way), "{way} in {text}");
            }
        }
    }

    #[test]
    fn memory_is_named_in_the_unit_of_each_place() {
        let text = Shortfall::LockedMemory { shards: 16, need_kib: 3000, limit_kib: 1024 }.to_string();
        for part in ["16 shards need 3000 KiB", "ulimit -l 3000", "LimitMEMLOCK=3000K", "memlock=3072000:3072000"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
