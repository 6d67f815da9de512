//! Reads tag bodies (RTMP audio, video and data messages, FLV tags) into media.

use super::{
    body,
    enhanced::{self, EnhancedError, Packet, Part, packet},
};
use crate::{
    amf::{self, AmfError},
    codec::{
        aac::{self, AacError},
        ac3,
        av1::{self, Av1Error},
        avc::{self, AvcError},
        flac::{self, FlacError},
        hevc::{self, HevcError},
        mp3,
        opus::{self, OpusError},
        vpx::{self, VpxError},
        vvc::{self, VvcError},
    },
};
use bytes::{Buf, Bytes};
use shardcast_engine::{
    codec::{Codec, Kind},
    frame::{Frame, Media},
    prologue::Other,
    time::Timestamp,
    track::{Shape, Track},
};
use std::collections::VecDeque;

/// Longest metadata and codec configuration, bytes: every viewer gets a copy, and a change makes another.
pub const LARGEST_PROLOGUE: usize = 64 << 10;

/// What one publisher's tags have said so far. Everything it reads it appends to `out`: at most a track
/// and a frame a tag; payloads are slices of the body.
#[derive(Debug, Default)]
pub struct TagReader {
    video: Option<Video>,
    /// The codec of the current sound, and where frames tell their track the one that they have last told.
    audio: Option<Codec>,
    told: Option<Track>,
    pictures: Lane,
    sounds: Lane,
    /// Frames that came before the configuration they need.
    pub dropped: u64,
    /// What the log should say of this publisher, once.
    pub note: Option<String>,
}

#[derive(Clone, Debug)]
struct Video {
    track: Track,
    /// Of H.264.
    nal_length_size: usize,
}

/// The tracks of one kind that a publisher has.
#[derive(Debug, Default)]
struct Lane {
    /// The lowest so far, which is the one that is read.
    lowest: Option<u8>,
    noted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    #[error("codec configuration of {len} bytes, at most {max} allowed")]
    ConfigurationTooLong { len: usize, max: usize },
    #[error("{kind:?} tag of {len} bytes is too short, it wants {need}")]
    Truncated { kind: Kind, len: usize, need: usize },
    #[error("{kind:?} codec {name} (id {id}) is not supported")]
    UnsupportedCodec { kind: Kind, id: u8, name: &'static str },
    #[error("{kind:?} codec {fourcc} is not supported")]
    UnsupportedFourCc { kind: Kind, fourcc: String },
    #[error("{0} is not configured by a video descriptor of MPEG-TS")]
    NoDescriptor(Codec),
    #[error(transparent)]
    Enhanced(#[from] EnhancedError),
    #[error(transparent)]
    Avc(#[from] AvcError),
    #[error(transparent)]
    Hevc(#[from] HevcError),
    #[error(transparent)]
    Vvc(#[from] VvcError),
    #[error(transparent)]
    Av1(#[from] Av1Error),
    #[error(transparent)]
    Vpx(#[from] VpxError),
    #[error(transparent)]
    Aac(#[from] AacError),
    #[error(transparent)]
    Flac(#[from] FlacError),
    #[error(transparent)]
    Opus(#[from] OpusError),
    #[error(transparent)]
    Script(#[from] AmfError),
}

impl TagReader {
    /// An AUDIODATA body (annex E.4.2), or an ExAudioTagHeader (Enhanced RTMP v2) and what follows it. Empty bodies
    /// and sequence ends say nothing.
    pub fn audio(&mut self, dts: Timestamp, body: Bytes, out: &mut VecDeque<Media>) -> Result<(), TagError> {
        let Some(first) = body.first() else { return Ok(()) };
        if first >> 4 != enhanced::SOUND {
            self.sounds.serves(FIRST_TRACK);
        }
        match first >> 4 {
            10 => self.aac(dts, body, out),
            // 14 is MP3 at 8 kHz, a rate that the flags of 2 cannot tell.
            2 | 14 => {
                self.self_told(Codec::Mp3, dts, after(body, 1), out);
                Ok(())
            }
            enhanced::SOUND => match enhanced::read(Kind::Audio, body)? {
                Some(packet) => self.enhanced_audio(dts, packet, out),
                None => Ok(()),
            },
            id => Err(TagError::UnsupportedCodec { kind: Kind::Audio, id, name: sound_name(id) }),
        }
    }

    /// A VIDEODATA body (annex E.4.3), or an ExVideoTagHeader (Enhanced RTMP v2) and what follows it.
    pub fn video(&mut self, dts: Timestamp, body: Bytes, out: &mut VecDeque<Media>) -> Result<(), TagError> {
        let Some(&first) = body.first() else { return Ok(()) };
        if first & 0x80 != 0 {
            return match enhanced::read(Kind::Video, body)? {
                Some(packet) => self.enhanced_video(dts, packet, out),
                None => Ok(()),
            };
        }
        let frame_type = first >> 4;
        if frame_type == enhanced::COMMAND {
            return Ok(());
        }
        self.pictures.serves(FIRST_TRACK);
        let codec = match first & 15 {
            7 => Codec::H264,
            // Not Adobe's: what HEVC used before Enhanced RTMP.
            12 => Codec::Hevc,
            id => return Err(TagError::UnsupportedCodec { kind: Kind::Video, id, name: picture_name(id) }),
        };
        // | FrameType 4 | CodecID 4 | AVCPacketType 8 | CompositionTime 24, signed |
        let &[_, packet_type, ..] = &body[..] else {
            return Err(TagError::Truncated { kind: Kind::Video, len: body.len(), need: 2 });
        };
        match packet_type {
            0 => self.configure(codec, body.slice(5.min(body.len())..), out),
            1 => {
                let composition = composition(&body, 2)?;
                self.picture(codec, frame_type, dts, composition, after(body, 5), out);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A SCRIPTDATA body (annex E.4.4): onMetaData, alone or behind RTMP's @setDataFrame. Other names
    /// say nothing.
    ///
    /// What is longer than [`LARGEST_PROLOGUE`] is ignored.
    pub fn script(&mut self, body: &[u8], out: &mut VecDeque<Media>) -> Result<(), TagError> {
        if body.len() > LARGEST_PROLOGUE {
            return Ok(());
        }
        let mut rest = body;
        for _ in 0..2 {
            if rest.is_empty() {
                return Ok(());
            }
            let (name, used) = amf::decode(rest)?;
            rest = rest.get(used..).unwrap_or_default();
            match name.as_str() {
                Some("@setDataFrame") => continue,
                Some("onMetaData") if !rest.is_empty() => {
                    let (value, _) = amf::decode(rest)?;
                    out.extend(amf::metadata(&value).map(Media::Metadata));
                }
                _ => {}
            }
            break;
        }
        Ok(())
    }

    fn enhanced_video(&mut self, dts: Timestamp, packet: Packet, out: &mut VecDeque<Media>) -> Result<(), TagError> {
        let codec = match body::named(body::VIDEO, packet.fourcc) {
            Some(codec) => codec,
            None if packet.track > 0 => return Ok(()),
            None => return Err(unsupported(Kind::Video, &packet.fourcc)),
        };
        if !self.pictures.serves_of(Kind::Video, &packet, &mut self.note, out) {
            return Ok(());
        }
        let dts = dts + nanoseconds(packet.nanoseconds);
        let body = packet.body;
        match packet.kind {
            packet::SEQUENCE_START => self.configure(codec, body, out),
            packet::MPEG2TS_SEQUENCE_START if codec == Codec::Av1 => {
                self.configure(codec, av1::config_of_descriptor(&body)?, out)
            }
            packet::MPEG2TS_SEQUENCE_START => Err(TagError::NoDescriptor(codec)),
            // Codecs of NAL units have a composition time.
            packet::CODED_FRAMES if matches!(codec, Codec::H264 | Codec::Hevc | Codec::Vvc) => {
                let composition = composition(&body, 0)?;
                self.picture(codec, packet.frame_type, dts, composition, after(body, 3), out);
                Ok(())
            }
            packet::CODED_FRAMES | packet::CODED_FRAMES_X => {
                self.picture(codec, packet.frame_type, dts, Timestamp::ZERO, body, out);
                Ok(())
            }
            // It names no track, and ffmpeg sends that of others too: their codec tells.
            packet::METADATA if self.video.as_ref().is_some_and(|video| video.track.codec != codec) => Ok(()),
            // Adds nothing that a decoder needs: what cannot be read is left out.
            packet::METADATA => {
                let is_read = body.len() <= LARGEST_PROLOGUE && !body.is_empty() && amf::decode_all(&body).is_ok();
                out.extend(is_read.then(|| Media::Colour(Bytes::copy_from_slice(&body))));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn enhanced_audio(&mut self, dts: Timestamp, packet: Packet, out: &mut VecDeque<Media>) -> Result<(), TagError> {
        let codec = match body::named(body::AUDIO, packet.fourcc) {
            Some(codec) => codec,
            None if packet.track > 0 => return Ok(()),
            None => return Err(unsupported(Kind::Audio, &packet.fourcc)),
        };
        if !self.sounds.serves_of(Kind::Audio, &packet, &mut self.note, out) || packet.body.is_empty() {
            return Ok(());
        }
        let dts = dts + nanoseconds(packet.nanoseconds);
        match (packet.kind, codec) {
            (packet::CODED_FRAMES, _) if is_told_by_frames(codec) => self.self_told(codec, dts, packet.body, out),
            (packet::CODED_FRAMES, _) => self.sound(codec, dts, packet.body, out),
            (packet::SEQUENCE_START, Codec::Aac | Codec::Opus | Codec::Flac) => {
                // Not a slice of a message that may be far longer.
                bounded(&packet.body)?;
                out.push_back(Media::Track(configured(codec, Bytes::copy_from_slice(&packet.body))?));
                self.audio = Some(codec);
            }
            _ => {}
        }
        Ok(())
    }

    fn aac(&mut self, dts: Timestamp, body: Bytes, out: &mut VecDeque<Media>) -> Result<(), TagError> {
        let &[_, packet_type, ..] = &body[..] else {
            return Err(TagError::Truncated { kind: Kind::Audio, len: body.len(), need: 2 });
        };
        let payload = after(body, 2);
        if payload.is_empty() {
            return Ok(());
        }
        match packet_type {
            0 => {
                bounded(&payload)?;
                out.push_back(Media::Track(aac::track(payload)?));
                self.audio = Some(Codec::Aac);
            }
            1 => self.sound(Codec::Aac, dts, payload, out),
            _ => {}
        }
        Ok(())
    }

    /// A frame of a codec that must have been configured.
    fn sound(&mut self, codec: Codec, dts: Timestamp, payload: Bytes, out: &mut VecDeque<Media>) {
        if self.audio == Some(codec) {
            out.push_back(sound(codec.kind(), dts, payload));
        } else {
            self.dropped += 1;
        }
    }

    /// A frame of a codec without configuration: its track is told by the header of its first frame.
    fn self_told(&mut self, codec: Codec, dts: Timestamp, payload: Bytes, out: &mut VecDeque<Media>) {
        if payload.is_empty() {
            return;
        }
        if let Some(track) = told_by_frame(codec, &payload) {
            let known = self.told.as_ref().filter(|told| self.audio == Some(told.codec));
            if known.is_none_or(|known| (known.codec, &known.shape) != (track.codec, &track.shape)) {
                self.audio = Some(track.codec);
                self.told = Some(track.clone());
                out.push_back(Media::Track(track));
            }
        } else if self.told.as_ref().is_none_or(|told| self.audio != Some(told.codec)) {
            self.dropped += 1;
            return;
        }
        out.push_back(sound(codec.kind(), dts, payload));
    }

    fn configure(&mut self, codec: Codec, config: Bytes, out: &mut VecDeque<Media>) -> Result<(), TagError> {
        if config.is_empty() {
            return Ok(());
        }
        bounded(&config)?;
        let track = configured(codec, config)?;
        let nal_length_size = avc::nal_length_size(&track.config);
        out.push_back(Media::Track(track.clone()));
        self.video = Some(Video { track, nal_length_size });
        Ok(())
    }

    fn picture(
        &mut self,
        codec: Codec,
        frame_type: u8,
        dts: Timestamp,
        composition: Timestamp,
        payload: Bytes,
        out: &mut VecDeque<Media>,
    ) {
        if payload.is_empty() {
            return;
        }
        let Some(video) = self.video.as_mut().filter(|video| video.track.codec == codec) else {
            self.dropped += 1;
            return;
        };
        let keyframe = match codec {
            Codec::H264 => frame_type == KEY || avc::is_random_access(&payload, video.nal_length_size),
            Codec::Vp8 | Codec::Vp9 => vpx::keyframe_size(codec, &payload).is_some(),
            _ => frame_type == KEY,
        };
        if keyframe && let Some(track) = video.told_by(&payload) {
            video.track = track.clone();
            out.push_back(Media::Track(track));
        }
        let pts = dts + composition;
        out.push_back(Media::Frame(Frame { kind: Kind::Video, dts, pts, keyframe, payload }));
    }
}

impl Video {
    /// The track, where this keyframe tells another size than the one known: VP8 and VP9 have none in their
    /// configuration, AV1 may change it within.
    fn told_by(&self, keyframe: &[u8]) -> Option<Track> {
        let (width, height) = match self.track.codec {
            codec @ (Codec::Vp8 | Codec::Vp9) => vpx::keyframe_size(codec, keyframe)?,
            Codec::Av1 => av1::size(keyframe)?,
            _ => return None,
        };
        let mut track = self.track.clone();
        if let Shape::Video(picture) = &mut track.shape {
            (picture.width, picture.height) = (width, height);
        }
        (track != self.track).then_some(track)
    }
}

impl Lane {
    /// There is a packet of `track`: whether that is the one to read.
    fn serves(&mut self, track: u8) -> bool {
        let lowest = *self.lowest.insert(self.lowest.map_or(track, |lowest| lowest.min(track)));
        track == lowest
    }

    /// There is `packet`: whether it is of the track to read. Tells of the others.
    fn serves_of(&mut self, kind: Kind, packet: &Packet, note: &mut Option<String>, out: &mut VecDeque<Media>) -> bool {
        let name = if kind == Kind::Video { "video" } else { "audio" };
        *note = self.note(packet, name).or(note.take());
        let serves = self.serves(packet.track);
        tell_others(kind, packet, serves, out);
        serves
    }

    /// Says, once, that there are other tracks than the one that is read.
    fn note(&mut self, packet: &Packet, kind: &str) -> Option<String> {
        let others = !packet.others.is_empty() || self.lowest.is_some_and(|lowest| lowest != packet.track);
        (others && !std::mem::replace(&mut self.noted, true))
            .then(|| format!("has several {kind} tracks: the lowest is served, the others are left out"))
    }
}

/// The track of a codec that has a configuration.
fn configured(codec: Codec, config: Bytes) -> Result<Track, TagError> {
    Ok(match codec {
        Codec::H264 => avc::track(config)?,
        Codec::Hevc => hevc::track(config)?,
        Codec::Vvc => vvc::track(config)?,
        Codec::Av1 => av1::track(config)?,
        Codec::Vp8 | Codec::Vp9 => vpx::track(codec, config)?,
        Codec::Opus => opus::track(config)?,
        Codec::Flac => flac::track(config)?,
        _ => aac::track(config)?,
    })
}

/// The codec has no configuration: the header of a frame tells what its track is.
fn is_told_by_frames(codec: Codec) -> bool {
    matches!(codec, Codec::Mp3 | Codec::Ac3 | Codec::Eac3)
}

fn told_by_frame(codec: Codec, frame: &[u8]) -> Option<Track> {
    if codec == Codec::Mp3 { mp3::track(frame).ok() } else { ac3::track(frame).ok() }
}

/// Tells of the tracks in a packet that are not served, as far as that says what they are.
fn tell_others(kind: Kind, packet: &Packet, serves: bool, out: &mut VecDeque<Media>) {
    let own = (!serves).then(|| Part { fourcc: packet.fourcc, track: packet.track, body: packet.body.clone() });
    for Part { fourcc, track: number, body } in packet.others.iter().chain(&own) {
        let codecs = if kind == Kind::Video { body::VIDEO } else { body::AUDIO };
        let Some(codec) = body::named(codecs, *fourcc) else { continue };
        let track = match (packet.kind, is_told_by_frames(codec)) {
            (packet::CODED_FRAMES, true) => told_by_frame(codec, body),
            (packet::SEQUENCE_START, false) if bounded(body).is_ok() => {
                configured(codec, Bytes::copy_from_slice(body)).ok()
            }
            _ => None,
        };
        out.extend(track.map(|track| Media::Other(Other { number: *number, track })));
    }
}

/// FrameType of annex E.4.3.1.
const KEY: u8 = 1;
/// Of tags that name none, as all without an enhanced header.
const FIRST_TRACK: u8 = 0;

/// The signed milliseconds in 24 bits at `at`.
fn composition(body: &[u8], at: usize) -> Result<Timestamp, TagError> {
    match body.get(at..at + 3) {
        Some(&[a, b, c]) => Ok(Timestamp::from_whole_ms(i32::from_be_bytes([a, b, c, 0]) >> 8)),
        _ => Err(TagError::Truncated { kind: Kind::Video, len: body.len(), need: at + 3 }),
    }
}

fn nanoseconds(count: u32) -> Timestamp {
    Timestamp::from_ticks(count.into(), 1_000_000_000)
}

fn sound(kind: Kind, dts: Timestamp, payload: Bytes) -> Media {
    Media::Frame(Frame { kind, dts, pts: dts, keyframe: false, payload })
}

fn unsupported(kind: Kind, fourcc: &[u8; 4]) -> TagError {
    TagError::UnsupportedFourCc { kind, fourcc: fourcc.escape_ascii().to_string() }
}

/// SoundFormat, annex E.4.2.1.
fn sound_name(id: u8) -> &'static str {
    match id {
        0 | 3 => "linear PCM",
        1 => "ADPCM",
        4..=6 => "Nellymoser",
        7 => "G.711 A-law",
        8 => "G.711 mu-law",
        11 => "Speex",
        13 => "Opus",
        15 => "device-specific sound",
        _ => "unknown",
    }
}

/// CodecID, annex E.4.3.1.
/// `body` without its first bytes. (A slice would be a second owner, and an allocation for their count.)
fn after(mut body: Bytes, bytes: usize) -> Bytes {
    body.advance(bytes);
    body
}

fn picture_name(id: u8) -> &'static str {
    match id {
        2 => "Sorenson H.263",
        3 => "Screen video",
        4 => "On2 VP6",
        5 => "On2 VP6 with alpha",
        6 => "Screen video version 2",
        13 => "AV1",
        _ => "unknown",
    }
}

fn bounded(config: &Bytes) -> Result<(), TagError> {
    match config.len() {
        0..=LARGEST_PROLOGUE => Ok(()),
        len => Err(TagError::ConfigurationTooLong { len, max: LARGEST_PROLOGUE }),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{FlvReader, TagKind, golden},
        *,
    };
    use crate::codec::hostile::{hex, mutations};
    use shardcast_engine::metadata;

    fn read(reader: &mut TagReader, kind: TagKind, body: &[u8]) -> Result<Vec<Media>, TagError> {
        let (dts, mut out) = (Timestamp::from_ms(1000), VecDeque::new());
        let bytes = Bytes::copy_from_slice(body);
        match kind {
            TagKind::Audio => reader.audio(dts, bytes, &mut out)?,
            TagKind::Video => reader.video(dts, bytes, &mut out)?,
            TagKind::Script => reader.script(body, &mut out)?,
        }
        Ok(out.into())
    }

    fn video(reader: &mut TagReader, body: &str) -> Result<Vec<Media>, TagError> {
        read(reader, TagKind::Video, &hex(body))
    }

    fn audio(reader: &mut TagReader, body: &str) -> Result<Vec<Media>, TagError> {
        read(reader, TagKind::Audio, &hex(body))
    }

    fn frame(media: &[Media]) -> &Frame {
        match media {
            [.., Media::Frame(frame)] => frame,
            _ => panic!("no frame in {media:?}"),
        }
    }

    const AVC_CONFIG: &str = "1700000000 0164000affe100196764000aacd9497e2301100000030010000003
        0320f122596001000668ebe3cb22c0fdf8f800";

    #[test]
    fn reads_ffmpegs_stream_into_media() {
        let (mut flv, mut reader, mut media) = (FlvReader::new(1024), TagReader::default(), VecDeque::new());
        flv.push(&hex(golden::FLV));
        while let Some(tag) = flv.next().unwrap() {
            let dts = Timestamp::from_ms(tag.timestamp_ms.into());
            match tag.kind {
                TagKind::Audio => reader.audio(dts, tag.body, &mut media).unwrap(),
                TagKind::Video => reader.video(dts, tag.body, &mut media).unwrap(),
                TagKind::Script => reader.script(&tag.body, &mut media).unwrap(),
            }
        }
        let media = Vec::from(media);
        let Media::Metadata(metadata) = &media[0] else { panic!("{:?}", media[0]) };
        assert_eq!(metadata.value("audiosamplerate"), Some(&metadata::Value::Number(48_000.0)));
        let Media::Track(Track { codec: Codec::H264, shape: Shape::Video(picture), .. }) = &media[1] else {
            panic!("{:?}", media[1])
        };
        assert_eq!((picture.width, picture.height, picture.profile), (32, 18, "High"));
        let Media::Track(Track { codec: Codec::Aac, shape: Shape::Audio(sound), .. }) = &media[2] else {
            panic!("{:?}", media[2])
        };
        assert_eq!((sound.sample_rate, sound.channels, sound.profile), (48_000, 1, "LC"));
        let frames = media[3..].iter().map(|media| frame(std::slice::from_ref(media)));
        let (pictures, sounds): (Vec<_>, Vec<_>) = frames.partition(|frame| frame.kind == Kind::Video);
        let times: Vec<_> = pictures.iter().map(|f| (f.dts.as_ms(), f.pts.as_ms(), f.keyframe)).collect();
        let expected = [(0, 80, true), (40, 200, false), (80, 120, false), (120, 160, false), (160, 240, false)];
        assert_eq!(times, expected);
        assert_eq!(sounds.len(), 6);
        assert!(sounds.iter().all(|f| f.pts == f.dts && f.payload[..] == [1, 0x18, 0x20, 7]));
        assert_eq!(reader.dropped, 0);
    }

    #[test]
    fn composition_time_is_signed() {
        let mut reader = TagReader::default();
        video(&mut reader, AVC_CONFIG).unwrap();
        let media = video(&mut reader, "27 01 ffffd8 00000002 4101").unwrap();
        assert_eq!(frame(&media).pts.as_ms(), 960);
        assert_eq!(frame(&media).payload[..], [0, 0, 0, 2, 0x41, 1]);
    }

    #[test]
    fn payload_shares_the_memory_of_the_body() {
        let mut reader = TagReader::default();
        video(&mut reader, AVC_CONFIG).unwrap();
        let body = Bytes::from(hex("27 01 000000 00000002 4101"));
        let mut out = VecDeque::new();
        reader.video(Timestamp::ZERO, body.clone(), &mut out).unwrap();
        let Some(Media::Frame(frame)) = out.pop_front() else { panic!("no frame") };
        assert_eq!(frame.payload.as_ptr(), body[5..].as_ptr());
    }

    #[test]
    fn recovery_point_makes_an_inter_frame_a_keyframe() {
        let mut reader = TagReader::default();
        video(&mut reader, AVC_CONFIG).unwrap();
        let media = video(&mut reader, "27 01 000000 00000005 060601c480 00000002 4101").unwrap();
        assert!(frame(&media).keyframe);
        let media = video(&mut reader, "27 01 000000 00000005 060501c480 00000002 4101").unwrap();
        assert!(!frame(&media).keyframe);
    }

    #[test]
    fn prologues_have_a_bound() {
        let mut reader = TagReader::default();
        let mut out = VecDeque::new();
        let mut sequence_header = vec![0xaf, 0];
        sequence_header.resize(2 + LARGEST_PROLOGUE + 1, 0x12);
        let refused = reader.audio(Timestamp::ZERO, sequence_header.into(), &mut out);
        assert!(matches!(refused, Err(TagError::ConfigurationTooLong { max: LARGEST_PROLOGUE, .. })), "{refused:?}");

        let mut script = Vec::new();
        amf::Value::from("onMetaData").encode(&mut script);
        let text = amf::Value::from(&*"x".repeat(LARGEST_PROLOGUE));
        amf::Value::EcmaArray(vec![("title".into(), text)]).encode(&mut script);
        assert_eq!(reader.script(&script, &mut out), Ok(()));
        assert!(out.is_empty());
    }

    #[test]
    fn frames_before_their_configuration_are_dropped_and_counted() {
        let mut reader = TagReader::default();
        assert_eq!(video(&mut reader, "17 01 000000 00000002 6501"), Ok(vec![]));
        assert_eq!(audio(&mut reader, "af 01 2110"), Ok(vec![]));
        assert_eq!(audio(&mut reader, "2f 0000 0000"), Ok(vec![]));
        video(&mut reader, AVC_CONFIG).unwrap();
        assert_eq!(video(&mut reader, "91 68766331 000000 00000002 2601"), Ok(vec![]));
        assert_eq!(reader.dropped, 4);
    }

    #[test]
    fn what_says_nothing_is_ignored() {
        let mut reader = TagReader::default();
        for body in ["", "1700000000", "1702000000", "1701000000", "5700", "92 68766331", "94 68766331 00"] {
            assert_eq!(video(&mut reader, body), Ok(vec![]), "{body}");
        }
        for body in ["", "af00", "af01", "2f"] {
            assert_eq!(audio(&mut reader, body), Ok(vec![]), "{body}");
        }
        assert_eq!(reader.dropped, 0);
    }

    #[test]
    fn hevc_is_read_behind_either_header() {
        let config = "0101600000009000000000003cf000fcfdf8f800000f00";
        for (start, coded, offset) in [
            ("1c 00 000000", "1c 01 000028", 40),
            ("90 68766331", "91 68766331 000028", 40),
            ("90 68766331", "93 68766331", 0),
        ] {
            let mut reader = TagReader::default();
            let media = video(&mut reader, &format!("{start}{config}")).unwrap();
            let [Media::Track(track)] = &media[..] else { panic!("{media:?}") };
            assert_eq!((track.codec, &track.config[..]), (Codec::Hevc, &hex(config)[..]));
            let media = video(&mut reader, &format!("{coded} 00000003 260101")).unwrap();
            assert_eq!(frame(&media).pts.as_ms(), 1000 + offset);
            assert_eq!(frame(&media).payload[..], [0, 0, 0, 3, 0x26, 1, 1]);
            assert!(frame(&media).keyframe);
        }
    }

    /// Sequence start and first frame of each codec as ffmpeg 9 writes them, cut short.
    const FFMPEG9: [(Codec, &str, &str); 8] = [
        (Codec::Av1, "90 61763031 81000c000a0b02000005157fbc02f80040", "91 61763031 12000a0b02000005157fbc4af90040"),
        (Codec::Vp9, "90 76703039 01000000000a820202020000", "91 76703039 824983420003f002f60638241c18"),
        (
            Codec::Vvc,
            "90 76766331 ff00655f010210800000004000300000028f00010093007900ab0210800000",
            "91 76766331 0001e0 00000003 00a188",
        ),
        (Codec::Hevc, "90 68766331 0101600000009000000000001ef000fcfdf8f800000f00", "93 68766331 00000003 260101"),
        (Codec::Opus, "90 4f707573 4f707573486561640102380180bb0000000000", "91 4f707573 fc7e0299e7"),
        (
            Codec::Flac,
            "90 664c6143 040004000000000000100bb802f00000000000000000000000000000000000000000",
            "91 664c6143 fff8aa88005b",
        ),
        (Codec::Ac3, "90 61632d33", "91 61632d33 0b77fe95144043e106f46370"),
        (Codec::Eac3, "90 65632d33", "91 65632d33 0b77017f3487c00020842108"),
    ];

    #[test]
    fn every_codec_of_ffmpeg_9_is_read() {
        for (codec, start, frames) in FFMPEG9 {
            let mut reader = TagReader::default();
            let kind = if codec.kind() == Kind::Video { TagKind::Video } else { TagKind::Audio };
            let mut media = read(&mut reader, kind, &hex(start)).unwrap();
            media.extend(read(&mut reader, kind, &hex(frames)).unwrap());
            let (header, composition) = if codec == Codec::Vvc { (8, 480) } else { (5, 0) };
            let tracks =
                media.iter().filter_map(|media| if let Media::Track(track) = media { Some(track) } else { None });
            let track = tracks.last().expect("a track");
            assert_eq!(track.codec, codec);
            if let (Shape::Video(picture), true) = (&track.shape, codec != Codec::Hevc) {
                assert_eq!((picture.width, picture.height), (64, 48), "{codec}");
            }
            let frame = frame(&media);
            assert_eq!((frame.kind, &frame.payload[..]), (codec.kind(), &hex(frames)[header..]));
            assert_eq!((frame.keyframe, frame.pts.as_ms()), (kind == TagKind::Video, 1000 + composition), "{codec}");
            assert_eq!((reader.dropped, reader.note), (0, None));
        }
    }

    #[test]
    fn lowest_track_is_served_and_the_others_are_noted_once() {
        let (mut reader, [_, (_, start, _), ..]) = (TagReader::default(), FFMPEG9);
        let config = start.strip_prefix("90 76703039").unwrap();
        let frame = "824983420003f002f60638241c18";
        for (track, is_served) in [("01", true), ("00", true), ("01", false)] {
            let media = video(&mut reader, &format!("96 00 76703039 {track} {config}")).unwrap();
            let [Media::Track(track) | Media::Other(Other { number: 1, track })] = &media[..] else {
                panic!("{media:?}")
            };
            assert_eq!((track.codec, matches!(media[0], Media::Track(_))), (Codec::Vp9, is_served));
        }
        assert!(reader.note.take().is_some_and(|note| note.contains("several video tracks")));
        assert_eq!(video(&mut reader, &format!("96 01 76703039 01 {frame}")), Ok(vec![]));
        assert_eq!(video(&mut reader, &format!("91 76703039 {frame}")).unwrap().len(), 2);
        // Of codecs that are not known either, as long as they are others.
        assert_eq!(video(&mut reader, "96 01 78766964 02 00"), Ok(vec![]));
        assert_eq!((reader.note, reader.dropped), (None, 0));
    }

    /// As ffmpeg 9 sends H.264 and AAC with HEVC and Opus beside them.
    #[test]
    fn tags_without_an_enhanced_header_are_of_the_first_track() {
        let mut reader = TagReader::default();
        let tracks = |media: Result<Vec<Media>, TagError>| {
            media.unwrap().iter().filter(|media| matches!(media, Media::Track(_))).count()
        };
        assert_eq!(tracks(video(&mut reader, AVC_CONFIG)), 1);
        let hevc = "96 00 68766331 01 0101600000009000000000003cf000fcfdf8f800000f00";
        let other = |media: Result<Vec<Media>, TagError>| match &media.unwrap()[..] {
            [Media::Other(Other { number: 1, track })] => track.codec,
            media => panic!("{media:?}"),
        };
        assert_eq!(other(video(&mut reader, hevc)), Codec::Hevc);
        assert!(reader.note.take().is_some_and(|note| note.contains("several video tracks")));
        assert_eq!(tracks(audio(&mut reader, "af 00 119056e500")), 1);
        let opus = "95 00 4f707573 01 4f707573486561640102380180bb0000000000";
        assert_eq!(other(audio(&mut reader, opus)), Codec::Opus);
        assert!(reader.note.take().is_some_and(|note| note.contains("several audio tracks")));
        // Colours of the other one.
        let colour = "020009636f6c6f72496e666f 03000b636f6c6f72436f6e666967 03000009 000009";
        assert_eq!(video(&mut reader, &format!("d4 68766331 {colour}")), Ok(vec![]));
        assert_eq!(video(&mut reader, "96 01 68766331 01 000000 00000003 260101"), Ok(vec![]));
        assert_eq!(video(&mut reader, "27 01 000000 00000002 4101").unwrap().len(), 1);
        assert_eq!(audio(&mut reader, "95 01 4f707573 01 fc00"), Ok(vec![]));
        assert_eq!(audio(&mut reader, "af 01 2110").unwrap().len(), 1);
        assert_eq!((reader.note, reader.dropped), (None, 0));
    }

    #[test]
    fn offset_of_nanoseconds_is_part_of_the_time() {
        let mut reader = TagReader::default();
        audio(&mut reader, "90 4f707573 4f707573486561640102380180bb0000000000").unwrap();
        let media = audio(&mut reader, "97 02 07a120 01 4f707573 fc00").unwrap();
        assert_eq!(frame(&media).dts, Timestamp::from_ticks(2_001, 2_000));
    }

    #[test]
    fn colours_are_passed_as_they_are() {
        let colour = "020009636f6c6f72496e666f 03000b636f6c6f72436f6e666967 03000009 000009";
        let mut reader = TagReader::default();
        let media = video(&mut reader, &format!("d4 61763031 {colour}")).unwrap();
        assert_eq!(media, [Media::Colour(hex(colour).into())]);
        assert_eq!(video(&mut reader, "d4 61763031 0200"), Ok(vec![]));
    }

    #[test]
    fn av1_is_configured_by_a_descriptor_too() {
        let mut reader = TagReader::default();
        let media = video(&mut reader, "95 61763031 8004 81000c00").unwrap();
        let [Media::Track(track)] = &media[..] else { panic!("{media:?}") };
        assert_eq!((track.codec, &track.config[..]), (Codec::Av1, &hex("81000c00")[..]));
        assert_eq!(video(&mut reader, "95 76703039 8004 81000c00"), Err(TagError::NoDescriptor(Codec::Vp9)));
    }

    #[test]
    fn mp3_track_comes_before_the_first_frame_and_when_it_changes() {
        // headers from ffmpeg's libmp3lame: 44.1 kHz stereo; then 48 kHz mono
        let mut reader = TagReader::default();
        assert_eq!(audio(&mut reader, "2f fffb9064 0000").unwrap().len(), 2);
        assert_eq!(audio(&mut reader, "2f fffb9264 0000").unwrap().len(), 1);
        let media = audio(&mut reader, "2f fffb94c4 0000").unwrap();
        let Media::Track(Track { shape: Shape::Audio(sound), .. }) = &media[0] else { panic!("{media:?}") };
        assert_eq!((sound.sample_rate, sound.channels), (48_000, 1));
        assert_eq!(frame(&media).payload[..], hex("fffb94c40000"));
    }

    #[test]
    fn names_codecs_that_it_does_not_read() {
        let mut reader = TagReader::default();
        let expected = TagError::UnsupportedCodec { kind: Kind::Video, id: 4, name: "On2 VP6" };
        assert_eq!(video(&mut reader, "24 00"), Err(expected));
        let expected = TagError::UnsupportedFourCc { kind: Kind::Video, fourcc: "xvid".into() };
        assert_eq!(video(&mut reader, "90 78766964 00"), Err(expected));
        let expected = TagError::UnsupportedCodec { kind: Kind::Audio, id: 11, name: "Speex" };
        assert_eq!(audio(&mut reader, "b2 00"), Err(expected));
        let cut = TagError::Truncated { kind: Kind::Video, len: 4, need: 5 };
        assert_eq!(video(&mut reader, "17 01 0000"), Err(cut));
    }

    #[test]
    fn script_reads_metadata_behind_set_data_frame_and_nothing_else() {
        let mut reader = TagReader::default();
        let script = |reader: &mut TagReader, names: &[&str]| {
            let mut body = Vec::new();
            names.iter().for_each(|name| amf::Value::from(*name).encode(&mut body));
            amf::Value::Object(vec![("width".into(), 320.0.into())]).encode(&mut body);
            read(reader, TagKind::Script, &body).unwrap()
        };
        let expected = metadata::Metadata(vec![("width".into(), metadata::Value::Number(320.0))]);
        for names in [&["onMetaData"][..], &["@setDataFrame", "onMetaData"]] {
            assert_eq!(script(&mut reader, names), [Media::Metadata(expected.clone())]);
        }
        for names in [&["onCuePoint"][..], &["@clearDataFrame", "onMetaData"], &["@setDataFrame", "x"], &[]] {
            assert_eq!(script(&mut reader, names), []);
        }
        assert!(matches!(read(&mut reader, TagKind::Script, &[0x0e]), Err(TagError::Script(_))));
    }

    #[test]
    fn hostile_bytes_never_panic() {
        let hevc = "90687663310101600000009000000000003cf000fcfdf8f800000f00";
        let frames = ["27 01 000000 00000005 060601c480 00000002 4101", "91 68766331 000028 00000003 260101"];
        for golden in [AVC_CONFIG, hevc, frames[0], frames[1]] {
            mutations(&hex(golden), 20_000, |body| {
                let mut reader = TagReader::default();
                video(&mut reader, AVC_CONFIG).unwrap();
                let _ = read(&mut reader, TagKind::Video, body);
                let _ = read(&mut reader, TagKind::Audio, body);
            });
        }
        for (_, start, frames) in FFMPEG9 {
            for golden in [start, frames] {
                mutations(&hex(golden), 20_000, |body| {
                    let mut reader = TagReader::default();
                    for kind in [TagKind::Video, TagKind::Audio] {
                        let _ = read(&mut reader, kind, &hex(start));
                        let _ = read(&mut reader, kind, body);
                    }
                });
            }
        }
        for golden in ["af 00 11b0 56e500", "2f fffb9064 0000"] {
            mutations(&hex(golden), 20_000, |body| {
                let _ = read(&mut TagReader::default(), TagKind::Audio, body);
            });
        }
        mutations(&hex("02000a6f6e4d65746144617461 0300017700 40740000000000000009 000009"), 20_000, |body| {
            let _ = read(&mut TagReader::default(), TagKind::Script, body);
        });
    }
}
