//! Where a recording goes: the template `dvr_path` filled in. Names that clients chose stay below the folder
//! that the template says.

use crate::net::sys::LocalTime;
use shardcast_engine::key::StreamKey;
use std::{path::PathBuf, time::Duration};

/// What a directory as `dvr_path` stands for.
const IN_A_DIRECTORY: &str = "/[stream].[timestamp].flv";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    Flv,
    Mp4,
}

/// The path of a recording of `key` that starts at `now`, counted from 1970 and as the clock on the
/// wall shows it, and its container.
pub fn fill(template: &str, key: &StreamKey, now: Duration, wall: LocalTime) -> (PathBuf, Container) {
    let container = if template.ends_with(".mp4") { Container::Mp4 } else { Container::Flv };
    let whole = if [".flv", ".mp4"].iter().any(|end| template.ends_with(end)) {
        template.to_owned()
    } else {
        template.trim_end_matches('/').to_owned() + IN_A_DIRECTORY
    };
    let mut path = String::new();
    let mut rest = whole.as_str();
    // In one pass: brackets in a stream's name are no variables.
    while let Some(open) = rest.find('[') {
        path.push_str(&rest[..open]);
        rest = &rest[open..];
        let value = rest.find(']').and_then(|close| Some((variable(&rest[1..close], key, now, wall)?, close + 1)));
        let (value, len) = value.unwrap_or_else(|| ("[".into(), 1));
        path.push_str(&value);
        rest = &rest[len..];
    }
    path.push_str(rest);
    (path.into(), container)
}

fn variable(name: &str, key: &StreamKey, now: Duration, wall: LocalTime) -> Option<String> {
    Some(match name {
        "vhost" => tame(key.vhost()),
        "app" => tame(key.app()),
        "stream" => tame(key.stream()),
        "2006" => format!("{:04}", wall.year),
        "01" => format!("{:02}", wall.month),
        "02" => format!("{:02}", wall.day),
        "15" => format!("{:02}", wall.hour),
        "04" => format!("{:02}", wall.minute),
        "05" => format!("{:02}", wall.second),
        "999" => format!("{:03}", now.subsec_millis()),
        "timestamp" => now.as_millis().to_string(),
        _ => return None,
    })
}

/// A client's name without parts that lead elsewhere or that no file system takes.
fn tame(name: &str) -> String {
    let part = |part: &str| match part {
        "" | "." | ".." => "_".to_owned(),
        part => part.chars().map(|c| if c.is_control() { '_' } else { c }).collect(),
    };
    name.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardcast_engine::key::DEFAULT_VHOST;

    /// 2024-02-29 23:59:58.007 UTC
    const LEAP_DAY: Duration = Duration::from_millis(1_709_251_198_007);

    const ON_THE_WALL: LocalTime = LocalTime { year: 2024, month: 3, day: 1, hour: 7, minute: 59, second: 58 };

    fn filled(template: &str, app: &str, stream: &str) -> String {
        fill(template, &StreamKey::new(DEFAULT_VHOST, app, stream), LEAP_DAY, ON_THE_WALL).0.display().to_string()
    }

    #[test]
    fn fills_in_every_variable() {
        let all = "/d/[vhost]/[app]/[2006]-[01]-[02]/[15].[04].[05].[999]/[stream].[timestamp].mp4";
        let expected = "/d/__defaultVhost__/live/2024-03-01/07.59.58.007/a.1709251198007.mp4";
        assert_eq!(filled(all, "live", "a"), expected);
    }

    #[test]
    fn a_directory_gets_a_name() {
        assert_eq!(filled("/d/", "live", "a"), "/d/a.1709251198007.flv");
        assert_eq!(filled("/d/[what]/[", "live", "a"), "/d/[what]/[/a.1709251198007.flv");
    }

    #[test]
    fn names_of_clients_do_not_lead_elsewhere() {
        for (app, stream, expected) in [
            ("..", "..", "/d/_/_.flv"),
            ("/etc", "../../x", "/d/_/etc/_/_/x.flv"),
            ("a/b", "[timestamp]", "/d/a/b/[timestamp].flv"),
            ("", "a\0b\n", "/d/_/a_b_.flv"),
        ] {
            assert_eq!(filled("/d/[app]/[stream].flv", app, stream), expected);
        }
    }
}
