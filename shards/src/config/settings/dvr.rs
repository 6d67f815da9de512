//! Recording to files, `vhost.dvr`.

use crate::config::{BadValue, scope::Scope};
use shardcast_engine::key::StreamKey;
use std::time::Duration;

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

impl Dvr {
    pub(super) fn of(scope: Scope) -> Result<Self, BadValue> {
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DvrPlan {
    /// One file for each publisher.
    Session,
    /// A file for each `duration`.
    Segment,
}
