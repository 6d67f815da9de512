//! The log: one line an event, as SRS writes it, so that what reads SRS's logs reads ours.
//!
//! `[YYYY-MM-DD hh:mm:ss.mmm][LEVEL][pid][cid] text key=value`, in local time. The field `cid` of an event is
//! the connection it is about; all other fields follow the text. Lines are made where the event is and written
//! by a thread of their own: a slow disk costs lines, which are counted, and never holds up a shard.

use crate::config::Level;
use crate::net::sys::{block_signals, local_time};
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions, create_dir_all};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, Layered, SubscriberExt};
use tracing_subscriber::{Registry, reload};

/// With its end of line (SRS's limit).
const LINE_BYTES_MAX: usize = 8 << 10;
const CID_BYTES_MAX: usize = 64;
/// Room for the end of a line that was cut, a colour and the end of line.
const LINE_BYTES_SPARE: usize = 16;
/// Lines that wait for the writer; at their longest, 16 MiB.
const QUEUE_LINES_MAX: usize = 2048;
/// Lines that are written in one go.
const BATCH_BYTES: usize = 64 << 10;

/// Where the log goes (SRS's `srs_log_tank`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tank {
    Console,
    /// Appended to; created with mode 0644.
    File(PathBuf),
}

/// Starts the log of the process. Fails if the file cannot be opened or there is a log already.
pub fn start(tank: Tank, level: Level) -> io::Result<Handle> {
    let (subscriber, handle) = log(tank, level)?;
    tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)?;
    Ok(handle)
}

fn log(tank: Tank, level: Level) -> io::Result<(impl Subscriber + Send + Sync, Handle)> {
    let out = open(&tank)?;
    let coloured = tank == Tank::Console && io::stdout().is_terminal();
    let (queue, lines) = sync_channel(QUEUE_LINES_MAX);
    let shared = Arc::new(Shared::default());
    let writer = std::thread::Builder::new().name("log".into()).spawn({
        let shared = shared.clone();
        move || {
            // The log may start before the process listens to signals; here they would end it.
            let _ = block_signals();
            write_lines(&lines, out, &shared)
        }
    })?;
    let lines = Lines { queue: queue.clone(), shared: shared.clone(), coloured };
    let (filter, filters) = reload::Layer::new(filter(level));
    let subscriber = tracing_subscriber::registry().with(lines).with(filter);
    let level = Mutex::new(level);
    Ok((subscriber, Handle { tank, queue, shared, level, filters, writer: Some(writer) }))
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Trace => LevelFilter::TRACE,
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warn => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
        Level::Off => LevelFilter::OFF,
    }
}

/// The running log. Dropping it writes what waits and ends the writer.
pub struct Handle {
    tank: Tank,
    queue: SyncSender<Mail>,
    shared: Arc<Shared>,
    level: Mutex<Level>,
    filters: reload::Handle<LevelFilter, Layered<Lines, Registry>>,
    writer: Option<JoinHandle<()>>,
}

impl Handle {
    /// Opens the file again by its name, after logrotate has moved it. If that fails, the log goes on in the
    /// file it has.
    pub fn reopen(&self) -> io::Result<()> {
        let fresh = open(&self.tank)?;
        *self.shared.fresh.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
        // A full queue has the writer awake already.
        let _ = self.queue.try_send(Mail::Wake);
        Ok(())
    }

    pub fn level(&self) -> Level {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes from now on is of this level or a graver one.
    pub fn set_level(&self, level: Level) {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = level;
        // Fails only where the log has gone.
        let _ = self.filters.reload(filter(level));
    }

    /// Lines lost so far, because the queue was full or the file could not be written.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Relaxed)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Fails only if the writer has gone.
        let _ = self.queue.send(Mail::End);
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

#[derive(Debug)]
enum Mail {
    Line(String),
    Wake,
    End,
}

#[derive(Default)]
struct Shared {
    /// What the writer takes instead of what it has; never locked where events are.
    fresh: Mutex<Option<Out>>,
    lost: AtomicU64,
}

/// The end of the log that makes lines of events.
struct Lines {
    queue: SyncSender<Mail>,
    shared: Arc<Shared>,
    coloured: bool,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = line(SystemTime::now(), *event.metadata().level(), &fields, self.coloured);
        if self.queue.try_send(Mail::Line(line)).is_err() {
            self.shared.lost.fetch_add(1, Relaxed);
        }
    }
}

/// Lays a line out, with its end of line, in at most [`LINE_BYTES_MAX`] bytes.
fn line(now: SystemTime, level: tracing::Level, fields: &Fields, coloured: bool) -> String {
    let colour = match level {
        tracing::Level::WARN if coloured => "\x1b[33m",
        tracing::Level::ERROR if coloured => "\x1b[31m",
        _ => "",
    };
    let mut line = String::with_capacity(256);
    line.push_str(colour);
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = i64::try_from(since.as_secs()).ok().and_then(local_time);
    if let Some(t) = time {
        let _ = write!(
            line,
            "[{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03}]",
            t.year,
            t.month,
            t.day,
            t.hour,
            t.minute,
            t.second,
            since.subsec_millis()
        );
    }
    let cid = if fields.cid.text.is_empty() { "-" } else { &fields.cid.text };
    let _ = write!(line, "[{level}][{}][{cid}] ", std::process::id());
    let end = LINE_BYTES_MAX - LINE_BYTES_SPARE;
    for part in [&fields.text, &fields.others] {
        let room = end.saturating_sub(line.len());
        let fits = whole_characters(&part.text, room);
        line.push_str(fits);
        if fits.len() < part.text.len() || part.cut {
            line.push_str("...");
            break;
        }
    }
    if !colour.is_empty() {
        line.push_str("\x1b[0m");
    }
    line.push('\n');
    line
}

/// As much of the front of `text` as `bytes_max` holds.
fn whole_characters(text: &str, bytes_max: usize) -> &str {
    let cut = (0..=bytes_max.min(text.len())).rev();
    cut.into_iter().find_map(|end| text.get(..end)).unwrap_or_default()
}

/// The fields of an event, escaped and bounded.
struct Fields {
    cid: Escaped,
    text: Escaped,
    others: Escaped,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            cid: Escaped::new(CID_BYTES_MAX),
            text: Escaped::new(LINE_BYTES_MAX),
            others: Escaped::new(LINE_BYTES_MAX),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing fails where the line is full; that it was cut is noted there.
        let _ = match field.name() {
            "cid" => write!(self.cid, "{value:?}"),
            "message" => write!(self.text, "{value:?}"),
            name => write!(self.others, " {name}={value:?}"),
        };
    }
}

/// Text without control characters. Names and texts of peers are in the log: none may end a line and begin a
/// forged one, or tell the terminal what to do.
struct Escaped {
    text: String,
    bytes_max: usize,
    cut: bool,
}

impl Escaped {
    fn new(bytes_max: usize) -> Self {
        Self { text: String::new(), bytes_max, cut: false }
    }

    fn push(&mut self, c: char) -> fmt::Result {
        if self.cut || self.text.len() + c.len_utf8() > self.bytes_max {
            self.cut = true;
            return Err(fmt::Error);
        }
        self.text.push(c);
        Ok(())
    }
}

impl fmt::Write for Escaped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            // Line and paragraph separators, and the marks that turn the direction of text around.
            let misleads = matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if c.is_control() || misleads {
                c.escape_default().try_for_each(|c| self.push(c))?;
            } else {
                self.push(c)?;
            }
        }
        Ok(())
    }
}

/// Writes until the end, many lines in one call where many wait.
fn write_lines(lines: &Receiver<Mail>, mut out: Out, shared: &Shared) {
    let mut told = 0;
    let mut end = false;
    while !end {
        let (mut batch, mut count) = (Vec::new(), 0);
        let mut next = lines.recv().ok();
        loop {
            match next {
                Some(Mail::Line(line)) => {
                    batch.extend_from_slice(line.as_bytes());
                    count += 1;
                }
                Some(Mail::Wake) => {}
                Some(Mail::End) | None => {
                    end = true;
                    break;
                }
            }
            if batch.len() >= BATCH_BYTES {
                break;
            }
            match lines.try_recv() {
                Ok(mail) => next = Some(mail),
                Err(_) => break,
            }
        }
        let fresh = shared.fresh.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(fresh) = fresh {
            out = fresh;
        }
        let lost = shared.lost.load(Relaxed);
        if lost > told {
            batch.extend_from_slice(own(&format!("{} lines of the log are lost", lost - told)).as_bytes());
        }
        match out.write_all(&batch).and_then(|()| out.flush()) {
            Ok(()) => told = lost,
            Err(_) => drop(shared.lost.fetch_add(count, Relaxed)),
        }
    }
}

/// A line of the log about itself.
fn own(text: &str) -> String {
    let mut fields = Fields::default();
    let _ = fields.text.write_str(text);
    line(SystemTime::now(), tracing::Level::WARN, &fields, false)
}

type Out = Box<dyn Write + Send>;

fn open(tank: &Tank) -> io::Result<Out> {
    Ok(match tank {
        Tank::Console => Box::new(io::stdout()),
        Tank::File(path) => Box::new(append(path).map_err(|error| {
            io::Error::new(error.kind(), format!("log file {} (srs_log_file): {error}", path.display()))
        })?),
    })
}

/// Makes the folder too: SRS's default is a file below ./objs.
fn append(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        create_dir_all(folder)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o644).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tracing::{debug, error, info, warn};

    fn logged(level: Level, events: impl FnOnce()) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("objs/shardcast.log");
        let (subscriber, handle) = log(Tank::File(path.clone()), level).unwrap();
        tracing::subscriber::with_default(subscriber, events);
        drop(handle);
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn line_has_time_level_pid_cid_text_and_fields() {
        let lines = logged(Level::Info, || {
            warn!(cid = "a1b2c3d4", kbps = 7, url = %"/live/x", "slow viewer");
            info!("no connection");
        });
        let pid = std::process::id();
        assert_eq!(lines.len(), 2);
        assert_eq!(&lines[0][25..], format!("[WARN][{pid}][a1b2c3d4] slow viewer kbps=7 url=/live/x"));
        assert_eq!(&lines[1][25..], format!("[INFO][{pid}][-] no connection"));
        let shape: String = lines[0][..25].chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "[0000-00-00 00:00:00.000]");
    }

    #[test]
    fn lower_levels_are_left_out() {
        let lines = logged(Level::Warn, || {
            debug!("d");
            info!("i");
            error!("e");
        });
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("[ERROR]"));
    }

    #[test]
    fn peer_cannot_forge_a_line() {
        let evil = "x\n[2026-01-01 00:00:00.000][ERROR][1][-] fire\x1b[2J\u{9b}1m\u{2028}\u{202e}";
        let lines = logged(Level::Trace, || info!(cid = evil, app = evil, "{evil}"));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains(r"x\n[2026") && lines[0].contains(r"\u{1b}[2J\u{9b}1m\u{2028}\u{202e}"));
    }

    #[test]
    fn line_is_cut_at_its_limit_and_on_a_character() {
        let long = "é".repeat(LINE_BYTES_MAX);
        let lines = logged(Level::Trace, || {
            info!("{long}");
            info!(long, "short");
        });
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert!(line.len() < LINE_BYTES_MAX && line.len() > LINE_BYTES_MAX - 32, "{}", line.len());
            assert!(line.ends_with("é..."));
        }
    }

    #[test]
    fn colours_are_for_terminals() {
        let fields = Fields::default();
        let coloured = line(UNIX_EPOCH, tracing::Level::ERROR, &fields, true);
        assert!(coloured.starts_with("\x1b[31m[") && coloured.ends_with("\x1b[0m\n"));
        assert!(line(UNIX_EPOCH, tracing::Level::INFO, &fields, true).starts_with('['));
    }

    #[test]
    fn reopen_follows_the_name_and_keeps_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let (subscriber, handle) = log(Tank::File(path.clone()), Level::Info).unwrap();
        fs::rename(&path, &moved).unwrap();
        handle.reopen().unwrap();
        tracing::subscriber::with_default(subscriber, || info!("after"));
        drop(handle);
        assert!(fs::read_to_string(path).unwrap().contains("after"));
    }

    #[test]
    fn full_queue_loses_lines_and_counts_them() {
        let (queue, lines) = sync_channel(2);
        let shared = Arc::new(Shared::default());
        let layer = Lines { queue, shared: shared.clone(), coloured: false };
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..5 {
                info!("x");
            }
        });
        assert_eq!((lines.iter().count(), shared.lost.load(Relaxed)), (2, 3));
    }
}
