//! The sending end of one player (WHEP, draft-ietf-wish-whep): SDP offer in, answer out; then payloads in, datagrams
//! out.
//!
//! ICE-lite; H.264 and Opus. Lost packets are sent again where the peer offers RTX (RFC 4588): str0m resends in no
//! other way.

use super::{
    offer::{self, Agreed, OfferError, Role, Settings, Track},
    session::{Output, SessionError},
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};
use str0m::{Event, Input, Rtc, rtp::RtpWrite};

#[derive(Debug)]
pub struct Player {
    rtc: Rtc,
    local: SocketAddr,
    video: Option<Sender>,
    audio: Option<Sender>,
    clock: Clock,
    connected: bool,
    deadline: Option<Instant>,
    out: VecDeque<Output>,
}

#[derive(Debug)]
struct Sender {
    track: Track,
    /// Of the next packet, with its roll-overs (RFC 3711 §3.3.1).
    sequence: u64,
    /// Whether str0m knows the stream: not before the first packet, as a sender report without one pairs a wrong
    /// time.
    declared: bool,
}

/// Which wall clock times the media times stand for (RFC 3550 §6.4.1). Both tracks are of one timeline, so one pair
/// serves them: sender reports keep them in step, however unevenly packets come.
#[derive(Debug, Default)]
struct Clock {
    /// The media time that came with the least delay, in 1/720 000 s (the common multiple of both clocks) modulo 2^32.
    anchor: Option<(Instant, u32)>,
}

/// Packets kept for retransmission, and for how long.
const KEPT: usize = 512;
const KEPT_SPAN: Duration = Duration::from_secs(2);
/// Largest share of bytes sent again; beyond it the peer asks for too much.
const MAX_RESENT: f32 = 0.5;
/// Longer payloads are dropped: they fit no packet of str0m's. Opus has them beyond 500 kbit/s.
const MAX_LEN: usize = 1400;
const CLOCK_RATE: u64 = 720_000;
/// Of a media time behind the best one; more is another timeline.
const MAX_DELAY: u32 = 10 * CLOCK_RATE as u32;

impl Player {
    /// The session and the answer for the peer.
    pub fn answer(now: Instant, offer: &str, settings: &Settings) -> Result<(Self, String), OfferError> {
        let (Agreed { rtc, local, tracks, .. }, answer) = offer::answer(now, offer, settings, Role::Player)?;
        let player = Self {
            rtc,
            local,
            video: tracks.video.map(Sender::new),
            audio: tracks.audio.map(Sender::new),
            clock: Clock::default(),
            connected: false,
            deadline: Some(now),
            out: VecDeque::new(),
        };
        Ok((player, answer))
    }

    /// The local ICE user name fragment, as [`super::Publisher::ufrag`].
    pub fn ufrag(&mut self) -> String {
        self.rtc.direct_api().local_ice_credentials().ufrag
    }

    /// Whether `datagram` is an authenticated STUN request of this very session, wherever it comes from.
    pub fn accepts(&self, now: Instant, source: SocketAddr, datagram: &[u8]) -> bool {
        offer::accepts(&self.rtc, now, source, self.local, datagram)
    }

    /// A datagram from `source`. What cannot be one of WebRTC is dropped.
    pub fn input(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> Result<(), SessionError> {
        offer::receive(&mut self.rtc, now, source, self.local, datagram)?;
        self.drain()
    }

    /// The deadline has passed.
    pub fn expire(&mut self, now: Instant) -> Result<(), SessionError> {
        self.drive(now)
    }

    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When `expire` wants to be called, unless input comes first.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// One picture as H.264 payloads; `time` in 1/90 000 s. Dropped before [`Output::Connected`]. Goes out with
    /// [`Player::drive`].
    pub fn video(&mut self, now: Instant, time: u32, payloads: &[Bytes]) {
        let Some(sender) = self.video.as_mut().filter(|_| self.connected) else { return };
        let wallclock = self.clock.wallclock(now, time.wrapping_mul(8));
        for (n, payload) in payloads.iter().enumerate() {
            sender.write(&mut self.rtc, time, wallclock, payload, n + 1 == payloads.len());
        }
        self.deadline = Some(now);
    }

    /// One Opus packet; `time` in 1/48 000 s, of the same zero as that of pictures. As [`Player::video`].
    pub fn audio(&mut self, now: Instant, time: u32, payload: &Bytes) {
        let Some(sender) = self.audio.as_mut().filter(|_| self.connected) else { return };
        let wallclock = self.clock.wallclock(now, time.wrapping_mul(15));
        sender.write(&mut self.rtc, time, wallclock, payload, false);
        self.deadline = Some(now);
    }

    /// Makes datagrams of what was written since the last call.
    pub fn drive(&mut self, now: Instant) -> Result<(), SessionError> {
        self.rtc.handle_input(Input::Timeout(now))?;
        self.drain()
    }

    /// Says goodbye (RTCP BYE, DTLS close_notify). What `poll` gives then is the last.
    pub fn close(&mut self, now: Instant) {
        self.connected = false;
        // A peer that cannot be told will find out.
        let _ = self.rtc.close().map_err(SessionError::from).and_then(|()| self.drive(now));
    }

    fn drain(&mut self) -> Result<(), SessionError> {
        loop {
            match self.rtc.poll_output()? {
                str0m::Output::Timeout(at) => {
                    self.deadline = Some(at);
                    break;
                }
                str0m::Output::Transmit(send) => {
                    self.out.push_back(Output::Send { to: send.destination, bytes: send.contents.into() });
                }
                str0m::Output::Event(event) => self.event(event),
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Connected => {
                self.connected = true;
                self.out.push_back(Output::Connected);
            }
            Event::KeyframeRequest(_) => self.out.push_back(Output::KeyframeWanted),
            Event::Closed => {
                self.connected = false;
                self.out.push_back(Output::Closed);
            }
            // Silence is judged by who moves the datagrams.
            _ => {}
        }
    }
}

impl Sender {
    fn new(track: Track) -> Self {
        // The first number is not to be near a roll-over (RFC 3711 §3.3.1); the SSRC serves as chance.
        let sequence = u64::from(*track.ssrcs.0 & 0x7fff);
        Self { track, sequence, declared: false }
    }

    fn write(&mut self, rtc: &mut Rtc, time: u32, wallclock: Instant, payload: &[u8], marker: bool) {
        if payload.len() > MAX_LEN {
            return;
        }
        let Track { mid, payload_type, rtx, ssrcs: (ssrc, repair) } = self.track;
        let mut api = rtc.direct_api();
        if !self.declared {
            self.declared = true;
            api.declare_stream_tx(ssrc, repair, mid, None).set_rtx_cache(KEPT, KEPT_SPAN, Some(MAX_RESENT));
        }
        let Some(stream) = api.stream_tx(&ssrc) else { return };
        let packet = RtpWrite::new(payload_type, self.sequence.into(), time, wallclock, payload);
        stream.write_rtp(packet.marker(marker).nackable(rtx.is_some()));
        self.sequence += 1;
    }
}

impl Clock {
    /// The wall clock time of a media time written now; not after now.
    fn wallclock(&mut self, now: Instant, time: u32) -> Instant {
        let expected = self.anchor.map(|(at, media)| {
            let elapsed = now.saturating_duration_since(at).as_micros() * u128::from(CLOCK_RATE) / 1_000_000;
            media.wrapping_add(elapsed as u32)
        });
        let delay = expected.map(|expected| expected.wrapping_sub(time)).filter(|delay| *delay < MAX_DELAY);
        let Some(delay) = delay else {
            self.anchor = Some((now, time));
            return now;
        };
        let delay = Duration::from_micros(u64::from(delay) * 1_000_000 / CLOCK_RATE);
        now.checked_sub(delay).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests;
