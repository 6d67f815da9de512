//! The text of a media playlist (RFC 8216 §4).

use super::packager::Segment;
use std::{fmt::Write, sync::Arc};

/// A live playlist: the window alone, no end.
/// - `target`: seconds, at least each segment's length rounded up; may not change for the worse (§4.3.3.1).
/// - `discontinuities`: how many have left the window (§4.3.3.3).
pub fn write<'s>(
    target: u64,
    discontinuities: u64,
    segments: impl Iterator<Item = &'s Arc<Segment>>,
    entry: impl Fn(&Segment) -> String,
) -> String {
    let mut segments = segments.peekable();
    let first = segments.peek().map_or(0, |segment| segment.seq);
    let mut text = format!("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
    if discontinuities > 0 {
        // Writing to a String does not fail.
        let _ = writeln!(text, "#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}");
    }
    let _ = writeln!(text, "#EXT-X-TARGETDURATION:{target}");
    for segment in segments {
        if segment.discontinuity {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        let ms = segment.duration.as_ms();
        let _ = writeln!(text, "#EXTINF:{}.{:03}, no desc\n{}", ms / 1000, ms % 1000, entry(segment));
    }
    text
}
