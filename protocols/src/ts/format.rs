//! MPEG-TS as a wire format: the body that an HTTP-TS viewer reads.

use super::{
    access_unit,
    packet::{Adaptation, write_adaptation, write_unit},
    pes::{self, HZ, WRAP},
    psi::{self, PAT_PID, PMT_PID},
    sound,
};
use shardcast_engine::{codec::Kind, fanout::Format, frame::Frame, prologue::Prologue, time::Timestamp, track::Track};

/// Frames as PES packets, one each, behind tables and a clock.
///
/// Its bytes depend on the frames before: every packet has its PID's continuity counter. So the tapes of two
/// shards differ in these counters, and one who joins or skips is told where they stand by [`Format::enter`]:
/// tables, and for one who skips a packet of each PID with its discontinuity_indicator set (ISO 13818-1
/// §2.4.3.5) and the counter that the next one follows. The skip is a jump of the clock too, which is what the
/// indicator says on the clock's PID.
#[derive(Debug, Default)]
pub struct Ts {
    continuity: Continuity,
    /// When tables were written last, and of which version of the prologue.
    tables: Option<(Timestamp, u32)>,
    /// The clock as it was written last: stream time in ticks.
    clock: Option<i64>,
    /// The frame being written as it stands in a PES packet: cutting it in packets copies it anyway, and the
    /// packet's length must be known before.
    unit: Vec<u8>,
}

/// How long sound goes on without tables; with pictures they stand at each keyframe too.
const TABLES_SPAN: Timestamp = Timestamp::from_whole_ms(500);
/// The clock is written at every picture, and where those come seldom at the first sound after this, so that
/// less than the 100 ms of §2.7.2 lie between.
const CLOCK_SPAN: i64 = 70 * HZ as i64 / 1000;
/// Decoding times are so far ahead of the clock, in ticks: sound may come so much later than the picture
/// that it belongs to.
const DELAY: i64 = 200 * HZ as i64 / 1000;
/// Sound must tell its length.
const MAX_SOUND_LEN: usize = 0xffff - 8;

/// The next counter of each PID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Continuity {
    pat: u8,
    pmt: u8,
    video: u8,
    audio: u8,
}

impl Continuity {
    fn of(&mut self, kind: Kind) -> &mut u8 {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio | Kind::Opus => &mut self.audio,
        }
    }

    fn to_bits(self) -> u16 {
        let Self { pat, pmt, video, audio } = self;
        [pat, pmt, video, audio].into_iter().fold(0, |bits, next| bits << 4 | u16::from(next & 15))
    }

    fn of_bits(bits: u16) -> Self {
        let nibble = |shift: u16| (bits >> shift & 15) as u8;
        Self { pat: nibble(12), pmt: nibble(8), video: nibble(4), audio: nibble(0) }
    }
}

impl Format for Ts {
    /// Nothing: a transport stream has no head, and what it opens with counts.
    fn head(&self, _: &Prologue, _: Timestamp, _: &mut Vec<u8>) {}

    /// Nothing: the first unit under a new prologue brings its tables.
    fn prologue(&self, _: &Prologue, _: Timestamp, _: &mut Vec<u8>) {}

    fn takes(&self, prologue: &Prologue, kind: Kind) -> bool {
        psi::carries(prologue, kind)
    }

    fn mux(&mut self, prologue: &Prologue, frame: &Frame, out: &mut Vec<u8>) {
        let Some(track) = psi::tracks(prologue).find(|track| track.kind() == frame.kind) else { return };
        let mut unit = std::mem::take(&mut self.unit);
        if write_pes(track, frame, &mut unit) {
            // Each packet takes 184 bytes; tables and a clock may come before.
            out.reserve_exact((unit.len() / 176 + 4) * super::packet::PACKET_LEN);
            self.write_tables(prologue, frame, out);
            let pcr = self.write_clock(prologue, frame, out);
            let adaptation = Adaptation { random_access: frame.keyframe, pcr, ..Adaptation::default() };
            write_unit(psi::pid(frame.kind), self.continuity.of(frame.kind), adaptation, &unit, out);
        }
        unit.clear();
        self.unit = unit;
    }

    /// | PAT 4 | PMT 4 | video 4 | audio 4 |
    fn counters(&self) -> u16 {
        self.continuity.to_bits()
    }

    fn enter(&self, prologue: &Prologue, counters: u16, newcomer: bool, out: &mut Vec<u8>) {
        let mut next = Continuity::of_bits(counters);
        // Tables with the counters before those that follow on the tape.
        let mut tables = Continuity { pat: next.pat.wrapping_sub(1) & 15, pmt: next.pmt.wrapping_sub(1) & 15, ..next };
        let jump = Adaptation { discontinuity: !newcomer, ..Adaptation::default() };
        write_unit(PAT_PID, &mut tables.pat, jump, table(&psi::pat(), newcomer), out);
        write_unit(PMT_PID, &mut tables.pmt, jump, table(&psi::pmt(prologue), newcomer), out);
        if !newcomer {
            for track in psi::tracks(prologue) {
                write_adaptation(psi::pid(track.kind()), *next.of(track.kind()), jump, out);
            }
        }
    }
}

/// A table's payload, or as much of it as fits beside an adaptation field of two bytes: less stuffing.
fn table(payload: &[u8], whole: bool) -> &[u8] {
    if whole { payload } else { payload.get(..payload.len() - 2).unwrap_or(payload) }
}

impl Ts {
    /// The next frame may be the first that somebody reads: tables come before it.
    pub fn restart(&mut self) {
        self.tables = None;
    }

    fn write_tables(&mut self, prologue: &Prologue, frame: &Frame, out: &mut Vec<u8>) {
        let due = frame.keyframe
            || self.tables.is_none_or(|(at, version)| {
                version != prologue.version || frame.kind != Kind::Video && frame.dts - at >= TABLES_SPAN
            });
        if due {
            write_unit(PAT_PID, &mut self.continuity.pat, Adaptation::default(), &psi::pat(), out);
            write_unit(PMT_PID, &mut self.continuity.pmt, Adaptation::default(), &psi::pmt(prologue), out);
            self.tables = Some((frame.dts, prologue.version));
        }
    }

    /// The clock that the frame's first packet is to carry; one that another PID must carry is appended. The
    /// clock never runs back, whichever track is ahead.
    fn write_clock(&mut self, prologue: &Prologue, frame: &Frame, out: &mut Vec<u8>) -> Option<u64> {
        let now = frame.dts.as_ticks(HZ);
        let carrier = psi::pcr_kind(prologue);
        let due = match self.clock {
            None => true,
            // A newcomer needs it at once.
            Some(_) if frame.keyframe => true,
            Some(last) if carrier == frame.kind => now > last,
            Some(last) => now - last >= CLOCK_SPAN,
        };
        if !due {
            return None;
        }
        let clock = self.clock.map_or(now, |last| last.max(now));
        self.clock = Some(clock);
        let pcr = Some(clock.rem_euclid(WRAP) as u64);
        if carrier == frame.kind {
            return pcr;
        }
        let adaptation = Adaptation { pcr, ..Adaptation::default() };
        write_adaptation(psi::pid(carrier), *self.continuity.of(carrier), adaptation, out);
        None
    }
}

/// Makes `unit` the PES packet of `frame`. False where it cannot be expressed.
fn write_pes(track: &Track, frame: &Frame, unit: &mut Vec<u8>) -> bool {
    // The header's room, known beforehand: it has two times where they differ.
    let pts = frame.pts.as_ticks(HZ) + DELAY;
    let dts = frame.dts.as_ticks(HZ) + DELAY;
    let header_len = if pts == dts { 14 } else { 19 };
    unit.clear();
    unit.resize(header_len, 0);
    match frame.kind {
        Kind::Video => access_unit::write(track, frame, unit),
        Kind::Audio | Kind::Opus => sound::write(track, frame, unit),
    }
    let len = unit.len() - header_len;
    if len == 0 || frame.kind != Kind::Video && len > MAX_SOUND_LEN {
        return false;
    }
    let mut header = Vec::with_capacity(header_len);
    pes::write_header(track.codec, pts, dts, len, &mut header);
    if let Some(room) = unit.get_mut(..header.len()) {
        room.copy_from_slice(&header);
    }
    true
}
