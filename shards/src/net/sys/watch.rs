//! Word of files that change.

use super::check;
use std::{
    ffi::CString,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// Word of files that were written, made or renamed in one directory (inotify(7)).
#[derive(Debug)]
pub struct Watch(File);

impl Watch {
    pub fn directory(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the descriptor is new and ours alone; the path ends in a NUL and outlives the call.
        unsafe {
            let watch = Self(File::from(OwnedFd::from_raw_fd(check(libc::inotify_init1(libc::IN_CLOEXEC))?)));
            let events = libc::IN_CLOSE_WRITE | libc::IN_CREATE | libc::IN_MOVED_TO;
            check(libc::inotify_add_watch(watch.0.as_raw_fd(), path.as_ptr(), events))?;
            Ok(watch)
        }
    }

    /// Waits, then tells the names of one or more: for a thread that does nothing else.
    pub fn wait(&self) -> io::Result<Vec<Vec<u8>>> {
        /// Of struct inotify_event, before its name; the name's length is its last field.
        const HEADER: usize = size_of::<libc::inotify_event>();
        let mut buffer = [0; 4096];
        let read = loop {
            match (&self.0).read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => break other?,
            }
        };
        let mut rest = buffer.get(..read).unwrap_or_default();
        let mut names = Vec::new();
        while let Some((header, after)) = rest.split_at_checked(HEADER) {
            let length = header.last_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes)) as usize;
            let Some((name, next)) = after.split_at_checked(length) else { break };
            names.push(name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec());
            rest = next;
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_names_what_is_written_and_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let watch = Watch::directory(folder.path()).unwrap();
        std::fs::write(folder.path().join("srs.conf"), "x").unwrap();
        std::fs::rename(folder.path().join("srs.conf"), folder.path().join("..data")).unwrap();
        let mut names = Vec::new();
        while names.len() < 3 {
            names.extend(watch.wait().unwrap());
        }
        assert_eq!(names, [&b"srs.conf"[..], b"srs.conf", b"..data"]);
    }
}
