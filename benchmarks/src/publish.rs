//! `shardbench publish`: one test stream, made on the fly, to one or many URLs.

use crate::{
    endpoint::{Endpoint, EndpointError, Scheme},
    feed::Feed,
    histogram::Histogram,
    outlet::{Outlet, Shared},
    pace::Pace,
    source::{self, FileError, FileSource, Source, SourceConfig},
    stand::{self, Cpus, StandError, counted, listed, seconds},
    sys::{self, Epoll, Ready},
};
use serde_json::json;
use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

/// However many streams begin, a keyframe is forced for them this often at most.
const FORCED_KEYFRAMES_APART: Duration = Duration::from_millis(500);
/// The longest wait without a look at the clock and the signals.
const LOOK_UP: Duration = Duration::from_millis(100);
/// Of more streams than this only the failures are told one by one.
const SPOKEN_OF: u32 = 10;
const RAMP_EACH: Duration = Duration::from_millis(1);
const FAREWELL: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub struct Options {
    /// rtmp://HOST[:PORT]/APP/STREAM; {} becomes the number of the stream
    url: String,
    /// How many streams: all show the same pictures, numbered from 1
    #[arg(short, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    number: u16,
    /// Width x height, even
    #[arg(long, default_value = "1280x720", value_parser = size)]
    size: (u32, u32),
    /// Pictures per second
    #[arg(long, default_value_t = 30)]
    fps: u32,
    /// Of the picture
    #[arg(long, default_value_t = 1500)]
    kbps: u32,
    /// Of the sound
    #[arg(long, default_value_t = 96)]
    audio_kbps: u32,
    /// Pictures from keyframe to keyframe; without it, --gop-ms counts
    #[arg(long)]
    gop: Option<u32>,
    /// Milliseconds from keyframe to keyframe
    #[arg(long, default_value_t = 2000)]
    gop_ms: u32,
    /// Fill each picture up to the rate, as encoders of constant rate do; the test picture alone needs less
    #[arg(long)]
    fill: bool,
    /// Publish this FLV file, over and over, instead of the test picture
    #[arg(long, value_name = "FILE", conflicts_with_all = ["size", "fps", "kbps", "audio_kbps", "gop", "gop_ms", "fill"])]
    file: Option<PathBuf>,
    /// Send what falls due within so many milliseconds at once: fewer, larger writes; 0 sends each frame when it is due
    #[arg(long, value_name = "MS", default_value_t = 0)]
    burst: u32,
    /// Seconds over which the streams begin; one millisecond for each without it
    #[arg(long, value_name = "SECONDS")]
    ramp: Option<f64>,
    /// CPUs that this tool runs on, as in 1,4-7; all without it
    #[arg(long, value_name = "LIST")]
    cpus: Option<Cpus>,
    /// Seconds to publish; for ever without it
    #[arg(long = "for")]
    duration: Option<f64>,
    /// Seconds to keep trying while the server is away
    #[arg(long, default_value_t = 10.0)]
    wait: f64,
}

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("{0}: publishing wants rtmp://")]
    NotRtmp(String),
    #[error("{number} streams want a URL with {{}} in it, not {url}")]
    SameName { number: u16, url: String },
    #[error(transparent)]
    Stand(#[from] StandError),
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("epoll: {0}")]
    Epoll(#[from] io::Error),
    #[error("{failed} of {number} streams failed")]
    Failed { failed: usize, number: usize },
}

pub fn run(options: &Options) -> Result<(), PublishError> {
    let started = Instant::now();
    let end = options.duration.map(seconds).transpose()?.map(|duration| started + duration);
    let patience = seconds(options.wait)?;
    if options.number > 1 && !options.url.contains("{}") {
        return Err(PublishError::SameName { number: options.number, url: options.url.clone() });
    }
    stand::prepare(options.cpus.as_ref(), options.number.into())?;
    let number = u32::from(options.number);
    let ramp = options.ramp.map_or(Ok(RAMP_EACH * number), seconds)?;
    let mut outlets = Vec::new();
    for nth in 0..number {
        let endpoint = Endpoint::numbered(&options.url, nth as usize + 1)?;
        if endpoint.scheme != Scheme::Rtmp {
            return Err(PublishError::NotRtmp(endpoint.url));
        }
        outlets.push(Outlet::new(endpoint, patience, started + ramp / number * nth).quiet(number > SPOKEN_OF));
    }
    let mut feed = match &options.file {
        Some(file) => Feed::file(FileSource::open(file)?),
        None => {
            let name = match &outlets[..] {
                [one] => one.endpoint.name().to_owned(),
                _ => options.url.rsplit_once("://").map_or("", |(_, path)| path).replace("{}", "(n)"),
            };
            Feed::card(Source::new(options.source(name))?, options.fill.then_some(options.kbps))
        }
    };
    let (mut epoll, mut late) = (Epoll::new()?, Histogram::default());
    let burst = Duration::from_millis(options.burst.into());
    stream(&mut feed, burst, &mut outlets, &mut epoll, end, &mut late)?;
    // Who is interrupted has not failed; who has no server when the time is over has.
    let stopped = sys::stop_requested();
    let failed = outlets.iter().filter(|o| o.has_failed() || (!stopped && !o.is_taken())).count();
    farewell(&mut outlets, &mut epoll)?;
    if number > SPOKEN_OF {
        let broken: u32 = outlets.iter().map(|outlet| outlet.broken).sum();
        println!("connections broke {broken} times");
        eprint!("{}", listed(&json!(counted(outlets.iter().filter_map(|outlet| outlet.error.as_ref())))));
    }

    let (frames, bytes) = outlets.iter().fold((0, 0), |(f, b), o| (f + o.sent_frames, b + o.sent_bytes));
    let [p50, p99, max] = late.ms();
    println!(
        "sent {frames} frames, {bytes} bytes in {:.1} s; late by p50 {p50:.1}, p99 {p99:.1}, max {max:.1} ms",
        started.elapsed().as_secs_f64()
    );
    match failed {
        0 => Ok(()),
        failed => Err(PublishError::Failed { failed, number: outlets.len() }),
    }
}

/// Until the end, a signal, or the failure of the last outlet.
fn stream(
    feed: &mut Feed,
    burst: Duration,
    outlets: &mut [Outlet],
    epoll: &mut Epoll,
    end: Option<Instant>,
    lateness: &mut Histogram,
) -> Result<(), PublishError> {
    let prologue = feed.prologue.clone();
    // The stream begins when the first server is ready for it, and then goes on whoever takes it.
    let mut pace: Option<Pace> = None;
    let mut forced: Option<Instant> = None;
    let mut ready = Vec::new();
    loop {
        let now = Instant::now();
        if sys::stop_requested() || end.is_some_and(|end| now >= end) || outlets.iter().all(Outlet::has_failed) {
            return Ok(());
        }
        for (token, outlet) in outlets.iter_mut().enumerate() {
            outlet.step(now);
            outlet.watch(epoll, token)?;
        }
        if outlets.iter().any(Outlet::wants_keyframe) {
            pace.get_or_insert(Pace::new(now, burst));
            if forced.is_none_or(|at| now.saturating_duration_since(at) >= FORCED_KEYFRAMES_APART) {
                feed.force_keyframe();
                forced = Some(now);
            }
        }
        let mut until = now + LOOK_UP;
        if let Some(pace) = &mut pace {
            let due_at = pace.due(feed.due());
            let mut made = false;
            loop {
                let (due, late) = pace.is_due(feed.due(), now);
                if let Some(late) = late {
                    eprintln!("this machine is late by {late:.1?}; going on from here");
                }
                if !due {
                    break;
                }
                let frame = feed.next()?;
                let mut shared = Shared::new(&prologue, &frame);
                outlets.iter_mut().for_each(|outlet| outlet.frame(now, &mut shared));
                made = true;
            }
            if made {
                outlets.iter_mut().for_each(|outlet| outlet.transfer(now, false));
                lateness.record(due_at.elapsed());
            }
            until = until.min(pace.due(feed.due()));
        }
        until = outlets.iter().filter_map(Outlet::wakes_at).fold(until, Instant::min);
        transfer(outlets, epoll, &mut ready, until)?;
    }
}

/// Reads and writes what can be, waiting for it until then.
fn transfer(outlets: &mut [Outlet], epoll: &mut Epoll, ready: &mut Vec<Ready>, until: Instant) -> io::Result<()> {
    epoll.wait(until.saturating_duration_since(Instant::now()), ready)?;
    let now = Instant::now();
    for Ready { token, readable } in ready.drain(..) {
        outlets[token].transfer(now, readable);
        outlets[token].watch(epoll, token)?;
    }
    Ok(())
}

/// FCUnpublish and deleteStream, and what is still on its way before them.
fn farewell(outlets: &mut [Outlet], epoll: &mut Epoll) -> io::Result<()> {
    let deadline = Instant::now() + FAREWELL;
    for (token, outlet) in outlets.iter_mut().enumerate() {
        outlet.stop();
        outlet.watch(epoll, token)?;
    }
    let mut ready = Vec::new();
    while Instant::now() < deadline && !outlets.iter().all(Outlet::is_flushed) {
        transfer(outlets, epoll, &mut ready, deadline)?;
    }
    Ok(())
}

impl Options {
    fn source(&self, name: String) -> SourceConfig {
        let gop_ms = u64::from(self.gop_ms) * u64::from(self.fps) / 1000;
        SourceConfig {
            width: self.size.0,
            height: self.size.1,
            fps: self.fps,
            kbps: self.kbps,
            gop: self.gop.unwrap_or(u32::try_from(gop_ms).unwrap_or(u32::MAX).max(1)),
            sample_rate: 48_000,
            sound_kbps: self.audio_kbps,
            name,
        }
    }
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let numbers = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    numbers.ok_or_else(|| "expected WIDTHxHEIGHT, as in 1280x720".into())
}
