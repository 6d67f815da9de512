//! What an offer says beside what str0m reads of it.

/// All of it is advice: what is missing or broken is as if it was not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Parameter sets of H.264 (RFC 6184 §8.2.1, sprop-parameter-sets) as a byte stream, by payload type.
    pub sets: Vec<(u8, Vec<u8>)>,
    /// Sound of two channels (RFC 7587 §6.1: stereo, sprop-stereo).
    pub stereo: bool,
    /// Keyframes are made on full intra requests alone (RFC 5104 §4.3.1), not on picture loss indications.
    pub fir_only: bool,
    /// Lost packets come again (RFC 4585 §6.2.1), but not on a stream of their own (RFC 4588).
    pub resends_plainly: bool,
}

impl Hints {
    pub fn read(offer: &str) -> Self {
        let mut hints = Self::default();
        let (mut pli, mut fir, mut nack, mut rtx) = (false, false, false, false);
        for line in offer.lines().filter_map(|line| line.strip_prefix("a=")) {
            let Some((name, (format, value))) =
                line.split_once(':').and_then(|(name, rest)| Some((name, rest.split_once(' ')?)))
            else {
                continue;
            };
            match (name, value.trim()) {
                ("rtcp-fb", "nack pli") => pli = true,
                ("rtcp-fb", "ccm fir") => fir = true,
                ("rtcp-fb", "nack") => nack = true,
                ("rtpmap", codec) => rtx |= codec.starts_with("rtx/"),
                ("fmtp", parameters) => hints.parameters(format, parameters),
                _ => {}
            }
        }
        (hints.fir_only, hints.resends_plainly) = (fir && !pli, nack && !rtx);
        hints
    }

    fn parameters(&mut self, format: &str, parameters: &str) {
        for (name, value) in parameters.split(';').filter_map(|parameter| parameter.trim().split_once('=')) {
            match (name, format.parse()) {
                ("stereo" | "sprop-stereo", _) => self.stereo |= value == "1",
                ("sprop-parameter-sets", Ok(payload_type)) => {
                    let sets: Option<Vec<_>> = value.split(',').map(base64).collect();
                    let stream = |set: Vec<u8>| [&[0, 0, 0, 1], &set[..]].concat();
                    self.sets.extend(sets.map(|sets| (payload_type, sets.into_iter().flat_map(stream).collect())));
                }
                _ => {}
            }
        }
    }
}

/// RFC 4648 §4, with or without its padding. `None` where that is broken.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(text.len()), 0u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, held) = (bits << 6 | u32::from(value), held + 6);
        if held >= 8 {
            held -= 8;
            // The bits above were taken before.
            bytes.push((bits >> held) as u8);
        }
    }
    // What is left of the last digit is no byte.
    (held < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hostile::{hex, mutations};

    /// The lines of video are what ffmpeg 5.1 writes of x264 at 320x240.
    const OFFER: &str = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\n\
        a=fmtp:111 minptime=10; sprop-stereo=1\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 H264/90000\r\n\
        a=rtcp-fb:96 nack\r\na=rtcp-fb:96 ccm fir\r\n\
        a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LADdkBQfsBEAAAAwAQAAADA8DxQqSA,aMuMsg==; \
        profile-level-id=42C00D\r\n";

    #[test]
    fn reads_parameter_sets_channels_and_feedback() {
        let sets = hex("00000001 6742c00dd90141fb0110000003001000000303c0f142a480 00000001 68cb8cb2");
        let hints = Hints::read(OFFER);
        assert_eq!(hints, Hints { sets: vec![(96, sets)], stereo: true, fir_only: true, resends_plainly: true });
        let other = OFFER
            .replace("sprop-stereo=1", "stereo=0")
            .replace("aMuMsg==", "a*")
            .replace("ccm fir", "nack pli")
            .replace("m=video", "a=rtpmap:97 rtx/90000\r\nm=video");
        assert_eq!(Hints::read(&other), Hints::default());
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")] {
            assert_eq!(base64(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!([base64("Z"), base64("Zm9vY"), base64("Z=m8")], [None, None, None]);
    }

    #[test]
    fn hostile_offers_do_not_panic() {
        mutations(OFFER.as_bytes(), 20_000, |bytes| drop(Hints::read(&String::from_utf8_lossy(bytes))));
    }
}
