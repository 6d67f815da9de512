//! `/api/v1/raw`: the part of SRS's that is left of it, and the reload of the configuration.

use crate::{
    config::{HttpApi, Listen},
    control::Control,
};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};

/// SRS's error numbers: no such call, and one that the configuration does not allow.
const CONFIG_RAW: u64 = 1060;
const CONFIG_RAW_DISABLED: u64 = 1061;

/// Without the envelope of other answers.
pub fn raw(control: &Control, rpc: &str) -> Value {
    let config = control.config();
    let HttpApi { enabled, listen, crossdomain, raw_api: raw, .. } = &config.http_api;
    if rpc == "raw" {
        return json!({
            "code": 0,
            "http_api": {
                "enabled": enabled,
                "listen": listen.iter().map(spelt).collect::<Vec<_>>().join(" "),
                "crossdomain": crossdomain,
                "raw_api": {
                    "enabled": raw.enabled,
                    "allow_reload": raw.allow_reload,
                    "allow_query": false,
                    "allow_update": false,
                },
            },
        });
    }
    if !raw.enabled {
        return json!({ "code": CONFIG_RAW_DISABLED });
    }
    match rpc {
        "reload" if !raw.allow_reload => json!({ "code": CONFIG_RAW_DISABLED }),
        "reload" => {
            control.order_reload();
            json!({ "code": 0 })
        }
        "reload-fetch" => json!({ "code": 0, "data": control.last_reload() }),
        _ => json!({ "code": CONFIG_RAW }),
    }
}

/// As SRS's files have it: the port alone where any address of IPv4 will do.
pub fn spelt(listen: &Listen) -> String {
    if listen.ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED) { listen.port.to_string() } else { listen.to_string() }
}
