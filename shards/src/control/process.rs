//! The process as its operator has it: orders, the watchdog, a graceful end.

use super::{Control, reload::Reload};
use crate::{
    config::Env,
    feed::Notice,
    hooks::Call,
    launch::{Orders, Supervisor, probe::Limits},
    log,
    mesh::Mail,
    pause::pause,
};
use glommio::{spawn_local, timer::sleep};
use std::{
    cell::{Cell, RefCell},
    os::unix::process::parent_id,
    rc::Rc,
    sync::{Arc, Weak, atomic::Ordering, mpsc::Receiver},
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// How often orders and news are looked for, and mail that found no place is sent.
const TICK: Duration = Duration::from_millis(100);
/// How often the rest is looked after.
const SWEEP: Duration = Duration::from_secs(1);
/// How often a graceful end looks whether all have gone, and says who has not.
const LOOK: Duration = Duration::from_millis(100);
const SAY: Duration = Duration::from_secs(10);

/// What the control shard is told of the process.
pub struct Process {
    pub server_id: String,
    pub env: Env,
    pub orders: Arc<Orders>,
    pub supervisor: RefCell<Supervisor>,
    pub limits: Limits,
    /// The process that started this one.
    pub parent: u32,
    /// Told by heralds.
    pub calls: Receiver<Call>,
    /// Told by feeds.
    pub notices: Receiver<Notice>,
    pub log: Weak<log::Handle>,
    pub course: Course,
}

/// What becomes of it.
#[derive(Default)]
pub struct Course {
    pub(super) reload: RefCell<Reload>,
    reloading: Cell<bool>,
    /// A graceful end has begun;
    leaving: Cell<bool>,
    /// nobody is let in any more.
    pub(super) closed: Cell<bool>,
}

impl Control {
    /// Serves until the server is to end.
    pub async fn rule(self: &Rc<Self>) {
        let process = &self.process;
        let orders = &process.orders;
        process.supervisor.borrow_mut().ready();
        let watchdog = process.supervisor.borrow().watchdog;
        if let Some(period) = watchdog {
            spawn_local(self.clone().report(period / 3)).detach();
        }
        let mut swept = Instant::now();
        while !orders.quit.is_set() {
            pause(TICK).await;
            self.deliver();
            if orders.terminate.take() {
                match self.config().process.force_grace_quit && !process.course.leaving.get() {
                    true => orders.grace.set(),
                    false => orders.quit.set(),
                }
            }
            if orders.grace.take() && !process.course.leaving.replace(true) {
                spawn_local(self.clone().drain()).detach();
            }
            if orders.reload.is_set() && !process.course.leaving.get() && !process.course.reloading.replace(true) {
                orders.reload.take();
                let control = self.clone();
                spawn_local(async move {
                    control.reload().await;
                    control.process.course.reloading.set(false);
                })
                .detach();
            }
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                self.sweep_rtc(swept);
                self.viewers.sweep(swept, &self.config(), &self.feed);
                if self.config().process.asprocess && parent_id() != process.parent {
                    warn!("the parent process {} has gone", process.parent);
                    orders.orphaned.set();
                    orders.quit.set();
                }
            }
        }
        info!("ending");
        process.supervisor.borrow().stopping();
    }

    /// Tells the supervisor that the server is well, as long as every shard answers.
    async fn report(self: Rc<Self>, period: Duration) {
        loop {
            if self.snapshot().await.len() == self.shards() {
                self.process.supervisor.borrow().alive();
            }
            sleep(period).await;
        }
    }

    /// A graceful end: after a while the ports close, and when all sessions have gone, or their time has passed,
    /// and another while, the server ends.
    async fn drain(self: Rc<Self>) {
        let process = &self.process;
        let waits = self.config().process.clone();
        process.supervisor.borrow().stopping();
        info!("ending with grace: the ports close in {} ms", waits.grace_start_wait.as_millis());
        sleep(waits.grace_start_wait).await;
        process.course.closed.set(true);
        for shard in 0..self.shards() {
            self.mesh.post(shard, Mail::Drain);
        }
        let closed = Instant::now();
        let mut said = None;
        loop {
            let open = self.connections_open.load(Ordering::Relaxed);
            if open == 0 {
                info!("all sessions have gone");
                break;
            }
            if waits.grace_sessions_wait.is_some_and(|wait| closed.elapsed() >= wait) {
                info!("{open} connections have had their time and are closed");
                break;
            }
            if said.is_none_or(|said: Instant| said.elapsed() >= SAY) {
                said = Some(Instant::now());
                info!("ending with grace: {open} connections are still here");
            }
            sleep(LOOK).await;
        }
        sleep(waits.grace_final_wait).await;
        process.orders.quit.set();
    }
}
