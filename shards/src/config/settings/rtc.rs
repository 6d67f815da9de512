//! WebRTC: its ports, `rtc_server`, and what a vhost does by it, `rtc`.

use crate::config::{BadValue, Listen, check::Remarks, scope::Scope};
use std::{net::IpAddr, ops::RangeInclusive, time::Duration};

/// What SRS takes for `pli_for_rtmp`.
const PLI_SECONDS: RangeInclusive<f64> = 0.5..=30.0;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RtcServer {
    pub enabled: bool,
    /// UDP.
    pub listen: Vec<Listen>,
    /// A host; `*` or `0.0.0.0`: the addresses of this machine's interfaces.
    pub candidate: String,
    /// Interfaces are looked at for `*`.
    pub auto_detect: bool,
    /// Of the interfaces' addresses.
    pub ip_family: IpFamily,
    /// The host by which a client reached the API is a candidate,
    pub api_as_candidates: bool,
    /// the addresses of its name are,
    pub resolve_api_domain: bool,
    /// and so is the name itself.
    pub keep_api_domain: bool,
}

impl RtcServer {
    pub(super) fn of(scope: Scope) -> Result<Self, BadValue> {
        Ok(Self {
            enabled: scope.flag("enabled"),
            listen: scope.listens("listen")?,
            candidate: scope.indirect("candidate"),
            auto_detect: scope.flag("use_auto_detect_network_ip"),
            ip_family: scope.one_of("ip_family", IpFamily::of)?.unwrap_or(IpFamily::V4),
            api_as_candidates: scope.flag("api_as_candidates"),
            resolve_api_domain: scope.flag("resolve_api_domain"),
            keep_api_domain: scope.flag("keep_api_domain"),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpFamily {
    V4,
    V6,
    All,
}

impl IpFamily {
    pub(super) fn of(word: &str) -> Option<Self> {
        Some(match word {
            "ipv4" => Self::V4,
            "ipv6" => Self::V6,
            "all" => Self::All,
            _ => return None,
        })
    }

    pub fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
            Self::All => true,
        }
    }
}

/// WebRTC.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Rtc {
    pub enabled: bool,
    /// A session without STUN requests for so long is over.
    pub stun_timeout: Duration,
    /// B-frames go to players, who may show them in the wrong order.
    pub keep_bframe: bool,
    /// SEI goes to players.
    pub keep_avc_nalu_sei: bool,
    /// How often a publisher is asked for a keyframe.
    pub pli_for_rtmp: Duration,
    /// Sound becomes Opus while somebody watches by WebRTC.
    pub rtmp_to_rtc: bool,
    /// Opus becomes AAC.
    pub rtc_to_rtmp: bool,
    /// Bits per second, of the sound that is made: 8000..=320000.
    pub opus_bitrate: u32,
    pub aac_bitrate: u32,
}

impl Rtc {
    /// Sound goes both ways.
    #[cfg(test)]
    pub const TEST: Self = Self {
        enabled: true,
        stun_timeout: Duration::from_secs(30),
        keep_bframe: false,
        keep_avc_nalu_sei: true,
        pli_for_rtmp: Duration::from_secs(6),
        rtmp_to_rtc: true,
        rtc_to_rtmp: true,
        opus_bitrate: 48_000,
        aac_bitrate: 48_000,
    };

    pub(super) fn of(vhost: &str, scope: Scope, remarks: &mut Remarks) -> Result<Self, BadValue> {
        let mut pli = scope.decimal("pli_for_rtmp")?;
        if !PLI_SECONDS.contains(&pli) {
            let default = scope.default("pli_for_rtmp");
            remarks
                .warnings
                .push(format!("vhost {vhost}: pli_for_rtmp {pli}: not from 0.5 to 30 s, {default} is used"));
            pli = default.parse().unwrap_or_default();
        }
        let mut bitrate = |name| -> Result<u32, BadValue> {
            let bitrate = scope.number(name)?.unwrap_or_default();
            let used = bitrate.clamp(8_000, 320_000);
            if used != bitrate {
                remarks.warnings.push(format!("vhost {vhost}: {name} {bitrate} is out of range, {used} is used"));
            }
            Ok(used as u32)
        };
        Ok(Self {
            enabled: scope.flag("enabled"),
            stun_timeout: Duration::from_secs(scope.number("stun_timeout")?.unwrap_or_default()),
            keep_bframe: scope.flag("keep_bframe"),
            keep_avc_nalu_sei: scope.flag("keep_avc_nalu_sei"),
            pli_for_rtmp: Duration::from_secs_f64(pli),
            rtmp_to_rtc: scope.flag("rtmp_to_rtc"),
            rtc_to_rtmp: scope.flag("rtc_to_rtmp"),
            opus_bitrate: bitrate("opus_bitrate")?,
            aac_bitrate: bitrate("aac_bitrate")?,
        })
    }
}
