//! HTTP: the server of media and pages, the API, and TLS.

use crate::{
    config::{BadValue, Listen, check::Remarks, scope::Scope},
    net::certificates::Pair,
};
use std::path::PathBuf;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpServer {
    pub enabled: bool,
    pub listen: Vec<Listen>,
    pub dir: PathBuf,
    pub crossdomain: bool,
    pub https: Tls,
}

impl HttpServer {
    pub(super) fn of(scope: Scope, remarks: &mut Remarks) -> Result<Self, BadValue> {
        let enabled = scope.flag("enabled");
        Ok(Self {
            enabled,
            listen: scope.listens("listen")?,
            dir: scope.word("dir").into(),
            crossdomain: scope.flag("crossdomain"),
            https: Tls::of(scope.block("https"), enabled, remarks)?,
        })
    }
}

/// A protocol's ports with TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    pub enabled: bool,
    pub listen: Vec<Listen>,
    /// Never empty: the first one is for clients that name none of the others' hosts.
    pub pairs: Vec<Pair>,
}

impl Tls {
    /// What its ports have to load.
    pub fn wanted(&self) -> Vec<Pair> {
        if self.enabled { self.pairs.clone() } else { Vec::new() }
    }

    /// `plain`: what it belongs to is on.
    pub(super) fn of(scope: Scope, plain: bool, remarks: &mut Remarks) -> Result<Self, BadValue> {
        let enabled = scope.flag("enabled");
        if enabled && !plain {
            remarks.warnings.push(format!("{} needs what it stands in enabled, it is off", scope.path()));
        }
        let (certs, keys) = (scope.every("cert"), scope.every("key"));
        if certs.len() != keys.len()
            && let Some(value) = scope.given("cert").or_else(|| scope.given("key"))
        {
            return Err(scope.bad("cert", &value, format!("a key for each, {} keys are there", keys.len())));
        }
        let pairs = certs.into_iter().zip(keys).map(|(cert, key)| Pair { cert: cert.into(), key: key.into() });
        Ok(Self { enabled: enabled && plain, listen: scope.listens("listen")?, pairs: pairs.collect() })
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpApi {
    pub enabled: bool,
    /// May equal the one of the HTTP server: both then share the port.
    pub listen: Vec<Listen>,
    pub crossdomain: bool,
    /// Likewise.
    pub https: Tls,
    pub raw_api: RawApi,
    /// Who may use it; `None`: everyone.
    pub auth: Option<Auth>,
}

impl HttpApi {
    pub(super) fn of(scope: Scope, server: &HttpServer, remarks: &mut Remarks) -> Result<Self, BadValue> {
        let (enabled, listen) = (scope.flag("enabled"), scope.listens("listen")?);
        let mut https = Tls::of(scope.block("https"), enabled, remarks)?;
        if listen == server.listen && scope.block("https").given("listen").is_none() {
            https.listen.clone_from(&server.https.listen);
        }
        let (raw_api, auth) = (RawApi::of(scope.block("raw_api")), Auth::of(scope.block("auth"))?);
        Ok(Self { enabled, listen, crossdomain: scope.flag("crossdomain"), https, raw_api, auth })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawApi {
    pub enabled: bool,
    pub allow_reload: bool,
}

impl RawApi {
    pub(super) fn of(scope: Scope) -> Self {
        Self { enabled: scope.flag("enabled"), allow_reload: scope.flag("allow_reload") }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Auth {
    Basic {
        username: String,
        password: String,
    },
    /// With `rtc`, WHIP and WHEP need it too.
    Bearer {
        token: String,
        rtc: bool,
    },
}

impl Auth {
    /// What cannot keep anyone out is no authentication: it ends the start. SRS 8 wants a type, before that there
    /// was only `basic`.
    pub(super) fn of(scope: Scope) -> Result<Option<Self>, BadValue> {
        if !scope.flag("enabled") {
            return Ok(None);
        }
        let basic = |word: &str| match word {
            "" | "basic" => Some(true),
            "bearer" => Some(false),
            _ => None,
        };
        if scope.one_of("type", basic)?.unwrap_or(true) {
            let username = scope.needed("username", |word| !word.contains(':'), "a name without a colon")?;
            let password = scope.needed("password", |word| !word.contains(':'), "a password without a colon")?;
            return Ok(Some(Self::Basic { username, password }));
        }
        let token = scope.needed("token", |_| true, "a token")?;
        Ok(Some(Self::Bearer { token, rtc: scope.flag("rtc_bearer_enabled") }))
    }
}
