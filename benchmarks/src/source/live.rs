//! The test stream itself: pictures and sound in order of decoding time, one frame per call.
//!
//! Timestamps come from frame and sample numbers, so they never drift, whenever `next` is called.

use super::{
    beat::Beat,
    card::{Card, Moment},
    sound, tone, video,
};
use shardcast_engine::{
    codec::Kind,
    frame::Frame,
    metadata::{Metadata, Value},
    time::Timestamp,
    track::Track,
};
use shardcast_protocols::codec::avc::AvcError;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Pixels, even, 160×90 to 3840×2160.
    pub width: u32,
    pub height: u32,
    /// 1 to 120.
    pub fps: u32,
    /// Of the picture; the sound comes on top.
    pub kbps: u32,
    /// Pictures from one keyframe to the next, at least 1.
    pub gop: u32,
    /// 44100 or 48000 Hz.
    pub sample_rate: u32,
    pub sound_kbps: u32,
    /// Shown in the picture.
    pub name: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name} is {value}, not within {min} to {max}")]
    Range { name: &'static str, value: u32, min: u32, max: u32 },
    #[error("width and height must be even, not {width}x{height}")]
    OddSize { width: u32, height: u32 },
    #[error("H.264 encoder: {0}")]
    Picture(#[from] openh264::Error),
    #[error("H.264 encoder: {0}")]
    Track(#[from] AvcError),
    #[error("H.264 encoder gave {sps_bytes} bytes of SPS and {pps_bytes} of PPS")]
    ParameterSets { sps_bytes: usize, pps_bytes: usize },
    #[error("H.264 encoder gave no picture (keyframe wanted: {wanted_keyframe})")]
    NoPicture { wanted_keyframe: bool },
    #[error("AAC encoder: {0}")]
    Sound(String),
}

pub struct Source {
    config: SourceConfig,
    card: Card,
    video: video::Encoder,
    sound: sound::Encoder,
    /// Made when the first frame is asked for.
    beat: Option<Beat>,
    samples: Vec<i16>,
    /// Number of the next picture, and of the next access unit of sound.
    picture: u64,
    unit: u64,
    until_keyframe: u32,
}

impl Source {
    pub fn new(config: SourceConfig) -> Result<Self, Error> {
        config.check()?;
        let details = format!("{}x{}  {} fps  {} kbit/s", config.width, config.height, config.fps, config.kbps);
        let card = Card::new(config.width as usize, config.height as usize, &config.name, &details);
        Ok(Self {
            video: video::Encoder::new(&card.canvas, config.fps, config.kbps)?,
            sound: sound::Encoder::new(config.sample_rate, config.sound_kbps)?,
            samples: vec![0; sound::UNIT_SAMPLES as usize * tone::CHANNELS],
            card,
            config,
            beat: None,
            picture: 0,
            unit: 0,
            until_keyframe: 0,
        })
    }

    /// Picture, then sound.
    pub fn tracks(&self) -> [Track; 2] {
        [self.video.track(), self.sound.track()]
    }

    pub fn metadata(&self) -> Metadata {
        let SourceConfig { width, height, fps, kbps, sample_rate, sound_kbps, .. } = self.config;
        let mut metadata = Metadata::default();
        for (name, value) in [
            ("width", width),
            ("height", height),
            ("framerate", fps),
            ("videocodecid", 7), // AVC (Adobe Flash Video File Format 10.1 §E.4.3.1)
            ("videodatarate", kbps),
            ("audiocodecid", 10), // AAC (§E.4.2.1)
            ("audiodatarate", sound_kbps),
            ("audiosamplerate", sample_rate),
            ("audiosamplesize", 16),
        ] {
            metadata.set(name, Value::Number(value.into()));
        }
        metadata.set("stereo", Value::Bool(true));
        metadata.set("encoder", Value::Text(concat!("shardbench ", env!("CARGO_PKG_VERSION")).into()));
        metadata
    }

    /// Decoding time of the next frame.
    pub fn due(&self) -> Timestamp {
        self.picture_dts().min(self.unit_dts())
    }

    /// Makes the next picture a keyframe; the GOP starts anew with it.
    pub fn force_keyframe(&mut self) {
        self.until_keyframe = 0;
    }

    /// The next frame; a picture shows `wall_clock`.
    pub fn next(&mut self, wall_clock: SystemTime) -> Result<Frame, Error> {
        let fps = self.config.fps;
        let beat = *self.beat.get_or_insert_with(|| Beat::new(fraction_ns(wall_clock), fps));
        if self.picture_dts() <= self.unit_dts() { self.next_picture(&beat, wall_clock) } else { self.next_unit(&beat) }
    }

    fn next_picture(&mut self, beat: &Beat, wall_clock: SystemTime) -> Result<Frame, Error> {
        self.card.draw(&Moment {
            wall_clock,
            frame: self.picture,
            fps: self.config.fps,
            flash: beat.mark_ns(beat.frame_ns(self.picture)).is_some(),
            second: fraction_ns(wall_clock) as f32 / 1e9,
        });
        let coded = self.video.encode(&self.card.canvas, self.until_keyframe == 0)?;
        self.until_keyframe = if coded.keyframe { self.config.gop } else { self.until_keyframe } - 1;
        let dts = self.picture_dts();
        self.picture += 1;
        Ok(Frame { kind: Kind::Video, dts, pts: dts, keyframe: coded.keyframe, payload: coded.payload })
    }

    fn next_unit(&mut self, beat: &Beat) -> Result<Frame, Error> {
        // Sound enters the encoder as early as it will come out of the decoder late.
        let first = self.unit * sound::UNIT_SAMPLES + self.sound.delay_samples();
        tone::play(beat, self.config.sample_rate, first, &mut self.samples);
        let payload = self.sound.encode(&self.samples)?;
        let dts = self.unit_dts();
        self.unit += 1;
        Ok(Frame { kind: Kind::Audio, dts, pts: dts, keyframe: false, payload })
    }

    fn picture_dts(&self) -> Timestamp {
        Timestamp::from_ticks(self.picture as i64, self.config.fps)
    }

    fn unit_dts(&self) -> Timestamp {
        Timestamp::from_ticks((self.unit * sound::UNIT_SAMPLES) as i64, self.config.sample_rate)
    }
}

impl SourceConfig {
    fn check(&self) -> Result<(), Error> {
        for (name, value, min, max) in [
            ("width", self.width, 160, 3840),
            ("height", self.height, 90, 2160),
            ("fps", self.fps, 1, 120),
            ("kbps", self.kbps, 32, 100_000),
            ("gop", self.gop, 1, 10_000),
            ("sample_rate", self.sample_rate, 44_100, 48_000),
            ("sound_kbps", self.sound_kbps, 32, 256),
        ] {
            if !(min..=max).contains(&value) {
                return Err(Error::Range { name, value, min, max });
            }
        }
        if (self.width | self.height) & 1 == 1 {
            return Err(Error::OddSize { width: self.width, height: self.height });
        }
        Ok(())
    }
}

fn fraction_ns(wall_clock: SystemTime) -> u32 {
    wall_clock.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardcast_protocols::codec::avc;
    use std::time::Duration;

    fn config() -> SourceConfig {
        SourceConfig {
            width: 640,
            height: 360,
            fps: 25,
            kbps: 600,
            gop: 20,
            sample_rate: 48_000,
            sound_kbps: 96,
            name: "test".into(),
        }
    }

    /// Frames until `pictures` are made, the wall clock going with their due times.
    fn frames(source: &mut Source, pictures: usize) -> Vec<Frame> {
        let start = UNIX_EPOCH + Duration::from_millis(1_800_000_000_250);
        let (mut frames, mut left) = (Vec::new(), pictures);
        while left > 0 {
            let frame = source.next(start + Duration::from_millis(source.due().as_ms() as u64)).unwrap();
            left -= usize::from(frame.kind == Kind::Video);
            frames.push(frame);
        }
        frames
    }

    #[test]
    fn frames_come_in_order_with_a_keyframe_each_gop_and_at_the_asked_rate() {
        let mut source = Source::new(config()).unwrap();
        let frames = frames(&mut source, 75);
        assert!(frames.windows(2).all(|pair| pair[0].dts <= pair[1].dts));
        let of = |kind| frames.iter().filter(move |frame| frame.kind == kind);
        let pictures: Vec<_> = of(Kind::Video).collect();
        for (n, picture) in pictures.iter().enumerate() {
            assert_eq!(picture.dts, Timestamp::from_ms(n as i64 * 40), "picture {n}");
            assert_eq!(picture.keyframe, n % 20 == 0, "picture {n}");
            assert_eq!(avc::is_random_access(&picture.payload, 4), picture.keyframe, "picture {n}");
            assert!(avc::nal_units(&picture.payload, 4).all(|nal| nal.is_ok_and(|nal| !nal.is_empty())));
        }
        for (n, unit) in of(Kind::Audio).enumerate() {
            assert_eq!(unit.dts, Timestamp::from_ticks(n as i64 * 1024, 48_000), "unit {n}");
        }
        let kbps = |kind| of(kind).map(|frame| frame.payload.len()).sum::<usize>() * 8 / 3_000;
        assert!((60..900).contains(&kbps(Kind::Video)), "{} kbit/s of picture", kbps(Kind::Video));
        assert!((80..110).contains(&kbps(Kind::Audio)), "{} kbit/s of sound", kbps(Kind::Audio));
    }

    #[test]
    fn tracks_say_what_was_asked_for() {
        let [picture, sound] = Source::new(config()).unwrap().tracks();
        let shardcast_engine::track::Shape::Video(shape) = &picture.shape else { panic!("{picture:?}") };
        assert_eq!((shape.width, shape.height, shape.profile), (640, 360, "Baseline(Constrained)"));
        assert_eq!(sound.config.as_ref(), [0x11, 0x90], "AAC-LC, 48 kHz, two channels");
    }

    #[test]
    fn a_forced_keyframe_starts_the_gop_anew() {
        let mut source = Source::new(config()).unwrap();
        frames(&mut source, 7);
        source.force_keyframe();
        let again = frames(&mut source, 21);
        let keyframes: Vec<_> = again.iter().filter(|frame| frame.kind == Kind::Video).map(|f| f.keyframe).collect();
        assert_eq!(keyframes.iter().filter(|keyframe| **keyframe).count(), 2);
        assert!(keyframes[0] && keyframes[20]);
    }

    #[test]
    fn pictures_a_second_apart_differ_in_the_clock() {
        let mut source = Source::new(config()).unwrap();
        let rows = |source: &Source| source.card.clock_rows().to_vec();
        frames(&mut source, 1);
        let first = rows(&source);
        frames(&mut source, 25);
        let differing = first.iter().zip(rows(&source)).filter(|(a, b)| *a != b).count();
        assert!(differing > 50, "{differing} pixels differ");
    }

    #[test]
    fn refuses_what_it_cannot_make() {
        let with = |change: fn(&mut SourceConfig)| {
            let mut config = config();
            change(&mut config);
            Source::new(config).err()
        };
        assert!(matches!(with(|c| c.gop = 0), Some(Error::Range { name: "gop", value: 0, .. })));
        assert!(matches!(with(|c| c.fps = 0), Some(Error::Range { name: "fps", .. })));
        assert!(matches!(with(|c| c.width = 641), Some(Error::OddSize { width: 641, .. })));
    }
}
