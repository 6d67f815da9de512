//! What a viewer must have before its first frame.

use crate::{
    codec::Kind,
    metadata::{Metadata, Value},
    track::{Shape, Track},
};

/// Tracks and metadata as they stood at some frame. A prologue never changes: a change makes a new
/// one with a higher version, and every frame of the ring points to the one that it was made under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prologue {
    /// Counts up over the life of the stream, its publishers included.
    pub version: u32,
    pub video: Option<Track>,
    pub audio: Option<Track>,
    /// The publisher's Opus. It needs no configuration on the wire, so it makes no new version.
    pub opus: Option<Track>,
    pub metadata: Option<Metadata>,
}

impl Prologue {
    pub fn track(&self, kind: Kind) -> Option<&Track> {
        match kind {
            Kind::Video => self.video.as_ref(),
            Kind::Audio => self.audio.as_ref(),
            Kind::Opus => self.opus.as_ref(),
        }
    }

    /// `later` differs by tracks that have turned up only: frames made under this one play under it too.
    pub fn grows_into(&self, later: &Self) -> bool {
        (self.video.is_none() || self.video == later.video) && (self.audio.is_none() || self.audio == later.audio)
    }

    /// The sound, as most formats carry it where there is such, else as Opus.
    pub fn sound(&self) -> Option<&Track> {
        self.audio.as_ref().or(self.opus.as_ref())
    }

    /// The next version with `track` in it (Opus: the same version), or `None` where nothing changes.
    pub fn with_track(&self, track: Track) -> Option<Self> {
        if self.track(track.kind()) == Some(&track) {
            return None;
        }
        Some(match track.kind() {
            Kind::Video => Self { video: Some(track), ..self.next() },
            Kind::Audio => Self { audio: Some(track), ..self.next() },
            Kind::Opus => Self { opus: Some(track), ..self.clone() },
        })
    }

    /// The next version with `metadata` in it, or `None` where nothing changes.
    pub fn with_metadata(&self, metadata: Metadata) -> Option<Self> {
        if self.metadata.as_ref() == Some(&metadata) {
            return None;
        }
        Some(Self { metadata: Some(metadata), ..self.next() })
    }

    /// The empty prologue of the next publisher.
    pub fn cleared(&self) -> Self {
        Self { version: self.version + 1, ..Self::default() }
    }

    /// Bytes of memory that it holds, about.
    pub fn weight(&self) -> usize {
        let tracks = [&self.video, &self.audio, &self.opus].into_iter().flatten().map(|track| track.config.len());
        let metadata = self.metadata.iter().flat_map(|metadata| &metadata.0).map(|(name, value)| {
            name.len() + size_of_val(value) + if let Value::Text(text) = value { text.len() } else { 0 }
        });
        size_of::<Self>() + tracks.sum::<usize>() + metadata.sum::<usize>()
    }

    /// The publisher's metadata corrected by what its tracks say, without what a live stream has not.
    pub fn corrected_metadata(&self) -> Metadata {
        let mut metadata = self.metadata.clone().unwrap_or_default();
        for name in ["duration", "filesize"] {
            metadata.remove(name);
        }
        for track in [&self.video, &self.audio].into_iter().flatten() {
            match &track.shape {
                Shape::Video(picture) if picture.width > 0 && picture.height > 0 => {
                    metadata.set("width", Value::Number(picture.width.into()));
                    metadata.set("height", Value::Number(picture.height.into()));
                }
                Shape::Audio(sound) if sound.sample_rate > 0 => {
                    metadata.set("audiosamplerate", Value::Number(sound.sample_rate.into()));
                    metadata.set("audiochannels", Value::Number(sound.channels.into()));
                    metadata.set("stereo", Value::Bool(sound.channels > 1));
                }
                _ => {}
            }
        }
        metadata
    }

    fn next(&self) -> Self {
        Self { version: self.version + 1, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec::Codec, track::Sound};
    use bytes::Bytes;

    fn track(codec: Codec) -> Track {
        Track { codec, config: Bytes::new(), shape: Shape::Audio(Sound::default()) }
    }

    #[test]
    fn opus_stands_beside_other_sound_and_makes_no_new_version() {
        let opus = Prologue::default().with_track(track(Codec::Opus)).unwrap();
        assert_eq!((opus.version, opus.sound()), (0, Some(&track(Codec::Opus))));
        assert_eq!(opus.with_track(track(Codec::Opus)), None);
        let both = opus.with_track(track(Codec::Aac)).unwrap();
        assert_eq!((both.version, both.sound()), (1, Some(&track(Codec::Aac))));
        assert_eq!(both.track(Kind::Opus), opus.track(Kind::Opus));
    }
}
