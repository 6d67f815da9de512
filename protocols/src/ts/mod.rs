//! MPEG transport streams (ISO 13818-1): one program of one picture and one sound, written and read.
//!
//! A picture's PES packet is one access unit; streams that cut them otherwise are not put together here.

pub(crate) mod access_unit;
pub mod format;
mod packet;
mod pes;
mod psi;
pub mod reader;
mod sound;

pub use format::Ts;
pub use psi::carries;
pub use reader::{Damage, TsError, TsReader};

#[cfg(test)]
mod tests;
