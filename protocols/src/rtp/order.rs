//! Decoding times of pictures of which RTP tells when they are shown, in decoding order.

use super::clock::MAX_BACK;
use shardcast_engine::time::Timestamp;

/// With `depth` pictures decoded ahead of their turn at most, a picture is decoded when the one `depth` places
/// earlier in the order of showing is shown: never after its own time, and never backwards.
#[derive(Debug, Default)]
pub struct Order {
    /// max_num_reorder_frames (ITU-T H.264 §E.2.1), stated or seen.
    depth: usize,
    /// The latest display times of the pictures so far, latest first.
    latest: Vec<Timestamp>,
    last_dts: Option<Timestamp>,
}

/// The most pictures that H.264 decodes ahead (ITU-T H.264 §A.3.1, MaxDpbFrames).
const MAX_DEPTH: usize = 16;
/// Encoders that state more without need would put their pictures' times far apart.
const MAX_STATED_DEPTH: usize = 4;
/// Between decoding times before there are pictures enough to tell.
const STEP_MS: i64 = 1;

impl Order {
    /// A sequence parameter set begins: it states the depth, or that has to be seen.
    pub fn state(&mut self, depth: Option<u32>) {
        self.depth = depth.map_or(0, |depth| usize::try_from(depth).unwrap_or(MAX_DEPTH).min(MAX_STATED_DEPTH));
    }

    /// Decoding and display time of the next picture, which is shown at `pts`. That is later where the picture
    /// comes further out of its turn than any before it; only a clock that went back brings dts back.
    pub fn place(&mut self, pts: Timestamp, keyframe: bool) -> (Timestamp, Timestamp) {
        if let Some(newest) = self.latest.first().copied() {
            // A keyframe is shown after all before it. A long gap leaves nothing to count on.
            if newest - pts > MAX_BACK || keyframe && pts < newest {
                self.last_dts = None;
                self.latest.clear();
            } else if pts - newest > MAX_BACK {
                self.latest.clear();
            }
        }
        let at = self.latest.partition_point(|earlier| *earlier > pts);
        self.depth = self.depth.max(at).min(MAX_DEPTH);
        self.latest.insert(at, pts);
        self.latest.truncate(MAX_DEPTH + 1);
        let dts = match (self.latest.get(self.depth), self.latest.last()) {
            (Some(dts), _) => *dts,
            (None, Some(earliest)) => {
                let missing = (self.depth + 1).saturating_sub(self.latest.len()) as i64;
                *earliest - Timestamp::from_ms(missing * STEP_MS)
            }
            (None, None) => pts,
        };
        let dts = self.last_dts.map_or(dts, |last| last.max(dts));
        self.last_dts = Some(dts);
        (dts, pts.max(dts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keyframes are those at multiples of 100. Milliseconds.
    fn run(order: &mut Order, pts: &[i64]) -> Vec<(i64, i64)> {
        let times = pts.iter().map(|pts| order.place(Timestamp::from_ms(*pts), pts % 100 == 0));
        times.map(|(dts, pts)| (dts.as_ms(), pts.as_ms())).collect()
    }

    fn dts(depth: Option<u32>, pts: &[i64]) -> Vec<i64> {
        let mut order = Order::default();
        order.state(depth);
        let times = run(&mut order, pts);
        assert_eq!(times.iter().map(|(_, pts)| *pts).collect::<Vec<_>>(), pts);
        assert!(times.is_sorted_by(|a, b| a.0 <= b.0) && times.iter().all(|(dts, pts)| dts <= pts));
        times.into_iter().map(|(dts, _)| dts).collect()
    }

    #[test]
    fn a_stated_depth_gives_even_decoding_times() {
        assert_eq!(dts(Some(0), &[100, 110, 120, 200]), [100, 110, 120, 200]);
        // I P b b P b b I.
        let pts = [100, 130, 110, 120, 160, 140, 150, 200];
        assert_eq!(dts(Some(1), &pts), [99, 100, 110, 120, 130, 140, 150, 160]);
        // A pyramid: I P B b b P B b b.
        let pts = [100, 140, 120, 110, 130, 180, 160, 150, 170];
        assert_eq!(dts(Some(2), &pts), [98, 99, 100, 110, 120, 130, 140, 150, 160]);
        // More than is used.
        assert_eq!(dts(Some(3), &[100, 110, 120, 130, 140]), [97, 98, 99, 100, 110]);
        assert_eq!(dts(Some(u32::MAX), &[100, 110, 120, 130, 140, 150]), [96, 97, 98, 99, 100, 110]);
    }

    #[test]
    fn an_unknown_depth_is_learned_from_the_first_pictures_out_of_turn() {
        let mut order = Order::default();
        order.state(None);
        let times = run(&mut order, &[100, 130, 110, 120, 160, 140, 150, 190, 170, 180]);
        let first = [(100, 100), (130, 130), (130, 130), (130, 130)];
        let rest = [(130, 160), (140, 140), (150, 150), (160, 190), (170, 170), (180, 180)];
        assert_eq!(times, [&first[..], &rest].concat());
    }

    #[test]
    fn gaps_and_a_clock_that_goes_back_begin_anew() {
        let mut order = Order::default();
        order.state(Some(1));
        let times = run(&mut order, &[100, 130, 110, 5_000, 5_030, 5_010, 100, 130, 3_700, 3_200, 3_230]);
        let expected = [
            (99, 100),
            (100, 130),
            (110, 110),
            (4_999, 5_000),
            (5_000, 5_030),
            (5_010, 5_010),
            (99, 100),
            (100, 130),
            (3_699, 3_700),
            (3_199, 3_200),
            (3_200, 3_230),
        ];
        assert_eq!(times, expected);
    }
}
