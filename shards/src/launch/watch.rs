//! A configuration file that changes is read again (`inotify_auto_reload`).

use super::Orders;
use crate::net::sys::Watch;
use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tracing::{error, info};

/// At most one reaction in this time, as SRS.
const PAUSE: Duration = Duration::from_secs(3);
/// The link that Kubernetes turns when a ConfigMap changes.
const CONFIG_MAP: &str = "..data";

/// Watches the folder of `file` for the rest of the process. Call it after the signals are blocked.
pub fn watch_file(file: &Path, orders: Arc<Orders>) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().unwrap_or_default().to_owned();
    let watch = Watch::directory(folder)?;
    thread::Builder::new().name("conf-watch".into()).spawn(move || {
        let mut last: Option<Instant> = None;
        loop {
            let names = match watch.wait() {
                Ok(names) => names,
                Err(error) => return error!("watch the configuration: {error}; changes are not seen any more"),
            };
            let concerns = |found: &Vec<u8>| [&*name, OsStr::new(CONFIG_MAP)].contains(&OsStr::from_bytes(found));
            if names.iter().any(concerns) {
                // One that comes too soon waits its turn.
                thread::sleep(last.map_or(Duration::ZERO, |last| PAUSE.saturating_sub(last.elapsed())));
                last = Some(Instant::now());
                info!("the configuration file has changed");
                orders.reload.set();
            }
        }
    })?;
    Ok(())
}
