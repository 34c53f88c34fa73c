//! How many statements run, for how long, and what they hold.

use std::thread;
use std::time::Instant;

use kho_tests::kho::Kho;
use kho_tests::wire::{Error, Wire, bind};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::{ENDLESS, ROWS, SOON, city, limit, used, wait_for};

fn running(kho: &Kho, role: &str) -> String {
    kho.admin().value(&format!(
        "SELECT used FROM kho.role_limits WHERE role = '{role}' AND name = 'concurrent_statements'"
    ))
}

#[test]
fn what_runs_for_a_role_is_counted_and_more_is_refused() {
    let kho = city(&[]);
    limit(&kho, "an", "concurrent_statements", "2");
    let runs: Vec<_> = (0..2)
        .map(|_| {
            let mut wire = kho.connect("an");
            thread::spawn(move || wire.simple(ENDLESS).map(drop).unwrap_err())
        })
        .collect();
    wait_for(|| running(&kho, "an"), "2");
    let mut third = kho.connect("an");
    for statement in ["SELECT 1", "SELECT count(*) FROM o.t", "CREATE TABLE o.x (id integer)"] {
        let refused = third.refusal(statement);
        assert_eq!(refused.sqlstate, "53400", "{refused}");
        assert_eq!(
            refused.detail.as_deref(),
            Some("The limit concurrent_statements of role \"an\" is 2.")
        );
        assert!(third.extended(statement).is_err(), "{statement}");
    }
    // What concerns the session alone, and what stops others, is there always.
    third.run("SET application_name = 'third'");
    third.run("BEGIN");
    third.run("ROLLBACK");
    assert_eq!(kho.connect("officer").value("SELECT count(*) FROM o.t"), ROWS.to_string());
    let ids = kho
        .admin()
        .rows("SELECT id FROM kho.activity WHERE role = 'an' AND statement LIKE '%CROSS JOIN%'");
    assert_eq!(ids.len(), 2);
    for id in ids {
        third.run(&format!("CALL kho.cancel({})", id[0].as_deref().unwrap()));
    }
    for run in runs {
        assert_eq!(run.join().unwrap().sqlstate(), Some("57014"));
    }
    wait_for(|| running(&kho, "an"), "0");
    // A refused statement is in the ledger.
    let mut admin = kho.admin();
    admin.run("CREATE ROLE auditor LOGIN PASSWORD 'auditor' IN ROLE kho_auditor");
    let counted = "SELECT count(*) FROM kho.audit_log WHERE role = 'an' AND outcome = '53400'";
    assert_eq!(kho.connect("auditor").value(counted), "6");
}

/// However a statement ends, its place is free.
#[test]
fn no_place_is_lost() {
    let kho = city(&[]);
    limit(&kho, "an", "concurrent_statements", "1");
    let mut wire = kho.connect("an");
    for _ in 0..3 {
        assert_eq!(wire.refusal("SELECT 1 / (id - 1) FROM o.t").sqlstate, "22012");
        assert_eq!(wire.refusal("SELECT * FROM o.nothing").sqlstate, "42P01");
        assert_eq!(wire.refusal("SELEC 1").sqlstate, "42601");
        assert_eq!(wire.refusal("COPY o.t FROM STDIN").sqlstate, "42501");
        wire.run("SELECT id FROM o.t LIMIT 10; SELECT 1");
        wire.run("SET statement_timeout = 100");
        assert_eq!(wire.refusal(ENDLESS).sqlstate, "57014");
        wire.run("RESET statement_timeout");
        // A client that goes away in the middle.
        let mut gone = kho.connect("an");
        gone.send(|buffer| frontend::query("SELECT id FROM o.t AS a", buffer)).unwrap();
        assert!(matches!(gone.receive().unwrap(), Message::RowDescription(_)));
        drop(gone);
        wait_for(|| running(&kho, "an"), "0");
    }
    let mut officer = kho.connect("officer");
    limit(&kho, "officer", "concurrent_statements", "1");
    officer.send(|buffer| frontend::query("COPY o.t FROM STDIN", buffer)).unwrap();
    assert!(matches!(officer.receive().unwrap(), Message::CopyInResponse(_)));
    assert_eq!(running(&kho, "officer"), "1");
    officer.send(|buffer| frontend::copy_fail("changed my mind", buffer)).unwrap();
    assert!(officer.answers().is_err());
    assert_eq!(running(&kho, "officer"), "0");
}

/// A query runs until its last row was taken or it is closed; what takes its rows is no other.
#[test]
fn a_portal_and_a_cursor_that_are_left_half_way_are_running() {
    let kho = city(&[]);
    limit(&kho, "an", "concurrent_statements", "1");
    let mut wire = kho.connect("an");
    wire.run("BEGIN");
    wire.run("DECLARE c CURSOR FOR SELECT id FROM o.t");
    assert_eq!(wire.rows("FETCH 10 FROM c").len(), 10);
    wire.run("MOVE 3 IN c");
    assert_eq!(running(&kho, "an"), "1");
    assert_eq!(wire.rows("FETCH 10 FROM c").len(), 10);
    assert_eq!(kho.connect("an").refusal("SELECT 1").sqlstate, "53400");
    wire.run("CLOSE c");
    wire.run("SELECT 1");
    wire.run("DECLARE c CURSOR FOR SELECT id FROM o.t");
    assert_eq!(wire.refusal("DECLARE d CURSOR FOR SELECT id FROM o.t").sqlstate, "53400");
    wire.run("ROLLBACK");
    wire.run("BEGIN");
    wire.run("DECLARE c CURSOR WITH HOLD FOR SELECT id FROM o.t");
    wire.run("COMMIT");
    assert_eq!(running(&kho, "an"), "1");
    assert_eq!(wire.rows("FETCH ALL FROM c").len() as u64, ROWS);
    assert_eq!(running(&kho, "an"), "0", "it is at its end");
    wire.run("CLOSE ALL");

    wire.run("BEGIN");
    let rows = take(&mut wire, true, 10);
    assert_eq!(rows, 10);
    assert_eq!(running(&kho, "an"), "1");
    assert_eq!(take(&mut wire, false, 10), 10);
    // The wire's portal is there as long as the transaction.
    let refused = wire.refusal("SELECT 1");
    assert_eq!(refused.sqlstate, "53400");
    wire.run("ROLLBACK");
    assert_eq!(running(&kho, "an"), "0");
}

/// Executes a portal, which is made before where it is `new`; gives how many rows came.
fn take(wire: &mut Wire, new: bool, most: i32) -> usize {
    wire.send(|buffer| {
        if new {
            frontend::parse("", "SELECT id FROM o.t", [], buffer)?;
            bind("p", "", &[], buffer)?;
        }
        frontend::execute("p", most, buffer)?;
        frontend::sync(buffer);
        Ok(())
    })
    .unwrap();
    wire.answers().unwrap().iter().map(|answer| answer.rows.len()).sum()
}

#[test]
fn a_server_has_limits_of_its_own() {
    let kho = city(&[
        ("KHO_LIMITS__CONCURRENT_STATEMENTS", "1"),
        ("KHO_LIMITS__STATEMENT_TIME_MS", "60000"),
        ("KHO_LIMITS__ROWS_PER_STATEMENT", "50"),
    ]);
    let mut wire = kho.connect("an");
    assert_eq!(wire.rows("SELECT id FROM o.t LIMIT 50").len(), 50);
    let refused = wire.refusal("SELECT id FROM o.t LIMIT 51");
    assert_eq!(refused.sqlstate, "53400", "{refused}");
    assert!(refused.detail.as_deref().unwrap().contains("limits.rows_per_statement"), "{refused}");
    let mut other = kho.connect("officer");
    let begun = Instant::now();
    let runs = thread::spawn(move || {
        loop {
            // The other one may be running something just then.
            match wire.simple(ENDLESS).map(drop).unwrap_err() {
                error if error.sqlstate() == Some("53400") => {}
                error => return error,
            }
        }
    });
    let refused = loop {
        match other.simple("SELECT 1") {
            Err(Error::Server(refused)) => break refused,
            other => drop(other.unwrap()),
        }
        assert!(begun.elapsed() < SOON, "nothing runs");
    };
    assert_eq!(refused.sqlstate, "53400", "{refused}");
    assert!(refused.detail.as_deref().unwrap().contains("limits.concurrent_statements"));
    drop(other);
    drop(kho);
    assert!(runs.join().unwrap().sqlstate().is_none_or(|it| it == "57P01" || it == "57014"));
}

#[test]
fn no_session_gives_itself_more_time_than_the_server_has() {
    let kho = city(&[("KHO_LIMITS__STATEMENT_TIME_MS", "10000")]);
    let mut wire = kho.admin();
    wire.run("SET statement_timeout = 0");
    wire.run("SET statement_timeout = '1h'");
    let told: Vec<_> = wire.notices.iter().map(|it| it.message.clone()).collect();
    assert!(told.last().unwrap().contains("limits.statement_time_ms"), "{told:?}");
    let refused = wire.refusal(ENDLESS);
    assert_eq!(refused.sqlstate, "57014");
    assert_eq!(refused.message, "canceling statement due to statement timeout");
    limit(&kho, "an", "statement_time", "200");
    let refused = kho.connect("an").refusal(ENDLESS);
    assert!(refused.detail.as_deref().unwrap().contains("role \"an\" is 200 ms"), "{refused}");
}

/// A limit of time that is set ends what runs already, and what a cursor computes ahead.
#[test]
fn a_new_limit_of_time_holds_for_what_runs() {
    let kho = city(&[]);
    let mut wire = kho.connect("an");
    let runs = thread::spawn(move || wire.simple(ENDLESS).map(drop).unwrap_err());
    let active = "SELECT count(*) FROM kho.activity WHERE role = 'an' AND state = 'active'";
    wait_for(|| kho.admin().value(active), "1");
    let mut cursor = kho.connect("an");
    cursor.run("BEGIN");
    cursor.run(&format!("DECLARE c CURSOR FOR {ENDLESS}"));
    let set = Instant::now();
    limit(&kho, "an", "statement_time", "300");
    assert_eq!(runs.join().unwrap().sqlstate(), Some("57014"));
    assert!(set.elapsed() < SOON, "{:?}", set.elapsed());
    limit(&kho, "an", "concurrent_statements", "7");
    assert_eq!(cursor.refusal("FETCH 1 FROM c").sqlstate, "57014");
    cursor.run("ROLLBACK");
    // A fetch has its time anew.
    cursor.run("BEGIN");
    cursor.run("DECLARE c CURSOR FOR SELECT id FROM o.t");
    let begun = Instant::now();
    while begun.elapsed().as_millis() < 900 {
        assert_eq!(cursor.rows("FETCH 1 FROM c").len(), 1);
    }
    cursor.run("COMMIT");
}

/// Statements of one role share what it may hold: they spill, and else they are refused.
#[test]
fn statements_of_a_role_share_its_memory() {
    let kho = city(&[]);
    limit(&kho, "an", "memory", "'16MB'");
    let mut wire = kho.connect("an");
    let text = "(SELECT x, repeat(lpad((x * 7919 % 1000003)::text, 6, '0'), 30) AS t \
                FROM generate_series(1, 500000) AS g (x)) AS a";
    // Ninety megabytes are sorted on disk.
    let sorted = format!(
        "SELECT count(*) FROM (SELECT t, row_number() OVER (ORDER BY t) AS n FROM {text}) AS s \
         WHERE length(t) > 0 AND n > 0"
    );
    assert_eq!(wire.value(&sorted), "500000");
    let held = format!("SELECT length(string_agg(t, ',')) FROM {text}");
    let refused = wire.refusal(&held);
    assert_eq!(refused.sqlstate, "53200", "{refused}");
    assert!(refused.hint.as_deref().unwrap().contains("kho.set_role_limit"), "{refused}");
    // What it held is given back when its tasks have ended, which is soon.
    wait_for(|| used(&mut wire, "memory").to_string(), "0");
    assert_eq!(wire.value("SELECT count(*) FROM o.t"), ROWS.to_string());
    assert_eq!(kho.connect("officer").value(&held), (500_000 * 181 - 1).to_string());
}
