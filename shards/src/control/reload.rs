//! Reading the configuration again, and bringing it to all shards: whole, or not at all.

use super::Control;
use crate::{
    config::{Config, ConfigError, Effect, Source},
    feed::Notice,
    launch::{Failure, Shortfall, ports, probe, tell_remarks},
    mesh::{Change, Mail},
    net::certificates::CertificateError,
    shard::random_id,
};
use serde_json::{Value, json};
use std::{rc::Rc, sync::Arc, time::Instant};
use tracing::{error, info, warn};

/// The last reload, for who asks.
pub struct Reload {
    /// Seven characters.
    id: String,
    stage: Stage,
    /// SRS's number and our words.
    failed: Option<(u64, String)>,
}

/// As SRS numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Init = 0,
    Parsing = 10,
    Applying = 30,
    Finished = 90,
}

#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error("there is no file to read: the configuration is {0}")]
    NoFile(Source),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    #[error(transparent)]
    Limits(#[from] Shortfall),
    #[error(transparent)]
    Ports(#[from] Failure),
}

impl Default for Reload {
    fn default() -> Self {
        Self { id: random_id()[..7].into(), stage: Stage::Init, failed: None }
    }
}

impl ReloadError {
    /// SRS's: SocketListen, ConfigInvalid.
    fn number(&self) -> u64 {
        match self {
            Self::Ports(_) => 1005,
            Self::NoFile(_) | Self::Config(_) | Self::Certificates(_) | Self::Limits(_) => 1023,
        }
    }
}

impl Control {
    /// The configuration is to be read again, soon.
    pub fn order_reload(&self) {
        self.process.orders.reload.set();
    }

    /// As `rpc=reload-fetch` has it.
    pub fn last_reload(&self) -> Value {
        let reload = self.process.course.reload.borrow();
        let (number, words) = reload.failed.clone().unwrap_or((0, "Success".into()));
        json!({ "err": number, "msg": words, "state": reload.stage as u64, "rid": reload.id })
    }

    /// One after the other: the caller sees to that.
    pub async fn reload(self: &Rc<Self>) {
        self.process.supervisor.borrow().reloading();
        *self.process.course.reload.borrow_mut() = Reload::default();
        let began = Instant::now();
        let result = match self.try_reload().await {
            Ok(differences) => {
                self.reach(Stage::Finished);
                info!("reload: {differences} differences are in force after {} ms", began.elapsed().as_millis());
                self.feed.tell(|| Notice::new("reload", None));
                "ok"
            }
            Err(why) => {
                error!("reload: {why}; the configuration in force stays");
                self.feed.tell(|| Notice::new("reload", Some(why.to_string())));
                self.process.course.reload.borrow_mut().failed = Some((why.number(), why.to_string()));
                "failed"
            }
        };
        metrics::counter!("shardcast_reloads_total", "result" => result).increment(1);
        self.process.supervisor.borrow_mut().ready();
    }

    /// Returns how many directives differ.
    async fn try_reload(self: &Rc<Self>) -> Result<usize, ReloadError> {
        let old = self.config();
        if !matches!(old.source, Source::File(_)) {
            return Err(ReloadError::NoFile(old.source.clone()));
        }
        self.reach(Stage::Parsing);
        let (source, env) = (old.source.clone(), self.process.env.clone());
        let security = self.security.clone();
        let read = move || -> Result<_, ReloadError> {
            let new = source.read(&env)?;
            let renewed = security.read(&new)?;
            Ok((new, renewed))
        };
        let (mut new, renewed) = glommio::executor().spawn_blocking(read).await?;
        let differences = old.differences(&new, &self.process.env);
        new.keep_of(&old);
        let limits = &self.process.limits;
        let connections_max = probe::connections(limits.shards, limits.open_files, new.max_connections)?;
        self.reach(Stage::Applying);
        let opened = ports::opened(&old, &new, self.shards())?;
        for difference in &differences {
            match difference.effect {
                Effect::AtStart => warn!("reload: {difference}"),
                _ => info!("reload: {difference}"),
            }
        }
        if !differences.is_empty() {
            tell_remarks(&new);
        }
        if !opened.words.is_empty() {
            info!("reload: {} from now on", opened.words);
        }
        self.security.take(renewed);
        self.apply(new, connections_max, opened);
        Ok(differences.len())
    }

    fn apply(self: &Rc<Self>, new: Config, connections_max: usize, opened: ports::Ports) {
        let new = Arc::new(new);
        *self.config.borrow_mut() = new.clone();
        self.herald.configure(new.clone());
        let api = ports::api(&new);
        self.doors.keep(|endpoint| api.contains(endpoint));
        for (endpoint, listener) in opened.api {
            self.open(endpoint, listener);
        }
        let doors = ports::doors(&new);
        for (shard, ports) in opened.media.into_iter().enumerate() {
            let change = Change { config: new.clone(), connections_max, doors: doors.clone(), opened: ports.tcp };
            self.mesh.post(shard, Mail::Configure(Box::new(change)));
        }
    }

    fn reach(&self, stage: Stage) {
        self.process.course.reload.borrow_mut().stage = stage;
    }
}
