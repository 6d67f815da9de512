//! What a client's tcUrl and stream name ask for: vhost, app, stream and query.
//!
//! The path's last segment is the stream, all before it the app. Queries may hang on either; clients
//! split one URL between tcUrl and stream name in different ways, and all mean the same.

use crate::session::{Elsewhere, Request};

/// The app of a URL that has none.
pub const DEFAULT_APP: &str = "__defaultApp__";
const DEFAULT_VHOST: &str = shardcast_engine::key::DEFAULT_VHOST;
pub const DEFAULT_PORT: u16 = 1935;

/// A URL's parts, before vhosts are resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    pub host: String,
    pub port: u16,
    /// `vhost=` or `domain=` of the query, unless that is the default vhost; else the host.
    pub vhost: String,
    pub app: String,
    pub stream: String,
    /// The query with its `?`, or empty.
    pub param: String,
}

/// Reads a tcUrl and a stream name, each perhaps with a query. In a connect, `stream` is empty; so it
/// may be in a publish or play, if all of the URL is in `tc_url` (see [`Target::guess_stream`]).
pub fn parse(tc_url: &str, stream: &str) -> Target {
    let rest = tc_url.split_once("://").map_or(tc_url, |(_, rest)| rest);
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(host_end).unwrap_or((rest, ""));
    let (host, port) = split_authority(authority);

    let (app_path, app_query) = split_query(rest);
    let (stream_path, stream_query) = split_query(stream);
    // app...vhost...NAME/stream is an old way to say app/stream?vhost=NAME.
    let undotted = undot(app_path);
    let (app_path, dotted) = undotted.as_ref().map_or((app_path, ""), |(path, query)| (path, query));
    // The query of an app may itself be followed by a slash and the stream: /app?k=v/stream.
    let (app_query, query_stream) = match app_query.rsplit_once('/') {
        Some((query, name)) if stream.is_empty() => (query, name),
        _ => (app_query, ""),
    };
    let path = format!("{app_path}/{}", if stream_path.is_empty() { query_stream } else { stream_path });
    let segments: Vec<&str> = path.split('/').map(strip).filter(|s| *s != "_definst_").collect();
    let (stream, app) = segments.split_last().map_or(("", &segments[..]), |(last, app)| (*last, app));
    let app: Vec<&str> = app.iter().copied().filter(|s| !s.is_empty()).collect();
    let app = if app.is_empty() { DEFAULT_APP.to_owned() } else { app.join("/") };

    let pairs = || {
        [stream_query, app_query, dotted]
            .into_iter()
            .flat_map(|query| query.split(['&', '?']))
            .filter(|pair| !pair.is_empty())
    };
    let value = |key: &str| pairs().filter_map(|pair| pair.split_once('=')).find(|(k, v)| *k == key && !v.is_empty());
    let named = value("vhost").or_else(|| value("domain")).map_or("", |(_, v)| v);
    let mut param: Vec<&str> = pairs().collect();
    if param.len() == 1 && named == DEFAULT_VHOST {
        param.clear();
    }
    let vhost = if named.is_empty() || named == DEFAULT_VHOST { host } else { named };
    Target {
        host: strip_host(host),
        port,
        vhost: strip_host(vhost),
        app,
        stream: stream.to_owned(),
        param: if param.is_empty() { String::new() } else { format!("?{}", param.join("&")) },
    }
}

impl Target {
    /// Of a publish or play that names no stream: one behind a slash in the query, else the app's part
    /// behind its first slash.
    pub fn guess_stream(mut self) -> Self {
        if !self.stream.is_empty() {
            return self;
        }
        if let Some((param, stream)) = self.param.rsplit_once('/') {
            (self.stream, self.param) = (stream.to_owned(), param.to_owned());
        } else if let Some((app, stream)) = self.app.split_once('/') {
            (self.stream, self.app) = (stream.to_owned(), app.to_owned());
        }
        self
    }

    pub fn request(self, tc_url: &str) -> Request {
        Request {
            vhost: self.vhost,
            app: self.app,
            stream: self.stream,
            param: self.param,
            tc_url: tc_url.to_owned(),
            ..Request::default()
        }
    }
}

/// The stream of `request`, which is of `vhost`, at the server whose URLs begin with `base`, as `rtmp://host:port`.
pub fn elsewhere(base: &str, vhost: &str, request: &Request) -> Elsewhere {
    let query = request.tc_url.split_once('?').map_or("", |(_, query)| query);
    let with_vhost = |path: String, query: &str| {
        let told = query.split('&').any(|pair| pair.starts_with("vhost=") || pair.starts_with("domain="));
        let vhost = if vhost == DEFAULT_VHOST || told { String::new() } else { format!("vhost={vhost}") };
        let pairs: Vec<&str> = [query, &vhost].into_iter().filter(|pairs| !pairs.is_empty()).collect();
        if pairs.is_empty() { path } else { format!("{path}?{}", pairs.join("&")) }
    };
    let app = format!("{base}/{}", request.app);
    let url = with_vhost(format!("{app}/{}", request.stream), request.param.trim_start_matches('?'));
    Elsewhere { tc_url: with_vhost(app, query), url }
}

/// The name under which a stream is known: without a media file's extension, so `s.flv` is `s`; other
/// dots belong to the name.
pub fn identity(stream: &str) -> &str {
    const EXTENSIONS: [&str; 6] = ["flv", "ts", "m3u8", "mp4", "mp3", "aac"];
    match stream.rsplit_once('.') {
        Some((name, extension)) if !name.is_empty() && EXTENSIONS.contains(&extension) => name,
        _ => stream,
    }
}

/// Host and port; an IPv6 address comes in brackets and keeps them.
fn split_authority(authority: &str) -> (&str, u16) {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let colon = authority.rfind(':').filter(|colon| !authority[*colon..].contains(']'));
    match colon.and_then(|colon| authority.split_at_checked(colon)) {
        Some((host, port)) => (host, port[1..].trim().parse().unwrap_or(DEFAULT_PORT)),
        None => (authority, DEFAULT_PORT),
    }
}

fn split_query(text: &str) -> (&str, &str) {
    text.split_once(['?', '#']).unwrap_or((text, ""))
}

/// The path without `...vhost...NAME`, and `vhost=NAME`.
fn undot(path: &str) -> Option<(String, String)> {
    let (before, after) = path.split_once("...vhost...")?;
    let name_end = after.find('/').unwrap_or(after.len());
    let (name, rest) = after.split_at_checked(name_end)?;
    Some((format!("{before}{rest}"), format!("vhost={name}")))
}

fn strip(segment: &str) -> &str {
    segment.trim_matches([' ', '\n', '\r', '\t'])
}

fn strip_host(host: &str) -> String {
    host.chars().filter(|c| !matches!(c, '/' | ' ' | '\n' | '\r')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// tcUrl, stream; vhost, app, stream, param.
    const TABLE: &[(&str, &str, &str, &str, &str, &str)] = &[
        ("rtmp://h/live", "s", "h", "live", "s", ""),
        ("rtmp://h:1936/live/", "/s", "h", "live", "s", ""),
        ("rtmp://h/live", "", "h", "live", "", ""),
        ("rtmp://h/live", "s?k=v", "h", "live", "s", "?k=v"),
        ("rtmp://h/live?k=v", "s", "h", "live", "s", "?k=v"),
        ("rtmp://h/live#k=v", "s", "h", "live", "s", "?k=v"),
        ("rtmp://h/live?a=1", "s?b=2", "h", "live", "s", "?b=2&a=1"),
        ("rtmp://h/live?k=v/s", "", "h", "live", "s", "?k=v"),
        ("rtmp://h/live", "?k=v/s", "h", "live", "s", "?k=v"),
        ("rtmp://h/a/b", "c/s", "h", "a/b/c", "s", ""),
        ("rtmp://h/live", "s?token=ab/cd", "h", "live", "s", "?token=ab/cd"),
        ("rtmp://h/live?vhost=v.io", "s", "v.io", "live", "s", "?vhost=v.io"),
        ("rtmp://h/live", "s?domain=v.io", "v.io", "live", "s", "?domain=v.io"),
        ("rtmp://h/live?vhost=__defaultVhost__", "s", "h", "live", "s", ""),
        ("rtmp://h/live", "s?vhost=__defaultVhost__&k=v", "h", "live", "s", "?vhost=__defaultVhost__&k=v"),
        ("rtmp://h/live...vhost...v.io", "s", "v.io", "live", "s", "?vhost=v.io"),
        ("rtmp://h/live...vhost...v.io/s", "", "v.io", "live/s", "", "?vhost=v.io"),
        ("rtmp://h/live/_definst_", "s", "h", "live", "s", ""),
        ("rtmp://h/_definst_/live", "_definst_/s", "h", "live", "s", ""),
        ("rtmp://h", "s", "h", "__defaultApp__", "s", ""),
        ("rtmp://h / live ", " s ", "h", "live", "s", ""),
        ("rtmp://[::1]:19350/live", "s", "[::1]", "live", "s", ""),
        ("rtmp://[::1]/live", "s", "[::1]", "live", "s", ""),
        ("", "", "", "__defaultApp__", "", ""),
    ];

    #[test]
    fn clients_split_urls_in_many_ways() {
        for (tc_url, name, vhost, app, stream, param) in TABLE {
            let mut target = parse(tc_url, name);
            if *name == "?k=v/s" {
                target = target.guess_stream();
            }
            let got = (&*target.vhost, &*target.app, &*target.stream, &*target.param);
            assert_eq!(got, (*vhost, *app, *stream, *param), "{tc_url} {name}");
        }
    }

    #[test]
    fn a_stream_keeps_its_name_and_vhost_elsewhere() {
        for (tc_url, name, vhost, at, whole) in [
            ("rtmp://h/live", "cam", DEFAULT_VHOST, "live", "live/cam"),
            ("rtmp://h/live?k=v", "cam", DEFAULT_VHOST, "live?k=v", "live/cam?k=v"),
            ("rtmp://v.io/live/sub", "cam", "v.io", "live/sub?vhost=v.io", "live/sub/cam?vhost=v.io"),
            ("rtmp://v.io/live", "cam?k=v", "v.io", "live?vhost=v.io", "live/cam?k=v&vhost=v.io"),
            ("rtmp://h/live", "cam?vhost=v.io", "v.io", "live?vhost=v.io", "live/cam?vhost=v.io"),
        ] {
            let request = parse(tc_url, name).request(tc_url);
            let found = elsewhere("rtmp://o:1", vhost, &request);
            let expected = [at, whole].map(|path| format!("rtmp://o:1/{path}"));
            assert_eq!([found.tc_url, found.url], expected);
        }
    }

    #[test]
    fn a_missing_stream_is_guessed() {
        for (tc_url, app, stream) in
            [("rtmp://h/live/s", "live", "s"), ("rtmp://h/a/b/c", "a", "b/c"), ("rtmp://h/live", "live", "")]
        {
            let target = parse(tc_url, "").guess_stream();
            assert_eq!((&*target.app, &*target.stream), (app, stream), "{tc_url}");
        }
    }

    #[test]
    fn ports_default() {
        for (url, port) in [
            ("rtmp://h:80/live", 80),
            ("rtmp://h/live", 1935),
            ("rtmp://h:x/live", 1935),
            ("rtmp://h:/live", 1935),
            ("rtmp://[::1]:19350/live", 19350),
        ] {
            assert_eq!(parse(url, "s").port, port, "{url}");
        }
    }

    #[test]
    fn extensions_do_not_count() {
        for (stream, name) in [("s.flv", "s"), ("s", "s"), ("a.b.flv", "a.b"), (".flv", ".flv"), ("", "")] {
            assert_eq!(identity(stream), name);
        }
    }
}
