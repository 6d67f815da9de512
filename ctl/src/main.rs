//! The `shardctl` command: looks into a running server through its HTTP API, and ends clients.

mod clients;
mod http;
mod shards;
mod streams;
mod table;

use clap::{Parser, Subcommand};
use http::{Error, Server};
use serde_json::Value;
use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
};

/// Looks into a running Shardcast server.
#[derive(Parser)]
#[command(version, name = "shardctl")]
struct Arguments {
    /// Host and port of the server's HTTP API
    #[arg(long, short = 's', default_value = "127.0.0.1:1985", value_name = "HOST:PORT", global = true)]
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
    },
    /// End a client's connection
    Kick {
        /// As `clients` and the server's log print it
        id: String,
    },
    /// List the shards: their load and what they serve
    Shards,
}

fn main() -> ExitCode {
    let lines = match run(Arguments::parse()) {
        Ok(lines) => lines,
        Err(error) => {
            eprintln!("shardctl: {error}");
            return ExitCode::FAILURE;
        }
    };
    let text: String = lines.into_iter().map(|line| line + "\n").collect();
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads it has seen enough, as `head` does.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("shardctl: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// What there is to say, by line.
fn run(arguments: Arguments) -> Result<Vec<String>, Error> {
    let Arguments { server, user, token, json, command } = arguments;
    let server = Server::new(server, user.as_deref(), token.as_deref());
    // One JSON object a line, or a table.
    let show = |list: Vec<Value>, table: fn(&[Value]) -> Vec<String>| {
        if json { list.iter().map(Value::to_string).collect() } else { table(&list) }
    };
    Ok(match command {
        Command::Streams => show(server.list("streams")?, streams::table),
        Command::Stream { name } => {
            let mut lines = show(streams::find(&server, &name)?, streams::table);
            lines.extend((!json).then(String::new));
            lines.extend(show(clients::list(&server, Some(&name))?, clients::table));
            lines
        }
        Command::Clients { stream } => show(clients::list(&server, stream.as_deref())?, clients::table),
        Command::Kick { id } => {
            let answer = clients::kick(&server, &id)?;
            vec![if json { answer.to_string() } else { format!("{id} is ended") }]
        }
        Command::Shards => {
            let answer = server.get("/api/v1/shards")?;
            show(answer["shards"].as_array().cloned().unwrap_or_default(), shards::table)
        }
    })
}
