//! Who may publish and play, as a vhost's configuration says: by address (`vhost.security`) and by the page that the
//! client is on (`vhost.refer`).

use crate::{config::Vhost, hooks::Event};
use shardcast_protocols::session::{Refusal, Verdict};
use std::net::IpAddr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Publish,
    Play,
}

impl Deed {
    /// What is told of it at its start and at its end.
    pub fn events(self) -> (Event, Event) {
        match self {
            Self::Publish => (Event::Publish, Event::Unpublish),
            Self::Play => (Event::Play, Event::Stop),
        }
    }
}

/// The rules of `security`; with none nobody is let in. A rule that denies wins; where any allows, be it another deed,
/// nothing else is allowed.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Security {
    pub enabled: bool,
    pub deny: Vec<Rule>,
    pub allow: Vec<Rule>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    deed: Deed,
    /// An address and how many of its leading bits count; `None`: any.
    network: Option<(IpAddr, u32)>,
}

/// Endings of the hosts of pages; an empty list asks for none.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Refer {
    pub enabled: bool,
    pub all: Vec<String>,
    pub publish: Vec<String>,
    pub play: Vec<String>,
    /// HTTP's Referer is judged too, also where there is none.
    pub http: bool,
}

impl Rule {
    /// `publish` or `play`, then `all`, an address, or a network such as `10.0.0.0/8`.
    pub fn of(words: &[String]) -> Option<Self> {
        let [deed, whom] = words else { return None };
        let deed = match deed.as_str() {
            "publish" => Deed::Publish,
            "play" => Deed::Play,
            _ => return None,
        };
        let network = match whom.split_once('/') {
            _ if whom == "all" => None,
            None => Some((whom.parse::<IpAddr>().ok()?, u128::BITS)),
            Some((address, bits)) => {
                let address = address.parse::<IpAddr>().ok()?;
                Some((address, bits.parse().ok().filter(|bits| *bits <= width(address))?))
            }
        };
        Some(Self { deed, network })
    }

    fn is_about(&self, deed: Deed, ip: IpAddr) -> bool {
        self.deed == deed
            && self.network.is_none_or(|(network, bits)| {
                let differing = match (network, ip) {
                    (IpAddr::V4(network), IpAddr::V4(ip)) => (network.to_bits() ^ ip.to_bits()).leading_zeros(),
                    (IpAddr::V6(network), IpAddr::V6(ip)) => (network.to_bits() ^ ip.to_bits()).leading_zeros(),
                    _ => return false,
                };
                differing >= bits.min(width(network))
            })
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { u32::BITS } else { u128::BITS }
}

impl Security {
    fn allows(&self, deed: Deed, ip: IpAddr) -> bool {
        let about = |rules: &[Rule]| rules.iter().any(|rule| rule.is_about(deed, ip));
        match (self.deny.is_empty(), self.allow.is_empty()) {
            _ if !self.enabled => true,
            (true, true) => false,
            (_, without_allow) => !about(&self.deny) && (without_allow || about(&self.allow)),
        }
    }
}

impl Refer {
    /// What is judged of a client of HTTP, HLS or WebRTC that is on `page`.
    pub fn of_http<'p>(&self, page: &'p str) -> Option<&'p str> {
        self.http.then_some(page)
    }

    /// The page is one of those that `listed` ends.
    fn knows(listed: &[String], page: &str) -> bool {
        let host = page.split_once("://").map_or(page, |(_, rest)| rest);
        let host = host.split(['/', ':']).next().unwrap_or_default();
        listed.is_empty() || listed.iter().any(|ending| host.ends_with(ending.as_str()))
    }
}

/// Before the deed is known: may a client that is on `page` connect?
pub fn connect(vhost: &Vhost, page: &str) -> Verdict {
    match vhost.refer.enabled && !Refer::knows(&vhost.refer.all, page) {
        true => deny("refer", format!("no client of page {page:?} is served")),
        false => Verdict::Allowed,
    }
}

/// Whom a proxy of HTTP says it speaks for, as SRS believes it: the first of X-Forwarded-For, else X-Real-IP. Rules must
/// let both in, as anybody can say so.
pub fn forwarded<'h>(header: impl Fn(&str) -> Option<&'h str>) -> Option<IpAddr> {
    if let Some(list) = header("x-forwarded-for") {
        return list.split(',').next()?.trim().parse().ok();
    }
    let real = header("x-real-ip")?.trim();
    real.parse().ok().or(real.split(':').next()?.parse().ok())
}

/// May the client at `ip` do it? `page` is where it says it is, `None` where that is not asked.
pub fn judge(vhost: &Vhost, deed: Deed, ip: IpAddr, page: Option<&str>) -> Verdict {
    let ip = ip.to_canonical();
    let verb = match deed {
        Deed::Publish => "publish",
        Deed::Play => "play",
    };
    if !vhost.security.allows(deed, ip) {
        return deny("security", format!("{ip} may not {verb}"));
    }
    let Some(page) = page.filter(|_| vhost.refer.enabled) else { return Verdict::Allowed };
    let listed = if deed == Deed::Publish { &vhost.refer.publish } else { &vhost.refer.play };
    if !Refer::knows(&vhost.refer.all, page) || !Refer::knows(listed, page) {
        return deny("refer", format!("a client of page {page:?} may not {verb}"));
    }
    Verdict::Allowed
}

fn deny(by: &'static str, why: String) -> Verdict {
    metrics::counter!("shardcast_access_denied_total", "by" => by).increment(1);
    Verdict::Refused(Refusal::Denied(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_believed_as_srs_believes_them() {
        let told = |list: Option<&'static str>, real: Option<&'static str>| {
            forwarded(|name| if name == "x-real-ip" { real } else { list }).map(|ip| ip.to_string())
        };
        assert_eq!(told(Some("10.1.1.1, 10.2.2.2"), Some("10.3.3.3")).as_deref(), Some("10.1.1.1"));
        assert_eq!(told(None, Some("10.3.3.3:80")).as_deref(), Some("10.3.3.3"));
        assert_eq!(told(Some("::1"), None).as_deref(), Some("::1"));
        assert_eq!(told(None, Some("2001:db8::1")).as_deref(), Some("2001:db8::1"));
        assert_eq!((told(Some("nobody"), None), told(None, None), told(None, Some(":"))), (None, None, None));
    }

    fn security(deny: &[&str], allow: &[&str]) -> Security {
        let rules = |of: &[&str]| -> Vec<Rule> {
            of.iter()
                .map(|words| Rule::of(&words.split(' ').map(String::from).collect::<Vec<_>>()).expect(words))
                .collect()
        };
        Security { enabled: true, deny: rules(deny), allow: rules(allow) }
    }

    #[test]
    fn rules_count_in_the_order_of_srs() {
        const PUBLISH: Deed = Deed::Publish;
        const PLAY: Deed = Deed::Play;
        for (deny, allow, deed, ip, allowed) in [
            (&[][..], &[][..], PLAY, "1.2.3.4", false),
            (&["publish all"], &[], PLAY, "1.2.3.4", true),
            (&["publish all"], &[], PUBLISH, "1.2.3.4", false),
            (&["publish 1.2.3.4"], &[], PUBLISH, "1.2.3.5", true),
            (&[], &["publish 1.2.3.4"], PUBLISH, "1.2.3.4", true),
            (&[], &["publish 1.2.3.4"], PUBLISH, "1.2.3.5", false),
            // A rule for publishers alone keeps all viewers out.
            (&[], &["publish 1.2.3.4"], PLAY, "1.2.3.4", false),
            (&["play 10.0.0.0/8"], &["play all"], PLAY, "10.255.0.1", false),
            (&["play 10.0.0.0/8"], &["play all"], PLAY, "11.0.0.1", true),
            (&[], &["play 192.168.1.77/30"], PLAY, "192.168.1.79", true),
            (&[], &["play 192.168.1.77/30"], PLAY, "192.168.1.80", false),
            (&[], &["play 0.0.0.0/0"], PLAY, "203.0.113.9", true),
            (&[], &["play 0.0.0.0/0"], PLAY, "2001:db8::1", false),
            (&[], &["play 2001:db8::/32"], PLAY, "2001:db8:1::9", true),
            (&[], &["play ::1"], PLAY, "::2", false),
        ] {
            let found = security(deny, allow).allows(deed, ip.parse().unwrap());
            assert_eq!(found, allowed, "deny {deny:?} allow {allow:?} {deed:?} {ip}");
        }
        assert!(Security { enabled: false, ..security(&["play all"], &[]) }.allows(PLAY, [1, 2, 3, 4].into()));
    }

    #[test]
    fn rules_that_cannot_be_meant_are_none() {
        for words in
            ["", "play", "watch all", "play 1.2.3", "play 1.2.3.4/33", "play ::/129", "play all all", "play /8"]
        {
            assert_eq!(Rule::of(&words.split(' ').map(String::from).collect::<Vec<_>>()), None, "{words}");
        }
    }

    #[test]
    fn pages_are_known_by_the_end_of_their_host() {
        let listed = ["example.com".to_owned(), "localhost".to_owned()];
        for (page, known) in [
            ("http://example.com/a.html", true),
            ("https://www.example.com:8443", true),
            ("example.com", true),
            ("http://localhost/example", true),
            ("http://example.com.evil.net/", false),
            ("http://evil.net/example.com", false),
            ("", false),
        ] {
            assert_eq!(Refer::knows(&listed, page), known, "{page}");
        }
        assert!(Refer::knows(&[], ""));
    }
}
