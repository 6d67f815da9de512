//! Files of the operator's folder, of any size: sent as they are read, whole or a range of them (RFC 9110 §14).

use super::{
    body::Body,
    http::{Answer, with_type},
};
use bytes::Bytes;
use glommio::executor;
use hyper::{
    HeaderMap, StatusCode,
    body::Frame,
    header::{self, HeaderName, HeaderValue},
};
use shardcast_protocols::flv;
use std::{
    fs::{self, File},
    future::Future,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::UNIX_EPOCH,
};

/// Where the sequence headers of an FLV file are looked for; its metadata may have an index before them.
const FLV_HEAD: u64 = 1 << 20;
/// Read at a time; a client that is slow has no more of it in memory.
const CHUNK: u64 = 256 << 10;

pub struct Opened {
    file: Arc<File>,
    length: u64,
    /// Another one where the file is another one.
    tag: String,
    /// What is sent of an FLV file before it goes on at that byte.
    sought: Option<(Bytes, u64)>,
}

/// What is still to be sent of a file.
pub struct Rest {
    /// Before it.
    head: Bytes,
    file: Arc<File>,
    range: Range<u64>,
    reading: Option<Pin<Box<dyn Future<Output = io::Result<Bytes>>>>>,
}

impl Opened {
    /// Waits for the disk. `None` where there is no plain file.
    pub fn open(path: &Path) -> Option<Self> {
        // Before it is opened: that waits for ever where the path is a pipe.
        let about = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        let changed = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let tag = format!("\"{:x}-{:x}\"", about.len(), changed.as_nanos());
        Some(Self { file: Arc::new(File::open(path).ok()?), length: about.len(), tag, sought: None })
    }

    /// An FLV file from byte `start` on, behind its header and sequence headers, as SRS has it. One that is no FLV
    /// stays whole, and one that would begin among them. Waits for the disk.
    pub fn seek_flv(mut self, start: u64) -> Self {
        let mut bytes = vec![0; self.length.min(FLV_HEAD) as usize];
        let head = self.file.read_exact_at(&mut bytes, 0).ok().and_then(|()| flv::head(&bytes).ok());
        self.sought = head.filter(|head| head.end < start).map(|head| (head.bytes.into(), start));
        self
    }

    pub fn answer(self, content_type: &'static str, headers: &HeaderMap) -> Answer {
        let Self { file, length, tag, sought } = self;
        let (ranges, (head, start)) = (sought.is_none(), sought.unwrap_or_default());
        let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        // A part of another version is of no use to who has the rest.
        let is_his = header(header::IF_RANGE).is_none_or(|his| his == tag);
        let asked = header(header::RANGE).filter(|_| is_his && ranges);
        let asked = match asked {
            _ if start > length => Asked::Beyond,
            Some(range) => Asked::of(range, length),
            None => Asked::Whole,
        };
        let (status, range, of) = match asked {
            Asked::Whole => (StatusCode::OK, start..length, None),
            Asked::Part(range) => {
                let of = format!("bytes {}-{}/{length}", range.start, range.end - 1);
                (StatusCode::PARTIAL_CONTENT, range, Some(of))
            }
            Asked::Beyond => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0, Some(format!("bytes */{length}"))),
        };
        let head = if status == StatusCode::OK { head } else { Bytes::new() };
        let mut answer = with_type(content_type, Body::File(Rest { head, file, range, reading: None }));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        if ranges {
            headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        let made = [(header::ETAG, ranges.then_some(tag)), (header::CONTENT_RANGE, of)];
        for (name, value) in made.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            // Numbers and quotes are fit for a header.
            headers.extend(HeaderValue::from_str(&value).ok().map(|value| (name, value)));
        }
        answer
    }
}

impl Rest {
    pub fn left(&self) -> u64 {
        self.head.len() as u64 + self.range.end - self.range.start
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !self.head.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.head)))));
        }
        if self.range.is_empty() {
            return Poll::Ready(None);
        }
        let (file, at, count) = (&self.file, self.range.start, self.left().min(CHUNK));
        let reading = self.reading.get_or_insert_with(|| {
            let file = file.clone();
            Box::pin(executor().spawn_blocking(move || {
                let mut bytes = vec![0; count as usize];
                file.read_exact_at(&mut bytes, at).map(|()| bytes.into())
            }))
        });
        let read = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        match read {
            Ok(_) => self.range.start += count,
            // It has become shorter: what was promised cannot be sent.
            Err(_) => self.range.start = self.range.end,
        }
        Poll::Ready(Some(read.map(Frame::data)))
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Asked {
    Whole,
    Part(Range<u64>),
    /// Nothing of it is there.
    Beyond,
}

impl Asked {
    /// One range; what is none of ours, and several of them, is as if it were not there.
    fn of(range: &str, length: u64) -> Self {
        let ends = range.trim().strip_prefix("bytes=").and_then(|ends| ends.split_once('-'));
        let Some((first, last)) = ends else { return Self::Whole };
        let number = |text: &str| text.trim().parse::<u64>().ok();
        match (number(first), number(last)) {
            (None, Some(0)) if first.trim().is_empty() => Self::Beyond,
            (None, Some(count)) if first.trim().is_empty() => match length {
                0 => Self::Beyond,
                _ => Self::Part(length.saturating_sub(count)..length),
            },
            (Some(first), None) if last.trim().is_empty() => Self::from(first, length, length),
            (Some(first), Some(last)) if first <= last => Self::from(first, last.saturating_add(1), length),
            _ => Self::Whole,
        }
    }

    fn from(first: u64, end: u64, length: u64) -> Self {
        if first < length { Self::Part(first..end.min(length)) } else { Self::Beyond }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_standard() {
        for (range, wanted) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=2-4", Asked::Part(2..5)),
            ("bytes=2-", Asked::Part(2..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-30", Asked::Part(0..10)),
            ("bytes=8-99", Asked::Part(8..10)),
            ("bytes=10-", Asked::Beyond),
            ("bytes=-0", Asked::Beyond),
            ("bytes=4-2", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("bytes=x-4", Asked::Whole),
            ("items=0-1", Asked::Whole),
            ("bytes=99999999999999999999-", Asked::Whole),
        ] {
            assert_eq!(Asked::of(range, 10), wanted, "{range}");
        }
        assert_eq!(Asked::of("bytes=-3", 0), Asked::Beyond);
    }
}
