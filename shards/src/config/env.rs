//! The environment as the configuration sees it: a snapshot, so that one `Config` never mixes two.

use std::{collections::BTreeMap, path::PathBuf};

#[derive(Clone, Default, Debug)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// The environment of this process. Bytes that are not UTF-8 become U+FFFD.
    pub fn of_process() -> Self {
        let text = |s: std::ffi::OsString| s.to_string_lossy().into_owned();
        Self(std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
    }

    /// The value of a variable. Empty is unset, as in SRS.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// `SRS_CONFIG_FILE`, which wins over the path of the command line.
    pub fn config_file(&self) -> Option<PathBuf> {
        self.value("SRS_CONFIG_FILE").map(PathBuf::from)
    }

    /// `SRS_ENV_ONLY` is there, with whatever value: read no file.
    pub fn env_only(&self) -> bool {
        self.0.contains_key("SRS_ENV_ONLY")
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
