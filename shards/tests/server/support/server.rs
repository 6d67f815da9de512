//! A server of the test's own: on free ports, its log collected, gone when the test is.

use super::{
    PATIENCE,
    http::{self, Response},
    process::{Lines, Process, signal},
    until,
};
use serde_json::Value;
use shardcast_engine::key::{DEFAULT_VHOST, StreamKey};
use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Command, ExitStatus},
    time::Duration,
};
use tempfile::TempDir;

pub struct Server {
    process: Process,
    pub ports: Ports,
    pub shards: usize,
    /// Holds its configuration file.
    folder: TempDir,
}

/// The name of that file.
pub const CONF: &str = "test.conf";

#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub rtmp: u16,
    pub http: u16,
    pub api: u16,
    /// UDP.
    pub srt: u16,
    /// UDP.
    pub rtc: u16,
}

/// How often another choice of ports is tried when one was taken meanwhile.
const CHOICES: usize = 5;

impl Server {
    /// A server with the built-in configuration.
    pub fn start(shards: usize) -> Self {
        Self::launch(|_| None, true, &[], shards)
    }

    /// A server with a configuration file. Its ports come from the environment, whatever `conf` says.
    pub fn of_conf(conf: &str, shards: usize) -> Self {
        Self::launch(|_| Some(conf.to_owned()), true, &[], shards)
    }

    /// As [`Self::of_conf`], with more in its environment.
    pub fn of_conf_with(conf: &str, environment: &[(&str, &str)], shards: usize) -> Self {
        Self::launch(|_| Some(conf.to_owned()), true, environment, shards)
    }

    /// A server whose ports are those that the configuration names.
    pub fn of_ports(conf: impl Fn(Ports) -> String, shards: usize) -> Self {
        Self::launch(|ports| Some(conf(ports)), false, &[], shards)
    }

    fn launch(
        conf: impl Fn(Ports) -> Option<String>,
        by_environment: bool,
        environment: &[(&str, &str)],
        shards: usize,
    ) -> Self {
        for _ in 0..CHOICES {
            if let Some(server) = Self::attempt(&conf, by_environment, environment, shards) {
                return server;
            }
        }
        panic!("other programs took all {CHOICES} choices of free ports");
    }

    /// `None` where a port was taken between its choice and the start.
    fn attempt(
        conf: impl Fn(Ports) -> Option<String>,
        by_environment: bool,
        environment: &[(&str, &str)],
        shards: usize,
    ) -> Option<Self> {
        let ports = Ports::free();
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = command(ports);
        command.args(["--shards", &shards.to_string()]).env("SRS_PID", folder.path().join("srs.pid"));
        command.envs(environment.iter().copied());
        if !by_environment {
            for (name, _) in ports.environment() {
                command.env_remove(name);
            }
        }
        if let Some(conf) = conf(ports) {
            let file = folder.path().join(CONF);
            fs::write(&file, conf).expect("write a configuration");
            command.arg("-c").arg(file);
        }
        let process = Process::talking(&mut command);
        let mut server = Self { process, ports, shards, folder };
        let ready = until("the server is ready", || {
            if let Some(status) = server.process.ended() {
                let log = server.log().all().join("\n");
                assert!(log.contains("is taken by"), "the server ended with {status}:\n{log}");
                return Some(false);
            }
            // The API's port may be off; RTMP never is. The control shard says so when all shards run.
            let up = server.log().with(&["is ready after"]).len() == 1;
            (up && TcpStream::connect(local(ports.rtmp)).is_ok()).then_some(true)
        });
        ready.then_some(server)
    }

    /// Writes its configuration file anew, at once for who reads it.
    pub fn rewrite(&self, conf: &str) {
        let fresh = self.folder.path().join("fresh");
        fs::write(&fresh, conf).expect("write a configuration");
        fs::rename(fresh, self.folder.path().join(CONF)).expect("rename a configuration");
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Its exit status, once it ends by itself.
    pub fn wait_for_end(mut self, limit: Duration) -> ExitStatus {
        super::within(limit, "the server ends", || self.process.ended())
    }

    pub fn log(&self) -> &Lines {
        &self.process.lines
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for a log line that has all of `parts` in it.
    pub fn wait_for_log(&self, parts: &[&str]) -> String {
        self.log().wait_for(parts, PATIENCE)
    }

    pub fn rtmp(&self, stream: &str) -> String {
        format!("rtmp://127.0.0.1:{}/{stream}", self.ports.rtmp)
    }

    pub fn flv(&self, stream: &str) -> String {
        format!("http://127.0.0.1:{}/{stream}.flv", self.ports.http)
    }

    pub fn ts(&self, stream: &str) -> String {
        format!("http://127.0.0.1:{}/{stream}.ts", self.ports.http)
    }

    pub fn hls(&self, stream: &str) -> String {
        format!("http://127.0.0.1:{}/{stream}.m3u8", self.ports.http)
    }

    /// The playlist with the segments of `stream`, to one viewer.
    pub fn playlist(&self, stream: &str) -> Response {
        self.get(&format!("/{stream}.m3u8?hls_ctx={}", stream.replace('/', "-")))
    }

    /// Where `stream` is published over SRT.
    pub fn srt_in(&self, stream: &str) -> String {
        format!("srt://127.0.0.1:{}?streamid=#!::r={stream},m=publish", self.ports.srt)
    }

    /// Where `stream` is played over SRT.
    pub fn srt(&self, stream: &str) -> String {
        format!("srt://127.0.0.1:{}?streamid=#!::r={stream},m=request", self.ports.srt)
    }

    /// Where `app/name` is published by WHIP.
    pub fn whip(&self, stream: &str) -> String {
        self.webrtc("whip", stream)
    }

    /// Where `app/name` is played by WHEP.
    pub fn whep(&self, stream: &str) -> String {
        self.webrtc("whep", stream)
    }

    fn webrtc(&self, way: &str, stream: &str) -> String {
        let (app, name) = stream.split_once('/').expect("app/name");
        format!("http://127.0.0.1:{}/rtc/v1/{way}/?app={app}&stream={name}", self.ports.api)
    }

    pub fn get(&self, path: &str) -> Response {
        http::request(self.ports.http, "GET", path, &[])
    }

    /// The API's entry of a stream `app/name` of the default vhost, or `vhost/app/name`.
    pub fn stream(&self, stream: &str) -> Option<Value> {
        let answer = http::request(self.ports.api, "GET", "/api/v1/streams/?count=500", &[]).json();
        let streams = answer["streams"].as_array().expect("streams").clone();
        streams.into_iter().find(|entry| entry["url"] == format!("/{stream}") || entry["url"] == stream)
    }

    /// Waits until a publisher has brought frames.
    pub fn wait_until_live(&self, stream: &str) -> Value {
        until(&format!("{stream} is live"), || {
            let entry = self.stream(stream)?;
            (entry["publish"]["active"] == true && entry["frames"].as_u64() > Some(0)).then_some(entry)
        })
    }

    /// Waits until a stream has gone on for so many pictures.
    pub fn wait_for_pictures(&self, stream: &str, count: usize) {
        let pictures = || self.stream(stream).and_then(|entry| entry["video_frames"].as_u64());
        let wanted = pictures().unwrap_or(0) + count as u64;
        until(&format!("{stream} goes on"), || pictures().filter(|pictures| *pictures >= wanted));
    }

    pub fn wait_until_over(&self, stream: &str) {
        until(&format!("{stream} has no publisher"), || {
            self.stream(stream).is_none_or(|entry| entry["publish"]["active"] == false).then_some(())
        });
    }

    /// Waits until so many play or publish a stream.
    pub fn wait_for_clients(&self, stream: &str, count: u64) {
        until(&format!("{stream} has {count} clients"), || {
            let clients = self.stream(stream).map_or(0, |entry| entry["clients"].as_u64().unwrap_or(0));
            (clients == count).then_some(())
        });
    }

    /// Label sets and values of a metric.
    pub fn metric(&self, name: &str) -> Vec<(String, f64)> {
        let page = http::request(self.ports.api, "GET", "/metrics", &[]).text();
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let of_name = lines.filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        let own = of_name.filter(|(labels, _)| labels.is_empty() || labels.starts_with('{'));
        own.map(|(labels, value)| (labels.to_owned(), value.parse().expect("a number"))).collect()
    }

    /// A metric's values added up, with `label` (`name="value"`) among their labels.
    pub fn total(&self, name: &str, label: &str) -> f64 {
        self.metric(name).iter().filter(|(labels, _)| labels.contains(label)).map(|(_, value)| value).sum()
    }

    /// Resident memory, bytes.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the server's status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kib << 10
    }

    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Ends the server as a service manager does; it must end well and soon.
    pub fn stop(mut self) {
        self.process.terminate();
        let status = super::within(Duration::from_secs(5), "the server ends", || self.process.ended());
        assert!(status.success(), "{status}\n{}", self.log().all().join("\n"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill();
        let log = self.log().all();
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}\n---", log.join("\n"));
        } else if let Some(line) = log.iter().find(|line| line.contains("panicked")) {
            panic!("the server's log has: {line}");
        }
    }
}

impl Ports {
    /// Some that were free a moment ago, below those that the kernel gives to outgoing connections.
    pub fn free() -> Self {
        let held = [(); 3].map(|()| until("a free port", || TcpListener::bind(local(Self::random())).ok()));
        let [rtmp, http, api] = held.each_ref().map(|held| held.local_addr().expect("its address").port());
        let held = [(); 2].map(|()| until("a free UDP port", || UdpSocket::bind(local(Self::random())).ok()));
        let [srt, rtc] = held.each_ref().map(|held| held.local_addr().expect("its address").port());
        Self { rtmp, http, api, srt, rtc }
    }

    fn random() -> u16 {
        let mut bytes = [0; 2];
        getrandom::fill(&mut bytes).expect("random bytes");
        10_000 + u16::from_ne_bytes(bytes) % 20_000
    }

    /// What makes a server listen on them.
    pub fn environment(self) -> [(&'static str, String); 5] {
        let address = |port| local(port).to_string();
        [
            ("SRS_LISTEN", address(self.rtmp)),
            ("SRS_HTTP_SERVER_LISTEN", address(self.http)),
            ("SRS_HTTP_API_LISTEN", address(self.api)),
            ("SRS_SRT_SERVER_LISTEN", address(self.srt)),
            ("SRS_RTC_SERVER_LISTEN", address(self.rtc)),
        ]
    }
}

/// The server's command, told nothing but its ports and to log here.
pub fn command(ports: Ports) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    let foreign = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SRS_"));
    for (name, _) in foreign {
        command.env_remove(name);
    }
    command.env_remove("SHARDCAST_SHARDS").envs(ports.environment());
    command.envs([("SRS_LOG_TANK", "console"), ("SRS_DAEMON", "off")]);
    command
}

pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A name `live/PREFIX…` whose stream lives on shard `home` of `shards`.
pub fn stream_at(home: usize, shards: usize, prefix: &str) -> String {
    let mut names = (0..).map(|n| format!("{prefix}{n}"));
    let name = names.find(|name| StreamKey::new(DEFAULT_VHOST, "live", name).home(shards) == home);
    format!("live/{}", name.expect("endless names"))
}
