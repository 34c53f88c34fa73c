//! The switch to TLS: nothing that was said in plain text before it may count after it
//! (the pattern of CVE-2021-23214).

use std::io::{Read, Write};
use std::sync::Arc;

use bytes::BytesMut;
use kho_tests::kho::Kho;
use kho_tests::wire::Wire;
use postgres_protocol::message::frontend;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};

use super::assert_serves;

/// Takes every certificate: what is tested here is the order of bytes, not whom we talk to.
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

fn handshake(wire: Wire) -> StreamOwned<ClientConnection, std::net::TcpStream> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(connection, wire.into_tcp())
}

fn startup_message() -> BytesMut {
    let mut buffer = BytesMut::new();
    frontend::startup_message([("user", "admin"), ("database", "kho")], &mut buffer).unwrap();
    buffer
}

#[test]
fn a_client_can_ask_for_tls() {
    let kho = Kho::start();
    let mut wire = Wire::raw(kho.pg).unwrap();
    wire.send(|buffer| {
        frontend::ssl_request(buffer);
        Ok(())
    })
    .unwrap();
    assert_eq!(wire.receive_byte().unwrap(), b'S', "TLS is not offered");
    let mut secure = handshake(wire);
    secure.write_all(&startup_message()).unwrap();
    let mut first = [0];
    secure.read_exact(&mut first).unwrap();
    assert_eq!(first, *b"R", "no request to authenticate");
}

#[test]
fn plain_bytes_sent_before_tls_are_not_taken_for_its_content() {
    let mut kho = Kho::start();
    let mut wire = Wire::raw(kho.pg).unwrap();
    // One packet: the request for TLS and, in plain text, what an attacker in the middle adds.
    wire.send(|buffer| {
        frontend::ssl_request(buffer);
        buffer.extend_from_slice(&startup_message());
        Ok(())
    })
    .unwrap();
    if wire.receive_byte().is_ok_and(|answer| answer == b'S') {
        let mut secure = handshake(wire);
        // Nothing was said inside TLS, so nothing but a refusal may be answered inside it.
        let mut answer = Vec::new();
        drop(secure.read_to_end(&mut answer));
        let refused = answer.first().is_none_or(|kind| *kind == b'E');
        assert!(refused, "the injected startup message was answered: {answer:?}");
    }
    assert_serves(&mut kho);
}
