//! The configuration in types, as the rest of the server reads it.

mod dvr;
mod hls;
mod hooks;
mod http;
mod monitor;
mod process;
mod rtc;
mod srt;
mod vhost;

pub use self::{
    dvr::{Dvr, DvrPlan},
    hls::Hls,
    hooks::Hooks,
    http::{Auth, HttpApi, HttpServer, RawApi, Tls},
    monitor::{Exporter, Heartbeat, Stats},
    process::{Level, Log, Process, Tank},
    rtc::{IpFamily, Rtc, RtcServer},
    srt::SrtServer,
    vhost::{HttpRemux, HttpStatic, Vhost},
};

use super::{
    BadValue, Env, Illegal, Listen, SyntaxError,
    check::{Remarks, check},
    grammar::{self, Directive},
    legacy,
    scope::Scope,
};
use shardcast_engine::key::DEFAULT_VHOST;
use std::{
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

/// When new viewers are refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CircuitBreaker {
    /// A shard whose ticks come later than this is full; `None`: none ever is.
    pub late_threshold: Option<Duration>,
    /// With so much per cent of its core a shard is full too.
    pub load_threshold: u64,
    /// Where viewers over HTTP and by WebRTC are sent then: the start of a URL, without a slash at its end.
    pub redirect_http: Option<String>,
    /// Where players of RTMP are.
    pub redirect_rtmp: Option<String>,
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
            vhosts: vhost::vhosts(root, chunk_size, &mut remarks)?,
            accepted: remarks.accepted,
            warnings: remarks.warnings,
            source,
            tree,
        };
        Ok(config)
    }
}

impl CircuitBreaker {
    fn of(scope: Scope) -> Result<Self, BadValue> {
        let late = scope.number("late_threshold")?.filter(|_| scope.flag("enabled"));
        let mut breaker = Self {
            late_threshold: late.map(Duration::from_millis),
            load_threshold: scope.number("load_threshold")?.unwrap_or_default(),
            redirect_http: None,
            redirect_rtmp: None,
        };
        for url in scope.list("redirect") {
            let rtmp = url.starts_with("rtmp://") || url.starts_with("rtmps://");
            let place = if rtmp { &mut breaker.redirect_rtmp } else { &mut breaker.redirect_http };
            *place = Some(url.trim_end_matches('/').to_owned());
        }
        Ok(breaker)
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
