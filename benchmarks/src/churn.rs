//! `shardbench churn`: streams and viewers that come and go. Each cycle publishes to a name of its own, plays it until
//! the first frame, and leaves; every second one without a word.

use crate::{
    endpoint::{Endpoint, EndpointError, Scheme},
    feed::Feed,
    histogram::Histogram,
    outlet::{Outlet, Shared},
    pace::Pace,
    source::{self, Source, SourceConfig},
    stand::{Stand, StandError, counted, listed, row, seconds},
    sys::{self, Epoll, Ready},
    usage::Usage,
    viewer::{Manner, Meter, Viewer},
};
use serde_json::{Value, json};
use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

/// From its beginning to its end a cycle may take this long.
const CYCLE: Duration = Duration::from_secs(10);
const LOOK_UP: Duration = Duration::from_millis(10);
const PROGRESS: Duration = Duration::from_secs(10);
const FORCED_KEYFRAMES_APART: Duration = Duration::from_millis(100);
/// The server's memory is compared with what it is after this part of the cycles.
const WARM: f64 = 0.1;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where to publish, rtmp://HOST[:PORT]/APP/STREAM{}; {} becomes the number of the cycle
    url: String,
    /// Where to play, with {} as well; the same URL without it
    #[arg(long, value_name = "URL")]
    play: Option<String>,
    /// How many cycles
    #[arg(short, default_value_t = 1000)]
    number: u32,
    /// Cycles that begin in a second, at most
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Cycles at the same time, at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    at_once: u32,
    /// Seconds from the last cycle to the look at what the server still holds
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    settle: f64,
    #[command(flatten)]
    stand: Stand,
}

#[derive(Debug, thiserror::Error)]
pub enum ChurnError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("{0} has no {{}} in it")]
    SameName(String),
    #[error("{0}: publishing wants rtmp://")]
    NotRtmp(String),
    #[error(transparent)]
    Stand(#[from] StandError),
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error("epoll: {0}")]
    Io(#[from] io::Error),
    #[error("{failed} of {number} cycles failed")]
    Failed { failed: u64, number: u64 },
}

pub fn run(options: &Options) -> Result<(), ChurnError> {
    let play = options.play.as_ref().unwrap_or(&options.url);
    for url in [&options.url, play] {
        if !url.contains("{}") {
            return Err(ChurnError::SameName(url.clone()));
        }
    }
    if Endpoint::numbered(&options.url, 0)?.scheme != Scheme::Rtmp {
        return Err(ChurnError::NotRtmp(options.url.clone()));
    }
    options.stand.prepare(options.at_once as usize * 2)?;
    let mut churn = Churn::new(options, play)?;
    churn.go()?;
    let figures = churn.figures()?;
    print!("{}", table(&figures));
    options.stand.write(&figures)?;
    match churn.errors.len() as u64 {
        0 => Ok(()),
        failed => Err(ChurnError::Failed { failed, number: churn.done }),
    }
}

struct Churn<'a> {
    options: &'a Options,
    play: &'a str,
    feed: Feed,
    epoll: Epoll,
    /// Each with two tokens: its number doubled, and one more.
    slots: Vec<Option<Cycle>>,
    began: Instant,
    started: u32,
    done: u64,
    lasted: Duration,
    taken: Histogram,
    first_frame: Histogram,
    errors: Vec<String>,
    before: Option<Usage>,
    warm: Option<Usage>,
}

struct Cycle {
    number: u32,
    began: Instant,
    outlet: Outlet,
    taken: bool,
    viewer: Option<Viewer>,
}

impl<'a> Churn<'a> {
    fn new(options: &'a Options, play: &'a str) -> Result<Self, ChurnError> {
        let source = Source::new(SourceConfig {
            width: 160,
            height: 90,
            fps: 25,
            kbps: 100,
            gop: 25,
            sample_rate: 48_000,
            sound_kbps: 32,
            name: "churn".into(),
        })?;
        Ok(Self {
            options,
            play,
            feed: Feed::card(source, None),
            epoll: Epoll::new()?,
            slots: (0..options.at_once).map(|_| None).collect(),
            began: Instant::now(),
            started: 0,
            done: 0,
            lasted: Duration::ZERO,
            taken: Histogram::default(),
            first_frame: Histogram::default(),
            errors: Vec::new(),
            before: options.stand.server()?,
            warm: None,
        })
    }

    /// Until the last cycle is over, or a signal.
    fn go(&mut self) -> Result<(), ChurnError> {
        let mut pace = Pace::new(self.began, Duration::ZERO);
        let (mut forced, mut told) = (self.began, self.began);
        let (mut ready, mut meter) = (Vec::new(), Meter::default());
        let prologue = self.feed.prologue.clone();
        while self.done < self.options.number.into() && !sys::stop_requested() {
            let now = Instant::now();
            self.begin(now)?;
            let mut wanted = false;
            for slot in 0..self.slots.len() {
                self.step(slot, now)?;
                wanted |= self.slots[slot].as_ref().is_some_and(|cycle| cycle.outlet.wants_keyframe());
            }
            if wanted && now.saturating_duration_since(forced) >= FORCED_KEYFRAMES_APART {
                self.feed.force_keyframe();
                forced = now;
            }
            if pace.is_due(self.feed.due(), now).0 {
                let frame = self.feed.next()?;
                let mut shared = Shared::new(&prologue, &frame);
                for cycle in self.slots.iter_mut().flatten() {
                    cycle.outlet.frame(now, &mut shared);
                    cycle.outlet.transfer(now, false);
                }
            }
            if now.saturating_duration_since(told) >= PROGRESS && io::stderr().is_terminal() {
                told = now;
                eprintln!("{} of {} cycles, {} failed", self.done, self.options.number, self.errors.len());
            }
            let until = pace.due(self.feed.due()).min(now + LOOK_UP);
            self.epoll.wait(until.saturating_duration_since(Instant::now()), &mut ready)?;
            for Ready { token, readable } in ready.drain(..) {
                let Some(cycle) = &mut self.slots[token / 2] else { continue };
                match &mut cycle.viewer {
                    Some(viewer) if token % 2 == 1 => viewer.transfer(readable, &mut meter),
                    _ => cycle.outlet.transfer(Instant::now(), readable),
                }
            }
        }
        self.lasted = self.began.elapsed();
        Ok(())
    }

    /// Cycles that are due and have a place.
    fn begin(&mut self, now: Instant) -> Result<(), ChurnError> {
        let due = (self.options.rate * now.saturating_duration_since(self.began).as_secs_f64()) as u64 + 1;
        for slot in &mut self.slots {
            if u64::from(self.started) >= due.min(self.options.number.into()) {
                break;
            }
            if slot.is_none() {
                self.started += 1;
                let endpoint = Endpoint::numbered(&self.options.url, self.started as usize)?;
                let outlet = Outlet::new(endpoint, Duration::ZERO, now).quiet(true);
                *slot = Some(Cycle { number: self.started, began: now, outlet, taken: false, viewer: None });
            }
        }
        Ok(())
    }

    /// Takes a cycle on; where it is over its slot is free.
    fn step(&mut self, slot: usize, now: Instant) -> Result<(), ChurnError> {
        let Some(cycle) = &mut self.slots[slot] else { return Ok(()) };
        cycle.outlet.step(now);
        let age = now.saturating_duration_since(cycle.began);
        if !cycle.taken && cycle.outlet.is_taken() {
            cycle.taken = true;
            self.taken.record(age);
        }
        if cycle.viewer.is_none() && cycle.outlet.is_live() {
            let endpoint = Endpoint::numbered(self.play, cycle.number as usize)?;
            cycle.viewer = Some(Viewer::start(&endpoint, Manner::Discards, now));
        }
        cycle.outlet.watch(&self.epoll, slot * 2)?;
        let viewer = &mut cycle.viewer;
        if let Some(viewer) = viewer {
            viewer.watch(&self.epoll, slot * 2 + 1)?;
        }
        let error = match (viewer.as_ref().and_then(|viewer| viewer.tally.error.as_ref()), &cycle.outlet.error) {
            (Some(error), _) => Some(format!("play: {error}")),
            (None, Some(error)) => Some(format!("publish: {error}")),
            (None, None) if age > CYCLE => Some(format!("not over within {CYCLE:?}")),
            _ => None,
        };
        let first_frame = viewer.as_ref().and_then(|viewer| viewer.tally.first_frame);
        if let Some(first_frame) = first_frame.filter(|_| error.is_none()) {
            self.first_frame.record(first_frame);
            if cycle.number.is_multiple_of(2) {
                cycle.outlet.stop();
            }
        }
        if error.is_some() || first_frame.is_some() {
            self.errors.extend(error);
            self.slots[slot] = None;
            self.done += 1;
            if self.warm.is_none() && self.done as f64 >= f64::from(self.options.number) * WARM {
                self.warm = self.options.stand.server()?;
            }
        }
        Ok(())
    }

    fn figures(&mut self) -> Result<Value, ChurnError> {
        self.slots.clear();
        let end = Instant::now() + seconds(self.options.settle)?;
        // The server needs a while to see who has gone.
        while !sys::stop_requested() && self.options.stand.server()?.is_some() && Instant::now() < end {
            self.epoll.wait(end.saturating_duration_since(Instant::now()), &mut Vec::new())?;
        }
        let server = self.options.stand.server()?.zip(self.before.zip(self.warm)).map(|(now, (before, warm))| {
            json!({
                "cpu_us_per_cycle": now.since(&before).cpu.as_secs_f64() * 1e6 / self.done.max(1) as f64,
                "resident_bytes": { "before": before.resident, "warm": warm.resident, "after": now.resident },
                "open_files": { "before": before.files, "after": now.files },
                "threads": { "before": before.threads, "after": now.threads },
            })
        });
        let ms = |[p50, p99, max]: [f64; 3]| json!({ "p50": p50, "p99": p99, "max": max });
        Ok(json!({
            "cycles": self.done,
            "failed": self.errors.len(),
            "per_second": self.done as f64 / self.lasted.as_secs_f64(),
            "taken_ms": ms(self.taken.ms()),
            "first_frame_ms": ms(self.first_frame.ms()),
            "server": server,
            "errors": counted(self.errors.iter()),
        }))
    }
}

fn table(figures: &Value) -> String {
    let n = |pointer: &str| figures.pointer(pointer).and_then(Value::as_f64).unwrap_or_default();
    let ms = |of: &str| {
        let [p50, p99, max] = ["p50", "p99", "max"].map(|q| n(&format!("/{of}/{q}")));
        format!("p50 {p50:.1}, p99 {p99:.1}, max {max:.1} ms")
    };
    let per_second = n("/per_second");
    let mut text = row("cycles", &format!("{}, {} failed, {per_second:.0}/s", n("/cycles"), n("/failed")));
    text += &row("published", &ms("taken_ms"));
    text += &row("first frame", &ms("first_frame_ms"));
    if figures["server"].is_object() {
        let mb = |when: &str| n(&format!("/server/resident_bytes/{when}")) / 1e6;
        let memory = format!("{:.1} MB before, {:.1} warm, {:.1} after", mb("before"), mb("warm"), mb("after"));
        text += &row("server", &format!("{memory}; {:.0} µs of CPU per cycle", n("/server/cpu_us_per_cycle")));
        let [before, after] = ["before", "after"].map(|when| n(&format!("/server/open_files/{when}")));
        text += &row("open files", &format!("{before} before, {after} after"));
    }
    text + &listed(&figures["errors"])
}
