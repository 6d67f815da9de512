//! The `shardcast` command.

use clap::{ArgAction, CommandFactory, Parser};
use shardcast::{
    config::{Config, ConfigError, Env, Fault, Source, SyntaxError, Tank},
    launch::{
        self, Options, Orders, Supervisor, of_srs,
        pid_file::{self, PidFile, Unheld},
    },
    log,
    net::sys,
};
use std::{env, io, os::unix::process::parent_id, path::PathBuf, process::ExitCode, sync::Arc};
use tracing::{error, info};

/// Gives memory back when streams end, and takes what another shard allocated without a lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Live-media server: RTMP, SRT and WebRTC in; the same, HTTP-FLV, HTTP-TS, HLS and files out, on every core. Takes SRS's
/// conf files.
///
/// Without arguments: RTMP on 1935, HTTP with a player page on 8080, the API on 1985, SRT on 10080/udp,
/// WebRTC on 8000/udp.
#[derive(Parser)]
#[command(version, name = "shardcast", disable_version_flag = true, disable_help_flag = true)]
struct Arguments {
    /// Configuration file in SRS's format; SRS_CONFIG_FILE wins
    #[arg(short = 'c', long = "conf", value_name = "FILE")]
    conf: Option<PathBuf>,

    /// Read no file: the SRS_ variables of the environment say all. The same with SRS_ENV_ONLY
    #[arg(short = 'e', long = "env")]
    env_only: bool,

    /// Media shards to run, instead of one per CPU
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: Option<u16>,

    /// Check the configuration and exit
    #[arg(short = 't', long = "test")]
    test: bool,

    /// Print help
    #[arg(short = 'h', short_alias = '?', long, action = ArgAction::Help)]
    help: Option<bool>,

    /// Print the version
    #[arg(short = 'v', short_alias = 'V')]
    number: bool,

    /// Print name and version
    #[arg(long, action = ArgAction::Version)]
    version: Option<bool>,

    /// Print how the server names itself to its peers
    #[arg(short = 'g', short_alias = 'G', long)]
    signature: bool,

    /// What is no option asks for help, as with SRS
    #[arg(hide = true)]
    words: Vec<String>,
}

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("asprocess: the parent process has gone already")]
    Orphan,
    #[error("work_dir {}: {source}", path.display())]
    WorkDir { path: PathBuf, source: io::Error },
    #[error("go to the background: {0}")]
    Background(io::Error),
    #[error(transparent)]
    Pid(#[from] Unheld),
    #[error(transparent)]
    Server(#[from] launch::Failure),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Failure {
    /// What a shell sees of SRS's error number, where it has one for this.
    fn status(&self) -> u8 {
        match self {
            Self::Config(ConfigError::Syntax(SyntaxError::At { fault: Fault::Include { .. }, .. })) => of_srs(1042),
            Self::Config(_) => of_srs(1023),
            Self::Pid(Unheld::Taken { .. }) => of_srs(1035),
            Self::Orphan => of_srs(1073),
            Self::Server(failure) => failure.status(),
            _ => 1,
        }
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help is one of them.
            let status = if error.use_stderr() { of_srs(1023) } else { 0 };
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    if !arguments.words.is_empty() {
        let _ = Arguments::command().print_help();
    } else if arguments.number {
        println!("{}", env!("CARGO_PKG_VERSION"));
    } else if arguments.signature {
        println!("{}", shardcast::SERVER);
    } else if let Err(failure) = start(arguments) {
        eprintln!("shardcast: {failure}");
        return ExitCode::from(failure.status());
    }
    ExitCode::SUCCESS
}

/// Everything that must be done while the process has one thread.
fn start(arguments: Arguments) -> Result<(), Failure> {
    let parent = parent_id();
    let env = Env::of_process();
    let source = Source::choose(arguments.conf, arguments.env_only, &env);
    let read = source.read(&env);
    if arguments.test {
        match &read {
            Ok(_) => println!("the config file {source} syntax is ok\nconfig file {source} test is successful"),
            Err(_) => println!("config file {source} test is failed"),
        }
        return Ok(read.map(drop)?);
    }
    let mut config = read?;
    if let Some(shards) = arguments.shards {
        config.shards = Some(shards.into());
    }
    let process = &config.process;
    if process.asprocess && parent == 1 {
        return Err(Failure::Orphan);
    }
    let path = &process.work_dir;
    env::set_current_dir(path).map_err(|source| Failure::WorkDir { path: path.clone(), source })?;
    let starter = match process.daemon {
        true => Some(sys::go_to_background().map_err(Failure::Background)?),
        false => None,
    };
    let mut supervisor = Supervisor::of_process(starter)?;
    let held = hold(&config);
    if let Err(failure) = &held {
        supervisor.failed(failure.status());
    }
    let (_pid_file, server_id) = held?;
    serve(config, env, server_id, supervisor, parent)
}

/// The pid file, and the server's id.
fn hold(config: &Config) -> Result<(Option<PidFile>, String), Failure> {
    let wanted = config.process.server_id.as_deref();
    Ok(match &config.process.pid {
        Some(path) => {
            let held = PidFile::hold(path)?;
            let id = held.server_id(wanted)?;
            (Some(held), id)
        }
        None => (None, wanted.map_or_else(pid_file::fresh_id, Into::into)),
    })
}

fn serve(config: Config, env: Env, server_id: String, supervisor: Supervisor, parent: u32) -> Result<(), Failure> {
    let tank = match config.log.tank {
        Tank::Console => log::Tank::Console,
        Tank::File => {
            println!("shardcast: the log goes to {}", config.log.file.display());
            log::Tank::File(config.log.file.clone())
        }
    };
    if config.log.utc {
        sys::use_utc();
    }
    // Before any other thread starts: one that has not blocked a signal gets it.
    let signals = sys::signals()?;
    // Dropped last: what is still queued is written then.
    let log = Arc::new(log::start(tank, config.log.level, config.log.json)?);
    let orders = Arc::new(Orders::default());
    launch::heed_signals(signals, orders.clone(), Arc::downgrade(&log))?;
    if let (Source::File(file), true) = (&config.source, config.process.auto_reload) {
        let file = env.folder.join(file);
        match launch::watch_file(&file, orders.clone()) {
            Ok(()) => info!("{} is read again when it changes", file.display()),
            Err(error) => error!("inotify_auto_reload: watch {}: {error}", file.display()),
        }
    }
    let served = launch::run(Options {
        config,
        fault: None,
        server_id,
        env,
        orders,
        supervisor,
        log: Arc::downgrade(&log),
        parent,
    });
    if let Err(failure) = &served {
        error!("{failure}");
    }
    Ok(served?)
}
