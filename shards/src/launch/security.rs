//! The TLS of all ports that speak it: which certificates each of them has, and how it shakes hands.

use crate::{
    config::{Config, Tls},
    net::certificates::{CertificateError, Certificates, Keys},
};
use rustls::ServerConfig;
use std::sync::Arc;

/// What HTTPS ports speak, in ALPN.
const HTTP: &[&str] = &["http/1.1"];

pub struct Security {
    pub rtmps: Secured,
    pub https: Secured,
    pub api: Secured,
}

/// Ports of one kind.
pub struct Secured {
    certificates: Arc<Certificates>,
    pub config: Arc<ServerConfig>,
}

/// Certificates that were read and are not in use yet.
pub struct Renewed([Keys; 3]);

impl Security {
    pub fn load(config: &Config) -> Result<Arc<Self>, CertificateError> {
        let [rtmps, https, api] = wanted(config);
        let (rtmps, https, api) = (secured(rtmps, &[])?, secured(https, HTTP)?, secured(api, HTTP)?);
        Ok(Arc::new(Self { rtmps, https, api }))
    }

    /// What another configuration has them use. Blocks on files.
    pub fn read(&self, config: &Config) -> Result<Renewed, CertificateError> {
        let [rtmps, https, api] = wanted(config);
        let read = |secured: &Secured, tls: &Tls| secured.certificates.read(tls.wanted());
        Ok(Renewed([read(&self.rtmps, rtmps)?, read(&self.https, https)?, read(&self.api, api)?]))
    }

    pub fn take(&self, renewed: Renewed) {
        for (secured, keys) in [&self.rtmps, &self.https, &self.api].into_iter().zip(renewed.0) {
            secured.certificates.take(keys);
        }
    }

    /// Reads again what has changed on disk. Blocks on files.
    pub fn refresh(&self) {
        [&self.rtmps, &self.https, &self.api].into_iter().for_each(|secured| secured.certificates.refresh());
    }
}

fn wanted(config: &Config) -> [&Tls; 3] {
    [&config.rtmps, &config.http_server.https, &config.http_api.https]
}

fn secured(tls: &Tls, protocols: &[&str]) -> Result<Secured, CertificateError> {
    let certificates = Certificates::load(tls.wanted())?;
    Ok(Secured { config: certificates.config(protocols)?, certificates })
}
