//! SRS's Prometheus exporter (`exporter`): its ten metrics, before our own.

use super::{Control, api, system};
use crate::config::Exporter;
use std::{fmt::Write, fs, sync::LazyLock};

/// What SRS calls its release.
const CODE: &str = "Free";

impl Control {
    /// Prometheus text, where the exporter is on.
    pub async fn export(&self) -> String {
        let config = self.config();
        if !config.exporter.enabled {
            return String::new();
        }
        let (mut sent, mut received) = (0, 0);
        for shard in self.snapshot().await.iter() {
            sent += shard.sent;
            received += shard.received;
        }
        let (streams, clients) = api::in_use(self).await;
        let (clients_total, failed) = self.feed.counts();
        let (cpu_share, memory_kib) = self.own_use();
        let build = self.build(&config.exporter);
        let mut text = String::new();
        for (name, help, kind, labels, value) in [
            ("node_uname_info", "The system it runs on.", "gauge", &**UNAME, 1.0),
            ("build_info", "The server and its version.", "gauge", &build, 1.0),
            ("cpu_percent", "CPU of the process, 100 a core.", "gauge", "", cpu_share * 100.0),
            ("memory", "Memory of the process, in KiB.", "gauge", "", memory_kib as f64),
            ("send_bytes_total", "Bytes sent.", "counter", "", sent as f64),
            ("receive_bytes_total", "Bytes received.", "counter", "", received as f64),
            ("streams", "Streams with a publisher or viewers.", "gauge", "", streams as f64),
            ("clients", "Clients that publish or play.", "gauge", "", clients as f64),
            ("clients_total", "Clients since the start.", "counter", "", clients_total as f64),
            ("clients_errs_total", "Clients that ended with an error, or by themselves.", "counter", "", failed as f64),
        ] {
            // Writing to memory does not fail.
            let _ = write!(text, "# HELP srs_{name} {help}\n# TYPE srs_{name} {kind}\nsrs_{name}{labels} {value}\n");
        }
        text
    }

    fn build(&self, exporter: &Exporter) -> String {
        let pid = std::process::id().to_string();
        let (version, day) = (api::version(), system::built_day());
        let major = version.split('.').next().unwrap_or_default();
        let ours =
            [("label", &*exporter.label), ("tag", &exporter.tag)].into_iter().filter(|(_, value)| !value.is_empty());
        let always = [
            ("server", &*self.server_id),
            ("service", &self.service_id),
            ("pid", &pid),
            ("build_date", &day),
            ("major", major),
            ("version", &version),
            ("code", CODE),
        ];
        labels(always.into_iter().chain(ours))
    }
}

/// Read once, not at each scrape.
static UNAME: LazyLock<String> = LazyLock::new(uname);

/// uname(2), as Linux has it in /proc/sys/kernel.
fn uname() -> String {
    let of = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default().trim().to_owned();
    let [system, node, release, version] = ["ostype", "hostname", "osrelease", "version"].map(of);
    let machine = std::env::consts::ARCH;
    labels([
        ("sysname", &*system),
        ("nodename", &node),
        ("release", &release),
        ("version", &version),
        ("machine", machine),
    ])
}

fn labels<'a>(of: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<_> = of.into_iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(labels([("a", "x"), ("b", "\"\\\n")]), r#"{a="x",b="\"\\\n"}"#);
        assert!(uname().starts_with("{sysname=\"Linux\",nodename=\""));
    }
}
