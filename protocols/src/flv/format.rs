//! FLV as a wire format: the body that an HTTP-FLV viewer reads.

use super::{TagKind, body, colour_body, metadata_body, sequence_header_body, tag_body, tag_body_len};
use shardcast_engine::{fanout::Format, frame::Frame, prologue::Prologue, time::Timestamp};

#[derive(Clone, Copy, Debug, Default)]
pub struct Flv {
    /// The stream time that its tags count from; by itself the start of the [`RUN`] that its first frame is in.
    pub zero: Option<Timestamp>,
    /// Whether it has [`Prologue::colour`]: mpegts.js gives up at a packet that it does not know.
    pub colour: bool,
}

/// 2^30 ms, 12.4 days. Players in JavaScript take FLV's milliseconds for signed 32 bits, and stand still at 2^31.
pub const RUN: Timestamp = Timestamp::from_whole_ms(1 << 30);

/// The start of the run that `time` is in.
pub fn run(time: Timestamp) -> Timestamp {
    Timestamp::from_ms(time.as_ms() / RUN.as_ms() * RUN.as_ms())
}

impl Format for Flv {
    /// The file header (annex E.2), PreviousTagSize0, then the prologue.
    fn head(&self, prologue: &Prologue, at: Timestamp, out: &mut Vec<u8>) {
        let flags = match (prologue.sound().is_some(), prologue.video.is_some()) {
            (true, false) => 0x04,
            (false, true) => 0x01,
            // Before any track is known, none is ruled out: players trust these flags.
            _ => 0x05,
        };
        out.extend_from_slice(&[b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]);
        self.prologue(prologue, at, out);
    }

    fn prologue(&self, prologue: &Prologue, at: Timestamp, out: &mut Vec<u8>) {
        // At zero wherever it stands: ffmpeg takes metadata of any other time for a track of text.
        tag(TagKind::Script, Timestamp::ZERO, out, |out| metadata_body(prologue, out));
        for track in prologue.tracks() {
            tag(body::tag_kind(track.kind()), at - self.zero.unwrap_or_default(), out, |out| {
                sequence_header_body(track, out);
            });
        }
        if self.colour {
            tag(TagKind::Video, at - self.zero.unwrap_or_default(), out, |out| {
                colour_body(prologue, out);
            });
        }
    }

    fn mux(&mut self, prologue: &Prologue, frame: &Frame, out: &mut Vec<u8>) {
        let zero = *self.zero.get_or_insert_with(|| run(frame.dts));
        out.reserve(TAG_HEADER_LEN + tag_body_len(prologue, frame) + 4);
        tag(body::tag_kind(frame.kind), frame.dts - zero, out, |out| tag_body(prologue, frame, out));
    }
}

const TAG_HEADER_LEN: usize = 11;

/// Appends a tag (annex E.4.1) around what `write` appends, and its PreviousTagSize. Leaves out a tag
/// whose body is empty, or longer than the 24 bits of its length can tell.
///
/// ```text
/// | TagType 8 | DataSize 24 | Timestamp 24 | TimestampExtended 8 | StreamID 24 = 0 | body |
/// ```
fn tag(kind: TagKind, at: Timestamp, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.resize(start + TAG_HEADER_LEN, 0);
    write(out);
    let len = out.len() - start - TAG_HEADER_LEN;
    if len == 0 || len >= 1 << 24 {
        out.truncate(start);
        return;
    }
    let [_, l1, l2, l3] = (len as u32).to_be_bytes();
    // 32 bits of milliseconds, which wrap after 49 days as every reader of FLV expects.
    let [extended, t1, t2, t3] = (at.as_ms() as u32).to_be_bytes();
    let header = [kind as u8, l1, l2, l3, t1, t2, t3, extended, 0, 0, 0];
    out[start..start + TAG_HEADER_LEN].copy_from_slice(&header);
    out.extend_from_slice(&((TAG_HEADER_LEN + len) as u32).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::{
        super::{FlvReader, Tag, TagReader, golden},
        *,
    };
    use crate::codec::hostile::hex;
    use bytes::Bytes;
    use shardcast_engine::{
        codec::{Codec, Kind},
        frame::Media,
        metadata::Value,
        track::{Picture, Shape, Sound, Track},
    };
    use std::collections::VecDeque;

    const FLV: Flv = Flv { zero: Some(Timestamp::ZERO), colour: true };

    fn tags(stream: &[u8]) -> Vec<Tag> {
        let mut reader = FlvReader::new(1 << 24);
        reader.push(stream);
        std::iter::from_fn(|| reader.next().unwrap()).collect()
    }

    fn media(stream: &[u8]) -> Vec<Media> {
        let (mut reader, mut out) = (TagReader::default(), VecDeque::new());
        for tag in tags(stream) {
            let dts = Timestamp::from_ms(tag.timestamp_ms.into());
            match tag.kind {
                TagKind::Audio => reader.audio(dts, tag.body, &mut out).unwrap(),
                TagKind::Video => reader.video(dts, tag.body, &mut out).unwrap(),
                TagKind::Script => reader.script(&tag.body, &mut out).unwrap(),
            }
        }
        assert_eq!(reader.dropped, 0);
        out.into()
    }

    fn track(codec: Codec, config: &[u8]) -> Track {
        let shape = match codec.kind() {
            Kind::Video => Shape::Video(Picture::default()),
            Kind::Audio | Kind::Opus => Shape::Audio(Sound { sample_rate: 22_050, channels: 1, profile: "Other" }),
        };
        Track { codec, config: Bytes::copy_from_slice(config), shape }
    }

    fn frame(kind: Kind, dts_ms: i64, pts_ms: i64, keyframe: bool) -> Frame {
        let payload = Bytes::from_static(&[0xaa, 0xbb]);
        let (dts, pts) = (Timestamp::from_ms(dts_ms), Timestamp::from_ms(pts_ms));
        Frame { kind, dts, pts, keyframe, payload }
    }

    fn muxed(prologue: &Prologue, frame: &Frame) -> Vec<u8> {
        let mut out = Vec::new();
        Flv { ..FLV }.mux(prologue, frame, &mut out);
        out
    }

    #[test]
    fn ffmpegs_stream_survives_being_read_and_written() {
        let golden = hex(golden::FLV);
        let (mut prologue, mut frames, mut out) = (Prologue::default(), Vec::new(), Vec::new());
        for media in media(&golden) {
            match media {
                Media::Track(track) => prologue = prologue.with_track(track).unwrap(),
                Media::Metadata(metadata) => prologue = prologue.with_metadata(metadata).unwrap(),
                Media::Frame(frame) => frames.push(frame),
                media @ (Media::Colour(_) | Media::Other(_)) => panic!("{media:?}"),
            }
        }
        FLV.head(&prologue, Timestamp::ZERO, &mut out);
        let head_len = out.len();
        frames.iter().for_each(|frame| Flv { ..FLV }.mux(&prologue, frame, &mut out));
        // From its first frame to its end-of-sequence tag, ffmpeg's file is what is written here.
        let first = golden.windows(5).position(|window| window == [0x17, 1, 0, 0, 0x50]).unwrap() - TAG_HEADER_LEN;
        assert_eq!(out[head_len..], golden[first..golden.len() - 20]);
        let again = media(&out);
        assert_eq!(again[3..].to_vec(), frames.into_iter().map(Media::Frame).collect::<Vec<_>>());
        assert_eq!(again[1], Media::Track(prologue.video.unwrap()));
        assert_eq!(again[2], Media::Track(prologue.audio.unwrap()));
        let Media::Metadata(metadata) = &again[0] else { panic!("{:?}", again[0]) };
        assert_eq!(metadata.value("height"), Some(&Value::Number(18.0)));
        let server = concat!("Shardcast/", env!("CARGO_PKG_VERSION"));
        assert_eq!(metadata.value("server"), Some(&Value::Text(server.into())));
    }

    #[test]
    fn head_tells_which_tracks_there_are() {
        for (video, audio, flags) in [(false, false, 5), (true, false, 1), (false, true, 4), (true, true, 5)] {
            let prologue = Prologue {
                video: video.then(|| track(Codec::H264, &[1])),
                audio: audio.then(|| track(Codec::Aac, &[2])),
                ..Prologue::default()
            };
            let mut out = Vec::new();
            FLV.head(&prologue, Timestamp::from_ms(7), &mut out);
            assert_eq!(out[..13], [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]);
            let tags = tags(&out);
            assert_eq!(tags.len(), 1 + usize::from(video) + usize::from(audio));
            assert!(tags.iter().all(|tag| tag.timestamp_ms == if tag.kind == TagKind::Script { 0 } else { 7 }));
        }
    }

    #[test]
    fn tags_count_from_the_start_of_their_run() {
        let mut flv = Flv { zero: None, colour: false };
        let prologue = Prologue::default().with_track(track(Codec::Aac, &[0x11, 0x90])).unwrap();
        let (mut unit, mut out) = (Vec::new(), Vec::new());
        flv.mux(&prologue, &frame(Kind::Audio, (3 << 30) + 7, (3 << 30) + 7, false), &mut unit);
        flv.head(&prologue, Timestamp::from_ms((3 << 30) + 5), &mut out);
        out.append(&mut unit);
        let times: Vec<_> = tags(&out).iter().map(|tag| (tag.kind, tag.timestamp_ms)).collect();
        assert_eq!(times, [(TagKind::Script, 0), (TagKind::Audio, 5), (TagKind::Audio, 7)]);
    }

    #[test]
    fn timestamps_wrap_and_composition_times_may_be_negative() {
        let prologue = Prologue { video: Some(track(Codec::H264, &[1])), ..Prologue::default() };
        let out = muxed(&prologue, &frame(Kind::Video, (1 << 32) + 0x0102_0304, (1 << 32) + 0x0102_0303, true));
        assert_eq!(out, hex("09 000007 020304 01 000000 17 01 ffffff aabb 00000012"));
    }

    #[test]
    fn hevc_is_written_with_its_fourcc() {
        let prologue = Prologue { video: Some(track(Codec::Hevc, &[1, 2])), ..Prologue::default() };
        let out = muxed(&prologue, &frame(Kind::Video, 0, 40, true));
        assert_eq!(out, hex("09 00000a 000000 00 000000 91 68766331 000028 aabb 00000015"));
        let out = muxed(&prologue, &frame(Kind::Video, 0, 0, false));
        assert_eq!(out, hex("09 000007 000000 00 000000 a3 68766331 aabb 00000012"));
        let mut out = Vec::new();
        FLV.prologue(&prologue, Timestamp::ZERO, &mut out);
        assert!(out.ends_with(&hex("09 000007 000000 00 000000 90 68766331 0102 00000012")));
    }

    #[test]
    fn mp3_has_flags_and_no_sequence_header() {
        let prologue = Prologue { audio: Some(track(Codec::Mp3, &[])), ..Prologue::default() };
        let out = muxed(&prologue, &frame(Kind::Audio, 0, 0, false));
        assert_eq!(out, hex("08 000003 000000 00 000000 2a aabb 0000000e"));
        let mut out = Vec::new();
        FLV.head(&prologue, Timestamp::ZERO, &mut out);
        assert_eq!(tags(&out).len(), 1);
    }

    #[test]
    fn what_cannot_be_expressed_is_left_out() {
        let prologue = Prologue { video: Some(track(Codec::H264, &[1])), ..Prologue::default() };
        assert!(muxed(&prologue, &frame(Kind::Audio, 0, 0, false)).is_empty());
        let payload = Bytes::from(vec![0; (1 << 24) - 5]);
        let huge = Frame { payload: payload.clone(), ..frame(Kind::Video, 0, 0, true) };
        assert!(muxed(&prologue, &huge).is_empty());
        let largest = Frame { payload: payload.slice(1..), ..huge };
        assert_eq!(muxed(&prologue, &largest).len(), (1 << 24) - 1 + TAG_HEADER_LEN + 4);
    }

    #[test]
    fn opus_is_written_where_there_is_no_other_sound() {
        let opus = Prologue::default().with_track(track(Codec::Opus, &[1])).unwrap();
        assert!(FLV.takes(&opus, Kind::Opus));
        assert_eq!(
            muxed(&opus, &frame(Kind::Opus, 0, 0, false)),
            hex("08 000007 000000 00 000000 91 4f707573 aabb 00000012")
        );
        let mut out = Vec::new();
        FLV.head(&opus, Timestamp::ZERO, &mut out);
        assert_eq!(out[4], 0x04);
        assert!(out.ends_with(&hex("08 000006 000000 00 000000 90 4f707573 01 00000011")));
        let both = opus.with_track(track(Codec::Aac, &[2])).unwrap();
        assert!(!FLV.takes(&both, Kind::Opus));
        let mut out = Vec::new();
        FLV.prologue(&both, Timestamp::ZERO, &mut out);
        assert!(out.ends_with(&hex("08 000003 000000 00 000000 af00 02 0000000e")));
    }

    #[test]
    fn colours_follow_the_configuration_of_enhanced_codecs() {
        for (codec, written) in [(Codec::Av1, true), (Codec::H264, false)] {
            let prologue = Prologue::default().with_track(track(codec, &[1])).unwrap();
            let prologue = prologue.with_colour(Bytes::from_static(b"\x02\0\x01x")).unwrap();
            let mut out = Vec::new();
            FLV.prologue(&prologue, Timestamp::ZERO, &mut out);
            assert_eq!(out.ends_with(&hex("09 000009 000000 00 000000 d4 61763031 02000178 00000014")), written);
        }
    }

    #[test]
    fn length_of_a_body_is_told_beforehand() {
        for codec in [Codec::H264, Codec::Hevc, Codec::Av1, Codec::Aac, Codec::Mp3, Codec::Flac] {
            let prologue = Prologue::default().with_track(track(codec, &[1])).unwrap();
            for pts_ms in [0, 40] {
                let (frame, mut body) = (frame(codec.kind(), 0, pts_ms, true), Vec::new());
                tag_body(&prologue, &frame, &mut body);
                assert_eq!(body.len(), tag_body_len(&prologue, &frame));
            }
        }
    }
}
