//! What the tests of whole sessions share: a random generator that repeats, and a stream to send.

mod hostile;
mod pair;
mod peers;
mod raw;

use crate::codec::{aac, avc, hostile::hex};
use bytes::Bytes;
use shardcast_engine::{
    codec::Kind,
    frame::Frame,
    metadata::{self, Metadata},
    prologue::Prologue,
    time::Timestamp,
};

/// xorshift64*: tests must repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// Cuts `bytes` into pieces, many of them short.
    fn pieces<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let most = [3, 40, 2000, 100_000][self.below(4)];
            let (piece, rest) = bytes.split_at((1 + self.below(most)).min(bytes.len()));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}

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
