//! `shardbench play`: many viewers of one or many streams, and a table of what they got.

use crate::{
    endpoint::{Endpoint, EndpointError},
    publish::{PublishError, seconds},
    sys::{self, Wait},
    viewer::Viewer,
};
use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

/// Viewers that dial at the same time.
const DIALS_AT_ONCE: usize = 64;
const LOOK_UP: Duration = Duration::from_millis(100);
const DIAL_LOOK_UP: Duration = Duration::from_millis(2);
/// Different errors that the table lists.
const ERRORS_LISTED: usize = 10;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// rtmp://HOST[:PORT]/APP/STREAM or http://HOST[:PORT]/APP/STREAM.flv; {} becomes the number of the
    /// viewer
    url: String,
    /// How many viewers
    #[arg(short, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    number: u16,
    /// Seconds to play; until interrupted without it
    #[arg(long = "for")]
    duration: Option<f64>,
}

#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Seconds(#[from] PublishError),
    #[error("poll: {0}")]
    Io(#[from] io::Error),
    #[error("{failed} of {number} viewers failed")]
    Failed { failed: usize, number: usize },
}

pub fn run(options: &Options) -> Result<(), PlayError> {
    let end = options.duration.map(seconds).transpose()?.map(|duration| Instant::now() + duration);
    let mut waiting = Vec::new();
    for number in (1..=usize::from(options.number)).rev() {
        waiting.push(Endpoint::numbered(&options.url, number)?);
    }
    let mut viewers = Vec::new();
    watch(&mut waiting, &mut viewers, end)?;
    viewers.iter_mut().for_each(Viewer::finish);
    print!("{}", table(&viewers, Instant::now()));
    let failed = viewers.iter().filter(|viewer| viewer.tally.error.is_some()).count() + waiting.len();
    match failed {
        0 => Ok(()),
        failed => Err(PlayError::Failed { failed, number: options.number.into() }),
    }
}

/// Until the end, a signal, or the failure of the last viewer.
fn watch(waiting: &mut Vec<Endpoint>, viewers: &mut Vec<Viewer>, end: Option<Instant>) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let now = Instant::now();
        let over = waiting.is_empty() && viewers.iter().all(Viewer::has_failed);
        if over || sys::stop_requested() || end.is_some_and(|end| now >= end) {
            return Ok(());
        }
        viewers.iter_mut().for_each(|viewer| viewer.step(now));
        let dialling = viewers.iter().filter(|viewer| viewer.is_dialling()).count();
        for endpoint in waiting
            .split_off(waiting.len().saturating_sub(DIALS_AT_ONCE - dialling.min(DIALS_AT_ONCE)))
            .into_iter()
            .rev()
        {
            viewers.push(Viewer::start(endpoint, now)?);
        }
        let look_up = if viewers.iter().any(Viewer::is_dialling) { DIAL_LOOK_UP } else { LOOK_UP };
        transfer(viewers, look_up, &mut buffer)?;
    }
}

fn transfer(viewers: &mut [Viewer], timeout: Duration, buffer: &mut Vec<u8>) -> io::Result<()> {
    let mut owners = Vec::new();
    let mut waits: Vec<Wait> = Vec::new();
    for (owner, viewer) in viewers.iter().enumerate() {
        if let Some(wait) = viewer.wait() {
            owners.push(owner);
            waits.push(wait);
        }
    }
    sys::poll(&mut waits, timeout)?;
    let ready: Vec<(usize, bool)> = std::iter::zip(owners, waits)
        .filter(|(_, wait)| wait.readable || wait.writable)
        .map(|(owner, wait)| (owner, wait.readable))
        .collect();
    for (owner, readable) in ready {
        viewers[owner].transfer(Instant::now(), readable, buffer);
    }
    Ok(())
}

fn table(viewers: &[Viewer], end: Instant) -> String {
    let playing = viewers.iter().filter(|viewer| viewer.tally.error.is_none()).count();
    let first_ms =
        sorted(viewers.iter().filter_map(|v| v.tally.first_frame).map(|(_, took)| took.as_secs_f64() * 1000.0));
    let kbps = sorted(viewers.iter().filter_map(|viewer| {
        let (since, _) = viewer.tally.first_frame?;
        let lasted = end.saturating_duration_since(since).as_secs_f64().max(0.001);
        Some(viewer.tally.bytes as f64 * 8.0 / 1000.0 / lasted)
    }));
    let frames: u64 = viewers.iter().map(|viewer| viewer.tally.frames).sum();
    let mut text = format!(
        "{:>8} {:>8} {:>8} {:>10} {:>18} {:>18}\n{:>8} {:>8} {:>8} {:>10} {:>18} {:>18}\n",
        "viewers",
        "playing",
        "failed",
        "frames",
        "first ms p50/max",
        "kbit/s min/p50",
        viewers.len(),
        playing,
        viewers.len() - playing,
        frames,
        format!("{:.0}/{:.0}", quantile(&first_ms, 0.5), quantile(&first_ms, 1.0)),
        format!("{:.0}/{:.0}", quantile(&kbps, 0.0), quantile(&kbps, 0.5)),
    );
    let mut errors: BTreeMap<String, usize> = BTreeMap::new();
    for error in viewers.iter().filter_map(|viewer| viewer.tally.error.as_ref()) {
        *errors.entry(error.to_string()).or_default() += 1;
    }
    for (error, count) in errors.iter().take(ERRORS_LISTED) {
        text += &format!("{count:>8} x {error}\n");
    }
    text
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
    fn quantiles_of_few_values() {
        let values = sorted([3.0, 1.0, 2.0].into_iter());
        assert_eq!([0.0, 0.5, 1.0].map(|q| quantile(&values, q)), [1.0, 2.0, 3.0]);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
