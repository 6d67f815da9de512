//! Values as a terminal shows them.

use serde_json::Value;

/// A string of the server's, safe for a terminal.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().chars().filter(|c| !c.is_control()).collect()
}

/// Seconds as h:mm:ss.
pub fn span(seconds: f64) -> String {
    let seconds = seconds as u64;
    format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
