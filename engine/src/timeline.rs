//! One zero, one direction: a publisher's timestamps made a stream's.
//!
//! Stream time starts at zero with the first frame, survives a change of publisher, never runs backwards
//! within a track, and closes the gaps that a restarted encoder or a spliced source leaves. It is
//! corrected once, at the stream's home; every viewer sees the same times.

use crate::{codec::Kind, frame::Frame, time::Timestamp};

/// A frame this far behind the newest frame of any track has been cut off by a jump of the source's clock, unless it
/// goes on from its own track's last: one track may come late.
const BACKWARD: Timestamp = Timestamp::from_whole_ms(1_000);
/// A frame so far behind its own track's last as well: less than this is disorder, and the frame shares the last one's time.
const DISORDER: Timestamp = Timestamp::from_whole_ms(250);
/// The same for a frame ahead, and for one whose track is late. Slide shows and sparse sound stay well below it.
const FORWARD: Timestamp = Timestamp::from_whole_ms(10_000);
/// What lies between two frames that a jump has torn apart.
const SPLICE: Timestamp = Timestamp::from_whole_ms(10);

#[derive(Debug, Default)]
pub struct Timeline {
    /// Stream time minus source time, by track; `None` until the publisher's first frame on it. Sound is one
    /// track, whatever its codec.
    offset: [Option<Timestamp>; 2],
    /// The last decoding time given out, by track.
    last: [Option<Timestamp>; 2],
}

/// What [`Timeline::place`] had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    InOrder,
    /// The source's clock jumped; the splice was closed.
    Jumped,
    /// The frame was behind its predecessor and shares its time.
    Held,
}

impl Timeline {
    /// Another publisher takes over: its clock has another zero.
    pub fn splice(&mut self) {
        self.offset = [None; 2];
    }

    /// Moves `frame` from its source's clock to the stream's.
    pub fn place(&mut self, frame: &mut Frame) -> Placed {
        let track = index(frame.kind);
        let newest = self.last.iter().flatten().max().copied();
        let plausible = |offset: &Timestamp| {
            let at = frame.dts + *offset;
            let goes_on = self.last[track].is_some_and(|last| (last..last + BACKWARD).contains(&at));
            let late = if goes_on { FORWARD } else { BACKWARD };
            let in_order = self.last[track].is_none_or(|last| at >= last - DISORDER);
            in_order && newest.is_none_or(|newest| at > newest - late && at < newest + FORWARD)
        };
        // The other track may have jumped first; then both share the new offset.
        let known = [self.offset[track], self.offset[1 - track]];
        let fitting = known.into_iter().flatten().find(plausible);
        let (offset, mut placed) = match (fitting, newest) {
            (Some(offset), _) => (offset, Placed::InOrder),
            (None, None) => (Timestamp::ZERO - frame.dts, Placed::InOrder),
            (None, Some(newest)) => {
                // A new publisher's zero is not a jump.
                let placed = if known == [None; 2] { Placed::InOrder } else { Placed::Jumped };
                (newest + SPLICE - frame.dts, placed)
            }
        };
        self.offset[track] = Some(offset);

        let composition = (frame.pts - frame.dts).max(Timestamp::ZERO - FORWARD).min(FORWARD);
        frame.dts = frame.dts + offset;
        if let Some(last) = self.last[track].filter(|last| frame.dts < *last) {
            frame.dts = last;
            placed = if placed == Placed::Jumped { placed } else { Placed::Held };
        }
        // The very first frames of a second track may lie a little before the stream's zero.
        frame.dts = frame.dts.max(Timestamp::ZERO);
        frame.pts = frame.dts + composition;
        self.last[track] = Some(frame.dts);
        placed
    }
}

fn index(kind: Kind) -> usize {
    match kind {
        Kind::Video => 0,
        Kind::Audio | Kind::Opus => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn place(timeline: &mut Timeline, kind: Kind, ms: i64) -> (i64, Placed) {
        let dts = Timestamp::from_ms(ms);
        let mut frame = Frame { kind, dts, pts: dts, keyframe: false, payload: Bytes::new() };
        let placed = timeline.place(&mut frame);
        (frame.dts.as_ms(), placed)
    }

    #[test]
    fn starts_at_zero_and_keeps_distances_between_tracks() {
        let mut t = Timeline::default();
        assert_eq!(place(&mut t, Kind::Video, 5_000), (0, Placed::InOrder));
        assert_eq!(place(&mut t, Kind::Audio, 5_020), (20, Placed::InOrder));
        assert_eq!(place(&mut t, Kind::Video, 5_040), (40, Placed::InOrder));
    }

    #[test]
    fn a_jump_of_the_source_moves_both_tracks_by_the_same() {
        let mut t = Timeline::default();
        place(&mut t, Kind::Video, 0);
        place(&mut t, Kind::Audio, 5);
        assert_eq!(place(&mut t, Kind::Video, 3_600_000), (15, Placed::Jumped));
        // Sound of the old clock still arrives, then sound of the new one.
        assert_eq!(place(&mut t, Kind::Audio, 28), (28, Placed::InOrder));
        assert_eq!(place(&mut t, Kind::Audio, 3_600_020), (35, Placed::InOrder));
        assert_eq!(place(&mut t, Kind::Video, 3_600_040), (55, Placed::InOrder));
    }

    #[test]
    fn a_track_that_comes_late_is_no_jump() {
        let mut t = Timeline::default();
        place(&mut t, Kind::Video, 100);
        place(&mut t, Kind::Audio, 105);
        assert_eq!(place(&mut t, Kind::Video, 3_000), (2_900, Placed::InOrder));
        assert_eq!(place(&mut t, Kind::Audio, 125), (25, Placed::InOrder));
        assert_eq!(place(&mut t, Kind::Video, 3_040), (2_940, Placed::InOrder));
        assert_eq!(place(&mut t, Kind::Audio, 3_020), (2_920, Placed::InOrder));
        // Unless it is so late that it will hardly catch up.
        assert_eq!(place(&mut t, Kind::Video, 12_000), (11_900, Placed::InOrder));
        assert_eq!(place(&mut t, Kind::Video, 13_100), (13_000, Placed::InOrder));
        assert_eq!(place(&mut t, Kind::Audio, 3_040), (13_010, Placed::Jumped));
    }

    #[test]
    fn sound_is_one_track_whatever_its_codec() {
        let mut t = Timeline::default();
        place(&mut t, Kind::Video, 0);
        place(&mut t, Kind::Opus, 5);
        assert_eq!(place(&mut t, Kind::Video, 3_600_000), (15, Placed::Jumped));
        assert_eq!(place(&mut t, Kind::Opus, 3_600_020), (35, Placed::InOrder));
        assert_eq!(place(&mut t, Kind::Audio, 3_600_030), (45, Placed::InOrder));
    }

    #[test]
    fn never_runs_backwards_within_a_track() {
        let mut t = Timeline::default();
        place(&mut t, Kind::Video, 100);
        place(&mut t, Kind::Video, 140);
        assert_eq!(place(&mut t, Kind::Video, 120), (40, Placed::Held));
        assert_eq!(place(&mut t, Kind::Video, 180), (80, Placed::InOrder));
    }

    #[test]
    fn a_step_back_of_less_than_a_second_stops_no_picture() {
        let mut t = Timeline::default();
        for ms in [0, 40, 80, 1_000] {
            place(&mut t, Kind::Video, ms);
            place(&mut t, Kind::Audio, ms + 5);
        }
        assert_eq!(place(&mut t, Kind::Video, 340), (1_015, Placed::Jumped));
        assert_eq!(place(&mut t, Kind::Audio, 345), (1_020, Placed::InOrder));
        assert_eq!(place(&mut t, Kind::Video, 380), (1_055, Placed::InOrder));
        // Less is disorder.
        assert_eq!(place(&mut t, Kind::Video, 130), (1_055, Placed::Held));
    }

    #[test]
    fn the_next_publisher_goes_on_where_the_last_one_ended() {
        let mut t = Timeline::default();
        place(&mut t, Kind::Video, 0);
        place(&mut t, Kind::Video, 4_000);
        t.splice();
        assert_eq!(place(&mut t, Kind::Video, 0), (4_010, Placed::InOrder));
        assert_eq!(place(&mut t, Kind::Audio, 15), (4_025, Placed::InOrder));
    }
}
