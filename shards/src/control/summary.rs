//! What clients do, summed up in the log from time to time: a line for each kind of them, as SRS's pithy print.

use super::{Control, api::kind, snapshot::Client};
use glommio::timer::sleep;
use std::{collections::BTreeMap, fmt, rc::Rc, time::Duration};
use tracing::info;

/// Where nothing is summed up, how often it is looked whether that has changed.
const IDLE: Duration = Duration::from_secs(1);

/// Of all clients of a kind.
#[derive(Default)]
struct Sum {
    clients: usize,
    /// Kilobits per second over the last 30 s.
    received: u64,
    sent: u64,
    lag_ms: Option<i64>,
    skips: u64,
}

impl Control {
    /// For ever, as often as `pithy_print_ms` says.
    pub async fn sum_up(self: Rc<Self>) {
        loop {
            let period = self.config().pithy;
            if period.is_zero() {
                sleep(IDLE).await;
                continue;
            }
            sleep(period).await;
            let mut sums: BTreeMap<_, Sum> = BTreeMap::new();
            for client in self.clients().await.iter().flatten().chain(&self.viewers.clients()) {
                sums.entry(kind(client.part.request.client)).or_default().add(client);
            }
            if !sums.is_empty() {
                let (cpu_share, memory_kib) = self.own_use();
                info!("server: cpu {:.0}%, {} MB", cpu_share * 100.0, memory_kib >> 10);
            }
            for (kind, sum) in sums {
                info!("{kind}: {sum}");
            }
        }
    }
}

impl Sum {
    fn add(&mut self, client: &Client) {
        self.clients += 1;
        self.received += client.kbps[0];
        self.sent += client.kbps[1];
        self.lag_ms = self.lag_ms.max(client.lag.map(|lag| lag.as_ms()));
        self.skips += client.skips;
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, received, sent, lag_ms, skips } = self;
        write!(f, "{clients} clients, ikbps={received}, okbps={sent}")?;
        match lag_ms {
            Some(lag_ms) => write!(f, ", up to {lag_ms} ms behind, {skips} skips"),
            None => Ok(()),
        }
    }
}
