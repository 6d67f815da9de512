//! The `shardctl` command: looks into a running server through its HTTP API.

mod http;
mod streams;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Looks into a running Shardcast server.
#[derive(Parser)]
#[command(version, name = "shardctl")]
struct Arguments {
    /// Host and port of the server's HTTP API
    #[arg(long, short = 's', default_value = "127.0.0.1:1985", value_name = "HOST:PORT")]
    server: String,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the streams: who publishes, what they carry, how many watch
    Streams,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Streams => streams::run(&arguments.server),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shardctl: {error}");
            ExitCode::FAILURE
        }
    }
}
