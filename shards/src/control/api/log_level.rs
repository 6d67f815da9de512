//! `/api/v1/log-level`: what the log has in it, until the process ends or it is set again.

use super::envelope;
use crate::{config::Level, control::Control, query::value};
use serde_json::{Value, json};
use tracing::warn;

/// SRS's error numbers: a value that it does not take, and what is not possible.
const RAW_PARAMS: u64 = 1063;
const RAW_NOT_ALLOWED: u64 = 1062;

/// With `level`, sets it first.
pub fn log_level(control: &Control, sets: bool, query: &str) -> Value {
    // A server inside of another program has no log of its own.
    let Some(log) = control.process.log.upgrade() else { return json!({ "code": RAW_NOT_ALLOWED }) };
    if sets {
        let Some(level) = value(query, "level").and_then(|level| Level::of_v2(&level)) else {
            return json!({ "code": RAW_PARAMS });
        };
        let before = log.level();
        log.set_level(level);
        warn!("the log level is {level} now and was {before}: set through the API");
    }
    envelope(control, "data", json!({ "level": log.level().to_string() }))
}
