//! Test media, made once by ffmpeg and kept under `target/`.

use super::process::Process;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// All but the marked ones have a 440 Hz tone with a little noise, so that no two packets of sound are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// 640×360, 25 a second, a keyframe a second, without B-frames. 10 s.
    Plain,
    /// The same with B-frames. 10 s.
    Reordered,
    /// As `Plain`. 4 s.
    Short,
    /// 1280×720, 25 a second, 20 Mbit/s. 20 s.
    Heavy,
    /// 320×180, 25 a second, a keyframe a second, without B-frames; sound of 44.1 kHz. Pictures are
    /// numbered, a white flash and a beep of 1 kHz come together each second: `judge.py` reads them. 8 s.
    Marked,
    /// The same with B-frames.
    MarkedReordered,
    /// 160×90, 10 a second, a keyframe a second, without B-frames. Pictures are numbered, and SEI says of each keyframe
    /// that it is of two views. 20 s.
    Tiny,
}

/// White flashes over the pictures 12 and 13 of each second at the top, the number of the picture in
/// eight bits at the bottom, the lowest at the left; each a band of an eighth of the height.
const MARKS: &str = ",format=yuv420p,geq=lum='if(lt(Y,H/8),16+219*between(mod(N,25),12,13),\
    if(gte(Y,H*7/8),16+219*mod(floor(N/pow(2,floor(X*8/W))),2),lum(X,Y)))':\
    cb='if(between(Y,H/8,H*7/8-1),cb(X,Y),128)':cr='if(between(Y,H/8,H*7/8-1),cr(X,Y),128)'";

const TONE: &str = "aevalsrc=0.4*sin(2*PI*440*t)+0.01*(random(0)-0.5):s=48000:c=stereo";
/// Over a quiet hum; pictures 12 and 13 are those of 480 to 560 ms.
const BEEPS: &str = "aevalsrc='0.05*sin(2*PI*440*t)+0.4*sin(2*PI*1000*t)*between(mod(t,1),0.48,0.56)':s=44100:c=stereo";

const BASELINE: [&str; 4] = ["-profile:v", "baseline", "-bf", "0"];
const REORDERED: [&str; 6] = ["-profile:v", "main", "-bf", "2", "-b_strategy", "0"];

/// Of all but the tiny one.
pub const FRAMES_PER_SECOND: usize = 25;

impl Media {
    /// The file, an FLV, so that its times are those that RTMP carries.
    pub fn file(self) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-media");
        let file = folder.join(format!("{self:?}-2.flv").to_lowercase());
        if !file.exists() {
            fs::create_dir_all(&folder).expect("a folder for media");
            self.make(&folder, &file);
        }
        file
    }

    pub fn size(self) -> (u64, u64) {
        match self {
            Media::Heavy => (1280, 720),
            Media::Marked | Media::MarkedReordered => (320, 180),
            Media::Tiny => (160, 90),
            Media::Plain | Media::Reordered | Media::Short => (640, 360),
        }
    }

    fn make(self, folder: &Path, file: &Path) {
        let (width, height) = self.size();
        let rate = if self == Media::Tiny { 10 } else { FRAMES_PER_SECOND }.to_string();
        let (seconds, picture, coding): (u32, &str, &[&str]) = match self {
            Media::Plain => (10, "", &BASELINE),
            Media::Short => (4, "", &BASELINE),
            Media::Marked => (8, MARKS, &BASELINE),
            Media::Reordered => (10, "", &REORDERED),
            Media::MarkedReordered => (8, MARKS, &REORDERED),
            Media::Tiny => (20, MARKS, &["-profile:v", "baseline", "-bf", "0", "-x264-params", "frame-packing=3"]),
            // Noise that changes with each picture fills the rate.
            Media::Heavy => {
                (20, ",noise=alls=60:allf=t", &["-bf", "0", "-b:v", "20M", "-maxrate", "20M", "-bufsize", "4M"])
            }
        };
        let marked = matches!(self, Media::Marked | Media::MarkedReordered);
        // Written beside its place and moved there whole: other tests may be making it too.
        let making = tempfile::Builder::new().suffix(".flv").tempfile_in(folder).expect("a file").into_temp_path();
        let made = Process::start(
            Command::new("ffmpeg")
                .args(["-v", "error", "-y", "-f", "lavfi", "-i"])
                .arg(format!("testsrc2=size={width}x{height}:rate={rate}{picture}"))
                .args(["-f", "lavfi", "-i", if marked { BEEPS } else { TONE }])
                .args(["-t", &seconds.to_string(), "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast"])
                .args(coding)
                .args(["-g", &rate, "-keyint_min", &rate, "-sc_threshold", "0"])
                .args(["-c:a", "aac", "-b:a", "96k", "-f", "flv"])
                .arg(&making),
        );
        made.finish(Duration::from_secs(120)).clean("making test media");
        making.persist(file).expect("move a file to its place");
    }
}
