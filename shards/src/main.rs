//! The `shardcast` command.

use clap::Parser;
use shardcast::{
    config::{Config, Env, Tank},
    launch::{self, Options},
    log,
    net::sys,
};
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};
use tracing::error;

/// Live-media server: RTMP and SRT in; RTMP, HTTP-FLV, HTTP-TS, HLS, SRT and files out, on every core. Takes SRS's
/// conf files.
///
/// Without arguments: RTMP on 1935, HTTP with a player page on 8080, the API on 1985, SRT on 10080/udp,
/// WebRTC on 8000/udp.
#[derive(Parser)]
#[command(version, name = "shardcast")]
struct Arguments {
    /// Configuration file in SRS's format
    #[arg(short = 'c', long = "conf", value_name = "FILE")]
    conf: Option<PathBuf>,

    /// Media shards to run, instead of one per CPU
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: Option<u16>,

    /// Check the configuration and exit
    #[arg(short = 't', long = "test")]
    test: bool,
}

/// Exit status of a bad configuration: SRS's error 1023 as a shell sees it.
const BAD_CONFIG: u8 = 255;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let env = Env::of_process();
    let conf = if env.env_only() { None } else { env.config_file().or(arguments.conf) };
    let loaded = match &conf {
        Some(file) => Config::load(file, &env),
        None => Config::built_in(&env),
    };
    let mut config = match loaded {
        Ok(config) => config,
        Err(error) => {
            eprintln!("shardcast: {error}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    if let Some(shards) = arguments.shards {
        config.shards = Some(shards.into());
    }
    if arguments.test {
        println!("shardcast: the configuration is good");
        return ExitCode::SUCCESS;
    }
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shardcast: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config) -> Result<(), launch::Failure> {
    let tank = match config.log.tank {
        Tank::Console => log::Tank::Console,
        Tank::File => {
            println!("shardcast: the log goes to {}", config.log.file.display());
            log::Tank::File(config.log.file.clone())
        }
    };
    // Before any other thread starts: one that has not blocked a signal gets it.
    let signals = sys::signals()?;
    // Dropped last: what is still queued is written then.
    let log = Arc::new(log::start(tank, config.log.level)?);
    let quit = Arc::new(AtomicBool::new(false));
    launch::heed_signals(signals, quit.clone(), Arc::downgrade(&log))?;
    let served = launch::run(Options { config, fault: None, quit });
    if let Err(failure) = &served {
        error!("{failure}");
    }
    served
}
