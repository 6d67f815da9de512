//! The receiving end of one publisher (RFC 9725, WHIP): SDP offer in, answer out; then datagrams in, media out.
//!
//! ICE-lite; H.264 and Opus.

use super::offer::{self, Agreed, OfferError, Role, Settings, Tracks};
use crate::rtp::{Header, Packet, Receiver};
use shardcast_engine::{codec::Kind, frame::Media};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};
use str0m::{
    Event, IceConnectionState, Input, Rtc, RtcError,
    media::{KeyframeRequestKind, MediaKind},
    rtp::RtpPacket,
};

#[derive(Debug, thiserror::Error)]
#[error("WebRTC: {0}")]
pub struct PublisherError(#[from] RtcError);

#[derive(Debug)]
pub enum Output {
    /// One datagram.
    Send { to: SocketAddr, bytes: Vec<u8> },
    /// Of publishers.
    Media(Media),
    /// A player cannot show pictures until a keyframe comes.
    KeyframeWanted,
    /// Keys are agreed on.
    Connected,
    /// The peer said goodbye or is gone.
    Closed,
}

#[derive(Debug)]
pub struct Publisher {
    rtc: Rtc,
    local: SocketAddr,
    tracks: Tracks,
    video: Receiver,
    audio: Receiver,
    video_ssrc: Option<str0m::rtp::Ssrc>,
    asked: Option<Instant>,
    deadline: Option<Instant>,
    out: VecDeque<Output>,
}

/// Between two requests for a keyframe.
const ASK_SPAN: Duration = Duration::from_millis(500);

impl Publisher {
    /// The session and the answer for the peer.
    pub fn answer(now: Instant, offer: &str, settings: &Settings) -> Result<(Self, String), OfferError> {
        let (Agreed { rtc, local, tracks }, answer) = offer::answer(now, offer, settings, Role::Publisher)?;
        let publisher = Self {
            rtc,
            local,
            tracks,
            video: Receiver::h264(now),
            audio: Receiver::opus(now, 2),
            video_ssrc: None,
            asked: None,
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
    pub fn input(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> Result<(), PublisherError> {
        self.tracks.bind(&mut self.rtc, datagram);
        offer::receive(&mut self.rtc, now, source, self.local, datagram)?;
        self.drive(now)
    }

    /// The deadline has passed.
    pub fn expire(&mut self, now: Instant) -> Result<(), PublisherError> {
        self.rtc.handle_input(Input::Timeout(now))?;
        self.drive(now)
    }

    /// Says goodbye (RTCP BYE, DTLS close_notify). What `poll` gives then is the last.
    pub fn close(&mut self, now: Instant) {
        // A peer that cannot be told will find out.
        let _ = self.rtc.close().map_err(PublisherError).and_then(|()| self.expire(now));
    }

    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When `expire` wants to be called, unless input comes first.
    pub fn deadline(&self) -> Option<Instant> {
        [self.deadline, self.video.deadline(), self.audio.deadline()].into_iter().flatten().min()
    }

    fn drive(&mut self, now: Instant) -> Result<(), PublisherError> {
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
                str0m::Output::Event(Event::Connected) => self.out.push_back(Output::Connected),
                str0m::Output::Event(
                    Event::Closed | Event::IceConnectionStateChange(IceConnectionState::Disconnected),
                ) => self.out.push_back(Output::Closed),
                str0m::Output::Event(_) => {}
            }
        }
        for receiver in [&mut self.video, &mut self.audio] {
            receiver.expire(now);
            while let Some(media) = receiver.poll() {
                self.out.push_back(Output::Media(media));
            }
        }
        self.ask(now);
        Ok(())
    }

    fn packet(&mut self, now: Instant, packet: RtpPacket) {
        let RtpPacket { header, payload, .. } = packet;
        let Some(mid) = self.rtc.direct_api().stream_rx(&header.ssrc).map(|stream| stream.mid()) else { return };
        let kind = match self.rtc.media(mid).map(str0m::media::Media::kind) {
            Some(MediaKind::Video) => Kind::Video,
            Some(MediaKind::Audio) => Kind::Audio,
            None => return,
        };
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
        match kind {
            Kind::Video => {
                self.video_ssrc = Some(header.ssrc);
                self.video.input(now, packet);
            }
            Kind::Audio => self.audio.input(now, packet),
        }
    }

    /// Asks for a keyframe (PLI, RFC 4585 §6.3.1) where pictures wait for one.
    fn ask(&mut self, now: Instant) {
        let due = self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_SPAN);
        let Some(ssrc) = self.video_ssrc.filter(|_| due && self.video.wants_keyframe()) else { return };
        if let Some(stream) = self.rtc.direct_api().stream_rx(&ssrc) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
            self.asked = Some(now);
            self.deadline = Some(now);
        }
    }
}
