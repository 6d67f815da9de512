//! The process and its log.

use super::{ConfigError, Source};
use crate::config::{BadValue, Env, Illegal, scope::Scope};
use std::{fmt, path::PathBuf, time::Duration};

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

impl Process {
    pub(super) fn of(root: Scope, source: &Source, env: &Env) -> Result<Self, ConfigError> {
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

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    pub tank: Tank,
    pub level: Level,
    pub file: PathBuf,
    /// Lines are JSON objects.
    pub json: bool,
    /// Times are UTC, those in the names of recordings too.
    pub utc: bool,
}

impl Log {
    pub(super) fn of(root: Scope, source: &Source, env: &Env) -> Result<Self, BadValue> {
        let by_itself = if *source == Source::EnvOnly || is_in_docker(root, env) { "console" } else { "file" };
        let given = root.given("srs_log_tank").map(|_| root.word("srs_log_tank"));
        let tank = if given.as_deref().unwrap_or(by_itself) == "console" { Tank::Console } else { Tank::File };
        let v1 = root.one_of("srs_log_level", Level::of_v1)?;
        let level = root.one_of("srs_log_level_v2", Level::of_v2)?.or(v1).unwrap_or(Level::Info);
        Ok(Self {
            tank,
            level,
            file: root.word("srs_log_file").into(),
            json: root.flag("log_json"),
            utc: root.flag("utc_time"),
        })
    }
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

fn is_in_docker(root: Scope, env: &Env) -> bool {
    env.docker || root.flag("in_docker")
}
