//! The server's configuration: `config check`, `reload` and `log-level`.

use crate::{
    http::{Error, Server},
    table::text,
};
use serde_json::Value;
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// Media shards never wait for a reload, so this is the disk's time.
const RELOAD: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// The server's own program judges, so that there is one grammar; linked in, it would make this one as large. It
/// stands beside this program, or on the search path.
pub fn check(file: &Path) -> Result<(), Error> {
    let beside = env::current_exe().ok().and_then(|own| Some(own.parent()?.join("shardcast")));
    let program = beside.filter(|path| path.is_file()).unwrap_or(PathBuf::from("shardcast"));
    let status = Command::new(&program).arg("-t").arg("-c").arg(file).status();
    match status.map_err(|source| Error::Program { program: program.display().to_string(), source })? {
        status if status.success() => Ok(()),
        _ => Err(Error::Invalid),
    }
}

/// Has it read its configuration again, and waits for what becomes of it.
pub fn reload(server: &Server) -> Result<Value, Error> {
    let last = || server.get("/api/v1/raw?rpc=reload-fetch");
    let before = last()?;
    server.get("/api/v1/raw?rpc=reload")?;
    let deadline = Instant::now() + RELOAD;
    loop {
        let answer = last()?;
        let reload = &answer["data"];
        if reload["rid"] != before["data"]["rid"] {
            if reload["err"] != 0 {
                return Err(Error::Unloaded { server: server.address.clone(), words: text(&reload["msg"]) });
            }
            if reload["state"] == FINISHED {
                return Ok(answer);
            }
        }
        if Instant::now() >= deadline {
            return Err(Error::Late { server: server.address.clone(), within: RELOAD });
        }
        thread::sleep(LOOK);
    }
}

/// SRS's number for a reload that is in force.
const FINISHED: u64 = 90;

/// Sets what is logged where a level is given; the level in force either way.
pub fn log_level(server: &Server, level: Option<&str>) -> Result<Value, Error> {
    match level {
        Some(level) => server.post(&format!("/api/v1/log-level?level={level}")),
        None => server.get("/api/v1/log-level"),
    }
}
