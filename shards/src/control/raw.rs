//! `/api/v1/raw`: the reload, for who may ask for it.

use super::Control;
use serde_json::{Value, json};

/// SRS's error numbers: an `rpc` that is not there, and one that is switched off.
const RAW_UNKNOWN: u64 = 1060;
const RAW_OFF: u64 = 1061;

/// `rpc=raw`, `reload` or `reload-fetch`.
pub fn answer(control: &Control, query: &str) -> Value {
    let config = control.config();
    let (api, raw) = (&config.http_api, config.http_api.raw_api);
    let rpc = query.split('&').find_map(|pair| pair.strip_prefix("rpc=")).unwrap_or_default();
    match rpc {
        "raw" => json!({
            "code": 0,
            "http_api": {
                "enabled": api.enabled,
                "listen": api.listen.iter().map(|listen| listen.to_string()).collect::<Vec<_>>().join(" "),
                "crossdomain": api.crossdomain,
                "raw_api": {
                    "enabled": raw.enabled,
                    "allow_reload": raw.allow_reload,
                    "allow_query": false,
                    "allow_update": false,
                },
            },
        }),
        _ if !raw.enabled => json!({ "code": RAW_OFF }),
        "reload" if !raw.allow_reload => json!({ "code": RAW_OFF }),
        "reload" => {
            control.order_reload();
            json!({ "code": 0 })
        }
        "reload-fetch" => json!({ "code": 0, "data": control.last_reload() }),
        _ => json!({ "code": RAW_UNKNOWN }),
    }
}
