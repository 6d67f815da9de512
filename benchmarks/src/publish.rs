//! `shardbench publish`: one test stream, made on the fly, to one or many URLs.

use crate::{
    endpoint::{Endpoint, EndpointError, Scheme},
    outlet::Outlet,
    pace::Pace,
    source::{self, Source, SourceConfig},
    sys::{self, Wait},
};
use shardcast_engine::prologue::Prologue;
use std::{
    io,
    time::{Duration, Instant, SystemTime},
};

/// However many streams begin, a keyframe is forced for them this often at most.
const FORCED_KEYFRAMES_APART: Duration = Duration::from_millis(500);
/// The longest wait without a look at the clock and the signals.
const LOOK_UP: Duration = Duration::from_millis(100);
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
    #[error("{0} is no duration in seconds")]
    Seconds(f64),
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error("poll: {0}")]
    Poll(#[from] io::Error),
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
    let mut outlets = Vec::new();
    for number in 1..=usize::from(options.number) {
        let endpoint = Endpoint::numbered(&options.url, number)?;
        if endpoint.scheme != Scheme::Rtmp {
            return Err(PublishError::NotRtmp(endpoint.url));
        }
        outlets.push(Outlet::new(endpoint, patience, started));
    }
    let name = match &outlets[..] {
        [one] => one.endpoint.name().to_owned(),
        _ => options.url.rsplit_once("://").map_or("", |(_, path)| path).replace("{}", "(n)"),
    };
    let mut source = Source::new(options.source(name))?;
    stream(&mut source, &mut outlets, end)?;
    // Who is interrupted has not failed; who has no server when the time is over has.
    let stopped = sys::stop_requested();
    let failed = outlets.iter().filter(|o| o.has_failed() || (!stopped && !o.is_taken())).count();
    farewell(&mut outlets)?;

    let (frames, bytes) = outlets.iter().fold((0, 0), |(f, b), o| (f + o.sent_frames, b + o.sent_bytes));
    println!("sent {frames} frames, {bytes} bytes in {:.1} s", started.elapsed().as_secs_f64());
    match failed {
        0 => Ok(()),
        failed => Err(PublishError::Failed { failed, number: outlets.len() }),
    }
}

/// Until the end, a signal, or the failure of the last outlet.
fn stream(source: &mut Source, outlets: &mut [Outlet], end: Option<Instant>) -> Result<(), PublishError> {
    let mut prologue = Prologue { metadata: Some(source.metadata()), ..Prologue::default() };
    for track in source.tracks() {
        prologue = prologue.with_track(track).unwrap_or(prologue);
    }
    // The stream begins when the first server is ready for it, and then goes on whoever takes it.
    let mut pace: Option<Pace> = None;
    let mut forced: Option<Instant> = None;
    loop {
        let now = Instant::now();
        if sys::stop_requested() || end.is_some_and(|end| now >= end) || outlets.iter().all(Outlet::has_failed) {
            return Ok(());
        }
        outlets.iter_mut().for_each(|outlet| outlet.step(now));
        if outlets.iter().any(Outlet::wants_keyframe) {
            pace.get_or_insert(Pace::new(now));
            if forced.is_none_or(|at| now.saturating_duration_since(at) >= FORCED_KEYFRAMES_APART) {
                source.force_keyframe();
                forced = Some(now);
            }
        }
        let mut until = now + LOOK_UP;
        if let Some(pace) = &mut pace {
            let (due, late) = pace.is_due(source.due(), now);
            if let Some(late) = late {
                eprintln!("this machine is late by {late:.1?}; going on from here");
            }
            if due {
                let frame = source.next(SystemTime::now())?;
                outlets.iter_mut().for_each(|outlet| outlet.frame(now, &prologue, &frame));
            }
            until = until.min(pace.due(source.due()));
        }
        until = outlets.iter().filter_map(|outlet| outlet.wakes_at(now)).fold(until, Instant::min);
        transfer(outlets, until)?;
    }
}

/// Reads and writes what can be, waiting for it until then.
fn transfer(outlets: &mut [Outlet], until: Instant) -> io::Result<()> {
    let mut owners = Vec::new();
    let mut waits: Vec<Wait> = Vec::new();
    for (owner, outlet) in outlets.iter().enumerate() {
        if let Some(wait) = outlet.wait() {
            owners.push(owner);
            waits.push(wait);
        }
    }
    sys::poll(&mut waits, until.saturating_duration_since(Instant::now()))?;
    let ready: Vec<(usize, bool)> = std::iter::zip(owners, waits)
        .filter(|(_, wait)| wait.readable || wait.writable)
        .map(|(owner, wait)| (owner, wait.readable))
        .collect();
    let now = Instant::now();
    for (owner, readable) in ready {
        outlets[owner].transfer(now, readable);
    }
    Ok(())
}

/// FCUnpublish and deleteStream, and what is still on its way before them.
fn farewell(outlets: &mut [Outlet]) -> io::Result<()> {
    let deadline = Instant::now() + FAREWELL;
    outlets.iter_mut().for_each(|outlet| outlet.stop());
    while Instant::now() < deadline && !outlets.iter().all(Outlet::is_flushed) {
        transfer(outlets, deadline)?;
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

pub fn seconds(seconds: f64) -> Result<Duration, PublishError> {
    Duration::try_from_secs_f64(seconds).map_err(|_| PublishError::Seconds(seconds))
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let numbers = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    numbers.ok_or_else(|| "expected WIDTHxHEIGHT, as in 1280x720".into())
}
