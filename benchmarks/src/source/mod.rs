//! A live test stream made on the fly: a moving test card with a clock, and a tone that marks each
//! second. It goes on for ever and never repeats. No sockets and no clocks; time comes in.
//! Or an FLV file, over and over.

mod beat;
mod canvas;
mod card;
mod clock;
mod file;
mod font;
mod live;
mod sound;
mod tone;
mod video;

pub use file::{FileError, FileSource};
pub use live::{Error, Source, SourceConfig};
