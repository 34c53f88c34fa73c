//! The switch to TLS: nothing that was said in plain text before it may count after it
//! (the pattern of CVE-2021-23214).

use std::io::{Read, Write};

use bytes::BytesMut;
use kho_tests::kho::Kho;
use kho_tests::tls::handshake;
use kho_tests::wire::Wire;
use postgres_protocol::message::frontend;

use super::assert_serves;

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
    let mut secure = handshake(wire.into_tcp(), None);
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
        let mut secure = handshake(wire.into_tcp(), None);
        // Nothing was said inside TLS, so nothing but a refusal may be answered inside it.
        let mut answer = Vec::new();
        drop(secure.read_to_end(&mut answer));
        let refused = answer.first().is_none_or(|kind| *kind == b'E');
        assert!(refused, "the injected startup message was answered: {answer:?}");
    }
    assert_serves(&mut kho);
}
