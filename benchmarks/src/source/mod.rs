//! A live test stream made on the fly: a moving test card with a clock, and a tone that marks each
//! second. It goes on for ever and never repeats. No sockets and no clocks; time comes in.

mod beat;
mod canvas;
mod card;
mod clock;
mod font;
mod live;
mod sound;
mod tone;
mod video;

pub use live::{Error, Source, SourceConfig};
