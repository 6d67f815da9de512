//! SDP offers (RFC 8866) as lines: what an answer needs of them, nothing judged.

/// An offer cut into its session part and its media sections (RFC 8866 §5).
pub struct Offer<'a> {
    pub session: Section<'a>,
    pub media: Vec<Section<'a>>,
}

/// One `m=` line and what follows it; no `m=` line in the session part.
#[derive(Default)]
pub struct Section<'a> {
    /// `audio`, `video`, `application`.
    pub kind: &'a str,
    pub port: &'a str,
    pub proto: &'a str,
    /// Payload types, or the subprotocol.
    pub formats: Vec<&'a str>,
    lines: Vec<&'a str>,
}

/// More of them is no offer of one publisher or player.
const MAX_SECTIONS: usize = 16;
/// There are no more payload types (RFC 3550 §5.1).
const MAX_FORMATS: usize = 128;

impl<'a> Offer<'a> {
    /// # Errors
    ///
    /// What is missing or too much.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        if lines.next() != Some("v=0") {
            return Err("it does not begin with v=0");
        }
        let (mut session, mut media) = (Section::default(), Vec::<Section>::new());
        for line in lines {
            if line.contains(char::is_control) {
                return Err("it has control characters");
            }
            if let Some(line) = line.strip_prefix("m=") {
                let mut words = line.split_ascii_whitespace();
                let (Some(kind), Some(port), Some(proto)) = (words.next(), words.next(), words.next()) else {
                    return Err("an m= line is too short");
                };
                if media.len() == MAX_SECTIONS {
                    return Err("it has more than 16 m= lines");
                }
                media.push(Section {
                    kind,
                    port,
                    proto,
                    formats: words.take(MAX_FORMATS).collect(),
                    lines: Vec::new(),
                });
            } else {
                media.last_mut().unwrap_or(&mut session).lines.push(line);
            }
        }
        Ok(Self { session, media })
    }

    /// The mids of the BUNDLE group (RFC 9143), where there is one.
    pub fn bundle(&self) -> Option<Vec<&'a str>> {
        let mut groups = self.session.attributes("group");
        groups.find_map(|group| group.strip_prefix("BUNDLE")).map(|mids| mids.split_ascii_whitespace().collect())
    }
}

impl<'a> Section<'a> {
    /// The values of all `a=<name>:` lines, in order; empty for the flag `a=<name>`.
    pub fn attributes(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter_map(move |line| {
            let rest = line.strip_prefix("a=")?.strip_prefix(name)?;
            if rest.is_empty() { Some(rest) } else { rest.strip_prefix(':').map(str::trim_start) }
        })
    }

    pub fn attribute(&self, name: &str) -> Option<&'a str> {
        self.attributes(name).next()
    }

    pub fn mid(&self) -> Option<&'a str> {
        self.attribute("mid")
    }

    /// What `a=<name>:<payload type> <value>` says about a payload type; `*` stands for all of them
    /// (RFC 4585 §4.2).
    pub fn of_payload(&self, name: &str, payload_type: &str) -> impl Iterator<Item = &'a str> {
        self.attributes(name).filter_map(move |value| {
            let (of, value) = value.split_once(' ')?;
            (of == payload_type || of == "*").then(|| value.trim())
        })
    }

    /// A parameter of `a=fmtp`.
    pub fn parameter(&self, payload_type: &str, name: &str) -> Option<&'a str> {
        let pairs = self.of_payload("fmtp", payload_type).flat_map(|values| values.split(';'));
        pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    pub fn is_codec(&self, payload_type: &str, codec: &str) -> bool {
        self.of_payload("rtpmap", payload_type).any(|map| map.eq_ignore_ascii_case(codec))
    }

    /// Whether the peer sends, whether it receives (RFC 8866 §6.7).
    pub fn direction(&self) -> Option<(bool, bool)> {
        let directions = [
            ("sendrecv", (true, true)),
            ("sendonly", (true, false)),
            ("recvonly", (false, true)),
            ("inactive", (false, false)),
        ];
        directions.into_iter().find(|(name, _)| self.attribute(name).is_some()).map(|(_, direction)| direction)
    }
}
