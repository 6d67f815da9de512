//! Reading what the server sends as FLV (Adobe FLV 10.1 annex E), apart from the server's own code.

/// One tag of sound, picture or script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tag {
    pub kind: u8,
    pub time_ms: u32,
    pub body: Vec<u8>,
}

pub const AUDIO: u8 = 8;
pub const VIDEO: u8 = 9;

impl Tag {
    /// A frame of picture or sound.
    pub fn is_frame(&self) -> bool {
        matches!(self.kind, AUDIO | VIDEO) && self.body.get(1) == Some(&1)
    }

    pub fn is_keyframe(&self) -> bool {
        self.kind == VIDEO && self.is_frame() && self.body[0] >> 4 == 1
    }
}

/// An FLV file of `tags`.
pub fn file(tags: &[Tag]) -> Vec<u8> {
    let mut file = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
    for tag in tags {
        let size = tag.body.len() as u32;
        let [high, a, b, c] = tag.time_ms.to_be_bytes();
        file.push(tag.kind);
        file.extend_from_slice(&size.to_be_bytes()[1..]);
        file.extend_from_slice(&[a, b, c, high, 0, 0, 0]);
        file.extend_from_slice(&tag.body);
        file.extend_from_slice(&(size + 11).to_be_bytes());
    }
    file
}

/// The whole tags of an FLV, and how many bytes the FLV is up to the end of the last one.
pub fn tags(bytes: &[u8]) -> (Vec<Tag>, usize) {
    tags_from(bytes, 0)
}

/// The whole tags of an FLV from byte `at`, where an earlier call stopped.
pub fn tags_from(bytes: &[u8], mut at: usize) -> (Vec<Tag>, usize) {
    const HEAD: usize = 9 + 4;
    let mut tags = Vec::new();
    if at == 0 {
        if bytes.len() < HEAD {
            return (tags, 0);
        }
        assert_eq!(&bytes[..3], b"FLV");
        at = HEAD;
    }
    // TagType, DataSize (3 bytes), Timestamp (3), TimestampExtended, StreamID (3), body, PreviousTagSize (4).
    while let Some(head) = bytes.get(at..at + 11) {
        let size = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        let end = at + 11 + size;
        let Some(previous) = bytes.get(end..end + 4) else { break };
        assert_eq!(previous, (size as u32 + 11).to_be_bytes(), "PreviousTagSize at byte {end}");
        assert_eq!(&head[8..], [0, 0, 0], "StreamID at byte {at}");
        tags.push(Tag {
            kind: head[0],
            time_ms: u32::from_be_bytes([head[7], head[4], head[5], head[6]]),
            body: bytes[at + 11..end].to_vec(),
        });
        at = end + 4;
    }
    (tags, at)
}

/// Fails unless the pictures of `frames` are those of a file that is sent over and over, each after the
/// one before.
pub fn assert_every_picture(frames: &[Tag], file: &std::path::Path) {
    let source = self::frames(file);
    let source: Vec<_> = source.iter().filter(|frame| frame.kind == VIDEO).map(|frame| &frame.body).collect();
    let got: Vec<_> = frames.iter().filter(|frame| frame.kind == VIDEO).map(|frame| &frame.body).collect();
    let first = source.iter().position(|body| *body == got[0]).expect("a picture of the source");
    let same = got.iter().zip(source.iter().cycle().skip(first)).take_while(|(got, sent)| got == sent).count();
    assert_eq!(same, got.len(), "the first picture that does not follow the one before, from {first}");
}

/// The frames of a file.
pub fn frames(file: &std::path::Path) -> Vec<Tag> {
    let bytes = std::fs::read(file).expect("read media");
    tags(&bytes).0.into_iter().filter(Tag::is_frame).collect()
}
