//! The process as its operator has it: how it starts, in the background too, and how it ends.

use crate::support::{
    PATIENCE, http,
    media::Media,
    process::{Output, Process, signal},
    publisher::Publisher,
    server::{self, Ports, Server, local},
    until,
    viewer::Viewer,
};
use std::{
    fs,
    net::TcpStream,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const SHARDS: usize = 2;
const CONF: &str = "
    listen 1935;
    http_server { enabled on; }
    http_api { enabled on; }
    vhost __defaultVhost__ { http_remux { enabled on; } }
";

fn run(command: &mut Command) -> Output {
    Process::start(command).finish(PATIENCE)
}

fn shardcast(arguments: &[&str], folder: &Path) -> Command {
    let mut command = server::command(Ports::free());
    command.args(arguments).current_dir(folder);
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), output.stderr.join("\n"))
}

#[test]
fn the_command_line_is_that_of_srs() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("good.conf"), "listen 1935;\nvhost a { include more.conf; }\n").expect("write");
    fs::write(folder.path().join("more.conf"), "enabled on;\n").expect("write");
    fs::write(folder.path().join("bad.conf"), "listen 1935;\nnonsense on;\n").expect("write");
    fs::write(folder.path().join("lacks.conf"), "listen 1935;\ninclude nowhere.conf;\n").expect("write");
    fs::write(folder.path().join("both.conf"), "listen 1935;\nasprocess on;\n").expect("write");
    let version = env!("CARGO_PKG_VERSION");
    let signature = format!("Shardcast/{version}");
    for (arguments, status, words) in [
        (&["-v"][..], 0, version),
        (&["-V"], 0, version),
        (&["-g"], 0, &signature),
        (&["-h"], 0, "-e"),
        (&["-?"], 0, "-e"),
        (&["-x"], 255, "-x"),
        (&["good.conf"], 0, "Usage: shardcast [OPTIONS]"),
        (&["-c", "good.conf", "more"], 0, "Usage: shardcast [OPTIONS]"),
        (&["-t", "-c", "good.conf"], 0, "the config file good.conf syntax is ok"),
        (&["-t", "-cgood.conf"], 0, "config file good.conf test is successful"),
        (&["-t", "-c", "bad.conf"], 255, "config file bad.conf test is failed"),
        (&["-t", "-c", "bad.conf"], 255, "bad.conf:2:1: illegal directive nonsense"),
        (&["-t", "-c", "lacks.conf"], 18, "nowhere.conf"),
        (&["-t", "-c", "none.conf"], 255, "no config file at none.conf"),
        (&["-t", "-e"], 0, "environment"),
    ] {
        let output = run(&mut shardcast(arguments, folder.path()));
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(words), "{arguments:?}: {}", said(&output));
    }
    let by_variable = run(shardcast(&["-t", "-c", "good.conf"], folder.path()).env("SRS_CONFIG_FILE", "bad.conf"));
    assert_eq!(by_variable.status.code(), Some(255), "{}", said(&by_variable));
    let both = run(shardcast(&["-t", "-c", "both.conf"], folder.path()).env("SRS_DAEMON", "on"));
    assert_eq!(both.status.code(), Some(255), "{}", said(&both));
    assert!(said(&both).contains("asprocess"), "{}", said(&both));
}

#[test]
fn variables_alone_are_enough() {
    let ports = Ports::free();
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = server::command(ports);
    // Off and console are what a start without a file has by itself.
    command.env_remove("SRS_DAEMON").env_remove("SRS_LOG_TANK").current_dir(folder.path());
    command.env("SRS_VHOST_HTTP_REMUX_ENABLED", "on").env("SRS_HTTP_SERVER_ENABLED", "on");
    let mut server = Process::talking(command.args(["-e", "--shards", "2"]));
    server.lines.wait_for(&["is ready after"], PATIENCE);
    assert!(TcpStream::connect(local(ports.rtmp)).is_ok());
    assert!(TcpStream::connect(local(ports.api)).is_err(), "an API that nobody asked for");
    let url = format!("rtmp://127.0.0.1:{}/live/env", ports.rtmp);
    let viewer = Viewer::open(ports.http, "live/env");
    let _publisher = Publisher::looping_to(&url, Media::Plain);
    until("pictures", || viewer.newest_ms());
    let pid = fs::read_to_string(folder.path().join("objs/srs.pid")).expect("the pid file of SRS");
    assert_eq!(pid, server.id().to_string());
    server.terminate();
    let status = until("the end", || server.ended());
    assert!(status.success());
}

#[test]
fn it_goes_to_the_background_and_holds_its_pid_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let work = folder.path().join("work");
    fs::create_dir(&work).expect("a folder");
    let conf = format!("{CONF} pid run/my.pid; work_dir {}; srs_log_file run/my.log;", work.display());
    fs::write(folder.path().join("test.conf"), conf).expect("write");
    let ports = Ports::free();
    let start_as = |pid: &str, ports: Ports| {
        let mut command = server::command(ports);
        command.env("SRS_PID", pid);
        command.env_remove("SRS_DAEMON").env("SRS_LOG_TANK", "file").env("SRS_DISABLE_DAEMON_FOR_DOCKER", "off");
        command.args(["-c", "test.conf", "--shards", "2"]).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("start the server")
    };
    let start = |ports: Ports| start_as("run/my.pid", ports);
    assert!(start(ports).success());
    // Whoever waited for the start finds it serving.
    let pid: u32 = fs::read_to_string(work.join("run/my.pid")).expect("a pid file").parse().expect("a pid");
    let _end = Background(pid);
    assert!(TcpStream::connect(local(ports.rtmp)).is_ok());
    let versions = http::request(ports.api, "GET", "/api/v1/versions", &[]).json();
    let id = fs::read_to_string(work.join("run/my.id")).expect("the server's id");
    assert_eq!(versions["server"], id.as_str());

    let second = start(Ports::free());
    assert_eq!(second.code(), Some(11), "as SRS, 1035 & 0xff");
    assert_eq!(start_as("run/other.pid", ports).code(), Some(234), "as SRS, 1002 & 0xff");
    let in_front = run(shardcast(&["-c", "test.conf"], folder.path()).env("SRS_DAEMON", "off"));
    assert!(said(&in_front).contains(&format!("pid {pid}")), "{}", said(&in_front));
    assert_eq!(fs::read_to_string(work.join("run/my.pid")).expect("a pid file"), pid.to_string());

    // Logrotate, and the configuration by a relative path from another working directory.
    fs::rename(work.join("run/my.log"), work.join("run/old.log")).expect("rename the log");
    signal(pid, "USR1");
    until("a new log", || work.join("run/my.log").exists().then_some(()));
    signal(pid, "HUP");
    until("the file is read", || {
        let log = fs::read_to_string(work.join("run/my.log")).ok()?;
        log.contains("differences are in force").then_some(())
    });
    signal(pid, "TERM");
    until("the end", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    assert!(start(ports).success(), "the lock went with the process");
    let next: u32 = fs::read_to_string(work.join("run/my.pid")).expect("a pid file").parse().expect("a pid");
    let _end = Background(next);
    assert_eq!(fs::read_to_string(work.join("run/my.id")).expect("the server's id"), id);
}

/// A server that is nobody's child.
struct Background(u32);

impl Drop for Background {
    fn drop(&mut self) {
        if Path::new(&format!("/proc/{}", self.0)).exists() {
            signal(self.0, "KILL");
        }
    }
}

#[test]
fn a_graceful_end_lets_viewers_finish() {
    for by_term in [false, true] {
        let force = if by_term { "force_grace_quit on;" } else { "" };
        let conf = format!("{CONF} grace_start_wait 300; grace_final_wait 300; {force}");
        let server = Server::of_conf(&conf, SHARDS);
        let viewer = Viewer::open(server.ports.http, "live/last");
        let publisher = Publisher::looping(&server, "live/last", Media::Plain);
        let before = until("pictures", || viewer.newest_ms());
        server.signal(if by_term { "TERM" } else { "QUIT" });
        until("the ports close", || TcpStream::connect(local(server.ports.rtmp)).is_err().then_some(()));
        assert!(TcpStream::connect(local(server.ports.http)).is_err());
        let closed = viewer.newest_ms().unwrap_or(before);
        until("it goes on", || viewer.newest_ms().filter(|newest| *newest > closed + 3_000));
        drop(publisher);
        until("the viewer has all", || viewer.ended().then_some(()));
        assert!(server.wait_for_end(PATIENCE).success());
    }
}

#[test]
fn a_graceful_end_has_a_bound_and_can_be_cut_short() {
    for cut in [false, true] {
        let bound = if cut { "" } else { "grace_sessions_wait 500;" };
        let server = Server::of_conf(&format!("{CONF} grace_start_wait 0; grace_final_wait 0; {bound}"), SHARDS);
        let viewer = Viewer::open(server.ports.http, "live/long");
        let _publisher = Publisher::looping(&server, "live/long", Media::Plain);
        until("pictures", || viewer.newest_ms());
        server.signal("QUIT");
        until("the ports close", || TcpStream::connect(local(server.ports.rtmp)).is_err().then_some(()));
        if cut {
            server.signal("TERM");
        }
        assert!(server.wait_for_end(Duration::from_secs(10)).success());
    }
}

#[test]
fn systemd_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("test.conf");
    fs::write(&file, CONF).expect("write");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let wait_for = |words: &str| {
        let mut buffer = [0; 256];
        loop {
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{words}: {error}"));
            let got = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if got.contains(words) {
                return got;
            }
        }
    };
    let mut command = server::command(Ports::free());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000").env("SRS_PID", folder.path().join("srs.pid"));
    let mut server = Process::talking(command.args(["--shards", "2", "-c"]).arg(&file));
    assert_eq!(wait_for("READY=1"), format!("READY=1\nMAINPID={}", server.id()));
    for _ in 0..3 {
        wait_for("WATCHDOG=1");
    }
    signal(server.id(), "HUP");
    wait_for("RELOADING=1\nMONOTONIC_USEC=");
    wait_for("READY=1");
    server.terminate();
    wait_for("STOPPING=1");
    assert!(until("the end", || server.ended()).success());
}

#[test]
fn a_server_whose_parent_has_gone_goes_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("test.conf");
    fs::write(&file, format!("{CONF} asprocess on;")).expect("write");
    let mut command = server::command(Ports::free());
    command.env("SRS_PID", folder.path().join("srs.pid")).args(["--shards", "2", "-c"]).arg(&file);
    // A parent that waits for a line, and then goes.
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg("\"$@\" & echo $! >&2; read line")
        .arg("sh")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let (read, write) = std::io::pipe().expect("a pipe");
    let mut parent = shell.stdin(read).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell");
    let pid_file = folder.path().join("srs.pid");
    let pid: u32 = until("the server runs", || fs::read_to_string(&pid_file).ok()?.parse().ok());
    let _end = Background(pid);
    drop(write);
    parent.wait().expect("the shell ends");
    until("the server ends", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
}
