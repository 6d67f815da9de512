//! RTMP as a wire format: the messages that a player reads once its session has started playing.
//!
//! All with type 0 headers and fixed chunk stream ids, so the bytes of a frame are the same for every
//! viewer and whatever was sent before.

use super::{
    chunk::{ChunkWriter, Header},
    message::{csid, kind},
};
use crate::{flv, session::Tracks};
use shardcast_engine::{codec::Kind, fanout::Format, frame::Frame, prologue::Prologue, time::Timestamp, track::Track};

/// The one message stream that createStream gives out.
pub const STREAM: u32 = 1;

#[derive(Clone, Copy, Debug)]
pub struct Rtmp {
    /// Which the session has told the player before.
    pub chunk_size: u32,
    /// What its players get.
    pub tracks: Tracks,
}

impl Format for Rtmp {
    fn head(&self, prologue: &Prologue, at: Timestamp, out: &mut Vec<u8>) {
        self.prologue(prologue, at, out);
    }

    fn prologue(&self, prologue: &Prologue, at: Timestamp, out: &mut Vec<u8>) {
        let writer = ChunkWriter { chunk_size: self.chunk_size };
        // At zero wherever it stands: ffmpeg takes metadata of any other time for a track of text.
        write_metadata(writer, STREAM, prologue, Timestamp::ZERO, out);
        for track in prologue.tracks().filter(|track| self.takes(prologue, track.kind())) {
            write_track(writer, STREAM, track, at, out);
        }
        let mut body = Vec::new();
        if self.tracks.video && flv::colour_body(prologue, &mut body) {
            writer.write(media_header(Kind::Video, STREAM, at), &[&body], out);
        }
    }

    fn takes(&self, prologue: &Prologue, kind: Kind) -> bool {
        prologue.plays(kind) && if kind == Kind::Video { self.tracks.video } else { self.tracks.audio }
    }

    fn mux(&mut self, prologue: &Prologue, frame: &Frame, out: &mut Vec<u8>) {
        write_frame(ChunkWriter { chunk_size: self.chunk_size }, STREAM, prologue, frame, out);
    }
}

/// "onMetaData" and its values.
pub(super) fn write_metadata(writer: ChunkWriter, stream: u32, prologue: &Prologue, at: Timestamp, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    flv::metadata_body(prologue, &mut body);
    let header = Header { csid: csid::STREAM, kind: kind::DATA, stream, timestamp: wire_time(at) };
    writer.write(header, &[&body], out);
}

/// A sequence header, if the codec has one.
pub(super) fn write_track(writer: ChunkWriter, stream: u32, track: &Track, at: Timestamp, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    if flv::sequence_header_body(track, &mut body) {
        writer.write(media_header(track.kind(), stream, at), &[&body], out);
    }
}

pub(super) fn write_frame(writer: ChunkWriter, stream: u32, prologue: &Prologue, frame: &Frame, out: &mut Vec<u8>) {
    if let Some(header) = flv::body_header(prologue, frame) {
        writer.write(media_header(frame.kind, stream, frame.dts), &[&header, &frame.payload], out);
    }
}

fn media_header(kind: Kind, stream: u32, at: Timestamp) -> Header {
    let (csid, kind) = match kind {
        Kind::Audio | Kind::Opus => (csid::AUDIO, kind::AUDIO),
        Kind::Video => (csid::VIDEO, kind::VIDEO),
    };
    Header { csid, kind, stream, timestamp: wire_time(at) }
}

/// Milliseconds modulo 2^32, as RTMP counts them (RTMP 1.0 §5.1).
fn wire_time(at: Timestamp) -> u32 {
    at.as_ms() as u32
}
