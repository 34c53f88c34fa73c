//! TLS of a client, and certificates of an authority that a test makes.
//!
//! What it does not: it verifies no server; what is tested is how the server takes the client.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};

/// The client's end.
pub type Secure = StreamOwned<ClientConnection, TcpStream>;

/// A certificate and its key.
pub struct Owned {
    pub certificate: CertificateDer<'static>,
    pub certificate_pem: String,
    pub key: KeyPair,
    pub serial: u64,
}

/// An authority that signs certificates of clients.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap_or_else(|error| panic!("no key: {error}"));
        let made = CertifiedIssuer::self_signed(parameters, key);
        Authority(made.unwrap_or_else(|error| panic!("no authority: {error}")))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate of `CN=name,O=City`, with alternative names, for so long.
    pub fn sign(&self, name: &str, dns: &[&str], serial: u64, valid: Duration) -> Owned {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = Default::default();
        parameters.distinguished_name.push(DnType::OrganizationName, "City");
        parameters.distinguished_name.push(DnType::CommonName, name);
        let dns = dns.iter().map(|name| (*name).try_into().map(SanType::DnsName));
        parameters.subject_alt_names =
            dns.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("no name: {error}"));
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        parameters.serial_number = Some(SerialNumber::from(serial));
        parameters.not_before = (SystemTime::now() - Duration::from_secs(3600)).into();
        parameters.not_after = (SystemTime::now() + valid).into();
        let key = KeyPair::generate().unwrap_or_else(|error| panic!("no key: {error}"));
        let signed = parameters.signed_by(&key, &self.0);
        let signed = signed.unwrap_or_else(|error| panic!("no certificate: {error}"));
        Owned { certificate: signed.der().clone(), certificate_pem: signed.pem(), key, serial }
    }

    /// A list of revoked certificates.
    pub fn revoke(&self, serials: &[u64]) -> String {
        let now = SystemTime::now() - Duration::from_secs(60);
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + Duration::from_secs(86_400)).into(),
            crl_number: SerialNumber::from(serials.len() as u64 + 1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let signed = list.signed_by(&self.0).and_then(|it| it.pem());
        signed.unwrap_or_else(|error| panic!("no list: {error}"))
    }
}

/// Makes the handshake when the first byte is written.
pub fn handshake(stream: TcpStream, certificate: Option<&Owned>) -> Secure {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|error| panic!("no TLS: {error}"))
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)));
    let config = match certificate {
        None => builder.with_no_client_auth(),
        Some(owned) => {
            let key = PrivateKeyDer::try_from(owned.key.serialize_der());
            let key = key.unwrap_or_else(|error| panic!("no key: {error}"));
            let with = builder.with_client_auth_cert(vec![owned.certificate.clone()], key);
            with.unwrap_or_else(|error| panic!("no certificate: {error}"))
        }
    };
    let name = ServerName::try_from("localhost").unwrap_or_else(|error| panic!("{error}"));
    let connection = ClientConnection::new(Arc::new(config), name);
    StreamOwned::new(connection.unwrap_or_else(|error| panic!("{error}")), stream)
}

/// Takes every server.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
