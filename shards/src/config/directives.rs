//! What a directive is: the rows of `table`, how they are found, and docs/config.md written from them.

use super::{legacy, table::SECTIONS};
use std::fmt;

/// The directives of one block.
pub struct Section {
    /// Dotted path of the block (`vhost.play`), "" for the root of the file.
    pub path: &'static str,
    pub rows: &'static [Row],
    /// SRS refuses unknown names here. Where it does not, neither do we.
    pub checked: bool,
    /// The directives can be set by environment variables.
    pub env: bool,
}

pub struct Row {
    pub name: &'static str,
    pub kind: Kind,
    /// Written as in a file; empty where absence is the default.
    pub default: &'static str,
    pub status: Status,
    /// May stand more than once in its block.
    pub many: bool,
    /// Read once, a block with all that is in it; a reload leaves it as it is.
    pub at_start: bool,
    env: EnvName,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// This version does what the directive says.
    Acts,
    /// Read, named in the log at start, and without effect.
    Accepted,
    /// What the default says is what this version does; another value brings a warning.
    Fixed,
    /// SRS does nothing about it any more either; it brings a warning.
    Gone,
}

/// The type of a directive's arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// On if exactly `on`.
    Bool,
    /// Off if exactly `off`.
    BoolOn,
    /// A whole number from a range, with its unit.
    Number(u64, u64, &'static str),
    Int(&'static str),
    Float(&'static str),
    OneOf(&'static str),
    Text,
    Path,
    /// Text with variables such as `[app]`.
    Template,
    List,
    /// A deed and whom it is about.
    Rule,
    Endpoints,
    /// Children are the section of that path.
    Block,
    /// A block whose children are never looked at.
    Free,
    /// Looked at by nobody.
    Removed,
}

enum EnvName {
    /// `SRS_` and the path, if the section allows it.
    Rule,
    None,
    These(&'static [&'static str]),
}

pub const fn section(path: &'static str, rows: &'static [Row]) -> Section {
    Section { path, rows, checked: true, env: true }
}

pub const fn acts(name: &'static str, kind: Kind, default: &'static str) -> Row {
    Row { name, kind, default, status: Status::Acts, many: false, at_start: false, env: EnvName::Rule }
}

pub const fn accepted(name: &'static str, kind: Kind, default: &'static str) -> Row {
    Row { name, kind, default, status: Status::Accepted, many: false, at_start: false, env: EnvName::Rule }
}

pub const fn fixed(name: &'static str, kind: Kind, default: &'static str) -> Row {
    Row { name, kind, default, status: Status::Fixed, many: false, at_start: false, env: EnvName::Rule }
}

pub const fn gone(name: &'static str) -> Row {
    let (kind, status, env) = (Kind::Removed, Status::Gone, EnvName::None);
    Row { name, kind, default: "", status, many: false, at_start: false, env }
}

pub const fn block(name: &'static str) -> Row {
    Row { name, kind: Kind::Block, default: "", status: Status::Acts, many: false, at_start: false, env: EnvName::None }
}

impl Section {
    pub const fn unchecked(mut self) -> Self {
        self.checked = false;
        self
    }

    pub const fn no_env(mut self) -> Self {
        self.env = false;
        self
    }

    pub fn row(&self, name: &str) -> Option<&'static Row> {
        self.rows.iter().find(|row| row.name == name)
    }
}

impl Row {
    pub const fn at_start(mut self) -> Self {
        self.at_start = true;
        self
    }

    pub const fn many(mut self) -> Self {
        self.many = true;
        self
    }

    pub const fn no_env(mut self) -> Self {
        self.env = EnvName::None;
        self
    }

    pub const fn env(mut self, names: &'static [&'static str]) -> Self {
        self.env = EnvName::These(names);
        self
    }

    /// Does `word` mean the default? Flags have more than one word for it.
    pub fn is_default(&self, word: &str) -> bool {
        match self.kind {
            Kind::Bool | Kind::BoolOn => self.is_on(word) == self.is_on(self.default),
            _ => word == self.default,
        }
    }

    /// A flag's word, as SRS reads it.
    pub fn is_on(&self, word: &str) -> bool {
        if self.kind == Kind::BoolOn { word != "off" } else { word == "on" }
    }

    /// The environment variables that set this directive of `section`, strongest first.
    pub fn env_names(&self, section: &Section) -> Vec<String> {
        match self.env {
            EnvName::These(names) => names.iter().map(|name| name.to_string()).collect(),
            EnvName::Rule if section.env && !matches!(self.kind, Kind::Block | Kind::Free) => {
                vec![format!("SRS_{}", dotted(section.path, self.name).replace('.', "_").to_uppercase())]
            }
            EnvName::Rule | EnvName::None => Vec::new(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("on or off"),
            Self::BoolOn => f.write_str("on unless `off`"),
            Self::Number(min, max, "") => write!(f, "number from {min} to {max}"),
            Self::Number(min, max, unit) => write!(f, "number from {min} to {max} {unit}"),
            Self::Int("") => f.write_str("number"),
            Self::Int(unit) => write!(f, "number ({unit})"),
            Self::Float("") => f.write_str("decimal number"),
            Self::Float(unit) => write!(f, "decimal number ({unit})"),
            Self::OneOf(names) => write!(f, "one of {names}"),
            Self::Text => f.write_str("text"),
            Self::Path => f.write_str("path"),
            Self::Template => f.write_str("template"),
            Self::List => f.write_str("list"),
            Self::Rule => f.write_str("`publish` or `play`, then `all`, an address or a network"),
            Self::Endpoints => f.write_str("`[ip:]port`, several"),
            Self::Block | Self::Free => f.write_str("block"),
            Self::Removed => f.write_str("ignored"),
        }
    }
}

pub fn find(path: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.path == path)
}

/// Every section with each of its rows.
pub fn all() -> impl Iterator<Item = (&'static Section, &'static Row)> {
    SECTIONS.iter().flat_map(|section| section.rows.iter().map(move |row| (section, row)))
}

/// `vhost` and `play` make `vhost.play`.
pub fn dotted(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

/// docs/config.md. Written from the table, so that neither can know a directive the other does not.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    page += "\n## Old spellings\n\n\
        These are rewritten when a file is read, with a warning that names the place.\n\n\
        | in | old | today |\n|---|---|---|\n";
    for rule in legacy::RULES {
        let today = rule.now(rule.path).map_or("ignored".into(), |new| format!("`{new}`"));
        page += &format!("| {} | `{}` | {today} |\n", context(rule.path), rule.old);
    }
    page += "\n## All directives\n\n| in | directive | type | default | environment | status |\n|---|---|---|---|---|---|\n";
    for (section, row) in all().filter(|(_, row)| row.kind != Kind::Block) {
        let code = |text: &str| if text.is_empty() { "-".into() } else { format!("`{text}`") };
        let env = row.env_names(section).iter().map(|name| code(name)).collect::<Vec<_>>().join(", ");
        let env = if env.is_empty() { "-".into() } else { env };
        let status = match row.status {
            Status::Acts => "acts",
            Status::Accepted => "accepted, not supported yet",
            Status::Fixed => "always the default",
            Status::Gone => "without effect, as in SRS",
        };
        let at_start = if row.status == Status::Acts && is_at_start(&dotted(section.path, row.name)) {
            "; read at start"
        } else {
            ""
        };
        let many = if row.many { ", may repeat" } else { "" };
        let default = code(row.default);
        let Row { name, kind, .. } = row;
        page += &format!(
            "| {} | `{name}` | {kind}{many} | {default} | {env} | {status}{at_start} |\n",
            context(section.path)
        );
    }
    page
}

/// The directive of this dotted name, or a block that it is in, is read once.
pub fn is_at_start(name: &str) -> bool {
    let ends = name.match_indices('.').map(|(dot, _)| dot).chain([name.len()]);
    ends.map(|end| name[..end].rsplit_once('.').unwrap_or(("", &name[..end])))
        .any(|(path, last)| find(path).and_then(|section| section.row(last)).is_some_and(|row| row.at_start))
}

fn context(path: &str) -> String {
    if path.is_empty() { "the file".into() } else { format!("`{path}`") }
}

const INTRODUCTION: &str = "\
# Configuration

Shardcast reads the configuration files of SRS, from its first versions up to 8.0. Bring the one you have:
every name in it is known here, and what this version does not do yet is named in one line of the log at
start (`accepted, not supported yet: ...`). Without a file it serves RTMP on port 1935, HTTP-FLV, HTTP-TS
and pages on 8080, the HTTP API on 1985, SRT on 10080/udp and WebRTC on 8000/udp, and logs to the console.

A file to start from:

```
listen              1935;
srs_log_tank        console;
http_server {
    enabled         on;
    listen          8080;
    dir             ./objs/nginx/html;
}
http_api {
    enabled         on;
    listen          1985;
}
vhost __defaultVhost__ {
    http_remux {
        enabled     on;
        mount       [vhost]/[app]/[stream].flv;
    }
}
```

## Files

- A directive is `name argument ... ;` or `name argument ... { directives }`. Name and arguments, up to the
  `;` or `{`, stand on one line.
- `#` starts a comment where a word could start. Words with blanks go into `\"..\"` or `'..'`; there are no
  escapes.
- `include a.conf b.conf;` puts the directives of other files in its place. Relative paths start at the
  working directory of the server. Sixteen levels deep is the limit.
- An `http_remux` `mount` that ends in `.flv` serves FLV, and MPEG-TS at the same path with `.ts`; one that ends
  in `.ts` serves MPEG-TS alone.
- Of a directive that stands twice, the first one counts, unless the table says that it may repeat.
- A name that is not in the table ends the start, with its place: `conf/srs.conf:12:5: illegal
  vhost.hls.foo of example.com`. Only in the blocks where SRS does not look (`https`, `threads`, `hds` and a
  few more) does an unknown name bring no more than a warning.
- An empty file ends the start too. `is_full on` does as well: it marks a file that only documents.

## Environment variables

A variable wins over the file. Its name is `SRS_` and the path of the directive in capitals: `http_api.listen`
is `SRS_HTTP_API_LISTEN`. Directives of a vhost leave out its name (`SRS_VHOST_PLAY_GOP_CACHE`) and apply to
every vhost. A list is split at blanks, and an empty variable counts as unset. The table has every name,
strongest first. `SHARDCAST_SHARDS` and `SHARDCAST_GRACE_SESSIONS_WAIT` set directives of our own.

With `-e` or `SRS_ENV_ONLY` no file is read: the variables alone speak, for the default vhost. What they do not turn
on is off, `listen` too; `daemon` is off and the log goes to the console unless they say otherwise.

## Values

- On or off: most are on only if exactly `on`. Those that are on by nature are on unless exactly `off`. Any
  other word brings a warning where the directive acts.
- Numbers have no units; each directive has its own, given in the table.
- Endpoints are `1935` (every IPv4 address), `127.0.0.1:1935` or `[::]:1935`.
- A value that cannot be meant ends the start with its place and what was expected. Directives that are only
  accepted are not looked into. Those that are always their default bring a warning where another value is wanted.

## Vhosts

A client belongs to the vhost it names, or else to the one named `__defaultVhost__`. If there is neither, or
the one found is not `enabled`, the client is refused. A file without a vhost serves nobody.

## WebRTC candidates

Where a client may reach the port of `rtc_server`, best first:

1. `eip` and `candidate` of its request's query: a host, or `host:port` for another port than `listen`.
2. The host by which it reached the API (`api_as_candidates`): an address as it is, of a name the addresses
   (`resolve_api_domain`, within 2 s) and the name itself (`keep_api_domain`).
3. `candidate`, a host or `host:port`. `$NAME` stands for a variable of the environment. With `*`, or where that
   variable is not set, the addresses of this machine's interfaces of `ip_family` (`use_auto_detect_network_ip`), and if
   there are none at all, any other.
4. For who reached the API at `localhost` or a loopback address: 127.0.0.1. Not so in SRS.

Interfaces count only where `listen` covers them: behind a NAT or in Docker, say the outer address by `candidate`.

## Access

`security` judges by address, for every protocol: with no rule nobody is let in, a `deny` wins, and where there is an
`allow`, be it of the other deed, nothing else is allowed. `refer` judges by the end of the host in RTMP's pageUrl and, with `http on`,
HTTP's Referer: `all`, and `publish` or `play`. RTMP clients are answered with an error, SRT sessions closed, HTTP and
WHIP or WHEP answered 403, the reason in the body. Of HTTP, X-Forwarded-For (its first address) or X-Real-IP says whom a proxy speaks for: the
API and hooks have that address, and `security` must let in both it and the proxy, as anybody can send the header.

## Hooks

`http_hooks` has URLs that are called in order, with the members that SRS sends; `clients` in `on_play` and `on_stop`
is the API's. `on_connect`, `on_publish` and `on_play` are waited for: anything but status 200 or 201 with `0` or an
object with an integer `code` of 0 refuses the client, as does a receiver that takes more than 30 s to connect or to answer. HTTP
and WHIP or WHEP are answered 401 then. Of the others failures are logged and counted. Calls about one client follow each
other, `on_dvr` before `on_unpublish`; those of segments go their own way. Certificates of
receivers over https are not looked at, as in SRS; with `verify on` they must be such as the system (or SSL_CERT_FILE) trusts.
`secret` signs bodies: the header `X-Shardcast-Signature` has `sha256=` and their HMAC-SHA256 in hex. `retries` tells
again, after 1 s and then twice as long each time, what nobody waits for. `keep_alive on` uses connections for several
calls. About viewers by HLS `on_play` is asked where `hls_ctx` is on, as it is by default. With
`on_hls` files are written also where `hls_path` is not given.

## Differences from SRS

- Networks of `security` may be IPv6. A rule that cannot be meant ends the start. With `refer { http on; }` HTTP and WebRTC are judged too.
- `shards` is ours: the number of cores that carry media, all by default.
- `vhost.play.queue_length` is 10 seconds instead of 30. A viewer further behind than this continues at the
  newest keyframe.
- `circuit_breaker.late_threshold`, `load_threshold` and `redirect` are ours, and what SRS's thresholds of CPU do there does
  not happen: a shard whose ticks come later than this, or that has more of its core, refuses new viewers (HTTP 503, `NetStream.Play.Failed`, SRT's overload, 503 for
  an offer of WebRTC), or sends them elsewhere: those over HTTP (302) and by WebRTC (307) to the `redirect` of `http://` or
  `https://`, with the path they asked for behind it; players of RTMP (SRS's RTMP 302) to that of `rtmp://` or
  `rtmps://`, which is also the `tcUrl` of players that a graceful end asks to reconnect.
- `vhost.play.mw_latency` is 0 in a vhost with `min_latency on`, unless it is set.
- `vhost.play.mw_adaptive` is ours: frames gather no longer than a shard's load needs, `mw_latency` at the most. Where
  `mw_latency` is set, by a file or the environment, they gather exactly so long, unless `mw_adaptive on` is set too.
- `grace_sessions_wait` is ours: how long sessions may go on in a graceful end. By itself, as in SRS, until they go.
- `vhost.publish.republish_grace` is ours: how long HTTP and SRT viewers stay when their publisher leaves, to go on with
  the next one of the same name. RTMP and WebRTC viewers stay anyway.
- `max_connections_per_ip` is ours: connections, SRT and WebRTC sessions of one address, or of one /64 of IPv6.
- `max_streams_per_shard` is ours. A stream has a place on its home shard and on each shard with viewers of it, and one
  that nobody uses makes room. Who would bring another one is refused: `NetStream.Publish.Denied`,
  `NetStream.Play.Failed`, HTTP 503, SRT's overload. SRT players whose stream has no place at its home, and WebRTC
  players where their packets arrive, are let in and then closed.
- `rtmp.proxy_protocol` is ours: who connects by RTMP or RTMPS is a proxy, and says first whose connection it brings: by
  PROXY protocol 1 or 2, or SRS's PROXY-IP. Who says nothing is refused. Where it is off, PROXY-IP is read and logged.
- `daemon` waits until the server serves, and ends with its status where it does not.
- A reload that cannot be done changes nothing; SRS ends where it fails half-way. See [operations.md](operations.md).
- `pid` is written only where there is a file, `-e` or the directive itself.
- `max_connections` has no default.
- `rtmp { }` wins over `listen` and `chunk_size` of the file itself. A file with neither `listen` listens on
  1935.
- `srt_server.connect_timeout` is the time for a caller's handshake.
- `srt_server.default_streamid` publishes, as in SRS 7.0.18; in later ones its default plays.
- `vhost.srt.srt_to_rtmp off` brings a warning and no more: what comes over SRT plays by every protocol. SRS saves the
  conversion by it; here nothing is converted before a viewer wants it.
- `SRS_CHUNK_SIZE` and `SRS_VHOST_CHUNK_SIZE` both work.
";

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashSet, path::Path};

    #[test]
    fn the_page_in_docs_is_written_from_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, markdown()).unwrap();
        }
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(page == markdown(), "docs/config.md is stale: run this test once with UPDATE_DOCS=1");
    }

    #[test]
    fn the_table_is_a_tree_without_repetition() {
        let mut seen = HashSet::new();
        for (section, row) in all() {
            let path = dotted(section.path, row.name);
            assert!(seen.insert(path.clone()), "{path} stands twice");
            assert_eq!(row.kind == Kind::Block, find(&path).is_some(), "{path}");
        }
        for section in SECTIONS.iter().filter(|section| !section.path.is_empty()) {
            assert!(seen.contains(section.path), "{} has no parent", section.path);
        }
    }

    #[test]
    fn defaults_of_what_acts_are_values() {
        for (section, row) in all().filter(|(_, row)| row.status == Status::Acts && !row.default.is_empty()) {
            let is_value = match row.kind {
                Kind::Bool | Kind::BoolOn => matches!(row.default, "on" | "off"),
                Kind::Number(min, max, _) => row.default.parse().is_ok_and(|n| (min..=max).contains(&n)),
                Kind::OneOf(names) => names.split(", ").any(|name| name == row.default),
                Kind::Endpoints => row.default.parse::<super::super::Listen>().is_ok(),
                _ => true,
            };
            let inherited = section.path == "vhost" && row.name == "chunk_size";
            assert!(is_value || inherited, "{} {}", dotted(section.path, row.name), row.default);
        }
    }

    #[test]
    fn old_spellings_lead_to_known_ones() {
        for rule in legacy::RULES {
            for new in rule.now(rule.path).iter().flat_map(|new| new.split(", ")) {
                let (path, name) = new.rsplit_once('.').unwrap_or(("", new));
                assert!(find(path).and_then(|section| section.row(name)).is_some(), "{new}");
            }
        }
    }

    #[test]
    fn variables_are_named_by_rule_and_exception() {
        for (path, name, variables) in [
            ("", "listen", "SRS_LISTEN"),
            ("rtmp", "listen", "SRS_RTMP_LISTEN SRS_LISTEN"),
            ("http_server", "listen", "SRS_HTTP_SERVER_LISTEN"),
            ("vhost.play", "gop_cache", "SRS_VHOST_PLAY_GOP_CACHE"),
            ("vhost.hls", "hls_fragment", "SRS_VHOST_HLS_HLS_FRAGMENT"),
            ("", "srs_log_tank", "SRS_SRS_LOG_TANK SRS_LOG_TANK"),
            ("vhost.forward", "backend", "SRS_VHOST_FORWARD_BACKEND"),
            ("vhost.dvr", "dvr_apply", ""),
            ("vhost.cluster", "mode", ""),
            ("vhost", "enabled", ""),
        ] {
            let section = find(path).unwrap();
            assert_eq!(section.row(name).unwrap().env_names(section).join(" "), variables, "{path} {name}");
        }
    }
}
