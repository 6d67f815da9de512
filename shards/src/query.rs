//! Queries of URLs, and percent-encoding (RFC 3986 §2.1).

/// The value of the first member called `name`, as it came; `None` where it is not there or empty. A leading `?` is none
/// of it.
pub fn raw<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let mut pairs = query.trim_start_matches('?').split('&');
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).filter(|value| !value.is_empty())
}

/// The same, percent-decoded.
pub fn value(query: &str, name: &str) -> Option<String> {
    raw(query, name).map(decode)
}

/// Undoes percent-encoding; what is not valid stays as it is (or becomes U+FFFD where it is not UTF-8).
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |offset: usize| bytes.get(at + offset).and_then(|byte| char::from(*byte).to_digit(16));
        match (byte, digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A path with a part `..`, however its octets are encoded, or with a NUL.
pub fn climbs(path: &str) -> bool {
    let decoded = decode(path);
    decoded.split(['/', '\\']).any(|part| part == "..") || decoded.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_and_decoded() {
        assert_eq!(value("app=live&stream=a%2fb", "stream").as_deref(), Some("a/b"));
        assert_eq!(raw("?app=live&stream=a%2fb", "stream"), Some("a%2fb"));
        assert_eq!(raw("?app=live", "app"), Some("live"));
        assert_eq!((value("streams=x&stream=", "stream"), raw("", "stream")), (None, None));
    }

    #[test]
    fn paths_that_climb_are_known_in_every_encoding() {
        for path in ["/..", "/../x", "/a/%2e%2e/x", "/a/.%2E", "/a%2f..%2fx", "/a/..\\x", "/a%5c..%5cx", "/a%00.flv"] {
            assert!(climbs(path), "{path}");
        }
        for path in ["/", "/a..b.flv", "/...", "/a/...", "/.%252e/x", "/a/.b", "/%zz.."] {
            assert!(!climbs(path), "{path}");
        }
    }

    #[test]
    fn percent_encoding_is_undone_where_it_is_valid() {
        assert_eq!(decode("/live/a%20b.flv"), "/live/a b.flv");
        assert_eq!(decode("/100%/%zz%2"), "/100%/%zz%2");
        assert_eq!(decode("/%2e%2e/x"), "/../x");
    }
}
