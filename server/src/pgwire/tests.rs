//! Hostile clients, before anyone is logged in.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use kho_sql::scram::hmac_sha256;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};

use super::*;

const LOCAL: &str = "127.0.0.1:40000";
const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
const GSS_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";

/// Over a warehouse in memory that nobody was let into yet.
async fn engine() -> Arc<Engine> {
    let environment = kho_catalog::environment::Environment::open("memory://").unwrap();
    let catalog = kho_catalog::log::Catalog::open(environment.clone(), "test").await.unwrap();
    let ledger = kho_catalog::audit::Ledger::passing(&environment, "test").await.unwrap();
    let limits = kho_sql::session::Limits::default();
    Arc::new(Engine::open(catalog, ledger, &limits).unwrap())
}

fn identity() -> Identity {
    let directory = tempfile::tempdir().unwrap();
    Identity::load_or_create(directory.path(), &["localhost".to_owned()]).unwrap()
}

/// A server with one connection, and the client's end of it.
async fn connect(identity: Option<&Identity>, peer: &str) -> (DuplexStream, Ending) {
    let shared =
        Shared::new(engine().await, identity, Trusted::default(), Limits::default()).unwrap();
    let ending = Ending { requested: CancellationToken::new(), deadline: CancellationToken::new() };
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (reader, writer) = tokio::io::split(ours);
    let (peer, told): (SocketAddr, _) = (peer.parse().unwrap(), ending.clone());
    tokio::spawn(async move {
        let permit = Arc::clone(&shared.startups).acquire_owned().await.unwrap();
        connection::serve(Box::new(reader), Box::new(writer), peer, &shared, told, permit).await;
    });
    (theirs, ending)
}

fn startup(parameters: &[u8]) -> Vec<u8> {
    let length = u32::try_from(parameters.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &(3_u32 << 16).to_be_bytes(), parameters].concat()
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn sasl_first(mechanism: &str, text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    let body = [mechanism.as_bytes(), b"\0", &length.to_be_bytes()[..], text.as_bytes()].concat();
    message(b'p', &body)
}

/// The next message of the server; `None` at the end.
async fn receive(client: &mut (impl AsyncRead + Unpin)) -> Option<(u8, BytesMut)> {
    let tag = client.read_u8().await.ok()?;
    let length = usize::try_from(client.read_u32().await.unwrap()).unwrap();
    let mut body = BytesMut::zeroed(length - 4);
    client.read_exact(&mut body).await.unwrap();
    Some((tag, body))
}

/// The field `name` of an error.
fn field(body: &[u8], name: u8) -> String {
    let mut fields = body.split(|byte| *byte == 0);
    let found = fields.find(|field| field.first() == Some(&name)).unwrap();
    String::from_utf8(found[1..].to_vec()).unwrap()
}

/// Expects a `FATAL` and the end; gives SQLSTATE and message.
async fn fatal(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> (String, String) {
    let (tag, body) = receive(client).await.unwrap();
    assert_eq!(tag, b'E', "{body:?}");
    assert_eq!((field(&body, b'S'), field(&body, b'V')), ("FATAL".into(), "FATAL".into()));
    assert!(receive(client).await.is_none(), "the connection goes on after a FATAL");
    (field(&body, b'C'), field(&body, b'M'))
}

async fn refused(bytes: &[u8], peer: &str) -> (String, String) {
    let (mut client, _ending) = connect(None, peer).await;
    client.write_all(bytes).await.unwrap();
    fatal(&mut client).await
}

#[tokio::test]
async fn a_failed_login_is_the_end_whatever_was_sent_after_it() {
    let (mut client, _ending) = connect(None, LOCAL).await;
    client.write_all(&startup(b"user\0nobody\0\0")).await.unwrap();
    let (tag, body) = receive(&mut client).await.unwrap();
    assert_eq!((tag, &body[..]), (b'R', &b"\0\0\0\x0aSCRAM-SHA-256\0\0"[..]));
    client.write_all(&sasl_first("SCRAM-SHA-256", "n,,n=,r=abc")).await.unwrap();
    let (_, body) = receive(&mut client).await.unwrap();
    let server_first = String::from_utf8(body[4..].to_vec()).unwrap();
    let nonce = server_first[2..].split(',').next().unwrap();
    let proof = Sha256::digest(hmac_sha256(b"guess", b"guess"));
    let proof = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, proof);
    let mut last = message(b'p', format!("c=biws,r={nonce},p={proof}").as_bytes());
    last.extend(message(b'Q', b"drop table everything\0"));
    last.extend(message(b'P', b"\0drop table everything\0\0\0"));
    client.write_all(&last).await.unwrap();
    let refusal = fatal(&mut client).await;
    let text = "password authentication failed for user \"nobody\"";
    assert_eq!(refusal, ("28P01".to_owned(), text.to_owned()));
}

#[tokio::test]
async fn the_salt_of_a_role_that_does_not_exist_never_changes() {
    let shared =
        Shared::new(engine().await, Some(&identity()), Trusted::default(), Limits::default())
            .unwrap();
    let salt = |role: &'static str| {
        let shared = Arc::clone(&shared);
        async move {
            let begun = shared.entrance.authenticator.begin("pgwire", role, None).await.unwrap();
            begun.verifier().salt.clone()
        }
    };
    assert_eq!(salt("nobody").await, salt("nobody").await);
    assert_ne!(salt("nobody").await, salt("noone").await);
}

#[tokio::test]
async fn startup_packets_that_are_none() {
    for (bytes, state) in [
        (&b"\0\0\x27\x11\0\x03\0\0more"[..], "08P01"),
        (b"\x7f\xff\xff\xff\0\x03\0\0", "08P01"),
        (b"\0\0\0\x04", "08P01"),
        (b"GET / HTTP/1.1\r\n\r\n", "08P01"),
        (b"\0\0\0\x08\0\x02\0\0", "0A000"),
        (&startup(b"user\0an"), "08P01"),
        (&startup(b"\0"), "28000"),
        (&startup(b"user\0an\0database\0postgres\0\0"), "3D000"),
        (&startup(b"user\0an\0replication\0true\0\0"), "0A000"),
    ] {
        assert_eq!(refused(bytes, LOCAL).await.0, state, "{bytes:?}");
    }
}

#[tokio::test]
async fn plain_text_is_for_this_machine_only() {
    let packet = startup(b"user\0an\0\0");
    assert_eq!(refused(&packet, "192.0.2.7:40000").await.0, "28000");
    assert_eq!(refused(&packet, "[2001:db8::7]:40000").await.0, "28000");
    let (mut client, _ending) = connect(None, "[::ffff:127.0.0.1]:40000").await;
    client.write_all(&packet).await.unwrap();
    assert_eq!(receive(&mut client).await.unwrap().0, b'R');
}

#[tokio::test]
async fn before_the_login_nothing_but_its_messages_and_none_that_is_long() {
    let hello = startup(b"user\0an\0\0");
    let after = |bytes: &[u8]| {
        let bytes = [&hello[..], bytes].concat();
        async move {
            let (mut client, _ending) = connect(None, LOCAL).await;
            client.write_all(&bytes).await.unwrap();
            assert_eq!(receive(&mut client).await.unwrap().0, b'R');
            fatal(&mut client).await.0
        }
    };
    assert_eq!(after(&message(b'Q', b"select 1\0")).await, "08P01");
    assert_eq!(after(&message(b'p', b"no")).await, "08P01");
    assert_eq!(after(b"p\x3f\xff\xff\xff").await, "54000");
    assert_eq!(after(b"Q\x3f\xff\xff\xff").await, "54000");
    assert_eq!(after(b"p\0\0\0\x02").await, "08P01");
    assert_eq!(after(b"!\0\0\0\x04").await, "08P01");
    assert_eq!(after(&sasl_first("SCRAM-SHA-256-PLUS", "n,,n=,r=abc")).await, "08P01");
}

#[tokio::test]
async fn without_a_certificate_encryption_is_declined_once() {
    let (mut client, _ending) = connect(None, LOCAL).await;
    client.write_all(GSS_REQUEST).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'N');
    client.write_all(SSL_REQUEST).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'N');
    client.write_all(SSL_REQUEST).await.unwrap();
    assert_eq!(fatal(&mut client).await.0, "08P01");
}

#[tokio::test]
async fn plain_text_behind_a_request_for_encryption_is_not_used() {
    let (mut client, _ending) = connect(Some(&identity()), LOCAL).await;
    let smuggled = [SSL_REQUEST, &startup(b"user\0an\0\0"), &message(b'Q', b"select 1\0")];
    client.write_all(&smuggled.concat()).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.first(), Some(&b'S'));
    // At most an alert of TLS follows, never a message of PostgreSQL.
    assert!(matches!(answer.get(1), None | Some(0x15)), "{answer:?}");
}

fn connector(identity: &Identity, protocols: &[&[u8]]) -> tokio_rustls::TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(identity.certificate().unwrap().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn encrypted_logins_can_be_bound_to_the_certificate() {
    let identity = identity();
    let name = ServerName::try_from("localhost").unwrap();
    let (mut client, _ending) = connect(Some(&identity), "192.0.2.7:40000").await;
    client.write_all(SSL_REQUEST).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'S');
    let connector = connector(&identity, &[]);
    let mut client = connector.connect(name, client).await.unwrap();
    client.write_all(&startup(b"user\0an\0\0")).await.unwrap();
    let (_, body) = receive(&mut client).await.unwrap();
    assert_eq!(&body[4..], b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
    client.write_all(&sasl_first("SCRAM-SHA-256", "y,,n=,r=abc")).await.unwrap();
    assert_eq!(fatal(&mut client).await.0, "28000");
}

#[tokio::test]
async fn tls_from_the_first_byte_needs_the_protocols_name() {
    let identity = identity();
    for (protocols, tag) in [(&[&b"postgresql"[..]][..], b'R'), (&[], b'E')] {
        let name = ServerName::try_from("localhost").unwrap();
        let (client, _ending) = connect(Some(&identity), LOCAL).await;
        let connector = connector(&identity, protocols);
        let mut client = connector.connect(name, client).await.unwrap();
        client.write_all(&startup(b"user\0an\0\0")).await.unwrap();
        assert_eq!(receive(&mut client).await.unwrap().0, tag);
    }
}

#[tokio::test]
async fn newer_versions_and_unknown_options_are_negotiated() {
    let (mut client, _ending) = connect(None, LOCAL).await;
    let mut packet = startup(b"user\0an\0_pq_.new\0on\0\0");
    packet[7] = 9;
    client.write_all(&packet).await.unwrap();
    let (tag, body) = receive(&mut client).await.unwrap();
    assert_eq!((tag, &body[..]), (b'v', &b"\0\x03\0\x02\0\0\0\x01_pq_.new\0"[..]));
    assert_eq!(receive(&mut client).await.unwrap().0, b'R');
}

#[tokio::test]
async fn a_request_to_cancel_is_never_answered() {
    let (mut client, _ending) = connect(None, "192.0.2.7:40000").await;
    client.write_all(b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01abcd").await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty());
}

#[tokio::test]
async fn a_stop_of_the_server_reaches_clients_that_are_logging_in() {
    let (mut client, ending) = connect(None, LOCAL).await;
    client.write_all(&startup(b"user\0an\0\0")).await.unwrap();
    assert_eq!(receive(&mut client).await.unwrap().0, b'R');
    ending.requested.cancel();
    assert_eq!(fatal(&mut client).await.0, "57P01");
}

#[tokio::test]
async fn the_server_serves_the_next_client_and_stops_when_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Shared::new(
        engine().await,
        None,
        Trusted::default(),
        Limits { startups: 1, ..Limits::default() },
    )
    .unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve(listener, shared, shutdown.clone()));
    for _ in 0..3 {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"\xff\xff\xff\xff\xff\xff\xff\xff").await.unwrap();
        assert_eq!(fatal(&mut client).await.0, "08P01");
    }
    shutdown.cancel();
    server.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
