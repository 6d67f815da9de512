//! The one timestamp of the media path.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

/// A point on, or a distance along, a stream's timeline, in *flicks*: 1/705 600 000 s.
///
/// One flick divides the clocks that media uses without a remainder: milliseconds (RTMP, FLV),
/// 90 kHz (MPEG-TS, RTP video), 48 kHz and 44.1 kHz (sound). 63 bits last 414 years, so it never
/// wraps; wire clocks that do are unwrapped where they are read and truncated where they are written.
/// Conversions to a coarser clock round towards the past, so order is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Flicks in one second.
const PER_SECOND: i64 = 705_600_000;

impl Timestamp {
    pub const ZERO: Timestamp = Timestamp(0);

    /// `ticks` of a clock that counts `hz` per second. `hz` must not be zero; exact where `hz`
    /// divides 705 600 000, else rounded towards the past.
    pub fn from_ticks(ticks: i64, hz: u32) -> Self {
        let flicks = i128::from(ticks) * i128::from(PER_SECOND);
        Self(flicks.div_euclid(i128::from(hz)) as i64)
    }

    /// This time on a clock that counts `hz` per second.
    pub fn as_ticks(self, hz: u32) -> i64 {
        (i128::from(self.0) * i128::from(hz)).div_euclid(i128::from(PER_SECOND)) as i64
    }

    pub fn from_ms(ms: i64) -> Self {
        Self(ms.saturating_mul(PER_SECOND / 1000))
    }

    pub const fn from_whole_ms(ms: i32) -> Self {
        Self(ms as i64 * (PER_SECOND / 1000))
    }

    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / PER_SECOND as f64
    }

    /// Whole milliseconds, rounded towards the past.
    pub fn as_ms(self) -> i64 {
        self.0.div_euclid(PER_SECOND / 1000)
    }
}

impl From<Duration> for Timestamp {
    fn from(duration: Duration) -> Self {
        Self::from_ms(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Add for Timestamp {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Timestamp {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.as_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_clocks_convert_without_a_remainder() {
        for hz in [1_000, 90_000, 48_000, 44_100] {
            for ticks in [0, 1, 33, 1_023, -5, 1 << 40] {
                assert_eq!(Timestamp::from_ticks(ticks, hz).as_ticks(hz), ticks);
            }
        }
    }

    #[test]
    fn coarser_clocks_round_towards_the_past() {
        assert_eq!(Timestamp::from_ticks(3003, 90_000).as_ms(), 33);
        assert_eq!(Timestamp::from_ticks(-1, 90_000).as_ms(), -1);
    }
}
