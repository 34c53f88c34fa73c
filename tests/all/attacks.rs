//! Hostile clients: each gets an error or a closed connection, changes nothing, and the server
//! serves the next client.

use std::io::Write;
use std::net::Shutdown;

use bytes::{BufMut, BytesMut};
use kho_tests::kho::Kho;
use kho_tests::wire::{Wire, bind};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

mod purposes;
mod startup_bytes;
mod tls;

/// The proof that the server is alive and untouched: a new client is answered.
pub(crate) fn assert_serves(kho: &mut Kho) {
    assert!(kho.process().is_alive(), "the server is gone:\n{}", kho.log());
    assert_eq!(kho.admin().value("SELECT 40 + 2"), "42");
}

/// A Kho with one table of one row.
fn with_table() -> Kho {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t (id integer)");
    admin.run("INSERT INTO s.t VALUES (1)");
    kho
}

fn count(kho: &Kho) -> String {
    kho.admin().value("SELECT count(*) FROM s.t")
}

/// pgwire 0.41 went on reading after a failed login and ran what came.
#[test]
fn a_statement_after_a_failed_login_has_no_effect() {
    let mut kho = with_table();
    let mut wire = Wire::raw(kho.pg).unwrap();
    let parameters = [("user", "admin"), ("database", "kho")];
    wire.send(|buffer| frontend::startup_message(parameters, buffer)).unwrap();
    let refused = wire.authenticate("wrong").unwrap_err();
    assert_eq!(refused.sqlstate(), Some("28P01"), "{refused}");
    // The server may close before or after this is sent; both are right.
    drop(wire.send(|buffer| frontend::query("DELETE FROM s.t", buffer)));
    assert!(wire.wait_for_close().is_none(), "the statement was answered");
    assert_eq!(count(&kho), "1");
    assert_serves(&mut kho);
}

#[test]
fn a_statement_before_the_login_has_no_effect() {
    let mut kho = with_table();
    let mut wire = Wire::raw(kho.pg).unwrap();
    let parameters = [("user", "admin"), ("database", "kho")];
    wire.send(|buffer| {
        frontend::startup_message(parameters, buffer)?;
        frontend::query("DELETE FROM s.t", buffer)
    })
    .unwrap();
    wire.wait_for_close();
    assert_eq!(count(&kho), "1");
    assert_serves(&mut kho);
}

#[test]
fn an_unknown_role_is_refused_as_a_wrong_password_is() {
    let mut kho = Kho::start();
    let wrong = Wire::connect(&kho.target("admin", "wrong")).err().unwrap();
    let unknown = Wire::connect(&kho.target("nobody_at_all", "wrong")).err().unwrap();
    assert_eq!(wrong.sqlstate(), Some("28P01"));
    assert_eq!(unknown.sqlstate(), Some("28P01"));
    let wrong = wrong.to_string().replace("admin", "X");
    let unknown = unknown.to_string().replace("nobody_at_all", "X");
    assert_eq!(wrong, unknown, "the message tells which roles exist");
    assert_serves(&mut kho);
}

#[test]
fn an_unknown_database_is_refused() {
    let mut kho = Kho::start();
    let target = kho_tests::wire::Target::tcp(kho.pg, "another", "admin", "admin");
    let refused = Wire::connect(&target).err().unwrap();
    assert_eq!(refused.sqlstate(), Some("3D000"), "{refused}");
    assert_serves(&mut kho);
}

/// pgwire reserves memory for as many rows as the client says it wants.
#[test]
fn absurd_row_limits_neither_kill_nor_hang() {
    for limit in [-1, i32::MAX, i32::MIN] {
        let mut kho = with_table();
        let mut wire = kho.admin();
        wire.send(|buffer| {
            frontend::parse("", "SELECT id FROM s.t", [], buffer)?;
            bind("", "", &[], buffer)?;
            frontend::execute("", limit, buffer)?;
            frontend::sync(buffer);
            Ok(())
        })
        .unwrap();
        // A negative limit is no limit to PostgreSQL, and may be an error to others.
        if let Ok(answers) = wire.answers() {
            let rows: Vec<_> = answers.iter().flat_map(|answer| &answer.rows).collect();
            assert_eq!(rows.len(), 1, "limit {limit}");
        }
        assert_eq!(wire.value("SELECT 1"), "1", "the connection is usable after {limit}");
        assert_serves(&mut kho);
    }
}

#[test]
fn a_portal_gives_as_many_rows_as_asked_and_then_the_rest() {
    let kho = Kho::start();
    let mut wire = kho.admin();
    wire.send(|buffer| {
        frontend::parse("", "SELECT x FROM generate_series(1, 5) AS g (x)", [], buffer)?;
        bind("", "", &[], buffer)?;
        frontend::execute("", 2, buffer)?;
        frontend::execute("", 2, buffer)?;
        frontend::execute("", 0, buffer)?;
        frontend::sync(buffer);
        Ok(())
    })
    .unwrap();
    let answers = wire.answers().unwrap();
    let lengths: Vec<_> = answers.iter().map(|it| (it.rows.len(), it.suspended)).collect();
    assert_eq!(lengths, [(2, true), (2, true), (1, false)]);
    assert_eq!(answers[2].rows, [[Some("5".to_owned())]]);
}

/// pgwire gathers an extended query's whole result before it sends the first row.
#[test]
fn a_large_result_is_streamed_over_both_protocols() {
    let mut kho = Kho::start();
    let query = "SELECT x, repeat('kho', 20) FROM generate_series(1, 2000000) AS g (x)";
    let before = kho.process().peak_memory_bytes();
    for extended in [false, true] {
        let mut wire = kho.admin();
        wire.send(|buffer| {
            if !extended {
                return frontend::query(query, buffer);
            }
            frontend::parse("", query, [], buffer)?;
            bind("", "", &[], buffer)?;
            frontend::execute("", 0, buffer)?;
            frontend::sync(buffer);
            Ok(())
        })
        .unwrap();
        let mut rows = 0;
        loop {
            match wire.receive().unwrap() {
                Message::DataRow(_) => rows += 1,
                Message::ReadyForQuery(_) => break,
                Message::ErrorResponse(_) => panic!("the query failed"),
                _ => {}
            }
        }
        assert_eq!(rows, 2_000_000);
    }
    let grown = kho.process().peak_memory_bytes().saturating_sub(before);
    // The result is some 160 MB; gathered it would take several times as much.
    assert!(grown < 150_000_000, "the server grew by {grown} bytes: it gathers results");
}

#[test]
fn a_client_that_vanishes_while_it_copies_leaves_nothing() {
    let mut kho = with_table();
    let mut wire = kho.admin();
    wire.send(|buffer| frontend::query("COPY s.t FROM STDIN", buffer)).unwrap();
    assert!(matches!(wire.receive().unwrap(), Message::CopyInResponse(_)));
    wire.send(|buffer| copy_data(b"2\n3\n", buffer)).unwrap();
    let socket = wire.into_tcp();
    socket.shutdown(Shutdown::Both).unwrap();
    drop(socket);
    assert_eq!(count(&kho), "1");
    assert_serves(&mut kho);
    assert_eq!(count(&kho), "1");
}

#[test]
fn a_client_that_gives_up_its_copy_leaves_nothing() {
    let kho = with_table();
    let mut wire = kho.admin();
    wire.send(|buffer| {
        frontend::query("COPY s.t FROM STDIN", buffer)?;
        copy_data(b"2\n", buffer)?;
        frontend::copy_fail("changed my mind", buffer)
    })
    .unwrap();
    let refused = wire.answers().unwrap_err();
    assert_eq!(refused.sqlstate(), Some("57014"), "{refused}");
    assert_eq!(wire.value("SELECT count(*) FROM s.t"), "1");
}

#[test]
fn a_client_that_vanishes_inside_a_transaction_leaves_nothing() {
    let mut kho = with_table();
    let mut wire = kho.admin();
    wire.run("BEGIN");
    wire.run("INSERT INTO s.t VALUES (2)");
    drop(wire);
    assert_eq!(count(&kho), "1");
    // Its locks are gone with it: the next writer is not kept waiting.
    kho.admin().run("INSERT INTO s.t VALUES (3)");
    assert_eq!(count(&kho), "2");
    assert_serves(&mut kho);
}

#[test]
fn unknown_and_misplaced_messages_are_refused() {
    let messages: [&[u8]; 7] = [
        // No such message type.
        b"?\0\0\0\x04",
        // A length below the smallest.
        b"Q\0\0\0\x03",
        b"Q\0\0\0\0",
        // A length beyond every limit, and a negative one.
        b"Q\x7f\xff\xff\xff",
        b"Q\xff\xff\xff\xff",
        // A query that is not ended by a zero.
        b"Q\0\0\0\x08SELE",
        // A query that is not UTF-8.
        b"Q\0\0\0\x0f SELECT'\xff'\0",
    ];
    let mut kho = with_table();
    for message in messages {
        let mut wire = kho.admin();
        drop(wire.send_bytes(message));
        drop(wire.into_tcp().shutdown(Shutdown::Write));
        assert_serves(&mut kho);
    }
    assert_eq!(count(&kho), "1");
}

#[test]
fn portals_and_statements_that_do_not_exist_are_named() {
    let kho = Kho::start();
    let mut wire = kho.admin();
    wire.send(|buffer| {
        bind("", "nothing", &[], buffer)?;
        frontend::sync(buffer);
        Ok(())
    })
    .unwrap();
    assert_eq!(wire.answers().unwrap_err().sqlstate(), Some("26000"));
    wire.send(|buffer| {
        frontend::execute("nothing", 0, buffer)?;
        frontend::sync(buffer);
        Ok(())
    })
    .unwrap();
    assert_eq!(wire.answers().unwrap_err().sqlstate(), Some("34000"));
    assert_eq!(wire.value("SELECT 1"), "1");
}

/// After an error everything is passed over until `Sync`: a driver counts on it.
#[test]
fn an_error_in_a_pipeline_skips_the_rest_until_sync() {
    let kho = with_table();
    let mut wire = kho.admin();
    wire.send(|buffer| {
        for statement in ["INSERT INTO s.missing VALUES (1)", "INSERT INTO s.t VALUES (2)"] {
            frontend::parse("", statement, [], buffer)?;
            bind("", "", &[], buffer)?;
            frontend::execute("", 0, buffer)?;
        }
        frontend::sync(buffer);
        Ok(())
    })
    .unwrap();
    assert_eq!(wire.answers().unwrap_err().sqlstate(), Some("42P01"));
    assert_eq!(wire.value("SELECT count(*) FROM s.t"), "1");
}

/// Several statements in one message are one transaction, which reads, or ends with one write.
#[test]
fn statements_sent_together_succeed_or_fail_together() {
    let kho = with_table();
    let mut wire = kho.admin();
    for (statements, sqlstate) in [
        ("SELECT 1 / 0; INSERT INTO s.t VALUES (2)", "22012"),
        ("INSERT INTO s.t VALUES (2); SET no_such_setting = 1", "42704"),
        ("INSERT INTO s.t VALUES (2); SELECT 1 / 0", "22012"),
        ("INSERT INTO s.t VALUES (2); INSERT INTO s.u VALUES (3)", "42P01"),
        ("INSERT INTO s.t VALUES (2); SELEC", "42601"),
    ] {
        assert_eq!(wire.refusal(statements).sqlstate, sqlstate, "{statements}");
        assert_eq!(wire.status, b'I', "{statements}");
        assert_eq!(wire.value("SELECT count(*) FROM s.t"), "1", "{statements}");
    }
    let answers = wire.simple("SELECT count(*) FROM s.t; INSERT INTO s.t VALUES (2)").unwrap();
    assert_eq!(answers[0].rows, [[Some("1".to_owned())]]);
    assert_eq!(answers[1].tag, "INSERT 0 1");
    assert_eq!(wire.status, b'I');
    assert_eq!(wire.value("SELECT count(*) FROM s.t"), "2");

    // The later ones see the earlier ones' rows. COMMIT and ROLLBACK among them end a transaction,
    // and what follows is another.
    let answers = wire.simple("INSERT INTO s.t VALUES (3); SELECT count(*) FROM s.t").unwrap();
    assert_eq!(answers[1].rows, [[Some("3".to_owned())]]);
    wire.simple("INSERT INTO s.t VALUES (4); ROLLBACK; INSERT INTO s.t VALUES (5)").unwrap();
    assert_eq!(wire.value("SELECT sum(id) FROM s.t WHERE id > 3"), "5");
    assert_eq!(wire.refusal("INSERT INTO s.t VALUES (6); COMMIT; SELECT 1 / 0").sqlstate, "22012");
    assert_eq!(wire.value("SELECT sum(id) FROM s.t WHERE id > 3"), "11");
}

#[test]
fn the_state_of_the_transaction_is_reported() {
    let kho = Kho::start();
    let mut wire = kho.admin();
    wire.run("BEGIN");
    assert_eq!(wire.status, b'T');
    wire.refusal("SELECT 1 / 0");
    assert_eq!(wire.status, b'E');
    wire.run("ROLLBACK");
    assert_eq!(wire.status, b'I');
}

#[test]
fn a_deep_or_huge_statement_is_an_error_and_not_the_end() {
    let mut kho = Kho::start();
    kho.admin().run("CREATE SCHEMA s");
    kho.admin().run("CREATE TABLE s.t (id integer)");
    let wrapped = |before: &str, open: &str, close: &str, times: usize| {
        format!("{before}{}1{}", open.repeat(times), close.repeat(times))
    };
    let chained = |before: &str, link: &str| format!("{before}{}", link.repeat(20_000));
    for statement in [
        wrapped("SELECT ", "(", ")", 50_000),
        wrapped("SELECT ", "NOT ", "", 50_000),
        wrapped("SELECT ", "CASE WHEN true THEN ", " END", 50_000),
        wrapped("SELECT ", "ARRAY[", "]", 50_000),
        wrapped("SELECT ", "INTERVAL ", "", 50_000),
        wrapped("", "SELECT * FROM (", ") AS x", 50_000),
        wrapped("SELECT 1 WHERE ", "EXISTS (SELECT ", ")", 50),
        wrapped("", "WITH a AS (", ") SELECT 1", 50),
        chained("SELECT 1", " + 1"),
        chained("SELECT 1 WHERE true", " AND true"),
        chained("SELECT id FROM s.t WHERE id = 1", " OR id = 1"),
        chained("SELECT 1", "::int"),
        chained("SELECT 1", " UNION SELECT 1"),
        chained("SELECT 1 FROM s.t AS a", ", s.t"),
        chained("SELECT 1 FROM s.t AS a", " CROSS JOIN s.t"),
        chained("CREATE TABLE s.u (id integer", "[]"),
        chained("UPDATE s.t SET id = 1", " + 1"),
        // It is built before its missing bracket is missed.
        chained("SELECT (1", " + 1"),
    ] {
        let shown: String = statement.chars().take(40).collect();
        assert_eq!(kho.admin().refusal(&statement).sqlstate, "54001", "{shown}");
        let extended = kho.admin().extended(&statement).unwrap_err();
        assert_eq!(extended.sqlstate(), Some("54001"), "{shown}: {extended}");
        assert_serves(&mut kho);
    }
}

/// What is just within the limits is answered, and in time.
#[test]
fn a_large_statement_within_the_limits_is_answered() {
    let kho = with_table();
    let mut wire = kho.admin();
    let wrapped = |open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(90), close.repeat(90))
    };
    assert_eq!(wire.value(&format!("SELECT {}", wrapped("(", "1", ")"))), "1");
    assert_eq!(wire.value(&format!("SELECT {}", wrapped("abs(", "-1", ")"))), "1");
    assert_eq!(wire.value(&wrapped("SELECT * FROM (", "SELECT 1", ") AS x")), "1");
    assert_eq!(wire.value(&format!("SELECT 1{}", " + 1".repeat(240))), "241");
    let chained = format!("SELECT id FROM s.t WHERE id = 0{}", " OR id = 1".repeat(900));
    assert_eq!(wire.value(&chained), "1");
    // Each item another one, for a list of equal ones is soon a short list.
    let items: Vec<String> = (1..50_000).map(|it| it.to_string()).collect();
    let items = items.join(", ");
    assert_eq!(wire.value(&format!("SELECT id FROM s.t WHERE id IN ({items})")), "1");
    let others = format!("SELECT count(*) FROM s.t WHERE id NOT IN ({items})");
    assert_eq!(wire.value(&others), "0");
    wire.run(&format!("UPDATE s.t SET id = id WHERE id IN ({items})"));
    wire.run(&format!("INSERT INTO s.t VALUES (2){}", ", (2)".repeat(20_000)));
    assert_eq!(wire.value("SELECT count(*) FROM s.t"), "20002");
}

fn copy_data(bytes: &[u8], buffer: &mut BytesMut) -> std::io::Result<()> {
    buffer.put_u8(b'd');
    buffer.put_i32(i32::try_from(bytes.len() + 4).map_err(std::io::Error::other)?);
    buffer.writer().write_all(bytes)
}
