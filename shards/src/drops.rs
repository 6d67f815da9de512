//! What a viewer did not get of its stream, and why.

use serde::{Serialize, Serializer};

#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Drops {
    /// Frames that it skipped since it was too far behind.
    pub behind: u64,
    /// SRT packets that it asked for again when they were too old to be there.
    pub late: u64,
    /// B-frames, which browsers show badly by WebRTC.
    pub bframe: u64,
    /// Frames of a codec that WebRTC viewers are not sent.
    pub codec: u64,
}

impl Drops {
    /// Those that there are, by their names in the API and the metrics.
    pub fn reasons(self) -> impl Iterator<Item = (&'static str, u64)> {
        let Self { behind, late, bframe, codec } = self;
        [("behind", behind), ("late", late), ("bframe", bframe), ("codec", codec)].into_iter().filter(|(_, n)| *n > 0)
    }

    /// What came since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            behind: self.behind - before.behind,
            late: self.late - before.late,
            bframe: self.bframe - before.bframe,
            codec: self.codec - before.codec,
        }
    }

    /// Adds them to the metric.
    pub fn count(self) {
        for (reason, n) in self.reasons() {
            metrics::counter!("shardcast_viewer_drops_total", "reason" => reason).increment(n);
        }
    }
}

/// An object of those that there are.
impl Serialize for Drops {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.reasons())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reasons_that_there_are_are_told() {
        assert_eq!(serde_json::json!(Drops::default()).to_string(), "{}");
        let drops = Drops { behind: 3, bframe: 1, ..Drops::default() };
        assert_eq!(serde_json::json!(drops).to_string(), r#"{"behind":3,"bframe":1}"#);
        let more = Drops { behind: 5, late: 2, ..drops };
        assert_eq!(more.since(drops), Drops { behind: 2, late: 2, ..Drops::default() });
    }
}
