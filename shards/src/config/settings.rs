//! The configuration in types, as the rest of the server reads it.

use super::{
    BadValue, Env, Illegal, Listen, SyntaxError,
    check::{Remarks, check},
    grammar::{self, Directive},
    legacy,
    scope::Scope,
};
use crate::access::{Refer, Rule, Security};
use crate::net::certificates::Pair;
use shardcast_engine::{
    key::{DEFAULT_VHOST, StreamKey},
    time::Timestamp,
};
use shardcast_protocols::{
    hls::{self, BadTemplate, Names, Template},
    srt::{
        Bandwidth,
        stream_id::{Defaults, Mode},
    },
};
use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

/// What a start without a file serves.
const BUILT_IN: &str = "
    listen 1935;
    daemon off;
    srs_log_tank console;
    http_server { enabled on; }
    http_api { enabled on; }
    srt_server { enabled on; }
    rtc_server { enabled on; }
    vhost __defaultVhost__ {
        http_remux { enabled on; }
        hls { enabled on; hls_fragment 2; hls_window 12; }
        srt { enabled on; }
        rtc { enabled on; rtmp_to_rtc on; rtc_to_rtmp on; pli_for_rtmp 2; }
    }
";

/// What a start by variables alone serves: what they say, for the default vhost.
const ENV_ONLY: &str = "vhost __defaultVhost__ {}";

/// Where a configuration comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    BuiltIn,
    /// The environment alone.
    EnvOnly,
    /// A file of SRS. A relative path starts at the folder of the environment.
    File(PathBuf),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    pub source: Source,
    pub process: Process,
    /// `None`: one per core.
    pub shards: Option<usize>,
    /// `None`: not set.
    pub max_connections: Option<usize>,
    /// Of one address, or one /64 of IPv6.
    pub max_connections_per_ip: usize,
    /// Mirrors included.
    pub max_streams_per_shard: usize,
    /// Who comes to the ports of RTMP is a proxy that says whose connection it brings.
    pub proxy_protocol: bool,
    /// Empty only where the environment alone is asked and says nothing.
    pub rtmp_listen: Vec<Listen>,
    /// RTMP over TLS.
    pub rtmps: Tls,
    /// RTMP, outgoing, in bytes: 1..=16777215.
    pub chunk_size: u32,
    pub http_server: HttpServer,
    pub http_api: HttpApi,
    pub srt_server: SrtServer,
    pub rtc_server: RtcServer,
    pub circuit_breaker: CircuitBreaker,
    pub log: Log,
    /// How often the log sums up what clients do; zero: never.
    pub pithy: Duration,
    pub stats: Stats,
    pub exporter: Exporter,
    pub heartbeat: Heartbeat,
    /// Unique names, disabled ones too: look them up with [`Config::vhost`].
    pub vhosts: Vec<Vhost>,
    /// Dotted names of directives that are there and do nothing in this version, each once.
    pub accepted: Vec<String>,
    /// Old spellings, repetitions and odd values, each with its place.
    pub warnings: Vec<String>,
    /// What was read, for the difference to what is read later.
    pub(super) tree: Vec<Directive>,
}

/// The process: how it starts, ends and is found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// It goes into the background.
    pub daemon: bool,
    /// `None`: it has no pid file.
    pub pid: Option<PathBuf>,
    /// `None`: from the file beside the pid file, else random.
    pub server_id: Option<String>,
    pub work_dir: PathBuf,
    /// It ends when its parent does.
    pub asprocess: bool,
    /// A graceful end: the wait before the ports close,
    pub grace_start_wait: Duration,
    /// the time that sessions have from then on, `None` for any,
    pub grace_sessions_wait: Option<Duration>,
    /// and the wait after the last of them.
    pub grace_final_wait: Duration,
    /// SIGTERM means a graceful end.
    pub force_grace_quit: bool,
    /// A file that changes is read again.
    pub auto_reload: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpServer {
    pub enabled: bool,
    pub listen: Vec<Listen>,
    pub dir: PathBuf,
    pub crossdomain: bool,
    pub https: Tls,
}

/// A protocol's ports with TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    pub enabled: bool,
    pub listen: Vec<Listen>,
    /// Never empty: the first one is for clients that name none of the others' hosts.
    pub pairs: Vec<Pair>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpApi {
    pub enabled: bool,
    /// May equal the one of the HTTP server: both then share the port.
    pub listen: Vec<Listen>,
    pub crossdomain: bool,
    /// Likewise.
    pub https: Tls,
    pub raw_api: RawApi,
    /// Who may use it; `None`: everyone.
    pub auth: Option<Auth>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawApi {
    pub enabled: bool,
    pub allow_reload: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Auth {
    Basic {
        username: String,
        password: String,
    },
    /// With `rtc`, WHIP and WHEP need it too.
    Bearer {
        token: String,
        rtc: bool,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SrtServer {
    pub enabled: bool,
    pub listen: Vec<Listen>,
    pub peer_idle_timeout: Duration,
    pub connect_timeout: Duration,
    pub defaults: Defaults,
    /// Ours as a receiver, and the least we ask of a receiving peer.
    pub recv_latency: Duration,
    pub peer_latency: Duration,
    /// Empty: nothing is encrypted.
    pub passphrase: String,
    /// Bytes that callers are told for their keys; 0: none.
    pub key_size: u16,
    pub bandwidth: Bandwidth,
    pub too_late_drop: bool,
    /// Bytes.
    pub send_buffer: u64,
    pub recv_buffer: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RtcServer {
    pub enabled: bool,
    /// UDP.
    pub listen: Vec<Listen>,
    /// A host; `*` or `0.0.0.0`: the addresses of this machine's interfaces.
    pub candidate: String,
    /// Interfaces are looked at for `*`.
    pub auto_detect: bool,
    /// Of the interfaces' addresses.
    pub ip_family: IpFamily,
    /// The host by which a client reached the API is a candidate,
    pub api_as_candidates: bool,
    /// the addresses of its name are,
    pub resolve_api_domain: bool,
    /// and so is the name itself.
    pub keep_api_domain: bool,
}

/// When new viewers are refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CircuitBreaker {
    /// A shard whose ticks come later than this is full; `None`: none ever is.
    pub late_threshold: Option<Duration>,
    /// Where viewers over HTTP and by WebRTC are sent then: the start of a URL, without a slash at its end.
    pub redirect_http: Option<String>,
    /// Where players of RTMP are.
    pub redirect_rtmp: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpFamily {
    V4,
    V6,
    All,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    pub tank: Tank,
    pub level: Level,
    pub file: PathBuf,
    /// Lines are JSON objects.
    pub json: bool,
}

/// What the API tells of the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stats {
    pub enabled: bool,
    /// The number of the address of this machine that the heartbeat tells.
    pub network: usize,
    /// Devices of /proc/diskstats that count.
    pub disks: Vec<String>,
}

/// SRS's metrics for Prometheus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exporter {
    pub enabled: bool,
    /// The whole API is there too, as with SRS.
    pub listen: Vec<Listen>,
    /// Labels of `srs_build_info`; without one where empty.
    pub label: String,
    pub tag: String,
}

/// Who is told from time to time that this server is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    pub enabled: bool,
    /// At least a second.
    pub interval: Duration,
    pub url: String,
    pub device_id: String,
    pub summaries: bool,
    pub ports: bool,
    /// A certificate must be one that the system trusts.
    pub verify: bool,
    /// The value of the header Authorization.
    pub credentials: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tank {
    Console,
    File,
}

/// From most to least.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Off,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vhost {
    pub name: String,
    pub enabled: bool,
    pub chunk_size: u32,
    pub tcp_nodelay: bool,
    pub min_latency: bool,
    pub gop_cache: bool,
    /// 0: no bound of frames.
    pub gop_cache_max_frames: usize,
    /// A viewer further behind than this skips to the newest keyframe. SRS's default is 30 s, ours 10 s.
    pub queue_length: Duration,
    /// How long frames may gather before they are sent: 0 with `min_latency`, unless it is set.
    pub mw_latency: Duration,
    /// They gather no longer than there is need, `mw_latency` at the most; else always so long.
    pub mw_adaptive: bool,
    pub first_packet_timeout: Duration,
    pub normal_timeout: Duration,
    /// How long all viewers of a publisher that left wait for the next one.
    pub republish_grace: Duration,
    pub http_remux: HttpRemux,
    pub hls: Hls,
    pub dvr: Dvr,
    pub hooks: Hooks,
    pub refer: Refer,
    pub security: Security,
    pub srt_enabled: bool,
    pub rtc: Rtc,
}

/// WebRTC.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Rtc {
    pub enabled: bool,
    /// A session without STUN requests for so long is over.
    pub stun_timeout: Duration,
    /// B-frames go to players, who may show them in the wrong order.
    pub keep_bframe: bool,
    /// SEI goes to players.
    pub keep_avc_nalu_sei: bool,
    /// How often a publisher is asked for a keyframe.
    pub pli_for_rtmp: Duration,
    /// Sound becomes Opus while somebody watches by WebRTC.
    pub rtmp_to_rtc: bool,
    /// Opus becomes AAC.
    pub rtc_to_rtmp: bool,
    /// Bits per second, of the sound that is made: 8000..=320000.
    pub opus_bitrate: u32,
    pub aac_bitrate: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpRemux {
    pub enabled: bool,
    /// With `[vhost]`, `[app]` and `[stream]`.
    pub mount: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hls {
    pub enabled: bool,
    pub settings: hls::Settings,
    pub names: Names,
    /// As configured.
    pub fragment: Duration,
    pub window: Duration,
    /// Where files are written too. SRS always writes some; we do where the configuration says where.
    pub folder: Option<PathBuf>,
    pub cleanup: bool,
    /// What is left of a stream is removed so long after its publisher; zero: the files stay.
    pub dispose: Duration,
    /// Viewers are clients, known by an id in the URLs of playlists,
    pub ctx: bool,
    /// and of segments.
    pub ts_ctx: bool,
    /// The master playlist names the other one without a path.
    pub relative_master: bool,
}

/// Of AES, and none, in bytes.
const KEY_SIZES: [u16; 4] = [0, 16, 24, 32];

/// Bytes of segments that one stream may keep.
const HLS_BYTES: usize = 64 << 20;

/// What SRS takes for `pli_for_rtmp`.
const PLI_SECONDS: RangeInclusive<f64> = 0.5..=30.0;

/// Recording to files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dvr {
    pub enabled: bool,
    /// `all`, or streams as `app/stream`.
    pub apply: Vec<String>,
    pub plan: DvrPlan,
    /// With variables; ends with `.flv` or `.mp4`, or is a directory.
    pub path: String,
    /// Of a segment.
    pub duration: Duration,
    /// Segments start with a keyframe.
    pub wait_keyframe: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DvrPlan {
    /// One file for each publisher.
    Session,
    /// A file for each `duration`.
    Segment,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    #[error(transparent)]
    Illegal(#[from] Illegal),
    #[error(transparent)]
    Value(#[from] BadValue),
}

impl Source {
    /// The one that counts of a path on the command line, its `-e`, and the environment.
    pub fn choose(path: Option<PathBuf>, env_only: bool, env: &Env) -> Self {
        match env.config_file().or(path) {
            _ if env_only || env.env_only() => Self::EnvOnly,
            Some(path) => Self::File(path),
            None => Self::BuiltIn,
        }
    }

    /// Reads it; variables of `env` win over it.
    pub fn read(&self, env: &Env) -> Result<Config, ConfigError> {
        let tree = match self {
            Self::BuiltIn => grammar::parse_text("built-in", BUILT_IN.as_bytes())?,
            Self::EnvOnly => grammar::parse_text("environment", ENV_ONLY.as_bytes())?,
            Self::File(path) => grammar::parse_file(path, &env.folder)?,
        };
        Config::of_tree(self.clone(), tree, env)
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::EnvOnly => f.write_str("environment"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl Config {
    /// Reads a file of SRS; variables of `env` win over it.
    pub fn load(path: &Path, env: &Env) -> Result<Self, ConfigError> {
        Source::File(path.into()).read(env)
    }

    /// RTMP on 1935, HTTP-FLV and pages on 8080, the API on 1985, SRT on 10080, WebRTC on 8000, for the default
    /// vhost; variables of `env` win.
    pub fn built_in(env: &Env) -> Result<Self, ConfigError> {
        Source::BuiltIn.read(env)
    }

    /// The settings that serve clients of vhost `name`: its own, else those of the default vhost.
    /// `None` refuses them; a disabled vhost does not fall back.
    pub fn vhost(&self, name: &str) -> Option<&Vhost> {
        let named = |name: &str| self.vhosts.iter().find(|vhost| vhost.name == name);
        named(name).or_else(|| named(DEFAULT_VHOST)).filter(|vhost| vhost.enabled)
    }

    fn of_tree(source: Source, tree: Vec<Directive>, env: &Env) -> Result<Self, ConfigError> {
        let mut remarks = Remarks::default();
        let tree = legacy::modernise(tree, &mut remarks.warnings);
        check(&source.to_string(), &tree, env, &mut remarks)?;

        let root = Scope::root(&tree, env);
        let rtmp = root.block("rtmp");
        // Since 8.0 these two stand in rtmp { }, which wins.
        let holder = |name| if rtmp.given(name).is_some() { rtmp } else { root };
        let chunk_size = chunk_size(holder("chunk_size"), 0, &mut remarks)?;
        let http_server = HttpServer::of(root.block("http_server"), &mut remarks)?;
        let config = Self {
            process: Process::of(root, &source, env)?,
            shards: root.number("shards")?.map(to_usize),
            max_connections: root.number("max_connections")?.map(to_usize),
            max_connections_per_ip: root.number("max_connections_per_ip")?.map_or(usize::MAX, to_usize),
            max_streams_per_shard: to_usize(root.number("max_streams_per_shard")?.unwrap_or_default()),
            proxy_protocol: rtmp.flag("proxy_protocol"),
            rtmp_listen: match holder("listen") {
                rtmp if source == Source::EnvOnly && rtmp.given("listen").is_none() => Vec::new(),
                rtmp => rtmp.listens("listen")?,
            },
            chunk_size,
            rtmps: Tls::of(root.block("rtmps"), true, &mut remarks)?,
            http_api: HttpApi::of(root.block("http_api"), &http_server, &mut remarks)?,
            http_server,
            srt_server: SrtServer::of(root.block("srt_server"), &mut remarks)?,
            rtc_server: RtcServer::of(root.block("rtc_server"))?,
            circuit_breaker: CircuitBreaker::of(root.block("circuit_breaker"))?,
            log: Log::of(root, &source, env)?,
            pithy: Duration::from_millis(root.number("pithy_print_ms")?.unwrap_or_default()),
            stats: Stats::of(root.block("stats"))?,
            exporter: Exporter::of(root.block("exporter"))?,
            heartbeat: Heartbeat::of(root.block("heartbeat"))?,
            vhosts: vhosts(root, chunk_size, &mut remarks)?,
            accepted: remarks.accepted,
            warnings: remarks.warnings,
            source,
            tree,
        };
        Ok(config)
    }
}

impl HttpServer {
    fn of(scope: Scope, remarks: &mut Remarks) -> Result<Self, BadValue> {
        let enabled = scope.flag("enabled");
        Ok(Self {
            enabled,
            listen: scope.listens("listen")?,
            dir: scope.word("dir").into(),
            crossdomain: scope.flag("crossdomain"),
            https: Tls::of(scope.block("https"), enabled, remarks)?,
        })
    }
}

impl HttpApi {
    fn of(scope: Scope, server: &HttpServer, remarks: &mut Remarks) -> Result<Self, BadValue> {
        let (enabled, listen) = (scope.flag("enabled"), scope.listens("listen")?);
        let mut https = Tls::of(scope.block("https"), enabled, remarks)?;
        if listen == server.listen && scope.block("https").given("listen").is_none() {
            https.listen.clone_from(&server.https.listen);
        }
        let (raw_api, auth) = (RawApi::of(scope.block("raw_api")), Auth::of(scope.block("auth"))?);
        Ok(Self { enabled, listen, crossdomain: scope.flag("crossdomain"), https, raw_api, auth })
    }
}

impl Tls {
    /// What its ports have to load.
    pub fn wanted(&self) -> Vec<Pair> {
        if self.enabled { self.pairs.clone() } else { Vec::new() }
    }

    /// `plain`: what it belongs to is on.
    fn of(scope: Scope, plain: bool, remarks: &mut Remarks) -> Result<Self, BadValue> {
        let enabled = scope.flag("enabled");
        if enabled && !plain {
            remarks.warnings.push(format!("{} needs what it stands in enabled, it is off", scope.path()));
        }
        let (certs, keys) = (scope.every("cert"), scope.every("key"));
        if certs.len() != keys.len()
            && let Some(value) = scope.given("cert").or_else(|| scope.given("key"))
        {
            return Err(scope.bad("cert", &value, format!("a key for each, {} keys are there", keys.len())));
        }
        let pairs = certs.into_iter().zip(keys).map(|(cert, key)| Pair { cert: cert.into(), key: key.into() });
        Ok(Self { enabled: enabled && plain, listen: scope.listens("listen")?, pairs: pairs.collect() })
    }
}

impl RawApi {
    fn of(scope: Scope) -> Self {
        Self { enabled: scope.flag("enabled"), allow_reload: scope.flag("allow_reload") }
    }
}

impl Auth {
    /// What cannot keep anyone out is no authentication: it ends the start. SRS 8 wants a type, before that there
    /// was only `basic`.
    fn of(scope: Scope) -> Result<Option<Self>, BadValue> {
        if !scope.flag("enabled") {
            return Ok(None);
        }
        let basic = |word: &str| match word {
            "" | "basic" => Some(true),
            "bearer" => Some(false),
            _ => None,
        };
        if scope.one_of("type", basic)?.unwrap_or(true) {
            let username = scope.needed("username", |word| !word.contains(':'), "a name without a colon")?;
            let password = scope.needed("password", |word| !word.contains(':'), "a password without a colon")?;
            return Ok(Some(Self::Basic { username, password }));
        }
        let token = scope.needed("token", |_| true, "a token")?;
        Ok(Some(Self::Bearer { token, rtc: scope.flag("rtc_bearer_enabled") }))
    }
}

impl SrtServer {
    fn of(scope: Scope, remarks: &mut Remarks) -> Result<Self, BadValue> {
        let number = |name| scope.number(name).map(|ms| Duration::from_millis(ms.unwrap_or_default()));
        // `latency` stands for both directions; the later of libsrt's options would win, here the longer does.
        let both = if scope.given("latency").is_some() { number("latency")? } else { Duration::ZERO };
        let passphrase = scope.word("passphrase");
        let enabled = scope.flag("enabled");
        let sound = passphrase.is_empty() || (10..=79).contains(&passphrase.len());
        if !sound {
            let words = "srt_server passphrase: 10 to 79 bytes are needed, SRT is off";
            remarks.warnings.push(words.into());
        }
        Ok(Self {
            // Open to everyone would be worse than not there.
            enabled: enabled && sound,
            listen: scope.listens("listen")?,
            peer_idle_timeout: number("peer_idle_timeout")?,
            connect_timeout: number("connect_timeout")?,
            defaults: Defaults {
                app: scope.word("default_app"),
                stream_id: scope.word("default_streamid"),
                mode: scope.one_of("default_mode", mode)?.unwrap_or(Mode::Play),
            },
            recv_latency: number("recvlatency")?.max(both),
            peer_latency: number("peerlatency")?.max(both),
            passphrase,
            key_size: scope
                .one_of("pbkeylen", |word| word.parse().ok().filter(|size| KEY_SIZES.contains(size)))?
                .unwrap_or(0),
            bandwidth: scope.one_of("maxbw", bandwidth)?.unwrap_or(Bandwidth::Unlimited),
            too_late_drop: scope.flag("tlpktdrop"),
            send_buffer: scope.number("sendbuf")?.unwrap_or_default(),
            recv_buffer: scope.number("recvbuf")?.unwrap_or_default(),
        })
    }
}

fn mode(word: &str) -> Option<Mode> {
    match word {
        "publish" => Some(Mode::Publish),
        "request" => Some(Mode::Play),
        _ => None,
    }
}

/// As libsrt's SRTO_MAXBW.
fn bandwidth(word: &str) -> Option<Bandwidth> {
    match word.parse::<i64>().ok()? {
        -1 => Some(Bandwidth::Unlimited),
        0 => Some(Bandwidth::Measured),
        rate => rate.try_into().ok().map(Bandwidth::Most),
    }
}

impl RtcServer {
    fn of(scope: Scope) -> Result<Self, BadValue> {
        Ok(Self {
            enabled: scope.flag("enabled"),
            listen: scope.listens("listen")?,
            candidate: scope.indirect("candidate"),
            auto_detect: scope.flag("use_auto_detect_network_ip"),
            ip_family: scope.one_of("ip_family", IpFamily::of)?.unwrap_or(IpFamily::V4),
            api_as_candidates: scope.flag("api_as_candidates"),
            resolve_api_domain: scope.flag("resolve_api_domain"),
            keep_api_domain: scope.flag("keep_api_domain"),
        })
    }
}

impl Stats {
    fn of(scope: Scope) -> Result<Self, BadValue> {
        let network = to_usize(scope.number("network")?.unwrap_or_default());
        let disks = scope.given("disk").map_or_else(Vec::new, |value| value.words);
        Ok(Self { enabled: scope.flag("enabled"), network, disks })
    }
}

impl Exporter {
    fn of(scope: Scope) -> Result<Self, BadValue> {
        Ok(Self {
            enabled: scope.flag("enabled"),
            listen: scope.listens("listen")?,
            label: scope.word("label"),
            tag: scope.word("tag"),
        })
    }
}

impl Heartbeat {
    fn of(scope: Scope) -> Result<Self, BadValue> {
        let auth = scope.block("auth");
        let scheme = if auth.word("type") == "basic" { "Basic" } else { "Bearer" };
        let token = auth.word("token");
        Ok(Self {
            enabled: scope.flag("enabled"),
            // SRS takes whole seconds.
            interval: Duration::from_secs((scope.decimal("interval")? as u64).max(1)),
            url: scope.word("url"),
            device_id: scope.word("device_id"),
            summaries: scope.flag("summaries"),
            ports: scope.flag("ports"),
            verify: scope.flag("verify"),
            credentials: (auth.flag("enabled") && !token.is_empty()).then(|| format!("{scheme} {token}")),
        })
    }
}

impl CircuitBreaker {
    fn of(scope: Scope) -> Result<Self, BadValue> {
        let late = scope.number("late_threshold")?.filter(|_| scope.flag("enabled"));
        let mut breaker =
            Self { late_threshold: late.map(Duration::from_millis), redirect_http: None, redirect_rtmp: None };
        for url in scope.list("redirect") {
            let rtmp = url.starts_with("rtmp://") || url.starts_with("rtmps://");
            let place = if rtmp { &mut breaker.redirect_rtmp } else { &mut breaker.redirect_http };
            *place = Some(url.trim_end_matches('/').to_owned());
        }
        Ok(breaker)
    }
}

impl IpFamily {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "ipv4" => Self::V4,
            "ipv6" => Self::V6,
            "all" => Self::All,
            _ => return None,
        })
    }

    pub fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
            Self::All => true,
        }
    }
}

impl Process {
    fn of(root: Scope, source: &Source, env: &Env) -> Result<Self, ConfigError> {
        let ms = |name| root.number(name).map(|ms| ms.map(Duration::from_millis));
        let docker = is_in_docker(root, env);
        // By itself SRS starts in the background, except where it has no file.
        let daemon = match root.given("daemon") {
            None => !matches!(source, Source::EnvOnly),
            Some(_) => root.flag("daemon"),
        } && !(docker && root.flag("disable_daemon_for_docker"));
        let asprocess = root.flag("asprocess");
        if daemon && asprocess {
            return Err(Illegal::DaemonAsProcess { file: source.to_string() }.into());
        }
        // What needs no configuration leaves nothing behind.
        let has_pid = *source != Source::BuiltIn || root.given("pid").is_some();
        Ok(Self {
            daemon,
            pid: has_pid.then(|| root.word("pid").into()),
            server_id: root.given("server_id").map(|_| root.word("server_id")),
            work_dir: root.word("work_dir").into(),
            asprocess,
            grace_start_wait: ms("grace_start_wait")?.unwrap_or_default(),
            grace_sessions_wait: ms("grace_sessions_wait")?,
            grace_final_wait: ms("grace_final_wait")?.unwrap_or_default(),
            force_grace_quit: root.flag("force_grace_quit"),
            auto_reload: root.flag("inotify_auto_reload") || docker && root.flag("auto_reload_for_docker"),
        })
    }
}

fn is_in_docker(root: Scope, env: &Env) -> bool {
    env.docker || root.flag("in_docker")
}

impl Log {
    fn of(root: Scope, source: &Source, env: &Env) -> Result<Self, BadValue> {
        let by_itself = if *source == Source::EnvOnly || is_in_docker(root, env) { "console" } else { "file" };
        let given = root.given("srs_log_tank").map(|_| root.word("srs_log_tank"));
        let tank = if given.as_deref().unwrap_or(by_itself) == "console" { Tank::Console } else { Tank::File };
        let v1 = root.one_of("srs_log_level", Level::of_v1)?;
        let level = root.one_of("srs_log_level_v2", Level::of_v2)?.or(v1).unwrap_or(Level::Info);
        Ok(Self { tank, level, file: root.word("srs_log_file").into(), json: root.flag("log_json") })
    }
}

/// As `srs_log_level_v2` has it.
impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Off => "off",
        })
    }
}

impl Level {
    /// SRS's first names, `srs_log_level`: `info` is finer than `trace`.
    fn of_v1(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "verbose" => Self::Trace,
            "info" => Self::Debug,
            "trace" => Self::Info,
            "warn" => Self::Warn,
            "error" => Self::Error,
            "off" | "disabled" => Self::Off,
            _ => return None,
        })
    }

    /// The names most programs use, `srs_log_level_v2`.
    pub fn of_v2(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" => Self::Warn,
            "error" => Self::Error,
            "off" | "disabled" => Self::Off,
            _ => return None,
        })
    }
}

impl Rtc {
    /// Sound goes both ways.
    #[cfg(test)]
    pub const TEST: Self = Self {
        enabled: true,
        stun_timeout: Duration::from_secs(30),
        keep_bframe: false,
        keep_avc_nalu_sei: true,
        pli_for_rtmp: Duration::from_secs(6),
        rtmp_to_rtc: true,
        rtc_to_rtmp: true,
        opus_bitrate: 48_000,
        aac_bitrate: 48_000,
    };

    fn of(vhost: &str, scope: Scope, remarks: &mut Remarks) -> Result<Self, BadValue> {
        let mut pli = scope.decimal("pli_for_rtmp")?;
        if !PLI_SECONDS.contains(&pli) {
            let default = scope.default("pli_for_rtmp");
            remarks
                .warnings
                .push(format!("vhost {vhost}: pli_for_rtmp {pli}: not from 0.5 to 30 s, {default} is used"));
            pli = default.parse().unwrap_or_default();
        }
        let mut bitrate = |name| -> Result<u32, BadValue> {
            let bitrate = scope.number(name)?.unwrap_or_default();
            let used = bitrate.clamp(8_000, 320_000);
            if used != bitrate {
                remarks.warnings.push(format!("vhost {vhost}: {name} {bitrate} is out of range, {used} is used"));
            }
            Ok(used as u32)
        };
        Ok(Self {
            enabled: scope.flag("enabled"),
            stun_timeout: Duration::from_secs(scope.number("stun_timeout")?.unwrap_or_default()),
            keep_bframe: scope.flag("keep_bframe"),
            keep_avc_nalu_sei: scope.flag("keep_avc_nalu_sei"),
            pli_for_rtmp: Duration::from_secs_f64(pli),
            rtmp_to_rtc: scope.flag("rtmp_to_rtc"),
            rtc_to_rtmp: scope.flag("rtc_to_rtmp"),
            opus_bitrate: bitrate("opus_bitrate")?,
            aac_bitrate: bitrate("aac_bitrate")?,
        })
    }
}

impl Dvr {
    fn of(scope: Scope) -> Result<Self, BadValue> {
        let plan = |word: &str| match word {
            "session" => Some(DvrPlan::Session),
            "segment" => Some(DvrPlan::Segment),
            _ => None,
        };
        Ok(Self {
            enabled: scope.flag("enabled"),
            apply: scope.given("dvr_apply").map_or_else(|| vec!["all".into()], |value| value.words),
            plan: scope.one_of("dvr_plan", plan)?.unwrap_or(DvrPlan::Session),
            path: scope.word("dvr_path"),
            duration: Duration::from_secs(scope.number("dvr_duration")?.unwrap_or_default()),
            wait_keyframe: scope.flag("dvr_wait_keyframe"),
        })
    }

    pub fn applies_to(&self, key: &StreamKey) -> bool {
        let name = format!("{}/{}", key.app(), key.stream());
        self.enabled && self.apply.iter().any(|word| word == "all" || *word == name)
    }
}

/// Who is told of events, and asked about some.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Hooks {
    pub enabled: bool,
    /// URLs in the order of their calls, by directive.
    urls: BTreeMap<&'static str, Vec<String>>,
    /// What is read of the answer to `on_hls_notify`, bytes.
    pub notify_bytes: usize,
    /// A receiver over TLS must have a certificate that the system trusts.
    pub verify: bool,
    /// With which bodies are signed.
    pub secret: Option<String>,
    /// How often those that nobody waits for are told again.
    pub retries: u64,
    /// Connections are kept for the next call.
    pub keep_alive: bool,
}

impl Hooks {
    const EVENTS: [&str; 9] = [
        "on_connect",
        "on_close",
        "on_publish",
        "on_unpublish",
        "on_play",
        "on_stop",
        "on_dvr",
        "on_hls",
        "on_hls_notify",
    ];

    fn of(vhost: &str, scope: Scope, hls: Scope, remarks: &mut Remarks) -> Result<Self, BadValue> {
        let urls: BTreeMap<_, _> = Self::EVENTS.iter().map(|event| (*event, scope.list(event))).collect();
        let hooks = Self {
            enabled: scope.flag("enabled"),
            urls,
            notify_bytes: to_usize(hls.number("hls_nb_notify")?.unwrap_or_default()),
            verify: scope.flag("verify"),
            secret: Some(scope.word("secret")).filter(|secret| !secret.is_empty()),
            retries: scope.number("retries")?.unwrap_or_default(),
            keep_alive: scope.flag("keep_alive"),
        };
        for event in Self::EVENTS {
            let is_called = |url: &&String| url.starts_with("http://") || url.starts_with("https://");
            for url in hooks.urls(event).iter().filter(|url| !is_called(url)) {
                let warning = format!("vhost {vhost}: {event} {url}: only http and https are called, this fails");
                remarks.warnings.push(warning);
            }
        }
        if !hooks.urls("on_play").is_empty() && hls.flag("enabled") && !hls.flag("hls_ctx") {
            let warning = format!("vhost {vhost}: without hls_ctx on_play is NOT ASKED about viewers by HLS");
            remarks.warnings.push(warning);
        }
        Ok(hooks)
    }

    /// Of an event; none where hooks are off.
    pub fn urls(&self, event: &str) -> &[String] {
        self.urls.get(event).filter(|_| self.enabled).map_or(&[], Vec::as_slice)
    }
}

fn refer(scope: Scope) -> Refer {
    Refer {
        enabled: scope.flag("enabled"),
        all: scope.list("all"),
        publish: scope.list("publish"),
        play: scope.list("play"),
        http: scope.flag("http"),
    }
}

fn security(scope: Scope) -> Result<Security, BadValue> {
    Ok(Security {
        enabled: scope.flag("enabled"),
        deny: scope.each("deny", Rule::of)?,
        allow: scope.each("allow", Rule::of)?,
    })
}

fn vhosts(root: Scope, chunk_size: u32, remarks: &mut Remarks) -> Result<Vec<Vhost>, BadValue> {
    let mut vhosts: Vec<Vhost> = Vec::new();
    for (directive, scope) in root.blocks("vhost") {
        let name = directive.args.first().cloned().unwrap_or_default();
        if vhosts.iter().any(|vhost| vhost.name == name) {
            let place = &directive.place;
            remarks.warnings.push(format!("{place}: vhost {name} again, the first one counts"));
            continue;
        }
        vhosts.push(Vhost::of(name, scope, chunk_size, remarks)?);
    }
    if vhosts.is_empty() {
        remarks.warnings.push("no vhost is configured: nobody can publish or play".into());
    }
    Ok(vhosts)
}

impl Vhost {
    fn of(name: String, scope: Scope, global_chunk_size: u32, remarks: &mut Remarks) -> Result<Self, BadValue> {
        let (play, publish, remux) = (scope.block("play"), scope.block("publish"), scope.block("http_remux"));
        let number = |scope: Scope, name| scope.number(name).map(Option::unwrap_or_default);
        let min_latency = scope.flag("min_latency");
        let mw_latency = match play.given("mw_latency") {
            None if min_latency => 0,
            _ => number(play, "mw_latency")?,
        };
        let http_remux = HttpRemux { enabled: remux.flag("enabled"), mount: remux.word("mount") };
        if http_remux.enabled && ![".flv", ".ts"].iter().any(|suffix| http_remux.mount.ends_with(suffix)) {
            let HttpRemux { mount, .. } = &http_remux;
            remarks.warnings.push(format!("vhost {name}: http_remux mount {mount}: only .flv and .ts are served yet"));
        }
        let hooks = Hooks::of(&name, scope.block("http_hooks"), scope.block("hls"), remarks)?;
        let mut hls = Hls::of(&name, scope.block("hls"), remarks)?;
        if !hooks.urls("on_hls").is_empty() {
            // Who is told of files is to find them.
            hls.folder.get_or_insert_with(|| scope.block("hls").default("hls_path").into());
        }
        Ok(Self {
            enabled: scope.flag("enabled"),
            chunk_size: chunk_size(scope, global_chunk_size, remarks)?,
            tcp_nodelay: scope.flag("tcp_nodelay"),
            min_latency,
            gop_cache: play.flag("gop_cache"),
            gop_cache_max_frames: to_usize(number(play, "gop_cache_max_frames")?),
            queue_length: Duration::from_secs(number(play, "queue_length")?),
            mw_latency: Duration::from_millis(mw_latency),
            mw_adaptive: match play.given("mw_adaptive") {
                Some(_) => play.flag("mw_adaptive"),
                None => play.given("mw_latency").is_none(),
            },
            first_packet_timeout: Duration::from_millis(number(publish, "firstpkt_timeout")?),
            normal_timeout: Duration::from_millis(number(publish, "normal_timeout")?),
            republish_grace: Duration::from_millis(number(publish, "republish_grace")?),
            http_remux,
            hls,
            dvr: Dvr::of(scope.block("dvr"))?,
            hooks,
            refer: refer(scope.block("refer")),
            security: security(scope.block("security"))?,
            srt_enabled: scope.block("srt").flag("enabled"),
            rtc: Rtc::of(&name, scope.block("rtc"), remarks)?,
            name,
        })
    }
}

impl Hls {
    fn of(vhost: &str, scope: Scope, remarks: &mut Remarks) -> Result<Self, BadValue> {
        let fragment = scope.decimal("hls_fragment")?;
        let seconds = |seconds: f64| Timestamp::from_ms((seconds * 1000.0) as i64);
        let window = scope.decimal("hls_window")?;
        let mut template = |name, read: fn(&str) -> Result<Template, BadTemplate>| {
            read(&scope.word(name)).or_else(|error| {
                remarks.warnings.push(format!("vhost {vhost}: {name}: {error}; the default is used"));
                read(scope.default(name))
            })
        };
        let bad = |error: BadTemplate| unreachable!("a default of the table: {error}");
        let names = Names {
            playlist: template("hls_m3u8_file", Template::of_playlist).unwrap_or_else(bad),
            segment: template("hls_ts_file", Template::of_segment).unwrap_or_else(bad),
            entry_prefix: scope.word("hls_entry_prefix"),
        };
        Ok(Self {
            enabled: scope.flag("enabled"),
            settings: hls::Settings {
                fragment: seconds(fragment * scope.decimal("hls_td_ratio")?),
                overflow: seconds(fragment * scope.decimal("hls_aof_ratio")?),
                window: seconds(window),
                wait_keyframe: scope.flag("hls_wait_keyframe"),
                bytes: HLS_BYTES,
            },
            names,
            fragment: Duration::from_secs_f64(fragment),
            window: Duration::from_millis((window * 1000.0) as u64),
            folder: scope.given("hls_path").map(|value| value.words[0].clone().into()),
            cleanup: scope.flag("hls_cleanup"),
            dispose: Duration::from_secs(scope.number("hls_dispose")?.unwrap_or_default()),
            ctx: scope.flag("hls_ctx"),
            ts_ctx: scope.flag("hls_ts_ctx"),
            relative_master: scope.flag("hls_master_m3u8_path_relative"),
        })
    }
}

/// SRS only warns outside 128..=65536, and so do we as long as RTMP 1.0 §5.4.1 can carry it.
fn chunk_size(scope: Scope, inherited: u32, remarks: &mut Remarks) -> Result<u32, BadValue> {
    let size = scope.number("chunk_size")?.map_or(inherited, |size| size.try_into().unwrap_or(u32::MAX));
    if let Some(value) = scope.given("chunk_size").filter(|_| !(128..=65536).contains(&size)) {
        let warning = format!("{}: chunk_size {size} is outside of 128 to 65536", value.place);
        if !remarks.warnings.contains(&warning) {
            remarks.warnings.push(warning);
        }
    }
    Ok(size)
}

/// For numbers whose range in the table is far smaller.
fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
