//! `shardbench report`: the rows that a release is judged by, measured one after the other, as one table. Each row has
//! a server of its own.

use crate::{
    child::{ChildError, Measurement},
    crowd,
    host::{self, Host, HostError},
    record,
    rival::Rival,
    stand::{Cpus, percents},
    sys,
    usage::{Usage, UsageError},
};
use serde_json::{Value, json};
use std::{
    fs, io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

const PUBLISHERS_COME: Duration = Duration::from_secs(60);
const LOOK_UP: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// All viewers and publishers that the bars are set for; a quarter without it
    #[arg(long)]
    full: bool,
    /// Seconds to measure each row
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 10.0)]
    duration: f64,
    /// Only rows whose name has this in it
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Write a file of each row to this folder
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
    #[command(flatten)]
    host: host::Options,
}

#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("{seen} of {wanted} publishers came within {PUBLISHERS_COME:?}")]
    Publishers { seen: usize, wanted: u32 },
    #[error("no nginx with its RTMP module here (libnginx-mod-rtmp)")]
    NoRival,
    #[error("{0}: {1}")]
    Write(PathBuf, io::Error),
    #[error("{failed} of {rows} rows failed")]
    Failed { failed: usize, rows: usize },
}

/// Viewers of one stream. `window`: milliseconds, fixed; what is built in without it.
#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    way: &'static str,
    number: u32,
    kbps: u32,
    window: Option<u32>,
    /// Percentage of viewers that stop to read.
    stalled: u32,
    /// Fewer would be another row.
    whole: bool,
}

const FIXED: Row = Row { name: "", way: "http", number: 2000, kbps: 1000, window: Some(350), stalled: 0, whole: false };
const IDLE: Row = Row { way: "rtmp", window: None, whole: true, ..FIXED };

const ROWS: [Row; 11] = [
    Row { name: "http-1m", ..FIXED },
    Row { name: "http-1m-stalled", stalled: 20, ..FIXED },
    Row { name: "https-1m", way: "https", number: 1000, ..FIXED },
    Row { name: "rtmp-1m", way: "rtmp", ..FIXED },
    Row { name: "rtmp-240k", way: "rtmp", number: 10_000, kbps: 240, ..FIXED },
    Row { name: "http-240k", number: 10_000, kbps: 240, ..FIXED },
    Row { name: "http-2m", number: 4000, kbps: 2000, ..FIXED },
    Row { name: "http-unmerged", number: 1000, kbps: 240, window: Some(20), ..FIXED },
    Row { name: "rtmp-idle-1", number: 1, ..IDLE },
    Row { name: "rtmp-idle-100", number: 100, ..IDLE },
    Row { name: "rtmp-adaptive", number: 5000, kbps: 240, whole: false, ..IDLE },
];
/// Longer than twice `queue_length`: so much of a stream is kept.
const FILL_S: u32 = 22;
const RIVAL: &str = "rtmp-nginx";
const RIVAL_NUMBER: u32 = 1000;
/// More than one core can send, so that admission has to end it.
const RAMP: Row = Row { name: "http-ramp", number: 12_000, kbps: 8000, whole: true, ..FIXED };
const RAMP_S: u32 = 60;
const TWO: Row = Row { name: "http-two-shards", number: 10_000, ..FIXED };
const CROWD: &str = "http-crowd";
const CROWD_NUMBER: u32 = 2000;
const PUBLISHERS: &str = "publishers";
const PUBLISHERS_NUMBER: u32 = 3000;
const PUBLISHERS_KBPS: u32 = 300;
const CHURN: &str = "churn";
const CHURN_NUMBER: u32 = 20_000;

pub fn run(options: &Options) -> Result<(), ReportError> {
    println!(
        "{:<16} {:>7} {:>7} {:>10} {:>8} {:>7} {:>16} {:>8} {:>9} {:>13}",
        "row",
        "number",
        "CPU %",
        "µs each/s",
        "s per GB",
        "×",
        "delay p50/p99 ms",
        "gap p99",
        "KB each",
        "failed/short"
    );
    let wanted = |name: &str| options.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let names = ROWS
        .iter()
        .map(|row| row.name)
        .chain([RIVAL, CROWD, RAMP.name, TWO.name, PUBLISHERS, CHURN])
        .filter(|name| wanted(name));
    let (mut rows, mut failed) = (0, 0);
    for name in names.take_while(|_| !sys::stop_requested()) {
        rows += 1;
        let measured = match ROWS.iter().find(|row| row.name == name) {
            Some(row) => viewers(options, row),
            None if name == RIVAL => rival(options),
            None if name == CROWD => crowd(options),
            None if name == RAMP.name => ramp(options),
            None if name == TWO.name => two_shards(options),
            None if name == PUBLISHERS => publishers(options),
            None => churn(options),
        };
        match measured {
            Ok(figures) => {
                println!("{}", line(name, &figures));
                write(options, name, figures)?;
            }
            Err(error) => {
                failed += 1;
                println!("{name:<16} failed: {error}");
            }
        }
    }
    if failed > 0 { Err(ReportError::Failed { failed, rows }) } else { Ok(()) }
}

impl Options {
    fn number(&self, full: u32) -> u32 {
        if self.full { full } else { full.div_ceil(4) }
    }
}

fn viewers(options: &Options, row: &Row) -> Result<Value, ReportError> {
    let number = if row.whole { row.number } else { options.number(row.number) };
    let stalled = (number * row.stalled / 100).to_string();
    let fill = if row.whole { 0 } else { FILL_S }.to_string();
    let mut figures = at(options, row.way, number, row, &["--stall", &stalled, "--fill", &fill])?;
    if row.way == "https" {
        let plain = at(options, "http", number, row, &[])?;
        figures["of_plain"] = ratio(&figures, &plain);
        figures["plain"] = plain;
    }
    if let Some(window) = row.window {
        // At the rate that the viewers really had.
        let kbps = figures.pointer("/viewer_kbps/p50").and_then(Value::as_f64).unwrap_or_default().round() as u32;
        let limit = limit_in_child(options, number - number * row.stalled / 100, kbps, window)?;
        figures["of_limit"] = ratio(&figures, &limit);
        figures["limit"] = limit;
    }
    Ok(figures)
}

/// `number` viewers over `way` of a stream as `row` has it.
fn at(options: &Options, way: &str, number: u32, row: &Row, more: &[&str]) -> Result<Value, ReportError> {
    let host = Host::start(&options.host, row.window)?;
    let _publisher = host.publish(row.kbps)?;
    let mut arguments = host::viewers(&host, way, number, options.duration);
    arguments.extend(more.iter().map(|word| (*word).to_owned()));
    let mut figures = Measurement::start("play", &arguments, true)?.wait()?;
    figures["stream_kbps"] = row.kbps.into();
    figures["window_ms"] = row.window.into();
    Ok(figures)
}

/// What a viewer costs in `these`, as a share of `those`.
fn ratio(these: &Value, those: &Value) -> Value {
    let cost = |of: &Value| of.pointer("/server/us_per_viewer_second").and_then(Value::as_f64);
    cost(these).zip(cost(those)).map(|(these, those)| these / those).into()
}

/// The same viewers of ours and of nginx-rtmp with its defaults.
fn rival(options: &Options) -> Result<Value, ReportError> {
    let number = options.number(RIVAL_NUMBER);
    let mut figures = at(options, "rtmp", number, &FIXED, &[])?;
    let rival = Rival::start(&options.host)?.ok_or(ReportError::NoRival)?;
    let _publisher = host::publish(&options.host.cpus, &rival.url(), FIXED.kbps, &[])?;
    let arguments = host::arguments(&rival.url(), rival.pid(), number, options.duration, &options.host.cpus);
    let theirs = Measurement::start("play", &arguments, true)?.wait()?;
    figures["of_rival"] = ratio(&figures, &theirs);
    figures["rival"] = theirs;
    Ok(figures)
}

/// What those who watch already notice of many who come at once, with the settings that are built in.
fn crowd(options: &Options) -> Result<Value, ReportError> {
    let host = Host::start(&options.host, None)?;
    let _publisher = host.publish(FIXED.kbps)?;
    Ok(crowd::measure(&host, options.number(CROWD_NUMBER), options.duration)?)
}

/// Viewers come evenly until long after the core is full: what those notice who were let in. Bound is two windows.
fn ramp(options: &Options) -> Result<Value, ReportError> {
    let bound = (2 * RAMP.window.unwrap_or_default()).to_string();
    let ramp = RAMP_S.to_string();
    let more = ["--ramp", &ramp, "--from-start", "--admission", "--gap-bound", &bound];
    at(options, RAMP.way, RAMP.number, &RAMP, &more)
}

/// The same viewers of one shard and of two: on one core, and apart, where the second has to share the tool's.
fn two_shards(options: &Options) -> Result<Value, ReportError> {
    let number = options.number(TWO.number);
    let one = at(options, TWO.way, number, &TWO, &[])?;
    let two = |second: &Cpus| {
        let mut options = options.clone();
        options.host.server_cpus.0.extend(&second.0);
        at(&options, TWO.way, number, &TWO, &[])
    };
    let (mut figures, apart) = (two(&options.host.server_cpus)?, two(&options.host.cpus)?);
    figures["of_one"] = ratio(&figures, &one);
    figures["apart"] = apart;
    figures["apart"]["of_one"] = ratio(&figures["apart"], &one);
    figures["one"] = one;
    Ok(figures)
}

/// The do-nothing loop, on the server's CPUs.
fn limit_in_child(options: &Options, number: u32, kbps: u32, window: u32) -> Result<Value, ReportError> {
    let pairs = [
        ("-n", number.to_string()),
        ("--kbps", kbps.to_string()),
        ("--window", window.to_string()),
        ("--for", options.duration.to_string()),
        ("--cpus", options.host.server_cpus.to_string()),
        ("--viewer-cpus", options.host.cpus.to_string()),
    ];
    let arguments: Vec<String> = pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    Ok(Measurement::start("limit", &arguments, true)?.wait()?)
}

/// Publishers without viewers, whose frames come every 20 ms.
fn publishers(options: &Options) -> Result<Value, ReportError> {
    let number = options.number(PUBLISHERS_NUMBER);
    let host = Host::start(&options.host, None)?;
    let empty = Usage::of(host.pid())?;
    let count = number.to_string();
    let _publishers = host.publish_many(&host.rtmp("live/p{}"), PUBLISHERS_KBPS, &["-n", &count, "--burst", "20"])?;
    let deadline = Instant::now() + PUBLISHERS_COME;
    let mut there = empty;
    while there.files < empty.files + number as usize {
        if Instant::now() > deadline || sys::stop_requested() {
            return Err(ReportError::Publishers { seen: there.files.saturating_sub(empty.files), wanted: number });
        }
        thread::sleep(LOOK_UP);
        there = Usage::of(host.pid())?;
    }
    // Until the last ones publish and the rings are full.
    thread::sleep(Duration::from_secs(FILL_S.into()));
    let from = Usage::of(host.pid())?;
    thread::sleep(Duration::from_secs_f64(options.duration));
    let (to, rings) = (Usage::of(host.pid())?, host.metric("shardcast_ring_bytes")?);
    let spent = to.since(&from);
    let mut server = percents(&spent);
    let seconds = spent.lasted.as_secs_f64() * f64::from(number);
    server["us_per_publisher_second"] = (spent.cpu.as_secs_f64() * 1e6 / seconds).into();
    // Frames are kept for a time, so what the rings hold is the streams', not their publishers'.
    let beyond = to.resident as f64 - empty.resident as f64 - rings;
    server["ring_bytes_per_publisher"] = (rings / f64::from(number)).into();
    server["resident_bytes_per_publisher"] = (beyond / f64::from(number)).into();
    Ok(json!({ "publishers": number, "stream_kbps": PUBLISHERS_KBPS, "server": server }))
}

fn churn(options: &Options) -> Result<Value, ReportError> {
    let host = Host::start(&options.host, None)?;
    let mut arguments = vec![host.rtmp("live/c{}")];
    let pairs = [
        ("-n", options.number(CHURN_NUMBER).to_string()),
        ("--server-pid", host.pid().to_string()),
        ("--cpus", options.host.cpus.to_string()),
    ];
    arguments.extend(pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
    Ok(Measurement::start("churn", &arguments, true)?.wait()?)
}

fn write(options: &Options, name: &str, figures: Value) -> Result<(), ReportError> {
    let Some(folder) = &options.results else { return Ok(()) };
    let file = folder.join(format!("{name}.json"));
    let failed = |error| ReportError::Write(file.clone(), error);
    fs::create_dir_all(folder).map_err(failed)?;
    record::write(&file, &record::record(figures)).map_err(failed)
}

fn line(name: &str, figures: &Value) -> String {
    let cell = |pointer: &str, digits: usize, scale: f64| {
        let number = figures.pointer(pointer).and_then(Value::as_f64);
        number.map_or("-".into(), |number| format!("{:.digits$}", number / scale))
    };
    let first = |pointers: &[&str], digits, scale| {
        let cells = pointers.iter().map(|pointer| cell(pointer, digits, scale));
        cells.into_iter().find(|cell| cell != "-").unwrap_or_else(|| "-".into())
    };
    format!(
        "{name:<16} {:>7} {:>7} {:>10} {:>8} {:>7} {:>16} {:>8} {:>9} {:>13}",
        first(&["/viewers", "/publishers", "/cycles"], 0, 1.0),
        cell("/server/cpu_percent", 1, 1.0),
        first(&["/server/us_per_viewer_second", "/server/us_per_publisher_second", "/server/cpu_us_per_cycle"], 1, 1.0),
        cell("/server/cpu_s_per_gb", 3, 1.0),
        first(&["/of_plain", "/of_rival", "/of_one", "/of_limit"], 2, 1.0),
        format!("{}/{}", cell("/delay_ms/p50", 1, 1.0), cell("/delay_ms/p99", 1, 1.0)),
        cell("/read_gap_ms/p99", 0, 1.0),
        first(&["/server/resident_bytes_per_viewer", "/server/resident_bytes_per_publisher"], 1, 1e3),
        format!("{}/{}", cell("/failed", 0, 1.0), cell("/short_of_data", 0, 1.0)),
    )
}
