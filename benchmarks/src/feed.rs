//! What is published: the test picture or a file, its pictures marked and, where wanted, of a constant rate.

use crate::{
    mark::{self, Mark},
    source::{self, FileSource, Source},
};
use bytes::Bytes;
use shardcast_engine::{codec::Kind, frame::Frame, prologue::Prologue, time::Timestamp};
use std::time::SystemTime;

/// Frames of one prologue.
pub struct Feed {
    input: Input,
    pub prologue: Prologue,
    pictures: u64,
    fill: Option<Fill>,
}

enum Input {
    Card(Box<Source>),
    File(Box<FileSource>),
}

impl Feed {
    /// `fill`: with so many kbit/s of picture.
    pub fn card(source: Source, fill: Option<u32>) -> Self {
        let mut prologue = Prologue { metadata: Some(source.metadata()), ..Prologue::default() };
        for track in source.tracks() {
            prologue = prologue.with_track(track).unwrap_or(prologue);
        }
        let fill = fill.map(|kbps| Fill { kbps: kbps.into(), sent: 0 });
        Self { input: Input::Card(Box::new(source)), prologue, pictures: 0, fill }
    }

    pub fn file(source: FileSource) -> Self {
        let prologue = source.prologue().clone();
        Self { input: Input::File(Box::new(source)), prologue, pictures: 0, fill: None }
    }

    pub fn due(&self) -> Timestamp {
        match &self.input {
            Input::Card(source) => source.due(),
            Input::File(source) => source.due(),
        }
    }

    /// Where it can: a file has its keyframes where they are.
    pub fn force_keyframe(&mut self) {
        if let Input::Card(source) = &mut self.input {
            source.force_keyframe();
        }
    }

    pub fn next(&mut self) -> Result<Frame, source::Error> {
        let mut frame = match &mut self.input {
            Input::Card(source) => source.next(SystemTime::now())?,
            Input::File(source) => source.next(),
        };
        if frame.kind == Kind::Video
            && let Some(track) = &self.prologue.video
        {
            // The clock is read once the picture is made.
            frame.payload = Mark::new(SystemTime::now(), self.pictures).put(track.codec, &frame.payload);
            self.pictures += 1;
            if let Some(fill) = &mut self.fill {
                frame.payload = fill.up(frame.payload, frame.dts);
            }
        }
        Ok(frame)
    }
}

/// Keeps pictures at a constant rate.
struct Fill {
    kbps: u64,
    /// Bytes so far.
    sent: u64,
}

impl Fill {
    /// The picture of `dts`, filled up to what the rate allows until then.
    fn up(&mut self, picture: Bytes, dts: Timestamp) -> Bytes {
        let allowed = self.kbps * dts.as_ms().unsigned_abs() / 8;
        let missing = allowed.saturating_sub(self.sent + picture.len() as u64);
        let filled = mark::fill(&picture, missing as usize);
        self.sent += filled.len() as u64;
        filled
    }
}
