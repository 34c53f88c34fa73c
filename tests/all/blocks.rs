//! Blocks of many statements: what drivers make of `executemany` and of a data frame.

use std::path::{Path, PathBuf};

use kho_tests::kho::Kho;
use kho_tests::wire::Wire;

fn begun(table: &str) -> (Kho, Wire) {
    let kho = Kho::start();
    let mut wire = kho.admin();
    wire.run("CREATE SCHEMA s");
    wire.run(table);
    (kho, wire)
}

/// The data files below a folder, whether a version names them or not.
fn data_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(data_files(&path)),
            false if path.extension().is_some_and(|it| it == "parquet") => found.push(path),
            false => {}
        }
    }
    found
}

/// Hundreds of statements end in one file, whether the table has keys or not, and whoever reads in
/// between reads them all.
#[test]
fn many_inserts_in_a_block_become_one_file() {
    for table in [
        "CREATE TABLE s.t (id integer, name text)",
        "CREATE TABLE s.t (id integer PRIMARY KEY, name text)",
    ] {
        let (kho, mut wire) = begun(table);
        wire.run("INSERT INTO s.t VALUES (0, 'before')");
        wire.run("BEGIN");
        for id in 1..=300 {
            wire.run(&format!("INSERT INTO s.t VALUES ({id}, 'Đào {id}')"));
            if id % 90 == 0 {
                assert_eq!(wire.value("SELECT count(*) FROM s.t"), (id + 1).to_string());
            }
        }
        assert_eq!(kho.admin().value("SELECT count(*) FROM s.t"), "1");
        wire.run("COMMIT");
        let sums = "SELECT count(*) || ' ' || count(DISTINCT name) || ' ' || sum(id) FROM s.t";
        assert_eq!(wire.value(sums), "301 301 45150");
        assert_eq!(data_files(&kho.data()).len(), 2, "{table}");
        let changes = "SELECT count(*) FROM kho.table_changes('s.t', 2)";
        assert_eq!(wire.value(changes), "300");
    }
}

/// A duplicate is found among the block's own rows, those that were put together, too.
#[test]
fn keys_hold_within_a_block() {
    let (_kho, mut wire) = begun("CREATE TABLE s.t (id integer PRIMARY KEY)");
    wire.run("BEGIN");
    for id in 0..150 {
        wire.run(&format!("INSERT INTO s.t VALUES ({id})"));
    }
    wire.run("SAVEPOINT here");
    for id in [3, 100, 149] {
        let refused = wire.refusal(&format!("INSERT INTO s.t VALUES ({id})"));
        assert_eq!(refused.sqlstate, "23505");
        wire.run("ROLLBACK TO here");
    }
    wire.run("INSERT INTO s.t VALUES (150)");
    wire.run("COMMIT");
    assert_eq!(wire.value("SELECT count(DISTINCT id) FROM s.t"), "151");
}

/// What was put together comes apart again where a savepoint lies within.
#[test]
fn a_savepoint_within_what_was_put_together() {
    let (kho, mut wire) = begun("CREATE TABLE s.t (id integer)");
    wire.run("BEGIN");
    for id in 0..40 {
        wire.run(&format!("INSERT INTO s.t VALUES ({id})"));
    }
    wire.run("SAVEPOINT here");
    for id in 40..200 {
        wire.run(&format!("INSERT INTO s.t VALUES ({id})"));
    }
    assert_eq!(wire.value("SELECT count(*) || ' ' || max(id) FROM s.t"), "200 199");
    wire.run("ROLLBACK TO here");
    assert_eq!(wire.value("SELECT count(*) || ' ' || max(id) FROM s.t"), "40 39");
    for id in 500..600 {
        wire.run(&format!("INSERT INTO s.t VALUES ({id})"));
    }
    wire.run("DELETE FROM s.t WHERE id = 7 OR id = 550");
    wire.run("COMMIT");
    assert_eq!(
        wire.value("SELECT count(*) || ' ' || sum(id) FROM s.t"),
        format!("138 {}", 780 - 7 + 54_950 - 550)
    );
    // One of the rows that the DELETE left in the files it touched, one of the others.
    let data = data_files(&kho.data());
    let changes = |path: &&PathBuf| path.components().any(|it| it.as_os_str() == "_change_data");
    assert_eq!((data.iter().filter(changes).count(), data.len()), (1, 3));
    let changes = "SELECT string_agg(DISTINCT _change_type, ' ') || ' ' || count(*) \
                   FROM kho.table_changes('s.t', 1)";
    assert_eq!(wire.value(changes), "insert 138");
}

/// Rows that are too large to be held in memory, and a block that is given up, leave nothing.
#[test]
fn a_block_that_is_rolled_back_leaves_no_file() {
    let (kho, mut wire) = begun("CREATE TABLE s.t (id integer, name text)");
    wire.run("BEGIN");
    for id in 0..100 {
        wire.run(&format!("INSERT INTO s.t VALUES ({id}, 'x')"));
    }
    wire.run("INSERT INTO s.t SELECT x, md5(x::text) FROM generate_series(1, 100000) AS g (x)");
    assert_eq!(wire.value("SELECT count(*) FROM s.t"), "100100");
    wire.run("ROLLBACK");
    assert_eq!(data_files(&kho.data()), Vec::<PathBuf>::new());
    assert_eq!(wire.value("SELECT count(*) FROM s.t"), "0");
}
