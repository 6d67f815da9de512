//! ffprobe and ffmpeg as players and judges.

use super::{
    PATIENCE,
    media::{FRAMES_PER_SECOND, Media},
    process::{Output, Process},
    tone,
};
use serde_json::Value;
use std::{path::Path, process::Command, time::Duration};

/// One packet as ffprobe sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    pub kind: Kind,
    pub dts_ms: i64,
    pub pts_ms: i64,
    pub keyframe: bool,
    /// Of its content.
    pub hash: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    Video,
    Audio,
}

pub struct Probed {
    pub packets: Vec<Packet>,
    /// ffprobe's names.
    pub codecs: Vec<String>,
    /// Of the picture.
    pub size: (u64, u64),
}

/// A running ffprobe.
pub struct Probe(Process);

/// Of pictures and of sound at 48 kHz.
const PACKETS_PER_SECOND: f32 = FRAMES_PER_SECOND as f32 + 48_000.0 / 1024.0;

impl Probe {
    /// Of a file, or of a live stream that ends.
    pub fn whole(from: impl AsRef<Path>) -> Self {
        Self::start(from.as_ref(), &[])
    }

    /// Of so many seconds of a live stream. They are counted in packets: ffprobe takes RTMP's script data, whose time is
    /// zero, for the first packet, and would read no second of a stream that is older.
    pub fn seconds(url: &str, seconds: f32) -> Self {
        Self::start(Path::new(url), &["-read_intervals", &format!("%+#{}", (seconds * PACKETS_PER_SECOND).ceil())])
    }

    fn start(from: &Path, options: &[&str]) -> Self {
        let mut command = Command::new("ffprobe");
        command.args(["-v", "error", "-of", "json", "-show_streams", "-show_packets", "-show_data_hash", "md5"]);
        Self(Process::start(command.args(options).arg(from)))
    }

    pub fn finish(self, limit: Duration) -> Probed {
        let json: Value = serde_json::from_slice(&self.0.finish(limit).clean("ffprobe")).expect("ffprobe's JSON");
        let streams = json["streams"].as_array().expect("streams");
        let picture = streams.iter().find(|stream| stream["codec_type"] == "video").expect("a picture");
        let codec = |stream: &Value| stream["codec_name"].as_str().unwrap_or_default().to_owned();
        let side = |name: &str| picture[name].as_u64().expect("a size");
        Probed {
            packets: json["packets"].as_array().expect("packets").iter().filter_map(packet).collect(),
            codecs: streams.iter().map(codec).collect(),
            size: (side("width"), side("height")),
        }
    }
}

impl Probed {
    pub fn of(&self, kind: Kind) -> Vec<&Packet> {
        self.packets.iter().filter(|packet| packet.kind == kind).collect()
    }
}

/// FLV's clock counts milliseconds, and so does ffprobe for it. Script data are no media.
fn packet(json: &Value) -> Option<Packet> {
    let kind = match json["codec_type"].as_str() {
        Some("video") => Kind::Video,
        Some("audio") => Kind::Audio,
        _ => return None,
    };
    Some(Packet {
        kind,
        dts_ms: json["dts"].as_i64().expect("dts"),
        pts_ms: json["pts"].as_i64().expect("pts"),
        keyframe: json["flags"].as_str().is_some_and(|flags| flags.starts_with('K')),
        hash: json["data_hash"].as_str().expect("a hash").to_owned(),
    })
}

/// What ffmpeg decoded.
pub struct Decoded {
    /// A hash of each picture, in order.
    pub pictures: Vec<String>,
    /// The sound, mono at 48 kHz.
    pub sound: Vec<i16>,
}

impl Decoded {
    /// Fails unless it shows at least `least` pictures of `media`, each behind the one before, and sounds its tone.
    pub fn assert_is_of(&self, what: &str, media: Media, least: usize) {
        let got = &self.pictures;
        assert!(got.len() >= least, "{what}: {} pictures", got.len());
        let source = Decoder::whole(media.file()).finish(PATIENCE).pictures;
        let first = source.iter().position(|picture| *picture == got[0]).expect("a picture of the source");
        let same = got.iter().zip(source.iter().cycle().skip(first)).take_while(|(got, sent)| got == sent).count();
        assert_eq!(same, got.len(), "{what}: the first picture that does not follow the one before");
        let share = tone::share(&self.sound, 48_000, 440.0);
        assert!(share > 0.9, "{what}: {share} of the sound is the tone of 440 Hz");
    }
}

/// An ffmpeg that decodes and stops at the first error.
pub struct Decoder {
    process: Process,
    folder: tempfile::TempDir,
}

impl Decoder {
    pub fn whole(from: impl AsRef<Path>) -> Self {
        Self::start(from.as_ref(), &[])
    }

    pub fn seconds(url: &str, seconds: u32) -> Self {
        Self::start(Path::new(url), &["-t", &seconds.to_string()])
    }

    fn start(from: &Path, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-xerror", "-err_detect", "explode"]).args(options).arg("-i").arg(from);
        command.args(["-map", "0:v", "-vsync", "passthrough", "-f", "framemd5", "pipe:1"]);
        command.args(["-map", "0:a", "-ac", "1", "-ar", "48000", "-f", "s16le"]).arg(folder.path().join("sound"));
        Self { process: Process::start(&mut command), folder }
    }

    /// What it decoded; a word of complaint fails the test.
    pub fn finish(self, limit: Duration) -> Decoded {
        let Output { status, stdout, stderr } = self.process.finish(limit);
        assert!(status.success() && stderr.is_empty(), "decoding: {status}\n{}", stderr.join("\n"));
        let text = String::from_utf8(stdout).expect("framemd5");
        let rows = text.lines().filter(|line| !line.starts_with('#'));
        let sound = std::fs::read(self.folder.path().join("sound")).expect("decoded sound");
        Decoded {
            pictures: rows.filter_map(|row| Some(row.rsplit(',').next()?.trim().to_owned())).collect(),
            sound: sound.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect(),
        }
    }
}
