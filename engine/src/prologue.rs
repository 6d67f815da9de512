//! What a viewer must have before its first frame.

use crate::{
    codec::Kind,
    metadata::{Metadata, Value},
    track::{Shape, Track},
};
use bytes::Bytes;

/// Tracks and metadata as they stood at some frame. A prologue never changes: a change makes a new
/// one with a higher version, and every frame of the ring points to the one that it was made under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prologue {
    /// Counts up over the life of the stream, its publishers included.
    pub version: u32,
    pub video: Option<Track>,
    pub audio: Option<Track>,
    /// The publisher's Opus. Beside `audio` it is for WebRTC, which needs no configuration on the wire: there it
    /// makes no new version.
    pub opus: Option<Track>,
    pub metadata: Option<Metadata>,
    /// Colours and HDR of the picture: the values of an Enhanced RTMP metadata packet, in AMF0.
    pub colour: Option<Bytes>,
    /// What the publisher has beside the tracks that are served: on no wire, so they make no new version.
    pub others: Vec<Other>,
}

/// A track that is not served, by the publisher's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    pub number: u8,
    pub track: Track,
}

/// So many others are known of one publisher.
const MOST_OTHERS: usize = 16;

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
        (self.video.is_none() || self.video == later.video) && (self.sound().is_none() || self.sound() == later.sound())
    }

    /// The sound, as most formats carry it where there is such, else as Opus.
    pub fn sound(&self) -> Option<&Track> {
        self.audio.as_ref().or(self.opus.as_ref())
    }

    /// Its picture and its sound, as far as there are such.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.video.iter().chain(self.sound())
    }

    /// Frames of this kind are its picture or its [`Prologue::sound`].
    pub fn plays(&self, kind: Kind) -> bool {
        kind != Kind::Opus || self.audio.is_none() && self.opus.is_some()
    }

    /// The next version with `track` in it (Opus beside other sound: the same version), or `None` where nothing
    /// changes.
    pub fn with_track(&self, track: Track) -> Option<Self> {
        if self.track(track.kind()) == Some(&track) {
            return None;
        }
        Some(match track.kind() {
            Kind::Video => Self { video: Some(track), ..self.next() },
            Kind::Audio => Self { audio: Some(track), ..self.next() },
            Kind::Opus if self.audio.is_some() => Self { opus: Some(track), ..self.clone() },
            Kind::Opus => Self { opus: Some(track), ..self.next() },
        })
    }

    /// The next version with `metadata` in it, or `None` where nothing changes.
    pub fn with_metadata(&self, metadata: Metadata) -> Option<Self> {
        if self.metadata.as_ref() == Some(&metadata) {
            return None;
        }
        Some(Self { metadata: Some(metadata), ..self.next() })
    }

    /// The next version with `colour` in it, or `None` where nothing changes.
    pub fn with_colour(&self, colour: Bytes) -> Option<Self> {
        (self.colour.as_ref() != Some(&colour)).then(|| Self { colour: Some(colour), ..self.next() })
    }

    /// This version with `other` among the tracks that are not served, or `None` where nothing changes or there are too
    /// many.
    pub fn with_other(&self, other: Other) -> Option<Self> {
        let name = |other: &Other| (other.number, other.track.kind() == Kind::Video);
        let mut others = self.others.clone();
        let is_full = others.len() == MOST_OTHERS;
        match others.iter_mut().find(|known| name(known) == name(&other)) {
            Some(known) if *known == other => return None,
            Some(known) => *known = other,
            None if is_full => return None,
            None => others.push(other),
        }
        Some(Self { others, ..self.clone() })
    }

    /// As [`Prologue::with_track`], for a track of the publisher's own: its Opus takes the place of other sound, and
    /// other sound that of its Opus.
    pub fn with_own(&self, track: Track) -> Option<Self> {
        if self.track(track.kind()) == Some(&track) {
            return None;
        }
        match track.kind() {
            Kind::Video => self.with_track(track),
            Kind::Audio => Self { opus: None, ..self.clone() }.with_track(track),
            Kind::Opus => Self { audio: None, ..self.clone() }.with_track(track),
        }
    }

    /// The empty prologue of the next publisher.
    pub fn cleared(&self) -> Self {
        Self { version: self.version + 1, ..Self::default() }
    }

    /// Bytes of memory that it holds, about.
    pub fn weight(&self) -> usize {
        let served = [&self.video, &self.audio, &self.opus].into_iter().flatten();
        let tracks = served.chain(self.others.iter().map(|other| &other.track)).map(|track| track.config.len());
        let metadata = self.metadata.iter().flat_map(|metadata| &metadata.0).map(|(name, value)| {
            name.len() + size_of_val(value) + if let Value::Text(text) = value { text.len() } else { 0 }
        });
        let colour = self.colour.as_ref().map_or(0, Bytes::len);
        size_of::<Self>() + tracks.sum::<usize>() + metadata.sum::<usize>() + colour
    }

    /// The publisher's metadata corrected by what its tracks say, without what a live stream has not.
    pub fn corrected_metadata(&self) -> Metadata {
        let mut metadata = self.metadata.clone().unwrap_or_default();
        for name in ["duration", "filesize"] {
            metadata.remove(name);
        }
        for track in self.tracks() {
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

    fn track(codec: Codec) -> Track {
        Track { codec, config: Bytes::new(), shape: Shape::Audio(Sound::default()) }
    }

    #[test]
    fn others_are_known_by_number_and_kind_and_make_no_new_version() {
        let other = |number, codec| Other { number, track: track(codec) };
        let one = Prologue::default().with_other(other(1, Codec::Aac)).unwrap();
        assert_eq!((one.version, one.with_other(other(1, Codec::Aac))), (0, None));
        let changed = one.with_other(other(1, Codec::Opus)).unwrap();
        assert_eq!(changed.others, [other(1, Codec::Opus)]);
        let both = changed.with_other(other(1, Codec::Hevc)).unwrap();
        assert_eq!(both.others, [other(1, Codec::Opus), other(1, Codec::Hevc)]);
        let mut full = both;
        for number in 2..100 {
            full = full.with_other(other(number, Codec::Aac)).unwrap_or(full);
        }
        assert_eq!(full.others.len(), MOST_OTHERS);
        assert_eq!(one.cleared().others, []);
    }

    #[test]
    fn opus_makes_no_new_version_beside_other_sound() {
        let opus = Prologue::default().with_track(track(Codec::Opus)).unwrap();
        assert_eq!((opus.version, opus.sound()), (1, Some(&track(Codec::Opus))));
        assert!(opus.plays(Kind::Opus) && !Prologue::default().plays(Kind::Opus));
        assert_eq!(opus.with_track(track(Codec::Opus)), None);
        let both = opus.with_track(track(Codec::Aac)).unwrap();
        assert_eq!((both.version, both.sound()), (2, Some(&track(Codec::Aac))));
        assert_eq!(both.track(Kind::Opus), opus.track(Kind::Opus));
        assert!(both.plays(Kind::Audio) && !both.plays(Kind::Opus));
        let own = both.with_own(Track { config: Bytes::from_static(&[1]), ..track(Codec::Opus) }).unwrap();
        assert_eq!((own.version, own.audio), (3, None));
        let aac = Prologue::default().with_track(track(Codec::Aac)).unwrap();
        assert_eq!(aac.with_track(track(Codec::Opus)).unwrap().version, aac.version);
    }
}
