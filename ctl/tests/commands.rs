//! Each command against a server, with ffmpeg as its client and tmux as the terminal.

use serde_json::Value;
use shardcast::{
    config::{Env, Source},
    launch::{self, Options, Orders},
};
use std::{
    fs,
    net::{TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
const CTL: &str = env!("CARGO_BIN_EXE_shardctl");

#[test]
fn a_server_is_looked_into_followed_and_changed() {
    let server = Server::start();
    let mut events = Talker::start(server.ctl().arg("events"));
    // It follows once it is told of something.
    server.reload_until(|| events.said().contains("reload"));

    let _publisher = server.publish("a");
    let said = events.wait_for("a publisher", |said| said.contains("fmle-publish"));
    let id = said
        .lines()
        .find(|line| line.contains("publish"))
        .expect("a line")
        .split_whitespace()
        .nth(2)
        .expect("an id")
        .to_owned();
    until("its picture", || server.says(&["stream", "a"]).contains("320x180").then_some(()));
    until("a GOP", || server.says(&["stream", "a"]).lines().any(|line| line.ends_with(" no")).then_some(()));
    assert!(server.says(&["clients", "--stream", "live/a"]).contains(&id));
    assert!(!server.says(&["clients", "--slow"]).contains(&id), "a publisher is not behind");
    let json: Value =
        serde_json::from_str(server.says(&["--json", "stream", "a"]).lines().next().expect("a line")).expect("JSON");
    assert_eq!(json["publish"]["cid"], id.as_str());
    assert_eq!(server.says(&["shards"]).lines().count(), 3);

    assert_eq!(server.says(&["kick", &id]), format!("{id} is ended\n"));
    events
        .wait_for("the publisher's end", |said| said.contains("unpublish") && said.contains("kicked through the API"));

    assert_eq!(server.says(&["reload"]), "the configuration is in force\n");
    fs::write(server.conf(), "nonsense;").expect("write a configuration");
    let refused = server.ctl().arg("reload").output().expect("a command");
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("is refused") && why.contains("nonsense"), "{why}");
    // A server inside of another program has no log whose level could be set.
    let refused = server.ctl().arg("log-level").output().expect("a command");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("error 1062"), "{refused:?}");
}

#[test]
fn top_is_readable_true_and_kicks() {
    let server = Server::start();
    let _publisher = server.publish("top");
    let _viewers: Vec<_> = (0..3).map(|_| server.play("top")).collect();
    let screen = Screen::start(&server);
    let row = screen.wait_for("the stream with its three viewers", |screen| {
        let row = screen.lines().find(|line| line.starts_with("/live/top"))?.to_owned();
        (row.split_whitespace().nth(1) == Some("4") && screen.contains("1 publishers, 3 viewers")).then_some(row)
    });
    assert!(row.contains("320x180"), "{row}");
    screen.press("Enter");
    let clients = |screen: &str| screen.lines().filter(|line| line.contains("flv-play")).count();
    screen.wait_for("its clients", |screen| (clients(screen) == 3 && screen.contains("fmle-publish")).then_some(()));
    // Of the filter's letters none is a command.
    screen.press("/");
    screen.press("q");
    screen.wait_for("nothing passes the filter", |screen| {
        screen.contains("0 clients by rate, with /live/topq_").then_some(())
    });
    screen.press("Escape");
    screen.press("l");
    screen.wait_for("by lag", |screen| screen.contains("4 clients by lag").then_some(()));
    screen.press("k");
    screen.wait_for("a question", |screen| screen.contains("? y/n").then_some(()));
    screen.press("y");
    screen.wait_for("one is ended", |screen| (clients(screen) == 2 && screen.contains("2 viewers")).then_some(()));
    screen.press("q");
    screen.wait_for_end();
}

#[test]
fn doctor_reaches_what_the_server_tells_its_clients() {
    let server = Server::start();
    let said = server.ctl().arg("doctor").output().expect("a command");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    for part in ["good io_uring", "locked memory", "open files", "net.core.rmem_max", "good a server answers"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    for (what, port) in [("RTMP", server.ports[0]), ("SRT", server.ports[3])] {
        assert!(text.contains(&format!("good {what} at 127.0.0.1:{port} answers")), "{what} in {text}");
    }
    assert!(text.contains(&format!("open WebRTC at 127.0.0.1:{} does not refuse", server.ports[4])), "{text}");
    // A player gets an answer, and leaves nothing behind.
    let said = server.ctl().args(["doctor", "--play", "live/reached?k=v"]).output().expect("a command");
    let played = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(played.contains(&format!("good WebRTC at 127.0.0.1:{} answers", server.ports[4])), "{played}");
    until("it is gone", || (!server.says(&["clients"]).contains("/live/reached")).then_some(()));
    // Each that is not good has a line with what mends it.
    let lines: Vec<_> = text.lines().collect();
    for pair in lines.windows(2).filter(|pair| !pair[0].starts_with(' ') && !pair[0].starts_with("good")) {
        assert!(pair[1].starts_with("     ") && !pair[1].trim().is_empty(), "{text}");
    }
    let [free, ..] = free_ports();
    let alone = Command::new(CTL)
        .args(["--json", "--server", &format!("127.0.0.1:{free}"), "doctor"])
        .output()
        .expect("a command");
    let findings = String::from_utf8_lossy(&alone.stdout).into_owned();
    assert!(findings.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|one| one["grade"].is_string())));
    assert!(findings.contains("no server answers"), "{findings}");
}

#[test]
fn configurations_are_checked_by_the_server_beside_it() {
    let Some(_) = PathBuf::from(CTL).parent().map(|folder| folder.join("shardcast")).filter(|path| path.is_file())
    else {
        println!("SKIPPED: the server is not built, so nobody can check");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    for (conf, good) in [("listen 1935;", true), ("listen 1935; nonsense;", false)] {
        let file = folder.path().join("test.conf");
        fs::write(&file, conf).expect("write a configuration");
        let said = Command::new(CTL).args(["config", "check"]).arg(file).output().expect("a command");
        assert_eq!(said.status.success(), good, "{said:?}");
        assert_eq!(String::from_utf8_lossy(&said.stderr).contains("nonsense"), !good, "{said:?}");
    }
}

#[test]
fn shells_and_man_know_all_commands() {
    let said = |arguments: &[&str]| {
        let said = Command::new(CTL).args(arguments).output().expect("a command");
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).expect("UTF-8")
    };
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&["completions", shell]);
        for command in ["streams", "kick", "top", "events", "reload", "log-level", "doctor"] {
            assert!(script.contains(command), "{command} in {shell}");
        }
    }
    let page = said(&["man"]);
    assert!(page.contains(".TH shardctl 1") && page.contains("log\\-level"), "{page}");
}

/// A server in this process, on free ports.
struct Server {
    /// RTMP, HTTP, API, SRT, WebRTC.
    ports: [u16; 5],
    folder: TempDir,
    orders: Arc<Orders>,
    running: Option<JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        let (ports, folder) = (free_ports(), tempfile::tempdir().expect("a folder"));
        let [rtmp, http, api, srt, rtc] = ports;
        let file = folder.path().join("test.conf");
        let conf = format!(
            "listen 127.0.0.1:{rtmp};
             http_server {{ enabled on; listen 127.0.0.1:{http}; }}
             http_api {{ enabled on; listen 127.0.0.1:{api}; raw_api {{ enabled on; allow_reload on; }} }}
             srt_server {{ enabled on; listen 127.0.0.1:{srt}; }}
             rtc_server {{ enabled on; listen 127.0.0.1:{rtc}; candidate 127.0.0.1; }}
             vhost __defaultVhost__ {{ http_remux {{ enabled on; }} rtc {{ enabled on; }} }}"
        );
        fs::write(&file, conf).expect("write a configuration");
        let mut config = Source::File(file).read(&Env::default()).expect("a configuration");
        config.shards = Some(2);
        let options = Options::new(config);
        let orders = options.orders.clone();
        let running = thread::spawn(move || launch::run(options).expect("the server runs"));
        until("the server is ready", || {
            assert!(!running.is_finished(), "the server ended");
            TcpStream::connect(("127.0.0.1", api)).ok()
        });
        Self { ports, folder, orders, running: Some(running) }
    }

    fn conf(&self) -> PathBuf {
        self.folder.path().join("test.conf")
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[2])
    }

    fn ctl(&self) -> Command {
        let mut command = Command::new(CTL);
        command.args(["--server", &self.address()]);
        command
    }

    /// What a command that succeeds says.
    fn says(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.ctl().args(arguments).output().expect("a command");
        if status.success() {
            String::from_utf8(stdout).expect("UTF-8")
        } else {
            String::from_utf8_lossy(&stderr).into()
        }
    }

    fn reload_until(&self, mut seen: impl FnMut() -> bool) {
        until("a reload is seen", || {
            assert_eq!(self.says(&["reload"]), "the configuration is in force\n");
            seen().then_some(())
        });
    }

    fn publish(&self, name: &str) -> Client {
        let picture = ["-re", "-f", "lavfi", "-i", "testsrc=s=320x180:r=25", "-c:v", "libx264", "-preset", "ultrafast"];
        let url = format!("rtmp://127.0.0.1:{}/live/{name}", self.ports[0]);
        Client::start(&[&picture[..], &["-pix_fmt", "yuv420p", "-g", "25", "-f", "flv", &url]].concat())
    }

    fn play(&self, name: &str) -> Client {
        let url = format!("http://127.0.0.1:{}/live/{name}.flv", self.ports[1]);
        Client::start(&["-i", &url, "-c", "copy", "-f", "null", "-"])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.orders.quit.set();
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}

/// An ffmpeg that ends with its value.
struct Client(Child);

impl Client {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "quiet"]).args(arguments).stdin(Stdio::null());
        Self(command.spawn().expect("ffmpeg; deploy/install-deps test brings it"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that goes on, and what it has said so far.
struct Talker {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: String,
}

impl Talker {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a command");
        let stdout = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let lines = std::io::BufRead::lines(stdout).map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        Self { child, lines, said: String::new() }
    }

    fn said(&mut self) -> &str {
        for line in self.lines.try_iter() {
            self.said.push_str(&line);
            self.said.push('\n');
        }
        &self.said
    }

    fn wait_for(&mut self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        until(what, || is_there(self.said()).then(|| self.said.clone()))
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `shardctl top` in a tmux server of its own.
struct Screen {
    socket: String,
}

impl Screen {
    fn start(server: &Server) -> Self {
        let screen = Self { socket: format!("shardctl-{}", server.ports[2]) };
        let top = format!("{CTL} --server {} top", server.address());
        screen.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "130", "-y", "16", &top]);
        screen
    }

    fn tmux(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.socket]).args(arguments).output().expect("tmux; deploy/install-deps test brings it")
    }

    fn press(&self, key: &str) {
        assert!(self.tmux(&["send-keys", key]).status.success(), "press {key}");
    }

    fn wait_for<T>(&self, what: &str, look: impl Fn(&str) -> Option<T>) -> T {
        let mut last = String::new();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            last = String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p"]).stdout).into_owned();
            if let Some(found) = look(&last) {
                return found;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("not on the screen: {what}\n{last}");
    }

    fn wait_for_end(&self) {
        until("top ends", || (!self.tmux(&["has-session"]).status.success()).then_some(()));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn free_ports() -> [u16; 5] {
    let held: Vec<_> = (0..5).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let mut ports = held.iter().map(|held| held.local_addr().expect("its address").port());
    let mut ports: [u16; 5] = std::array::from_fn(|_| ports.next().expect("five"));
    for port in &mut ports[3..] {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        *port = socket.local_addr().expect("its address").port();
    }
    ports
}
