//! DTLS for all sessions of the process: one certificate, one configuration of dimpl.
//!
//! str0m's own provider checks its ciphers and makes a key for every session. SRTP: AEAD_AES_256_GCM,
//! AEAD_AES_128_GCM (RFC 7714), then AES128_CM_SHA1_80 (RFC 3711), in dimpl's order. Peers' certificates are
//! ECDSA ones (P-256, P-384): dimpl asks for no other.

use dimpl::{Config, Dtls, certificate::generate_self_signed_certificate};
use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use str0m::{
    DATAGRAM_MTU_TARGET,
    config::{CryptoProvider, DtlsCert, DtlsVersion},
    crypto::{
        CryptoError,
        dtls::{DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion},
    },
};

/// Until a flight is sent again; doubles each time.
const FIRST_RETRY: Duration = Duration::from_millis(150);
/// 150 ms doubled 7 times lasts longer than `LONGEST_HANDSHAKE`.
const RETRIES: usize = 8;
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(30);

struct Shared {
    crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
    config: Arc<Config>,
}

/// What every session is built with: the ciphers, with DTLS from here, and the certificate.
///
/// # Errors
///
/// The system gives no random bytes, or a cipher fails its self-test.
pub fn shared() -> Result<(Arc<CryptoProvider>, DtlsCert), String> {
    Shared::get().map(|shared| (shared.crypto.clone(), shared.certificate.clone()))
}

impl Shared {
    fn get() -> Result<&'static Self, String> {
        static SHARED: OnceLock<Shared> = OnceLock::new();
        if let Some(shared) = SHARED.get() {
            return Ok(shared);
        }
        // Two threads may make one each; the first stays.
        let made = Self::make()?;
        Ok(SHARED.get_or_init(|| made))
    }

    fn make() -> Result<Self, String> {
        let config = Config::builder()
            .mtu(DATAGRAM_MTU_TARGET)
            // ICE has verified the way back.
            .use_server_cookie(false)
            .flight_start_rto(FIRST_RETRY)
            .flight_retries(RETRIES)
            .handshake_timeout(LONGEST_HANDSHAKE)
            .build()
            .map_err(|error| error.to_string())?;
        let certificate = generate_self_signed_certificate().map_err(|error| error.to_string())?;
        let crypto = CryptoProvider { dtls_provider: &Provider, ..str0m::crypto::from_feature_flags() };
        Ok(Self { crypto: Arc::new(crypto), certificate, config: Arc::new(config) })
    }
}

#[derive(Debug)]
struct Provider;

impl DtlsProvider for Provider {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        Shared::get().ok().map(|shared| shared.certificate.clone())
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        _version: DtlsVersion,
        _mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let shared = Shared::get().map_err(CryptoError::Other)?;
        Ok(Box::new(Instance(Dtls::new_12(shared.config.clone(), certificate.clone(), now))))
    }
}

/// Where `DtlsOutput::KeyingMaterial` passes by.
struct Instance(Dtls);

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Instance")
    }
}

impl DtlsInstance for Instance {
    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        self.0.poll_output(buffer)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.0.close()
    }
}
