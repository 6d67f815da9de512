//! RTMP messages: what chunks carry, and the protocol control messages (RTMP 1.0 §5.4, §6.2, §7.1).

use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Message type id, see [`kind`].
    pub kind: u8,
    /// Message stream id: 0 for the connection, else what createStream returned.
    pub stream: u32,
    /// Milliseconds, unwrapped from the wire's 32 bits.
    pub timestamp_ms: i64,
    pub payload: Bytes,
}

/// Message type ids (RTMP 1.0 §5.4 and §7.1).
pub mod kind {
    pub const SET_CHUNK_SIZE: u8 = 1;
    pub const ABORT: u8 = 2;
    pub const ACKNOWLEDGEMENT: u8 = 3;
    pub const USER_CONTROL: u8 = 4;
    pub const WINDOW_ACK_SIZE: u8 = 5;
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    pub const AUDIO: u8 = 8;
    pub const VIDEO: u8 = 9;
    pub const DATA_AMF3: u8 = 15;
    pub const COMMAND_AMF3: u8 = 17;
    pub const DATA: u8 = 18;
    pub const COMMAND: u8 = 20;
    pub const AGGREGATE: u8 = 22;
}

/// Chunk stream ids that we send on. Peers pick their own; only 2 has a meaning (RTMP 1.0 §5.3.1.1).
pub mod csid {
    pub const CONTROL: u8 = 2;
    pub const CONNECTION: u8 = 3;
    pub const AUDIO: u8 = 4;
    pub const STREAM: u8 = 5;
    pub const VIDEO: u8 = 6;
}

/// User control events (RTMP 1.0 §7.1.7).
pub mod event {
    pub const STREAM_BEGIN: u16 = 0;
    pub const STREAM_EOF: u16 = 1;
    pub const SET_BUFFER_LENGTH: u16 = 3;
    pub const PING_REQUEST: u16 = 6;
    pub const PING_RESPONSE: u16 = 7;
}

/// A protocol control message from the peer; what needs no answer is not told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    SetChunkSize(u32),
    Abort { csid: u32 },
    WindowAckSize(u32),
    Ping([u8; 4]),
    StreamEof,
    Other,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("control message of type {kind} has {len} bytes, expected at least {min}")]
pub struct ControlTooShort {
    pub kind: u8,
    pub len: usize,
    pub min: usize,
}

impl Control {
    /// Reads a message of a type up to 6; other types are no control messages and are `None`.
    pub fn read(message: &Message) -> Result<Option<Self>, ControlTooShort> {
        let bytes: &[u8] = &message.payload;
        let short = |min| ControlTooShort { kind: message.kind, len: bytes.len(), min };
        let number = || bytes.first_chunk().map(|b| u32::from_be_bytes(*b)).ok_or(short(4));
        Ok(Some(match message.kind {
            kind::SET_CHUNK_SIZE => Control::SetChunkSize(number()?),
            kind::ABORT => Control::Abort { csid: number()? },
            kind::WINDOW_ACK_SIZE => Control::WindowAckSize(number()?),
            kind::USER_CONTROL => {
                let (head, rest) = bytes.split_first_chunk().ok_or(short(2))?;
                match u16::from_be_bytes(*head) {
                    event::PING_REQUEST => Control::Ping(*rest.first_chunk().ok_or(short(6))?),
                    event::STREAM_EOF => Control::StreamEof,
                    _ => Control::Other,
                }
            }
            kind::ACKNOWLEDGEMENT | kind::SET_PEER_BANDWIDTH => Control::Other,
            _ => return Ok(None),
        }))
    }
}

/// Payload of a user control message.
pub fn user_control(event: u16, value: [u8; 4]) -> [u8; 6] {
    let [high, low] = event.to_be_bytes();
    let [a, b, c, d] = value;
    [high, low, a, b, c, d]
}
