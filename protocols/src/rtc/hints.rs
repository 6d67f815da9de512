//! What an offer says beside what its answer needs.

use super::sdp::{Offer, Section};

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
    pub fn of(offer: &Offer) -> Self {
        let formats =
            || offer.media.iter().flat_map(|section| section.formats.iter().map(move |format| (section, *format)));
        let feedback =
            |wanted| formats().any(|(section, format)| section.of_payload("rtcp-fb", format).any(|it| it == wanted));
        let rtx =
            |(section, format): (&Section, &str)| section.of_payload("rtpmap", format).any(|it| it.starts_with("rtx/"));
        let two = |(section, format): (&Section, &str)| {
            ["stereo", "sprop-stereo"].iter().any(|name| section.parameter(format, name) == Some("1"))
        };
        Self {
            sets: formats()
                .filter_map(|(section, format)| Some((format.parse().ok()?, sets(section, format)?)))
                .collect(),
            stereo: formats().any(two),
            fir_only: feedback("ccm fir") && !feedback("nack pli"),
            resends_plainly: feedback("nack") && !formats().any(rtx),
        }
    }
}

fn sets(section: &Section, format: &str) -> Option<Vec<u8>> {
    let sets: Option<Vec<_>> = section.parameter(format, "sprop-parameter-sets")?.split(',').map(base64).collect();
    Some(sets?.into_iter().flat_map(|set| [&[0, 0, 0, 1], &set[..]].concat()).collect())
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

    fn hints(offer: &str) -> Hints {
        Hints::of(&Offer::parse(offer).unwrap())
    }

    #[test]
    fn reads_parameter_sets_channels_and_feedback() {
        let sets = hex("00000001 6742c00dd90141fb0110000003001000000303c0f142a480 00000001 68cb8cb2");
        assert_eq!(hints(OFFER), Hints { sets: vec![(96, sets)], stereo: true, fir_only: true, resends_plainly: true });
        let other = OFFER
            .replace("sprop-stereo=1", "stereo=0")
            .replace("aMuMsg==", "a*")
            .replace("ccm fir", "nack pli")
            .replace("SAVPF 96", "SAVPF 96 97")
            + "a=rtpmap:97 rtx/90000\r\n";
        assert_eq!(hints(&other), Hints::default());
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
        mutations(OFFER.as_bytes(), 20_000, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let _ = Offer::parse(&text).map(|offer| Hints::of(&offer));
        });
    }
}
