//! The same against the real server, before and after the login, and with cancel requests.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use kho_tests::kho::Kho;
use kho_tests::mutate::{mutated, mutated_message};
use kho_tests::wire::Wire;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::conversation;
use crate::attacks::assert_serves;

/// No conversation is longer than a few kilobytes; what the server adds for all of them together
/// is its caches and what a statement needs.
const GROWTH_MAX: u64 = 400 << 20;
/// So many broken clients, and then a sound one.
const ROUND: u64 = 25;

#[test]
fn a_server_takes_any_bytes() {
    let mut kho = Kho::start();
    kho.admin().run("CREATE SCHEMA s");
    kho.admin().run("CREATE TABLE s.t (id integer, name text)");
    kho.admin().run("INSERT INTO s.t VALUES (1, 'x')");
    assert_serves(&mut kho);
    let before = kho.process().peak_memory_bytes();
    let count = super::for_a_while(|seed| {
        let mut random = StdRng::seed_from_u64(seed);
        match random.random_range(0..10) {
            0 => stranger(&kho, &mut random),
            1 => cancel(&kho, &mut random),
            _ => client(&kho, &mut random),
        }
        if seed % ROUND == ROUND - 1 {
            assert_serves(&mut kho);
        }
    });
    assert_serves(&mut kho);
    let grown = kho.process().peak_memory_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "the server grew by {grown} bytes over {count} conversations");
    assert!(!kho.log().contains("panicked"), "{}", kho.log());
}

/// One that never says who it is.
fn stranger(kho: &Kho, random: &mut StdRng) {
    let packet = b"\0\0\0\x2b\0\x03\0\0user\0nobody\0database\0kho\0options\0x\0\0";
    let mut socket = Wire::raw(kho.pg).unwrap().into_tcp();
    let sasl = b"p\0\0\0\x36SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=rOprNGfwEbeRWgbNEkqO";
    // It may be sent away before all of it is sent.
    drop(socket.write_all(&mutated(random, packet)));
    drop(socket.write_all(&mutated_message(random, sasl)));
    drained(socket);
}

fn cancel(kho: &Kho, random: &mut StdRng) {
    let wire = kho.admin();
    let (process_id, secret) = wire.key.unwrap();
    let mut packet = vec![0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e];
    packet.extend_from_slice(&process_id.to_be_bytes());
    packet.extend_from_slice(&secret.to_be_bytes());
    let mut socket = Wire::raw(kho.pg).unwrap().into_tcp();
    drop(socket.write_all(&mutated(random, &packet)));
    drained(socket);
}

fn client(kho: &Kho, random: &mut StdRng) {
    // A number that grew a digit must not keep the server busy for the rest of the day.
    let options = [("options", "-c statement_timeout=3000")];
    let wire = Wire::connect_with(&kho.target("admin", "admin"), &options);
    let mut socket = wire.unwrap().into_tcp();
    for message in conversation::any(random) {
        let message = match random.random_bool(0.5) {
            true => mutated_message(random, &message),
            false => message,
        };
        if socket.write_all(&message).is_err() {
            break;
        }
    }
    drained(socket);
}

/// Says that there is no more, and reads what the server has to say until it closes.
fn drained(mut socket: TcpStream) {
    drop(socket.shutdown(Shutdown::Write));
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut chunk = [0; 65_536];
    loop {
        match socket.read(&mut chunk) {
            Ok(0) => return,
            Ok(_) => {}
            // Closing with our bytes unread resets the connection.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the server neither answers nor closes: {error}"),
        }
    }
}
