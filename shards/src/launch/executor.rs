//! How an executor is set up: the only place that names glommio's settings.

use crate::pause::pause;
use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};
use std::time::Duration;

/// Memory for reading files past the page cache, which we do not do: the least that glommio takes.
/// It is registered with three rings, so it counts three times against the limit of locked memory.
pub const IO_MEMORY: usize = 64 << 10;

/// Depth of the ring of [`warm_up`].
pub const WARM_UP_DEPTH: usize = 64;

/// How long a task may run before the executor looks at its timers.
const PREEMPT: Duration = Duration::from_millis(10);

/// Threads for blocking calls (name look-ups, files), an executor; on any CPU, else they would all be
/// pinned on the one that serves media.
const BLOCKING_THREADS: usize = 2;

/// A shard pinned to `cpu`, or with `None` one that the kernel places: the control shard.
/// It parks when idle instead of spinning.
pub fn executor(name: &str, cpu: Option<usize>, ring_depth: usize) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(cpu.map_or(Placement::Unbound, Placement::Fixed))
        .name(name)
        .io_memory(IO_MEMORY)
        .ring_depth(ring_depth.max(1))
        .preempt_timer(PREEMPT)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(BLOCKING_THREADS))
}

/// Runs one executor for a moment. Call it before any thread is started: the first wait of the process
/// registers it for membarrier(2), which takes tens of milliseconds once there are threads.
pub fn warm_up() -> Result<(), glommio::GlommioError<()>> {
    let executor = executor("warm-up", None, WARM_UP_DEPTH).make()?;
    executor.run(async { pause(Duration::from_millis(1)).await });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};

    #[test]
    fn sixteen_shards_and_control_run_at_once_on_the_cpus_there_are() {
        let cpus = crate::net::sys::allowed_cpus().unwrap();
        warm_up().unwrap();
        let all_run = Arc::new(Barrier::new(17));
        let started: Vec<_> = (0..17)
            .map(|shard| {
                let cpu = (shard < 16).then(|| cpus[shard % cpus.len()]);
                let all_run = all_run.clone();
                executor("shard", cpu, 128)
                    .spawn(move || async move {
                        all_run.wait();
                        shard
                    })
                    .unwrap()
            })
            .collect();
        for (shard, handle) in started.into_iter().enumerate() {
            assert_eq!(handle.join().unwrap(), shard);
        }
    }
}
