//! What happens before the shards run: what this machine allows is measured, and executors are built to fit.

mod cgroup;
pub mod executor;
mod memlock;
pub mod probe;
mod shortfall;

pub use shortfall::Shortfall;
