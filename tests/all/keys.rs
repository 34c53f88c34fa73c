//! Keys under concurrency, over `COPY`, and how a violation is told.

use std::sync::{Arc, Barrier};
use std::thread;

use kho_tests::kho::Kho;
use kho_tests::psql::script;
use kho_tests::python::client;

fn keyed() -> Kho {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t (id bigint PRIMARY KEY, code text UNIQUE)");
    kho
}

#[test]
fn of_two_sessions_that_insert_one_key_one_wins() {
    let kho = keyed();
    for round in 0..20 {
        let barrier = Arc::new(Barrier::new(2));
        let racers: Vec<_> = (0..2)
            .map(|_| {
                let (barrier, mut wire) = (Arc::clone(&barrier), kho.admin());
                thread::spawn(move || {
                    barrier.wait();
                    wire.simple(&format!("INSERT INTO s.t VALUES ({round}, NULL)")).map(drop)
                })
            })
            .collect();
        let ends: Vec<_> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
        let lost: Vec<_> = ends.iter().filter_map(|end| end.as_ref().err()).collect();
        assert_eq!(lost.len(), 1, "round {round}: {ends:?}");
        assert_eq!(lost[0].sqlstate(), Some("23505"), "{lost:?}");
    }
    assert_eq!(kho.admin().value("SELECT count(*) || ' ' || count(DISTINCT id) FROM s.t"), "20 20");
}

#[test]
fn a_copy_with_a_duplicate_leaves_nothing() {
    let kho = keyed();
    kho.admin().run("INSERT INTO s.t VALUES (3, 'three')");
    let copy = "COPY s.t FROM STDIN;\n1\tone\n2\ttwo\n3\tagain\n\\.\n";
    let refused = script(&kho, "admin", copy);
    assert!(refused.stderr.contains("Key (id)=(3) already exists."), "{}", refused.stderr);
    let copy = "COPY s.t FROM STDIN;\n1\tone\n2\tone\n\\.\n";
    let refused = script(&kho, "admin", copy);
    assert!(refused.stderr.contains("Key (code)=(one) already exists."), "{}", refused.stderr);
    assert_eq!(kho.admin().value("SELECT count(*) FROM s.t"), "1");
    let copy = "COPY s.t FROM STDIN;\n1\tone\n2\ttwo\n\\.\n";
    script(&kho, "admin", copy).expect_success();
    assert_eq!(kho.admin().value("SELECT count(*) FROM s.t"), "3");
}

#[test]
fn a_violation_tells_the_key_as_postgresql_does() {
    let kho = keyed();
    let mut admin = kho.admin();
    admin.run(
        "CREATE TABLE s.v (d date, at timestamptz, n numeric(10, 2), b boolean, x bytea, t text, \
         UNIQUE (d, at, n, b, x, t))",
    );
    let row = "('2026-03-01', '2026-03-01 10:00:00.5+07', 1.5, true, '\\x0aff', 'Đào')";
    admin.run(&format!("INSERT INTO s.v VALUES {row}"));
    let refused = admin.refusal(&format!("INSERT INTO s.v VALUES {row}"));
    assert_eq!(
        refused.detail.as_deref(),
        Some(
            "Key (d, at, n, b, x, t)=(2026-03-01, 2026-03-01 03:00:00.5+00, 1.50, t, \\x0aff, \
             Đào) already exists."
        )
    );
    admin.run("CREATE TABLE s.w (id integer)");
    admin.run("INSERT INTO s.w VALUES (1), (2), (2)");
    let refused = admin.refusal("ALTER TABLE s.w ADD PRIMARY KEY (id)");
    assert_eq!(refused.sqlstate, "23505");
    assert_eq!(refused.detail.as_deref(), Some("Key (id)=(2) is duplicated."));
}

/// What `CREATE INDEX` promises of files is true of those that are written while it is there.
#[test]
fn files_written_under_an_index_are_searched_by_it() {
    client(&Kho::start(), "indexed", &[]);
}

#[test]
fn keys_survive_a_kill() {
    let kho = keyed();
    kho.admin().run("INSERT INTO s.t VALUES (1, 'one')");
    let kho = Kho::start_in(kho.kill());
    assert_eq!(kho.admin().refusal("INSERT INTO s.t VALUES (1, 'two')").sqlstate, "23505");
    assert_eq!(kho.admin().refusal("INSERT INTO s.t VALUES (2, 'one')").sqlstate, "23505");
}
