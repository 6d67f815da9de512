//! From a configuration to running shards: what this machine allows is measured, executors are built to
//! fit, ports are bound.

mod cgroup;
pub mod executor;
mod memlock;
pub mod probe;
mod run;
mod shortfall;

pub use run::{Failure, Options, heed_signals, run};
pub use shortfall::Shortfall;
