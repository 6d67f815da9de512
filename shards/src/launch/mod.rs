//! From a configuration to running shards: what this machine allows is measured, executors are built to
//! fit, ports are bound.

mod cgroup;
pub mod executor;
mod memlock;
mod metrics;
mod orders;
pub mod pid_file;
pub mod ports;
pub mod probe;
mod run;
pub mod security;
mod shortfall;
mod supervisor;
mod watch;

pub use orders::Orders;
pub use run::{Failure, Options, heed_signals, of_srs, run, tell_remarks};
pub use shortfall::Shortfall;
pub use supervisor::Supervisor;
pub use watch::watch_file;
