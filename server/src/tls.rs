//! The server's certificate, for every listener that speaks TLS.
//!
//! What it is: an [`Identity`] is a certificate chain and its private key, loaded from the
//! operator's files or, at the first start, made and kept beside the other keys.
//! What it guarantees: a certificate that cannot be used stops the start; there is no way from
//! here to plain text. A key file is made with mode 0600 and refused when everyone can read it.
//! Existing files are never overwritten.
//! What it does not: it does not renew; whoever operates the server replaces the files.
//! On failure: `F0000` naming the file and what to do.

mod acceptor;

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_certificate::{CapturedX509Certificate, SignatureAlgorithm};

pub use self::acceptor::{Acceptor, Clients};

/// The name of the certificate file that a first start makes.
pub const CERTIFICATE_FILE: &str = "server.crt";
/// The name of the private key file that a first start makes.
pub const KEY_FILE: &str = "server.key";

/// How long a self-made certificate is valid.
const VALID_YEARS: i32 = 10;

/// A certificate chain, the server's own first, and its private key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads PEM files.
    ///
    /// # Errors
    /// `F0000` where a file is missing, holds nothing of use, or the key is open to everyone.
    pub fn load(certificate: &Path, key: &Path) -> Result<Identity> {
        refuse_open_key(key)?;
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable(certificate, &error.to_string()).with_source(error))?;
        if chain.is_empty() {
            return Err(unusable(certificate, "it holds no certificate"));
        }
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| unusable(key, &error.to_string()).with_source(error))?;
        let identity = Identity { chain, key };
        // Reports a key that does not belong to the certificate now, not at the first client.
        identity.server_config(&[], None)?;
        Ok(identity)
    }

    /// Loads the self-signed identity in `directory`, or makes one for `names` (DNS names and IP
    /// addresses) if there is none yet.
    ///
    /// # Errors
    /// `F0000`, also where only one of the two files is there: nothing is overwritten.
    pub fn load_or_create(directory: &Path, names: &[String]) -> Result<Identity> {
        let (certificate, key) = (directory.join(CERTIFICATE_FILE), directory.join(KEY_FILE));
        match (certificate.exists(), key.exists()) {
            (true, true) => {}
            (false, false) => create(directory, &certificate, &key, names)?,
            (true, false) => return Err(half(&certificate, &key)),
            (false, true) => return Err(half(&key, &certificate)),
        }
        Identity::load(&certificate, &key)
    }

    /// The server's own certificate: what a client of a self-signed server is to trust.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }

    /// A configuration for one listener; `protocols` are its ALPN names, best first. With `clients`,
    /// a client may come with a certificate, and no handshake is taken up again: what was verified
    /// once is verified each time.
    ///
    /// # Errors
    /// `F0000` where key and certificate do not belong together, or those of clients are of no use.
    pub fn server_config(
        &self,
        protocols: &[&[u8]],
        clients: Option<&Clients>,
    ) -> Result<Arc<ServerConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = match clients {
            Some(clients) => clients.verifier()?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_client_cert_verifier(verifier)
                    .with_single_cert(self.chain.clone(), self.key.clone_key())
            })
            .map_err(|error| {
                Error::new(
                    Kind::ConfigFile,
                    format!("the TLS certificate cannot be used with its key: {error}"),
                )
                .with_source(error)
            })?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        if clients.is_some() {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Arc::new(config))
    }

    /// The `tls-server-end-point` channel binding (RFC 5929, section 4.1): the certificate's hash
    /// under the hash of its own signature, SHA-256 for the weaker ones. `None` where the
    /// signature has no single hash (Ed25519, RSASSA-PSS): no channel binding is offered then.
    pub fn end_point(&self) -> Option<Vec<u8>> {
        let certificate = self.chain.first()?;
        let parsed = CapturedX509Certificate::from_der(certificate.to_vec()).ok()?;
        match parsed.signature_algorithm()? {
            SignatureAlgorithm::RsaSha1
            | SignatureAlgorithm::RsaSha256
            | SignatureAlgorithm::EcdsaSha256 => Some(Sha256::digest(certificate).to_vec()),
            SignatureAlgorithm::RsaSha384 | SignatureAlgorithm::EcdsaSha384 => {
                Some(Sha384::digest(certificate).to_vec())
            }
            SignatureAlgorithm::RsaSha512 => Some(Sha512::digest(certificate).to_vec()),
            SignatureAlgorithm::Ed25519 | SignatureAlgorithm::NoSignature(_) => None,
        }
    }

    /// A secret of this server's for `purpose`, the same after every restart.
    pub fn derive_secret(&self, purpose: &str) -> [u8; 32] {
        kho_sql::scram::hmac_sha256(self.key.secret_der(), purpose.as_bytes())
    }
}

impl Clone for Identity {
    fn clone(&self) -> Identity {
        Identity { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

fn create(directory: &Path, certificate: &Path, key: &Path, names: &[String]) -> Result<()> {
    fs::create_dir_all(directory)
        .map_err(|error| unusable(directory, &error.to_string()).with_source(error))?;
    let (certificate_pem, key_pem) = self_signed(names).map_err(|error| {
        Error::new(Kind::ConfigFile, format!("no TLS certificate could be made: {error}"))
            .with_source(error)
    })?;
    write_new(key, &key_pem, 0o600)?;
    write_new(certificate, &certificate_pem, 0o644)
}

fn self_signed(names: &[String]) -> Result<(String, String), rcgen::Error> {
    use chrono::Datelike as _;

    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(names.to_vec())?;
    parameters.distinguished_name.push(DnType::CommonName, "kho");
    let today = chrono::Utc::now().date_naive();
    let year = today.year();
    parameters.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(year + VALID_YEARS, 1, 1);
    let certificate = parameters.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        let mut file = options.open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| unusable(path, &error.to_string()).with_source(error))
}

pub(crate) fn refuse_open_key(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;

        let status = fs::metadata(path)
            .map_err(|error| unusable(path, &error.to_string()).with_source(error))?;
        if status.permissions().mode() & 0o007 != 0 {
            return Err(unusable(path, "everyone on this machine can reach it")
                .with_hint("Give the key file mode 0600."));
        }
    }
    Ok(())
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::new(Kind::ConfigFile, format!("TLS file {} cannot be used: {why}", path.display()))
}

fn half(present: &Path, absent: &Path) -> Error {
    unusable(absent, &format!("it is missing while {} is there", present.display()))
        .with_hint("Put it back, or remove the other one to have both made anew.")
}

#[cfg(test)]
mod tests;
