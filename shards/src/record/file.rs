//! One file of a recording: written under another name, and given its own when it is whole.

use shardcast_protocols::mp4::{Index, Plain};
use std::{
    fs, io,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{0} exists already")]
    Exists(PathBuf),
    #[error("{what} {path}: {error}")]
    Io { what: &'static str, path: PathBuf, error: io::Error },
}

/// What makes a file whole.
pub enum Ending {
    Nothing,
    /// The fragments become a plain MP4.
    Plain(Box<Index>),
}

pub struct File {
    path: PathBuf,
    making: PathBuf,
    file: fs::File,
    len: u64,
}

impl File {
    /// Creates `path.tmp` and the folders above it. `path` must not exist; what a crash left as `path.tmp` goes.
    pub fn create(path: PathBuf) -> Result<Self, FileError> {
        if path.exists() {
            return Err(FileError::Exists(path));
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(wrong("make the folder", folder))?;
        }
        let mut making = path.clone().into_os_string();
        making.push(".tmp");
        let making = PathBuf::from(making);
        let file = fs::File::create(&making).map_err(wrong("create", &making))?;
        Ok(Self { path, making, file, len: 0 })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_all(bytes).map_err(wrong("write", &self.making))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file whole and gives it its name. How many bytes it has.
    pub fn close(mut self, ending: Ending) -> Result<u64, FileError> {
        match ending {
            Ending::Nothing => {}
            Ending::Plain(index) => {
                let Plain { moov, overwrite } = index.finish();
                // What comes first leaves the file readable should the rest not follow.
                self.write(&moov)?;
                for at in overwrite {
                    self.file.write_all_at(&Plain::FREE, at).map_err(wrong("write", &self.making))?;
                }
            }
        }
        if self.path.exists() {
            return Err(FileError::Exists(self.path));
        }
        fs::rename(&self.making, &self.path).map_err(wrong("rename", &self.making))?;
        Ok(self.len)
    }
}

fn wrong(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |error| FileError::Io { what, path: path.into(), error }
}
