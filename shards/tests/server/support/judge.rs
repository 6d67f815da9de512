//! The judge of the marked clip: a player that is not ours (PyAV), and what it saw and heard.

use super::{
    PATIENCE,
    media::{FRAMES_PER_SECOND, Media},
    process::Process,
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Sound may be so far from its picture, ms.
const LAG_MAX_MS: f64 = 60.0;

/// A running `judge.py`, or a player that answers as it does.
pub struct Judge {
    process: Process,
    what: String,
    seconds: u32,
    /// From one picture to the next.
    step: u32,
    /// So many marks at the start may be further apart.
    settling: usize,
}

/// The Python that has what the scripts need; says that a test is skipped where there is none.
pub fn python() -> Option<PathBuf> {
    let python = std::env::var_os("SHARDCAST_PYTHON");
    if python.is_none() {
        eprintln!("SKIPPED: set SHARDCAST_PYTHON, or run deploy/install-deps test and then deploy/test");
    }
    python.map(PathBuf::from)
}

/// `shards/tests/NAME.py`.
pub fn script(python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name).with_extension("py"));
    command
}

/// An ffmpeg that publishes by WHIP; most systems' own cannot.
pub fn ffmpeg_with_whip(python: &Path) -> PathBuf {
    let ask = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe(), end='')";
    let answer = Process::start(Command::new(python).args(["-c", ask])).finish(PATIENCE).clean("imageio-ffmpeg");
    String::from_utf8(answer).expect("a path").into()
}

impl Judge {
    /// Plays `seconds` of a file or an address.
    pub fn of(python: &Path, source: impl AsRef<Path>, seconds: u32) -> Self {
        Self::by(script(python, "judge").arg(source.as_ref()).arg(seconds.to_string()), seconds)
    }

    /// Plays an address until [`Self::stop`], for at least `seconds`.
    pub fn endless(python: &Path, address: &str, seconds: u32) -> Self {
        Self::by(script(python, "judge").arg(address), seconds)
    }

    /// Of a script that answers as `judge.py` does, after at least so many seconds of play.
    pub fn by(command: &mut Command, seconds: u32) -> Self {
        Self { what: format!("{command:?}"), process: Process::start(command), seconds, step: 1, settling: 0 }
    }

    /// Only each `step`th picture is expected: B-frames are left out on the way.
    pub fn by_steps_of(self, step: u32) -> Self {
        Self { step, ..self }
    }

    /// At most so many marks come before picture and sound are in step by the publisher's sender reports: till
    /// the first ones only arrival tells what belongs together, and time is moved by an eighth.
    pub fn settling(self, settling: usize) -> Self {
        Self { settling, ..self }
    }

    /// Ends its playing.
    pub fn stop(&self) {
        self.process.terminate();
    }

    /// Ends its playing, and asks for no verdict.
    pub fn leave(self) {
        self.process.terminate();
        self.process.finish(PATIENCE);
    }

    /// Fails unless all that was played is right: each picture behind the one before from a keyframe on,
    /// without an error, sound without a hole, each beep with its flash.
    pub fn finish(self) {
        let Self { process, what, seconds, step, settling } = self;
        let answer = process.finish(Duration::from_secs(seconds.into()) + PATIENCE).clean(&what);
        let seen: Value = serde_json::from_slice(&answer).expect("JSON");
        let number = |name: &str| seen[name].as_f64().unwrap_or_else(|| panic!("no {name} in {seen}"));
        let count = |name: &str| seen[name].as_array().unwrap_or_else(|| panic!("no {name} in {seen}")).len();
        let what = format!("{what}: {seen}");
        assert_eq!((&seen["first_is_key"], number("corrupt")), (&true.into(), 0.0), "{what}");
        assert_eq!(seen["size"], serde_json::json!(Media::Marked.size()), "{what}");
        let least = f64::from(seconds) * FRAMES_PER_SECOND as f64 * 0.9;
        assert!(number("pictures") >= least / f64::from(step), "{what}");
        assert_eq!(number("longest_step"), f64::from(step), "{what}");
        assert_eq!((number("backwards"), count("holes")), (0.0, 0), "{what}");
        assert!(number("tone") > 0.8 && number("loudness") > 0.2, "{what}");
        let lags = seen["lag_ms"].as_array().expect("counted above");
        assert!(lags.len() + 2 >= seconds as usize, "{what}");
        let in_step = |lag: &Value| lag.as_f64().is_some_and(|lag| lag.abs() <= LAG_MAX_MS);
        let settled = &lags[lags.iter().position(in_step).unwrap_or(settling).min(settling).min(lags.len())..];
        assert!(settled.len() + 4 >= seconds as usize && settled.iter().all(in_step), "{what}");
    }
}
