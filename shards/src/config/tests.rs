//! Whole files and environments, through `Config::load` and `Config::built_in`.

mod refusals;
mod servers;
mod sources;
mod values;

use super::*;

fn load_with(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.conf");
    std::fs::write(&path, text).unwrap();
    let shown = path.display().to_string();
    Config::load(&path, &env.iter().copied().collect()).map_err(|e| e.to_string().replace(&shown, "t.conf"))
}

pub fn load(text: &str) -> Config {
    load_with(text, &[]).unwrap()
}

fn refusal(text: &str) -> String {
    load_with(text, &[]).expect_err(text)
}

fn shown(listens: &[Listen]) -> String {
    listens.iter().map(Listen::to_string).collect::<Vec<_>>().join(" ")
}

/// The warnings, without the path of the file.
fn remarks(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    let warnings = load_with(text, env).unwrap().warnings;
    warnings
        .iter()
        .map(|warning| warning.rsplit_once("t.conf:").map_or(warning.as_str(), |(_, it)| it).into())
        .collect()
}
