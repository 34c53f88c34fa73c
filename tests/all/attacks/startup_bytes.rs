//! The first bytes of a connection, before anyone has said who they are.

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use kho_tests::kho::Kho;
use kho_tests::wire::Wire;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::assert_serves;

/// A startup packet of protocol 3.0 with this body.
fn startup(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &[0, 3, 0, 0], body].concat()
}

#[test]
fn malformed_startup_packets_are_refused() {
    let packets: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\0".to_vec(),
        b"GET / HTTP/1.1\r\nHost: kho\r\n\r\n".to_vec(),
        // Lengths: too small, negative, enormous.
        b"\0\0\0\0".to_vec(),
        b"\0\0\0\x04".to_vec(),
        b"\0\0\0\x07\0\x03\0".to_vec(),
        b"\xff\xff\xff\xff\0\x03\0\0".to_vec(),
        b"\x7f\xff\xff\xff\0\x03\0\0user\0admin\0\0".to_vec(),
        // A protocol nobody speaks.
        b"\0\0\0\x08\0\x01\0\0".to_vec(),
        b"\0\0\0\x08\x12\x34\x56\x78".to_vec(),
        // No parameters, no end, a name without a value, no user, not UTF-8.
        startup(b""),
        startup(b"\0"),
        startup(b"user\0admin"),
        startup(b"user\0"),
        startup(b"database\0kho\0\0"),
        startup(b"user\0\xff\xfe\0database\0kho\0\0"),
        startup(b"user\0\0database\0kho\0\0"),
        startup(&[b"user\0".as_slice(), &[b'a'; 9_000], b"\0\0"].concat()),
    ];
    let mut kho = Kho::start();
    for packet in packets {
        let mut wire = Wire::raw(kho.pg).unwrap();
        drop(wire.send_bytes(&packet));
        // We say no more: whatever the server waits for, it will not come.
        let mut socket = wire.into_tcp();
        drop(socket.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        drop(socket.read_to_end(&mut answer));
        let granted = answer.windows(9).any(|it| it == b"R\0\0\0\x08\0\0\0\0");
        assert!(!granted, "let in by {packet:?}");
        assert_serves(&mut kho);
    }
}

/// A peer that has not logged in must not make the server hold a gigabyte for it.
#[test]
fn before_the_login_messages_are_small() {
    let mut kho = Kho::start();
    let before = kho.process().peak_memory_bytes();
    let mut wire = Wire::raw(kho.pg).unwrap();
    let parameters = [("user", "admin"), ("database", "kho")];
    wire.send(|buffer| frontend::startup_message(parameters, buffer)).unwrap();
    assert!(matches!(wire.receive().unwrap(), Message::AuthenticationSasl(_)));
    // A password message that says it is 512 MB long, and 64 MB of it.
    let mut sent = wire.send_bytes(b"p\x20\0\0\0");
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        if sent.is_ok() {
            sent = wire.send_bytes(&chunk);
        }
    }
    drop(wire);
    assert_serves(&mut kho);
    let grown = kho.process().peak_memory_bytes().saturating_sub(before);
    assert!(grown < 60_000_000, "a stranger made the server grow by {grown} bytes");
}

/// A connection that says nothing holds up nobody.
#[test]
fn silent_clients_do_not_stop_others() {
    let mut kho = Kho::start();
    let silent: Vec<_> = (0..50).map(|_| TcpStream::connect(kho.pg).unwrap()).collect();
    assert_serves(&mut kho);
    drop(silent);
    assert_serves(&mut kho);
}

#[test]
fn an_encryption_nobody_offers_is_declined_and_plain_text_goes_on() {
    let kho = Kho::start();
    let mut wire = Wire::raw(kho.pg).unwrap();
    // GSSENCRequest
    wire.send_bytes(&[0, 0, 0, 8, 4, 210, 22, 48]).unwrap();
    assert_eq!(wire.receive_byte().unwrap(), b'N');
    let parameters = [("user", "admin"), ("database", "kho")];
    wire.send(|buffer| frontend::startup_message(parameters, buffer)).unwrap();
    wire.authenticate("admin").unwrap();
    wire.wait_until_ready().unwrap();
    assert_eq!(wire.value("SELECT 1"), "1");
}

#[test]
fn what_a_driver_is_told_at_the_start_is_true() {
    let kho = Kho::start();
    let wire = kho.admin();
    let told = |name: &str| {
        let found = wire.parameters.iter().rev().find(|(it, _)| it == name);
        found.map(|(_, value)| value.clone()).unwrap_or_else(|| panic!("{name} is not reported"))
    };
    assert_eq!(told("server_encoding"), "UTF8");
    assert_eq!(told("client_encoding"), "UTF8");
    assert_eq!(told("standard_conforming_strings"), "on");
    assert_eq!(told("integer_datetimes"), "on");
    assert_eq!(told("is_superuser"), "off");
    assert_eq!(told("session_authorization"), "admin");
    assert_eq!(told("TimeZone"), "UTC");
    assert!(told("DateStyle").starts_with("ISO"));
    assert!(told("server_version").starts_with(|first: char| first.is_ascii_digit()));
    let (_, secret) = wire.key.unwrap();
    assert_ne!(secret, 0, "the secret of a cancel request is guessable");
}

#[test]
fn a_setting_in_the_startup_packet_is_obeyed_or_refused() {
    let kho = Kho::start();
    let target = kho.target("admin", "admin");
    let mut wire = Wire::connect_with(&target, &[("application_name", "superset")]).unwrap();
    assert_eq!(wire.value("SHOW application_name"), "superset");
    let mut wire = Wire::connect_with(&target, &[("TimeZone", "Asia/Ho_Chi_Minh")]).unwrap();
    assert_eq!(wire.value("SHOW TimeZone"), "Asia/Ho_Chi_Minh");
    let options = [("options", "-c statement_timeout=1234 -c search_path=a,b")];
    let mut wire = Wire::connect_with(&target, &options).unwrap();
    assert_eq!(wire.value("SHOW statement_timeout"), "1234ms");
    let unknown = Wire::connect_with(&target, &[("no_such_setting", "1")]).err().unwrap();
    assert_eq!(unknown.sqlstate(), Some("42704"), "{unknown}");
    let bad = Wire::connect_with(&target, &[("statement_timeout", "soon")]).err().unwrap();
    assert_eq!(bad.sqlstate(), Some("22023"), "{bad}");
}

/// Bytes after the connection was let go are nobody's.
#[test]
fn a_terminated_connection_is_over() {
    let mut kho = Kho::start();
    let mut wire = kho.admin();
    wire.send(|buffer| {
        frontend::terminate(buffer);
        frontend::query("SELECT 1", buffer)
    })
    .unwrap();
    let mut socket = wire.into_tcp();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut answer = Vec::new();
    drop(socket.read_to_end(&mut answer));
    assert!(answer.is_empty(), "a statement after Terminate was answered");
    assert_serves(&mut kho);
}
