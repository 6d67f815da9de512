//! Our own RTMP client as a publisher, of what no tool sends: frames at any time, codecs that change.

use super::{PATIENCE, server::Server, server::local};
use shardcast_engine::{
    frame::{Frame, Media},
    prologue::Prologue,
    time::Timestamp,
    track::Track,
};
use shardcast_protocols::{
    flv::{FlvReader, TagKind, TagReader},
    rtmp::client::{Client, ClientEvent, ClientOutput},
};
use std::{
    collections::VecDeque,
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    path::Path,
};

pub struct Speaker {
    client: Client,
    socket: TcpStream,
    pub prologue: Prologue,
}

impl Speaker {
    /// The server has taken it when this returns.
    pub fn publish(server: &Server, stream: &str) -> Self {
        let client = Client::publish(&server.rtmp(stream), [7; 32]).expect("an RTMP URL");
        let socket = TcpStream::connect(local(server.ports.rtmp)).expect("connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let mut speaker = Self { client, socket, prologue: Prologue::default() };
        let mut buffer = [0; 4096];
        while !speaker.say() {
            let count = speaker.socket.read(&mut buffer).expect("an answer");
            assert!(count > 0, "the server refuses");
            speaker.client.input(&buffer[..count]).expect("the server is content");
        }
        speaker
    }

    pub fn track(&mut self, track: Track, at: Timestamp) {
        self.client.track(&track, at);
        self.prologue = self.prologue.with_own(track).unwrap_or(self.prologue.clone());
    }

    pub fn frame(&mut self, frame: &Frame) {
        self.client.frame(&self.prologue, frame);
        self.say();
    }

    /// Publishes all of an FLV file, `from` later than it says.
    pub fn file(&mut self, file: &Path, from: Timestamp) {
        for media in media(file) {
            match media {
                Media::Track(track) => self.track(track, from),
                Media::Frame(frame) => {
                    self.frame(&Frame { dts: frame.dts + from, pts: frame.pts + from, ..frame });
                }
                Media::Other(_) | Media::Metadata(_) | Media::Colour(_) => {}
            }
        }
    }

    /// Leaves when the server has read all.
    pub fn finish(mut self) {
        self.client.stop();
        self.say();
        self.socket.shutdown(Shutdown::Write).expect("a good end");
        while self.socket.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
    }

    /// True once the server has said that it is ready.
    fn say(&mut self) -> bool {
        let mut ready = false;
        while let Some(output) = self.client.poll() {
            match output {
                ClientOutput::Send(bytes) => self.socket.write_all(&bytes).expect("send"),
                ClientOutput::Event(event) => ready |= event == ClientEvent::Ready,
            }
        }
        ready
    }
}

/// What an FLV file has.
pub fn media(file: &Path) -> VecDeque<Media> {
    let mut reader = FlvReader::new(1 << 24);
    reader.push(&fs::read(file).expect("a file"));
    let (mut tags, mut media) = (TagReader::default(), VecDeque::new());
    while let Some(tag) = reader.next().expect("a tag") {
        let dts = Timestamp::from_ms(tag.timestamp_ms.into());
        match tag.kind {
            TagKind::Audio => tags.audio(dts, tag.body, &mut media).expect("sound"),
            TagKind::Video => tags.video(dts, tag.body, &mut media).expect("pictures"),
            TagKind::Script => tags.script(&tag.body, &mut media).expect("metadata"),
        }
    }
    media
}
