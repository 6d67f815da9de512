//! `shardctl clients` and `kick`: who publishes and plays, one line each, and their end.

use crate::{
    http::{Error, Server},
    table::{
        Column,
        Width::{Left, Right},
        number, span, text,
    },
};
use serde_json::Value;
use std::cmp::Reverse;

/// A viewer that is so far behind is slow.
const SLOW_MS: i64 = 1_000;

/// Those of one stream, or all. A stream is named by its URL (`/live/a`, or `live/a`), or its name alone. `slow`: those
/// alone that are, the furthest behind first.
pub fn list(server: &Server, stream: Option<&str>, slow: bool) -> Result<Vec<Value>, Error> {
    let mut clients = server.list("clients")?;
    if let Some(wanted) = stream {
        clients.retain(|client| is_of(client, wanted));
    }
    if slow {
        clients.retain(is_slow);
        clients.sort_by_key(|client| Reverse((client["lag_ms"].as_i64(), client["skips"].as_u64())));
    }
    Ok(clients)
}

fn is_slow(client: &Value) -> bool {
    client["lag_ms"].as_i64() >= Some(SLOW_MS) || client["skips"].as_u64() > Some(0)
}

pub const COLUMNS: [Column; 10] = [
    ("ID", Left(9), |client| text(&client["id"])),
    ("TYPE", Left(18), |client| text(&client["type"])),
    ("IP", Left(15), |client| text(&client["ip"])),
    ("STREAM", Left(24), |client| text(&client["url"])),
    ("FOR", Right(8), |client| span(client["alive"].as_f64().unwrap_or_default())),
    ("IN kbit/s", Right(9), |client| number(&client["kbps"]["recv_30s"])),
    ("OUT", Right(9), |client| number(&client["kbps"]["send_30s"])),
    ("LAG ms", Right(7), |client| number(&client["lag_ms"])),
    ("SKIPS", Right(5), |client| number(&client["skips"])),
    ("DROPS", Left(16), |client| drops(&client["drops"])),
];

/// What a client did not get: `behind 120, late 3`.
fn drops(drops: &Value) -> String {
    let reasons = drops.as_object().into_iter().flatten();
    reasons.map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>().join(", ")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::line;
    use serde_json::json;

    fn client() -> Value {
        json!({
            "id": "a1b2c3d4", "type": "flv-play", "ip": "10.0.0.9", "url": "/live/a", "name": "a", "alive": 3_725.5,
            "kbps": {"recv_30s": 0, "send_30s": 2500}, "lag_ms": null, "skips": 2,
            "drops": {"behind": 70},
        })
    }

    #[test]
    fn a_client_fills_its_line() {
        let columns: Vec<_> = line(&COLUMNS, &client()).split_whitespace().map(str::to_owned).collect();
        assert_eq!(
            columns,
            ["a1b2c3d4", "flv-play", "10.0.0.9", "/live/a", "1:02:05", "0", "2500", "-", "2", "behind", "70"]
        );
    }

    #[test]
    fn who_is_behind_or_has_skipped_is_slow() {
        for (lag, slow) in [(json!(null), false), (json!(999), false), (json!(1_000), true)] {
            let client = json!({ "lag_ms": lag, "skips": 0 });
            assert_eq!(is_slow(&client), slow, "{client}");
        }
        assert!(is_slow(&client()), "it has skipped");
    }

    #[test]
    fn streams_are_found_by_url_and_by_name() {
        for (wanted, found) in [("/live/a", true), ("live/a", true), ("a", true), ("live", false), ("live/ab", false)] {
            assert_eq!(is_of(&client(), wanted), found, "{wanted}");
        }
    }
}
