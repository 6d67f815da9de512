//! A stream's identity, and the shard that owns it.

use std::{fmt, sync::Arc};

/// vhost, app and stream name: what publishers and viewers ask for. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StreamKey(Arc<Parts>);

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
struct Parts {
    vhost: String,
    app: String,
    stream: String,
    /// Of the three, for its home, which each read of a publisher asks for.
    hash: u64,
}

/// The vhost of clients that name none.
pub const DEFAULT_VHOST: &str = "__defaultVhost__";

impl StreamKey {
    pub fn new(vhost: &str, app: &str, stream: &str) -> Self {
        let hash = stable_hash([vhost, app, stream].into_iter().flat_map(|part| part.bytes().chain([b'/'])));
        Self(Arc::new(Parts { vhost: vhost.into(), app: app.into(), stream: stream.into(), hash }))
    }

    pub fn vhost(&self) -> &str {
        &self.0.vhost
    }

    pub fn app(&self) -> &str {
        &self.0.app
    }

    pub fn stream(&self) -> &str {
        &self.0.stream
    }

    /// The shard that owns this stream, of `shards`: the one place where homes are decided.
    pub fn home(&self, shards: usize) -> usize {
        // A multiply-shift onto 0..shards.
        let hash = self.0.hash ^ self.0.hash >> 32;
        ((u128::from(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * shards as u128) >> 64) as usize
    }
}

/// FNV-1a, 64 bit: the same over restarts and builds.
pub fn stable_hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

impl fmt::Display for StreamKey {
    /// `/app/stream`, or `vhost/app/stream` for another than the default vhost, as SRS prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { vhost, app, stream, .. } = &*self.0;
        let vhost = if vhost == DEFAULT_VHOST { "" } else { vhost };
        write!(f, "{vhost}/{app}/{stream}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_spread_evenly() {
        let mut count = [0; 16];
        for n in 0..16_000 {
            count[StreamKey::new(DEFAULT_VHOST, "live", &format!("cam{n}")).home(16)] += 1;
        }
        assert!(count.iter().all(|n| (800..1200).contains(n)), "{count:?}");
    }

    #[test]
    fn prints_like_srs() {
        assert_eq!(StreamKey::new(DEFAULT_VHOST, "live", "a").to_string(), "/live/a");
        assert_eq!(StreamKey::new("h.io", "live", "a").to_string(), "h.io/live/a");
    }
}
