//! Stopping a running statement: by its client's cancel request, by its time limit.

use std::thread;

use bytes::BytesMut;
use kho_tests::kho::Kho;
use kho_tests::wire::{Error, Wire};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

/// Hours of work, all of it in an aggregate that gives no row before its end, and nearly all of it
/// in a join that reads nothing: each batch of one side makes millions of rows.
const ENDLESS: &str = "SELECT count(*), sum(sin(a.x * b.x)) FROM generate_series(1, 50000) AS a (x) \
     CROSS JOIN generate_series(1, 300000000) AS b (x)";

/// The same, which never has a pair to give.
const FRUITLESS: &str = "SELECT count(*) FROM generate_series(1, 300000) AS a (x) \
     JOIN generate_series(1, 300000) AS b (x) ON a.x * b.x = -1";

fn cancel(kho: &Kho, process_id: i32, secret: i32) {
    let mut wire = Wire::raw(kho.pg).unwrap();
    wire.send(|buffer: &mut BytesMut| {
        frontend::cancel_request(process_id, secret, buffer);
        Ok(())
    })
    .unwrap();
    // The server closes this connection when it has acted on it, and says nothing.
    assert!(wire.wait_for_close().is_none());
}

/// Waits until a second session sees the statement running, then cancels it.
fn cancelled(extended: bool) -> Error {
    let kho = Kho::start();
    let mut wire = kho.admin();
    let (process_id, secret) = wire.key.unwrap();
    let running = thread::spawn(move || {
        let refused = if extended {
            wire.extended(ENDLESS).map(drop).unwrap_err()
        } else {
            wire.simple(ENDLESS).map(drop).unwrap_err()
        };
        (refused, wire)
    });
    // A request that comes before the statement has begun does nothing, as in PostgreSQL: so it
    // is repeated until the statement ends. Each is a round trip to the server, not a wait.
    while !running.is_finished() {
        cancel(&kho, process_id, secret);
    }
    let (refused, mut wire) = running.join().unwrap();
    assert_eq!(wire.value("SELECT 1"), "1", "the connection is not usable any more");
    refused
}

#[test]
fn a_running_aggregate_is_cancelled_over_the_simple_protocol() {
    assert_eq!(cancelled(false).sqlstate(), Some("57014"));
}

#[test]
fn a_running_aggregate_is_cancelled_over_the_extended_protocol() {
    assert_eq!(cancelled(true).sqlstate(), Some("57014"));
}

#[test]
fn a_cancel_request_with_the_wrong_secret_does_nothing() {
    let kho = Kho::start();
    let mut wire = kho.admin();
    let (process_id, secret) = wire.key.unwrap();
    wire.send(|buffer| {
        frontend::query("SELECT x FROM generate_series(1, 2000000) AS g (x)", buffer)
    })
    .unwrap();
    // It is running: the first row is here.
    while !matches!(wire.receive().unwrap(), Message::DataRow(_)) {}
    cancel(&kho, process_id, secret.wrapping_add(1));
    cancel(&kho, process_id.wrapping_add(1), secret);
    cancel(&kho, 0, 0);
    let answers = wire.answers().unwrap();
    assert_eq!(answers[0].rows.len(), 1_999_999);
}

#[test]
fn a_statement_that_takes_too_long_is_stopped() {
    let kho = Kho::start();
    let mut wire = kho.admin();
    // At once, and when it is deep in its work on every thread of the server.
    for limit in ["200", "3000"] {
        wire.run(&format!("SET statement_timeout = {limit}"));
        for statement in [ENDLESS, FRUITLESS] {
            assert_eq!(wire.refusal(statement).sqlstate, "57014", "{statement}");
        }
        assert_eq!(wire.value("SELECT 1"), "1");
    }
}

/// A writer waits for the block that holds the table, but not beyond its time limit.
#[test]
fn a_writer_that_waits_for_another_one_is_stopped() {
    let kho = Kho::start();
    let mut block = kho.admin();
    block.run("CREATE SCHEMA s");
    block.run("CREATE TABLE s.t (id integer)");
    block.run("BEGIN");
    block.run("INSERT INTO s.t VALUES (1)");
    let mut wire = kho.admin();
    wire.run("SET statement_timeout = 200");
    for statement in [
        "INSERT INTO s.t VALUES (2)",
        "UPDATE s.t SET id = 2",
        "DELETE FROM s.t",
        "TRUNCATE s.t",
        "COPY s.t FROM STDIN",
        "ALTER TABLE s.t ADD COLUMN name text",
        "CALL kho.restore_table('s.t', version => 0)",
    ] {
        let refused = wire.refusal(statement);
        assert_eq!(refused.sqlstate, "57014", "{statement}: {refused}");
    }
    block.run("COMMIT");
    // A busy machine may need longer than that where nothing is waited for.
    wire.run("RESET statement_timeout");
    wire.run("INSERT INTO s.t VALUES (2)");
    assert_eq!(wire.value("SELECT sum(id) FROM s.t"), "3");
}

/// A client that left is noticed: what it asked for stops with it.
#[test]
fn the_work_of_a_client_that_left_does_not_keep_the_server_from_stopping() {
    let kho = Kho::start();
    let mut wire = kho.admin();
    wire.send(|buffer| frontend::query(ENDLESS, buffer)).unwrap();
    drop(wire);
    let (ended, _) = kho.stop();
    assert!(ended.status.success(), "{}", ended.log);
}
