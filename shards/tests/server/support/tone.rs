//! Listening: which tone is in a sound.

/// Share of a sound's energy (0 to 1) that lies at `hz`: the Goertzel algorithm over windows of 0.1 s.
pub fn share(samples: &[i16], sample_rate: u32, hz: f64) -> f64 {
    let window = sample_rate as usize / 10;
    let (mut at_tone, mut total) = (0.0, 0.0);
    for window in samples.chunks_exact(window) {
        let count = window.len() as f64;
        let coefficient = 2.0 * (std::f64::consts::TAU * hz / f64::from(sample_rate)).cos();
        let (mut last, mut before) = (0.0, 0.0);
        for sample in window {
            let next = f64::from(*sample) + coefficient * last - before;
            (before, last) = (last, next);
            total += f64::from(*sample).powi(2);
        }
        let power = last * last + before * before - coefficient * last * before;
        // A pure tone's |X|² is (count·A/2)², its energy count·A²/2.
        at_tone += 2.0 * power / count;
    }
    if total == 0.0 { 0.0 } else { at_tone / total }
}
