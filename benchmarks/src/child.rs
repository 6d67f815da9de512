//! This tool as its own child: viewers and publishers on other CPUs than the parent's.

use crate::sys;
use serde_json::Value;
use std::{
    env, fs, io,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

const LOOK_UP: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    #[error("cannot start {0}: {1}")]
    Start(String, io::Error),
    #[error("{0}: {1}")]
    Ended(String, ExitStatus),
    #[error("{0} left no figures: {1}")]
    Figures(String, String),
}

/// A process that ends with this one, and with its value.
pub struct Tied {
    child: Child,
    name: String,
}

impl Tied {
    pub fn start(command: &mut Command) -> Result<Self, ChildError> {
        let name = command.get_program().to_string_lossy().into_owned();
        sys::tie(command);
        let child = command.spawn().map_err(|error| ChildError::Start(name.clone(), error))?;
        Ok(Self { child, name })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, ChildError> {
        self.child.try_wait().map_err(|error| ChildError::Start(self.name.clone(), error))
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A measurement that goes on in a child.
pub struct Measurement {
    child: Tied,
    file: PathBuf,
}

impl Measurement {
    /// `shardbench COMMAND` with `arguments`; its table goes where ours does, unless `quiet`.
    pub fn start(command: &str, arguments: &[String], quiet: bool) -> Result<Self, ChildError> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let file = env::temp_dir().join(format!("shardbench-{}-{number}.json", std::process::id()));
        let mut program = shardbench()?;
        program.arg(command).args(arguments).arg("--json").arg(&file);
        if quiet {
            program.stdout(Stdio::null());
        }
        Ok(Self { child: Tied::start(&mut program)?, file })
    }

    /// Waits for its figures; a signal to stop reaches it as well.
    pub fn wait(mut self) -> Result<Value, ChildError> {
        loop {
            if let Some(figures) = self.figures()? {
                return Ok(figures);
            }
            thread::sleep(LOOK_UP);
        }
    }

    /// Its figures, once it has ended.
    pub fn figures(&mut self) -> Result<Option<Value>, ChildError> {
        let Some(status) = self.child.ended()? else { return Ok(None) };
        let text = fs::read_to_string(&self.file);
        // It may have ended before it wrote any.
        let _ = fs::remove_file(&self.file);
        if !status.success() {
            return Err(ChildError::Ended(self.child.name.clone(), status));
        }
        let failed = |error: String| ChildError::Figures(self.child.name.clone(), error);
        let text = text.map_err(|error| failed(error.to_string()))?;
        let record: Value = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        Ok(Some(record["figures"].clone()))
    }
}

/// This program.
pub fn shardbench() -> Result<Command, ChildError> {
    let program = env::current_exe().map_err(|error| ChildError::Start("shardbench".into(), error))?;
    Ok(Command::new(program))
}
