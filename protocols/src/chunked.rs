//! A wire format as an HTTP/1.1 body of unknown length: each piece is one chunk (RFC 9112 §7.1).

use shardcast_engine::{codec::Kind, fanout::Format, frame::Frame, prologue::Prologue, time::Timestamp};

/// `F` in chunks; the same bytes for every viewer, so they share one tape.
///
/// ```text
/// | length, 8 hexadecimal digits | CR LF | what F writes | CR LF |
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Chunked<F>(pub F);

/// What ends the body, once all chunks are sent.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

const LENGTH_DIGITS: usize = 8;

impl<F: Format> Format for Chunked<F> {
    fn head(&self, prologue: &Prologue, at: Timestamp, out: &mut Vec<u8>) {
        chunk(out, |out| self.0.head(prologue, at, out));
    }

    fn prologue(&self, prologue: &Prologue, at: Timestamp, out: &mut Vec<u8>) {
        chunk(out, |out| self.0.prologue(prologue, at, out));
    }

    fn takes(&self, prologue: &Prologue, kind: Kind) -> bool {
        self.0.takes(prologue, kind)
    }

    fn mux(&mut self, prologue: &Prologue, frame: &Frame, out: &mut Vec<u8>) {
        chunk(out, |out| self.0.mux(prologue, frame, out));
    }

    fn counters(&self) -> u16 {
        self.0.counters()
    }

    fn enter(&self, prologue: &Prologue, counters: u16, newcomer: bool, out: &mut Vec<u8>) {
        chunk(out, |out| self.0.enter(prologue, counters, newcomer, out));
    }
}

/// Appends what `write` appends as one chunk; nothing where that is nothing, since an empty chunk is the last.
fn chunk(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(b"00000000\r\n");
    let body = out.len();
    write(out);
    let mut rest = out.len() - body;
    if rest == 0 {
        return out.truncate(start);
    }
    for digit in out[start..start + LENGTH_DIGITS].iter_mut().rev() {
        *digit = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flv::Flv;
    use bytes::Bytes;
    use shardcast_engine::{
        codec::{Codec, Kind},
        track::{Shape, Sound, Track},
    };

    #[test]
    fn chunks_hold_what_the_format_writes() {
        let sound = Track {
            codec: Codec::Aac,
            config: Bytes::from_static(&[0x12, 0x10]),
            shape: Shape::Audio(Sound::default()),
        };
        let prologue = Prologue { audio: Some(sound), ..Prologue::default() };
        let at = Timestamp::from_ms(40);
        let frame = Frame { kind: Kind::Audio, dts: at, pts: at, keyframe: false, payload: Bytes::from(vec![7; 300]) };
        let (mut plain, mut chunked) = (Vec::new(), Vec::new());
        Flv::default().head(&prologue, at, &mut plain);
        Chunked(Flv::default()).head(&prologue, at, &mut chunked);
        let head_len = plain.len();
        Flv::default().mux(&prologue, &frame, &mut plain);
        Chunked(Flv::default()).mux(&prologue, &frame, &mut chunked);

        let mut expected = format!("{head_len:08x}\r\n").into_bytes();
        expected.extend_from_slice(&plain[..head_len]);
        expected.extend_from_slice(format!("\r\n{:08x}\r\n", plain.len() - head_len).as_bytes());
        expected.extend_from_slice(&plain[head_len..]);
        expected.extend_from_slice(b"\r\n");
        assert_eq!(chunked, expected);
    }

    #[test]
    fn nothing_is_no_chunk() {
        let picture_without_track = Frame {
            kind: Kind::Video,
            dts: Timestamp::ZERO,
            pts: Timestamp::ZERO,
            keyframe: true,
            payload: Bytes::new(),
        };
        let mut out = Vec::new();
        Chunked(Flv::default()).mux(&Prologue::default(), &picture_without_track, &mut out);
        assert_eq!(out, b"");
    }
}
