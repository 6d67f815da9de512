//! HTTP callbacks, `vhost.http_hooks`.

use super::to_usize;
use crate::config::{BadValue, check::Remarks, scope::Scope};
use std::collections::BTreeMap;

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

    pub(super) fn of(vhost: &str, scope: Scope, hls: Scope, remarks: &mut Remarks) -> Result<Self, BadValue> {
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
