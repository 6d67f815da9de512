//! The receiving end of one publisher (RFC 9725, WHIP): SDP offer in, answer out; then datagrams in, media out.
//!
//! ICE-lite; H.264 and Opus.

use super::{
    hints::Hints,
    offer::{self, Agreed, OfferError, Role, Settings, Tracks},
    session::{Output, SessionError},
};
use crate::rtp::{self, Header, Packet, Receiver};
use shardcast_engine::{codec::Kind, frame::Media, time::Timestamp};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant, UNIX_EPOCH},
};
use str0m::{
    Event, Input, Rtc,
    media::{KeyframeRequestKind, MediaKind, Mid, SenderFeedback},
    rtp::{RtpPacket, Ssrc, rtcp::SenderInfo},
};

#[derive(Debug)]
pub struct Publisher {
    rtc: Rtc,
    local: SocketAddr,
    tracks: Tracks,
    hints: Hints,
    video: Source,
    audio: Source,
    /// A keyframe was asked for from outside and has not come.
    keyframe_asked: bool,
    last_asked: Option<Instant>,
    deadline: Option<Instant>,
    out: VecDeque<Output>,
}

/// What comes of one kind.
#[derive(Debug)]
struct Source {
    receiver: Receiver,
    main: Option<Main>,
    stats: Stats,
}

/// The stream that is taken, of several that there may be: simulcast, or further media of one kind.
#[derive(Debug)]
struct Main {
    ssrc: Ssrc,
    mid: Mid,
    heard: Instant,
}

/// What came of one kind so far, and what was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub received: rtp::Stats,
    /// Packets of streams beside the one that is taken.
    pub ignored: u64,
    /// Requests for lost packets, as of two seconds ago at most.
    pub nacks: u64,
    /// Requests for keyframes.
    pub keyframe_requests: u64,
}

/// Between two requests for a keyframe.
const ASK_SPAN: Duration = Duration::from_millis(500);
/// After so long without a packet another stream of the same medium takes over.
const SILENCE: Duration = Duration::from_secs(1);

impl Publisher {
    /// The session and the answer for the peer.
    pub fn answer(now: Instant, offer: &str, settings: &Settings) -> Result<(Self, String), OfferError> {
        let (Agreed { rtc, local, tracks, hints }, answer) = offer::answer(now, offer, settings, Role::Publisher)?;
        let publisher = Self {
            rtc,
            local,
            tracks,
            video: Source::new(Receiver::h264(now)),
            audio: Source::new(Receiver::opus(now, if hints.stereo { 2 } else { 1 })),
            hints,
            keyframe_asked: false,
            last_asked: None,
            deadline: Some(now),
            out: VecDeque::new(),
        };
        Ok((publisher, answer))
    }

    /// The local ICE user name fragment: what stands before the colon of a peer's STUN user name (RFC 8445
    /// §7.2.2), by which its first datagram is known.
    pub fn ufrag(&mut self) -> String {
        self.rtc.direct_api().local_ice_credentials().ufrag
    }

    /// Whether `datagram` is an authenticated STUN request of this very session, wherever it comes from.
    pub fn accepts(&self, now: Instant, source: SocketAddr, datagram: &[u8]) -> bool {
        offer::accepts(&self.rtc, now, source, self.local, datagram)
    }

    /// A datagram from `source`. What cannot be one of WebRTC is dropped.
    pub fn input(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> Result<(), SessionError> {
        self.tracks.bind(&mut self.rtc, datagram);
        offer::receive(&mut self.rtc, now, source, self.local, datagram)?;
        self.drive(now)
    }

    /// The deadline has passed.
    pub fn expire(&mut self, now: Instant) -> Result<(), SessionError> {
        self.rtc.handle_input(Input::Timeout(now))?;
        self.drive(now)
    }

    /// Says goodbye (RTCP BYE, DTLS close_notify). What `poll` gives then is the last.
    pub fn close(&mut self, now: Instant) {
        // A peer that cannot be told will find out.
        let _ = self.rtc.close().map_err(SessionError::from).and_then(|()| self.expire(now));
    }

    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When `expire` wants to be called, unless input comes first.
    pub fn deadline(&self) -> Option<Instant> {
        let receivers = [self.video.receiver.deadline(), self.audio.receiver.deadline()];
        [self.deadline, self.ask_at()].into_iter().chain(receivers).flatten().min()
    }

    /// Asks for a keyframe as soon as that may be, and again until one comes: somebody waits for it.
    pub fn ask_keyframe(&mut self, now: Instant) {
        self.keyframe_asked = true;
        self.ask(now);
    }

    pub fn stats(&self, kind: Kind) -> Stats {
        let source = match kind {
            Kind::Video => &self.video,
            Kind::Audio | Kind::Opus => &self.audio,
        };
        Stats { received: source.receiver.stats(), ..source.stats }
    }

    fn drive(&mut self, now: Instant) -> Result<(), SessionError> {
        loop {
            match self.rtc.poll_output()? {
                str0m::Output::Timeout(at) => {
                    self.deadline = Some(at);
                    break;
                }
                str0m::Output::Transmit(send) => {
                    self.out.push_back(Output::Send { to: send.destination, bytes: send.contents.into() });
                }
                str0m::Output::Event(Event::RtpPacket(packet)) => self.packet(now, packet),
                str0m::Output::Event(Event::SenderFeedback(SenderFeedback { sender_info, .. })) => {
                    self.report(&sender_info);
                }
                str0m::Output::Event(Event::MediaIngressStats(stats)) => {
                    for source in [&mut self.video, &mut self.audio] {
                        if source.main.as_ref().is_some_and(|main| main.mid == stats.mid) {
                            source.stats.nacks = stats.nacks;
                        }
                    }
                }
                str0m::Output::Event(Event::Connected) => self.out.push_back(Output::Connected),
                // One who sends media and no STUN is not gone: silence is judged by who moves the datagrams.
                str0m::Output::Event(Event::Closed) => self.out.push_back(Output::Closed),
                str0m::Output::Event(_) => {}
            }
        }
        for source in [&mut self.video, &mut self.audio] {
            source.receiver.expire(now);
            while let Some(media) = source.receiver.poll() {
                if let Media::Frame(frame) = &media {
                    self.keyframe_asked &= !frame.keyframe;
                }
                self.out.push_back(Output::Media(media));
            }
        }
        self.ask(now);
        Ok(())
    }

    fn packet(&mut self, now: Instant, packet: RtpPacket) {
        let RtpPacket { header, payload, last_sender_info, .. } = packet;
        let Some(mid) = self.rtc.direct_api().stream_rx(&header.ssrc).map(|stream| stream.mid()) else { return };
        let source = match self.rtc.media(mid).map(str0m::media::Media::kind) {
            Some(MediaKind::Video) => &mut self.video,
            Some(MediaKind::Audio) => &mut self.audio,
            None => return,
        };
        let new = match source.take(now, header.ssrc, mid) {
            Taken::Other => return,
            Taken::Main => false,
            Taken::New => true,
        };
        let first = new && source.receiver.codec().kind() == Kind::Video;
        if first {
            let sets = std::mem::take(&mut self.hints.sets);
            if let Some((_, sets)) = sets.iter().find(|(format, _)| *format == *header.payload_type) {
                source.receiver.offer(sets);
            }
        }
        let packet = Packet {
            header: Header {
                marker: header.marker,
                payload_type: *header.payload_type,
                sequence: header.sequence_number,
                timestamp: header.timestamp,
                ssrc: *header.ssrc,
            },
            payload: bytes::Bytes::copy_from_slice(&payload),
        };
        source.receiver.input(now, packet);
        // Without RFC 4588 str0m would not ask for what is lost.
        if first
            && self.hints.resends_plainly
            && let Some(stream) = self.rtc.direct_api().stream_rx(&header.ssrc)
        {
            stream.suppress_nack(false);
        }
        if let Some(info) = last_sender_info.filter(|_| new) {
            self.report(&info);
        }
    }

    /// A sender report. Pictures follow sound: players mind their times less.
    fn report(&mut self, info: &SenderInfo) {
        // Sources without a clock write zero, which is read as this.
        let Ok(ntp) = info.ntp_time.duration_since(UNIX_EPOCH) else { return };
        let Some(micros) = i64::try_from(ntp.as_micros()).ok().filter(|micros| *micros > 0) else { return };
        for source in [&mut self.video, &mut self.audio] {
            if source.main.as_ref().is_some_and(|main| main.ssrc == info.ssrc) {
                // Its lower 32 bits are those of the packet.
                let timestamp = info.rtp_time.numer() as u32;
                source.receiver.report(timestamp, Timestamp::from_ticks(micros, 1_000_000));
            }
        }
        self.video.receiver.follow(&self.audio.receiver);
    }

    fn wants_keyframe(&self) -> bool {
        self.keyframe_asked || self.video.receiver.wants_keyframe()
    }

    /// When a keyframe is to be asked for. `None` where none is wanted, or nobody can be asked yet.
    fn ask_at(&self) -> Option<Instant> {
        let main = self.video.main.as_ref().filter(|_| self.wants_keyframe())?;
        Some(self.last_asked.map_or(main.heard, |asked| asked + ASK_SPAN))
    }

    /// Asks for a keyframe where one is wanted and it is time: by PLI (RFC 4585 §6.3.1), or by FIR where the
    /// peer knows that alone.
    fn ask(&mut self, now: Instant) {
        if self.ask_at().is_none_or(|at| at > now) {
            return;
        }
        let Some(ssrc) = self.video.main.as_ref().map(|main| main.ssrc) else { return };
        let kind = if self.hints.fir_only { KeyframeRequestKind::Fir } else { KeyframeRequestKind::Pli };
        // Also where the stream is gone: another try is for later.
        self.last_asked = Some(now);
        if let Some(stream) = self.rtc.direct_api().stream_rx(&ssrc) {
            stream.request_keyframe(kind);
            self.video.stats.keyframe_requests += 1;
            self.deadline = Some(now);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// The first packet of a stream that is taken from now on.
    New,
    Main,
    Other,
}

impl Source {
    fn new(receiver: Receiver) -> Self {
        Self { receiver, main: None, stats: Stats::default() }
    }

    /// Whether a packet is one of the stream that is taken: the first that came, until it is silent.
    fn take(&mut self, now: Instant, ssrc: Ssrc, mid: Mid) -> Taken {
        if let Some(main) = &mut self.main {
            if main.ssrc == ssrc {
                main.heard = now;
                return Taken::Main;
            }
            if main.mid != mid || now.saturating_duration_since(main.heard) < SILENCE {
                self.stats.ignored += 1;
                return Taken::Other;
            }
            self.receiver.restart();
        }
        self.main = Some(Main { ssrc, mid, heard: now });
        Taken::New
    }
}

#[cfg(test)]
mod tests;
