//! The keys and certificates of one TLS port: read from PEM files, chosen by name, read again when they change.

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    client::verify_server_name,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use std::{
    fs,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};
use tracing::{info, warn};

const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
/// Of a TLS record, with its header: the allocator gives buffers of this size again while they are in the cache, the
/// 16 KB that a record may have (RFC 8446 §5.1) after it has left.
const RECORD: usize = 8_000;

/// A key, and the chain of certificates that it is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("certificate {}: {error}", path.display())]
    Cert { path: PathBuf, error: pem::Error },
    #[error("certificate {}: there is none in it", path.display())]
    Empty { path: PathBuf },
    #[error("key {}: {error}", path.display())]
    Key { path: PathBuf, error: pem::Error },
    #[error("key {} for certificate {}: {error}", pair.key.display(), pair.cert.display())]
    Pair { pair: Pair, error: rustls::Error },
    #[error("TLS: {0}")]
    Provider(rustls::Error),
}

#[derive(Debug)]
pub struct Certificates {
    provider: Arc<CryptoProvider>,
    now: RwLock<Keys>,
}

/// What handshakes use.
#[derive(Debug)]
pub struct Keys {
    pairs: Vec<Pair>,
    keys: Vec<Arc<CertifiedKey>>,
    /// When each file was changed last, as far as the system says.
    changed: Vec<Option<SystemTime>>,
}

impl Certificates {
    pub fn load(pairs: Vec<Pair>) -> Result<Arc<Self>, CertificateError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let now = RwLock::new(Keys::read(pairs, &provider)?);
        Ok(Arc::new(Self { provider, now }))
    }

    /// Other ones, to be [taken](Self::take).
    pub fn read(&self, pairs: Vec<Pair>) -> Result<Keys, CertificateError> {
        Keys::read(pairs, &self.provider)
    }

    pub fn take(&self, keys: Keys) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// TLS 1.3 and 1.2 with these, and with `protocols` to choose from (ALPN, RFC 7301).
    pub fn config(self: &Arc<Self>, protocols: &[&str]) -> Result<Arc<ServerConfig>, CertificateError> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone());
        let builder = builder.with_protocol_versions(VERSIONS).map_err(CertificateError::Provider)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.clone());
        config.max_fragment_size = Some(RECORD);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// Reads the files again where one has changed; what is wrong with them is logged once, and the old ones stay.
    pub fn refresh(&self) {
        let (pairs, seen) = {
            let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
            (now.pairs.clone(), now.changed.clone())
        };
        let changed = changed(&pairs);
        if changed == seen {
            return;
        }
        let read = self.read(pairs.clone());
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        if now.pairs != pairs {
            return; // others came meanwhile
        }
        let certs: Vec<_> = pairs.iter().map(|pair| pair.cert.display().to_string()).collect();
        let certs = certs.join(" ");
        let result = match read {
            Ok(keys) => {
                *now = keys;
                info!("certificate {certs} has changed and is used now");
                "ok"
            }
            Err(error) => {
                now.changed = changed;
                warn!("certificate {certs} has changed, the old one stays in use: {error}");
                "failed"
            }
        };
        metrics::counter!("shardcast_tls_reloads_total", "result" => result).increment(1);
    }
}

impl Keys {
    fn read(pairs: Vec<Pair>, provider: &CryptoProvider) -> Result<Self, CertificateError> {
        // Before they are read: a change meanwhile is seen at the next look.
        let changed = changed(&pairs);
        Ok(Self { keys: keys(&pairs, provider)?, changed, pairs })
    }
}

impl ResolvesServerCert for Certificates {
    /// The first one for the name that the client asks for (SNI, RFC 6066 §3), else the first one.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| now.keys.iter().find(|key| is_for(key, &name)));
        named.or(now.keys.first()).cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.cert.first().and_then(|cert| ParsedCertificate::try_from(cert).ok());
    parsed.is_some_and(|cert| verify_server_name(&cert, name).is_ok())
}

fn changed(pairs: &[Pair]) -> Vec<Option<SystemTime>> {
    let files = pairs.iter().flat_map(|pair| [&pair.cert, &pair.key]);
    files.map(|file| fs::metadata(file).and_then(|about| about.modified()).ok()).collect()
}

fn keys(pairs: &[Pair], provider: &CryptoProvider) -> Result<Vec<Arc<CertifiedKey>>, CertificateError> {
    let key = |pair: &Pair| {
        let bad_cert = |error| CertificateError::Cert { path: pair.cert.clone(), error };
        let chain = CertificateDer::pem_file_iter(&pair.cert).map_err(bad_cert)?;
        let chain = chain.collect::<Result<Vec<_>, _>>().map_err(bad_cert)?;
        if chain.is_empty() {
            return Err(CertificateError::Empty { path: pair.cert.clone() });
        }
        let key = PrivateKeyDer::from_pem_file(&pair.key)
            .map_err(|error| CertificateError::Key { path: pair.key.clone(), error })?;
        let certified = CertifiedKey::from_der(chain, key, provider);
        certified.map(Arc::new).map_err(|error| CertificateError::Pair { pair: pair.clone(), error })
    };
    pairs.iter().map(key).collect()
}
