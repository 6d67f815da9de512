//! A stream's HLS at its home: the window of segments in memory, and a copy of it in files where that is wanted.

use crate::{
    config,
    files::{self, Job, Writer},
};
use shardcast_engine::{fanout::Unit, key::StreamKey};
use shardcast_protocols::hls::{Change, Content, Packager};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use tracing::{debug, warn};

pub struct Hls {
    key: StreamKey,
    packager: Packager,
    copy: Option<Copy>,
    /// How long the window outlives its publisher.
    dispose: Duration,
    /// Files are removed when their segments leave, and all with the window.
    cleanup: bool,
    cleanup_at_end: bool,
    /// No publisher is here, and at this time the window goes.
    ends: Option<Instant>,
}

/// The window as files.
struct Copy {
    folder: PathBuf,
    writer: Writer,
}

impl Hls {
    pub fn new(key: &StreamKey, config: &config::Hls, writer: &Writer) -> Self {
        let packager = Packager::new(config.settings, key.clone(), config.names.clone());
        let mut copy = config.folder.clone().map(|folder| Copy { folder, writer: writer.clone() });
        if let Some(unsafe_copy) = copy.take_if(|copy| copy.path(packager.playlist_path()).is_none()) {
            warn!("{key} is not written below {}: its name leads elsewhere", unsafe_copy.folder.display());
        }
        let dispose = if config.dispose.is_zero() { config.window } else { config.dispose };
        let cleanup_at_end = config.cleanup && !config.dispose.is_zero();
        Self { key: key.clone(), packager, copy, dispose, cleanup: config.cleanup, cleanup_at_end, ends: None }
    }

    /// A publisher is here.
    pub fn published(&mut self) {
        self.ends = None;
    }

    pub fn push(&mut self, unit: &Unit) {
        if let Some(change) = self.packager.push(unit) {
            self.take(change);
        }
    }

    /// The publisher is gone.
    pub fn unpublished(&mut self) {
        if let Some(change) = self.packager.splice() {
            self.take(change);
        }
        // One that never had a segment holds nothing that anybody could ask for.
        let stays = if self.packager.is_empty() { Duration::ZERO } else { self.dispose };
        self.ends = Some(Instant::now() + stays);
    }

    pub fn content(&self, path: &str) -> Option<Content> {
        self.packager.content(path)
    }

    /// Nobody is to find it any more.
    pub fn is_over(&self, now: Instant) -> bool {
        self.ends.is_some_and(|ends| ends <= now)
    }

    /// Removes its files, where files are removed at all.
    pub fn dispose(&self) {
        if let Some(copy) = self.copy.as_ref().filter(|_| self.cleanup_at_end && !self.packager.is_empty()) {
            let paths = self.packager.paths().filter_map(|path| copy.path(path));
            copy.post(&self.key, paths.map(|path| Job::Remove { path }).collect());
        }
    }

    pub fn bytes(&self) -> usize {
        self.packager.bytes()
    }

    fn take(&mut self, Change { added, gone, playlist }: Change) {
        metrics::counter!("shardcast_hls_segments_total").increment(1);
        debug!("{} HLS segment {} of {}, {} bytes", self.key, added.path, added.duration, added.bytes.len());
        let Some(copy) = &self.copy else { return };
        let write = |path: &str, bytes| copy.path(path).map(|path| Job::Write { path, bytes });
        // The list names what is there already, and not what is there no longer.
        let mut jobs = Vec::new();
        jobs.extend(write(&added.path, added.bytes.clone()));
        jobs.extend(write(self.packager.playlist_path(), playlist));
        if self.cleanup {
            jobs.extend(gone.iter().filter_map(|path| copy.path(path)).map(|path| Job::Remove { path }));
        }
        copy.post(&self.key, jobs);
    }
}

impl Copy {
    fn path(&self, below: &str) -> Option<PathBuf> {
        files::within(&self.folder, below)
    }

    fn post(&self, key: &StreamKey, jobs: Vec<Job>) {
        if !self.writer.post(jobs) {
            metrics::counter!("shardcast_files_failed_total").increment(1);
            warn!("{key}: the disk does not keep up, a segment is not written");
        }
    }
}
