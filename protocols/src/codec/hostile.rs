//! Hostile input for the tests of every parser: golden bytes cut short, flipped and overwritten.

/// Gives `parse` every truncation of `golden`, then `rounds` seeded mutations of it. What `parse` must
/// hold to is its own to assert; a panic in it fails the test.
pub fn mutations(golden: &[u8], rounds: usize, mut parse: impl FnMut(&[u8])) {
    for len in 0..=golden.len() {
        parse(&golden[..len]);
    }
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        // xorshift64
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as usize % below
    };
    for _ in 0..rounds {
        let mut bytes = golden.to_vec();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(5) {
                0 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random(5)],
                1 => bytes.insert(at, random(256) as u8),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                3 => bytes[at] = random(256) as u8,
                _ => bytes[at] ^= 1 << random(8),
            }
        }
        if random(4) == 0 {
            bytes.truncate(random(bytes.len() + 1));
        }
        parse(&bytes);
    }
}

/// The bytes that `text` writes in hexadecimal; blanks are for the eye.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}
