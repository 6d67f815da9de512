//! Where a recording goes: the template `dvr_path` filled in. Names that clients chose stay below the folder
//! that the template says.

use shardcast_engine::key::StreamKey;
use std::{path::PathBuf, time::Duration};

/// What a directory as `dvr_path` stands for.
const IN_A_DIRECTORY: &str = "/[stream].[timestamp].flv";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    Flv,
    Mp4,
}

/// The path of a recording of `key` that starts at `now`, counted from 1970, and its container. Times are UTC.
pub fn fill(template: &str, key: &StreamKey, now: Duration) -> (PathBuf, Container) {
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
        let value = rest.find(']').and_then(|close| Some((variable(&rest[1..close], key, now)?, close + 1)));
        let (value, len) = value.unwrap_or_else(|| ("[".into(), 1));
        path.push_str(&value);
        rest = &rest[len..];
    }
    path.push_str(rest);
    (path.into(), container)
}

fn variable(name: &str, key: &StreamKey, now: Duration) -> Option<String> {
    let seconds = now.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    Some(match name {
        "vhost" => tame(key.vhost()),
        "app" => tame(key.app()),
        "stream" => tame(key.stream()),
        "2006" => format!("{year:04}"),
        "01" => format!("{month:02}"),
        "02" => format!("{day:02}"),
        "15" => format!("{:02}", seconds / 3_600 % 24),
        "04" => format!("{:02}", seconds / 60 % 60),
        "05" => format!("{:02}", seconds % 60),
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

/// Year, month and day of so many days after 1970-01-01. Counts in eras of 400 years that begin with March, so
/// that the leap day comes last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardcast_engine::key::DEFAULT_VHOST;

    /// 2024-02-29 23:59:58.007 UTC
    const LEAP_DAY: Duration = Duration::from_millis(1_709_251_198_007);

    fn filled(template: &str, app: &str, stream: &str) -> String {
        fill(template, &StreamKey::new(DEFAULT_VHOST, app, stream), LEAP_DAY).0.display().to_string()
    }

    #[test]
    fn fills_in_every_variable() {
        let all = "/d/[vhost]/[app]/[2006]-[01]-[02]/[15].[04].[05].[999]/[stream].[timestamp].mp4";
        let expected = "/d/__defaultVhost__/live/2024-02-29/23.59.58.007/a.1709251198007.mp4";
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

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(19_722), (2023, 12, 31));
        assert_eq!(date(19_723), (2024, 1, 1));
    }
}
