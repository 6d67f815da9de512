//! Offers answered: what publishers and players share (RFC 9725 WHIP, draft-ietf-wish-whep, RFC 8829 §5.3).
//!
//! ICE-lite, one transport for all media (BUNDLE), one H.264 and one Opus section; all else is refused in the
//! answer with port 0. The SDP is read and written here, str0m is told by its direct interface: no text of a
//! peer's reaches its parser.

use super::{
    dtls,
    hints::Hints,
    sdp::{Offer, Section},
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use str0m::{
    Candidate, IceCreds, Input, Rtc, RtcConfig, RtcError,
    config::Fingerprint,
    format::{Codec, FormatParams},
    media::{Frequency, MediaKind, Mid, Pt},
    net::{Protocol, Receive},
    rtp::{Extension, ExtensionMap, Ssrc},
};

/// Why an offer cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    #[error("the offer of {len} bytes is longer than {max}")]
    TooLong { len: usize, max: usize },
    #[error("the offer is no SDP: {0}")]
    Sdp(&'static str),
    #[error("the offer cannot be answered: {0}")]
    Refused(&'static str),
    #[error("the server's address cannot be a candidate: {0:?}")]
    Candidate(String),
    #[error("ICE credentials want 4 to 32 and 22 to 32 letters, digits, + and /")]
    Credentials,
    #[error("WebRTC: {0}")]
    Rtc(#[from] RtcError),
    #[error("DTLS: {0}")]
    Dtls(String),
}

/// What an answer says of this server.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where the peer may send to, best first; not empty. Hosts are IP addresses or names (a name is put in the
    /// answer as it is, RFC 8839 §5.1).
    pub candidates: Vec<(String, u16)>,
    /// Forced ICE credentials (ufrag, pwd), 4..=32 and 22..=32 characters; else random ones.
    pub ice: Option<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The peer sends.
    Publisher,
    /// The peer receives.
    Player,
}

/// What is agreed on.
#[derive(Debug)]
pub struct Agreed {
    pub rtc: Rtc,
    /// Our only address as str0m knows it. The socket is bound to all addresses, so it stands for each of them.
    pub local: SocketAddr,
    pub tracks: Tracks,
    pub hints: Hints,
}

#[derive(Clone, Debug, Default)]
pub struct Tracks {
    pub video: Option<Track>,
    pub audio: Option<Track>,
}

#[derive(Clone, Debug)]
pub struct Track {
    pub mid: Mid,
    pub payload_type: Pt,
    /// Payload type of retransmissions (RFC 4588).
    pub rtx: Option<Pt>,
    /// What we send with, of media and of retransmissions.
    pub ssrcs: (Ssrc, Option<Ssrc>),
}

/// How often publishers' losses are counted.
const STATS_SPAN: Duration = Duration::from_secs(2);
const MAX_OFFER_LEN: usize = 64 << 10;
/// Of both tracks, so that browsers soon know how they belong together.
const REPORT_SPAN: Duration = Duration::from_secs(1);

/// A section that will be used.
struct Accepted<'a> {
    section: &'a Section<'a>,
    kind: MediaKind,
    payload_type: &'a str,
    rtx: Option<&'a str>,
    /// As str0m names it, and as it stands in packets where the extension is agreed on.
    mid: Mid,
}

/// A header extension (RFC 8285) that will be used: its number, its URI.
type Agreement = (u8, &'static str, Extension);

const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const TRANSPORT_SEQUENCE: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// The one MediaStream of all tracks, so that browsers keep them in step (RFC 8830).
const STREAM: &str = "shardcast";

/// The session and the answer.
pub fn answer(now: Instant, text: &str, settings: &Settings, role: Role) -> Result<(Agreed, String), OfferError> {
    if text.len() > MAX_OFFER_LEN {
        return Err(OfferError::TooLong { len: text.len(), max: MAX_OFFER_LEN });
    }
    let offer = Offer::parse(text).map_err(OfferError::Sdp)?;
    let accepted = accept(&offer, role)?;
    let peer = Peer::of(&offer, &accepted)?;
    let extensions = extensions(&accepted, role);
    if shares_payload_types(&accepted) {
        return Err(OfferError::Refused("audio and video share a payload type"));
    }

    let mut rtc = configure(&accepted, &extensions, settings, role)?.build(now);
    let local = add_candidate(&mut rtc, settings)?;

    let mut tracks = Tracks::default();
    let mut api = rtc.direct_api();
    api.set_ice_controlling(false);
    api.set_remote_ice_credentials(peer.credentials);
    api.set_remote_fingerprint(peer.fingerprint);
    if extensions.iter().any(|(_, _, extension)| *extension == Extension::TransportSequenceNumber) {
        api.enable_twcc_feedback();
    }
    for accepted in &accepted {
        let mid = accepted.mid;
        api.declare_media(mid, accepted.kind);
        if role == Role::Publisher
            && let Some((ssrc, rtx)) = stated_ssrcs(accepted.section)
        {
            api.expect_stream_rx(ssrc, rtx, mid, None);
        }
        let track = Track {
            mid,
            payload_type: number(accepted.payload_type),
            rtx: accepted.rtx.map(number),
            ssrcs: (api.new_ssrc(), accepted.rtx.map(|_| api.new_ssrc())),
        };
        *tracks.slot(accepted.kind) = Some(track);
    }
    api.start_dtls(peer.passive)?;

    let answer =
        Answer { offer: &offer, accepted: &accepted, extensions: &extensions, tracks: &tracks, settings, role };
    let text = answer.write(&mut rtc, peer.passive);
    Ok((Agreed { rtc, local, tracks, hints: Hints::of(&offer) }, text))
}

fn configure(
    accepted: &[Accepted],
    extensions: &[Agreement],
    settings: &Settings,
    role: Role,
) -> Result<RtcConfig, OfferError> {
    let (crypto, certificate) = dtls::shared().map_err(OfferError::Dtls)?;
    let mut map = ExtensionMap::empty();
    for (id, _, extension) in extensions {
        map.set(*id, extension.clone());
    }
    let mut config = RtcConfig::new()
        .set_crypto_provider(crypto)
        .set_dtls_cert(certificate)
        .set_ice_lite(true)
        .set_rtp_mode(true)
        .set_stats_interval((role == Role::Publisher).then_some(STATS_SPAN))
        .clear_codecs()
        .set_extension_map(map)
        .set_rtcp_report_interval_audio(REPORT_SPAN)
        .set_rtcp_report_interval_video(REPORT_SPAN);
    if let Some((ufrag, pass)) = &settings.ice {
        let good = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
            lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b))
        };
        if !good(ufrag, 4..=32) || !good(pass, 22..=32) {
            return Err(OfferError::Credentials);
        }
        config = config.set_local_ice_credentials(IceCreds { ufrag: ufrag.clone(), pass: pass.clone() });
    }
    for accepted in accepted {
        let (codec, rate, channels) = match accepted.kind {
            MediaKind::Video => (Codec::H264, Frequency::NINETY_KHZ, None),
            MediaKind::Audio => (Codec::Opus, Frequency::FORTY_EIGHT_KHZ, Some(2)),
        };
        let (payload_type, rtx) = (number(accepted.payload_type), accepted.rtx.map(number));
        config.codec_config().add_config(payload_type, rtx, codec, rate, channels, FormatParams::default());
    }
    Ok(config)
}

/// The sections to use, in the offer's order.
fn accept<'a>(offer: &'a Offer<'a>, role: Role) -> Result<Vec<Accepted<'a>>, OfferError> {
    if offer.session.attribute("ice-lite").is_some() {
        return Err(OfferError::Refused("both sides are ICE-lite"));
    }
    let bundle = offer.bundle();
    let bundled = |section: &Section| match &bundle {
        Some(mids) => section.mid().is_some_and(|mid| mids.contains(&mid)),
        // Of one transport all the same: a peer that wants two finds only one.
        None => section.port != "0",
    };
    let (mut accepted, mut known, mut mids) = (Vec::<Accepted>::new(), false, Vec::new());
    for section in &offer.media {
        if let Some(mid) = section.mid() {
            if mids.contains(&mid) {
                return Err(OfferError::Refused("two m= lines have one mid"));
            }
            mids.push(mid);
        }
        let kind = match section.kind {
            "video" => MediaKind::Video,
            "audio" => MediaKind::Audio,
            _ => continue,
        };
        let Some(payload_type) = choose(section, kind, role) else { continue };
        known = true;
        let direction = section.direction().or_else(|| offer.session.direction());
        let (sends, receives) = direction.unwrap_or((true, true));
        let wanted = if role == Role::Publisher { sends } else { receives };
        if !wanted || !bundled(section) || accepted.iter().any(|other| other.kind == kind) {
            continue;
        }
        let rtx = section.formats.iter().copied().find(|format| {
            is_payload_type(format)
                && section.is_codec(format, "rtx/90000")
                && section.parameter(format, "apt") == Some(payload_type)
        });
        accepted.push(Accepted { section, kind, payload_type, rtx, mid: Mid::from(section.kind) });
    }
    match (accepted.is_empty(), known, role) {
        (false, ..) => {}
        (true, false, _) => return Err(OfferError::Refused("it has neither H.264 nor Opus")),
        (true, true, Role::Publisher) => return Err(OfferError::Refused("it sends nothing")),
        (true, true, Role::Player) => return Err(OfferError::Refused("it receives nothing")),
    }
    // str0m keeps 16 letters and digits of a mid. Others are kept from it, and out of packets.
    let fits = |mid: &str| (1..=16).contains(&mid.len()) && mid.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if accepted.iter().all(|accepted| accepted.section.mid().is_some_and(fits)) {
        for accepted in &mut accepted {
            accepted.mid = accepted.section.mid().unwrap_or_default().into();
        }
    }
    Ok(accepted)
}

/// The payload type to use: of H.264 (RFC 6184 §8.1) one with packetization mode 1 before one with mode 0, and for
/// players the profile that comes nearest to all streams (browsers decode any).
fn choose<'a>(section: &Section<'a>, kind: MediaKind, role: Role) -> Option<&'a str> {
    if !section.proto.ends_with("RTP/SAVPF") {
        return None;
    }
    let formats = section.formats.iter().copied().filter(|format| is_payload_type(format));
    let codec = if kind == MediaKind::Video { "H264/90000" } else { "opus/48000/2" };
    let formats = formats.filter(|format| section.is_codec(format, codec));
    let mode = |format: &str| section.parameter(format, "packetization-mode").unwrap_or("0");
    let rank = |format: &&str| {
        let profile = section.parameter(format, "profile-level-id").and_then(|id| id.get(..2)).unwrap_or("42");
        let profile = if role == Role::Publisher {
            0
        } else {
            ["64", "4d", "4D"].iter().position(|p| *p == profile).unwrap_or(3)
        };
        (mode(format) != "1", profile)
    };
    formats.filter(|format| ["0", "1"].contains(&mode(format))).min_by_key(rank)
}

fn is_payload_type(format: &str) -> bool {
    format.parse::<u8>().is_ok_and(|number| number < 128)
}

fn number(payload_type: &str) -> Pt {
    payload_type.parse::<u8>().expect("a payload type").into()
}

fn shares_payload_types(accepted: &[Accepted]) -> bool {
    let mut seen = Vec::new();
    let all = accepted.iter().flat_map(|accepted| [Some(accepted.payload_type), accepted.rtx]).flatten();
    all.map(number).any(|payload_type| {
        let again = seen.contains(&payload_type);
        seen.push(payload_type);
        again
    })
}

/// The mid (RFC 9143 §15), and of publishers the transport-wide sequence numbers that browsers choose their bit rate
/// by. A player's packets carry an extension in all sections or in none.
fn extensions(accepted: &[Accepted], role: Role) -> Vec<Agreement> {
    let mut agreed = Vec::<Agreement>::new();
    let wanted = [(MID, Extension::RtpMid), (TRANSPORT_SEQUENCE, Extension::TransportSequenceNumber)];
    for (uri, extension) in wanted {
        let ids: Vec<u8> = accepted.iter().filter_map(|accepted| extension_id(accepted.section, uri)).collect();
        let Some(&id) = ids.first().filter(|id| (1..=14).contains(*id)) else { continue };
        let same = ids.iter().all(|other| *other == id) && agreed.iter().all(|(other, ..)| *other != id);
        let good = match extension {
            Extension::RtpMid if accepted.iter().any(|a| a.section.mid() != Some(&*a.mid)) => false,
            _ if role == Role::Publisher => true,
            Extension::RtpMid => ids.len() == accepted.len(),
            _ => false,
        };
        if same && good {
            agreed.push((id, uri, extension));
        }
    }
    agreed
}

/// `a=extmap:<id>[/<direction>] <uri>` (RFC 8285 §8).
fn extension_id(section: &Section, uri: &str) -> Option<u8> {
    section.attributes("extmap").find_map(|value| {
        let mut words = value.split_ascii_whitespace();
        let id = words.next()?;
        (words.next() == Some(uri)).then(|| id.split('/').next()?.parse().ok())?
    })
}

/// The first SSRC that a publisher announces, and that of its retransmissions (RFC 5576).
fn stated_ssrcs(section: &Section) -> Option<(Ssrc, Option<Ssrc>)> {
    let parse = |text: &str| text.parse::<u32>().ok().filter(|ssrc| *ssrc != 0);
    let pairs = section.attributes("ssrc-group").filter_map(|group| {
        let mut words = group.split_ascii_whitespace();
        (words.next() == Some("FID")).then(|| Some((parse(words.next()?)?, parse(words.next()?)?)))?
    });
    let pairs: Vec<_> = pairs.collect();
    let mut ssrcs = section.attributes("ssrc").filter_map(|value| parse(value.split(' ').next()?));
    let main = ssrcs.find(|ssrc| pairs.iter().all(|(_, rtx)| rtx != ssrc))?;
    let rtx = pairs.iter().find(|(of, _)| *of == main).map(|(_, rtx)| (*rtx).into());
    Some((main.into(), rtx))
}

/// The peer's end of the one transport.
struct Peer {
    credentials: IceCreds,
    fingerprint: Fingerprint,
    /// Whether it waits for our ClientHello.
    passive: bool,
}

impl Peer {
    fn of(offer: &Offer, accepted: &[Accepted]) -> Result<Self, OfferError> {
        let sections = || accepted.iter().map(|a| a.section).chain([&offer.session]).chain(&offer.media);
        let find = |name| sections().find_map(|section| section.attribute(name)).filter(|value| !value.is_empty());
        let (Some(ufrag), Some(pass)) = (find("ice-ufrag"), find("ice-pwd")) else {
            return Err(OfferError::Refused("a=ice-ufrag or a=ice-pwd is missing"));
        };
        let fingerprints = sections().flat_map(|section| section.attributes("fingerprint"));
        let mut fingerprints: Vec<_> = fingerprints.filter_map(fingerprint).collect();
        fingerprints.sort_by_key(|fingerprint| !fingerprint.hash_func.eq_ignore_ascii_case("sha-256"));
        let Some(fingerprint) = fingerprints.into_iter().next() else {
            return Err(OfferError::Refused("it has no a=fingerprint of SHA-256 or SHA-1"));
        };
        let passive = match find("setup") {
            None | Some("actpass" | "active") => false,
            Some("passive") => true,
            Some(_) => return Err(OfferError::Refused("a=setup is not actpass, active or passive")),
        };
        Ok(Self { credentials: IceCreds { ufrag: ufrag.into(), pass: pass.into() }, fingerprint, passive })
    }
}

/// `a=fingerprint:<hash> <byte>:<byte>...` (RFC 8122 §5), where it is one of the two hashes that can be checked.
fn fingerprint(value: &str) -> Option<Fingerprint> {
    let (hash, bytes) = value.split_once(' ')?;
    let len = match hash.to_ascii_lowercase().as_str() {
        "sha-256" => 32,
        "sha-1" => 20,
        _ => return None,
    };
    let bytes = bytes.trim().split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes = bytes.collect::<Result<Vec<_>, _>>().ok().filter(|bytes| bytes.len() == len)?;
    Some(Fingerprint { hash_func: hash.into(), bytes })
}

/// Tells str0m of one address and gives it: the first IP address that may be a host candidate, else loopback.
fn add_candidate(rtc: &mut Rtc, settings: &Settings) -> Result<SocketAddr, OfferError> {
    let good = |host: &str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:_".contains(&b));
    if let Some((host, _)) = settings.candidates.iter().find(|(host, _)| !good(host)) {
        return Err(OfferError::Candidate(host.clone()));
    }
    let Some((_, port)) = settings.candidates.first() else { return Err(OfferError::Candidate(String::new())) };
    let addresses = settings.candidates.iter().filter_map(|(host, port)| Some((host.parse::<IpAddr>().ok()?, *port)));
    let mut candidates = addresses.chain([(Ipv4Addr::LOCALHOST.into(), *port)]).map(SocketAddr::from);
    let candidate = candidates.find_map(|address| Some((address, Candidate::host(address, "udp").ok()?)));
    let (local, candidate) = candidate.ok_or_else(|| OfferError::Candidate(settings.candidates[0].0.clone()))?;
    rtc.add_local_candidate(candidate);
    Ok(local)
}

struct Answer<'a> {
    offer: &'a Offer<'a>,
    accepted: &'a [Accepted<'a>],
    extensions: &'a [Agreement],
    tracks: &'a Tracks,
    settings: &'a Settings,
    role: Role,
}

impl Answer<'_> {
    fn write(&self, rtc: &mut Rtc, active: bool) -> String {
        let id = *rtc.direct_api().new_ssrc();
        let mut lines = vec!["v=0".into(), format!("o=shardcast {id} 2 IN IP4 0.0.0.0")];
        lines.extend(["s=-", "t=0 0", "a=ice-lite"].map(String::from));
        if self.offer.bundle().is_some() {
            let mids: Vec<_> = self.accepted.iter().filter_map(|accepted| accepted.section.mid()).collect();
            lines.push(format!("a=group:BUNDLE {}", mids.join(" ")));
        }
        lines.push(format!("a=msid-semantic: WMS {STREAM}"));
        for section in &self.offer.media {
            match self.accepted.iter().find(|accepted| std::ptr::eq(accepted.section, section)) {
                Some(accepted) => self.section(&mut lines, rtc, accepted, active),
                None => refuse(&mut lines, section),
            }
        }
        lines.join("\r\n") + "\r\n"
    }

    fn section(&self, lines: &mut Vec<String>, rtc: &mut Rtc, accepted: &Accepted, active: bool) {
        let Accepted { section, payload_type, rtx, .. } = accepted;
        let formats: Vec<_> = [Some(*payload_type), *rtx].into_iter().flatten().collect();
        lines.push(format!("m={} 9 {} {}", section.kind, section.proto, formats.join(" ")));
        lines.push("c=IN IP4 0.0.0.0".into());
        let credentials = rtc.direct_api().local_ice_credentials();
        lines.push(format!("a=ice-ufrag:{}", credentials.ufrag));
        lines.push(format!("a=ice-pwd:{}", credentials.pass));
        lines.push(format!("a=fingerprint:{}", rtc.direct_api().local_dtls_fingerprint()));
        lines.push(format!("a=setup:{}", if active { "active" } else { "passive" }));
        lines.extend(section.mid().map(|mid| format!("a=mid:{mid}")));
        let extensions = self.extensions.iter().filter(|(_, uri, _)| extension_id(section, uri).is_some());
        lines.extend(extensions.map(|(id, uri, _)| format!("a=extmap:{id} {uri}")));
        lines.push(if self.role == Role::Publisher { "a=recvonly".into() } else { "a=sendonly".into() });
        lines.push("a=rtcp-mux".into());
        lines.extend(section.attribute("rtcp-rsize").map(|_| "a=rtcp-rsize".into()));
        self.formats(lines, accepted);
        if let (Role::Player, Some(track)) = (self.role, self.tracks.get(accepted.kind)) {
            let cname = rtc.media(track.mid).map_or(STREAM, |media| media.cname());
            let (ssrc, repair) = track.ssrcs;
            lines.push(format!("a=msid:{STREAM} {}", section.kind));
            lines.extend(repair.map(|repair| format!("a=ssrc-group:FID {ssrc} {repair}")));
            for ssrc in [Some(ssrc), repair].into_iter().flatten() {
                lines.push(format!("a=ssrc:{ssrc} cname:{cname}"));
                lines.push(format!("a=ssrc:{ssrc} msid:{STREAM} {}", section.kind));
            }
        }
        for (i, (host, port)) in self.settings.candidates.iter().enumerate() {
            // RFC 8445 §5.1.2.1: of two host candidates the one with the higher local preference is better.
            let priority = 126 << 24 | 65_535_u32.saturating_sub(i as u32) << 8 | 255;
            lines.push(format!("a=candidate:{i} 1 udp {priority} {host} {port} typ host generation 0"));
        }
        lines.push("a=end-of-candidates".into());
    }

    /// The payload types, and the feedback that both sides know (RFC 4585 §4.2, RFC 5104 §7.1).
    fn formats(&self, lines: &mut Vec<String>, accepted: &Accepted) {
        let Accepted { section, kind, payload_type: format, rtx, .. } = accepted;
        let video = *kind == MediaKind::Video;
        lines.push(format!("a=rtpmap:{format} {}", if video { "H264/90000" } else { "opus/48000/2" }));
        let numbered = self.extensions.iter().any(|(_, uri, _)| *uri == TRANSPORT_SEQUENCE);
        for feedback in ["nack", "nack pli", "ccm fir", "transport-cc"] {
            let ours = if feedback == "transport-cc" { numbered } else { video };
            if ours && section.of_payload("rtcp-fb", format).any(|offered| offered == feedback) {
                lines.push(format!("a=rtcp-fb:{format} {feedback}"));
            }
        }
        let names = ["level-asymmetry-allowed", "packetization-mode", "profile-level-id"];
        let pairs = names.iter().filter_map(|name| Some(format!("{name}={}", section.parameter(format, name)?)));
        let parameters = if video {
            pairs.collect::<Vec<_>>().join(";")
        } else {
            section.of_payload("fmtp", format).next().unwrap_or_default().into()
        };
        if !parameters.is_empty() {
            lines.push(format!("a=fmtp:{format} {parameters}"));
        }
        if let Some(rtx) = rtx {
            lines.push(format!("a=rtpmap:{rtx} rtx/90000"));
            lines.push(format!("a=fmtp:{rtx} apt={format}"));
        }
    }
}

/// RFC 3264 §6: the same line with port 0.
fn refuse(lines: &mut Vec<String>, section: &Section) {
    let formats = if section.formats.is_empty() { "0".into() } else { section.formats.join(" ") };
    lines.push(format!("m={} 0 {} {formats}", section.kind, section.proto));
    lines.push("c=IN IP4 0.0.0.0".into());
    lines.extend(section.mid().map(|mid| format!("a=mid:{mid}")));
    lines.push("a=inactive".into());
}

impl Tracks {
    pub fn get(&self, kind: MediaKind) -> Option<&Track> {
        if kind == MediaKind::Video { self.video.as_ref() } else { self.audio.as_ref() }
    }

    fn slot(&mut self, kind: MediaKind) -> &mut Option<Track> {
        if kind == MediaKind::Video { &mut self.video } else { &mut self.audio }
    }

    /// Gives a publisher's packet to its track by its payload type, where neither the offer nor the packet says
    /// whose it is (RFC 9143 §9.2). Only the first SSRC of a track.
    pub fn bind(&self, rtc: &mut Rtc, datagram: &[u8]) {
        let Some(&[first, second, _, _, _, _, _, _, s0, s1, s2, s3]) = datagram.first_chunk() else { return };
        let ssrc = u32::from_be_bytes([s0, s1, s2, s3]);
        let mut tracks = [&self.video, &self.audio].into_iter().flatten();
        let track = tracks.find(|track| *track.payload_type == second & 0x7f).filter(|_| first >> 6 == 2 && ssrc != 0);
        let Some(Track { mid, .. }) = track else { return };
        let mut api = rtc.direct_api();
        if api.stream_rx_by_mid(*mid, None).is_none() {
            api.expect_stream_rx(ssrc.into(), None, *mid, None);
        }
    }
}

/// Whether `datagram` is a STUN request that the offer's peer made for this very session (RFC 8445 §7.3): names and
/// message integrity are right.
pub fn accepts(rtc: &Rtc, now: Instant, source: SocketAddr, local: SocketAddr, datagram: &[u8]) -> bool {
    // str0m takes anything from the address it sends to. No such address has port 0.
    let source = SocketAddr::new(source.ip(), 0);
    let receive = Receive::new(Protocol::Udp, source, local, datagram);
    datagram.starts_with(&[0, 1]) && receive.is_ok_and(|receive| rtc.accepts(&Input::Receive(now, receive)))
}

/// A datagram from `source`. What cannot be one of WebRTC is dropped, and so is DTLS that makes no sense once keys are
/// agreed on: anyone may have sent it.
pub fn receive(
    rtc: &mut Rtc,
    now: Instant,
    source: SocketAddr,
    local: SocketAddr,
    datagram: &[u8],
) -> Result<(), RtcError> {
    let Ok(receive) = Receive::new(Protocol::Udp, source, local, datagram) else { return Ok(()) };
    match rtc.handle_input(Input::Receive(now, receive)) {
        Err(RtcError::Dtls(_)) if rtc.is_connected() => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests;
