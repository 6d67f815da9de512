//! One elementary stream: its codec, the configuration a decoder needs, and what that says.

use crate::codec::{Codec, Kind};
use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    pub codec: Codec,
    /// The codec's configuration record, see [`Codec`]; empty where the codec has none.
    pub config: Bytes,
    pub shape: Shape,
}

/// What the configuration says of the picture or the sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    Video(Picture),
    Audio(Sound),
}

/// A picture's size (pixels, after cropping), profile and level; zero or empty where unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    /// Name as SRS's API prints it: "Baseline", "Main", "High", …, "Other".
    pub profile: &'static str,
    /// "1", "1.1", … "5.1".
    pub level: String,
}

/// A sound's sample rate (Hz), channels and profile; zero or empty where unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sound {
    pub sample_rate: u32,
    pub channels: u8,
    /// Name as SRS's API prints it: "LC", "Main", "SSR", "HE", "HEv2", "Other".
    pub profile: &'static str,
}

impl Track {
    pub fn kind(&self) -> Kind {
        self.codec.kind()
    }
}
