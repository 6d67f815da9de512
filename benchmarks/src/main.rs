//! shardbench: publishes and plays live streams, to try and to measure servers.

mod child;
mod churn;
mod crowd;
mod curve;
mod endpoint;
mod feed;
mod histogram;
mod host;
mod http;
mod lane;
mod limit;
mod mark;
mod outlet;
mod pace;
mod play;
mod publish;
mod record;
mod relay;
mod report;
mod rival;
mod source;
mod stand;
mod sys;
mod tls;
mod usage;
mod viewer;
mod websocket;
mod wire;

use clap::Parser;
use std::{error::Error, process::ExitCode};

/// Publishes and plays live streams, to try and to measure servers.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
enum Command {
    /// Publish a test stream: a moving card with a clock, a tone with a beep each second
    Publish(publish::Options),
    /// Watch streams with many viewers, and measure what came and what it cost
    Play(play::Options),
    /// Serve viewers with nothing but one send each per window: what no server can beat here
    Limit(limit::Options),
    /// Let streams and viewers come and go
    Churn(churn::Options),
    /// Be the road between a client and a server, with delay, jitter, loss, reordering and a rate
    Relay(relay::Options),
    /// Set CPU time per viewer against added delay, over merge windows
    Curve(curve::Options),
    /// Measure the rows that a release is judged by
    Report(report::Options),
}

fn main() -> ExitCode {
    let command = Command::parse();
    match run(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shardbench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<(), Box<dyn Error>> {
    sys::catch_stop_signals()?;
    match command {
        Command::Publish(options) => publish::run(options)?,
        Command::Play(options) => play::run(options)?,
        Command::Limit(options) => limit::run(options)?,
        Command::Churn(options) => churn::run(options)?,
        Command::Relay(options) => relay::run(options)?,
        Command::Curve(options) => curve::run(options)?,
        Command::Report(options) => report::run(options)?,
    }
    Ok(())
}
