//! The log: one line an event, as SRS writes it, so that what reads SRS's logs reads ours.
//!
//! `[YYYY-MM-DD hh:mm:ss.mmm][LEVEL][pid][cid] text key=value`, in local time, or a JSON object. The field `cid` of an event is
//! the connection it is about; all other fields follow the text. Lines are made where the event is and written
//! by a thread of their own: a slow disk costs lines, which are counted, and never holds up a shard.

use crate::config::Level;
use crate::current;
use crate::net::sys::{self, block_signals, local_time};
use serde_json::{Map, Value};
use std::backtrace::Backtrace;
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions, create_dir_all};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{self, PanicHookInfo};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, error};
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
///
/// Panics and crashes are told in it from then on.
pub fn start(tank: Tank, level: Level, json: bool) -> io::Result<Handle> {
    let (subscriber, handle) = log(tank, level, json)?;
    tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)?;
    panic::set_hook(Box::new(tell_panic));
    sys::catch_crashes()?;
    Ok(handle)
}

fn log(tank: Tank, level: Level, json: bool) -> io::Result<(impl Subscriber + Send + Sync, Handle)> {
    let out = open(&tank)?;
    let form = match () {
        () if json => Form::Json,
        () if tank == Tank::Console && io::stdout().is_terminal() => Form::Coloured,
        () => Form::Plain,
    };
    let (queue, lines) = sync_channel(QUEUE_LINES_MAX);
    let shared = Arc::new(Shared::default());
    let writer = std::thread::Builder::new().name("log".into()).spawn({
        let shared = shared.clone();
        move || {
            // The log may start before the process listens to signals; here they would end it.
            let _ = block_signals();
            write_lines(&lines, out, &shared, if json { Form::Json } else { Form::Plain })
        }
    })?;
    let lines = Lines { queue: queue.clone(), shared: shared.clone(), form };
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

impl Shared {
    fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Relaxed);
        metrics::counter!("shardcast_log_lines_lost_total").increment(lines);
    }
}

/// The end of the log that makes lines of events.
struct Lines {
    queue: SyncSender<Mail>,
    shared: Arc<Shared>,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Coloured,
    Json,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = line(SystemTime::now(), *event.metadata().level(), &fields, self.form);
        if self.queue.try_send(Mail::Line(line)).is_err() {
            self.shared.lose(1);
        }
    }
}

/// Lays a line out, with its end of line, in at most [`LINE_BYTES_MAX`] bytes.
fn line(now: SystemTime, level: tracing::Level, fields: &Fields, form: Form) -> String {
    if form == Form::Json {
        return object(now, level, fields);
    }
    let coloured = form == Form::Coloured;
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
    let others: String = fields.others.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    for (part, cut) in [(&fields.text.text, fields.text.cut), (&others, false)] {
        let room = end.saturating_sub(line.len());
        let fits = whole_characters(part, room);
        line.push_str(fits);
        if fits.len() < part.len() || cut {
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

/// The same as JSON: `time` (RFC 3339, UTC), `level`, `pid`, `cid` where there is one, `text`, and the other fields.
fn object(now: SystemTime, level: tracing::Level, fields: &Fields) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let t = sys::utc_time(since.as_secs() as i64);
    let ms = since.subsec_millis();
    let time =
        format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{ms:03}Z", t.year, t.month, t.day, t.hour, t.minute, t.second);
    let mut object = Map::new();
    let mut add = |name: &str, value: Value| drop(object.insert(name.into(), value));
    add("time", time.into());
    add("level", level.as_str().into());
    add("pid", std::process::id().into());
    if !fields.cid.text.is_empty() {
        add("cid", fields.cid.text.as_str().into());
    }
    // What JSON escapes is longer there: twice at most, as control characters are none any more.
    let room = LINE_BYTES_MAX / 4;
    let text =
        |part: &str| if part.len() > room { format!("{}...", whole_characters(part, room)) } else { part.into() };
    add("text", text(&fields.text.text).into());
    let mut left = room;
    for (name, value) in &fields.others {
        left = left.saturating_sub(name.len() + value.len());
        if left == 0 {
            break;
        }
        add(name, value.parse::<i64>().map_or_else(|_| value.as_str().into(), Value::from));
    }
    let mut line = Value::from(object).to_string();
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
    others: Vec<(&'static str, String)>,
}

impl Default for Fields {
    fn default() -> Self {
        Self { cid: Escaped::new(CID_BYTES_MAX), text: Escaped::new(LINE_BYTES_MAX), others: Vec::new() }
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
            name => {
                let mut one = Escaped::new(LINE_BYTES_MAX);
                let _ = write!(one, "{value:?}");
                self.others.push((name, one.text));
                Ok(())
            }
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
fn write_lines(lines: &Receiver<Mail>, mut out: Out, shared: &Shared, form: Form) {
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
            batch.extend_from_slice(own(&format!("{} lines of the log are lost", lost - told), form).as_bytes());
        }
        match out.write_all(&batch).and_then(|()| out.flush()) {
            Ok(()) => told = lost,
            Err(_) => shared.lose(count),
        }
    }
}

/// A line of the log about itself.
fn own(text: &str, form: Form) -> String {
    let mut fields = Fields::default();
    let _ = fields.text.write_str(text);
    line(SystemTime::now(), tracing::Level::WARN, &fields, form)
}

type Out = Box<dyn Write + Send>;

fn open(tank: &Tank) -> io::Result<Out> {
    Ok(match tank {
        Tank::Console => {
            sys::tell_crashes(io::stdout().as_fd());
            Box::new(io::stdout())
        }
        Tank::File(path) => {
            let file = append(path).map_err(|error| {
                io::Error::new(error.kind(), format!("log file {} (srs_log_file): {error}", path.display()))
            })?;
            sys::tell_crashes(file.as_fd());
            Box::new(file)
        }
    })
}

/// In place of the standard hook: a line for the panic and one for each frame below it, of the session that this
/// thread is at work for.
fn tell_panic(panic: &PanicHookInfo<'_>) {
    let id = current::id();
    let cid = current::name(&id).unwrap_or("-");
    let payload = panic.payload();
    let what = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    error!(cid, "panic in thread {thread} at {place}: {}", what.unwrap_or("no words"));
    let trace = Backtrace::force_capture().to_string();
    for line in trace.lines().map(str::trim).take(FRAMES_MAX * 2) {
        error!(cid, "  {line}");
    }
}

/// Frames of a panic that are told.
const FRAMES_MAX: usize = 64;

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
    use tracing::{debug, info, warn};

    fn logged(level: Level, events: impl FnOnce()) -> Vec<String> {
        logged_as(level, false, events)
    }

    fn logged_as(level: Level, json: bool, events: impl FnOnce()) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("objs/shardcast.log");
        let (subscriber, handle) = log(Tank::File(path.clone()), level, json).unwrap();
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
        let coloured = line(UNIX_EPOCH, tracing::Level::ERROR, &fields, Form::Coloured);
        assert!(coloured.starts_with("\x1b[31m[") && coloured.ends_with("\x1b[0m\n"));
        assert!(line(UNIX_EPOCH, tracing::Level::INFO, &fields, Form::Coloured).starts_with('['));
    }

    #[test]
    fn reopen_follows_the_name_and_keeps_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let (subscriber, handle) = log(Tank::File(path.clone()), Level::Info, false).unwrap();
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
        let layer = Lines { queue, shared: shared.clone(), form: Form::Plain };
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..5 {
                info!("x");
            }
        });
        assert_eq!((lines.iter().count(), shared.lost.load(Relaxed)), (2, 3));
    }

    #[test]
    fn json_has_each_field_by_its_name_and_is_bounded() {
        let long = "é\"".repeat(LINE_BYTES_MAX);
        let lines = logged_as(Level::Info, true, || {
            warn!(cid = "a1b2c3d4", kbps = 7, url = %"/live/\nx", "slow \"viewer\"");
            info!(long, "{long}");
        });
        let parsed: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let first = parsed[0].as_object().unwrap();
        assert_eq!(first.keys().collect::<Vec<_>>(), ["time", "level", "pid", "cid", "text", "kbps", "url"]);
        assert_eq!((&first["level"], &first["cid"], &first["kbps"]), (&"WARN".into(), &"a1b2c3d4".into(), &7.into()));
        assert_eq!((&first["text"], &first["url"]), (&"slow \"viewer\"".into(), &"/live/\\nx".into()));
        let time = first["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z') && &time[10..11] == "T", "{time}");
        assert!(lines[1].len() < LINE_BYTES_MAX && parsed[1]["text"].as_str().unwrap().ends_with("..."));
    }

    #[test]
    fn a_panic_is_told_of_its_session_with_its_frames() {
        let work = || futures_lite::future::block_on(current::of("a1b2c3d4", async { panic!("for the test: {}", 7) }));
        let lines = logged(Level::Error, || {
            panic::set_hook(Box::new(tell_panic));
            let _ = panic::catch_unwind(work);
            drop(panic::take_hook());
        });
        let head = format!("[ERROR][{}][a1b2c3d4] panic in thread ", std::process::id());
        assert!(lines[0].contains(&head) && lines[0].ends_with(": for the test: 7"), "{}", lines[0]);
        assert!(lines[0].contains("at shards/src/log.rs:"), "{}", lines[0]);
        assert!(
            lines.len() > 5 && lines.iter().any(|line| line.contains("a_panic_is_told_of_its_session")),
            "{lines:?}"
        );
    }

    #[test]
    fn the_level_changes_while_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (subscriber, handle) = log(Tank::File(path.clone()), Level::Warn, false).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            info!("before");
            handle.set_level(Level::Info);
            info!("after");
        });
        assert_eq!(handle.level(), Level::Info);
        drop(handle);
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains("after") && !text.contains("before"), "{text}");
    }
}
