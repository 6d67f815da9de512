//! Counters that wrap, made ones that do not: 16-bit sequence numbers and 32-bit timestamps.

/// Takes each value for the nearest to the one before, as RFC 3550 appendix A.1 does for sequence numbers.
#[derive(Clone, Copy, Debug)]
pub struct Unwrapper {
    bits: u32,
    last: Option<i64>,
}

impl Unwrapper {
    pub const fn sequence() -> Self {
        Self { bits: 16, last: None }
    }

    pub const fn timestamp() -> Self {
        Self { bits: 32, last: None }
    }

    /// The first value is taken as it is; later ones may lie before it, and below zero.
    pub fn place(&mut self, value: u32) -> i64 {
        let span = 1i64 << self.bits;
        let value = i64::from(value) & (span - 1);
        let placed = match self.last {
            None => value,
            Some(last) => {
                let ahead = value.wrapping_sub(last) & (span - 1);
                // 2^31 wraps of a 32-bit counter take centuries.
                last.saturating_add(if ahead < span / 2 { ahead } else { ahead - span })
            }
        };
        self.last = Some(placed);
        placed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_on_over_the_wrap_and_back() {
        let mut sequence = Unwrapper::sequence();
        let placed = [0xfffe, 0xffff, 1, 0xffff, 0, 2].map(|value| sequence.place(value));
        assert_eq!(placed, [0xfffe, 0xffff, 0x1_0001, 0xffff, 0x1_0000, 0x1_0002]);
        let mut timestamp = Unwrapper::timestamp();
        assert_eq!([10, u32::MAX, 5].map(|value| timestamp.place(value)), [10, -1, 5]);
    }
}
