//! A bounded bit reader, with the Exp-Golomb codes of H.264 and HEVC.

use std::borrow::Cow;

/// Most significant bit first.
#[derive(Clone, Debug)]
pub struct Bits<'a> {
    bytes: Cow<'a, [u8]>,
    /// Position in bits.
    at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BitsError {
    #[error("{want} bits wanted at bit {at}, {left} are left")]
    Exhausted { at: usize, want: usize, left: usize },
    #[error("Exp-Golomb code at bit {at} is longer than 32 bits")]
    CodeTooLong { at: usize },
}

impl<'a> Bits<'a> {
    /// Reads `bytes` as they are.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: Cow::Borrowed(bytes), at: 0 }
    }

    /// Reads the payload of a NAL unit, without its emulation prevention bytes.
    pub fn of_rbsp(payload: &'a [u8]) -> Self {
        Self { bytes: Cow::Owned(rbsp(payload).collect()), at: 0 }
    }

    /// The next `count` bits, at most 32.
    pub fn bits(&mut self, count: u32) -> Result<u32, BitsError> {
        let count = count.min(32) as usize;
        self.want(count)?;
        let mut value = 0u32;
        for at in self.at..self.at + count {
            let byte = self.bytes.get(at / 8).copied().unwrap_or(0);
            value = value << 1 | u32::from(byte >> (7 - at % 8) & 1);
        }
        self.at += count;
        Ok(value)
    }

    pub fn bit(&mut self) -> Result<bool, BitsError> {
        Ok(self.bits(1)? == 1)
    }

    pub fn byte(&mut self) -> Result<u8, BitsError> {
        Ok(self.bits(8)? as u8)
    }

    pub fn skip(&mut self, count: usize) -> Result<(), BitsError> {
        self.want(count)?;
        self.at += count;
        Ok(())
    }

    /// Skips to the next whole byte.
    pub fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }

    /// ue(v), ITU-T H.264 §9.1: at most 2³² − 2.
    pub fn ue(&mut self) -> Result<u32, BitsError> {
        let at = self.at;
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros >= 32 {
                return Err(BitsError::CodeTooLong { at });
            }
        }
        let rest = self.bits(zeros)?;
        // zeros ≤ 31, so the sum is at most 2³² − 2.
        Ok(((1u32 << zeros) - 1) + rest)
    }

    /// se(v), ITU-T H.264 §9.1.1.
    pub fn se(&mut self) -> Result<i32, BitsError> {
        let code = i64::from(self.ue()?);
        let magnitude = (code + 1) / 2;
        // code ≤ 2³² − 2, so the magnitude is at most 2³¹ − 1.
        Ok((if code % 2 == 1 { magnitude } else { -magnitude }) as i32)
    }

    pub fn left(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.at)
    }

    fn want(&self, want: usize) -> Result<(), BitsError> {
        let left = self.left();
        if want > left { Err(BitsError::Exhausted { at: self.at, want, left }) } else { Ok(()) }
    }
}

/// The bytes of a NAL unit's payload without the emulation prevention bytes (ITU-T H.264 §7.4.1): each
/// 03 that follows two zeros.
pub fn rbsp(payload: &[u8]) -> impl Iterator<Item = u8> {
    let mut zeros = 0;
    payload.iter().copied().filter(move |byte| {
        let prevention = zeros >= 2 && *byte == 3;
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        !prevention
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_exp_golomb_codes() {
        // 1 | 010 | 011 | 00100 | 00101, then 1 for padding
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1100_0000]);
        let codes: Vec<_> = (0..5).map(|_| bits.ue().unwrap()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4]);
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1100_0000]);
        let codes: Vec<_> = (0..5).map(|_| bits.se().unwrap()).collect();
        assert_eq!(codes, [0, 1, -1, 2, -2]);
    }

    #[test]
    fn longest_code_is_read_and_a_longer_one_refused() {
        let longest = [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(Bits::new(&longest).ue(), Ok(u32::MAX - 1));
        assert_eq!(Bits::new(&longest).se(), Ok(-i32::MAX));
        assert_eq!(Bits::new(&[0, 0, 0, 0, 0x80, 0, 0, 0, 0]).ue(), Err(BitsError::CodeTooLong { at: 0 }));
        assert!(matches!(Bits::new(&[0, 1]).ue(), Err(BitsError::Exhausted { at: 16, want: 15, left: 0 })));
    }

    #[test]
    fn removes_emulation_prevention() {
        let clean: Vec<_> = rbsp(&[1, 0, 0, 3, 1, 0, 0, 3, 0, 0, 3, 3, 0, 3]).collect();
        assert_eq!(clean, [1, 0, 0, 1, 0, 0, 0, 0, 3, 0, 3]);
    }

    #[test]
    fn reads_up_to_the_end_and_no_further() {
        let mut bits = Bits::new(&[0xa5, 0x5a, 1, 2, 3]);
        assert_eq!((bits.bits(4), bits.bits(32)), (Ok(0xa), Ok(0x55a0_1020)));
        assert_eq!(bits.bits(5), Err(BitsError::Exhausted { at: 36, want: 5, left: 4 }));
        assert_eq!(bits.bits(4), Ok(3));
        bits.align();
        assert_eq!((bits.left(), bits.bits(0)), (0, Ok(0)));
    }
}
