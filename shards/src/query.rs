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
    fn percent_encoding_is_undone_where_it_is_valid() {
        assert_eq!(decode("/live/a%20b.flv"), "/live/a b.flv");
        assert_eq!(decode("/100%/%zz%2"), "/100%/%zz%2");
        assert_eq!(decode("/%2e%2e/x"), "/../x");
    }
}
