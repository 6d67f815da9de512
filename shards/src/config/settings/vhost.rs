//! A vhost: who may publish and play there, and how.

use super::{Dvr, Hls, Hooks, Rtc, chunk_size, to_usize};
use crate::{
    access::{Refer, Rule, Security},
    config::{BadValue, check::Remarks, scope::Scope},
};
use shardcast_engine::key::DEFAULT_VHOST;
use std::{path::PathBuf, time::Duration};

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
    /// Files of its own.
    pub http_static: Option<HttpStatic>,
    pub hls: Hls,
    pub dvr: Dvr,
    pub hooks: Hooks,
    pub refer: Refer,
    pub security: Security,
    pub srt_enabled: bool,
    pub rtc: Rtc,
}

impl Vhost {
    pub(super) fn of(
        name: String,
        scope: Scope,
        global_chunk_size: u32,
        remarks: &mut Remarks,
    ) -> Result<Self, BadValue> {
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
            http_static: HttpStatic::of(&name, scope.block("http_static")),
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

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpRemux {
    pub enabled: bool,
    /// With `[vhost]`, `[app]` and `[stream]`.
    pub mount: String,
}

/// A folder that is served below a path, to whoever asks by the vhost's name; by the default vhost's, to all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpStatic {
    /// `None`: any.
    pub host: Option<String>,
    /// Begins and ends with a slash.
    pub path: String,
    pub dir: PathBuf,
}

impl HttpStatic {
    fn of(vhost: &str, scope: Scope) -> Option<Self> {
        let mount = scope.word("mount").replace("[vhost]", vhost);
        let (host, path) = mount.split_once('/').unwrap_or((&mount, ""));
        let path = path.trim_end_matches('/');
        scope.flag("enabled").then(|| Self {
            host: Some(host).filter(|host| !host.is_empty() && *host != DEFAULT_VHOST).map(str::to_owned),
            path: if path.is_empty() { "/".into() } else { format!("/{path}/") },
            dir: scope.word("dir").replace("[vhost]", vhost).into(),
        })
    }

    /// What of `path` is below it.
    pub fn below<'p>(&self, host: &str, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(&self.path)?;
        self.host.as_ref().is_none_or(|its| its == host).then_some(rest)
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

pub(super) fn vhosts(root: Scope, chunk_size: u32, remarks: &mut Remarks) -> Result<Vec<Vhost>, BadValue> {
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
