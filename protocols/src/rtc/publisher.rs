//! The receiving end of one publisher (RFC 9725, WHIP): SDP offer in, answer out; then datagrams in, media out.
//!
//! ICE-lite with one host candidate; H.264 and Opus.

use crate::rtp::{Header, Packet, Receiver};
use shardcast_engine::frame::Media;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use str0m::{
    Candidate, Event, IceConnectionState, Input, Rtc, RtcConfig, RtcError,
    change::SdpOffer,
    media::{KeyframeRequestKind, MediaKind},
    net::{Protocol, Receive},
    rtp::RtpPacket,
};

/// Why an offer cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    #[error("the offer of {len} bytes is longer than {max}")]
    TooLong { len: usize, max: usize },
    #[error("the offer is no SDP: {0}")]
    Sdp(String),
    #[error("the offer cannot be answered: {0}")]
    Refused(String),
    #[error("the server's address cannot be a candidate: {0}")]
    Candidate(String),
}

#[derive(Debug, thiserror::Error)]
#[error("WebRTC: {0}")]
pub struct PublisherError(#[from] RtcError);

#[derive(Debug)]
pub enum Output {
    /// One datagram.
    Send {
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    Media(Media),
    /// Keys are agreed on.
    Connected,
    /// The peer said goodbye or is gone.
    Closed,
}

#[derive(Debug)]
pub struct Publisher {
    rtc: Rtc,
    local: SocketAddr,
    video: Receiver,
    audio: Receiver,
    video_ssrc: Option<str0m::rtp::Ssrc>,
    asked: Option<Instant>,
    deadline: Option<Instant>,
    out: VecDeque<Output>,
}

const MAX_OFFER_LEN: usize = 64 << 10;
/// Between two requests for a keyframe.
const ASK_SPAN: Duration = Duration::from_millis(500);

impl Publisher {
    /// The session and the answer for the peer. `local` is the address that the peer is to send to.
    pub fn answer(now: Instant, offer: &str, local: SocketAddr) -> Result<(Self, String), OfferError> {
        if offer.len() > MAX_OFFER_LEN {
            return Err(OfferError::TooLong { len: offer.len(), max: MAX_OFFER_LEN });
        }
        let offer = SdpOffer::from_sdp_string(offer).map_err(|error| OfferError::Sdp(error.to_string()))?;
        let mut rtc = RtcConfig::new()
            .set_crypto_provider(Arc::new(str0m::crypto::from_feature_flags()))
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_h264(true)
            .enable_opus(true, false)
            .build(now);
        let candidate = Candidate::host(local, "udp").map_err(|error| OfferError::Candidate(error.to_string()))?;
        rtc.add_local_candidate(candidate);
        let answer = rtc.sdp_api().accept_offer(offer).map_err(|error| OfferError::Refused(error.to_string()))?;
        let publisher = Self {
            rtc,
            local,
            video: Receiver::h264(now),
            audio: Receiver::opus(now, 2),
            video_ssrc: None,
            asked: None,
            deadline: Some(now),
            out: VecDeque::new(),
        };
        Ok((publisher, answer.to_sdp_string()))
    }

    /// The local ICE user name fragment: what stands before the colon of a peer's STUN user name (RFC 8445
    /// §7.2.2), by which its first datagram is known.
    pub fn ufrag(&mut self) -> String {
        self.rtc.direct_api().local_ice_credentials().ufrag
    }

    /// A datagram from `source`. What cannot be one of WebRTC is dropped.
    pub fn input(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> Result<(), PublisherError> {
        if let Ok(receive) = Receive::new(Protocol::Udp, source, self.local, datagram) {
            self.rtc.handle_input(Input::Receive(now, receive))?;
        }
        self.drive(now)
    }

    /// The deadline has passed.
    pub fn expire(&mut self, now: Instant) -> Result<(), PublisherError> {
        self.rtc.handle_input(Input::Timeout(now))?;
        self.drive(now)
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
                    self.out.push_back(Output::Send { to: send.destination, bytes: send.contents.to_vec() });
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
        let Some(kind) = self.rtc.media(mid).map(str0m::media::Media::kind) else { return };
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
            MediaKind::Video => {
                self.video_ssrc = Some(header.ssrc);
                self.video.input(now, packet);
            }
            MediaKind::Audio => self.audio.input(now, packet),
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
