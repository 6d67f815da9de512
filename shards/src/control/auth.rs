//! Who may use the API: HTTP Basic (RFC 7617) or a Bearer token (RFC 6750), as SRS checks them.

use crate::config::Auth;
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::{
    HeaderMap,
    header::{self, HeaderValue},
};
use subtle::ConstantTimeEq;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("it says nothing of who it is")]
    Missing,
    #[error("its Authorization header is malformed")]
    Malformed,
    #[error("its credentials are wrong")]
    Wrong,
}

/// SRS guards every path with `/api/` in it, and WHIP and WHEP where that is configured.
pub fn is_guarded(auth: &Auth, path: &str) -> bool {
    let rtc = matches!(auth, Auth::Bearer { rtc: true, .. });
    path.contains("/api/") || rtc && ["/rtc/v1/whip", "/rtc/v1/whep"].iter().any(|prefix| path.starts_with(prefix))
}

pub fn check(auth: &Auth, headers: &HeaderMap) -> Result<(), Denied> {
    let given = headers.get(header::AUTHORIZATION).ok_or(Denied::Missing)?;
    let given = given.to_str().map_err(|_| Denied::Malformed)?;
    let (scheme, credentials) = given.split_once(' ').ok_or(Denied::Malformed)?;
    let right = match auth {
        Auth::Basic { username, password } => {
            if !scheme.eq_ignore_ascii_case("basic") {
                return Err(Denied::Malformed);
            }
            let pair = STANDARD.decode(credentials.trim()).map_err(|_| Denied::Malformed)?;
            if !pair.contains(&b':') {
                return Err(Denied::Malformed);
            }
            // In a time that does not tell how much of it is right.
            pair.ct_eq(format!("{username}:{password}").as_bytes())
        }
        Auth::Bearer { token, .. } => {
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(Denied::Wrong);
            }
            credentials.trim().as_bytes().ct_eq(token.as_bytes())
        }
    };
    if bool::from(right) { Ok(()) } else { Err(Denied::Wrong) }
}

/// What a refusal asks for. SRS names no realm, and asks for nothing after a malformed header.
pub fn challenge(auth: &Auth, denied: Denied) -> Option<HeaderValue> {
    match (auth, denied) {
        (Auth::Basic { .. }, Denied::Malformed) => None,
        (Auth::Basic { .. }, _) => Some(HeaderValue::from_static("Basic")),
        (Auth::Bearer { .. }, _) => Some(HeaderValue::from_static("Bearer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(auth: &Auth, value: &str) -> Result<(), Denied> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        check(auth, &headers)
    }

    #[test]
    fn basic_wants_name_and_password() {
        let auth = Auth::Basic { username: "admin".into(), password: "s3cret".into() };
        assert_eq!(check(&auth, &HeaderMap::new()), Err(Denied::Missing));
        let with = |pair: &str| said(&auth, &format!("Basic {}", STANDARD.encode(pair)));
        assert_eq!(with("admin:s3cret"), Ok(()));
        for pair in ["admin:s3creT", "admin:s3cret1", "admin:", ":", "Admin:s3cret"] {
            assert_eq!(with(pair), Err(Denied::Wrong), "{pair}");
        }
        for value in ["Basic", "Basic ***", "Bearer x", "Basic YWRtaW4="] {
            assert_eq!(said(&auth, value), Err(Denied::Malformed), "{value}");
        }
        assert_eq!(challenge(&auth, Denied::Wrong).unwrap(), "Basic");
        assert_eq!(challenge(&auth, Denied::Malformed), None);
    }

    #[test]
    fn bearer_wants_its_token_and_may_guard_webrtc() {
        let auth = |rtc| Auth::Bearer { token: "t0ken".into(), rtc };
        assert_eq!(said(&auth(false), "Bearer t0ken"), Ok(()));
        for value in ["Bearer t0ke", "Bearer ", "Basic t0ken"] {
            assert_eq!(said(&auth(false), value), Err(Denied::Wrong), "{value}");
        }
        assert!(is_guarded(&auth(false), "/api/v1/versions") && !is_guarded(&auth(false), "/rtc/v1/whip/"));
        assert!(is_guarded(&auth(true), "/rtc/v1/whip/") && is_guarded(&auth(true), "/rtc/v1/whep/"));
        assert!(!is_guarded(&auth(true), "/metrics") && !is_guarded(&auth(true), "/rtc/v1/play/"));
    }
}
