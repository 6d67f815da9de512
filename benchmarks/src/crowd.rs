//! Many who come at once, and what those notice who watch already.

use crate::{
    child::{ChildError, Measurement},
    host::{self, Host},
};
use serde_json::{Value, json};
use std::{thread, time::Duration};

/// Who watches already.
const WATCHERS: u32 = 200;
/// They are there and being measured so long before the crowd comes, in seconds; as long goes on after it.
const BEFORE: f64 = 5.0;

/// The same viewers twice: by themselves, and as `number` more come without a ramp. `delay`s and gaps are theirs,
/// first frames the crowd's.
pub fn measure(host: &Host, number: u32, duration: f64) -> Result<Value, ChildError> {
    let watchers = |seconds: f64| Measurement::start("play", &host::viewers(host, "http", WATCHERS, seconds), true);
    let alone = watchers(duration)?.wait()?;
    let watching = watchers(duration.max(2.0 * BEFORE))?;
    thread::sleep(Duration::from_secs_f64(BEFORE));
    let mut arguments = host::viewers(host, "http", number, 1.0);
    arguments.extend(["--ramp", "0", "--check", "0"].map(String::from));
    let crowd = Measurement::start("play", &arguments, true)?.wait()?;
    let mut figures = watching.wait()?;
    let gap = |of: &Value| of.pointer("/read_gap_ms/p99").and_then(Value::as_f64);
    figures["more_gap_ms"] = gap(&figures).zip(gap(&alone)).map(|(with, without)| with - without).into();
    figures["alone"] = alone;
    figures["crowd"] = json!({ "viewers": number, "play": crowd });
    Ok(figures)
}
