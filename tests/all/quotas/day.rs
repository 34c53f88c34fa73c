//! Quotas of a day: over sessions, lives of a server, servers, and midnight.

use std::sync::Arc;
use std::time::Duration;

use kho_catalog::environment::ManualClock;
use kho_tests::inside::{STACK_BYTES, Warehouse, run, runtime};
use kho_tests::kho::{Folders, Kho};
use kho_tests::wire::bind;
use postgres_protocol::message::frontend;

use super::{SOON, city, limit, used};

#[test]
fn a_new_session_begins_with_what_was_used() {
    let kho = city(&[]);
    limit(&kho, "an", "rows_per_day", "100");
    for turn in 0..10 {
        let mut wire = kho.connect("an");
        assert_eq!(used(&mut wire, "rows_per_day"), turn * 10);
        wire.run("SELECT id FROM o.t LIMIT 10");
    }
    assert_eq!(kho.connect("an").refusal("SELECT id FROM o.t LIMIT 1").sqlstate, "53400");
    // Another role of the same person is another role.
    assert_eq!(kho.connect("officer").rows("SELECT id FROM o.t LIMIT 10").len(), 10);
}

/// Sessions beside each other do not go beyond by a row.
#[test]
fn sessions_beside_each_other_share_one_quota() {
    let kho = city(&[]);
    limit(&kho, "an", "rows_per_day", "1000");
    let target = kho.target("an", "an");
    let takers: Vec<_> = (0..4)
        .map(|_| {
            let target = target.clone();
            std::thread::spawn(move || {
                let mut wire = kho_tests::wire::Wire::connect(&target).unwrap();
                let mut rows = 0;
                while let Ok(answers) = wire.simple("SELECT id FROM o.t LIMIT 7") {
                    rows += answers[0].rows.len();
                }
                rows
            })
        })
        .collect();
    let taken: usize = takers.into_iter().map(|it| it.join().unwrap()).sum();
    // Those that were cut gave the rows before, which their answers do not tell.
    assert!(taken <= 1000 && taken > 1000 - 4 * 7, "{taken}");
    assert_eq!(used(&mut kho.connect("an"), "rows_per_day"), 1000);
}

#[test]
fn what_was_used_is_known_after_a_stop_and_after_a_kill() {
    let kho = city(&[("KHO_AUDIT__SEAL_INTERVAL_S", "1")]);
    limit(&kho, "an", "rows_per_day", "1000");
    kho.connect("an").run("SELECT id FROM o.t LIMIT 100");
    let (_, folders) = kho.stop();
    let kho = Kho::start_in(folders);
    let mut wire = kho.connect("an");
    assert_eq!(used(&mut wire, "rows_per_day"), 100);
    wire.run("SELECT id FROM o.t LIMIT 100");
    assert_eq!(used(&mut wire, "rows_per_day"), 200);
    // A portal that gave some rows, whose end nobody writes.
    wire.run("BEGIN");
    wire.send(|buffer| {
        frontend::parse("", "SELECT id FROM o.t", [], buffer)?;
        bind("p", "", &[], buffer)?;
        frontend::execute("p", 100, buffer)?;
        frontend::sync(buffer);
        Ok(())
    })
    .unwrap();
    assert_eq!(wire.answers().unwrap()[0].rows.len(), 100);
    let folders = kho.kill();
    let kho = Kho::start_in(folders);
    let mut wire = kho.connect("an");
    let found = used(&mut wire, "rows_per_day");
    assert!((300..=400).contains(&found), "{found}: what is put down is twice as much at most");
    wire.run("SELECT id FROM o.t LIMIT 100");
    assert_eq!(used(&mut wire, "rows_per_day"), found + 100);
    assert_eq!(wire.refusal("SELECT id FROM o.t").sqlstate, "53400");
    assert_eq!(used(&mut wire, "rows_per_day"), 1000);
}

/// Two servers know of each other what they wrote some seconds ago.
#[test]
fn two_servers_share_one_quota() {
    let first = city(&[]);
    let data = first.data();
    let keys = format!("file:{}", first.keys().join("ledger.key").display());
    let shared = [("KHO_DATA", data.to_str().unwrap()), ("KHO_KEYS__LEDGER", keys.as_str())];
    limit(&first, "an", "rows_per_day", "100");
    first.connect("an").run("SELECT id FROM o.t LIMIT 60");
    let second = Kho::start_with(Folders::new(), &shared);
    let mut there = second.connect("an");
    assert_eq!(used(&mut there, "rows_per_day"), 60);
    assert_eq!(there.rows("SELECT id FROM o.t LIMIT 30").len(), 30);
    assert_eq!(there.refusal("SELECT id FROM o.t LIMIT 30").sqlstate, "53400");
    let mut here = first.connect("an");
    let asked = std::time::Instant::now();
    while used(&mut here, "rows_per_day") < 100 {
        assert!(asked.elapsed() < 2 * SOON, "one server does not learn of the other");
    }
    assert_eq!(here.refusal("SELECT id FROM o.t LIMIT 1").sqlstate, "53400");
}

/// A day is one of UTC, and what was used is forgotten when the next begins.
#[test]
fn a_new_day_begins_anew_on_every_server() {
    // Planning in a debug build goes deep.
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let played = thread.spawn(|| runtime().block_on(over_midnight())).unwrap().join();
    if let Err(panic) = played {
        std::panic::resume_unwind(panic);
    }
}

async fn over_midnight() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    // Ten minutes before a midnight.
    let start = i64::try_from(20_000 * DAY.as_millis()).unwrap() - 600_000;
    let clock = Arc::new(ManualClock::new(start));
    let warehouse = Warehouse::in_memory();
    let server = warehouse.serve_by("first", clock.clone()).await.unwrap();
    let mut admin = server.connect().await.unwrap();
    for statement in [
        "CREATE ROLE an LOGIN",
        "CREATE TABLE s.t (id bigint)",
        "INSERT INTO s.t SELECT x FROM generate_series(1, 100) AS g (x)",
        "GRANT USAGE ON SCHEMA s TO an",
        "GRANT SELECT ON s.t TO an",
        "CALL kho.set_role_limit(role => 'an', name => 'rows_per_day', value => 15)",
    ] {
        run(&mut admin, statement).await.unwrap();
    }
    let mut an = server.connect_as("an", &[]).await.unwrap();
    let ten = "SELECT id FROM s.t WHERE id <= 10";
    assert_eq!(run(&mut an, ten).await.unwrap().rows.len(), 10);
    assert_eq!(run(&mut an, ten).await.unwrap_err().sqlstate(), "53400");
    clock.advance(Duration::from_secs(601));
    assert_eq!(run(&mut an, ten).await.unwrap().rows.len(), 10);
    assert_eq!(run(&mut an, ten).await.unwrap_err().sqlstate(), "53400");
    // Who begins in the new day finds what was used in it, and nothing of the day before.
    let second = warehouse.serve_by("second", clock.clone()).await.unwrap();
    let mut there = second.connect_as("an", &[]).await.unwrap();
    let used = "SELECT used FROM kho.role_limits";
    let found = run(&mut there, used).await.unwrap().rows;
    assert_eq!(found, [[Some("15".to_owned())]]);
    assert_eq!(run(&mut there, ten).await.unwrap_err().sqlstate(), "53400");
    clock.advance(DAY);
    assert_eq!(run(&mut there, ten).await.unwrap().rows.len(), 10);
}
