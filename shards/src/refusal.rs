//! Refusals: counted, and as HTTP says them, with a status, and as the body SRS's error and the reason.

use hyper::StatusCode;
use shardcast_protocols::session::Refusal;

/// Of a viewer by `protocol`: counts it.
pub fn counted(protocol: &'static str, refusal: Refusal) -> Refusal {
    metrics::counter!("shardcast_viewers_refused_total", "protocol" => protocol).increment(1);
    refusal
}

/// The status, SRS's number and its name.
pub fn error(refusal: &Refusal) -> (StatusCode, u32, &'static str) {
    match refusal {
        Refusal::StreamBusy(_) => (StatusCode::CONFLICT, 5020, "RtcStreamBusy"),
        Refusal::Rejected(_) => (StatusCode::UNAUTHORIZED, 3064, "HttpResponseCode"),
        Refusal::Denied(_) => (StatusCode::FORBIDDEN, 1053, "SecurityDeny"),
        Refusal::NoVhost(_) => (StatusCode::NOT_FOUND, 2014, "NoVhost"),
        Refusal::Full | Refusal::NoPlace | Refusal::Elsewhere(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, 1074, "ConnectionsExceed")
        }
        Refusal::Other(_) => (StatusCode::INTERNAL_SERVER_ERROR, 1098, "StreamDisposing"),
    }
}

/// Seconds after which who got a 503 may try again.
pub const RETRY_AFTER: &str = "5";

/// The status and the body, `CODE: Name: reason`.
pub fn words(refusal: &Refusal) -> (StatusCode, String) {
    let (status, code, name) = error(refusal);
    (status, format!("{code}: {name}: {refusal}\n"))
}
