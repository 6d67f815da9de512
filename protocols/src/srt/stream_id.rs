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

/// What a streamid without words means.
const EMPTY: &str = "#!::r=live/livestream,m=publish";

/// `#!::r=app/stream,m=publish,h=vhost,key=value` or `app/stream` or `stream`, the last two to play.
pub fn parse(text: &str, default_app: &str) -> Result<(Mode, Request), StreamIdError> {
    let text = if text.is_empty() { EMPTY } else { text };
    let Some(pairs) = text.strip_prefix("#!::") else {
        return Ok((Mode::Play, request(text, String::new(), String::new(), default_app)?));
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
    Ok((mode, request(&resource, vhost, param, default_app)?))
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

    fn read(text: &str) -> Option<(Mode, String)> {
        let (mode, r) = parse(text, "live").ok()?;
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
    fn refuses_what_names_no_stream() {
        assert_eq!(parse("#!::m=publish", "live"), Err(StreamIdError::NoStream));
        assert_eq!(parse("#!::r=a/,m=publish", "live"), Err(StreamIdError::NoStream));
        assert_eq!(parse("#!::r=a/b,m=both", "live"), Err(StreamIdError::Mode("both".into())));
    }
}
