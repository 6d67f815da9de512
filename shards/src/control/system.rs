//! What the API tells of the process and the machine. It is read once a second on a thread for blocking calls: the
//! control shard never waits for /proc, and media shards know nothing of it.

use super::{
    Control,
    api::unix_ms,
    proc::{self, Look},
};
use glommio::{executor, timer::sleep};
use serde_json::{Map, Value, json};
use std::{
    cell::RefCell,
    rc::Rc,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

const PERIOD: Duration = Duration::from_secs(1);

/// Members of an rusage as SRS names them.
const USAGE: [&str; 16] = [
    "ru_utime",
    "ru_stime",
    "ru_maxrss",
    "ru_ixrss",
    "ru_idrss",
    "ru_isrss",
    "ru_minflt",
    "ru_majflt",
    "ru_nswap",
    "ru_inblock",
    "ru_oublock",
    "ru_msgsnd",
    "ru_msgrcv",
    "ru_nsignals",
    "ru_nvcsw",
    "ru_nivcsw",
];
const MAXRSS: usize = 2;

/// The newest look and the one before it.
#[derive(Default)]
pub struct System(RefCell<Option<Rc<[Look; 2]>>>);

impl Control {
    /// Looks once a second, for ever; blind while `stats` is off.
    pub async fn watch_system(self: Rc<Self>) {
        loop {
            let config = self.config();
            let looks = if config.stats.enabled {
                let look = executor().spawn_blocking(move || Look::take(&config.stats.disks)).await;
                let before = self.system.0.borrow().as_ref().map_or_else(|| look.clone(), |looks| looks[1].clone());
                Some(Rc::new([before, look]))
            } else {
                None
            };
            *self.system.0.borrow_mut() = looks;
            sleep(PERIOD).await;
        }
    }

    fn looks(&self) -> Option<Rc<[Look; 2]>> {
        self.system.0.borrow().clone()
    }

    /// `GET /api/v1/summaries`.
    pub async fn summaries(&self) -> Value {
        let (mut received, mut sent) = (0, 0);
        for share in self.snapshot().await.iter().flat_map(|shard| &shard.streams) {
            received += share.home.as_ref().map_or(0, |home| home.received);
            sent += share.sent;
        }
        let Some(looks) = self.looks() else { return json!({ "ok": false, "now_ms": unix_ms() }) };
        let [before, now] = &*looks;
        let (read_rate, write_rate, busy) = now.disk_rates(before);
        let (memory, sockets) = (now.memory, now.sockets);
        let used = now.usage[MAXRSS] as f64;
        let arguments: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        let folder = std::env::current_dir().unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        json!({
            "ok": true,
            "now_ms": unix_ms(),
            "self": {
                "version": super::api::version(),
                "pid": std::process::id(),
                "ppid": std::os::unix::process::parent_id(),
                "argv": arguments.join(" "),
                "cwd": folder.to_string_lossy(),
                "mem_kbyte": now.usage[MAXRSS],
                "mem_percent": proc::ratio(used, memory.total as f64),
                "cpu_percent": now.own_share(before),
                "srs_uptime": self.started.elapsed().unwrap_or_default().as_secs(),
            },
            "system": {
                "cpu_percent": now.busy_share(before),
                "disk_read_KBps": read_rate,
                "disk_write_KBps": write_rate,
                "disk_busy_percent": busy,
                "mem_ram_kbyte": memory.total,
                "mem_ram_percent": memory.share(),
                "mem_swap_kbyte": memory.swap_total,
                "mem_swap_percent": memory.swap_share(),
                "cpus": cpus,
                "cpus_online": cpus,
                "uptime": now.uptime[0],
                "ilde_time": now.uptime[1],
                "load_1m": now.loads[0],
                "load_5m": now.loads[1],
                "load_15m": now.loads[2],
                "net_sample_time": now.unix_ms,
                "net_recv_bytes": now.network.received,
                "net_send_bytes": now.network.sent,
                "net_recvi_bytes": now.network.received_inside,
                "net_sendi_bytes": now.network.sent_inside,
                "srs_sample_time": now.unix_ms,
                "srs_recv_bytes": received,
                "srs_send_bytes": sent,
                "conn_sys": sockets.tcp,
                "conn_sys_et": sockets.established,
                "conn_sys_tw": sockets.time_wait,
                "conn_sys_udp": sockets.udp,
                "conn_srs": self.connections_open.load(Ordering::Relaxed),
            },
        })
    }

    /// `GET /api/v1/rusages`.
    pub fn rusages(&self) -> Value {
        let looks = self.looks();
        let usage = looks.as_ref().map_or([0; 16], |looks| looks[1].usage);
        sampled::<u64>(&looks, []).with(USAGE.into_iter().zip(usage)).into()
    }

    /// `GET /api/v1/self_proc_stats`.
    pub fn self_proc_stats(&self) -> Value {
        let looks = self.looks();
        let percent = looks.as_ref().map_or(0.0, |looks| looks[1].own_share(&looks[0]));
        let (comm, state, stat) = match &looks {
            Some(looks) => (&*looks[1].comm, &*looks[1].state, looks[1].stat),
            None => ("", "", [0; proc::STAT.len()]),
        };
        let first: [(_, Value); 4] = [
            ("percent", percent.into()),
            ("pid", std::process::id().into()),
            ("comm", comm.into()),
            ("state", state.into()),
        ];
        // Some are unsigned and some signed, all of 64 bit.
        let number = |number| u64::try_from(number).map_or_else(|_| (number as i64).into(), Value::from);
        sampled(&looks, first).with(proc::STAT.into_iter().zip(stat.map(number))).into()
    }

    /// `GET /api/v1/system_proc_stats`.
    pub fn system_proc_stats(&self) -> Value {
        let looks = self.looks();
        let percent = looks.as_ref().map_or(0.0, |looks| looks[1].busy_share(&looks[0]));
        let cpu = looks.as_ref().map_or([0; proc::CPU.len()], |looks| looks[1].cpu);
        sampled(&looks, [("percent", percent)]).with(proc::CPU.into_iter().zip(cpu)).into()
    }

    /// `GET /api/v1/meminfos`.
    pub fn meminfos(&self) -> Value {
        let looks = self.looks();
        let memory = looks.as_ref().map_or_else(Default::default, |looks| looks[1].memory);
        let shares = [("percent_ram", memory.share()), ("percent_swap", memory.swap_share())];
        let kb = [
            ("MemActive", memory.active()),
            ("RealInUse", memory.in_use()),
            ("NotInUse", memory.total.saturating_sub(memory.in_use())),
            ("MemTotal", memory.total),
            ("MemFree", memory.free),
            ("Buffers", memory.buffers),
            ("Cached", memory.cached),
            ("SwapTotal", memory.swap_total),
            ("SwapFree", memory.swap_free),
        ];
        sampled(&looks, shares).with(kb).into()
    }
}

/// When the server's program was made: the time of its file.
pub fn built() -> SystemTime {
    let made = std::env::current_exe().and_then(std::fs::metadata).and_then(|about| about.modified());
    made.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// An object in the making.
struct Members(Map<String, Value>);

/// What each sample starts with.
fn sampled<V: Into<Value>>(
    looks: &Option<Rc<[Look; 2]>>,
    more: impl IntoIterator<Item = (&'static str, V)>,
) -> Members {
    let time = looks.as_ref().map_or(0, |looks| looks[1].unix_ms);
    let start: [(_, Value); 2] = [("ok", looks.is_some().into()), ("sample_time", time.into())];
    Members(Map::new()).with(start).with(more)
}

impl Members {
    fn with<V: Into<Value>>(mut self, more: impl IntoIterator<Item = (&'static str, V)>) -> Self {
        self.0.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value.into())));
        self
    }
}

impl From<Members> for Value {
    fn from(members: Members) -> Self {
        Value::Object(members.0)
    }
}
