//! Pictures to H.264, constrained baseline, in decoding order = presentation order.

use super::{canvas::Canvas, live::Error};
use crate::sys;
use bytes::{BufMut, Bytes};
use openh264::{
    OpenH264API,
    encoder::{
        self, BitRate, Complexity, EncodedBitStream, EncoderConfig, FrameRate, Level, Profile, RateControlMode,
        SpsPpsStrategy, UsageType, VuiConfig,
    },
    formats::YUVSlices,
};
use shardcast_engine::track::Track;
use shardcast_protocols::codec::avc;

/// NAL unit types (ITU-T H.264 table 7-1).
const IDR_SLICE: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;

pub struct Encoder {
    encoder: encoder::Encoder,
    track: Track,
}

/// One coded picture: NAL units behind four-byte lengths, without parameter sets.
pub struct Coded {
    pub payload: Bytes,
    pub keyframe: bool,
}

impl Encoder {
    /// Encodes `canvas` once to learn the parameter sets; pictures must keep its size.
    pub fn new(canvas: &Canvas, fps: u32, kbps: u32) -> Result<Self, Error> {
        let config = EncoderConfig::new()
            .profile(Profile::Baseline)
            .level(level(canvas, fps))
            .usage_type(UsageType::CameraVideoRealTime)
            .complexity(Complexity::Low)
            .rate_control_mode(RateControlMode::Bitrate)
            .bitrate(BitRate::from_bps(kbps.saturating_mul(1000)))
            .max_frame_rate(FrameRate::from_hz(fps as f32))
            .skip_frames(false)
            .scene_change_detect(false)
            .adaptive_quantization(false)
            .background_detection(false)
            .sps_pps_strategy(SpsPpsStrategy::ConstantId)
            .vui(VuiConfig::bt709())
            .num_threads(1);
        let mut encoder = encoder::Encoder::with_api_config(OpenH264API::from_source(), config)?;
        sys::quiet(&mut encoder);
        let (mut sps, mut pps) = (Bytes::new(), Bytes::new());
        for_each_nal(&encoder.encode(&planes(canvas))?, |nal| match nal.first().map(|header| header & 0x1f) {
            Some(SPS) => sps = Bytes::copy_from_slice(nal),
            Some(PPS) => pps = Bytes::copy_from_slice(nal),
            _ => {}
        });
        if sps.len() < 4 || pps.is_empty() {
            return Err(Error::ParameterSets { sps_bytes: sps.len(), pps_bytes: pps.len() });
        }
        let track = avc::track(avc::config_record(&sps, &pps))?;
        Ok(Self { encoder, track })
    }

    pub fn track(&self) -> Track {
        self.track.clone()
    }

    pub fn encode(&mut self, canvas: &Canvas, keyframe: bool) -> Result<Coded, Error> {
        if keyframe {
            self.encoder.force_intra_frame();
        }
        let stream = self.encoder.encode(&planes(canvas))?;
        let (mut payload, mut idr) = (Vec::new(), false);
        for_each_nal(&stream, |nal| {
            let Some(kind) = nal.first().map(|header| header & 0x1f) else { return };
            if kind != SPS && kind != PPS {
                idr |= kind == IDR_SLICE;
                payload.put_u32(nal.len() as u32); // a picture is far below 4 GB
                payload.put_slice(nal);
            }
        });
        if payload.is_empty() || (keyframe && !idr) {
            return Err(Error::NoPicture { wanted_keyframe: keyframe });
        }
        Ok(Coded { payload: payload.into(), keyframe: idr })
    }
}

fn planes(canvas: &Canvas) -> YUVSlices<'_> {
    let (width, height) = (canvas.width, canvas.height);
    YUVSlices::new((&canvas.y, &canvas.u, &canvas.v), (width, height), (width, width / 2, width / 2))
}

/// Calls `each` with every NAL unit, without its start code (ITU-T H.264 §B.1).
fn for_each_nal(stream: &EncodedBitStream<'_>, mut each: impl FnMut(&[u8])) {
    for layer in (0..stream.num_layers()).filter_map(|n| stream.layer(n)) {
        for nal in (0..layer.nal_count()).filter_map(|n| layer.nal_unit(n)) {
            let code = nal.iter().take_while(|byte| **byte == 0).count() + 1;
            each(nal.get(code..).unwrap_or_default());
        }
    }
}

/// The lowest level that holds the picture size and rate (ITU-T H.264 table A-1).
fn level(canvas: &Canvas, fps: u32) -> Level {
    let blocks = (canvas.width.div_ceil(16) * canvas.height.div_ceil(16)) as u64;
    let rate = blocks * u64::from(fps);
    for (blocks_max, rate_max, level) in [
        (396, 11_880, Level::Level_2_0),
        (1_620, 40_500, Level::Level_3_0),
        (3_600, 108_000, Level::Level_3_1),
        (5_120, 216_000, Level::Level_3_2),
        (8_192, 245_760, Level::Level_4_1),
        (8_704, 522_240, Level::Level_4_2),
        (36_864, 983_040, Level::Level_5_1),
    ] {
        if blocks <= blocks_max && rate <= rate_max {
            return level;
        }
    }
    Level::Level_5_2
}
