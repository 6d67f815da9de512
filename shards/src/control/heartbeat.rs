//! The heartbeat (`heartbeat`): tells who registers servers that this one is there.

use super::{Control, caller::Call, http};
use crate::{
    config::{Config, Listen},
    net::sys,
};
use glommio::timer::sleep;
use hyper::{Method, Uri};
use serde_json::{Value, json};
use std::{rc::Rc, time::Duration};
use tracing::warn;

/// To connect, and for the answer.
const TIME: Duration = Duration::from_secs(30);
/// Of the answer, which nobody looks at.
const ANSWER: usize = 64 << 10;

impl Control {
    /// For ever; the first beat comes after one interval.
    pub async fn beat(self: Rc<Self>) {
        loop {
            sleep(self.config().heartbeat.interval).await;
            let config = self.config();
            let heart = &config.heartbeat;
            if !heart.enabled {
                continue;
            }
            let call = Call {
                method: Method::POST,
                url: &without_query(&heart.url),
                body: http::as_srs(&self.pulse(&config).await),
                headers: heart.credentials.iter().map(|value| ("authorization", value.clone())).collect(),
                within: TIME,
                most: ANSWER,
                verify: heart.verify,
                keep: false,
            };
            let result = match self.caller.call(call).await {
                Ok((status, _)) if status.is_success() => "ok",
                Ok((status, _)) => {
                    warn!("heartbeat: {} answered {status}", heart.url);
                    "failed"
                }
                Err(fault) => {
                    warn!("heartbeat: {}: {fault}", heart.url);
                    "failed"
                }
            };
            metrics::counter!("shardcast_heartbeats_total", "result" => result).increment(1);
        }
    }

    /// The members that SRS sends, in its order.
    async fn pulse(&self, config: &Config) -> Value {
        let heart = &config.heartbeat;
        let mut body = json!({
            "device_id": heart.device_id,
            "ip": self.own_ip(config),
            "server": self.server_id,
            "service": self.service_id,
            "pid": std::process::id().to_string(),
        });
        if heart.summaries {
            body["summaries"] = json!({ "data": self.summaries().await });
        }
        if heart.ports {
            let spelt = |listens: &[Listen]| listens.iter().map(super::api::spelt).collect::<Vec<_>>();
            let udp = |listens: &[Listen]| listens.iter().map(|listen| format!("udp://{listen}")).collect::<Vec<_>>();
            body["rtmp"] = spelt(&config.rtmp_listen).into();
            for (name, enabled, listens) in [
                ("http", config.http_server.enabled, spelt(&config.http_server.listen)),
                ("api", config.http_api.enabled, spelt(&config.http_api.listen)),
                ("srt", config.srt_server.enabled, udp(&config.srt_server.listen)),
                ("rtc", config.rtc_server.enabled, udp(&config.rtc_server.listen)),
            ] {
                if enabled {
                    body[name] = listens.into();
                }
            }
        }
        body
    }

    /// SRS_DEVICE_IP, else the address of this machine with the number that `stats.network` says.
    fn own_ip(&self, config: &Config) -> String {
        if let Some(ip) = self.process.env.value("SRS_DEVICE_IP") {
            return ip.into();
        }
        let mut addresses = sys::interface_addresses().unwrap_or_default();
        addresses.retain(|ip| !ip.is_loopback());
        let wanted = addresses.get(config.stats.network).or(addresses.first());
        wanted.map_or("127.0.0.1".into(), ToString::to_string)
    }
}

/// SRS sends none.
fn without_query(url: &str) -> String {
    match url.parse::<Uri>() {
        Ok(parsed) if parsed.query().is_some() => url.split('?').next().unwrap_or_default().into(),
        _ => url.into(),
    }
}
