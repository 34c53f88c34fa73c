//! The same over the wire, where there are portals, options, and statements that go on for long.

use std::thread;
use std::time::{Duration, Instant};

use kho_tests::kho::{Folders, Kho};
use kho_tests::wire::{Error, Wire, bind};
use postgres_protocol::message::frontend;

/// Hours of work that gives no row before its end.
const ENDLESS: &str = "SELECT count(*), sum(sin(a.x * b.x)) FROM generate_series(1, 50000) AS a (x) \
     CROSS JOIN generate_series(1, 300000000) AS b (x)";
/// An end or a freeze holds within a second. A machine that builds and runs other tests meanwhile
/// gives a server its turn late; beyond this it is not the machine.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// A Kho with `o.t` of `officer`, which `an` may read for `d` until further notice.
fn city() -> Kho {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE ROLE officer LOGIN PASSWORD 'officer'");
    admin.run("CREATE ROLE an LOGIN PASSWORD 'an'");
    admin.run("CREATE SCHEMA o AUTHORIZATION officer");
    let mut officer = kho.connect("officer");
    officer.run(
        "CREATE TABLE o.t (id bigint) WITH (allowed_purposes = 'd', requires_agreement = true)",
    );
    officer.run("INSERT INTO o.t SELECT x FROM generate_series(1, 1000) AS g (x)");
    officer.run("GRANT USAGE ON SCHEMA o TO an");
    officer.run("GRANT SELECT ON o.t TO an");
    officer.run("CALL kho.grant_agreement('o.t', 'an', 'd', '2999-12-31', 'CV 1')");
    kho
}

fn an(kho: &Kho) -> Wire {
    Wire::connect_with(&kho.target("an", "an"), &[("kho.purpose", "d")]).unwrap()
}

fn end_agreement(kho: &Kho) {
    let mut officer = kho.connect("officer");
    let id = officer.value("SELECT id FROM kho.agreements WHERE state = 'live'");
    officer.run(&format!("CALL kho.end_agreement({id}, 'over')"));
}

/// Waits until `role` runs a statement, and then does something about it; gives what became of it.
fn while_it_runs(kho: &Kho, wire: Wire, statement: &str, act: impl FnOnce()) -> Error {
    let mut wire = wire;
    let statement = statement.to_owned();
    let running = thread::spawn(move || wire.simple(&statement).map(drop).unwrap_err());
    let mut admin = kho.admin();
    let active = "SELECT count(*) FROM kho.activity WHERE role = 'an' AND state = 'active'";
    while admin.value(active) == "0" {}
    act();
    let asked = Instant::now();
    while !running.is_finished() {
        assert!(asked.elapsed() < ENDS_WITHIN, "the statement goes on");
        thread::yield_now();
    }
    running.join().unwrap()
}

#[test]
fn a_purpose_comes_with_the_connection_or_not_at_all() {
    let kho = city();
    let target = kho.target("an", "an");
    for with in [("kho.purpose", "d"), ("options", "-c kho.purpose=d"), ("KHO.PURPOSE", "d")] {
        let mut wire = Wire::connect_with(&target, &[with]).unwrap();
        assert_eq!(wire.value("SELECT count(*) FROM o.t"), "1000", "{with:?}");
        assert_eq!(wire.value("SHOW kho.purpose"), "d");
        wire.run("SET kho.purpose = 'c'");
        wire.run("DISCARD ALL");
        assert_eq!(wire.value("SHOW kho.purpose"), "d", "it is what the session began with");
    }
    let with = [("options", "-c kho.purpose=g -c kho.order_number=55/QD")];
    let mut ordered = Wire::connect_with(&target, &with).unwrap();
    assert_eq!(ordered.value("SHOW kho.order_number"), "55/QD");
    let refused = Wire::connect_with(&target, &[("kho.purpose", "research")]).err().unwrap();
    assert_eq!(refused.sqlstate(), Some("22023"));
}

#[test]
fn a_portal_gives_no_row_after_the_end() {
    let kho = city();
    let mut wire = an(&kho);
    wire.run("BEGIN");
    wire.send(|buffer| {
        frontend::parse("", "SELECT id FROM o.t", [], buffer)?;
        bind("p", "", &[], buffer)?;
        frontend::execute("p", 2, buffer)?;
        frontend::sync(buffer);
        Ok(())
    })
    .unwrap();
    assert_eq!(wire.answers().unwrap()[0].rows.len(), 2);
    end_agreement(&kho);
    wire.send(|buffer| {
        frontend::execute("p", 2, buffer)?;
        frontend::sync(buffer);
        Ok(())
    })
    .unwrap();
    assert_eq!(wire.answers().unwrap_err().sqlstate(), Some("KH004"));
    assert_eq!(wire.status, b'E');
}

#[test]
fn a_portal_gives_no_row_after_its_right_is_taken_or_others_hold() {
    for (meanwhile, ended) in [
        ("REVOKE SELECT ON o.t FROM an", "42P01"),
        ("ALTER TABLE o.t ENABLE ROW LEVEL SECURITY", "40001"),
    ] {
        let kho = city();
        let mut wire = an(&kho);
        wire.run("BEGIN");
        wire.send(|buffer| {
            frontend::parse("", "SELECT id FROM o.t", [], buffer)?;
            bind("p", "", &[], buffer)?;
            frontend::execute("p", 2, buffer)?;
            frontend::sync(buffer);
            Ok(())
        })
        .unwrap();
        assert_eq!(wire.answers().unwrap()[0].rows.len(), 2);
        kho.connect("officer").run(meanwhile);
        wire.send(|buffer| {
            frontend::execute("p", 2, buffer)?;
            frontend::sync(buffer);
            Ok(())
        })
        .unwrap();
        assert_eq!(wire.answers().unwrap_err().sqlstate(), Some(ended), "{meanwhile}");
    }
}

#[test]
fn a_portal_over_a_cursor_gives_no_row_after_the_end() {
    let kho = city();
    let mut wire = an(&kho);
    wire.run("BEGIN");
    wire.run("DECLARE c CURSOR FOR SELECT id FROM o.t");
    wire.send(|buffer| {
        frontend::parse("", "FETCH ALL FROM c", [], buffer)?;
        bind("p", "", &[], buffer)?;
        frontend::execute("p", 2, buffer)?;
        frontend::sync(buffer);
        Ok(())
    })
    .unwrap();
    assert_eq!(wire.answers().unwrap()[0].rows.len(), 2);
    end_agreement(&kho);
    wire.send(|buffer| {
        frontend::execute("p", 2, buffer)?;
        frontend::sync(buffer);
        Ok(())
    })
    .unwrap();
    assert_eq!(wire.answers().unwrap_err().sqlstate(), Some("KH004"));
}

#[test]
fn what_the_wire_prepared_before_the_end_is_refused_after_it() {
    let kho = city();
    let mut wire = an(&kho);
    wire.send(|buffer| {
        frontend::parse("s", "SELECT count(*) FROM o.t", [], buffer)?;
        frontend::sync(buffer);
        Ok(())
    })
    .unwrap();
    wire.answers().unwrap();
    end_agreement(&kho);
    wire.send(|buffer| {
        bind("", "s", &[], buffer)?;
        frontend::execute("", 0, buffer)?;
        frontend::sync(buffer);
        Ok(())
    })
    .unwrap();
    assert_eq!(wire.answers().unwrap_err().sqlstate(), Some("KH004"));
}

#[test]
fn a_statement_that_gives_no_row_yet_ends_with_its_agreement() {
    let kho = city();
    let work = format!("{ENDLESS}, o.t");
    let error = while_it_runs(&kho, an(&kho), &work, || end_agreement(&kho));
    assert_eq!(error.sqlstate(), Some("KH004"), "{error}");
}

#[test]
fn a_statement_of_a_frozen_role_ends() {
    let kho = city();
    let freeze = || kho.admin().run("CALL kho.freeze(role => 'an', reason => 'stolen')");
    let error = while_it_runs(&kho, an(&kho), ENDLESS, freeze);
    assert_eq!(error.sqlstate(), Some("28000"), "{error}");
    let refused = Wire::connect(&kho.target("an", "an")).err().unwrap();
    assert_eq!(refused.sqlstate(), Some("28000"));
    // Only who knows the password is told.
    let stranger = Wire::connect(&kho.target("an", "wrong")).err().unwrap();
    assert_eq!(stranger.sqlstate(), Some("28P01"));
    kho.admin().run("CALL kho.unfreeze(role => 'an')");
    assert_eq!(an(&kho).value("SELECT count(*) FROM o.t"), "1000");
}

#[test]
fn a_session_of_a_frozen_role_is_ended_and_holds_nothing() {
    let kho = city();
    let mut officer = kho.connect("officer");
    officer.run("GRANT INSERT ON o.t TO an");
    let mut wire = an(&kho);
    wire.run("BEGIN");
    wire.run("INSERT INTO o.t VALUES (0)");
    kho.admin().run("CALL kho.freeze(role => 'an', reason => 'stolen')");
    assert_eq!(wire.wait_for_close().map(|it| it.sqlstate), Some("28000".to_owned()));
    // The table was the block's alone: now it is free.
    officer.run("INSERT INTO o.t VALUES (-1)");
}

#[test]
fn an_end_on_one_server_holds_on_another() {
    let first = city();
    let data = first.data();
    let keys = format!("file:{}", first.keys().join("ledger.key").display());
    let shared = [("KHO_DATA", data.to_str().unwrap()), ("KHO_KEYS__LEDGER", keys.as_str())];
    let second = Kho::start_with(Folders::new(), &shared);
    let mut wire = an(&second);
    wire.run("BEGIN");
    wire.run("DECLARE c CURSOR FOR SELECT id FROM o.t");
    assert_eq!(wire.rows("FETCH 2 FROM c").len(), 2);
    let work = format!("{ENDLESS}, o.t");
    let error = while_it_runs(&second, an(&second), &work, || end_agreement(&first));
    assert_eq!(error.sqlstate(), Some("KH004"), "{error}");
    assert_eq!(wire.refusal("FETCH 2 FROM c").sqlstate, "KH004");
    let mut idle = Wire::connect(&second.target("an", "an")).unwrap();
    first.admin().run("CALL kho.freeze(role => 'an', reason => 'stolen')");
    assert_eq!(idle.wait_for_close().map(|it| it.sqlstate), Some("28000".to_owned()));
}
