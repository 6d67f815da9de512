//! WebSocket, the server's side (RFC 6455): the key's answer, a format in frames, what a client sends.

use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};
use shardcast_engine::{codec::Kind, fanout::Format, frame::Frame, prologue::Prologue, time::Timestamp};

/// The one version there is (§4.1).
pub const VERSION: &str = "13";
/// Ends a stream: a close frame with code 1000.
pub const LAST_FRAME: &[u8] = &[FIN | CLOSE, 2, 0x03, 0xe8];

/// §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_BYTES: usize = 16;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;

/// Opcodes (§11.8).
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Of a control frame (§5.5).
const CONTROL_BYTES: u64 = 125;
/// Of a client's message: a viewer has nothing to say.
const MESSAGE_BYTES: u64 = 64 << 10;

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`; `None` where that is not 16 bytes in base64 (§4.2.2).
pub fn accept(key: &str) -> Option<String> {
    let key = key.trim();
    STANDARD.decode(key).ok().filter(|nonce| nonce.len() == KEY_BYTES)?;
    Some(STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize()))
}

/// `F` in binary frames, each piece one; the same bytes for every viewer, so they share one tape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Framed<F>(pub F);

impl<F: Format> Format for Framed<F> {
    fn head(&self, prologue: &Prologue, at: Timestamp, out: &mut Vec<u8>) {
        frame(out, |out| self.0.head(prologue, at, out));
    }

    fn prologue(&self, prologue: &Prologue, at: Timestamp, out: &mut Vec<u8>) {
        frame(out, |out| self.0.prologue(prologue, at, out));
    }

    fn takes(&self, prologue: &Prologue, kind: Kind) -> bool {
        self.0.takes(prologue, kind)
    }

    fn mux(&mut self, prologue: &Prologue, unit: &Frame, out: &mut Vec<u8>) {
        frame(out, |out| self.0.mux(prologue, unit, out));
    }

    fn counters(&self) -> u16 {
        self.0.counters()
    }

    fn enter(&self, prologue: &Prologue, counters: u16, newcomer: bool, out: &mut Vec<u8>) {
        frame(out, |out| self.0.enter(prologue, counters, newcomer, out));
    }
}

/// Appends what `write` appends as one unmasked frame; nothing where that is nothing.
fn frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    /// Most units want this one: 126 to 65535 bytes.
    const USUAL: usize = 4;
    let start = out.len();
    out.extend_from_slice(&[0; USUAL]);
    write(out);
    let length = out.len() - start - USUAL;
    // The shortest form is prescribed (§5.2), so others move the payload.
    let mut header = [FIN | BINARY, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let size = match length {
        0 => return out.truncate(start),
        1..=125 => {
            header[1] = length as u8;
            2
        }
        126..=0xffff => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(length as u64).to_be_bytes());
            10
        }
    };
    out.splice(start..start + USUAL, header[..size].iter().copied());
}

/// What a client says that wants an answer: the answer, as a whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a ping.
    Pong(Vec<u8>),
    /// To a close; the connection ends behind it.
    Close(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a client's frame without a mask")]
    Unmasked,
    #[error("reserved bits {0:#x} of a frame")]
    Reserved(u8),
    #[error("a frame of the unknown opcode {0}")]
    Opcode(u8),
    #[error("a control frame in pieces")]
    ControlInPieces,
    #[error("a control frame of {0} bytes")]
    LongControl(u64),
    #[error("a frame of {0} bytes, written in too long a form")]
    LongForm(u64),
    #[error("a message of {0} bytes, a viewer's may have {MESSAGE_BYTES}")]
    LongMessage(u64),
    #[error("a piece of a message that has not begun")]
    StrayPiece,
    #[error("a message amid another one")]
    Interleaved,
    #[error("a close frame of one byte")]
    ShortClose,
    #[error("close code {0}")]
    CloseCode(u16),
}

impl FrameError {
    /// The close frame that tells the client: 1009 for what is too big, else 1002 (§7.4.1).
    pub fn frame(&self) -> [u8; 4] {
        let code: u16 = if matches!(self, Self::LongMessage(_)) { 1009 } else { 1002 };
        let [high, low] = code.to_be_bytes();
        [FIN | CLOSE, 2, high, low]
    }
}

/// Reads a client's frames. Data mean nothing to a viewer's session and are dropped as they come.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// Of a frame whose header is not whole.
    header: Vec<u8>,
    body: Option<Body>,
    /// Bytes of a message that has more pieces to come.
    message: Option<u64>,
    closed: bool,
}

/// A frame whose payload is being read.
#[derive(Clone, Debug)]
struct Body {
    opcode: u8,
    mask: [u8; 4],
    left: u64,
    /// Of a control frame, unmasked.
    payload: Vec<u8>,
}

impl Reader {
    /// Reads `bytes`, whatever piece of whatever frames they are. What follows a close is not looked at (§5.5.1).
    pub fn input(&mut self, mut bytes: &[u8], mut answer: impl FnMut(Answer)) -> Result<(), FrameError> {
        while !self.closed {
            let body = match &mut self.body {
                Some(body) => body,
                None => {
                    let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
                    bytes = rest;
                    self.header.push(byte);
                    let Some(body) = self.begin()? else { continue };
                    self.header.clear();
                    self.body.insert(body)
                }
            };
            let (now, rest) = bytes.split_at(bytes.len().min(usize::try_from(body.left).unwrap_or(usize::MAX)));
            bytes = rest;
            body.take(now);
            if body.left > 0 {
                return Ok(());
            }
            if let Some(body) = self.body.take() {
                match body.opcode {
                    PING => answer(Answer::Pong(control(PONG, &body.payload))),
                    CLOSE => {
                        self.closed = true;
                        answer(Answer::Close(control(CLOSE, close_code(&body.payload)?)));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The frame whose header is whole now (§5.2).
    fn begin(&mut self) -> Result<Option<Body>, FrameError> {
        let [first, second, ref rest @ ..] = self.header[..] else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err(FrameError::Reserved(first & RESERVED));
        }
        if second & MASKED == 0 {
            return Err(FrameError::Unmasked);
        }
        let (length, mask) = match second & !MASKED {
            126 => {
                let Some((length, mask)) = rest.split_first_chunk() else { return Ok(None) };
                let length = u64::from(u16::from_be_bytes(*length));
                (Some(length).filter(|length| *length > 125).ok_or(FrameError::LongForm(length))?, mask)
            }
            127 => {
                let Some((length, mask)) = rest.split_first_chunk() else { return Ok(None) };
                let length = u64::from_be_bytes(*length);
                (Some(length).filter(|length| *length > 0xffff).ok_or(FrameError::LongForm(length))?, mask)
            }
            length => (u64::from(length), rest),
        };
        let (opcode, last) = (first & OPCODE, first & FIN != 0);
        let message = match opcode {
            CLOSE | PING | PONG if !last => return Err(FrameError::ControlInPieces),
            CLOSE | PING | PONG if length > CONTROL_BYTES => return Err(FrameError::LongControl(length)),
            CLOSE | PING | PONG => None,
            CONTINUATION => Some(self.message.ok_or(FrameError::StrayPiece)?.saturating_add(length)),
            TEXT | BINARY if self.message.is_some() => return Err(FrameError::Interleaved),
            TEXT | BINARY => Some(length),
            _ => return Err(FrameError::Opcode(opcode)),
        };
        if let Some(length) = message.filter(|length| *length > MESSAGE_BYTES) {
            return Err(FrameError::LongMessage(length));
        }
        let Ok(mask) = mask.try_into() else { return Ok(None) };
        if message.is_some() {
            self.message = message.filter(|_| !last);
        }
        Ok(Some(Body { opcode, mask, left: length, payload: Vec::new() }))
    }
}

impl Body {
    fn take(&mut self, bytes: &[u8]) {
        if matches!(self.opcode, CLOSE | PING) {
            let from = self.payload.len();
            self.payload.extend(bytes.iter().zip(from..).map(|(byte, at)| byte ^ self.mask[at % 4]));
        }
        self.left -= bytes.len() as u64;
    }
}

/// The bytes of a close frame's code, none where it has none; the words behind it are for no one here (§5.5.1).
fn close_code(payload: &[u8]) -> Result<&[u8], FrameError> {
    match payload {
        [] => Ok(payload),
        [_] => Err(FrameError::ShortClose),
        [high, low, ..] => match u16::from_be_bytes([*high, *low]) {
            // §7.4: those that may stand in a frame.
            1000..=1003 | 1007..=1014 | 3000..=4999 => Ok(&payload[..2]),
            code => Err(FrameError::CloseCode(code)),
        },
    }
}

/// An unmasked control frame. `payload` has 125 bytes at the most.
fn control(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![FIN | opcode, payload.len() as u8];
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::{hex, mutations};
    use bytes::Bytes;

    /// Writes its payload.
    struct Plain;

    impl Format for Plain {
        fn head(&self, _: &Prologue, _: Timestamp, _: &mut Vec<u8>) {}

        fn prologue(&self, _: &Prologue, _: Timestamp, out: &mut Vec<u8>) {
            out.extend_from_slice(b"P");
        }

        fn mux(&mut self, _: &Prologue, frame: &Frame, out: &mut Vec<u8>) {
            out.extend_from_slice(&frame.payload);
        }
    }

    fn framed(length: usize) -> Vec<u8> {
        let payload = Bytes::from(vec![7; length]);
        let at = Timestamp::ZERO;
        let mut out = b"before".to_vec();
        Framed(Plain).mux(
            &Prologue::default(),
            &Frame { kind: Kind::Audio, dts: at, pts: at, keyframe: false, payload },
            &mut out,
        );
        assert!(out.starts_with(b"before") && out.ends_with(&vec![7; length]));
        out[6..out.len() - length].to_vec()
    }

    #[test]
    fn a_unit_is_one_frame_with_the_shortest_header() {
        assert_eq!(framed(0), b"");
        assert_eq!(framed(1), [0x82, 1]);
        assert_eq!(framed(125), [0x82, 125]);
        assert_eq!(framed(126), [0x82, 126, 0, 126]);
        assert_eq!(framed(65_535), [0x82, 126, 0xff, 0xff]);
        assert_eq!(framed(65_536), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        let mut out = Vec::new();
        Framed(Plain).head(&Prologue::default(), Timestamp::ZERO, &mut out);
        assert_eq!(out, b"", "an empty frame is none");
        Framed(Plain).prologue(&Prologue::default(), Timestamp::ZERO, &mut out);
        assert_eq!(out, b"\x82\x01P");
    }

    /// RFC 6455 §1.3.
    #[test]
    fn keys_are_answered() {
        assert_eq!(accept(" dGhlIHNhbXBsZSBub25jZQ== ").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(accept("dGhlIHNhbXBsZSBub25j"), None);
        assert_eq!(accept("not base64"), None);
    }

    /// What a reader says to `bytes`, given `piece` at a time.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Answer>, FrameError> {
        let (mut reader, mut answers) = (Reader::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            reader.input(piece, |answer| answers.push(answer))?;
        }
        Ok(answers)
    }

    /// §5.7: "Hello" in a masked text frame, a masked ping with "Hello"; then a message in two pieces with a pong
    /// between them, and a close of code 1001 with a word.
    fn golden() -> Vec<u8> {
        hex("81 85 37fa213d 7f9f4d5158 89 85 37fa213d 7f9f4d5158 \
             01 82 00000000 6162 8a 80 01020304 80 fe 0080 00000000") //
        .into_iter()
        .chain([0; 128])
        .chain(hex("88 84 00000000 03e9 6279"))
        .collect()
    }

    #[test]
    fn pings_and_closes_are_answered_however_they_are_cut() {
        let expected = [Answer::Pong(b"\x8a\x05Hello".to_vec()), Answer::Close(vec![0x88, 2, 0x03, 0xe9])];
        for piece in 1..=golden().len() {
            assert_eq!(read(&golden(), piece).as_deref(), Ok(&expected[..]), "{piece}");
        }
        let beyond = [golden(), vec![0xff; 9]].concat();
        assert_eq!(read(&beyond, 5).map(|answers| answers.len()), Ok(2), "nothing is read behind a close");
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        let refused = |text| read(&hex(text), 1).unwrap_err();
        assert_eq!(refused("81 05"), FrameError::Unmasked);
        assert_eq!(refused("c1 80"), FrameError::Reserved(0x40));
        assert_eq!(refused("83 80"), FrameError::Opcode(3));
        assert_eq!(refused("09 80"), FrameError::ControlInPieces);
        assert_eq!(refused("89 fe 007e"), FrameError::LongControl(126));
        assert_eq!(refused("82 fe 007d"), FrameError::LongForm(125));
        assert_eq!(refused("82 ff 000000000000ffff"), FrameError::LongForm(0xffff));
        assert_eq!(refused("82 ff ffffffffffffffff"), FrameError::LongMessage(u64::MAX));
        assert_eq!(refused("80 80"), FrameError::StrayPiece);
        assert_eq!(refused("01 80 00000000 81 80"), FrameError::Interleaved);
        assert_eq!(refused("88 81 00000000 03"), FrameError::ShortClose);
        assert_eq!(refused("88 82 00000000 03ee"), FrameError::CloseCode(1006));
        let long = [hex("02 fe ffff 00000000"), vec![0; 0xffff], hex("80 82")].concat();
        let refusal = read(&long, 1000).unwrap_err();
        assert_eq!(refusal, FrameError::LongMessage(0x1_0001));
        assert_eq!(refusal.frame(), [0x88, 2, 0x03, 0xf1]);
        assert_eq!(FrameError::Unmasked.frame(), [0x88, 2, 0x03, 0xea]);
    }

    #[test]
    fn hostile_frames_are_answered_in_bounds_or_refused() {
        mutations(&golden(), 20_000, |bytes| {
            let whole = read(bytes, bytes.len().max(1));
            assert_eq!(read(bytes, 3), whole);
            for answer in whole.iter().flatten() {
                let (Answer::Pong(frame) | Answer::Close(frame)) = answer;
                assert!(frame.len() <= 127 && usize::from(frame[1]) + 2 == frame.len());
            }
        });
    }
}
