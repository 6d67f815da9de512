//! An FLV file as a live stream: read once, repeated for ever, each time behind the one before.

use crate::viewer::take_tag;
use shardcast_engine::{
    codec::Kind,
    frame::{Frame, Media},
    prologue::Prologue,
    time::Timestamp,
};
use shardcast_protocols::flv::{FlvReader, StreamError, TagError, TagReader};
use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
};

const TAG_BYTES_MAX: usize = 16 << 20;
/// From the last frame of the file to its first one again, where that cannot be told.
const STEP: Timestamp = Timestamp::from_whole_ms(40);

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{0}: {1}")]
    Read(PathBuf, io::Error),
    #[error("{0}: {1}")]
    Stream(PathBuf, StreamError),
    #[error("{0}: {1}")]
    Tag(PathBuf, TagError),
    #[error("{0}: has no keyframe")]
    NoKeyframe(PathBuf),
}

pub struct FileSource {
    prologue: Prologue,
    /// In the order of the file, from zero on.
    frames: Vec<Frame>,
    /// Of one round.
    lasts: Timestamp,
    next: usize,
    /// When this round began.
    begin: Timestamp,
}

impl FileSource {
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let bytes = fs::read(path).map_err(|error| FileError::Read(path.into(), error))?;
        let (mut reader, mut tags) = (FlvReader::new(TAG_BYTES_MAX), TagReader::default());
        reader.push(&bytes);
        let mut media = VecDeque::new();
        while let Some(tag) = reader.next().map_err(|error| FileError::Stream(path.into(), error))? {
            let dts = Timestamp::from_ms(tag.timestamp_ms.into());
            take_tag(&mut tags, dts, tag, &mut media).map_err(|error| FileError::Tag(path.into(), error))?;
        }
        Self::of(media).ok_or_else(|| FileError::NoKeyframe(path.into()))
    }

    /// From the first keyframe on. The configurations are the last ones: a file that changes them in the middle is
    /// not for this.
    fn of(media: impl IntoIterator<Item = Media>) -> Option<Self> {
        let (mut prologue, mut frames) = (Prologue::default(), Vec::new());
        for media in media {
            match media {
                Media::Track(track) => prologue = prologue.with_track(track).unwrap_or(prologue),
                Media::Other(_) => {}
                Media::Metadata(metadata) => prologue.metadata = Some(metadata),
                Media::Colour(colour) => prologue.colour = Some(colour),
                Media::Frame(frame) => frames.push(frame),
            }
        }
        let shows = frames.iter().any(|frame: &Frame| frame.kind == Kind::Video);
        let first = frames.iter().position(|frame| frame.keyframe || !shows)?;
        frames.drain(..first);
        let zero = frames.first()?.dts;
        for frame in &mut frames {
            (frame.dts, frame.pts) = ((frame.dts - zero).max(Timestamp::ZERO), frame.pts - zero);
        }
        let kind = frames.first()?.kind;
        let mut times = frames.iter().rev().filter(|frame| frame.kind == kind).map(|frame| frame.dts);
        let (last, before) = (times.next()?, times.next());
        let step = before.map_or(STEP, |before| last - before);
        let lasts = frames.iter().map(|frame| frame.dts).max()?.max(last + step);
        let lasts = lasts.max(STEP);
        Some(Self { prologue, frames, lasts, next: 0, begin: Timestamp::ZERO })
    }

    pub fn prologue(&self) -> &Prologue {
        &self.prologue
    }

    pub fn due(&self) -> Timestamp {
        self.frames.get(self.next).map_or(self.begin, |frame| self.begin + frame.dts)
    }

    pub fn next(&mut self) -> Frame {
        let mut frame = self.frames[self.next].clone();
        (frame.dts, frame.pts) = (self.begin + frame.dts, self.begin + frame.pts);
        self.next += 1;
        if self.next == self.frames.len() {
            (self.next, self.begin) = (0, self.begin + self.lasts);
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn picture(ms: i64, keyframe: bool) -> Media {
        let dts = Timestamp::from_ms(ms);
        Media::Frame(Frame { kind: Kind::Video, dts, pts: dts, keyframe, payload: Bytes::from_static(b"picture") })
    }

    #[test]
    fn goes_on_behind_its_end_without_a_jump() {
        let media = (0..5).map(|n| picture(1_000 + n * 40, n == 1 || n == 3));
        let mut source = FileSource::of(media).unwrap();
        let times: Vec<i64> = (0..9)
            .map(|_| {
                let due = source.due();
                let frame = source.next();
                assert_eq!(frame.dts, due);
                frame.dts.as_ms()
            })
            .collect();
        assert_eq!(times, [0, 40, 80, 120, 160, 200, 240, 280, 320]);
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let folder = std::env::temp_dir().join(format!("shardbench-file-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let error = |bytes: &[u8]| {
            let file = folder.join("a.flv");
            fs::write(&file, bytes).unwrap();
            FileSource::open(&file).err().unwrap()
        };
        assert!(matches!(error(b"RIFF0123456789"), FileError::Stream(..)));
        assert!(matches!(error(b"FLV\x01\x05\0\0\0\x09\0\0\0\0"), FileError::NoKeyframe(_)));
        fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(FileSource::open(&folder), Err(FileError::Read(..))));
    }
}
