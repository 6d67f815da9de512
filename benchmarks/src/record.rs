//! What a result file says beside its figures: when, with what and on which machine. No names of hosts.

use serde_json::{Map, Value, json};
use std::{
    fs, io,
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

/// `figures`, and how they came about.
pub fn record(figures: Value) -> Value {
    let mut record = Map::new();
    record.insert("command".into(), command_line().into());
    record.insert("commit".into(), commit().into());
    record.insert("seconds_since_1970".into(), seconds_since_1970().into());
    record.insert("machine".into(), machine());
    record.insert("figures".into(), figures);
    record.into()
}

pub fn write(file: &Path, record: &Value) -> io::Result<()> {
    fs::write(file, format!("{record:#}\n"))
}

/// The words of the command, the program by its name alone.
pub fn command_line() -> String {
    let words = std::env::args().skip(1).map(|word| {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:{}=,+".contains(letter);
        if !word.is_empty() && word.chars().all(plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
    });
    ["shardbench".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// Of the working directory, where that is a repository; `-dirty` where it differs.
fn commit() -> Option<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty", "--exclude", "*"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!commit.is_empty()).then_some(commit)
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn machine() -> Value {
    let text = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpus = text("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, model)| model);
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let release = text("/proc/sys/kernel/osrelease");
    let series: Vec<&str> = release.trim().split('.').take(2).collect();
    json!({ "cpu": model, "cores": cores, "kernel": series.join(".") })
}
