//! The text of playlists (RFC 8216 §4).

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

/// A master playlist (§4.3.4) that leads to one media playlist. Its bandwidth is not known; SRS says 1 too.
pub fn master(uri: &str) -> String {
    format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,AVERAGE-BANDWIDTH=1\n{uri}\n")
}

/// `playlist` with `query` behind the URI of each segment, whatever query that has.
pub fn with_query(playlist: &str, query: &str) -> String {
    let mut text = String::with_capacity(playlist.len() * 2);
    for line in playlist.lines() {
        text.push_str(line);
        if !line.is_empty() && !line.starts_with('#') {
            text.push(if line.contains('?') { '&' } else { '?' });
            text.push_str(query);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_alone_get_a_query() {
        let playlist = "#EXTM3U\n#EXTINF:2.000, no desc\na-0.ts\n\n#EXTINF:2.000, no desc\nhttp://cdn/a-1.ts?x=y\n";
        let wanted =
            "#EXTM3U\n#EXTINF:2.000, no desc\na-0.ts?i=1\n\n#EXTINF:2.000, no desc\nhttp://cdn/a-1.ts?x=y&i=1\n";
        assert_eq!(with_query(playlist, "i=1"), wanted);
    }
}
