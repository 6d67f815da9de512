//! SRT, `srt_server`.

use crate::config::{BadValue, Listen, check::Remarks, scope::Scope};
use shardcast_protocols::srt::{
    Bandwidth,
    stream_id::{Defaults, Mode},
};
use std::time::Duration;

/// Of AES, and none, in bytes.
const KEY_SIZES: [u16; 4] = [0, 16, 24, 32];

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SrtServer {
    pub enabled: bool,
    pub listen: Vec<Listen>,
    pub peer_idle_timeout: Duration,
    pub connect_timeout: Duration,
    pub defaults: Defaults,
    /// Ours as a receiver, and the least we ask of a receiving peer.
    pub recv_latency: Duration,
    pub peer_latency: Duration,
    /// Empty: nothing is encrypted.
    pub passphrase: String,
    /// Bytes that callers are told for their keys; 0: none.
    pub key_size: u16,
    pub bandwidth: Bandwidth,
    pub too_late_drop: bool,
    /// Bytes.
    pub send_buffer: u64,
    pub recv_buffer: u64,
}

impl SrtServer {
    pub(super) fn of(scope: Scope, remarks: &mut Remarks) -> Result<Self, BadValue> {
        let number = |name| scope.number(name).map(|ms| Duration::from_millis(ms.unwrap_or_default()));
        // `latency` stands for both directions; the later of libsrt's options would win, here the longer does.
        let both = if scope.given("latency").is_some() { number("latency")? } else { Duration::ZERO };
        let passphrase = scope.word("passphrase");
        let enabled = scope.flag("enabled");
        let sound = passphrase.is_empty() || (10..=79).contains(&passphrase.len());
        if !sound {
            let words = "srt_server passphrase: 10 to 79 bytes are needed, SRT is off";
            remarks.warnings.push(words.into());
        }
        Ok(Self {
            // Open to everyone would be worse than not there.
            enabled: enabled && sound,
            listen: scope.listens("listen")?,
            peer_idle_timeout: number("peer_idle_timeout")?,
            connect_timeout: number("connect_timeout")?,
            defaults: Defaults {
                app: scope.word("default_app"),
                stream_id: scope.word("default_streamid"),
                mode: scope.one_of("default_mode", mode)?.unwrap_or(Mode::Play),
            },
            recv_latency: number("recvlatency")?.max(both),
            peer_latency: number("peerlatency")?.max(both),
            passphrase,
            key_size: scope
                .one_of("pbkeylen", |word| word.parse().ok().filter(|size| KEY_SIZES.contains(size)))?
                .unwrap_or(0),
            bandwidth: scope.one_of("maxbw", bandwidth)?.unwrap_or(Bandwidth::Unlimited),
            too_late_drop: scope.flag("tlpktdrop"),
            send_buffer: scope.number("sendbuf")?.unwrap_or_default(),
            recv_buffer: scope.number("recvbuf")?.unwrap_or_default(),
        })
    }
}

fn mode(word: &str) -> Option<Mode> {
    match word {
        "publish" => Some(Mode::Publish),
        "request" => Some(Mode::Play),
        _ => None,
    }
}

/// As libsrt's SRTO_MAXBW.
fn bandwidth(word: &str) -> Option<Bandwidth> {
    match word.parse::<i64>().ok()? {
        -1 => Some(Bandwidth::Unlimited),
        0 => Some(Bandwidth::Measured),
        rate => rate.try_into().ok().map(Bandwidth::Most),
    }
}
