//! The `shardctl` command: looks into a running server through its HTTP API, and ends clients.

mod clients;
mod http;
mod shards;
mod streams;
mod table;

use clap::{Parser, Subcommand};
use http::{Error, Server};
use std::process::ExitCode;

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
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shardctl: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Error> {
    let Arguments { server, user, token, json, command } = arguments;
    let server = Server::new(server, user.as_deref(), token.as_deref());
    match command {
        Command::Streams => show(server.list("streams")?, json, streams::print),
        Command::Stream { name } => {
            let (streams, clients) = (streams::find(&server, &name)?, clients::list(&server, Some(&name))?);
            show(streams, json, streams::print);
            show(clients, json, |clients| {
                println!();
                clients::print(clients);
            });
        }
        Command::Clients { stream } => show(clients::list(&server, stream.as_deref())?, json, clients::print),
        Command::Kick { id } => {
            let answer = clients::kick(&server, &id)?;
            if json { println!("{answer}") } else { println!("{id} is ended") }
        }
        Command::Shards => {
            let answer = server.get("/api/v1/shards")?;
            show(answer["shards"].as_array().cloned().unwrap_or_default(), json, shards::print);
        }
    }
    Ok(())
}

/// As a table, or one JSON object a line.
fn show(list: Vec<serde_json::Value>, json: bool, print: impl FnOnce(&[serde_json::Value])) {
    if json { list.iter().for_each(|item| println!("{item}")) } else { print(&list) }
}
