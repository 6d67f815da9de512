//! The environment as the configuration sees it: a snapshot, so that one `Config` never mixes two.

use std::{collections::BTreeMap, fs::File, io::Read, path::PathBuf};

#[derive(Clone, Default, Debug)]
pub struct Env {
    variables: BTreeMap<String, String>,
    /// Docker shows in /proc; `in_docker` says so where it does not.
    pub docker: bool,
    /// The working directory at the start, where relative paths to configuration files begin.
    pub folder: PathBuf,
}

impl Env {
    /// The environment of this process. Bytes that are not UTF-8 become U+FFFD.
    pub fn of_process() -> Self {
        let text = |s: std::ffi::OsString| s.to_string_lossy().into_owned();
        let variables = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        Self { variables, docker: shows_docker(), folder: std::env::current_dir().unwrap_or_default() }
    }

    /// The value of a variable. Empty is unset, as in SRS.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// `SRS_CONFIG_FILE`, which wins over the path of the command line.
    pub fn config_file(&self) -> Option<PathBuf> {
        self.value("SRS_CONFIG_FILE").map(PathBuf::from)
    }

    /// `SRS_ENV_ONLY` is there, with whatever value: read no file.
    pub fn env_only(&self) -> bool {
        self.variables.contains_key("SRS_ENV_ONLY")
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let variables = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, ..Self::default() }
    }
}

/// As SRS looks: the first 1024 bytes of the first process's cgroups name docker.
fn shows_docker() -> bool {
    let mut cgroups = Vec::new();
    let read = File::open("/proc/1/cgroup").and_then(|file| file.take(1024).read_to_end(&mut cgroups));
    read.is_ok() && cgroups.windows(7).any(|window| window == b"/docker")
}
