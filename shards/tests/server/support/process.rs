//! Child processes whose output is collected, and who never outlive their test.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A child that ends with its value.
pub struct Process {
    child: Child,
    name: String,
    pub lines: Lines,
    stdout: Option<JoinHandle<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

pub struct Output {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<String>,
}

/// Lines as they come, seen from all threads.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Process {
    /// Starts `command`: standard output is collected as bytes, standard error as lines.
    pub fn start(command: &mut Command) -> Self {
        Self::collecting(command, Stdio::null())
    }

    /// Starts two, of which the second takes in what the first puts out.
    pub fn pipe(first: &mut Command, second: &mut Command) -> [Self; 2] {
        let mut first = Self::spawn(first, Stdio::null());
        let between = first.child.stdout.take().expect("a piped standard output");
        let second = Self::collecting(second, between.into());
        [first, second]
    }

    fn collecting(command: &mut Command, stdin: Stdio) -> Self {
        let mut process = Self::spawn(command, stdin);
        let stdout = process.child.stdout.take();
        process.stdout = Some(thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stdout) = stdout {
                stdout.read_to_end(&mut bytes).expect("read a pipe");
            }
            bytes
        }));
        process
    }

    /// Starts `command`: both outputs are collected as lines.
    pub fn talking(command: &mut Command) -> Self {
        let mut process = Self::spawn(command, Stdio::null());
        if let Some(stdout) = process.child.stdout.take() {
            process.readers.push(process.lines.fill(stdout));
        }
        process
    }

    fn spawn(command: &mut Command, stdin: Stdio) -> Self {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {name}: {error}; deploy/install-deps test brings the clients"));
        let lines = Lines::default();
        let stderr = child.stderr.take().expect("a piped standard error");
        let readers = vec![lines.fill(stderr)];
        Self { child, name, lines, stdout: None, readers }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("look at a child")
    }

    /// Waits for its end and takes what it said; fails where it is late.
    pub fn finish(mut self, limit: Duration) -> Output {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.ended() {
                break status;
            }
            if Instant::now() >= deadline {
                let said = self.lines.all();
                panic!("not ended within {limit:?}: {}\n{}", self.name, said.join("\n"));
            }
            thread::sleep(super::LOOK);
        };
        self.join();
        let stdout = self.stdout.take().map(|reader| reader.join().expect("a reader")).unwrap_or_default();
        Output { status, stdout, stderr: self.lines.all() }
    }

    /// Asks it to end, as a service manager does.
    pub fn terminate(&self) {
        signal(self.id(), "TERM");
    }

    /// Holds it: it says nothing more, and its connections stay.
    pub fn freeze(&self) {
        signal(self.id(), "STOP");
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // Fails only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.join();
    }

    fn join(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

/// Sends the signal of this name.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill -{name} {pid}");
}

/// An ffmpeg of version 8 or later, from the Python package that has one; `None` where there is none.
pub fn enhanced_ffmpeg() -> Option<PathBuf> {
    let found = std::env::var("SHARDCAST_PYTHON").ok().map(|python| {
        let script = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe(), end='')";
        Process::start(Command::new(python).args(["-c", script])).finish(super::PATIENCE)
    });
    match found {
        Some(output) if output.status.success() => Some(String::from_utf8(output.stdout).expect("a path").into()),
        _ => {
            eprintln!("SKIPPED: no codecs of Enhanced RTMP; set SHARDCAST_PYTHON to a Python with imageio-ffmpeg");
            None
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Output {
    /// Its standard output, of a child that must have succeeded without a word of complaint.
    pub fn clean(self, what: &str) -> Vec<u8> {
        assert!(self.status.success(), "{what}: {}\n{}", self.status, self.stderr.join("\n"));
        assert!(self.stderr.is_empty(), "{what} complains:\n{}", self.stderr.join("\n"));
        self.stdout
    }
}

impl Lines {
    pub fn all(&self) -> Vec<String> {
        self.0.0.lock().expect("lines").clone()
    }

    /// The lines that have all of `parts` in them.
    pub fn with(&self, parts: &[&str]) -> Vec<String> {
        let has_all = |line: &String| parts.iter().all(|part| line.contains(part));
        self.all().into_iter().filter(has_all).collect()
    }

    /// Waits for a line that has all of `parts` in it.
    pub fn wait_for(&self, parts: &[&str], limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        let (lines, more) = &*self.0;
        let mut lines = lines.lock().expect("lines");
        loop {
            if let Some(line) = lines.iter().find(|line| parts.iter().all(|part| line.contains(part))) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no line with {parts:?} within {limit:?}:\n{}", lines.join("\n"));
            lines = more.wait_timeout(lines, left).expect("lines").0;
        }
    }

    /// Takes the lines of `from` too, on a thread that ends with it.
    pub fn fill(&self, from: impl Read + Send + 'static) -> JoinHandle<()> {
        let to = self.0.clone();
        thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                to.0.lock().expect("lines").push(line);
                to.1.notify_all();
            }
        })
    }
}
