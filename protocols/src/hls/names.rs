//! What playlists and segments are called, and which stream a name belongs to: SRS's path templates.

use shardcast_engine::key::StreamKey;

/// A path template such as `[app]/[stream]-[seq].ts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Vhost,
    App,
    Stream,
    /// The segment's number.
    Seq,
    /// The segment's length in milliseconds.
    Duration,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    #[error("variable [{0}] is not supported yet")]
    Variable(String),
    #[error("[{0}] is missing")]
    Missing(&'static str),
}

/// Longer paths name nothing here.
const LONGEST_PATH: usize = 1024;

impl Template {
    /// Reads a template for playlists, which names the stream.
    pub fn of_playlist(text: &str) -> Result<Self, BadTemplate> {
        let template = Self::read(text)?;
        if !template.0.contains(&Part::Stream) {
            return Err(BadTemplate::Missing("stream"));
        }
        Ok(template)
    }

    /// Reads a template for segments, which names the stream and the number.
    pub fn of_segment(text: &str) -> Result<Self, BadTemplate> {
        let template = Self::of_playlist(text)?;
        if !template.0.contains(&Part::Seq) {
            return Err(BadTemplate::Missing("seq"));
        }
        Ok(template)
    }

    fn read(text: &str) -> Result<Self, BadTemplate> {
        let mut parts = Vec::new();
        let mut rest = text.trim_start_matches("./").trim_start_matches('/');
        while let Some((before, behind)) = rest.split_once('[') {
            let (name, after) = behind.split_once(']').unwrap_or((behind, ""));
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(match name {
                "vhost" => Part::Vhost,
                "app" => Part::App,
                "stream" => Part::Stream,
                "seq" => Part::Seq,
                "duration" => Part::Duration,
                _ => return Err(BadTemplate::Variable(name.to_owned())),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    fn fill(&self, key: &StreamKey, seq: u64, duration_ms: i64) -> String {
        let mut path = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Vhost => path.push_str(key.vhost()),
                Part::App => path.push_str(key.app()),
                Part::Stream => path.push_str(key.stream()),
                Part::Seq => path.push_str(&seq.to_string()),
                Part::Duration => path.push_str(&duration_ms.to_string()),
            }
        }
        path
    }

    /// App and stream of a `path` that this template could have made for `vhost`.
    fn asked(&self, vhost: &str, path: &str) -> Option<Asked> {
        let path = path.trim_start_matches('/');
        let mut asked = Asked::default();
        (path.len() <= LONGEST_PATH && fits(&self.0, vhost, path, &mut asked)).then_some(asked)
    }
}

/// The stream that a path is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub app: String,
    pub stream: String,
}

/// True where `text` is what `parts` can make. Names take as much as they can: in `cam-1-7.ts` the stream is
/// `cam-1`. Only app and stream are of free length, so the search stays short.
fn fits(parts: &[Part], vhost: &str, text: &str, asked: &mut Asked) -> bool {
    let Some((part, parts)) = parts.split_first() else { return text.is_empty() };
    let literal = |literal: &str, asked: &mut Asked| {
        text.strip_prefix(literal).is_some_and(|rest| fits(parts, vhost, rest, asked))
    };
    match part {
        Part::Text(text) => literal(text, asked),
        Part::Vhost => literal(vhost, asked),
        Part::Seq | Part::Duration => {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            (1..=digits).rev().any(|end| text.get(end..).is_some_and(|rest| fits(parts, vhost, rest, asked)))
        }
        Part::App | Part::Stream => {
            let ends = (1..=text.len()).rev().filter(|end| text.is_char_boundary(*end));
            for end in ends {
                let (name, rest) = text.split_at(end);
                if (*part == Part::Stream && name.contains('/')) || !fits(parts, vhost, rest, asked) {
                    continue;
                }
                let slot = if *part == Part::App { &mut asked.app } else { &mut asked.stream };
                *slot = name.to_owned();
                return true;
            }
            false
        }
    }
}

/// The names of one vhost's playlists and segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub playlist: Template,
    pub segment: Template,
    /// Stands before each entry of a playlist; empty: entries are relative.
    pub entry_prefix: String,
}

impl Names {
    pub fn playlist(&self, key: &StreamKey) -> String {
        self.playlist.fill(key, 0, 0)
    }

    pub fn segment(&self, key: &StreamKey, seq: u64, duration_ms: i64) -> String {
        self.segment.fill(key, seq, duration_ms)
    }

    /// The stream whose playlist or segment `path` could be.
    pub fn asked(&self, vhost: &str, path: &str) -> Option<Asked> {
        self.playlist.asked(vhost, path).or_else(|| self.asked_segment(vhost, path))
    }

    /// The stream whose segment `path` could be.
    pub fn asked_segment(&self, vhost: &str, path: &str) -> Option<Asked> {
        self.segment.asked(vhost, path)
    }

    /// How the playlist at `playlist` refers to the segment at `segment`.
    pub fn entry(&self, playlist: &str, segment: &str) -> String {
        let folder = playlist.rfind('/').map_or("", |slash| &playlist[..=slash]);
        let entry = match segment.strip_prefix(folder) {
            Some(entry) => escape(entry),
            None => format!("/{}", escape(segment)),
        };
        match self.entry_prefix.trim_end_matches('/') {
            "" => entry,
            prefix if entry.starts_with('/') => format!("{prefix}{entry}"),
            prefix => format!("{prefix}/{}{entry}", escape(folder)),
        }
    }
}

/// Percent-encodes what may not stand in a URI's path (RFC 3986 §3.3) or would end a line of a playlist.
fn escape(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z'
            | b'a'..=b'z'
            | b'0'..=b'9'
            | b'/'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'!'
            | b'$'
            | b'&'
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b','
            | b'='
            | b'@' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardcast_engine::key::DEFAULT_VHOST;

    fn names() -> Names {
        Names {
            playlist: Template::of_playlist("[app]/[stream].m3u8").unwrap(),
            segment: Template::of_segment("[app]/[stream]-[seq].ts").unwrap(),
            entry_prefix: String::new(),
        }
    }

    fn asked(path: &str) -> Option<String> {
        names().asked("v", path).map(|asked| format!("{} {}", asked.app, asked.stream))
    }

    #[test]
    fn paths_find_their_streams() {
        assert_eq!(asked("/live/cam.m3u8").as_deref(), Some("live cam"));
        assert_eq!(asked("/live/cam-1-27.ts").as_deref(), Some("live cam-1"));
        assert_eq!(asked("/a/b/cam.m3u8").as_deref(), Some("a/b cam"));
        assert_eq!(asked("/live/cam.ts"), None);
        assert_eq!(asked("/live/cam-.ts"), None);
        assert_eq!(asked("/cam.m3u8"), None);
        assert_eq!(asked(&format!("/{}/cam.m3u8", "a/".repeat(4_000))), None);
        let vhosts = Template::of_segment("[vhost]/x/[stream]/[seq]_[duration].ts").unwrap();
        let found = vhosts.asked("v.io", "/v.io/x/cam/7_2000.ts").unwrap();
        assert_eq!((&*found.app, &*found.stream), ("", "cam"));
        assert_eq!(vhosts.asked("v.io", "/w.io/x/cam/7_2000.ts"), None);
    }

    #[test]
    fn templates_without_what_tells_segments_apart_are_refused() {
        assert_eq!(Template::of_segment("[app]/[stream].ts"), Err(BadTemplate::Missing("seq")));
        assert_eq!(Template::of_playlist("live.m3u8"), Err(BadTemplate::Missing("stream")));
        let dated = Template::of_segment("[app]/[2006]/[stream]-[seq].ts");
        assert_eq!(dated, Err(BadTemplate::Variable("2006".into())));
    }

    #[test]
    fn entries_are_relative_to_the_playlist_unless_a_prefix_is_set() {
        let key = StreamKey::new(DEFAULT_VHOST, "live", "a b");
        let names = names();
        let (playlist, segment) = (names.playlist(&key), names.segment(&key, 7, 2_000));
        assert_eq!((&*playlist, &*segment), ("live/a b.m3u8", "live/a b-7.ts"));
        assert_eq!(names.entry(&playlist, &segment), "a%20b-7.ts");
        assert_eq!(names.entry("live/x/a.m3u8", "live/a-7.ts"), "/live/a-7.ts");
        let prefixed = Names { entry_prefix: "http://cdn/".into(), ..names };
        assert_eq!(prefixed.entry(&playlist, &segment), "http://cdn/live/a%20b-7.ts");
    }
}
