//! `shardctl shards`: one line a core.

use serde_json::Value;

pub fn table(shards: &[Value]) -> Vec<String> {
    let head = format!(
        "{:>5} {:>6} {:>7} {:>9} {:>11} {:>7} {:>10} {:>8} {:>11} {:>11}",
        "SHARD", "LOAD %", "LATE ms", "WINDOW ms", "CONNECTIONS", "STREAMS", "PUBLISHERS", "VIEWERS", "IN MB", "OUT MB"
    );
    [head].into_iter().chain(shards.iter().map(line)).collect()
}

fn line(shard: &Value) -> String {
    let megabytes = |name: &str| format!("{:.1}", shard[name].as_f64().unwrap_or_default() / 1e6);
    format!(
        "{:>5} {:>6.0} {:>7.1} {:>9.1} {:>11} {:>7} {:>10} {:>8} {:>11} {:>11}{}",
        shard["id"].to_string(),
        shard["load"].as_f64().unwrap_or_default() * 100.0,
        shard["late_ms"].as_f64().unwrap_or_default(),
        shard["window_ms"].as_f64().unwrap_or_default(),
        shard["connections"].to_string(),
        shard["streams"].to_string(),
        shard["publishers"].to_string(),
        shard["viewers"].to_string(),
        megabytes("recv_bytes"),
        megabytes("send_bytes"),
        if shard["full"] == true { "  full" } else { "" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_shard_fills_its_line() {
        let shard = json!({
            "id": 1, "load": 0.42, "late_ms": 0.25, "window_ms": 12.6, "full": true, "connections": 9, "streams": 2, "publishers": 1, "viewers": 8,
            "recv_bytes": 1_500_000, "send_bytes": 12_000_000,
        });
        let columns: Vec<_> = line(&shard).split_whitespace().map(str::to_owned).collect();
        assert_eq!(columns, ["1", "42", "0.2", "12.6", "9", "2", "1", "8", "1.5", "12.0", "full"]);
    }
}
