//! What every measurement is told and tells: its CPUs, the server's process, the result file.

use crate::{
    record, sys,
    usage::{Spent, Usage, UsageError},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, io, path::PathBuf, str::FromStr, time::Duration};

#[derive(Clone, Debug, Default, clap::Args)]
pub struct Stand {
    /// CPUs that this tool runs on, as in 1,4-7; all without it
    #[arg(long, value_name = "LIST")]
    cpus: Option<Cpus>,
    /// The server's process, whose CPU time and memory are to be measured
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum StandError {
    #[error("cannot run on the CPUs {0}: {1}")]
    Pin(Cpus, io::Error),
    #[error("{wanted} connections want as many open files, at most {max} may be: ulimit -n")]
    Files { wanted: usize, max: u64 },
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("{0}: {1}")]
    Write(PathBuf, io::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0} is no duration in seconds")]
    Seconds(f64),
}

/// What the tool itself has open besides connections.
const OWN_FILES: usize = 64;
/// Different errors that a table lists.
const ERRORS_LISTED: usize = 10;

impl Stand {
    /// See [`prepare`].
    pub fn prepare(&self, connections: usize) -> Result<(), StandError> {
        prepare(self.cpus.as_ref(), connections)
    }

    /// What the server has used so far, where its process is known.
    pub fn server(&self) -> Result<Option<Usage>, StandError> {
        Ok(self.server_pid.map(Usage::of).transpose()?)
    }

    /// Writes the result file, where one is wanted.
    pub fn write(&self, figures: &Value) -> Result<(), StandError> {
        let Some(file) = &self.json else { return Ok(()) };
        record::write(file, &record::record(figures.clone())).map_err(|error| StandError::Write(file.clone(), error))
    }
}

/// Pins the tool and makes room for so many connections.
pub fn prepare(cpus: Option<&Cpus>, connections: usize) -> Result<(), StandError> {
    if let Some(cpus) = cpus {
        sys::pin(&cpus.0).map_err(|error| StandError::Pin(cpus.clone(), error))?;
    }
    let (max, wanted) = (sys::raise_open_files()?, connections + OWN_FILES);
    if max < wanted as u64 { Err(StandError::Files { wanted, max }) } else { Ok(()) }
}

/// Percentages of one CPU.
pub fn percents(spent: &Spent) -> Value {
    json!({
        "cpu_percent": spent.percent(spent.cpu),
        "user_percent": spent.percent(spent.user),
        "system_percent": spent.percent(spent.system),
        "waited_percent": spent.percent(spent.waited),
    })
}

/// Errors by their words, and how often each came.
pub fn counted<E: std::fmt::Display>(errors: impl Iterator<Item = E>) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for error in errors {
        *counted.entry(error.to_string()).or_default() += 1;
    }
    counted
}

/// The first of them as lines of a table.
pub fn listed(errors: &Value) -> String {
    let errors = errors.as_object().into_iter().flatten().take(ERRORS_LISTED);
    errors.map(|(error, count)| row("", &format!("{count} x {error}"))).collect()
}

/// A line of a table.
pub fn row(name: &str, text: &str) -> String {
    format!("{name:<12} {text}\n")
}

pub fn seconds(seconds: f64) -> Result<Duration, StandError> {
    Duration::try_from_secs_f64(seconds).map_err(|_| StandError::Seconds(seconds))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

impl FromStr for Cpus {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| format!("{text:?} is no CPU"));
        let mut cpus = Vec::new();
        for part in list.split(',') {
            match part.split_once('-') {
                Some((first, last)) => cpus.extend(number(first)?..=number(last)?.min(number(first)? + 4096)),
                None => cpus.push(number(part)?),
            }
        }
        if cpus.is_empty() { Err(format!("{list:?} names no CPU")) } else { Ok(Self(cpus)) }
    }
}

impl std::fmt::Display for Cpus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!("0,2-4".parse(), Ok(Cpus(vec![0, 2, 3, 4])));
        assert_eq!("1".parse::<Cpus>().unwrap().to_string(), "1");
        for list in ["", "a", "1,", "3-1", "1-"] {
            assert!(list.parse::<Cpus>().is_err(), "{list}");
        }
    }
}
