//! Pictures between their canonical form and the Annex B byte stream of a transport stream.

use crate::codec::{avc, hevc};
use bytes::Bytes;
use shardcast_engine::{codec::Codec, frame::Frame, track::Track};

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// Appends `frame` with an access unit delimiter before it (ISO 13818-1 §2.14.1 wants one), and before a
/// keyframe the parameter sets, unless it has its own. Nothing where the track's configuration is broken.
pub fn write(track: &Track, frame: &Frame, out: &mut Vec<u8>) {
    let Some(nal_length_size) = nal_length_size(track) else { return };
    let units = || avc::nal_units(&frame.payload, nal_length_size).map_while(Result::ok).filter(|nal| !nal.is_empty());
    if units().next().is_none() {
        return;
    }
    let hevc = track.codec == Codec::Hevc;
    // Any picture type may follow.
    nal(if hevc { &[0x46, 0x01, 0x50] } else { &[0x09, 0xf0] }, out);
    if frame.keyframe && !units().any(|unit| is_sps(track.codec, unit)) {
        sets(track).for_each(|set| nal(set, out));
    }
    units().filter(|unit| !is_delimiter(track.codec, unit)).for_each(|unit| nal(unit, out));
}

fn nal(unit: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&START_CODE);
    out.extend_from_slice(unit);
}

/// Bytes of the length before each NAL unit of the track's frames.
pub fn nal_length_size(track: &Track) -> Option<usize> {
    match track.codec {
        // Byte 4 of the record: see `avc::Config`, which would list the sets for every picture.
        Codec::H264 => track.config.get(4).map(|lengths| usize::from(lengths & 3) + 1),
        _ => hevc::length_size(&track.config).ok(),
    }
}

/// The parameter sets of the track's configuration, whole NAL units.
pub fn sets(track: &Track) -> impl Iterator<Item = &[u8]> {
    let avc = match track.codec {
        Codec::H264 => avc::Config::parse(&track.config).ok(),
        _ => None,
    };
    let hevc = (track.codec == Codec::Hevc).then(|| {
        hevc::parameter_sets(&track.config)
            .filter(|nal| hevc::nal_type(nal).is_some_and(|kind| (hevc::VPS..=hevc::PPS).contains(&kind)))
    });
    avc.into_iter().flat_map(|config| config.sps.into_iter().chain(config.pps)).chain(hevc.into_iter().flatten())
}

fn is_sps(codec: Codec, nal: &[u8]) -> bool {
    match codec {
        Codec::Hevc => hevc::nal_type(nal) == Some(hevc::SPS),
        _ => avc::nal_type(nal) == Some(avc::SPS),
    }
}

fn is_delimiter(codec: Codec, nal: &[u8]) -> bool {
    match codec {
        Codec::Hevc => hevc::nal_type(nal) == Some(hevc::AUD),
        _ => avc::nal_type(nal) == Some(avc::AUD),
    }
}

/// Parameter sets as they came last.
#[derive(Debug, Default)]
pub struct Sets {
    vps: Vec<u8>,
    sps: Vec<u8>,
    pps: Vec<u8>,
    /// The configuration made of them; empty before there is one.
    config: Bytes,
}

/// One picture, read.
pub struct Picture {
    /// In canonical form with 4-byte lengths, without delimiters and without what the configuration holds.
    pub payload: Vec<u8>,
    pub keyframe: bool,
    /// A configuration that differs from the one before.
    pub config: Option<Bytes>,
}

impl Sets {
    /// Longest set that is kept; a configuration is three of them at most.
    const MAX_LEN: usize = 16 << 10;

    /// Reads an access unit. `None` before there are parameter sets, and where nothing of it is left.
    pub fn read(&mut self, codec: Codec, annexb: &[u8]) -> Option<Picture> {
        let config = self.learn(codec, annexb);
        if self.config.is_empty() {
            return None;
        }
        let mut picture = Picture { payload: Vec::with_capacity(annexb.len() + 16), keyframe: false, config };
        for unit in avc::annexb_units(annexb) {
            if is_delimiter(codec, unit) || [&self.vps, &self.sps, &self.pps].iter().any(|set| set[..] == *unit) {
                continue;
            }
            // A PES packet is far below 4 GiB.
            let Ok(len) = u32::try_from(unit.len()) else { continue };
            picture.keyframe |=
                codec == Codec::Hevc && hevc::nal_type(unit).is_some_and(|kind| hevc::RANDOM_ACCESS.contains(&kind));
            picture.payload.extend_from_slice(&len.to_be_bytes());
            picture.payload.extend_from_slice(unit);
        }
        picture.keyframe |= codec == Codec::H264 && avc::is_random_access(&picture.payload, 4);
        (!picture.payload.is_empty()).then_some(picture)
    }

    /// Takes the first set of each kind of an access unit that has a sequence parameter set; later ones stay
    /// in the pictures. The new configuration, where that changed.
    fn learn(&mut self, codec: Codec, annexb: &[u8]) -> Option<Bytes> {
        let first = |kind: u8| {
            avc::annexb_units(annexb).find(|unit| {
                let found = if codec == Codec::Hevc { hevc::nal_type(unit) } else { avc::nal_type(unit) };
                found == Some(kind) && unit.len() <= Self::MAX_LEN
            })
        };
        let hevc = codec == Codec::Hevc;
        let sps = first(if hevc { hevc::SPS } else { avc::SPS })?;
        let pps = first(if hevc { hevc::PPS } else { avc::PPS }).unwrap_or(&self.pps).to_vec();
        let vps = if hevc { first(hevc::VPS).unwrap_or(&self.vps).to_vec() } else { Vec::new() };
        if (&self.vps, &self.sps[..], &self.pps) == (&vps, sps, &pps) || pps.is_empty() || hevc && vps.is_empty() {
            return None;
        }
        let config = if hevc { hevc::config_record(&vps, sps, &pps) } else { avc::config_record(sps, &pps) };
        if config.is_empty() {
            return None;
        }
        (self.vps, self.sps, self.pps) = (vps, sps.to_vec(), pps);
        self.config = config.clone();
        Some(config)
    }
}
