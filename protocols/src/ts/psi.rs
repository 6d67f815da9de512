//! Program association and program map tables (ISO 13818-1 §2.4.4): which PIDs there are.

use shardcast_engine::{
    codec::{Codec, Kind},
    prologue::Prologue,
    track::{Shape, Track},
};

pub const PAT_PID: u16 = 0;
pub const PMT_PID: u16 = 0x1000;
pub const VIDEO_PID: u16 = 0x100;
pub const AUDIO_PID: u16 = 0x101;
const PROGRAM: u16 = 1;
/// A PCR_PID that says there is none.
const NO_PID: u16 = 0x1fff;

const PAT: u8 = 0;
const PMT: u8 = 2;
/// From section_length's end to last_section_number.
const LONG_HEADER_LEN: usize = 5;
const CRC_LEN: usize = 4;
/// Longest section that these two tables may have (§2.4.4.5, §2.4.4.10).
const MAX_SECTION_LEN: usize = 1024;

/// The tracks that a transport stream carries; those of other codecs are left out.
pub fn tracks(prologue: &Prologue) -> impl Iterator<Item = &Track> {
    prologue.tracks().filter(|track| stream_type(track).is_some())
}

/// Whether it carries the prologue's track of this kind.
pub fn carries(prologue: &Prologue, kind: Kind) -> bool {
    tracks(prologue).any(|track| track.kind() == kind)
}

/// The PID that carries the clock.
pub fn pcr_kind(prologue: &Prologue) -> Kind {
    tracks(prologue).next().map_or(Kind::Video, Track::kind)
}

pub fn pid(kind: Kind) -> u16 {
    match kind {
        Kind::Video => VIDEO_PID,
        Kind::Audio | Kind::Opus => AUDIO_PID,
    }
}

/// The payload of a packet with the program association table.
pub fn pat() -> Vec<u8> {
    let mut body = PROGRAM.to_be_bytes().to_vec();
    body.extend_from_slice(&(0xe000 | PMT_PID).to_be_bytes());
    section(PAT, PROGRAM, 0, &body)
}

/// The payload of a packet with the program map table.
///
/// ```text
/// | 111 | PCR_PID 13 | 1111 | program info length 12 = 0 |
/// { stream type 8 | 111 | PID 13 | 1111 | ES info length 12 | descriptors }
/// ```
pub fn pmt(prologue: &Prologue) -> Vec<u8> {
    let pcr_pid = if tracks(prologue).next().is_some() { pid(pcr_kind(prologue)) } else { NO_PID };
    let mut body = (0xe000 | pcr_pid).to_be_bytes().to_vec();
    body.extend_from_slice(&0xf000u16.to_be_bytes());
    for track in tracks(prologue) {
        body.extend(stream_type(track));
        body.extend_from_slice(&(0xe000 | pid(track.kind())).to_be_bytes());
        let descriptors = descriptors(track);
        body.extend_from_slice(&(0xf000 | descriptors.len() as u16).to_be_bytes());
        body.extend_from_slice(&descriptors);
    }
    section(PMT, PROGRAM, (prologue.version & 31) as u8, &body)
}

/// What a stream type does not say: registrations (§2.6.8), and for Opus how many channels there are ("Carriage of
/// Opus in ISO/IEC 13818-1" §3.2).
fn descriptors(track: &Track) -> Vec<u8> {
    let registration = |name: &[u8; 4]| [&[5, 4][..], name].concat();
    match (track.codec, &track.shape) {
        (Codec::Ac3, _) => registration(b"AC-3"),
        (Codec::Eac3, _) => registration(b"EAC3"),
        (Codec::Opus, Shape::Audio(sound)) => [registration(b"Opus"), vec![0x7f, 2, 0x80, sound.channels]].concat(),
        _ => Vec::new(),
    }
}

/// ISO 13818-1 table 2-34; AC-3 as ATSC A/52 annex A.
fn stream_type(track: &Track) -> Option<u8> {
    Some(match (track.codec, &track.shape) {
        (Codec::H264, _) => 0x1b,
        (Codec::Hevc, _) => 0x24,
        (Codec::Aac, _) => 0x0f,
        // Rates below 32 kHz are those of ISO 13818-3.
        (Codec::Mp3, Shape::Audio(sound)) if (1..32_000).contains(&sound.sample_rate) => 0x04,
        (Codec::Mp3, _) => 0x03,
        (Codec::Ac3, _) => 0x81,
        (Codec::Eac3, _) => 0x87,
        // PES packets of private data.
        (Codec::Opus, _) => 0x06,
        _ => return None,
    })
}

fn codec(stream_type: u8) -> Option<Codec> {
    match stream_type {
        0x1b => Some(Codec::H264),
        0x24 => Some(Codec::Hevc),
        0x0f => Some(Codec::Aac),
        0x03 | 0x04 => Some(Codec::Mp3),
        _ => None,
    }
}

/// ```text
/// | pointer 8 = 0 | table 8 | 1011 | length 12 | id 16 | 11 | version 5 | current 1 = 1 | 0 | 0 | body | CRC 32 |
/// ```
fn section(table: u8, id: u16, version: u8, body: &[u8]) -> Vec<u8> {
    let len = (LONG_HEADER_LEN + body.len() + CRC_LEN) as u16;
    let mut section = vec![0, table];
    section.extend_from_slice(&(0xb000 | len).to_be_bytes());
    section.extend_from_slice(&id.to_be_bytes());
    section.extend_from_slice(&[0xc1 | version << 1, 0, 0]);
    section.extend_from_slice(body);
    let crc = crc(section.get(1..).unwrap_or_default());
    section.extend_from_slice(&crc.to_be_bytes());
    // The rest of the packet is stuffing, which is part of the payload (§2.4.4).
    section.resize(184, 0xff);
    section
}

/// ISO 13818-1 annex A: polynomial 0x04c11db7, nothing reflected or inverted. Zero over a whole section.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte) << 24,
            |crc, _| {
                if crc & 1 << 31 == 0 { crc << 1 } else { crc << 1 ^ 0x04c1_1db7 }
            },
        )
    })
}

/// The elementary streams of a program that are read here: the first picture and the first sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Program {
    pub video: Option<(u16, Codec)>,
    pub audio: Option<(u16, Codec)>,
}

/// Puts the sections of one PID together.
#[derive(Clone, Debug, Default)]
pub struct Sections {
    /// A section that is not whole yet.
    part: Option<Vec<u8>>,
    /// Sections whose CRC was wrong, or that did not fit.
    pub broken: u64,
}

impl Sections {
    /// Continuity was lost.
    pub fn reset(&mut self) {
        self.part = None;
    }

    /// The whole sections that a packet's payload completes.
    pub fn push(&mut self, start: bool, payload: &[u8]) -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        if !start {
            self.extend(payload, &mut whole);
            return whole;
        }
        let Some((&pointer, rest)) = payload.split_first() else { return whole };
        let Some((end, begin)) = rest.split_at_checked(pointer.into()) else {
            self.broken += 1;
            self.part = None;
            return whole;
        };
        self.extend(end, &mut whole);
        self.part = Some(Vec::new());
        self.extend(begin, &mut whole);
        whole
    }

    fn extend(&mut self, bytes: &[u8], whole: &mut Vec<Vec<u8>>) {
        let Some(mut part) = self.part.take() else { return };
        // At most what was left of one section and one packet.
        part.extend_from_slice(bytes);
        while let Some(&[table, high, low]) = part.first_chunk() {
            if table == 0xff {
                return;
            }
            let len = 3 + usize::from(u16::from_be_bytes([high & 15, low]));
            if len > MAX_SECTION_LEN {
                self.broken += 1;
                return;
            }
            if part.len() < len {
                break;
            }
            let rest = part.split_off(len);
            if crc(&part) == 0 {
                whole.push(part);
            } else {
                self.broken += 1;
            }
            part = rest;
        }
        self.part = Some(part);
    }
}

/// The PID of the first program's map, of a whole association section.
pub fn map_pid(section: &[u8]) -> Option<u16> {
    let entries = body(section, PAT)?;
    entries.chunks_exact(4).find_map(|entry| match *entry {
        [0, 0, ..] => None,
        [_, _, high, low] => Some(u16::from_be_bytes([high & 31, low])),
        _ => None,
    })
}

/// What a whole map section says.
pub fn program(section: &[u8]) -> Option<Program> {
    let (&[_, _, high, low], rest) = body(section, PMT)?.split_first_chunk()?;
    let mut rest = rest.get(usize::from(u16::from_be_bytes([high & 15, low]))..)?;
    let mut program = Program::default();
    while let Some((&[stream_type, p1, p2, i1, i2], after)) = rest.split_first_chunk() {
        let pid = u16::from_be_bytes([p1 & 31, p2]);
        let codec = codec(stream_type);
        match codec.map(Codec::kind) {
            Some(Kind::Video) => program.video = program.video.or(codec.map(|codec| (pid, codec))),
            Some(Kind::Audio | Kind::Opus) => program.audio = program.audio.or(codec.map(|codec| (pid, codec))),
            None => {}
        }
        rest = after.get(usize::from(u16::from_be_bytes([i1 & 15, i2]))..).unwrap_or_default();
    }
    Some(program)
}

/// Between the header and the CRC of a section that counts now.
fn body(section: &[u8], table: u8) -> Option<&[u8]> {
    let (&[id, _, _, _, _, version, ..], _) = section.split_first_chunk::<8>()?;
    if id != table || version & 1 == 0 {
        return None;
    }
    section.get(8..section.len().checked_sub(CRC_LEN)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::{hex, mutations};

    #[test]
    fn crc_is_that_of_ffmpeg() {
        // the PAT of ffmpeg 5.1
        let pat = hex("00b00d0001c100000001f0002ab104b2");
        assert_eq!(crc(&pat), 0);
        assert_eq!(super::pat()[1..pat.len() + 1], pat[..]);
        assert_eq!(map_pid(&pat), Some(0x1000));
    }

    #[test]
    fn sections_are_put_together_however_they_are_cut() {
        let section = &pat()[1..17];
        for cut in 1..section.len() {
            let mut sections = Sections::default();
            let mut first = vec![0];
            first.extend_from_slice(&section[..cut]);
            assert_eq!(sections.push(true, &first), Vec::<Vec<u8>>::new());
            // The rest stands before the next section's start.
            let mut second = vec![(section.len() - cut) as u8];
            second.extend_from_slice(&section[cut..]);
            second.extend_from_slice(section);
            assert_eq!(sections.push(true, &second), [section.to_vec(), section.to_vec()], "{cut}");
        }
    }

    #[test]
    fn hostile_bytes_never_panic() {
        mutations(&pat(), 20_000, |bytes| {
            let mut sections = Sections::default();
            for section in sections.push(true, bytes) {
                let _ = (map_pid(&section), program(&section));
            }
            let _ = sections.push(false, bytes);
            let _ = (map_pid(bytes), program(bytes));
        });
    }
}
