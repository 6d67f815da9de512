//! Reads a transport stream, however it arrives, into media.

use super::{
    access_unit::Sets,
    packet::{PACKET_LEN, Packet, SYNC},
    pes::{self, Clock, HZ, nearest},
    psi::{self, PAT_PID, Program, Sections},
    sound::Cutter,
};
use crate::codec::{avc, hevc};
use bytes::{Buf, Bytes, BytesMut};
use shardcast_engine::{
    codec::{Codec, Kind},
    frame::{Frame, Media},
    time::Timestamp,
};
use std::collections::VecDeque;

/// Longest PES packet, bytes.
pub const LARGEST_PES: usize = 16 << 20;
/// So many bytes without two packets in a row are no transport stream.
const SEARCH: u64 = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TsError {
    #[error("not MPEG-TS: no two packets in a row within {searched} bytes, up to byte {at}")]
    NotTs { searched: u64, at: u64 },
    #[error("PES packet on PID {pid:#06x} is longer than {max} bytes")]
    PesTooLong { pid: u16, max: usize },
}

/// What was wrong with the stream so far, and was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Times that packets did not follow each other.
    pub sync_lost: u64,
    /// Packets that are missing before another (at least one each), broken or scrambled.
    pub discontinuities: u64,
    /// PES packets that are not whole, have no times or a broken header.
    pub pes_dropped: u64,
    /// Frames of sound whose header was not found, and pictures before their parameter sets.
    pub frames_dropped: u64,
    /// Sections of tables with a wrong CRC or length.
    pub sections_broken: u64,
}

/// Push parser of the first program's first picture and first sound. What it buffers is bounded by one PES
/// packet a track and one `push`, as long as `next` is called until it gives none. Times are whole: 33 bits
/// are unwrapped, both tracks by one clock.
#[derive(Debug, Default)]
pub struct TsReader {
    buffer: BytesMut,
    /// Bytes taken from the stream before `buffer`.
    at: u64,
    /// Bytes since the last packet.
    searched: u64,
    synced: bool,
    associations: Table,
    map: Table,
    map_pid: Option<u16>,
    video: Option<Track>,
    audio: Option<Track>,
    sets: Sets,
    cutter: Cutter,
    clock: Clock,
    out: VecDeque<Media>,
    damage: Damage,
}

#[derive(Debug, Default)]
struct Table {
    sections: Sections,
    continuity: Option<u8>,
}

#[derive(Debug)]
struct Track {
    pid: u16,
    codec: Codec,
    continuity: Option<u8>,
    /// A PES packet that is not whole yet.
    part: Option<Vec<u8>>,
}

/// How a packet follows the one before on its PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    InOrder,
    /// The same once more (§2.4.3.3).
    Again,
    /// Others are missing, and nobody said so.
    Gap,
    /// The sender says that it starts anew.
    Anew,
}

impl TsReader {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next track or frame, or `None` until more bytes come. After an error the stream is lost.
    #[expect(clippy::should_implement_trait, reason = "none now does not mean none ever")]
    pub fn next(&mut self) -> Result<Option<Media>, TsError> {
        loop {
            if let Some(media) = self.out.pop_front() {
                return Ok(Some(media));
            }
            let Some(packet) = self.packet()? else { return Ok(None) };
            match Packet::parse(&packet) {
                Some(packet) => self.take(packet)?,
                None => self.damage.discontinuities += 1,
            }
        }
    }

    /// No more bytes come: the last picture, whose end only the next one would tell, is whole. `next` gives it.
    pub fn finish(&mut self) {
        for kind in [Kind::Video, Kind::Audio] {
            self.close(kind, true);
        }
    }

    pub fn damage(&self) -> Damage {
        let sections_broken = self.associations.sections.broken + self.map.sections.broken;
        Damage { sections_broken, ..self.damage }
    }

    /// The next 188 bytes that start with a sync byte, and after a loss are followed by another.
    fn packet(&mut self) -> Result<Option<Bytes>, TsError> {
        if self.synced && self.buffer.first().is_some_and(|first| *first != SYNC) {
            self.synced = false;
            self.damage.sync_lost += 1;
        }
        while !self.synced {
            match (self.buffer.first(), self.buffer.get(PACKET_LEN)) {
                (Some(&SYNC), None) | (None, _) => return Ok(None),
                (Some(&SYNC), Some(&SYNC)) => self.synced = true,
                _ => {
                    let next = self.buffer.iter().skip(1).position(|byte| *byte == SYNC);
                    let skip = next.map_or(self.buffer.len(), |next| next + 1);
                    self.advance(skip);
                    self.searched += skip as u64;
                    if self.searched > SEARCH {
                        return Err(TsError::NotTs { searched: self.searched, at: self.at });
                    }
                }
            }
        }
        if self.buffer.len() < PACKET_LEN {
            return Ok(None);
        }
        self.searched = 0;
        self.at += PACKET_LEN as u64;
        Ok(Some(self.buffer.split_to(PACKET_LEN).freeze()))
    }

    fn advance(&mut self, len: usize) {
        self.buffer.advance(len);
        self.at += len as u64;
    }

    fn take(&mut self, packet: Packet) -> Result<(), TsError> {
        if packet.pid == PAT_PID {
            for section in self.associations.read(&packet) {
                let map_pid = psi::map_pid(&section).filter(|pid| *pid != PAT_PID);
                if map_pid.is_some() && map_pid != self.map_pid {
                    self.map_pid = map_pid;
                    self.map.sections.reset();
                    self.map.continuity = None;
                }
            }
            return Ok(());
        }
        if Some(packet.pid) == self.map_pid {
            for program in self.map.read(&packet).iter().filter_map(|section| psi::program(section)) {
                self.tune(program);
            }
            return Ok(());
        }
        let kind = [Kind::Video, Kind::Audio]
            .into_iter()
            .find(|kind| self.track(*kind).as_ref().is_some_and(|track| track.pid == packet.pid));
        match kind {
            Some(kind) => self.collect(kind, packet),
            None => Ok(()),
        }
    }

    /// Goes on with the streams of `program`; one that has moved or changed its codec starts anew.
    fn tune(&mut self, program: Program) {
        for (kind, wanted) in [(Kind::Video, program.video), (Kind::Audio, program.audio)] {
            if self.track(kind).as_ref().map(|track| (track.pid, track.codec)) == wanted {
                continue;
            }
            self.close(kind, true);
            match kind {
                Kind::Video => self.sets = Sets::default(),
                Kind::Audio | Kind::Opus => self.cutter = Cutter::default(),
            }
            *self.track(kind) = wanted.map(|(pid, codec)| Track { pid, codec, continuity: None, part: None });
        }
    }

    fn track(&mut self, kind: Kind) -> &mut Option<Track> {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio | Kind::Opus => &mut self.audio,
        }
    }

    fn collect(&mut self, kind: Kind, packet: Packet) -> Result<(), TsError> {
        let Some(track) = self.track(kind) else { return Ok(()) };
        match follows(&mut track.continuity, &packet) {
            Follows::InOrder => {}
            Follows::Again => return Ok(()),
            Follows::Gap => {
                self.damage.discontinuities += 1;
                self.damage_part(kind);
            }
            // What had no end to wait for ends here.
            Follows::Anew => self.close(kind, true),
        }
        let Some(payload) = packet.payload.filter(|_| !packet.unusable) else { return Ok(()) };
        if packet.start {
            self.close(kind, true);
        }
        let Some(Track { pid, part, .. }) = self.track(kind) else { return Ok(()) };
        if packet.start {
            *part = Some(Vec::with_capacity(pes::packet_len(&payload).unwrap_or(payload.len())));
        }
        // Without a start the packet belongs to something that was dropped.
        let Some(part) = part else { return Ok(()) };
        if part.len() + payload.len() > LARGEST_PES {
            return Err(TsError::PesTooLong { pid: *pid, max: LARGEST_PES });
        }
        part.extend_from_slice(&payload);
        if pes::packet_len(part).is_some_and(|len| part.len() >= len) {
            self.close(kind, false);
        }
        Ok(())
    }

    /// Drops what is not whole.
    fn damage_part(&mut self, kind: Kind) {
        if self.track(kind).as_mut().and_then(|track| track.part.take()).is_some() {
            self.damage.pes_dropped += 1;
        }
        if kind == Kind::Audio {
            self.cutter.reset();
        }
    }

    /// Reads the PES packet that is whole now: it has its length, or (`at_start`) the next one starts.
    fn close(&mut self, kind: Kind, at_start: bool) {
        let Some(Track { codec, part, .. }) = self.track(kind) else { return };
        let codec = *codec;
        let Some(part) = part.take() else { return };
        let header = pes::header(&part).filter(|header| match header.packet_len {
            Some(len) => part.len() >= len,
            None => at_start,
        });
        let Some(header) = header else {
            self.damage.pes_dropped += 1;
            if kind == Kind::Audio {
                self.cutter.reset();
            }
            return;
        };
        let part = Bytes::from(part);
        let end = header.packet_len.unwrap_or(part.len());
        let data = part.get(header.data..end).map_or_else(Bytes::new, |data| part.slice_ref(data));
        match kind {
            Kind::Video => self.picture(codec, header, &data),
            Kind::Audio | Kind::Opus => {
                let ticks = header.pts.map(|pts| self.clock.unwrap(pts));
                self.damage.frames_dropped += self.cutter.read(codec, ticks, &data, &mut self.out);
            }
        }
    }

    fn picture(&mut self, codec: Codec, header: pes::Header, data: &[u8]) {
        let (Some(pts), Some(dts)) = (header.pts, header.dts.or(header.pts)) else {
            self.damage.pes_dropped += 1;
            return;
        };
        let dts = self.clock.unwrap(dts);
        let pts = nearest(dts, pts);
        let Some(picture) = self.sets.read(codec, data) else {
            self.damage.frames_dropped += 1;
            return;
        };
        if let Some(config) = picture.config {
            // What was made here can be read here; were it not so, its frames would be useless.
            let track = if codec == Codec::Hevc { hevc::track(config).ok() } else { avc::track(config).ok() };
            self.out.extend(track.map(Media::Track));
        }
        self.out.push_back(Media::Frame(Frame {
            kind: Kind::Video,
            dts: Timestamp::from_ticks(dts, HZ),
            pts: Timestamp::from_ticks(pts, HZ),
            keyframe: picture.keyframe,
            payload: picture.payload.into(),
        }));
    }
}

impl Table {
    /// The whole sections that `packet` completes.
    fn read(&mut self, packet: &Packet) -> Vec<Vec<u8>> {
        match follows(&mut self.continuity, packet) {
            Follows::InOrder => {}
            Follows::Again => return Vec::new(),
            Follows::Gap | Follows::Anew => self.sections.reset(),
        }
        match &packet.payload {
            Some(payload) if !packet.unusable => self.sections.push(packet.start, payload),
            _ => Vec::new(),
        }
    }
}

fn follows(last: &mut Option<u8>, packet: &Packet) -> Follows {
    let before = last.replace(packet.continuity);
    if packet.adaptation.discontinuity {
        return Follows::Anew;
    }
    match before {
        _ if packet.unusable => Follows::Gap,
        None => Follows::InOrder,
        // Only packets with payload count.
        Some(before) if packet.payload.is_none() => {
            *last = Some(before);
            Follows::InOrder
        }
        Some(before) if before == packet.continuity => Follows::Again,
        Some(before) if (before + 1) & 15 == packet.continuity => Follows::InOrder,
        Some(_) => Follows::Gap,
    }
}
