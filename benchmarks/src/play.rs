//! `shardbench play`: many viewers of one or many streams, and what they got.

use crate::{
    endpoint::{Endpoint, EndpointError},
    stand::{Stand, StandError, counted, listed, percents, row, seconds},
    sys::{self, Epoll, Ready},
    usage::Usage,
    viewer::{Manner, Meter, Viewer, ViewerError},
};
use serde_json::{Value, json};
use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

/// Viewers that have dialled and heard nothing yet, at most, where no ramp is given.
const DIALS_AT_ONCE: usize = 128;
/// Between two looks at timeouts, signals and the end.
const LOOK_UP: Duration = Duration::from_millis(100);
/// Between two words about how it goes, to a person and to a log.
const PROGRESS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// Memory per viewer is what those beyond the first of so many add.
const FIRST_VIEWERS: usize = 100;
/// A viewer was short of data that got less than the median by more than so much time brings.
const SHORT: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub struct Options {
    /// rtmp://HOST[:PORT]/APP/STREAM, http://HOST[:PORT]/APP/STREAM.flv, ws:// likewise, over TLS rtmps://, https://
    /// and wss://, or tcp://HOST:PORT for whatever comes; {} becomes the number of the viewer
    url: String,
    /// How many viewers
    #[arg(short, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    number: u32,
    /// Seconds to measure, once all viewers are there; until interrupted without it
    #[arg(long = "for", value_name = "SECONDS")]
    duration: Option<f64>,
    /// Seconds over which the viewers come; without it as fast as the server takes them, 0 is all at once
    #[arg(long, value_name = "SECONDS")]
    ramp: Option<f64>,
    /// Seconds for which the first hundred viewers are alone, so that what a server keeps of a stream, however many
    /// watch, is no memory of the others
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    fill: f64,
    /// Seconds from when all are there until the measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    settle: f64,
    /// Measure from the first viewer on, while the others come
    #[arg(long)]
    from_start: bool,
    /// Whom a full server turns away is counted, and is no failure
    #[arg(long)]
    admission: bool,
    /// Count the viewers of whose read gaps more than one in a hundred is longer
    #[arg(long, value_name = "MS")]
    gap_bound: Option<u64>,
    /// So many viewers read and check all they get; the others throw it away unread after their first frame
    #[arg(long, value_name = "VIEWERS", default_value_t = 100)]
    check: u32,
    /// So many viewers take nothing more after their first frame, and stay; what the others get is measured
    #[arg(long, value_name = "VIEWERS", default_value_t = 0)]
    stall: u32,
    #[command(flatten)]
    stand: Stand,
}

#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Stand(#[from] StandError),
    #[error("epoll: {0}")]
    Io(#[from] io::Error),
    #[error("{failed} of {number} viewers failed")]
    Failed { failed: usize, number: usize },
}

pub fn run(options: &Options) -> Result<(), PlayError> {
    options.stand.prepare(options.number as usize)?;
    let mut audience = Audience::new(options)?;
    audience.watch()?;
    let figures = audience.figures()?;
    print!("{}", table(&figures));
    options.stand.write(&figures)?;
    match audience.failed() {
        0 => Ok(()),
        failed => Err(PlayError::Failed { failed, number: audience.endpoints.len() }),
    }
}

struct Audience<'a> {
    stand: &'a Stand,
    endpoints: Vec<Endpoint>,
    ramp: Option<Duration>,
    fill: Duration,
    settle: Duration,
    duration: Option<Duration>,
    admission: bool,
    checked: usize,
    stalled: usize,
    viewers: Vec<Viewer>,
    meter: Meter,
    epoll: Epoll,
    began: Instant,
    /// Since when the first viewers are there.
    filling: Option<Instant>,
    filled: bool,
    /// When the last viewer had its first frame.
    settled: Option<Instant>,
    before: Look,
    /// With the first viewers alone.
    few: Option<Usage>,
    measured: Option<Measured>,
}

/// At the start of what is measured.
struct Measured {
    from: Look,
    /// Of each viewer.
    bytes: Vec<u64>,
}

#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    server: Option<Usage>,
    tool: Usage,
}

impl Look {
    fn new(stand: &Stand) -> Result<Self, StandError> {
        Ok(Self { at: Instant::now(), server: stand.server()?, tool: Usage::of(std::process::id())? })
    }
}

impl<'a> Audience<'a> {
    fn new(options: &'a Options) -> Result<Self, PlayError> {
        let numbers = 1..=options.number as usize;
        let before = Look::new(&options.stand)?;
        let gap_bound = options.gap_bound.map_or(Duration::MAX, Duration::from_millis);
        Ok(Self {
            stand: &options.stand,
            endpoints: numbers.map(|number| Endpoint::numbered(&options.url, number)).collect::<Result<_, _>>()?,
            ramp: options.ramp.map(seconds).transpose()?,
            fill: seconds(options.fill)?,
            settle: seconds(options.settle)?,
            duration: options.duration.map(seconds).transpose()?,
            admission: options.admission,
            checked: options.check.min(options.number) as usize,
            stalled: options.stall.min(options.number) as usize,
            viewers: Vec::new(),
            meter: Meter { on: options.from_start, gap_bound, ..Meter::default() },
            epoll: Epoll::new()?,
            began: Instant::now(),
            filling: None,
            filled: false,
            settled: None,
            few: None,
            measured: options.from_start.then(|| Measured { from: before, bytes: Vec::new() }),
            before,
        })
    }

    /// Until the end, a signal, or the failure of the last viewer.
    fn watch(&mut self) -> Result<(), PlayError> {
        let mut ready: Vec<Ready> = Vec::new();
        let (mut looked, mut told) = (self.began, self.began);
        let progress = PROGRESS[usize::from(!io::stderr().is_terminal())];
        loop {
            let now = Instant::now();
            self.start(now)?;
            if now.saturating_duration_since(looked) >= LOOK_UP {
                looked = now;
                if self.look(now)? {
                    break;
                }
            }
            if now.saturating_duration_since(told) >= progress {
                told = now;
                self.tell(now)?;
            }
            let timeout = if self.viewers.len() < self.endpoints.len() { LOOK_UP / 50 } else { LOOK_UP };
            self.epoll.wait(timeout, &mut ready)?;
            for Ready { token, readable } in ready.drain(..) {
                self.viewers[token].transfer(readable, &mut self.meter);
                self.viewers[token].watch(&self.epoll, token)?;
            }
        }
        if io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
        self.viewers.iter_mut().for_each(Viewer::finish);
        Ok(())
    }

    /// The viewers that are due by now.
    fn start(&mut self, now: Instant) -> io::Result<()> {
        let (all, there) = (self.endpoints.len(), self.viewers.len());
        let most = if self.filled || self.fill.is_zero() { all } else { all.min(FIRST_VIEWERS) };
        if there == most {
            return Ok(());
        }
        let due = match self.ramp {
            Some(ramp) => {
                let part = now.saturating_duration_since(self.began).as_secs_f64() / ramp.as_secs_f64().max(1e-9);
                (part * all as f64).ceil().min(most as f64) as usize
            }
            None => {
                let connecting =
                    self.viewers.iter().rev().take(4 * DIALS_AT_ONCE).filter(|v| v.is_connecting()).count();
                most.min(there + DIALS_AT_ONCE.saturating_sub(connecting))
            }
        };
        for number in there..due {
            let manner = manner(number, all, self.stalled, self.checked);
            let mut viewer = Viewer::start(&self.endpoints[number], manner, Instant::now());
            viewer.watch(&self.epoll, number)?;
            self.viewers.push(viewer);
        }
        Ok(())
    }

    /// Times out, goes from phase to phase; true at the end.
    fn look(&mut self, now: Instant) -> Result<bool, PlayError> {
        self.viewers.iter_mut().for_each(|viewer| viewer.step(now));
        let all_there = self.viewers.len() == self.endpoints.len();
        if sys::stop_requested() || (all_there && self.viewers.iter().all(Viewer::has_failed)) {
            return Ok(true);
        }
        if !self.filled && self.viewers.iter().filter(|viewer| viewer.is_settled()).count() >= FIRST_VIEWERS {
            let since = *self.filling.get_or_insert(now);
            if now >= since + self.fill {
                self.few = self.stand.server()?;
                self.filled = true;
            }
        }
        if self.settled.is_none() && all_there && self.viewers.iter().all(Viewer::is_settled) {
            self.settled = Some(now);
        }
        if self.measured.is_none() && self.settled.is_some_and(|at| now >= at + self.settle) {
            self.meter.on = true;
            let bytes = self.viewers.iter().map(|viewer| viewer.tally.bytes).collect();
            self.measured = Some(Measured { from: Look::new(self.stand)?, bytes });
        }
        let since = self.measured.as_ref().zip(self.settled).map(|(measured, settled)| measured.from.at.max(settled));
        Ok(since.zip(self.duration).is_some_and(|(since, duration)| now >= since + duration))
    }

    fn tell(&self, now: Instant) -> Result<(), StandError> {
        let bytes: u64 = self.viewers.iter().map(|viewer| viewer.tally.bytes).sum();
        let seeing = self.viewers.iter().filter(|v| v.tally.first_frame.is_some() && !v.has_failed()).count();
        let phase = match (&self.measured, self.settled) {
            (Some(_), _) => "measuring",
            (None, Some(_)) => "settling",
            (None, None) => "coming",
        };
        let mut line = format!(
            "{:>5.0} s {phase}: {seeing} of {} play, {} failed, {:.0} MB",
            now.saturating_duration_since(self.began).as_secs_f64(),
            self.endpoints.len(),
            self.failed(),
            bytes as f64 / 1e6,
        );
        if let (Some(server), Some(before)) = (self.stand.server()?, self.before.server) {
            let spent = server.since(&before);
            line +=
                &format!(", server {:.0} MB, {:.1} s of CPU", server.resident as f64 / 1e6, spent.cpu.as_secs_f64());
        }
        if io::stderr().is_terminal() {
            eprint!("\r\x1b[K{line}")
        } else {
            eprintln!("{line}")
        }
        Ok(())
    }

    fn failed(&self) -> usize {
        let errors = self.viewers.iter().filter(|viewer| viewer.tally.error.is_some()).count();
        errors - self.refused() + self.endpoints.len() - self.viewers.len()
    }

    fn refused(&self) -> usize {
        let refused = |viewer: &&Viewer| viewer.tally.error.as_ref().is_some_and(ViewerError::is_refusal);
        if self.admission { self.viewers.iter().filter(refused).count() } else { 0 }
    }

    fn figures(&self) -> Result<Value, StandError> {
        let to = Look::new(self.stand)?;
        let (from, before) = match &self.measured {
            Some(measured) => (&measured.from, &measured.bytes[..]),
            None => (&self.before, &[][..]),
        };
        let lasted = to.at.saturating_duration_since(from.at).as_secs_f64().max(1e-3);
        let got = |nth: usize, viewer: &Viewer| viewer.tally.bytes - before.get(nth).copied().unwrap_or_default();
        let there =
            |viewer: &Viewer| to.at.saturating_duration_since(viewer.started.max(from.at)).as_secs_f64().max(1e-3);
        let of = |manner: Manner| self.viewers.iter().filter(move |viewer| viewer.manner() == manner);
        let plays = |viewer: &Viewer| viewer.tally.error.is_none() && viewer.manner() != Manner::Stalls;
        let playing = || self.viewers.iter().enumerate().filter(|(_, viewer)| plays(viewer));
        let rate = |nth: usize, viewer: &Viewer| got(nth, viewer) as f64 * 8e-3 / there(viewer);
        let kbps = sorted(playing().map(|(nth, viewer)| rate(nth, viewer)));
        let usual = quantile(&kbps, 0.5);
        let lacks = |nth: usize, viewer: &Viewer| (usual - rate(nth, viewer)) * there(viewer);
        let short = playing().filter(|(nth, viewer)| lacks(*nth, viewer) > usual * SHORT.as_secs_f64()).count();
        let often_late = |viewer: &Viewer| viewer.tally.long_gaps * 100 > viewer.tally.gaps;
        let bytes: u64 = self.viewers.iter().enumerate().map(|(nth, viewer)| got(nth, viewer)).sum();
        let first = sorted(self.viewers.iter().filter_map(|v| Some(v.tally.first_frame?.as_secs_f64() * 1e3)));
        let checking = || of(Manner::Checks).map(|viewer| &viewer.tally);
        let tool = to.tool.since(&from.tool);
        let errors = counted(self.viewers.iter().filter_map(|viewer| viewer.tally.error.as_ref()));
        let server = to.server.zip(from.server).map(|(now, then)| {
            let spent = now.since(&then);
            let viewer_seconds = playing().map(|(_, viewer)| there(viewer)).sum::<f64>().max(1e-3);
            let more = self.viewers.len().saturating_sub(FIRST_VIEWERS);
            let few = self.few.filter(|_| more > 0);
            let each = |of: fn(&Usage) -> u64| few.map(|few| (of(&now) as f64 - of(&few) as f64) / more as f64);
            let mut figures = percents(&spent);
            figures["us_per_viewer_second"] = (spent.cpu.as_secs_f64() * 1e6 / viewer_seconds).into();
            figures["cpu_s_per_gb"] = (spent.cpu.as_secs_f64() * 1e9 / bytes.max(1) as f64).into();
            figures["resident_bytes"] = now.resident.into();
            figures["resident_bytes_per_viewer"] = each(|usage| usage.resident).into();
            figures["tcp_memory_bytes"] = now.tcp_memory.into();
            figures["tcp_memory_bytes_per_viewer"] = each(|usage| usage.tcp_memory).into();
            figures["open_files"] = now.files.into();
            figures["threads"] = now.threads.into();
            figures
        });
        let [p50, p99, max] = self.meter.gaps.ms();
        let [delay_p50, delay_p99, delay_max] = self.meter.delays.ms();
        Ok(json!({
            "viewers": self.endpoints.len(),
            "playing": kbps.len(),
            "failed": self.failed(),
            "refused": self.admission.then(|| self.refused()),
            "stalled": of(Manner::Stalls).count(),
            "short_of_data": short,
            "measured_s": self.measured.is_some().then_some(lasted),
            "first_frame_ms": spread(&first),
            "read_gap_ms": { "p50": p50, "p99": p99, "max": max },
            "gaps_above_bound": (self.meter.gap_bound < Duration::MAX).then(|| json!({
                "bound_ms": self.meter.gap_bound.as_millis() as u64,
                "viewers": playing().filter(|(_, viewer)| often_late(viewer)).count(),
            })),
            "delay_ms": (self.meter.delays.count() > 0).then(|| json!({
                "p50": delay_p50, "p99": delay_p99, "max": delay_max, "pictures": self.meter.delays.count(),
            })),
            "viewer_kbps": { "min": quantile(&kbps, 0.0), "p5": quantile(&kbps, 0.05), "p50": usual },
            "total_mbps": bytes as f64 * 8e-6 / lasted,
            "checked": of(Manner::Checks).count(),
            "frames": checking().map(|tally| tally.frames).sum::<u64>(),
            "lost": checking().map(|tally| tally.lost).sum::<u64>(),
            "server": server,
            "tool": percents(&tool),
            "errors": errors,
        }))
    }
}

/// Of viewer `number`: those that stall are spread over all, those that check over the others.
fn manner(number: usize, all: usize, stalled: usize, checked: usize) -> Manner {
    let is_one = |number: usize, of: usize, all: usize| (number + 1) * of / all > number * of / all;
    if is_one(number, stalled, all) {
        return Manner::Stalls;
    }
    let (number, all) = (number - number * stalled / all, all - stalled);
    if is_one(number, checked.min(all), all) { Manner::Checks } else { Manner::Discards }
}

fn table(figures: &Value) -> String {
    let n = |pointer: &str| figures.pointer(pointer).and_then(Value::as_f64).unwrap_or_default();
    let ms = |name: &str| {
        format!(
            "p50 {:.1}, p99 {:.1}, max {:.1} ms",
            n(&format!("{name}/p50")),
            n(&format!("{name}/p99")),
            n(&format!("{name}/max"))
        )
    };
    let more = |what: &str| {
        let each = figures["server"][format!("{what}_bytes_per_viewer")].as_f64();
        each.map_or(String::new(), |each| format!(", {:.2} KB per viewer beyond {FIRST_VIEWERS}", each / 1e3))
    };
    let mut rows = vec![
        (
            "viewers",
            format!(
                "{} playing, {} failed, {} refused, {} stalled, {} short of data",
                n("/playing"),
                n("/failed"),
                n("/refused"),
                n("/stalled"),
                n("/short_of_data")
            ),
        ),
        ("first frame", ms("/first_frame_ms")),
    ];
    match figures["measured_s"].as_f64() {
        Some(measured) => rows.push(("measured", format!("{measured:.1} s"))),
        None => rows.push(("measured", "since the start, as not all viewers were there".into())),
    }
    let late = figures["gaps_above_bound"]
        .as_object()
        .map_or(String::new(), |late| format!("; p99 above {} ms of {} viewers", late["bound_ms"], late["viewers"]));
    rows.push(("read gaps", ms("/read_gap_ms") + &late));
    if figures["delay_ms"].is_object() {
        rows.push(("delay", format!("{} of {} pictures", ms("/delay_ms"), n("/delay_ms/pictures"))));
    }
    let each = ["min", "p5", "p50"].map(|q| format!("{q} {:.0}", n(&format!("/viewer_kbps/{q}"))));
    rows.push(("delivered", format!("{} kbit/s each, {:.1} Mbit/s in all", each.join(", "), n("/total_mbps"))));
    rows.push(("checked", format!("{} viewers, {} frames, {} pictures lost", n("/checked"), n("/frames"), n("/lost"))));
    if figures["server"].is_object() {
        rows.push((
            "server CPU",
            format!(
                "{:.1} % (user {:.0}, system {:.0}; waited {:.1}): {:.1} µs per viewer-second, {:.3} s per GB",
                n("/server/cpu_percent"),
                n("/server/user_percent"),
                n("/server/system_percent"),
                n("/server/waited_percent"),
                n("/server/us_per_viewer_second"),
                n("/server/cpu_s_per_gb"),
            ),
        ));
        rows.push((
            "memory",
            format!(
                "{:.1} MB{}; TCP sockets of all {:.1} MB{}",
                n("/server/resident_bytes") / 1e6,
                more("resident"),
                n("/server/tcp_memory_bytes") / 1e6,
                more("tcp_memory"),
            ),
        ));
    }
    rows.push(("this tool", format!("{:.1} % CPU, waited {:.1}", n("/tool/cpu_percent"), n("/tool/waited_percent"))));
    let rows: String = rows.iter().map(|(name, text)| row(name, text)).collect();
    rows + &listed(&figures["errors"])
}

fn spread(sorted: &[f64]) -> Value {
    json!({ "p50": quantile(sorted, 0.5), "p99": quantile(sorted, 0.99), "max": quantile(sorted, 1.0) })
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Of sorted values; 0 of none.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = (sorted.len().saturating_sub(1) as f64 * q).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manners_are_spread_and_as_many_as_asked_for() {
        for (all, stalled, checked, left) in
            [(500, 100, 100, 300), (10, 3, 10, 0), (7, 0, 2, 5), (4, 4, 1, 0), (1, 0, 1, 0)]
        {
            let manners: Vec<Manner> = (0..all).map(|number| manner(number, all, stalled, checked)).collect();
            let count = |wanted| manners.iter().filter(|manner| **manner == wanted).count();
            assert_eq!((count(Manner::Stalls), count(Manner::Discards)), (stalled, left), "of {all}");
        }
        assert_eq!([0, 1].map(|number| manner(number, 2, 0, 1)), [Manner::Discards, Manner::Checks]);
    }

    #[test]
    fn quantiles_of_few_values() {
        let values = sorted([3.0, 1.0, 2.0].into_iter());
        assert_eq!([0.0, 0.5, 1.0].map(|q| quantile(&values, q)), [1.0, 2.0, 3.0]);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
