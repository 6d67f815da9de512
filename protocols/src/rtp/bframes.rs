//! Which pictures of an H.264 stream browsers would rather not see: those shown out of decoding order.

use crate::codec::avc;
use shardcast_engine::{frame::Frame, time::Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Shown after all that were decoded before it.
    Forward,
    /// Shown before one that was decoded earlier, and no other picture refers to it: it can be left out.
    DisposableB,
    /// Shown before one that was decoded earlier, and others refer to it: it cannot.
    ReferenceB,
}

/// Watches one stream in decoding order.
#[derive(Clone, Debug, Default)]
pub struct BFrames {
    latest: Option<Timestamp>,
    /// Whether any picture so far was shown out of order. A constant distance of pts and dts is no reordering.
    pub reorders: bool,
}

impl BFrames {
    pub fn look(&mut self, frame: &Frame, nal_length_size: usize) -> Order {
        // A keyframe begins a new order, also where a source's clock went back.
        let back = !frame.keyframe && self.latest.is_some_and(|latest| frame.pts < latest);
        if !back {
            self.latest = Some(frame.pts);
            return Order::Forward;
        }
        self.reorders = true;
        if is_reference(&frame.payload, nal_length_size) { Order::ReferenceB } else { Order::DisposableB }
    }
}

/// Whether other pictures may refer to this one: nal_ref_idc of its slices (ITU-T H.264 §7.4.1) is not zero.
/// One without slices, or broken, counts as such: leaving it out could do harm.
pub fn is_reference(payload: &[u8], nal_length_size: usize) -> bool {
    let mut slices = 0;
    for nal in avc::nal_units(payload, nal_length_size) {
        let Ok(nal) = nal else { return true };
        let Some(first) = nal.first() else { continue };
        if matches!(first & 31, 1..=5) {
            slices += 1;
            if first & 0x60 != 0 {
                return true;
            }
        }
    }
    slices == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use shardcast_engine::codec::Kind;

    fn frame(dts: i64, pts: i64, header: u8) -> Frame {
        Frame {
            kind: Kind::Video,
            dts: Timestamp::from_ms(dts),
            pts: Timestamp::from_ms(pts),
            keyframe: header & 31 == 5,
            payload: Bytes::copy_from_slice(&[0, 0, 0, 2, header, 9]),
        }
    }

    #[test]
    fn tells_disposable_b_pictures_from_others() {
        let mut bframes = BFrames::default();
        let stream = [(0, 80, 0x65), (40, 200, 0x41), (80, 120, 0x21), (120, 100, 0x01), (160, 160, 0x01)];
        let orders = stream.map(|(dts, pts, header)| bframes.look(&frame(dts, pts, header), 4));
        let expected = [Order::Forward, Order::Forward, Order::ReferenceB, Order::DisposableB, Order::DisposableB];
        assert_eq!((orders, bframes.reorders), (expected, true));
    }

    #[test]
    fn a_constant_delay_and_a_disposable_p_picture_are_no_reordering() {
        let mut bframes = BFrames::default();
        for (dts, header) in [(0, 0x65), (40, 0x01), (80, 0x41)] {
            assert_eq!(bframes.look(&frame(dts, dts + 80, header), 4), Order::Forward);
        }
        assert!(!bframes.reorders);
        assert!(is_reference(&[0, 0, 0, 9, 1], 4) && is_reference(&[], 4));
    }
}
