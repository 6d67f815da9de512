//! The configuration: SRS files and environment variables in, one typed `Config` out.
//!
//! A file goes through `grammar` (text to a tree of directives), `legacy` (old spellings to new ones),
//! `check` (unknown names are refused), and `settings` (typed values; the environment wins). `table` is
//! the only place that lists directives. Nothing here reloads, listens or logs.

mod change;
mod check;
pub mod directives;
mod env;
mod grammar;
mod legacy;
mod listen;
mod scope;
mod settings;
mod table;
#[cfg(test)]
pub mod tests;

pub use change::{Difference, Effect};
pub use check::Illegal;
pub use env::Env;
pub use grammar::{Fault, Place, SyntaxError};
pub use listen::Listen;
pub use scope::BadValue;
pub use settings::{
    Auth, CircuitBreaker, Config, ConfigError, Dvr, DvrPlan, Exporter, Heartbeat, Hls, Hooks, HttpApi, HttpRemux,
    HttpServer, HttpStatic, IpFamily, Level, Log, Process, RawApi, Rtc, RtcServer, Source, SrtServer, Stats, Tank, Tls,
    Vhost,
};
