//! Where a WebRTC client may reach this server: the candidates of an answer (RFC 8839 §5.1), by the rules of
//! SRS and the settings of `rtc_server`.

use crate::{
    config::{Listen, RtcServer},
    net::sys,
};
use glommio::{
    channels::local_channel,
    executor, spawn_local,
    timer::{sleep, timeout},
};
use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs},
    time::Duration,
};
use tracing::warn;

/// Of one answer: a query may name any number.
const MOST: usize = 32;
/// For the addresses of a name. An answer goes without them then.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether the look-up of another client is over.
const TURN: Duration = Duration::from_millis(10);

thread_local! {
    /// One look-up an executor: names are the clients' choice, and the threads for them serve files too.
    static LOOKING_UP: Cell<bool> = const { Cell::new(false) };
}

/// What a client's request says.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The values of `eip` and `candidate` in its query: hosts, with a port or without.
    pub wanted: &'a [&'a str],
    /// The header Host, by which it reached the API.
    pub host: &'a str,
}

/// The candidates for a request, best first: hosts as SDP has them (IPv6 without brackets, names only where
/// the client or the operator named them) and UDP ports.
pub async fn discover(config: &RtcServer, asked: Asked<'_>) -> Vec<(String, u16)> {
    let resolved = match name_to_resolve(config, asked.host) {
        Some(name) => resolve(name).await,
        None => Vec::new(),
    };
    let interfaces = sys::interface_addresses().unwrap_or_else(|error| {
        warn!("addresses of the interfaces: {error}");
        Vec::new()
    });
    candidates(config, asked, &resolved, &interfaces)
}

/// [`discover`] without its questions: `resolved` has the addresses of the host's name, `interfaces` those of
/// this machine, loopback too.
fn candidates(config: &RtcServer, asked: Asked<'_>, resolved: &[IpAddr], interfaces: &[IpAddr]) -> Vec<(String, u16)> {
    let mut list = List { listen: &config.listen, found: Vec::new() };
    for wanted in asked.wanted {
        list.name(wanted);
    }
    let host = split(asked.host).map_or("", |(host, _)| host);
    let literal = host.parse::<IpAddr>().ok();
    let reached: Vec<IpAddr> = literal.into_iter().chain(resolved.iter().copied()).collect();
    if config.api_as_candidates && host != LOCALHOST {
        reached.iter().filter(|ip| is_elsewhere(**ip)).for_each(|ip| list.address(*ip));
        if config.keep_api_domain && literal.is_none() {
            list.push(host, None);
        }
    }
    if !matches!(config.candidate.as_str(), "*" | "0.0.0.0") {
        list.name(&config.candidate);
    } else if config.auto_detect {
        let usable = |ip: &&IpAddr| config.ip_family.has(**ip) && is_elsewhere(**ip) && !is_link_local(**ip);
        interfaces.iter().filter(usable).for_each(|ip| list.bound(*ip));
        if list.found.is_empty() {
            // The last resort.
            let mut any: Vec<IpAddr> = interfaces.iter().copied().filter(|ip| !is_link_local(*ip)).collect();
            any.sort_by_key(|ip| (ip.is_ipv6(), !is_elsewhere(*ip)));
            any.into_iter().for_each(|ip| list.bound(ip));
            list.found.truncate(1);
        }
    }
    // Not in SRS: a client on this machine that knows no other way.
    if host == LOCALHOST || reached.iter().any(|ip| !is_elsewhere(*ip)) {
        list.bound(Ipv4Addr::LOCALHOST.into());
        if !list.found.iter().any(|(host, _)| host == "127.0.0.1") {
            list.bound(Ipv6Addr::LOCALHOST.into());
        }
    }
    list.found
}

const LOCALHOST: &str = "localhost";

struct List<'a> {
    listen: &'a [Listen],
    found: Vec<(String, u16)>,
}

impl List<'_> {
    /// `host` or `host:port`; what is neither is left out.
    fn name(&mut self, text: &str) {
        if let Some((host, port)) = split(text) {
            self.push(host, port);
        }
    }

    fn address(&mut self, ip: IpAddr) {
        self.push(&ip.to_string(), None);
    }

    /// An address of this machine, where one of our sockets is bound to it.
    fn bound(&mut self, ip: IpAddr) {
        let covers =
            |listen: &&Listen| listen.ip == ip || listen.ip.is_unspecified() && listen.ip.is_ipv4() == ip.is_ipv4();
        if let Some(listen) = self.listen.iter().find(covers) {
            self.push(&ip.to_string(), Some(listen.port));
        }
    }

    /// Without a port, ours: of the same kind of address if there is one.
    fn push(&mut self, host: &str, port: Option<u16>) {
        let v6 = host.parse::<Ipv6Addr>().is_ok();
        let ours = || self.listen.iter().find(|listen| listen.ip.is_ipv6() == v6).or(self.listen.first());
        let Some(port) = port.or_else(|| ours().map(|listen| listen.port)) else { return };
        let unspecified = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        let known = self.found.iter().any(|found| found.0 == host && found.1 == port);
        if !unspecified && !known && self.found.len() < MOST {
            self.found.push((host.into(), port));
        }
    }
}

/// Host and port of `host`, `host:port`, `[ipv6]`, `[ipv6]:port` or `ipv6`. Only what cannot break a line of
/// SDP is a host.
fn split(text: &str) -> Option<(&str, Option<u16>)> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some((text, None));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_name = (1..=253).contains(&host.len())
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if !is_name && host.parse::<Ipv6Addr>().is_err() {
        return None;
    }
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
        None => None,
    };
    Some((host, port))
}

/// The name whose addresses a request needs.
fn name_to_resolve<'a>(config: &RtcServer, host: &'a str) -> Option<&'a str> {
    let (name, _) = split(host)?;
    let wanted = config.api_as_candidates && config.resolve_api_domain;
    (wanted && name != LOCALHOST && name.parse::<IpAddr>().is_err()).then_some(name)
}

/// The addresses of a name, each once; none where it has none, or they do not come in time.
pub async fn resolve(name: &str) -> Vec<IpAddr> {
    let name = name.to_owned();
    let found = timeout(PATIENCE, async {
        while LOOKING_UP.replace(true) {
            sleep(TURN).await;
        }
        let (found, finder) = local_channel::new_bounded(1);
        // A task of its own: the look-up goes on where nobody waits for it any more.
        spawn_local(async move {
            let addresses = executor().spawn_blocking(move || (name, 0).to_socket_addrs()).await;
            LOOKING_UP.set(false);
            let _ = found.try_send(addresses);
        })
        .detach();
        Ok(finder.recv().await)
    });
    let mut addresses: Vec<IpAddr> = Vec::new();
    if let Ok(Some(Ok(found))) = found.await {
        for address in found {
            if !addresses.contains(&address.ip()) {
                addresses.push(address.ip());
            }
        }
    }
    addresses
}

/// Neither loopback nor unspecified: both mean the client's own machine to it.
fn is_elsewhere(ip: IpAddr) -> bool {
    !ip.is_loopback() && !ip.is_unspecified()
}

/// Needs a zone (RFC 4007 §6), which no candidate carries.
fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{IpFamily, tests::load};

    fn config() -> RtcServer {
        load("rtc_server { enabled on; } vhost v { }").rtc_server
    }

    fn listening(words: &str) -> RtcServer {
        RtcServer { listen: words.split(' ').map(|word| word.parse().unwrap()).collect(), ..config() }
    }

    const INTERFACES: &str = "127.0.0.1 10.0.0.5 192.168.1.5 ::1 fe80::1 2001:db8::5";

    fn addresses(words: &str) -> Vec<IpAddr> {
        words.split(' ').filter(|word| !word.is_empty()).map(|word| word.parse().unwrap()).collect()
    }

    /// Host and port of each, joined by `/`.
    fn found(config: &RtcServer, wanted: &[&str], host: &str, resolved: &str, interfaces: &str) -> String {
        let found = candidates(config, Asked { wanted, host }, &addresses(resolved), &addresses(interfaces));
        found.iter().map(|(host, port)| format!("{host}/{port}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn interfaces_stand_for_any_candidate() {
        let of = |config: &RtcServer| found(config, &[], "", "", INTERFACES);
        let both = "8000 [::]:8001";
        assert_eq!(of(&config()), "10.0.0.5/8000 192.168.1.5/8000");
        assert_eq!(of(&RtcServer { candidate: "0.0.0.0".into(), ..config() }), "10.0.0.5/8000 192.168.1.5/8000");
        assert_eq!(of(&RtcServer { ip_family: IpFamily::V6, ..listening(both) }), "2001:db8::5/8001");
        assert_eq!(
            of(&RtcServer { ip_family: IpFamily::All, ..listening(both) }),
            "10.0.0.5/8000 192.168.1.5/8000 2001:db8::5/8001"
        );
        assert_eq!(of(&RtcServer { auto_detect: false, ..config() }), "");
    }

    #[test]
    fn only_addresses_that_are_listened_on_are_told() {
        let of = |config: &RtcServer| found(config, &[], "", "", INTERFACES);
        assert_eq!(of(&listening("192.168.1.5:7")), "192.168.1.5/7");
        assert_eq!(of(&RtcServer { ip_family: IpFamily::V6, ..config() }), "10.0.0.5/8000", "the last resort");
        assert_eq!(of(&listening("127.0.0.1:7")), "127.0.0.1/7", "the last resort");
    }

    #[test]
    fn first_ipv4_is_the_last_resort_and_any_address_after_it() {
        assert_eq!(found(&config(), &[], "", "", "::1 127.0.0.1"), "127.0.0.1/8000");
        let config = listening("8000 [::]:8001");
        assert_eq!(found(&config, &[], "", "", "fe80::1 ::1 2001:db8::5"), "2001:db8::5/8001");
        assert_eq!(found(&config, &[], "", "", ""), "");
        assert_eq!(found(&config, &["1.2.3.4"], "", "", "127.0.0.1"), "1.2.3.4/8000");
    }

    #[test]
    fn configured_candidate_stands_for_the_interfaces() {
        for (candidate, expected) in [
            ("203.0.113.1", "203.0.113.1/8000"),
            ("203.0.113.1:9000", "203.0.113.1/9000"),
            ("2001:db8::1", "2001:db8::1/8000"),
            ("live.example.com", "live.example.com/8000"),
        ] {
            let config = RtcServer { candidate: candidate.into(), ..config() };
            assert_eq!(found(&config, &[], "", "", INTERFACES), expected);
        }
    }

    #[test]
    fn query_comes_first_with_its_own_port() {
        let config = listening("8000 [::]:8001");
        for (wanted, expected) in [
            (&["203.0.113.1"][..], "203.0.113.1/8000"),
            (&["203.0.113.1:9000", "203.0.113.1:9000", "203.0.113.1"], "203.0.113.1/9000 203.0.113.1/8000"),
            (&["2001:db8::1", "[2001:db8::2]", "[2001:db8::3]:9"], "2001:db8::1/8001 2001:db8::2/8001 2001:db8::3/9"),
            (&["live.example.com:9"], "live.example.com/9"),
        ] {
            assert_eq!(found(&config, wanted, "", "", "10.0.0.5"), format!("{expected} 10.0.0.5/8000"));
        }
    }

    #[test]
    fn what_is_no_host_is_left_out() {
        let long = "a".repeat(254);
        for wanted in [
            "", "*", "0.0.0.0", "::", "a b", "a\r\na=x", "a:0", "a:65536", "a:x", "a:", "[::1", "[a]:1", "[::1]1",
            ":1", "1:2:3", "ä", &long,
        ] {
            assert_eq!(
                found(&config(), &[wanted], wanted, "", "10.0.0.5"),
                match wanted {
                    "0.0.0.0" | "::" => "10.0.0.5/8000 127.0.0.1/8000",
                    _ => "10.0.0.5/8000",
                },
                "{wanted:?}"
            );
        }
        let many: Vec<String> = (1..100).map(|port| format!("a:{port}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(candidates(&config(), Asked { wanted: &many, host: "" }, &[], &[]).len(), MOST);
    }

    #[test]
    fn host_of_the_api_is_a_candidate() {
        let with = |config: &RtcServer, host, resolved| found(config, &[], host, resolved, "10.0.0.5");
        let (literal, named) = ("203.0.113.1", "live.example.com");
        assert_eq!(with(&config(), literal, ""), "203.0.113.1/8000 10.0.0.5/8000");
        assert_eq!(with(&config(), "203.0.113.1:1985", ""), "203.0.113.1/8000 10.0.0.5/8000", "not the API's port");
        assert_eq!(with(&config(), "[2001:db8::1]:1985", ""), "2001:db8::1/8000 10.0.0.5/8000");
        assert_eq!(with(&config(), "10.0.0.5", ""), "10.0.0.5/8000");
        let addresses = "203.0.113.1 2001:db8::1";
        let expected = "203.0.113.1/8000 2001:db8::1/8000 10.0.0.5/8000";
        assert_eq!(with(&config(), named, addresses), expected);
        let config = RtcServer { keep_api_domain: true, ..config() };
        assert_eq!(with(&config, named, ""), "live.example.com/8000 10.0.0.5/8000");
        assert_eq!(with(&config, literal, ""), "203.0.113.1/8000 10.0.0.5/8000");
        let config = RtcServer { api_as_candidates: false, ..config };
        assert_eq!(with(&config, named, addresses), "10.0.0.5/8000");
        assert_eq!(with(&config, literal, ""), "10.0.0.5/8000");
    }

    #[test]
    fn loopback_is_told_last_to_who_came_by_it() {
        let kept = RtcServer { keep_api_domain: true, ..config() };
        for host in ["localhost", "localhost:1985", "127.0.0.1:1985", "127.0.1.1", "[::1]:1985", "0.0.0.0:8080", "::"] {
            assert_eq!(found(&kept, &[], host, "", "10.0.0.5"), "10.0.0.5/8000 127.0.0.1/8000", "{host}");
            assert_eq!(found(&kept, &[], host, "", "127.0.0.1"), "127.0.0.1/8000", "{host}");
        }
        let by_name = found(&config(), &[], "here", "127.0.1.1 10.0.0.5", "10.0.0.5");
        assert_eq!(by_name, "10.0.0.5/8000 127.0.0.1/8000");
        assert_eq!(found(&listening("10.0.0.5:7"), &[], "localhost", "", "10.0.0.5"), "10.0.0.5/7");
        assert_eq!(found(&listening("[::]:7"), &[], "localhost", "", "10.0.0.5"), "::1/7");
        let named = RtcServer { candidate: "203.0.113.1".into(), api_as_candidates: false, ..config() };
        assert_eq!(found(&named, &[], "localhost", "", "10.0.0.5"), "203.0.113.1/8000 127.0.0.1/8000");
    }

    #[test]
    fn only_names_are_looked_up_and_only_where_that_is_wanted() {
        assert_eq!(name_to_resolve(&config(), "live.example.com:1985"), Some("live.example.com"));
        for host in ["", "localhost", "127.0.0.1:1985", "10.0.0.5", "[2001:db8::1]:1985", "a b"] {
            assert_eq!(name_to_resolve(&config(), host), None, "{host}");
        }
        for config in
            [RtcServer { api_as_candidates: false, ..config() }, RtcServer { resolve_api_domain: false, ..config() }]
        {
            assert_eq!(name_to_resolve(&config, "live.example.com"), None);
        }
    }

    #[test]
    fn names_are_resolved_and_what_is_none_has_no_address() {
        let executor = glommio::LocalExecutorBuilder::default().make().unwrap();
        executor.run(async {
            let [local, again, none] = ["localhost", "localhost", "no-such-name.invalid"];
            let (local, again) = futures_lite::future::zip(resolve(local), resolve(again)).await;
            assert!(local.contains(&Ipv4Addr::LOCALHOST.into()), "{local:?}");
            assert_eq!(local, again, "in turn");
            assert_eq!(resolve(none).await, [] as [IpAddr; 0]);
        });
    }
}
