//! The handshake of callers (§4.3.1). Nothing is kept of a caller until its cookie proves its address.

use super::{packet, session::Session};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use srt_protocol::{
    options::{DataRate, KeySize, LiveBandwidthMode, PacketCount, PacketSize, Passphrase, Percent},
    packet::{
        ControlPacket, ControlTypes, CoreRejectReason, HandshakeControlInfo, HandshakeVsInfo, HsV5Info, Packet,
        RejectReason, ShakeType, SocketId, SrtControlPacket, TimeStamp,
    },
    protocol::pending_connection::{ConnectionResult, listen::Listen},
    settings::{ConnInitSettings, KeySettings},
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Slices of the time in which a handshake must finish: a cookie is good for that time and at most one slice more.
const SLICES: u32 = 4;
/// Packets under way, at most.
const WINDOW: u64 = 8192;
/// The least that a buffer holds, packets, as in libsrt.
const LEAST_BUFFER: u64 = 32;
/// What a packet takes in the buffers that are set in bytes, as in libsrt: a full one without its headers.
const PACKET_BYTES: u64 = 1500 - 28;
/// The least that a peer's packets must hold, bytes: seven of MPEG-TS and all headers.
const LEAST_PACKET: u64 = 1316 + 44;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Empty: nothing is encrypted, and who encrypts is refused.
    pub passphrase: String,
    pub recv_latency: Duration,
    pub peer_latency: Duration,
    pub peer_idle_timeout: Duration,
    /// From our first answer to the caller's second packet.
    pub connect_timeout: Duration,
    /// Bytes of the key that callers are told, which those take that have none of their own (libsrt's
    /// SRTO_PBKEYLEN of a listener): 16, 24 or 32. With 0 they are told none and take 16.
    pub key_size: u16,
    pub bandwidth: Bandwidth,
    /// What has not arrived in time is given up. Else what follows it waits for it, whatever the latency.
    pub too_late_drop: bool,
    /// Bytes, in packets of 1472, from 32 of them to 8192: more are never under way.
    pub send_buffer: u64,
    pub recv_buffer: u64,
}

/// How fast a session sends, retransmissions included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bandwidth {
    /// As fast as a gigabit a second.
    Unlimited,
    /// Bytes a second.
    Most(u64),
    /// A quarter more than what it is given to send.
    Measured,
}

pub struct Listener {
    secret: [u8; 32],
    since: Instant,
    settings: Settings,
}

pub enum Heard {
    /// To be sent back.
    Answer(Vec<u8>),
    /// Wants [`Listener::accept`] or [`Caller::reject`].
    Caller(Box<Caller>),
    Nothing,
}

/// One whose address is proved.
#[derive(Debug)]
pub struct Caller {
    pub from: SocketAddr,
    /// The peer's socket: its handshake may come again.
    pub socket: u32,
    pub stream_id: String,
    timestamp: TimeStamp,
    shake: HandshakeControlInfo,
    info: HsV5Info,
}

/// Why a caller is refused, with SRT's number for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("its passphrase is another one")]
    BadSecret,
    #[error("one side encrypts and the other does not")]
    Unsecure,
    #[error("its handshake is not whole")]
    Rogue,
    #[error("bad streamid: {0}")]
    BadRequest(String),
    #[error("forbidden: {0}")]
    Forbidden(String),
    #[error("too many connections, or no time for more")]
    Overload,
}

impl Rejection {
    /// As in libsrt's access control: 1000 and its reason, or 2000 and a code of HTTP's.
    fn reason(&self) -> RejectReason {
        match self {
            Self::BadSecret => CoreRejectReason::BadSecret.into(),
            Self::Unsecure => CoreRejectReason::Unsecure.into(),
            Self::Rogue => CoreRejectReason::Rogue.into(),
            Self::BadRequest(_) => srt_protocol::packet::ServerRejectReason::BadRequest.into(),
            Self::Forbidden(_) => srt_protocol::packet::ServerRejectReason::Forbidden.into(),
            Self::Overload => srt_protocol::packet::ServerRejectReason::Overload.into(),
        }
    }
}

impl Listener {
    pub fn new(now: Instant, secret: [u8; 32], settings: Settings) -> Self {
        Self { secret, since: now, settings }
    }

    /// A handshake packet.
    pub fn hear(&self, now: Instant, bytes: &[u8], from: SocketAddr) -> Heard {
        let Some(Packet::Control(ControlPacket { timestamp, control_type: ControlTypes::Handshake(shake), .. })) =
            packet::parse(bytes, from)
        else {
            return Heard::Nothing;
        };
        let slice = self.slice(now);
        match shake.shake_type {
            ShakeType::Induction => {
                let info = HandshakeVsInfo::V5(HsV5Info { key_size: self.told_key_size(), ..HsV5Info::default() });
                let syn_cookie = self.cookie(slice, from);
                Heard::Answer(answer(timestamp, shake.socket_id, HandshakeControlInfo { syn_cookie, info, ..shake }))
            }
            ShakeType::Conclusion => {
                let is_known = (0..=u64::from(SLICES))
                    .filter_map(|age| slice.checked_sub(age))
                    .any(|slice| self.cookie(slice, from) == shake.syn_cookie);
                let HandshakeVsInfo::V5(info) = shake.info.clone() else { return Heard::Nothing };
                if !is_known || shake.max_packet_size.0 < LEAST_PACKET {
                    return Heard::Nothing;
                }
                let stream_id = info.sid.clone().unwrap_or_default();
                let stream_id = stream_id.trim_end_matches('\0').to_owned();
                let socket = shake.socket_id.0;
                Heard::Caller(Box::new(Caller { from, socket, stream_id, timestamp, shake, info }))
            }
            _ => Heard::Nothing,
        }
    }

    /// Starts a session under our socket id `id`; the answer is to be sent, and again when the caller asks
    /// again.
    pub fn accept(&self, now: Instant, caller: &Caller, id: u32) -> Result<(Session, Vec<u8>), Rejection> {
        let Some(SrtControlPacket::HandshakeRequest(_)) = caller.info.ext_hs else { return Err(Rejection::Rogue) };
        let keys = self.keys(&caller.info)?;
        let key_size = keys.as_ref().map_or(KeySize::Unspecified, |keys| keys.key_size);
        let settings = self.connection_settings(id, keys);
        let mut listen = Listen::new(settings, false);
        let hear = |listen: &mut Listen, shake| {
            let packet = control(caller.timestamp, SocketId(0), shake);
            listen.handle_packet(now, Ok((packet, caller.from)))
        };
        // The crate proves addresses with a cookie of its own; ours has done that.
        let induction = HandshakeControlInfo {
            shake_type: ShakeType::Induction,
            info: HandshakeVsInfo::V5(HsV5Info::default()),
            ..caller.shake.clone()
        };
        let ConnectionResult::SendPacket((
            Packet::Control(ControlPacket { control_type: ControlTypes::Handshake(told), .. }),
            _,
        )) = hear(&mut listen, induction)
        else {
            return Err(Rejection::Rogue);
        };
        let window = caller.shake.max_flow_size.0.min(WINDOW);
        let shake = HandshakeControlInfo {
            syn_cookie: told.syn_cookie,
            max_flow_size: PacketCount(window),
            info: HandshakeVsInfo::V5(HsV5Info { key_size, ..caller.info.clone() }),
            ..caller.shake.clone()
        };
        match hear(&mut listen, shake) {
            ConnectionResult::Connected(Some((packet, _)), connection) => {
                Ok((Session::new(connection), serialize(&packet)))
            }
            ConnectionResult::Reject(_, _) => Err(Rejection::BadSecret),
            _ => Err(Rejection::Rogue),
        }
    }

    /// Both sides encrypt or neither does. The caller chooses the size of the key.
    fn keys(&self, info: &HsV5Info) -> Result<Option<KeySettings>, Rejection> {
        match (&info.ext_km, self.settings.passphrase.is_empty()) {
            (None, true) => Ok(None),
            (Some(SrtControlPacket::KeyRefreshRequest(_)), false) => {
                let passphrase = Passphrase::try_from(self.settings.passphrase.clone());
                let passphrase = passphrase.map_err(|_| Rejection::BadSecret)?;
                let key_size = key_size(info).ok_or(Rejection::Rogue)?;
                Ok(Some(KeySettings { key_size, passphrase }))
            }
            _ => Err(Rejection::Unsecure),
        }
    }

    fn connection_settings(&self, id: u32, key_settings: Option<KeySettings>) -> ConnInitSettings {
        ConnInitSettings {
            local_sockid: SocketId(id),
            key_settings,
            send_latency: self.settings.peer_latency,
            recv_latency: self.settings.recv_latency,
            peer_idle_timeout: self.settings.peer_idle_timeout,
            recv_buffer_size: packets(self.settings.recv_buffer),
            send_buffer_size: packets(self.settings.send_buffer),
            max_packet_size: PacketSize(1500),
            max_flow_size: PacketCount(WINDOW),
            too_late_packet_drop: self.settings.too_late_drop,
            bandwidth: match self.settings.bandwidth {
                Bandwidth::Unlimited => LiveBandwidthMode::Unlimited,
                Bandwidth::Most(rate) => LiveBandwidthMode::Max(DataRate(rate)),
                Bandwidth::Measured => LiveBandwidthMode::Estimated { overhead: Percent(25), expected: DataRate(0) },
            },
            ..ConnInitSettings::default()
        }
    }

    /// None where nothing is encrypted.
    fn told_key_size(&self) -> KeySize {
        let size = if self.settings.passphrase.is_empty() { 0 } else { self.settings.key_size };
        KeySize::try_from(size).unwrap_or(KeySize::Unspecified)
    }

    fn slice(&self, now: Instant) -> u64 {
        let length = (self.settings.connect_timeout / SLICES).as_nanos().max(1);
        let number = now.saturating_duration_since(self.since).as_nanos() / length;
        u64::try_from(number).unwrap_or(u64::MAX)
    }

    fn cookie(&self, slice: u64, from: SocketAddr) -> i32 {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secret) else { return 0 };
        mac.update(&slice.to_be_bytes());
        mac.update(from.to_string().as_bytes());
        let bytes = mac.finalize().into_bytes();
        i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

impl Caller {
    /// The packet that says no.
    pub fn reject(&self, why: &Rejection) -> Vec<u8> {
        let shake = HandshakeControlInfo {
            shake_type: ShakeType::Rejection(why.reason()),
            info: HandshakeVsInfo::V5(HsV5Info::default()),
            ..self.shake.clone()
        };
        answer(self.timestamp, self.shake.socket_id, shake)
    }
}

fn packets(bytes: u64) -> PacketCount {
    PacketCount((bytes / PACKET_BYTES).clamp(LEAST_BUFFER, WINDOW))
}

/// Its handshake's word for the size, which must be that of its keys; players leave it to us and say none.
fn key_size(info: &HsV5Info) -> Option<KeySize> {
    let Some(SrtControlPacket::KeyRefreshRequest(keys)) = &info.ext_km else { return None };
    // One or two keys, wrapped together with 8 bytes more (RFC 3394 §2.2.1).
    let wrapped = keys.wrapped_keys.len().checked_sub(8)?;
    let fits = |size: &KeySize| {
        let size = usize::from(size.as_raw());
        wrapped == size || wrapped == 2 * size && info.key_size.as_raw() as usize == size
    };
    let size = [KeySize::AES128, KeySize::AES192, KeySize::AES256].into_iter().find(fits)?;
    (info.key_size == KeySize::Unspecified || info.key_size == size).then_some(size)
}

fn answer(timestamp: TimeStamp, to: SocketId, shake: HandshakeControlInfo) -> Vec<u8> {
    serialize(&control(timestamp, to, shake))
}

fn control(timestamp: TimeStamp, dest_sockid: SocketId, shake: HandshakeControlInfo) -> Packet {
    Packet::Control(ControlPacket { timestamp, dest_sockid, control_type: ControlTypes::Handshake(shake) })
}

pub fn serialize(packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(packet.wire_size());
    packet.serialize(&mut bytes);
    bytes
}
