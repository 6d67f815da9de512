//! Clocks, and what those on walls show.

use super::check;
use std::{
    io,
    mem::MaybeUninit,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

/// The clock on the wall shows UTC.
static UTC: AtomicBool = AtomicBool::new(false);

/// A moment as the clock on the wall shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    /// 60 in a leap second.
    pub second: u8,
}

/// From now on [`local_time`] is UTC.
pub fn use_utc() {
    UTC.store(true, Relaxed);
}

/// Seconds since 1970 as time of this machine's zone, or as UTC; `None` for a year that no clock shows.
pub fn local_time(unix_seconds: i64) -> Option<LocalTime> {
    if UTC.load(Relaxed) {
        return Some(utc_time(unix_seconds));
    }
    let seconds = libc::time_t::try_from(unix_seconds).ok()?;
    let mut raw = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: localtime_r reads one time_t, writes a whole tm where it returns non-null, and keeps neither
    // pointer. Nothing here changes the environment, so its reading of TZ does not race.
    let raw = unsafe {
        if libc::localtime_r(&seconds, raw.as_mut_ptr()).is_null() {
            return None;
        }
        raw.assume_init()
    };
    Some(LocalTime {
        year: raw.tm_year.checked_add(1900)?,
        month: u8::try_from(raw.tm_mon).ok()?.checked_add(1)?,
        day: u8::try_from(raw.tm_mday).ok()?,
        hour: u8::try_from(raw.tm_hour).ok()?,
        minute: u8::try_from(raw.tm_min).ok()?,
        second: u8::try_from(raw.tm_sec).ok()?,
    })
}

/// Seconds since 1970 as UTC, by arithmetic alone: a signal handler may call it. (Days from a year that begins in
/// March, so that leap days come last; an era is 400 years.)
pub fn utc_time(unix_seconds: i64) -> LocalTime {
    let (days, second) = (unix_seconds.div_euclid(86_400) + 719_468, unix_seconds.rem_euclid(86_400));
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    LocalTime {
        year: (era * 400 + year + i64::from(month <= 2)) as i32,
        month: month as u8,
        day: day as u8,
        hour: (second / 3_600) as u8,
        minute: (second / 60 % 60) as u8,
        second: (second % 60) as u8,
    }
}

/// CPU time of the calling thread so far (clock_gettime(2), `CLOCK_THREAD_CPUTIME_ID`).
pub fn thread_time() -> io::Result<Duration> {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Time since the machine started (clock_gettime(2), `CLOCK_MONOTONIC`).
pub fn uptime() -> io::Result<Duration> {
    clock(libc::CLOCK_MONOTONIC)
}

pub(super) fn clock(id: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to a pointer to one.
    check(unsafe { libc::clock_gettime(id, &mut time) })?;
    Ok(Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_is_the_calendar_s() {
        for (seconds, wanted) in [
            (0, (1970, 1, 1, 0, 0, 0)),
            (951_782_399, (2000, 2, 28, 23, 59, 59)),
            (951_782_400, (2000, 2, 29, 0, 0, 0)),
            (951_868_800, (2000, 3, 1, 0, 0, 0)),
            (1_798_761_599, (2026, 12, 31, 23, 59, 59)),
            (4_107_542_400, (2100, 3, 1, 0, 0, 0)),
            (-1, (1969, 12, 31, 23, 59, 59)),
        ] {
            let t = utc_time(seconds);
            assert_eq!((t.year, t.month, t.day, t.hour, t.minute, t.second), wanted, "{seconds}");
        }
    }

    #[test]
    fn local_time_is_a_time() {
        let epoch = local_time(0).unwrap();
        assert!(epoch.year == 1970 || epoch.year == 1969);
        assert_eq!(local_time(59).unwrap().second, (epoch.second + 59) % 60);
        assert_eq!(local_time(i64::MAX), None);
    }
}
