//! HLS, `vhost.hls`.

use crate::config::{BadValue, check::Remarks, scope::Scope};
use shardcast_engine::time::Timestamp;
use shardcast_protocols::hls::{self, BadTemplate, Names, Template};
use std::{path::PathBuf, time::Duration};

/// Bytes of segments that one stream may keep.
const HLS_BYTES: usize = 64 << 20;

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

impl Hls {
    pub(super) fn of(vhost: &str, scope: Scope, remarks: &mut Remarks) -> Result<Self, BadValue> {
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
