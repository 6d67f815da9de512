//! Certificates made by openssl at test time, and what a TLS port shows of them.

use super::{PATIENCE, process::Process, server::local};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A self-signed certificate and its key, as PEM files.
pub struct Certificate {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    /// For `host` and 127.0.0.1, as `NAME.crt` and `NAME.key`; what is there is replaced.
    pub fn make(folder: &Path, name: &str, host: &str) -> Self {
        let file = |suffix: &str| folder.join(format!("{name}.{suffix}"));
        let made = Self { cert: file("crt"), key: file("key") };
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt"]);
        openssl.args(["ec_paramgen_curve:prime256v1", "-subj", &format!("/CN={host}"), "-addext"]);
        openssl.arg(format!("subjectAltName=DNS:{host},IP:127.0.0.1"));
        // So that who trusts it takes it for a server's.
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.arg("-keyout").arg(&made.key).arg("-out").arg(&made.cert);
        let output = Process::start(&mut openssl).finish(PATIENCE);
        assert!(output.status.success(), "openssl: {}", output.stderr.join("\n"));
        made
    }

    /// As directives.
    pub fn conf(&self) -> String {
        format!("cert {}; key {};", self.cert.display(), self.key.display())
    }
}

/// The host of the certificate that `port` shows to one who asks for `name`.
pub fn shown(port: u16, name: &str) -> String {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-connect", &local(port).to_string(), "-servername", name, "-verify_quiet"]);
    let output = Process::start(&mut openssl).finish(PATIENCE);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let subject = said.lines().find_map(|line| line.strip_prefix("subject="));
    let subject = subject.unwrap_or_else(|| panic!("no certificate: {said}\n{}", output.stderr.join("\n")));
    subject.trim_start_matches("CN").trim_start_matches([' ', '=']).to_owned()
}
