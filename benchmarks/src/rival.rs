//! nginx with its RTMP module as a distribution ships it, to be measured beside ours.

use crate::{
    child::Tied,
    host::{self, HostError},
    sys,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const PROGRAM: &str = "/usr/sbin/nginx";
const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

pub struct Rival {
    process: Tied,
    port: u16,
    folder: PathBuf,
}

impl Rival {
    /// On the server's CPUs, in one process; `None` where it is not installed.
    pub fn start(options: &host::Options) -> Result<Option<Self>, HostError> {
        if ![PROGRAM, MODULE].iter().all(|file| Path::new(file).exists()) {
            return Ok(None);
        }
        let (held, port) = host::tcp()?;
        drop(held);
        let folder = std::env::temp_dir().join(format!("shardbench-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let conf = folder.join("nginx.conf");
        // One process, so that all that it uses is one PID's; all else is what the module does by itself.
        let text = format!(
            "load_module {MODULE}; daemon off; master_process off; pid {0}/pid; error_log {0}/log;
            events {{ worker_connections 20000; }} worker_rlimit_nofile 20000;
            rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}",
            folder.display()
        );
        fs::write(&conf, text)?;
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(&conf).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        sys::pin_child(&mut command, options.server_cpus.0.clone());
        let mut rival = Self { process: Tied::start(&mut command)?, port, folder };
        host::wait_for(&mut rival.process, Path::new(PROGRAM), port)?;
        Ok(Some(rival))
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn url(&self) -> String {
        format!("rtmp://127.0.0.1:{}/live/s", self.port)
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        // What is left of it is in a folder for such.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
