//! The pid file: one server at a time holds it, and its pid is in it. Beside it lies the server's id.

use crate::{net::sys, shard::random_id};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Held as long as this lives. The file stays: to remove it would take the lock from under the next server.
#[derive(Debug)]
pub struct PidFile {
    _file: File,
    path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Unheld {
    #[error("another server runs with the pid file {}: pid {pid}; stop it, or say another `pid`", path.display())]
    Taken { path: PathBuf, pid: String },
    #[error("{} (pid): {source}", path.display())]
    Unusable { path: PathBuf, source: io::Error },
}

/// No id is longer, bytes.
const ID_BYTES_MAX: u64 = 128;

impl PidFile {
    /// Makes the file and its folder where they are not there, locks it, and writes the pid of this process. After
    /// a fork, not before: a child does not have the lock.
    pub fn hold(path: &Path) -> Result<Self, Unheld> {
        let unusable = |source| Unheld::Unusable { path: path.into(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(unusable)?;
        }
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path);
        let mut file = open.map_err(unusable)?;
        if !sys::lock(file.as_fd()).map_err(unusable)? {
            let mut pid = String::new();
            // Unreadable, it is as good as empty.
            let _ = file.take(ID_BYTES_MAX).read_to_string(&mut pid);
            return Err(Unheld::Taken { path: path.into(), pid: pid.trim().into() });
        }
        let write = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
        write.map_err(unusable)?;
        Ok(Self { _file: file, path: path.into() })
    }

    /// The server's id: `wanted`, else the one of its last run, else a new one. Written down for the next run.
    pub fn server_id(&self, wanted: Option<&str>) -> Result<String, Unheld> {
        let path = self.path.with_extension("id");
        let id = match wanted {
            Some(wanted) => wanted.to_owned(),
            None => match read_id(&path) {
                Ok(id) if !id.is_empty() => return Ok(id),
                _ => fresh_id(),
            },
        };
        fs::write(&path, &id).map_err(|source| Unheld::Unusable { path, source })?;
        Ok(id)
    }
}

fn read_id(path: &Path) -> io::Result<String> {
    let mut id = String::new();
    File::open(path)?.take(ID_BYTES_MAX).read_to_string(&mut id)?;
    Ok(id.trim().into())
}

/// As SRS names servers.
pub fn fresh_id() -> String {
    format!("vid-{}", &random_id()[..7])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays_unless_another_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let held = PidFile::hold(&folder.path().join("objs/srs.pid")).unwrap();
        let first = held.server_id(None).unwrap();
        assert_eq!(held.server_id(None).unwrap(), first);
        assert_eq!(held.server_id(Some("mine")).unwrap(), "mine");
        assert_eq!(held.server_id(None).unwrap(), "mine");
        assert_eq!(fs::read_to_string(folder.path().join("objs/srs.id")).unwrap(), "mine");
        assert_eq!(fs::read_to_string(&held.path).unwrap(), std::process::id().to_string());
    }
}
