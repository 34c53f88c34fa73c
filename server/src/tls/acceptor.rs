//! TLS for one listener, and who may come with a certificate of their own.
//!
//! What it guarantees: a client's certificate is verified, or the handshake fails; a client without
//! one is served, and has to prove itself otherwise. A new list of revoked certificates holds for
//! handshakes within two seconds, without a restart; one that cannot be used leaves the old one.
//! What it does not: sessions that are open when their certificate is revoked go on; the mapping of
//! the identity ends those (`kho.unmap_identity`).
//! On failure: at the start `F0000`, naming the file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use kho_catalog::error::{Error, Result};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tokio_rustls::TlsAcceptor;

use super::{Identity, unusable};

/// Files are looked at this often, when somebody connects.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// The operator's authority for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// A PEM file with the certificates of authorities.
    pub authority: PathBuf,
    /// A PEM file with their lists of what was revoked.
    pub revoked: Option<PathBuf>,
}

/// What makes handshakes.
pub struct Acceptor {
    identity: Identity,
    protocols: Vec<Vec<u8>>,
    clients: Option<Clients>,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    /// When its files were written.
    of: Vec<Option<SystemTime>>,
    looked: Instant,
}

impl Clients {
    /// # Errors
    /// `F0000` where a file holds nothing of use.
    pub(super) fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>> {
        let mut roots = RootCertStore::empty();
        let found = CertificateDer::pem_file_iter(&self.authority)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable(&self.authority, &error.to_string()).with_source(error))?;
        for certificate in found {
            roots.add(certificate).map_err(|error| {
                unusable(&self.authority, &error.to_string()).with_source(error)
            })?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated();
        if let Some(file) = &self.revoked {
            builder = builder.with_crls(lists(file)?).enforce_revocation_expiration();
        }
        let file = self.revoked.as_ref().unwrap_or(&self.authority);
        builder.build().map_err(|error| unusable(file, &error.to_string()).with_source(error))
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.authority].into_iter().chain(&self.revoked)
    }

    fn written(&self) -> Vec<Option<SystemTime>> {
        let written = |file: &PathBuf| std::fs::metadata(file).and_then(|it| it.modified()).ok();
        self.files().map(written).collect()
    }
}

fn lists(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>> {
    let lists = CertificateRevocationListDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(file, &error.to_string()).with_source(error))?;
    match lists.is_empty() {
        true => Err(unusable(file, "it holds no list of revoked certificates")),
        false => Ok(lists),
    }
}

impl Acceptor {
    /// # Errors
    /// `F0000` where the identity or a file cannot be used.
    pub fn new(
        identity: &Identity,
        clients: Option<&Clients>,
        protocols: &[&[u8]],
    ) -> Result<Acceptor> {
        // Before they are read: what is written meanwhile is newer than what was looked at.
        let of = clients.map(Clients::written).unwrap_or_default();
        let config = identity.server_config(protocols, clients)?;
        let current = Current { acceptor: TlsAcceptor::from(config), of, looked: Instant::now() };
        Ok(Acceptor {
            identity: identity.clone(),
            protocols: protocols.iter().map(|it| it.to_vec()).collect(),
            clients: clients.cloned(),
            current: Mutex::new(current),
        })
    }

    /// For the next handshake.
    pub fn current(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clients) = &self.clients
            && current.looked.elapsed() >= LOOKED_AT_EVERY
        {
            current.looked = Instant::now();
            let written = clients.written();
            if written != current.of {
                match self.anew(clients) {
                    Ok(acceptor) => {
                        current.acceptor = acceptor;
                        current.of = written;
                    }
                    Err(error) => {
                        tracing::error!(?error, "client certificates: the old files hold")
                    }
                }
            }
        }
        current.acceptor.clone()
    }

    fn anew(&self, clients: &Clients) -> Result<TlsAcceptor, Error> {
        let protocols: Vec<&[u8]> = self.protocols.iter().map(Vec::as_slice).collect();
        self.identity.server_config(&protocols, Some(clients)).map(TlsAcceptor::from)
    }
}
