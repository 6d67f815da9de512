//! The `shardctl` command: looks into a running server through its HTTP API, ends clients, and tells of machines.

mod clients;
mod config;
mod doctor;
mod events;
mod http;
mod player;
mod shards;
mod streams;
mod stun;
mod table;
mod terminal;
mod top;

use clap::{CommandFactory, Parser, Subcommand, builder::PossibleValuesParser};
use clap_complete::Shell;
use http::{Error, Server};
use serde_json::Value;
use std::{
    io::{self, ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};
use table::Column;

/// Looks into a running Shardcast server.
#[derive(Parser)]
#[command(version, name = "shardctl")]
struct Arguments {
    /// Host and port of the server's HTTP API
    #[arg(long, short = 's', default_value = "127.0.0.1:1985", value_name = "HOST:PORT", global = true,
        value_parser = http::address)]
    server: String,

    /// For a server with http_api.auth of type basic
    #[arg(long, short = 'u', value_name = "NAME:PASSWORD", global = true)]
    user: Option<String>,

    /// For a server with http_api.auth of type bearer
    #[arg(long, value_name = "TOKEN", global = true, conflicts_with = "user")]
    token: Option<String>,

    /// The server's JSON instead of a table
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the streams: who publishes, what they carry, how many watch
    Streams,
    /// Show one stream and its clients
    Stream {
        /// Its URL as `streams` prints it, or its name
        name: String,
    },
    /// List who publishes and plays
    Clients {
        /// Those of one stream only
        #[arg(long)]
        stream: Option<String>,
        /// Those alone that are a second behind or have skipped frames, the furthest behind first
        #[arg(long)]
        slow: bool,
    },
    /// End a client's connection
    Kick {
        /// As `clients` and the server's log print it
        id: String,
    },
    /// List the shards: their load and what they serve
    Shards,
    /// Watch streams and clients on a screen of its own, by rate or lag
    Top {
        /// Seconds between two looks
        #[arg(long, short = 'n', default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
        interval: u64,
    },
    /// Follow what happens: who publishes, plays, ends, and skips frames
    Events,
    /// Have the server read its configuration again, and say what becomes of it
    Reload,
    /// Look after configurations
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show what the server logs, or set it until it ends
    LogLevel {
        #[arg(value_parser = PossibleValuesParser::new(["trace", "debug", "info", "warn", "error", "off"]))]
        level: Option<String>,
    },
    /// Examine this machine, and whether the server is reachable from here
    Doctor {
        /// Begin to play this by WebRTC, to reach the addresses that the server tells players; its hooks are asked
        #[arg(long, value_name = "APP/STREAM[?QUERY]")]
        play: Option<String>,
    },
    /// Print a script that completes commands in a shell
    Completions { shell: Shell },
    /// Print the manual page
    Man,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check a configuration as the server would at its start; the `shardcast` beside this program does
    Check { file: PathBuf },
}

fn main() -> ExitCode {
    let lines = match run(Arguments::parse()) {
        Ok(lines) => lines,
        Err(error) => {
            eprintln!("shardctl: {error}");
            return ExitCode::FAILURE;
        }
    };
    if print(&lines) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(lines: &[String]) -> bool {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads it has seen enough, as `head` does.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("shardctl: {error}");
            false
        }
        _ => true,
    }
}

/// What there is to say, by line.
fn run(arguments: Arguments) -> Result<Vec<String>, Error> {
    let Arguments { server, user, token, json, command } = arguments;
    let server = Server::new(server, user.as_deref(), token.as_deref());
    // One JSON object a line, or a table.
    let show = |list: Vec<Value>, columns: &[Column]| {
        if json { list.iter().map(Value::to_string).collect() } else { table::table(columns, &list) }
    };
    Ok(match command {
        Command::Streams => show(server.list("streams")?, &streams::COLUMNS),
        Command::Stream { name } => {
            let found = streams::find(&server, &name)?;
            let tracks: Vec<_> =
                found.iter().filter_map(|stream| stream["tracks"].as_array()).flatten().cloned().collect();
            let mut lines = show(found, &streams::COLUMNS);
            if !json {
                lines.push(String::new());
                lines.extend(show(tracks, &streams::TRACKS));
                lines.push(String::new());
            }
            lines.extend(show(clients::list(&server, Some(&name), false)?, &clients::COLUMNS));
            lines
        }
        Command::Clients { stream, slow } => show(clients::list(&server, stream.as_deref(), slow)?, &clients::COLUMNS),
        Command::Kick { id } => {
            let answer = clients::kick(&server, &id)?;
            vec![if json { answer.to_string() } else { format!("{id} is ended") }]
        }
        Command::Shards => {
            let answer = server.get("/api/v1/shards")?;
            show(answer["shards"].as_array().cloned().unwrap_or_default(), &shards::COLUMNS)
        }
        Command::Top { interval } => {
            top::run(&server, Duration::from_secs(interval))?;
            vec![]
        }
        Command::Events => {
            events::follow(&server, json)?;
            vec![]
        }
        Command::Reload => {
            let answer = config::reload(&server)?;
            vec![if json { answer.to_string() } else { "the configuration is in force".into() }]
        }
        Command::Config(ConfigCommand::Check { file }) => {
            config::check(&file)?;
            vec![]
        }
        Command::LogLevel { level } => {
            let answer = config::log_level(&server, level.as_deref())?;
            vec![if json { answer.to_string() } else { table::text(&answer["data"]["level"]) }]
        }
        Command::Doctor { play } => {
            let findings = doctor::examine(&server, play.as_deref());
            let said = |finding: &doctor::Finding| {
                if json { vec![finding.to_json().to_string()] } else { finding.lines() }
            };
            print(&findings.iter().flat_map(said).collect::<Vec<_>>());
            match findings.iter().filter(|finding| finding.is_bad()).count() {
                0 => vec![],
                bad => return Err(Error::Unfit(bad)),
            }
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "shardctl", &mut io::stdout());
            vec![]
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Arguments::command()).render(&mut page).map_err(Error::Terminal)?;
            String::from_utf8_lossy(&page).lines().map(str::to_owned).collect()
        }
    })
}
