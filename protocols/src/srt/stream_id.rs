//! Streamids as SRS reads them: what a caller wants, and of which stream.

use crate::session::Request;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Publish,
    Play,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamIdError {
    #[error("mode {0:?} is neither publish nor request")]
    Mode(String),
    #[error("it names no stream")]
    NoStream,
}

/// What streamids leave out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// The app of one that names a stream only.
    pub app: String,
    /// Stands for an empty one.
    pub stream_id: String,
    /// Of one without `#!::`.
    pub mode: Mode,
}

/// `#!::r=app/stream,m=publish,h=vhost,key=value` (without `m` to play) or `app/stream` or `stream`.
pub fn parse(text: &str, defaults: &Defaults) -> Result<(Mode, Request), StreamIdError> {
    let text = if text.is_empty() { &defaults.stream_id } else { text };
    let Some(pairs) = text.strip_prefix("#!::") else {
        return Ok((defaults.mode, request(text, String::new(), String::new(), &defaults.app)?));
    };
    let (mut mode, mut resource, mut vhost, mut params) = (Mode::Play, String::new(), String::new(), Vec::new());
    for pair in pairs.split([',', '&', ';', '?']) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("r", value) => value.clone_into(&mut resource),
            ("m", value) if value.eq_ignore_ascii_case("publish") => mode = Mode::Publish,
            ("m", value) if value.eq_ignore_ascii_case("request") => mode = Mode::Play,
            ("m", value) => return Err(StreamIdError::Mode(value.into())),
            ("h", value) => match value.matches('/').count() {
                0 => value.clone_into(&mut vhost),
                1 => value.clone_into(&mut resource),
                _ => {
                    let (host, rest) = value.split_once('/').unwrap_or((value, ""));
                    host.clone_into(&mut vhost);
                    rest.clone_into(&mut resource);
                }
            },
            ("", _) => {}
            _ => params.push(pair),
        }
    }
    params.sort_unstable();
    let mut param = params.join("&");
    if !vhost.is_empty() {
        let joint = if param.is_empty() { "" } else { "&" };
        param = format!("{param}{joint}vhost={vhost}");
    }
    if !param.is_empty() {
        param.insert(0, '?');
    }
    Ok((mode, request(&resource, vhost, param, &defaults.app)?))
}

fn request(resource: &str, vhost: String, param: String, default_app: &str) -> Result<Request, StreamIdError> {
    let (app, stream) = resource.trim_start_matches('/').rsplit_once('/').unwrap_or((default_app, resource));
    let stream = stream.trim_start_matches('/');
    if app.is_empty() || stream.is_empty() {
        return Err(StreamIdError::NoStream);
    }
    Ok(Request { vhost, app: app.to_owned(), stream: stream.to_owned(), param, ..Request::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Defaults {
        Defaults { app: "live".into(), stream_id: "#!::r=live/livestream,m=publish".into(), mode: Mode::Play }
    }

    fn read(text: &str) -> Option<(Mode, String)> {
        read_with(text, &defaults())
    }

    fn read_with(text: &str, defaults: &Defaults) -> Option<(Mode, String)> {
        let (mode, r) = parse(text, defaults).ok()?;
        Some((mode, format!("{}|{}|{}|{}", r.vhost, r.app, r.stream, r.param)))
    }

    #[test]
    fn reads_what_srs_reads() {
        let publish = |words: &str| Some((Mode::Publish, words.to_owned()));
        let play = |words: &str| Some((Mode::Play, words.to_owned()));
        assert_eq!(read("#!::r=a/b,m=publish"), publish("|a|b|"));
        assert_eq!(read("#!::r=a/b,m=PUBLISH"), publish("|a|b|"));
        assert_eq!(read("#!::r=a/b"), play("|a|b|"));
        assert_eq!(read("#!::r=a/b?z=1&m=publish&c=2"), publish("|a|b|?c=2&z=1"));
        assert_eq!(read("#!::h=v.io,r=a/b;k=1,m=request"), play("v.io|a|b|?k=1&vhost=v.io"));
        assert_eq!(read("#!::h=a/b,m=publish"), publish("|a|b|"));
        assert_eq!(read("#!::h=v.io/a/b,m=publish"), publish("v.io|a|b|?vhost=v.io"));
        assert_eq!(read("b"), play("|live|b|"));
        assert_eq!(read("a/b"), play("|a|b|"));
        assert_eq!(read(""), publish("|live|livestream|"));
    }

    #[test]
    fn what_is_left_out_is_the_defaults() {
        let defaults = Defaults { app: "x".into(), stream_id: "y/z".into(), mode: Mode::Publish };
        let read = |text| read_with(text, &defaults);
        assert_eq!(read(""), Some((Mode::Publish, "|y|z|".into())));
        assert_eq!(read("b"), Some((Mode::Publish, "|x|b|".into())));
        assert_eq!(read("#!::r=b"), Some((Mode::Play, "|x|b|".into())));
    }

    #[test]
    fn refuses_what_names_no_stream() {
        assert_eq!(parse("#!::m=publish", &defaults()), Err(StreamIdError::NoStream));
        assert_eq!(parse("#!::r=a/,m=publish", &defaults()), Err(StreamIdError::NoStream));
        assert_eq!(parse("#!::r=a/b,m=both", &defaults()), Err(StreamIdError::Mode("both".into())));
    }
}
