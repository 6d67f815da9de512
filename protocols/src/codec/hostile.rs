//! Hostile input for the tests of every parser: golden bytes cut short, flipped and overwritten. Needs nothing of this
//! crate: the tests of others include the file.

/// Numbers that look random and are the same each time (xorshift64*). The seed must not be 0.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// Cuts `bytes` into pieces, many of them short.
    pub fn pieces<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let most = [3, 40, 2000, 100_000][self.below(4)];
            let (piece, rest) = bytes.split_at((1 + self.below(most)).min(bytes.len()));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }

    /// `golden` with one to four places behind its first `valid` bytes changed, and perhaps an early end.
    pub fn mutate(&mut self, golden: &[u8], valid: usize) -> Vec<u8> {
        let mut bytes = golden.to_vec();
        for _ in 0..=self.below(4) {
            if bytes.len() <= valid {
                break;
            }
            let at = valid + self.below(bytes.len() - valid);
            match self.below(7) {
                0 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                1 => bytes.insert(at, self.below(256) as u8),
                2 if bytes.len() > valid + 1 => drop(bytes.drain(at..(at + 1 + self.below(8)).min(bytes.len()))),
                3 => bytes[at] = self.below(256) as u8,
                4 => {
                    // Some of it again.
                    let again = bytes[at..(at + 1 + self.below(32)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, again);
                }
                _ => bytes[at] ^= 1 << self.below(8),
            }
        }
        if self.below(4) == 0 && bytes.len() > valid {
            bytes.truncate(valid + self.below(bytes.len() - valid + 1));
        }
        bytes
    }
}

/// Gives `parse` every truncation of `golden`, then `rounds` seeded mutations of it. What `parse` must
/// hold to is its own to assert; a panic in it fails the test.
pub fn mutations(golden: &[u8], rounds: usize, mut parse: impl FnMut(&[u8])) {
    for len in 0..=golden.len() {
        parse(&golden[..len]);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..rounds {
        parse(&random.mutate(golden, 0));
    }
}

/// The bytes that `text` writes in hexadecimal; blanks are for the eye.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}
