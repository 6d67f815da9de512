//! Files that are written whole: one thread of the process, so that no shard waits for a disk.

use bytes::Bytes;
use std::{
    fs, io,
    path::{Component, Path, PathBuf},
    sync::mpsc::{SyncSender, sync_channel},
    thread::{self, JoinHandle},
};
use tracing::warn;

/// What is to be done, in order.
pub enum Job {
    /// Beside its place first, then renamed, so that nobody reads a part of it.
    Write {
        path: PathBuf,
        bytes: Bytes,
    },
    Remove {
        path: PathBuf,
    },
    /// What comes when all before it is done.
    Then(Box<dyn FnOnce() + Send>),
    /// The last one: executors that have ended may hold their writers for ever.
    End,
}

/// Hands jobs to the thread.
#[derive(Clone)]
pub struct Writer(SyncSender<Vec<Job>>);

/// Lists of jobs that may wait for the disk.
const QUEUE: usize = 256;

impl Writer {
    /// Starts the thread, which ends at [`Writer::end`].
    pub fn start() -> io::Result<(Self, JoinHandle<()>)> {
        let (sender, receiver) = sync_channel::<Vec<Job>>(QUEUE);
        let thread = thread::Builder::new().name("files".into()).spawn(move || {
            for job in receiver.into_iter().flatten() {
                let (done, path) = match job {
                    Job::Write { path, bytes } => (write(&path, &bytes), path),
                    Job::Remove { path } => match fs::remove_file(&path) {
                        // A file that is gone already is what was wanted.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        done => (done, path),
                    },
                    Job::Then(act) => {
                        act();
                        continue;
                    }
                    Job::End => return,
                };
                if let Err(error) = done {
                    metrics::counter!("shardcast_files_failed_total").increment(1);
                    warn!("{}: {error}", path.display());
                }
            }
        })?;
        Ok((Self(sender), thread))
    }

    /// The thread ends when what was posted before is done.
    pub fn end(&self) {
        // Without a thread there is nothing to end.
        let _ = self.0.send(vec![Job::End]);
    }

    /// False where the disk cannot keep up; then none of `jobs` is done.
    pub fn post(&self, jobs: Vec<Job>) -> bool {
        self.0.try_send(jobs).is_ok()
    }
}

/// `below` within `folder`, where it stays there: publishers choose the names of their streams.
pub fn within(folder: &Path, below: &str) -> Option<PathBuf> {
    let below = Path::new(below);
    let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
    let whole = !below.as_os_str().as_encoded_bytes().contains(&0);
    (plain && whole).then(|| folder.join(below))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    fs::write(&beside, bytes)?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_leave_their_folder() {
        let within = |below| super::within(Path::new("/srv"), below);
        assert_eq!(within("live/a.ts").as_deref(), Some(Path::new("/srv/live/a.ts")));
        for bad in ["../a.ts", "live/../../a.ts", "/etc/a.ts", "live/a\0.ts"] {
            assert_eq!(within(bad), None, "{bad}");
        }
    }

    #[test]
    fn jobs_are_done_in_order_before_the_thread_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join("live").join(name);
        let (writer, thread) = Writer::start().unwrap();
        let write = |name: &str| Job::Write { path: path(name), bytes: Bytes::from(name.to_owned()) };
        assert!(writer.post(vec![write("a"), write("b"), Job::Remove { path: path("a") }]));
        writer.end();
        thread.join().unwrap();
        let left: Vec<_> = fs::read_dir(path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["b"]);
        assert_eq!(fs::read(path("b")).unwrap(), b"b");
    }
}
