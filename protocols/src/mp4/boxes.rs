//! Writing boxes (ISO 14496-12 §4.2).

/// Appends a box of type `kind` around what `write` appends.
///
/// ```text
/// | size 32 | type 32 | content |
/// ```
pub fn boxed(kind: &[u8; 4], out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(kind);
    write(out);
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// A box that has a version and 24 bits of flags (§4.2).
pub fn full(kind: &[u8; 4], version: u8, flags: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    boxed(kind, out, |out| {
        put32(out, u32::from(version) << 24 | flags & 0xff_ffff);
        write(out);
    });
}

pub fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn zeros(out: &mut Vec<u8>, count: usize) {
    out.resize(out.len() + count, 0);
}
