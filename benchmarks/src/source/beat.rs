//! The beat that picture and sound share: a mark at each full second of the wall clock, put on the
//! first picture of that second, so that flash and beep begin at the very same timestamp.

/// How long a mark lasts.
const MARK_NS: u64 = 100_000_000;
const SECOND_NS: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug)]
pub struct Beat {
    /// Part of a second that the wall clock showed at stream time zero.
    phase_ns: u64,
    fps: u32,
}

impl Beat {
    pub fn new(phase_ns: u32, fps: u32) -> Self {
        Self { phase_ns: u64::from(phase_ns), fps }
    }

    /// How far stream time `at_ns` is into a mark, if it is in one.
    pub fn mark_ns(&self, at_ns: u64) -> Option<u64> {
        let second = (self.phase_ns + at_ns) / SECOND_NS;
        // From stream time zero to that full second; one that began before the stream has no mark.
        let begins_ns = (second * SECOND_NS).checked_sub(self.phase_ns)?;
        let frame = (u128::from(begins_ns) * u128::from(self.fps)).div_ceil(SECOND_NS.into()) as u64;
        at_ns.checked_sub(self.frame_ns(frame)).filter(|since| *since < MARK_NS)
    }

    /// Stream time of picture `frame`.
    pub fn frame_ns(&self, frame: u64) -> u64 {
        (u128::from(frame) * u128::from(SECOND_NS) / u128::from(self.fps)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_each_second_once_from_its_first_picture() {
        for (phase_ns, fps) in [(0, 25), (700_000_001, 30), (999_999_999, 60), (300_000_000, 7)] {
            let beat = Beat::new(phase_ns, fps);
            let starts: Vec<u64> =
                (0..u64::from(fps) * 10).filter(|n| beat.mark_ns(beat.frame_ns(*n)) == Some(0)).collect();
            assert_eq!(starts.len(), 10, "{phase_ns} {fps}: {starts:?}");
            for (second, frame) in starts.iter().enumerate() {
                let shown = u64::from(phase_ns) + beat.frame_ns(*frame);
                let late = shown - (second as u64 + u64::from(phase_ns > 0)) * SECOND_NS;
                assert!(late <= SECOND_NS / u64::from(fps), "{phase_ns} {fps}: late by {late} ns");
            }
        }
    }
}
