//! What the tests of whole sessions share: a stream to send.

mod hostile;
mod pair;
mod peers;
mod raw;

use crate::codec::{
    aac, avc,
    hostile::{Random, hex},
};
use bytes::Bytes;
use shardcast_engine::{
    codec::Kind,
    frame::Frame,
    metadata::{self, Metadata},
    prologue::Prologue,
    time::Timestamp,
};

/// Main profile, 640x360, of x264; AAC-LC, 44.1 kHz, stereo.
const AVC: &str = "014d400dffe10019674d400deca0a8cf11360220000003002000000641e28532c001000468ce0fc8";
const AAC: &[u8] = &[0x12, 0x10];

fn prologue() -> Prologue {
    let mut metadata = Metadata::default();
    metadata.set("encoder", metadata::Value::Text("test".into()));
    Prologue::default()
        .with_track(avc::track(hex(AVC).into()).unwrap())
        .and_then(|p| p.with_track(aac::track(Bytes::from_static(AAC)).unwrap()))
        .and_then(|p| p.with_metadata(metadata))
        .expect("all of it is new")
}

/// Two seconds; keyframes longer than a chunk; starts just before timestamps need more than 24 bits.
fn frames() -> Vec<Frame> {
    let frame = |n: i64, kind, keyframe, len: usize| {
        let dts = Timestamp::from_ms(0xff_ffff - 500 + n * 40);
        let pts = if kind == Kind::Video { dts + Timestamp::from_ms(80) } else { dts };
        // One NAL unit of a non-IDR or IDR slice.
        let mut payload = ((len - 4) as u32).to_be_bytes().to_vec();
        payload.push(if keyframe { 0x65 } else { 0x41 });
        payload.resize(len, n as u8);
        Frame { kind, dts, pts, keyframe, payload: payload.into() }
    };
    (0..50)
        .flat_map(|n| {
            let keyframe = n % 25 == 0;
            let len = if keyframe { 150_000 } else { 3000 };
            [frame(n, Kind::Video, keyframe, len), frame(n, Kind::Audio, false, 300)]
        })
        .collect()
}
