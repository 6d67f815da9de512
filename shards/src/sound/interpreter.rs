//! What the home of a stream does about its sound: which line there is, and when.

use super::{encode::Target, line::Line};
use crate::config::Rtc;
use shardcast_engine::{codec::Codec, fanout::Unit, frame::Frame, key::StreamKey, prologue::Prologue, track::Track};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// What was asked for is wanted for so long.
const WANTED: Duration = Duration::from_secs(5);

/// Opus becomes AAC while it is published; other sound becomes Opus while somebody asks.
#[derive(Default)]
pub struct Interpreter {
    rtc: Rtc,
    line: Option<Line>,
    /// When Opus was asked for last.
    asked: Option<Instant>,
    /// It was told that the publisher's sound cannot be made Opus.
    told: bool,
}

impl Interpreter {
    /// A publisher comes.
    pub fn published(&mut self, rtc: Rtc) {
        self.line = None;
        self.told = false;
        self.rtc = rtc;
    }

    /// The publisher is gone.
    pub fn unpublished(&mut self) {
        self.line = None;
    }

    /// The publisher's tracks are these now. The track that what is made of them belongs to.
    pub fn tracks(&mut self, key: &StreamKey, prologue: &Prologue, now: Instant) -> Option<Track> {
        // Other tracks may be better ones.
        self.line.take_if(|line| line.has_ended());
        self.start(key, prologue, now);
        self.line.as_ref()?.target().track()
    }

    /// Somebody needs Opus.
    pub fn asked(&mut self, key: &StreamKey, prologue: &Prologue, now: Instant) {
        self.asked = Some(now);
        self.start(key, prologue, now);
    }

    /// Ends what nobody has asked for lately.
    pub fn sweep(&mut self, key: &StreamKey, now: Instant) {
        let unwanted = |line: &mut Line| matches!(line.target(), Target::Opus { .. });
        if !self.is_asked(now) && self.line.take_if(unwanted).is_some() {
            info!("{key} sound is not made Opus any more: nobody asks");
        }
    }

    pub fn feed(&mut self, unit: &Arc<Unit>) {
        if let Some(line) = &mut self.line {
            line.feed(unit);
        }
    }

    /// Frames that are ready, in stream time.
    pub fn collect(&self) -> VecDeque<Frame> {
        self.line.as_ref().map(Line::collect).unwrap_or_default()
    }

    /// There may be something to collect at any time.
    pub fn is_busy(&self) -> bool {
        self.line.is_some()
    }

    fn is_asked(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < WANTED)
    }

    fn start(&mut self, key: &StreamKey, prologue: &Prologue, now: Instant) {
        let Rtc { rtmp_to_rtc, rtc_to_rtmp, opus_bitrate, aac_bitrate, .. } = self.rtc;
        let target = match prologue {
            Prologue { opus: Some(_), .. } if rtc_to_rtmp => Target::Aac { bitrate: aac_bitrate },
            Prologue { opus: None, audio: Some(track), .. } if rtmp_to_rtc && self.is_asked(now) => {
                if !matches!(track.codec, Codec::Aac | Codec::Mp3) {
                    if !std::mem::replace(&mut self.told, true) {
                        let codec = track.codec;
                        warn!(
                            "{key} sound is {codec}, which is not made Opus: WebRTC has no sound, publish AAC or Opus"
                        );
                    }
                    return;
                }
                Target::Opus { bitrate: opus_bitrate }
            }
            _ => return,
        };
        // The publisher may have changed from one to the other.
        self.line.take_if(|line| line.target() != target);
        self.line.get_or_insert_with(|| {
            info!("{key} sound is made {}", target.codec());
            Line::new(key.clone(), target)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardcast_engine::key::DEFAULT_VHOST;
    use shardcast_protocols::rtp;

    const BOTH: Rtc = Rtc::TEST;

    fn key() -> StreamKey {
        StreamKey::new(DEFAULT_VHOST, "live", "a")
    }

    fn with(track: Track) -> Prologue {
        Prologue::default().with_track(track).unwrap()
    }

    fn aac() -> Track {
        Target::Aac { bitrate: 0 }.track().unwrap()
    }

    #[test]
    fn opus_is_made_while_somebody_asks() {
        let (mut interpreter, start) = (Interpreter::default(), Instant::now());
        interpreter.published(BOTH);
        assert_eq!(interpreter.tracks(&key(), &with(aac()), start), None);
        assert!(!interpreter.is_busy());
        interpreter.asked(&key(), &with(aac()), start);
        assert!(interpreter.is_busy());
        interpreter.sweep(&key(), start + WANTED / 2);
        assert!(interpreter.is_busy());
        interpreter.sweep(&key(), start + WANTED);
        assert!(!interpreter.is_busy());
    }

    #[test]
    fn who_asks_before_the_publisher_comes_has_it_from_the_first_frame() {
        let (mut interpreter, start) = (Interpreter::default(), Instant::now());
        interpreter.asked(&key(), &Prologue::default(), start);
        interpreter.published(BOTH);
        assert!(!interpreter.is_busy());
        interpreter.tracks(&key(), &with(aac()), start);
        assert!(interpreter.is_busy());
    }

    #[test]
    fn aac_is_made_of_opus_as_long_as_there_is_a_publisher() {
        let (mut interpreter, start) = (Interpreter::default(), Instant::now());
        interpreter.published(BOTH);
        let made = interpreter.tracks(&key(), &with(rtp::opus::track(2)), start);
        assert_eq!(made.map(|track| track.codec), Some(Codec::Aac));
        interpreter.sweep(&key(), start + 10 * WANTED);
        assert!(interpreter.is_busy());
        interpreter.unpublished();
        assert!(!interpreter.is_busy());
    }

    #[test]
    fn what_is_off_is_not_made() {
        let (mut interpreter, start) = (Interpreter::default(), Instant::now());
        interpreter.published(Rtc { rtmp_to_rtc: false, rtc_to_rtmp: false, ..BOTH });
        interpreter.asked(&key(), &with(aac()), start);
        assert_eq!(interpreter.tracks(&key(), &with(rtp::opus::track(2)), start), None);
        assert!(!interpreter.is_busy());
    }
}
