//! The movie box (ISO 14496-12 §8.2.1) and what it says of its tracks, without their samples.

use super::boxes::{boxed, full, put16, put32, put64, zeros};
use crate::codec::{flac, fourcc};
use shardcast_engine::{
    codec::{Codec, Kind},
    track::{Shape, Track},
};

/// Ticks of the movie's own clock in a second.
pub const MOVIE_HZ: u32 = 1_000;
/// Ticks of a picture track's clock in a second.
const VIDEO_HZ: u32 = 90_000;

/// Ticks of a track's clock in a second, never zero: the sample rate of sound where that is known.
pub fn hz(track: &Track) -> u32 {
    match track.shape {
        Shape::Audio(ref sound) if sound.sample_rate > 0 => sound.sample_rate,
        _ => VIDEO_HZ,
    }
}

/// Brands of a file that may have fragments (§4.3).
pub fn file_type(out: &mut Vec<u8>) {
    boxed(b"ftyp", out, |out| {
        out.extend_from_slice(b"isom\0\0\x02\0isomiso2iso6mp41");
    });
}

/// Movie header (§8.2.2), version 1.
pub fn movie_header(duration: u64, next_track: u32, out: &mut Vec<u8>) {
    full(b"mvhd", 1, 0, out, |out| {
        zeros(out, 16); // creation, modification
        put32(out, MOVIE_HZ);
        put64(out, duration);
        put32(out, 0x0001_0000); // rate 1.0
        put16(out, 0x0100); // volume 1.0
        zeros(out, 10);
        matrix(out);
        zeros(out, 24);
        put32(out, next_track);
    });
}

/// How long a track is, and when it starts.
#[derive(Clone, Copy, Default)]
pub struct Span {
    /// In ticks of the track.
    pub start: u64,
    pub duration: u64,
}

/// A track (§8.3.1) around what `tables` appends to its sample table box after the sample description.
pub fn track_box(id: u32, track: &Track, span: Span, out: &mut Vec<u8>, tables: impl FnOnce(&mut Vec<u8>)) {
    let hz = hz(track);
    let in_movie = |ticks: u64| (u128::from(ticks) * u128::from(MOVIE_HZ) / u128::from(hz)) as u64;
    let (width, height) = size(track);
    let is_video = track.kind() == Kind::Video;
    boxed(b"trak", out, |out| {
        // §8.3.2; enabled and in the movie
        full(b"tkhd", 1, 3, out, |out| {
            zeros(out, 16);
            put32(out, id);
            zeros(out, 4);
            put64(out, in_movie(span.start + span.duration));
            zeros(out, 8 + 2 + 2); // reserved, layer, alternate group
            put16(out, if is_video { 0 } else { 0x0100 });
            zeros(out, 2);
            matrix(out);
            put32(out, u32::from(width) << 16);
            put32(out, u32::from(height) << 16);
        });
        if span.start > 0 {
            // §8.6.6: nothing at first, then all.
            boxed(b"edts", out, |out| {
                full(b"elst", 1, 0, out, |out| {
                    put32(out, 2);
                    for (duration, media_time) in [(in_movie(span.start), u64::MAX), (in_movie(span.duration), 0)] {
                        put64(out, duration);
                        put64(out, media_time);
                        put32(out, 0x0001_0000);
                    }
                });
            });
        }
        boxed(b"mdia", out, |out| {
            full(b"mdhd", 1, 0, out, |out| {
                zeros(out, 16);
                put32(out, hz);
                put64(out, span.duration);
                put16(out, 0x55c4); // "und"
                zeros(out, 2);
            });
            full(b"hdlr", 0, 0, out, |out| {
                zeros(out, 4);
                out.extend_from_slice(if is_video { b"vide" } else { b"soun" });
                zeros(out, 12);
                out.extend_from_slice(if is_video { b"video\0" } else { b"audio\0" });
            });
            boxed(b"minf", out, |out| {
                if is_video {
                    full(b"vmhd", 0, 1, out, |out| zeros(out, 8));
                } else {
                    full(b"smhd", 0, 0, out, |out| zeros(out, 4));
                }
                boxed(b"dinf", out, |out| {
                    full(b"dref", 0, 0, out, |out| {
                        put32(out, 1);
                        full(b"url ", 0, 1, out, |_| {});
                    });
                });
                boxed(b"stbl", out, |out| {
                    full(b"stsd", 0, 0, out, |out| {
                        put32(out, 1);
                        sample_entry(track, out);
                    });
                    tables(out);
                });
            });
        });
    });
}

/// Sample tables without samples, for a movie of fragments.
pub fn no_samples(out: &mut Vec<u8>) {
    for kind in [b"stts", b"stsc", b"stco"] {
        full(kind, 0, 0, out, |out| put32(out, 0));
    }
    full(b"stsz", 0, 0, out, |out| zeros(out, 8));
}

fn sample_entry(track: &Track, out: &mut Vec<u8>) {
    let configuration = match track.codec {
        Codec::H264 => b"avcC",
        Codec::Hevc => b"hvcC",
        Codec::Vvc => b"vvcC",
        Codec::Av1 => b"av1C",
        Codec::Vp8 | Codec::Vp9 => b"vpcC",
        Codec::Aac | Codec::Mp3 | Codec::Flac | Codec::Ac3 | Codec::Eac3 | Codec::Opus => {
            return audio_entry(track, out);
        }
    };
    // §12.1.3
    boxed(&fourcc(track.codec), out, |out| {
        let (width, height) = size(track);
        zeros(out, 6);
        put16(out, 1); // data reference
        zeros(out, 16);
        put16(out, width);
        put16(out, height);
        put32(out, 0x0048_0000); // 72 dpi
        put32(out, 0x0048_0000);
        zeros(out, 4);
        put16(out, 1); // frames in a sample
        zeros(out, 32); // compressor's name
        put16(out, 24); // depth
        put16(out, 0xffff);
        boxed(configuration, out, |out| {
            if track.codec == Codec::Vvc {
                put32(out, 0); // version and flags, which the record has not
            }
            out.extend_from_slice(&track.config);
        });
    });
}

/// §12.2.3, with what the codec's decoder needs.
fn audio_entry(track: &Track, out: &mut Vec<u8>) {
    let (channels, rate) = match &track.shape {
        Shape::Audio(sound) => (sound.channels, u16::try_from(sound.sample_rate).unwrap_or(0)),
        Shape::Video(_) => (0, 0),
    };
    let kind = fourcc(if track.codec == Codec::Mp3 { Codec::Aac } else { track.codec });
    boxed(&kind, out, |out| {
        zeros(out, 6);
        put16(out, 1); // data reference
        zeros(out, 8);
        put16(out, if channels == 0 { 2 } else { channels.into() });
        put16(out, 16); // bits in a sample
        zeros(out, 4);
        put32(out, u32::from(rate) << 16);
        match track.codec {
            Codec::Opus => boxed(b"dOps", out, |out| opus_specific(&track.config, out)),
            Codec::Ac3 => boxed(b"dac3", out, |out| out.extend_from_slice(&track.config)),
            Codec::Eac3 => boxed(b"dec3", out, |out| out.extend_from_slice(&track.config)),
            // FLAC in ISOBMFF §3.3.2: one metadata block, the last one, of type 0.
            Codec::Flac => full(b"dfLa", 0, 0, out, |out| {
                put32(out, 1 << 31 | flac::STREAMINFO_LEN as u32);
                out.extend_from_slice(flac::streaminfo(&track.config).map_or(&[], |info| &info[..]));
            }),
            Codec::Mp3 => full(b"esds", 0, 0, out, |out| elementary_stream(0x6b, &track.config, out)),
            _ => full(b"esds", 0, 0, out, |out| elementary_stream(0x40, &track.config, out)),
        }
    });
}

/// ISO 14496-1 §7.2.6.5: the ES_Descriptor of a sound.
fn elementary_stream(object_type: u8, config: &[u8], out: &mut Vec<u8>) {
    descriptor(0x03, out, |out| {
        zeros(out, 3); // ES_ID, no flags
        descriptor(0x04, out, |out| {
            out.extend_from_slice(&[object_type, 0x15]); // an audio stream
            zeros(out, 11); // sizes and rates: not known
            if !config.is_empty() {
                descriptor(0x05, out, |out| out.extend_from_slice(config));
            }
        });
        descriptor(0x06, out, |out| out.push(2));
    });
}

/// Encapsulation of Opus in ISO Base Media §4.3.2: an OpusHead (RFC 7845 §5.1) without its magic, as version 0 and
/// with big-endian numbers.
fn opus_specific(head: &[u8], out: &mut Vec<u8>) {
    let byte = |at: usize| head.get(at).copied().unwrap_or(0);
    out.extend_from_slice(&[0, byte(9)]);
    for range in [10..12, 12..16, 16..18] {
        out.extend(range.rev().map(byte));
    }
    out.push(byte(18));
    out.extend_from_slice(head.get(19..).unwrap_or_default());
}

/// A descriptor whose length takes four bytes of seven bits each (ISO 14496-1 §8.3.3).
fn descriptor(tag: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[tag, 0, 0, 0, 0]);
    write(out);
    let len = out.len() - start - 5;
    let seven = |shift: u32| (len >> shift & 0x7f) as u8;
    out[start + 1..start + 5].copy_from_slice(&[0x80 | seven(21), 0x80 | seven(14), 0x80 | seven(7), seven(0)]);
}

fn size(track: &Track) -> (u16, u16) {
    let bound = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
    match &track.shape {
        Shape::Video(picture) => (bound(picture.width), bound(picture.height)),
        Shape::Audio(_) => (0, 0),
    }
}

fn matrix(out: &mut Vec<u8>) {
    for value in [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000] {
        put32(out, value);
    }
}
