//! From RTMP's audio, video, data and aggregate messages to media.

use super::message::{Message, kind};
use crate::flv::{TagError, TagReader};
use bytes::Bytes;
use shardcast_engine::{frame::Media, time::Timestamp};
use std::collections::VecDeque;

/// Reads the media messages of one publisher, or of the stream that is played.
#[derive(Debug, Default)]
pub struct MediaReader {
    tags: TagReader,
}

impl MediaReader {
    /// What the log should say of the publisher, once.
    pub fn note(&mut self) -> Option<String> {
        self.tags.note.take()
    }

    /// Appends what `message` says to `out`; nothing for other types of messages.
    pub fn read(&mut self, message: &Message, out: &mut VecDeque<Media>) -> Result<(), TagError> {
        if message.kind == kind::AGGREGATE {
            return self.aggregate(message, out);
        }
        self.part(message.kind, message.timestamp_ms, message.payload.clone(), out)
    }

    fn part(&mut self, kind: u8, timestamp_ms: i64, body: Bytes, out: &mut VecDeque<Media>) -> Result<(), TagError> {
        let dts = Timestamp::from_ms(timestamp_ms);
        match kind {
            kind::AUDIO => self.tags.audio(dts, body, out),
            kind::VIDEO => self.tags.video(dts, body, out),
            kind::DATA | kind::DATA_AMF3 => {
                let script = match &*body {
                    [0, rest @ ..] if kind == kind::DATA_AMF3 => rest,
                    all => all,
                };
                match self.tags.script(script, out) {
                    // Metadata adds nothing that a decoder needs; a publisher lives on without.
                    Err(TagError::Script(_)) => Ok(()),
                    other => other,
                }
            }
            _ => Ok(()),
        }
    }

    /// FLV tags in one message (RTMP 1.0 §7.1.6); their times count from the first one's, which is the
    /// message's. What is cut off at its end says nothing.
    fn aggregate(&mut self, message: &Message, out: &mut VecDeque<Media>) -> Result<(), TagError> {
        let mut rest = message.payload.clone();
        let mut first = None;
        while let Some(&[kind, l1, l2, l3, t1, t2, t3, t0, _, _, _]) = rest.first_chunk::<11>() {
            let len = u32::from_be_bytes([0, l1, l2, l3]) as usize;
            let timestamp = u32::from_be_bytes([t0, t1, t2, t3]);
            let offset = timestamp.wrapping_sub(*first.get_or_insert(timestamp)) as i32;
            if rest.len() - 11 < len {
                break;
            }
            // A copy, so that a frame does not keep the whole aggregate in memory.
            let body = Bytes::copy_from_slice(rest.get(11..11 + len).unwrap_or_default());
            self.part(kind & 0x1f, message.timestamp_ms.saturating_add(offset.into()), body, out)?;
            // The tag is followed by its size, 4 bytes.
            let next = (11 + len + 4).min(rest.len());
            rest = rest.slice(next..);
        }
        Ok(())
    }
}
