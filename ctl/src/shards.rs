//! `shardctl shards`: one line a core.

use crate::table::{
    Column,
    Width::{Left, Right},
    number,
};
use serde_json::Value;

pub const COLUMNS: [Column; 11] = [
    ("SHARD", Right(5), |shard| number(&shard["id"])),
    ("LOAD %", Right(6), |shard| format!("{:.0}", float(&shard["load"]) * 100.0)),
    ("LATE ms", Right(7), |shard| format!("{:.1}", float(&shard["late_ms"]))),
    ("WINDOW ms", Right(9), |shard| format!("{:.1}", float(&shard["window_ms"]))),
    ("CONNECTIONS", Right(11), |shard| number(&shard["connections"])),
    ("STREAMS", Right(7), |shard| number(&shard["streams"])),
    ("PUBLISHERS", Right(10), |shard| number(&shard["publishers"])),
    ("VIEWERS", Right(8), |shard| number(&shard["viewers"])),
    ("IN MB", Right(11), |shard| megabytes(&shard["recv_bytes"])),
    ("OUT MB", Right(11), |shard| megabytes(&shard["send_bytes"])),
    ("", Left(0), |shard| if shard["full"] == true { " full".into() } else { String::new() }),
];

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn megabytes(bytes: &Value) -> String {
    format!("{:.1}", float(bytes) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::line;
    use serde_json::json;

    #[test]
    fn a_shard_fills_its_line() {
        let shard = json!({
            "id": 1, "load": 0.42, "late_ms": 0.25, "window_ms": 12.6, "full": true, "connections": 9, "streams": 2, "publishers": 1, "viewers": 8,
            "recv_bytes": 1_500_000, "send_bytes": 12_000_000,
        });
        let columns: Vec<_> = line(&COLUMNS, &shard).split_whitespace().map(str::to_owned).collect();
        assert_eq!(columns, ["1", "42", "0.2", "12.6", "9", "2", "1", "8", "1.5", "12.0", "full"]);
    }
}
