//! A stream's HLS at its home: the window of segments in memory, and a copy of it in files where that is wanted.

use crate::{
    config,
    files::{self, Job, Writer},
    hooks::{self, Client, Event, Herald},
};
use shardcast_engine::{fanout::Unit, key::StreamKey};
use shardcast_protocols::hls::{Change, Content, Names, Packager, Segment};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{debug, warn};

pub struct Hls {
    key: StreamKey,
    packager: Packager,
    copy: Option<Copy>,
    names: Names,
    herald: Herald,
    /// The publisher of now, or the last one.
    client: Option<Arc<Client>>,
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
    pub fn new(key: &StreamKey, config: &config::Hls, writer: &Writer, herald: Herald) -> Self {
        let packager = Packager::new(config.settings, key.clone(), config.names.clone());
        let mut copy = config.folder.clone().map(|folder| Copy { folder, writer: writer.clone() });
        if let Some(unsafe_copy) = copy.take_if(|copy| copy.path(packager.playlist_path()).is_none()) {
            warn!("{key} is not written below {}: its name leads elsewhere", unsafe_copy.folder.display());
        }
        let dispose = if config.dispose.is_zero() { config.window } else { config.dispose };
        let cleanup_at_end = config.cleanup && !config.dispose.is_zero();
        Self {
            key: key.clone(),
            packager,
            copy,
            names: config.names.clone(),
            herald,
            client: None,
            dispose,
            cleanup: config.cleanup,
            cleanup_at_end,
            ends: None,
        }
    }

    /// A publisher is here.
    pub fn published(&mut self, client: Arc<Client>) {
        self.client = Some(client);
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
        let then = self.client.clone().map(|client| {
            let (herald, event) = (self.herald.clone(), self.event(&added));
            move || herald.tell(event, &client)
        });
        let Some(copy) = &self.copy else {
            return then.into_iter().for_each(|then| then());
        };
        let write = |path: &str, bytes| copy.path(path).map(|path| Job::Write { path, bytes });
        // The list names what is there already, and not what is there no longer.
        let mut jobs = Vec::new();
        jobs.extend(write(&added.path, added.bytes.clone()));
        jobs.extend(write(self.packager.playlist_path(), playlist));
        jobs.extend(then.map(|then| Job::Then(Box::new(then))));
        if self.cleanup {
            jobs.extend(gone.iter().filter_map(|path| copy.path(path)).map(|path| Job::Remove { path }));
        }
        copy.post(&self.key, jobs);
    }
}

impl Hls {
    /// What is told of a segment.
    fn event(&self, added: &Segment) -> Event {
        let path = |below: &str| self.copy.as_ref().and_then(|copy| copy.path(below)).unwrap_or_default();
        let playlist = self.packager.playlist_path();
        let entry = self.names.entry(playlist, &added.path);
        let folder = playlist.rfind('/').map_or("", |slash| &playlist[..=slash]);
        Event::Hls(Box::new(hooks::Segment {
            seq: added.seq,
            duration_s: added.duration.as_ms() as f64 / 1000.0,
            file: path(&added.path),
            url: match entry.strip_prefix('/') {
                Some(absolute) => absolute.to_owned(),
                None if entry.contains("://") => entry,
                None => format!("{folder}{entry}"),
            },
            m3u8: path(playlist),
            m3u8_url: playlist.to_owned(),
        }))
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
