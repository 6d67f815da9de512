//! nginx with its RTMP module as a distribution ships it, to be measured beside ours.

use crate::{
    child::Tied,
    host::{self, HostError},
    sys,
};
use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const PROGRAM: &str = "/usr/sbin/nginx";
const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
const START: Duration = Duration::from_secs(10);
const LOOK_UP: Duration = Duration::from_millis(20);

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
        let deadline = Instant::now() + START;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = rival.process.ended()? {
                return Err(HostError::Ended(PROGRAM.into(), status));
            }
            if Instant::now() > deadline {
                return Err(HostError::Late(PROGRAM.into()));
            }
            thread::sleep(LOOK_UP);
        }
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
