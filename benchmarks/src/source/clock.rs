//! UTC from a wall clock, as text. The Gregorian calendar, without leap seconds, from 1970 on.

use std::time::{SystemTime, UNIX_EPOCH};

/// (`2026-11-22`, `22:05:33.123`). A time before 1970 counts as 1970.
pub fn utc(wall_clock: SystemTime) -> (String, String) {
    let since = wall_clock.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, ms) = (since.as_secs(), since.subsec_millis());
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    (format!("{year:04}-{month:02}-{day:02}"), format!("{hour:02}:{minute:02}:{second:02}.{ms:03}"))
}

/// Year, month and day of the day that begins `days` after 1970-01-01.
///
/// Years are counted from March, so that the leap day comes last, in eras of 400 years = 146 097 days.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // 0 is March
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn knows_the_calendar() {
        let text = |seconds, ms| utc(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(ms));
        assert_eq!(text(0, 0), ("1970-01-01".into(), "00:00:00.000".into()));
        assert_eq!(text(951_782_399, 999), ("2000-02-28".into(), "23:59:59.999".into()));
        assert_eq!(text(951_782_400, 1), ("2000-02-29".into(), "00:00:00.001".into()));
        assert_eq!(text(4_107_542_400, 0).0, "2100-03-01");
        assert_eq!(text(1_798_761_599, 5), ("2026-12-31".into(), "23:59:59.005".into()));
    }
}
