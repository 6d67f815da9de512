//! Recording to files, `vhost.dvr`: a recorder is one more cursor on a stream's ring, at its home.

pub mod disk;
pub mod file;
pub mod path;
pub mod recorder;
