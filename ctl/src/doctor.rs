//! `shardctl doctor`: whether this machine lets a server do what it can, and whether the server's ports and the
//! addresses that it tells its clients are reachable from here. Each shortcoming comes with what mends it.

use crate::{
    http::{Error, Server},
    player::Player,
    stun,
    table::text,
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What the server asks of the kernel for each UDP socket, bytes.
const UDP_BUFFER: u64 = 4 << 20;
/// 16 shards at full depth need so much, KiB; the server says at its start exactly what it lacks.
const LOCKED_KIB: u64 = 16 << 10;
const OPEN_FILES: u64 = 65_536;
/// The server's clock may be so far from ours.
const SKEW_MS: u64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(1);
/// What a server without configuration listens on.
const PORTS: [(&str, u16); 3] = [("RTMP", 1935), ("HTTP", 8080), ("the API", 1985)];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grade {
    Good,
    /// Nobody can tell from here.
    Open,
    /// It works, for worse.
    Poor,
    Bad,
}

#[derive(Debug)]
pub struct Finding {
    grade: Grade,
    what: String,
    /// A command, or what to do.
    mend: &'static str,
}

impl Finding {
    fn new(grade: Grade, what: impl Into<String>, mend: &'static str) -> Self {
        Self { grade, what: what.into(), mend }
    }

    fn good(what: impl Into<String>) -> Self {
        Self::new(Grade::Good, what, "")
    }

    /// Good, or of this grade.
    fn of(good: bool, grade: Grade, what: String, mend: &'static str) -> Self {
        if good { Self::good(what) } else { Self::new(grade, what, mend) }
    }

    pub fn is_bad(&self) -> bool {
        self.grade == Grade::Bad
    }

    pub fn to_json(&self) -> Value {
        json!({ "grade": self.word().trim(), "what": self.what, "mend": self.mend })
    }

    pub fn lines(&self) -> Vec<String> {
        let line = format!("{} {}", self.word(), self.what);
        if self.grade == Grade::Good { vec![line] } else { vec![line, format!("     {}", self.mend)] }
    }

    fn word(&self) -> &'static str {
        match self.grade {
            Grade::Good => "good",
            Grade::Open => "open",
            Grade::Poor => "poor",
            Grade::Bad => "BAD ",
        }
    }
}

/// Of this machine, and of the server where it answers.
/// `play` is what it may begin to play there.
pub fn examine(server: &Server, play: Option<&str>) -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let summaries = server.get("/api/v1/summaries");
    // Its limits count where it runs here; else those of this shell.
    let pid = summaries.as_ref().ok().and_then(|answer| answer["pid"].as_str()).unwrap_or("self");
    let is_here = read(&format!("/proc/{pid}/comm")) == "shardcast";
    let of = if is_here { format!("/proc/{pid}") } else { "/proc/self".into() };
    let status = read(&format!("{of}/status"));
    let mut findings = vec![ring(&read("/proc/sys/kernel/osrelease"), &read("/proc/sys/kernel/io_uring_disabled"))];
    if !is_here && field(&status, "Seccomp:") == Some("2") {
        let what = "a seccomp filter is on here, and may block io_uring";
        findings.push(Finding::new(Grade::Poor, what, "docker run --security-opt seccomp=unconfined"));
    }
    findings.extend(limits(&read(&format!("{of}/limits")), locks_freely(&status)));
    for name in ["rmem_max", "wmem_max"] {
        findings.extend(buffer(name, &read(&format!("/proc/sys/net/core/{name}"))));
    }
    findings.extend(clock(&read("/sys/devices/system/clocksource/clocksource0/current_clocksource"), &synchronised()));
    findings.extend(governors());
    match summaries {
        Ok(summaries) => findings.extend(of_server(server, &summaries, play)),
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::ConnectionRefused => {
            findings.push(Finding::new(Grade::Poor, format!("no server answers at {}", server.address), "start it"));
            findings.extend(PORTS.map(|(name, port)| free(name, port)));
        }
        Err(error) => findings.push(Finding::new(Grade::Bad, error.to_string(), "see --server, --user and --token")),
    }
    findings
}

fn ring(release: &str, disabled: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    if version < (5, 8) {
        let what = format!("io_uring: kernel {release} is older than 5.8");
        return Finding::new(Grade::Bad, what, "install a newer kernel");
    }
    if !matches!(disabled, "" | "0") {
        let what = format!("io_uring is switched off (kernel.io_uring_disabled = {disabled})");
        return Finding::new(Grade::Bad, what, "sysctl -w kernel.io_uring_disabled=0");
    }
    Finding::good(format!("io_uring: kernel {release} has it, and it is not switched off"))
}

/// From /proc/PID/limits (proc_pid_limits(5)): the hard ones, to which the server raises its own.
fn limits(text: &str, locks_freely: bool) -> Vec<Finding> {
    let hard = |name: &str| -> Option<u64> {
        let word = text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().nth(1)?;
        if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() }
    };
    let shown = |value: u64, unit: &str| if value == u64::MAX { "unlimited".into() } else { format!("{value}{unit}") };
    let mut findings = Vec::new();
    if let Some(bytes) = hard("Max locked memory") {
        let kib = if bytes == u64::MAX { bytes } else { bytes >> 10 };
        let what = format!("locked memory: {}{}", shown(kib, " KiB"), if locks_freely { ", not counted" } else { "" });
        let mend = "ulimit -l unlimited; in a unit: LimitMEMLOCK=infinity; docker run --ulimit memlock=-1";
        findings.push(Finding::of(locks_freely || kib >= LOCKED_KIB, Grade::Poor, what, mend));
    }
    if let Some(files) = hard("Max open files") {
        let mend = "ulimit -n 1048576; in a unit: LimitNOFILE=1048576; docker run --ulimit nofile=1048576";
        let what = format!("open files: {}", shown(files, ""));
        findings.push(Finding::of(files >= OPEN_FILES, Grade::Poor, what, mend));
    }
    findings
}

/// From /proc/PID/status: CAP_IPC_LOCK is effective.
fn locks_freely(status: &str) -> bool {
    let mask = field(status, "CapEff:").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    mask.is_some_and(|mask| mask >> 14 & 1 == 1)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn buffer(name: &str, value: &str) -> Option<Finding> {
    let bytes: u64 = value.parse().ok()?;
    let mend =
        if name == "rmem_max" { "sysctl -w net.core.rmem_max=4194304" } else { "sysctl -w net.core.wmem_max=4194304" };
    Some(Finding::of(bytes >= UDP_BUFFER, Grade::Poor, format!("UDP buffers: net.core.{name} = {bytes}"), mend))
}

/// `synchronised` is `yes`, `no`, or nothing where nobody knows.
fn clock(source: &str, synchronised: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !source.is_empty() {
        let slow = matches!(source, "hpet" | "acpi_pm" | "jiffies");
        let mend = "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource";
        findings.push(Finding::of(!slow, Grade::Poor, format!("clock: read from {source}"), mend));
    }
    if matches!(synchronised, "yes" | "no") {
        let what = format!("clock: synchronised by NTP: {synchronised}");
        findings.push(Finding::of(synchronised == "yes", Grade::Poor, what, "timedatectl set-ntp true"));
    }
    findings
}

fn synchronised() -> String {
    let asked = Command::new("timedatectl").args(["show", "-p", "NTPSynchronized", "--value"]).output();
    asked.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Nothing where the machine has none, as virtual ones.
fn governors() -> Option<Finding> {
    let cpus = fs::read_dir("/sys/devices/system/cpu").ok()?.flatten();
    let governor = |cpu: fs::DirEntry| fs::read_to_string(cpu.path().join("cpufreq/scaling_governor")).ok();
    let all: Vec<_> = cpus.filter_map(governor).collect();
    let first = all.first()?;
    let slow = all.iter().filter(|governor| governor.trim() != "performance").count();
    let what = format!("CPU governor: {}; {slow} of {} CPUs are not at performance", first.trim(), all.len());
    Some(Finding::of(slow == 0, Grade::Poor, what, "cpupower frequency-set -g performance"))
}

fn free(name: &str, port: u16) -> Finding {
    match TcpListener::bind(("0.0.0.0", port)) {
        Ok(_) => Finding::good(format!("port {port} of {name} is free")),
        Err(error) => Finding::new(Grade::Bad, format!("port {port} of {name}: {error}"), "ss -ltnp shows who has it"),
    }
}

fn of_server(server: &Server, summaries: &Value, play: Option<&str>) -> Vec<Finding> {
    let mut findings = vec![Finding::good(format!("a server answers at {}", server.address))];
    let theirs = summaries["data"]["now_ms"].as_u64().unwrap_or_default();
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let skew = theirs.abs_diff(ours);
    let what = format!("clock: {skew} ms between the server's and ours");
    findings.push(Finding::of(skew < SKEW_MS, Grade::Poor, what, "timedatectl set-ntp true, on both machines"));
    let Ok(places) = server.fetch("/config.json") else { return findings };
    let host = server.address.rsplit_once(':').map_or(&*server.address, |(host, _)| host);
    let port = |name: &str| places[name].as_u64().and_then(|port| u16::try_from(port).ok());
    if let Some(port) = port("rtmp_port") {
        findings.push(reach(
            &format!("RTMP at {host}:{port}"),
            tcp(&format!("{host}:{port}")),
            "open its TCP port in the firewall",
        ));
    }
    if let Some(port) = port("srt_port") {
        let answered = udp(&format!("{host}:{port}"), &srt_induction());
        findings.push(reach(&format!("SRT at {host}:{port}"), answered, "open its UDP port in the firewall"));
    }
    match play.map(|stream| Player::begin(server, stream)) {
        Some(Ok(player)) => findings.extend(player.candidates.iter().map(|candidate| as_player(&player, candidate))),
        Some(Err(error)) => findings.push(Finding::new(Grade::Bad, format!("WebRTC: {error}"), "see the server's log")),
        None => findings.extend(places["candidates"].as_array().into_iter().flatten().map(|at| as_stranger(&text(at)))),
    }
    findings
}

/// What mends WebRTC that is not reached.
const CANDIDATE: &str = "set rtc_server.candidate to an address that clients reach, and open its UDP port";

/// The server has no answer for strangers, so that it cannot be made to send to others.
fn as_stranger(candidate: &str) -> Finding {
    let what = format!("WebRTC at {candidate}");
    match udp(candidate, &stun::request(transaction())) {
        Knock::Silent => {
            let mend = "shardctl doctor --play APP/STREAM asks as a player of it";
            Finding::new(Grade::Open, format!("{what} does not refuse; only a player can tell"), mend)
        }
        knock => reach(&what, knock, CANDIDATE),
    }
}

fn as_player(player: &Player, candidate: &str) -> Finding {
    let check = stun::check(&player.user, &player.password, transaction());
    let knock = match udp(candidate, &check) {
        Knock::Answered(answer) if !stun::is_answered(&check, &answer) => {
            Knock::Refused(io::Error::other("what answers is not this server"))
        }
        knock => knock,
    };
    reach(&format!("WebRTC at {candidate}"), knock, CANDIDATE)
}

/// Another one each time.
fn transaction() -> [u8; 12] {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut transaction = [0; 12];
    transaction.copy_from_slice(&since.as_nanos().to_be_bytes()[4..]);
    transaction
}

/// What came of knocking; an answer to UDP that does not come says little.
enum Knock {
    /// With this, by UDP.
    Answered(Vec<u8>),
    Silent,
    Refused(io::Error),
}

fn reach(what: &str, knock: Knock, mend: &'static str) -> Finding {
    match knock {
        Knock::Answered(_) => Finding::good(format!("{what} answers")),
        Knock::Silent => Finding::new(Grade::Poor, format!("{what} says nothing, and is not refused"), mend),
        Knock::Refused(error) => Finding::new(Grade::Bad, format!("{what} is not reachable from here: {error}"), mend),
    }
}

fn tcp(address: &str) -> Knock {
    match resolve(address).and_then(|address| TcpStream::connect_timeout(&address, PATIENCE)) {
        Ok(_) => Knock::Answered(Vec::new()),
        Err(error) => Knock::Refused(error),
    }
}

fn udp(address: &str, request: &[u8]) -> Knock {
    let knock = || -> io::Result<Vec<u8>> {
        let to = resolve(address)?;
        let socket = UdpSocket::bind(if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" })?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(request)?;
        let mut answer = vec![0; 1500];
        let length = socket.recv(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    };
    match knock() {
        Ok(answer) => Knock::Answered(answer),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Knock::Silent,
        Err(error) => Knock::Refused(error),
    }
}

fn resolve(address: &str) -> io::Result<SocketAddr> {
    address.to_socket_addrs()?.next().ok_or(ErrorKind::AddrNotAvailable.into())
}

/// The first packet of a caller (draft-sharabayko-srt §3.2.1, §4.3.1.1): a handshake of version 4 and type 1.
fn srt_induction() -> [u8; 64] {
    let mut packet = [0; 64];
    packet[0] = 0x80;
    for (at, value) in [(16, 4u32), (20, 2), (28, 1500), (32, 8192), (36, 1), (40, 1)] {
        packet[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_judged() {
        let grade = |release, disabled| ring(release, disabled).grade;
        assert_eq!(grade("6.8.0-45-generic", "0"), Grade::Good);
        assert_eq!(grade("5.8.0", ""), Grade::Good);
        assert_eq!(grade("5.4.0-1-amd64", ""), Grade::Bad);
        assert_eq!(grade("6.8.0", "2"), Grade::Bad);
        assert_eq!(ring("6.8.0", "2").lines()[1].trim(), "sysctl -w kernel.io_uring_disabled=0");
    }

    #[test]
    fn limits_are_those_to_which_the_server_may_go() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n\
                    Max locked memory         65536                8388608              bytes     \n";
        let grades = |free| limits(text, free).iter().map(|finding| finding.grade).collect::<Vec<_>>();
        assert_eq!(grades(false), [Grade::Poor, Grade::Good]);
        assert_eq!(grades(true), [Grade::Good, Grade::Good]);
        assert!(limits("", false).is_empty());
        assert!(locks_freely("Name:\tx\nCapEff:\t000001ffffffffff\n") && !locks_freely("CapEff:\t00000000a80425fb\n"));
    }

    #[test]
    fn buffers_and_clocks_are_judged() {
        assert_eq!(buffer("rmem_max", "212992").map(|finding| finding.grade), Some(Grade::Poor));
        assert_eq!(buffer("wmem_max", "4194304").map(|finding| finding.grade), Some(Grade::Good));
        let grades = |source, ntp| clock(source, ntp).iter().map(|finding| finding.grade).collect::<Vec<_>>();
        assert_eq!(grades("tsc", "no"), [Grade::Good, Grade::Poor]);
        assert_eq!(grades("hpet", ""), [Grade::Poor]);
    }

    #[test]
    fn what_refuses_is_told_from_what_is_silent() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("its address").to_string();
        assert!(matches!(udp(&address, &srt_induction()), Knock::Silent));
        drop(socket);
        assert!(matches!(udp(&address, &srt_induction()), Knock::Refused(_)));
    }
}
