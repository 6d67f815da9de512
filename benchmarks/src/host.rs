//! A Shardcast that is measured: on ports of its own, gone with its value.

use crate::{
    child::{ChildError, Tied, shardbench},
    stand::Cpus,
    sys,
};
use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

const START: Duration = Duration::from_secs(20);
const LOOK_UP: Duration = Duration::from_millis(20);
/// Of the sound beside the test picture.
const SOUND_KBPS: u32 = 32;
const STREAM: &str = "live/bench";

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The server's program
    #[arg(long, value_name = "FILE", default_value = "target/release/shardcast")]
    server: PathBuf,
    /// CPUs that the server runs on, as in 1,4-7; a shard for each
    #[arg(long, value_name = "LIST", default_value = "0")]
    pub server_cpus: Cpus,
    /// CPUs that viewers and publishers run on
    #[arg(long, value_name = "LIST", default_value = "1")]
    pub cpus: Cpus,
}

#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error("socket: {0}")]
    Io(#[from] io::Error),
    #[error("{0} ended with {1} before it served")]
    Ended(PathBuf, ExitStatus),
    #[error("{0} does not serve within {START:?}")]
    Late(PathBuf),
    #[error("the server has no metric {0}")]
    Metric(String),
}

pub struct Host {
    process: Tied,
    rtmp: u16,
    http: u16,
    https: u16,
    api: u16,
    cpus: Cpus,
    /// Holds its certificate and its pid file.
    folder: PathBuf,
}

impl Host {
    /// `window`: vhost.play.mw_latency, ms; what is built in without it.
    pub fn start(options: &Options, window: Option<u32>) -> Result<Self, HostError> {
        let held = [tcp()?, tcp()?, tcp()?, tcp()?];
        let [rtmp, http, https, api] = held.each_ref().map(|(_, port)| *port);
        let [srt, rtc] = [udp()?, udp()?];
        drop(held);
        let folder = std::env::temp_dir().join(format!("shardbench-{}-{rtmp}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let file = |name: &str| folder.join(name).display().to_string();
        let mut command = Command::new(&options.server);
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
        command.args(["--shards", &options.server_cpus.0.len().to_string()]).envs([
            ("SRS_LISTEN", at(rtmp)),
            ("SRS_HTTP_SERVER_LISTEN", at(http)),
            ("SRS_HTTP_API_LISTEN", at(api)),
            ("SRS_SRT_SERVER_LISTEN", at(srt)),
            ("SRS_RTC_SERVER_LISTEN", at(rtc)),
            // On without a conf, and no part of what is measured.
            ("SRS_VHOST_HLS_ENABLED", "off".into()),
            ("SRS_DAEMON", "off".into()),
            ("SRS_LOG_TANK", "console".into()),
            ("SRS_PID", file("pid")),
        ]);
        if certify(&file("key"), &file("cert")) {
            command.envs([
                ("SRS_HTTP_SERVER_HTTPS_ENABLED", "on".into()),
                ("SRS_HTTP_SERVER_HTTPS_LISTEN", at(https)),
                ("SRS_HTTP_SERVER_HTTPS_KEY", file("key")),
                ("SRS_HTTP_SERVER_HTTPS_CERT", file("cert")),
            ]);
        }
        command.envs(window.map(|ms| ("SRS_VHOST_PLAY_MW_LATENCY", ms.to_string())));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        sys::pin_child(&mut command, options.server_cpus.0.clone());
        let mut host =
            Self { process: Tied::start(&mut command)?, rtmp, http, https, api, cpus: options.cpus.clone(), folder };
        wait_for(&mut host.process, &options.server, rtmp)?;
        Ok(host)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Where `way` (rtmp, http, https, ws or wss) plays the stream of [`Host::publish`].
    pub fn url(&self, way: &str) -> String {
        match way {
            "rtmp" => self.rtmp(STREAM),
            "https" | "wss" => format!("{way}://127.0.0.1:{}/{STREAM}.flv", self.https),
            _ => format!("{way}://127.0.0.1:{}/{STREAM}.flv", self.http),
        }
    }

    pub fn rtmp(&self, stream: &str) -> String {
        format!("rtmp://127.0.0.1:{}/{stream}", self.rtmp)
    }

    /// What the server says of a metric, over all its labels.
    pub fn metric(&self, name: &str) -> Result<f64, HostError> {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.api))?;
        socket.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let values = answer.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.reduce(|sum, value| sum + value).ok_or_else(|| HostError::Metric(name.into()))
    }

    /// One stream, of `kbps` with its sound, 25 pictures a second and a keyframe every two.
    pub fn publish(&self, kbps: u32) -> Result<Tied, ChildError> {
        self.publish_many(&self.rtmp(STREAM), kbps, &[])
    }

    pub fn publish_many(&self, url: &str, kbps: u32, more: &[&str]) -> Result<Tied, ChildError> {
        publish(&self.cpus, url, kbps, more)
    }
}

/// Waits until `process`, of `program`, listens at `port`.
pub fn wait_for(process: &mut Tied, program: &Path, port: u16) -> Result<(), HostError> {
    let deadline = Instant::now() + START;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if let Some(status) = process.ended()? {
            return Err(HostError::Ended(program.into(), status));
        }
        if Instant::now() > deadline {
            return Err(HostError::Late(program.into()));
        }
        thread::sleep(LOOK_UP);
    }
    Ok(())
}

/// A stream at `url`, of `kbps` with its sound.
pub fn publish(cpus: &Cpus, url: &str, kbps: u32, more: &[&str]) -> Result<Tied, ChildError> {
    let picture = kbps.saturating_sub(SOUND_KBPS).to_string();
    let mut command = shardbench()?;
    command.args(["publish", url, "--size", "320x180", "--fps", "25", "--gop", "50", "--fill", "--kbps", &picture]);
    command.args(["--audio-kbps", &SOUND_KBPS.to_string(), "--cpus", &cpus.to_string()]).args(more);
    Tied::start(command.stdout(Stdio::null()))
}

impl Drop for Host {
    fn drop(&mut self) {
        // What is left of it is in a folder for such.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Writes a key and a certificate for it; false where there is no openssl: then nothing is served over TLS.
fn certify(key: &str, cert: &str) -> bool {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt"]);
    openssl.args(["ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost", "-keyout", key, "-out", cert]);
    openssl.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}

/// Held until it is given on: another program may take it then, and the server says so.
pub fn tcp() -> io::Result<(TcpListener, u16)> {
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = held.local_addr()?.port();
    Ok((held, port))
}

fn udp() -> io::Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// What `play` is told to measure `number` viewers of the published stream.
pub fn viewers(host: &Host, way: &str, number: u32, duration: f64) -> Vec<String> {
    arguments(&host.url(way), host.pid(), number, duration, &host.cpus)
}

/// Likewise of any server.
pub fn arguments(url: &str, pid: u32, number: u32, duration: f64, cpus: &Cpus) -> Vec<String> {
    let pairs = [
        ("-n", number.to_string()),
        ("--for", duration.to_string()),
        ("--settle", "2".into()),
        ("--server-pid", pid.to_string()),
        ("--cpus", cpus.to_string()),
    ];
    let pairs = pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    [url.to_owned()].into_iter().chain(pairs).collect()
}
