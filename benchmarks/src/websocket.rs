//! What a server sends in WebSocket frames (RFC 6455 §5.2), to a client that has nothing to say.

use crate::http::HttpError;

/// `Sec-WebSocket-Key`: any 16 bytes in base64 do.
pub const KEY: &str = "c2hhcmRiZW5jaCBrZXkuLg==";

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const LENGTH: u8 = 0x7f;
/// Opcodes (§11.8).
const DATA: std::ops::RangeInclusive<u8> = 0..=2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Takes frames in pieces.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// Of a frame whose header is not whole.
    header: Vec<u8>,
    opcode: u8,
    /// Bytes of the payload to come.
    left: u64,
    /// A ping's payload so far.
    ping: Vec<u8>,
    /// To be sent.
    pub pongs: Vec<u8>,
}

impl Frames {
    /// Calls `body` with each piece of data in `bytes`.
    pub fn input(&mut self, mut bytes: &[u8], body: &mut impl FnMut(&[u8])) -> Result<(), HttpError> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.left == 0 {
                bytes = rest;
                self.header.push(byte);
                self.begin()?;
                continue;
            }
            let (piece, rest) = bytes.split_at(bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX)));
            bytes = rest;
            self.left -= piece.len() as u64;
            match self.opcode {
                PING => self.ping.extend_from_slice(piece),
                PONG => {}
                _ => body(piece),
            }
            self.end();
        }
        Ok(())
    }

    /// Reads the header, once it is whole.
    fn begin(&mut self) -> Result<(), HttpError> {
        let &[first, second, ref more @ ..] = &self.header[..] else { return Ok(()) };
        self.left = match (second & LENGTH, more) {
            (126, &[a, b]) => u16::from_be_bytes([a, b]).into(),
            (127, &[a, b, c, d, e, f, g, h]) => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            (126 | 127, _) => return Ok(()),
            (length, _) => length.into(),
        };
        self.opcode = first & OPCODE;
        self.header.clear();
        match self.opcode {
            CLOSE => Err(HttpError::End),
            // Control frames are short (§5.5); a server masks nothing (§5.1).
            PING | PONG if self.left <= 125 && second & MASKED == 0 => {
                self.end();
                Ok(())
            }
            data if DATA.contains(&data) && second & MASKED == 0 => Ok(()),
            other => Err(HttpError::Opcode(other)),
        }
    }

    fn end(&mut self) {
        if self.left == 0 && self.opcode == PING {
            // A client masks; with zeros, as there is nothing to hide from a proxy (§10.3).
            self.pongs.extend([FIN | PONG, MASKED | self.ping.len() as u8, 0, 0, 0, 0]);
            self.pongs.append(&mut self.ping);
        }
    }
}
