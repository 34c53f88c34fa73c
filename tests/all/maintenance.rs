//! What the server does by itself: compaction while others read and write, and how it shows.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use kho_tests::kho::{Folders, Kho};
use kho_tests::python::client;
use kho_tests::wire::Wire;
use serde_json::Value;

/// No delay between a write and what it makes due, so that the two meet all the time.
const EAGER: &[(&str, &str)] = &[("KHO_MAINTENANCE__DELAY_MS", "0")];
const SETTLED: usize = 20;
/// A healthy server needs a second or two.
const PATIENCE: Duration = Duration::from_secs(120);

/// The live files of the only table, as its log tells them.
fn live_files(kho: &Kho) -> BTreeSet<String> {
    let mut logs = Vec::new();
    let mut folders = vec![kho.data().join("tables")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "json")
                && path.parent().is_some_and(|it| it.ends_with("_delta_log"))
            {
                logs.push(path);
            }
        }
    }
    logs.sort();
    let mut live = BTreeSet::new();
    for log in logs {
        for line in fs::read_to_string(log).unwrap().lines() {
            let action: Value = serde_json::from_str(line).unwrap();
            let path = |key: &str| Some(action.get(key)?.get("path")?.as_str()?.to_owned());
            live.extend(path("add"));
            if let Some(gone) = path("remove") {
                live.remove(&gone);
            }
        }
    }
    live
}

/// Asks the server again and again until its tables have settled; each question is a round trip.
fn settle(kho: &Kho, admin: &mut Wire) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let running = admin.value("SELECT count(*) FROM kho.jobs WHERE state = 'running'");
        let files = live_files(kho).len();
        if running == "0" && files <= SETTLED {
            return;
        }
        assert!(Instant::now() < deadline, "{files} files, {running} jobs\n{}", kho.log());
    }
}

fn insert(wire: &mut Wire, id: i32) -> bool {
    match wire.simple(&format!("INSERT INTO s.t VALUES ({id}, 'hàng {id}')")) {
        Ok(_) => true,
        Err(refused) => {
            assert_eq!(refused.sqlstate(), Some("40001"), "{refused}");
            false
        }
    }
}

fn with_table() -> (Kho, Wire) {
    let kho = Kho::start_with(Folders::new(), EAGER);
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t (id integer, name text)");
    (kho, admin)
}

#[test]
fn single_rows_settle_at_few_files_while_others_read_and_write() {
    let (kho, mut admin) = with_table();
    let target = kho.target("admin", "admin");
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let target = target.clone();
            thread::spawn(move || {
                let mut wire = Wire::connect(&target).unwrap();
                (0..100).filter(|turn| insert(&mut wire, writer * 1000 + turn)).count()
            })
        })
        .collect();
    while !writers.iter().all(thread::JoinHandle::is_finished) {
        let seen = admin.rows("SELECT count(*), count(DISTINCT id) FROM s.t");
        assert_eq!(seen[0][0], seen[0][1], "a row is there twice");
    }
    let written: usize = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    settle(&kho, &mut admin);

    let written = written.to_string();
    assert_eq!(admin.value("SELECT count(*) FROM s.t"), written);
    assert_eq!(admin.value("SELECT count(DISTINCT id) FROM s.t"), written);
    let history = "SELECT count(*) FROM kho.table_history('s.t') WHERE operation = ";
    assert_eq!(admin.value(&format!("{history} 'WRITE'")), written);
    assert_ne!(admin.value(&format!("{history} 'OPTIMIZE'")), "0");
    let changes = "SELECT count(*) FROM kho.table_changes('s.t', 1)";
    assert_eq!(admin.value(changes), written);
    assert_eq!(admin.value(&format!("{changes} WHERE _change_type <> 'insert'")), "0");
    // Each version holds the rows that were written up to it.
    let middle = "SELECT max(version) FROM kho.table_history('s.t') WHERE operation = 'OPTIMIZE'";
    let middle = admin.value(middle);
    let then = admin.value(&format!("SELECT count(*) FROM s.t VERSION AS OF {middle}"));
    let until = admin.value(&format!("{history} 'WRITE' AND version <= {middle}"));
    assert_eq!(then, until);
    let done = "SELECT count(*) FROM kho.jobs WHERE kind = 'compaction' AND dataset = 's.t' \
                AND state = 'succeeded' AND done = total AND done > 0 AND finished_at IS NOT NULL";
    assert_ne!(admin.value(done), "0");
    assert_eq!(admin.value("SELECT count(*) FROM kho.jobs WHERE state = 'failed'"), "0");
    client(&kho, "compacted", &[("KHO_ROWS", &written)]);
}

/// Killed whenever it may be: the rows are there once, and the work goes on.
#[test]
fn a_kill_in_the_middle_is_harmless() {
    let (mut kho, mut admin) = with_table();
    let mut next = 0;
    for _ in 0..3 {
        for _ in 0..40 {
            assert!(insert(&mut admin, next));
            next += 1;
        }
        drop(admin);
        kho = Kho::start_with(kho.kill(), EAGER);
        admin = kho.admin();
        assert_eq!(admin.value("SELECT count(*) FROM s.t"), next.to_string());
        assert_eq!(admin.value("SELECT count(DISTINCT id) FROM s.t"), next.to_string());
    }
    assert!(insert(&mut admin, next));
    settle(&kho, &mut admin);
    assert_eq!(admin.value("SELECT count(DISTINCT id) FROM s.t"), (next + 1).to_string());
    let (ended, _) = kho.stop();
    assert!(ended.status.success(), "{}", ended.log);
}

#[test]
fn an_owner_compacts_a_table_and_a_stranger_does_not() {
    let kho = Kho::start_with(Folders::new(), &[("KHO_MAINTENANCE__ENABLED", "false")]);
    let mut admin = kho.admin();
    admin.run("CREATE ROLE clerk LOGIN PASSWORD 'clerk'");
    admin.run("CREATE ROLE reader LOGIN PASSWORD 'reader'");
    admin.run("CREATE SCHEMA s AUTHORIZATION clerk");
    let mut clerk = kho.connect("clerk");
    clerk.run("CREATE TABLE s.t (id integer, name text)");
    clerk.run("GRANT USAGE ON SCHEMA s TO reader");
    for id in 0..5 {
        assert!(insert(&mut clerk, id));
    }
    let mut reader = kho.connect("reader");
    let compact = "CALL kho.compact_table('s.t')";
    assert_eq!(reader.refusal(compact).sqlstate, "42P01");
    clerk.run("GRANT SELECT ON s.t TO reader");
    assert_eq!(reader.refusal(compact).sqlstate, "42501");
    assert_eq!(live_files(&kho).len(), 5);
    clerk.run(compact);
    assert_eq!(live_files(&kho).len(), 1);
    assert_eq!(reader.value("SELECT sum(id) FROM s.t"), "10");
    assert_eq!(clerk.value("SELECT count(*) FROM kho.jobs WHERE dataset = 's.t'"), "1");
    assert_eq!(reader.value("SELECT count(*) FROM kho.jobs"), "0");
}

/// Hours of work; the number would be seen if literals were shown.
const ENDLESS: &str = "SELECT count(*), sum(sin(a.x * b.x)) FROM generate_series(1, 50000) AS a (x) \
     CROSS JOIN generate_series(1, 300000000) AS b (x) WHERE a.x <> 4711";

/// Runs [`ENDLESS`] as `clerk` and stops it as `admin` by `stop`, which is given what is shown.
fn stopped(stop: impl Fn(&mut Wire, &str, &str)) {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE ROLE clerk LOGIN PASSWORD 'clerk'");
    admin.run("CREATE ROLE other LOGIN PASSWORD 'other'");
    let mut other = kho.connect("other");
    let mut clerk = kho.connect("clerk");
    let running = thread::spawn(move || {
        let refused = clerk.simple(ENDLESS).map(drop).unwrap_err();
        (refused, clerk)
    });
    let deadline = Instant::now() + PATIENCE;
    let shown = loop {
        let active = "SELECT id, process_id, statement, protocol FROM kho.activity \
                      WHERE role = 'clerk' AND state = 'active' AND started_at IS NOT NULL";
        if let Some(row) = admin.rows(active).pop() {
            break row.into_iter().map(Option::unwrap).collect::<Vec<_>>();
        }
        assert!(Instant::now() < deadline, "the statement is not shown");
    };
    assert!(shown[2].contains("sin") && !shown[2].contains("4711"), "{}", shown[2]);
    assert_eq!(shown[3], "pgwire");
    let query = "SELECT query FROM pg_stat_activity WHERE usename = 'clerk' AND state = 'active'";
    assert_eq!(admin.value(query), shown[2]);
    // Who runs nothing of it sees nothing of it, and stops nothing.
    assert_eq!(other.value("SELECT count(*) FROM kho.activity"), "1");
    assert_eq!(other.value("SELECT count(*) FROM pg_stat_activity"), "1");
    let refused = other.refusal(&format!("CALL kho.cancel({})", shown[0]));
    assert_eq!(refused.sqlstate, "42704");
    assert_eq!(other.value(&format!("SELECT pg_cancel_backend({})", shown[1])), "f");
    assert!(!running.is_finished());
    stop(&mut admin, &shown[0], &shown[1]);
    let (refused, mut clerk) = running.join().unwrap();
    assert_eq!(refused.sqlstate(), Some("57014"), "{refused}");
    assert_eq!(clerk.value("SELECT 1"), "1");
    let idle = "SELECT state FROM kho.activity WHERE role = 'clerk'";
    assert_eq!(admin.value(idle), "idle");
    assert_eq!(admin.refusal(&format!("CALL kho.cancel({})", shown[0])).sqlstate, "55000");
    clerk.run("BEGIN");
    assert_eq!(admin.value(idle), "idle in transaction");
    drop(clerk);
}

#[test]
fn a_statement_is_shown_and_stopped_by_call() {
    stopped(|admin, id, _| admin.run(&format!("CALL kho.cancel({id})")));
}

#[test]
fn a_statement_is_stopped_as_postgresql_does_it() {
    stopped(|admin, _, process_id| {
        assert_eq!(admin.value(&format!("SELECT pg_cancel_backend({process_id})")), "t");
    });
}
