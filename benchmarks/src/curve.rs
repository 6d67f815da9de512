//! `shardbench curve`: what waiting buys. Starts the server anew for each merge window and sets its CPU time per viewer
//! against the delay that it adds.

use crate::{
    child::{ChildError, Measurement},
    host::{self, Host, HostError},
    record, sys,
};
use serde_json::{Value, json};
use std::{fmt::Write, fs, io, path::PathBuf};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many viewers
    #[arg(short, default_value_t = 1000)]
    number: u32,
    /// Of the stream, kbit/s
    #[arg(long, default_value_t = 1000)]
    kbps: u32,
    /// rtmp, http or ws
    #[arg(long, default_value = "http")]
    way: String,
    /// Merge windows, milliseconds
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "10,20,50,100,200,350,700")]
    windows: Vec<u32>,
    /// Seconds to measure each
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 10.0)]
    duration: f64,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw them to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    host: host::Options,
}

#[derive(Debug, thiserror::Error)]
pub enum CurveError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error("{0}: {1}")]
    Write(PathBuf, io::Error),
}

#[derive(Clone, Copy, Debug)]
struct Point {
    window_ms: u32,
    delay_ms: f64,
    /// The 99th percentile.
    late_ms: f64,
    /// Microseconds of CPU per viewer and second.
    cost: f64,
}

pub fn run(options: &Options) -> Result<(), CurveError> {
    let mut points = Vec::new();
    println!("{:>9} {:>13} {:>13} {:>19}", "window ms", "delay p50 ms", "delay p99 ms", "µs/viewer-second");
    for window_ms in options.windows.iter().copied().take_while(|_| !sys::stop_requested()) {
        let point = point(options, window_ms)?;
        let Point { delay_ms, late_ms, cost, .. } = point;
        println!("{window_ms:>9} {delay_ms:>13.1} {late_ms:>13.1} {cost:>19.1}");
        points.push(point);
    }
    if let Some(file) = &options.svg {
        fs::write(file, svg(&points)).map_err(|error| CurveError::Write(file.clone(), error))?;
    }
    if let Some(file) = &options.json {
        let figures: Vec<Value> = points
            .iter()
            .map(|point| {
                json!({
                    "window_ms": point.window_ms,
                    "delay_ms": { "p50": point.delay_ms, "p99": point.late_ms },
                    "us_per_viewer_second": point.cost,
                })
            })
            .collect();
        let figures =
            json!({ "viewers": options.number, "kbps": options.kbps, "way": options.way, "windows": figures });
        record::write(file, &record::record(figures)).map_err(|error| CurveError::Write(file.clone(), error))?;
    }
    Ok(())
}

fn point(options: &Options, window_ms: u32) -> Result<Point, CurveError> {
    let host = Host::start(&options.host, Some(window_ms))?;
    let _publisher = host.publish(options.kbps)?;
    let arguments = host::viewers(&host, &options.way, options.number, options.duration);
    let figures = Measurement::start("play", &arguments, true)?.wait()?;
    let number = |pointer: &str| figures.pointer(pointer).and_then(Value::as_f64).unwrap_or_default();
    Ok(Point {
        window_ms,
        delay_ms: number("/delay_ms/p50"),
        late_ms: number("/delay_ms/p99"),
        cost: number("/server/us_per_viewer_second"),
    })
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const MARGIN: f64 = 56.0;
/// Lines of the grid in each direction.
const STEPS: u32 = 5;

/// Delay to the right, cost upwards, each point with its window.
fn svg(points: &[Point]) -> String {
    let most = |of: fn(&Point) -> f64| points.iter().map(of).fold(1.0, f64::max) * 1.1;
    let (delay, cost) = (most(|point| point.delay_ms), most(|point| point.cost));
    let x = |ms: f64| MARGIN + ms / delay * (WIDTH - 2.0 * MARGIN);
    let y = |us: f64| HEIGHT - MARGIN - us / cost * (HEIGHT - 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    // Writing to a string does not fail.
    for step in 0..=STEPS {
        let part = f64::from(step) / f64::from(STEPS);
        let (at_x, at_y) = (x(delay * part), y(cost * part));
        let (right, bottom) = (WIDTH - MARGIN, HEIGHT - MARGIN);
        let _ = writeln!(out, "<path d=\"M{at_x:.1} {MARGIN}V{bottom}M{MARGIN} {at_y:.1}H{right}\" stroke=\"#ddd\"/>");
        let below = bottom + 16.0;
        let _ = writeln!(out, "<text x=\"{at_x:.1}\" y=\"{below}\" text-anchor=\"middle\">{:.0}</text>", delay * part);
        let (left, middle) = (MARGIN - 6.0, at_y + 4.0);
        let _ = writeln!(out, "<text x=\"{left}\" y=\"{middle:.1}\" text-anchor=\"end\">{:.0}</text>", cost * part);
    }
    let line: Vec<String> = points.iter().map(|p| format!("{:.1},{:.1}", x(p.delay_ms), y(p.cost))).collect();
    let _ = writeln!(out, "<polyline points=\"{}\" fill=\"none\" stroke=\"#0a7\" stroke-width=\"2\"/>", line.join(" "));
    for point in points {
        let (at_x, at_y) = (x(point.delay_ms), y(point.cost));
        let _ = writeln!(out, "<circle cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"4\" fill=\"#0a7\"/>");
        let (right, above) = (at_x + 7.0, at_y - 7.0);
        let _ = writeln!(out, "<text x=\"{right:.1}\" y=\"{above:.1}\">{} ms</text>", point.window_ms);
    }
    let _ = writeln!(out, "<text x=\"{MARGIN}\" y=\"{}\">µs of CPU per viewer-second</text>", MARGIN - 12.0);
    let (middle, low) = (WIDTH / 2.0, HEIGHT - 16.0);
    let _ =
        writeln!(out, "<text x=\"{middle}\" y=\"{low}\" text-anchor=\"middle\">added delay, p50, ms</text>\n</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_each_window() {
        let point = |window_ms, delay_ms, cost| Point { window_ms, delay_ms, late_ms: 0.0, cost };
        let drawn = svg(&[point(20, 10.0, 300.0), point(350, 175.0, 30.0)]);
        assert_eq!(drawn.matches("<circle").count(), 2);
        assert!(drawn.contains(">20 ms<") && drawn.contains(">350 ms<") && drawn.ends_with("</svg>\n"));
        assert!(!drawn.contains("NaN"));
        assert!(!svg(&[]).contains("NaN"));
    }
}
