//! `shardctl events`: what happens, as it happens.

use crate::{
    http::{Error, Server},
    table::text,
};
use serde_json::Value;
use std::{
    io::{self, Write},
    time::Duration,
};

/// Until the server ends it, or nobody reads it any more.
pub fn follow(server: &Server, json: bool) -> Result<(), Error> {
    for line in server.follow("/api/v1/events")? {
        let line = line?;
        // Of Server-Sent Events: what else there is names the event again, or keeps the connection.
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let shown = if json { data.to_owned() } else { self::line(&serde_json::from_str(data).unwrap_or_default()) };
        if writeln!(io::stdout(), "{shown}").is_err() {
            break;
        }
    }
    Ok(())
}

/// In UTC.
fn line(event: &Value) -> String {
    let ms = event["time_ms"].as_u64().unwrap_or_default();
    let second = Duration::from_millis(ms).as_secs() % 86_400;
    let mut line = format!(
        "{:02}:{:02}:{:02}.{:03}Z {:<9} {:<8} {:<18} {:<15} {}",
        second / 3_600,
        second / 60 % 60,
        second % 60,
        ms % 1_000,
        text(&event["event"]),
        text(&event["id"]),
        text(&event["type"]),
        text(&event["ip"]),
        text(&event["url"]),
    );
    for (name, value) in event.as_object().into_iter().flatten() {
        if !matches!(&**name, "time_ms" | "event" | "id" | "type" | "ip" | "url") {
            let value = value.as_str().map_or_else(|| value.to_string(), |_| text(value));
            line.push_str(&format!("  {name}: {value}"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_fills_its_line_and_says_what_is_its_own() {
        let event = json!({
            "time_ms": 86_400_000u64 + 3_723_004, "event": "skip", "id": "a1b2c3d4", "type": "flv-play",
            "ip": "10.0.0.9", "url": "/live/a", "lag_ms": 5000,
        });
        let columns: Vec<_> = line(&event).split_whitespace().map(str::to_owned).collect();
        let wanted = ["01:02:03.004Z", "skip", "a1b2c3d4", "flv-play", "10.0.0.9", "/live/a", "lag_ms:", "5000"];
        assert_eq!(columns, wanted);
        assert!(line(&json!({ "why": "x\u{1b}[2J" })).ends_with("why: x[2J"));
    }
}
