//! `shardctl clients` and `kick`: who publishes and plays, one line each, and their end.

use crate::{
    http::{Error, Server},
    table::{self, text},
};
use serde_json::Value;

/// Those of one stream, or all. A stream is named by its URL (`/live/a`, or `live/a`), or its name alone.
pub fn list(server: &Server, stream: Option<&str>) -> Result<Vec<Value>, Error> {
    let mut clients = server.list("clients")?;
    if let Some(wanted) = stream {
        clients.retain(|client| is_of(client, wanted));
    }
    Ok(clients)
}

pub fn table(clients: &[Value]) -> Vec<String> {
    [head()].into_iter().chain(clients.iter().map(line)).collect()
}

pub fn head() -> String {
    format!(
        "{:<9} {:<18} {:<15} {:<24} {:>8} {:>9} {:>9} {:>7} {:>5}",
        "ID", "TYPE", "IP", "STREAM", "FOR", "IN kbit/s", "OUT", "LAG ms", "SKIPS"
    )
}

pub fn kick(server: &Server, id: &str) -> Result<Value, Error> {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Err(Error::BadId(id.into()));
    }
    server.delete(&format!("/api/v1/clients/{id}"))
}

pub fn is_of(client: &Value, stream: &str) -> bool {
    let wanted = stream.trim_start_matches('/');
    let url = text(&client["url"]);
    url.trim_start_matches('/') == wanted || url.rsplit('/').next() == Some(wanted)
}

pub fn line(client: &Value) -> String {
    let number = |value: &Value| if value.is_null() { "-".into() } else { value.to_string() };
    let kbps = &client["kbps"];
    format!(
        "{:<9} {:<18} {:<15} {:<24} {:>8} {:>9} {:>9} {:>7} {:>5}",
        text(&client["id"]),
        text(&client["type"]),
        text(&client["ip"]),
        text(&client["url"]),
        table::span(client["alive"].as_f64().unwrap_or_default()),
        number(&kbps["recv_30s"]),
        number(&kbps["send_30s"]),
        number(&client["lag_ms"]),
        number(&client["skips"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn client() -> Value {
        json!({
            "id": "a1b2c3d4", "type": "flv-play", "ip": "10.0.0.9", "url": "/live/a", "name": "a", "alive": 3_725.5,
            "kbps": {"recv_30s": 0, "send_30s": 2500}, "lag_ms": null, "skips": 2,
        })
    }

    #[test]
    fn a_client_fills_its_line() {
        let columns: Vec<_> = line(&client()).split_whitespace().map(str::to_owned).collect();
        assert_eq!(columns, ["a1b2c3d4", "flv-play", "10.0.0.9", "/live/a", "1:02:05", "0", "2500", "-", "2"]);
    }

    #[test]
    fn streams_are_found_by_url_and_by_name() {
        for (wanted, found) in [("/live/a", true), ("live/a", true), ("a", true), ("live", false), ("live/ab", false)] {
            assert_eq!(is_of(&client(), wanted), found, "{wanted}");
        }
    }
}
