//! What the frames of one track tell of it over time: rates, and how its pictures hang together.

use crate::{frame::Frame, time::Timestamp};

/// Rates are those of a span so long, or a little longer.
const SPAN: Timestamp = Timestamp::from_whole_ms(2_000);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// The last whole span, and the one that is running.
    last: Option<Span>,
    span: Span,
    /// Likewise of GOPs.
    last_gop: Option<Gop>,
    gop: Gop,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Span {
    /// Time of its first frame.
    began: Option<Timestamp>,
    length: Timestamp,
    frames: u32,
    bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Gop {
    /// Time of its keyframe.
    began: Option<Timestamp>,
    length: Timestamp,
    frames: u32,
    /// The latest time at which a picture of it is shown.
    shown: Option<Timestamp>,
    /// A picture is shown before one that was decoded earlier.
    reordered: bool,
}

impl Pulse {
    /// The track's next frame, on the stream's timeline.
    pub fn note(&mut self, frame: &Frame) {
        let next = Span { began: Some(frame.dts), ..Span::default() };
        match self.span.began {
            Some(began) if began <= frame.dts => self.span.length = frame.dts - began,
            _ => self.span = next.clone(),
        }
        if self.span.length >= SPAN {
            self.last = Some(std::mem::replace(&mut self.span, next));
        }
        self.span.frames += 1;
        self.span.bytes += frame.payload.len() as u64;

        if frame.keyframe {
            let next = Gop { began: Some(frame.dts), ..Gop::default() };
            let mut gone = std::mem::replace(&mut self.gop, next);
            if let Some(began) = gone.began {
                gone.length = frame.dts - began;
                self.last_gop = Some(gone);
            }
        }
        self.gop.frames += 1;
        self.gop.reordered |= self.gop.shown.is_some_and(|shown| frame.pts < shown);
        self.gop.shown = self.gop.shown.max(Some(frame.pts));
    }

    /// Frames per second.
    pub fn rate(&self) -> Option<f64> {
        self.last.as_ref().map(|span| f64::from(span.frames) / span.length.as_seconds())
    }

    /// Kilobits per second of the codec's bytes.
    pub fn kbps(&self) -> Option<f64> {
        self.last.as_ref().map(|span| span.bytes as f64 / 125.0 / span.length.as_seconds())
    }

    /// Frames from the last keyframe but one to the last, and the time between them.
    pub fn gop(&self) -> Option<(u32, Timestamp)> {
        self.last_gop.as_ref().map(|gop| (gop.frames, gop.length))
    }

    /// There are B-frames in the last GOPs: the order in which pictures are shown is not that in which they come.
    pub fn reorders(&self) -> bool {
        self.gop.reordered || self.last_gop.as_ref().is_some_and(|gop| gop.reordered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Kind;
    use bytes::Bytes;

    /// Pictures 40 ms apart, a keyframe in each `gop`, shown `shift(n)` ms after they are decoded.
    fn of(count: i64, gop: i64, shift: fn(i64) -> i64) -> Pulse {
        let mut pulse = Pulse::default();
        for n in 0..count {
            let (dts, pts) = (Timestamp::from_ms(n * 40), Timestamp::from_ms(n * 40 + shift(n)));
            let payload = Bytes::from_static(&[0; 500]);
            pulse.note(&Frame { kind: Kind::Video, dts, pts, keyframe: n % gop == 0, payload });
        }
        pulse
    }

    #[test]
    fn rates_and_gops_are_known_when_they_are_over() {
        let pulse = of(50, 50, |_| 0);
        assert_eq!((pulse.rate(), pulse.kbps(), pulse.gop()), (None, None, None));
        let pulse = of(51, 50, |_| 0);
        assert_eq!((pulse.rate(), pulse.kbps()), (Some(25.0), Some(100.0)));
        assert_eq!(pulse.gop(), Some((50, Timestamp::from_ms(2_000))));
        assert_eq!(of(200, 12, |_| 0).gop(), Some((12, Timestamp::from_ms(480))));
    }

    #[test]
    fn pictures_out_of_order_are_b_frames() {
        // I P B B as encoders have it: the P is shown behind both.
        assert!(of(8, 4, |n| [40, 120, 0, 0][n as usize % 4]).reorders());
        assert!(!of(8, 4, |_| 80).reorders(), "all are as late");
        // Long ago.
        assert!(!of(20, 4, |n| if n == 2 { -80 } else { 0 }).reorders());
    }

    #[test]
    fn a_clock_that_jumps_back_ends_nothing() {
        let mut pulse = of(200, 50, |_| 0);
        for ms in (-1_000_000..-996_000).step_by(20) {
            let dts = Timestamp::from_ms(ms);
            pulse.note(&Frame { kind: Kind::Video, dts, pts: dts, keyframe: false, payload: Bytes::new() });
        }
        assert_eq!(pulse.rate(), Some(50.0));
    }
}
