//! What others are told of this server: statistics, `exporter`, `heartbeat`.

use super::to_usize;
use crate::config::{BadValue, Listen, scope::Scope};
use std::time::Duration;

/// What the API tells of the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stats {
    pub enabled: bool,
    /// The number of the address of this machine that the heartbeat tells.
    pub network: usize,
    /// Devices of /proc/diskstats that count.
    pub disks: Vec<String>,
}

impl Stats {
    pub(super) fn of(scope: Scope) -> Result<Self, BadValue> {
        let network = to_usize(scope.number("network")?.unwrap_or_default());
        let disks = scope.given("disk").map_or_else(Vec::new, |value| value.words);
        Ok(Self { enabled: scope.flag("enabled"), network, disks })
    }
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

impl Exporter {
    pub(super) fn of(scope: Scope) -> Result<Self, BadValue> {
        Ok(Self {
            enabled: scope.flag("enabled"),
            listen: scope.listens("listen")?,
            label: scope.word("label"),
            tag: scope.word("tag"),
        })
    }
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

impl Heartbeat {
    pub(super) fn of(scope: Scope) -> Result<Self, BadValue> {
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
