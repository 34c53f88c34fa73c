//! What Kho leaves in the store: plain Delta tables, without what must not be in them.

use std::fs;
use std::path::{Path, PathBuf};

use kho_tests::kho::Kho;
use kho_tests::python::client;
use serde_json::Value;

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

/// The files below `folder` that hold these bytes.
pub(crate) fn files_with(folder: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| fs::read(path).unwrap().windows(bytes.len()).any(|it| it == bytes);
    files(folder).into_iter().filter(holds).collect()
}

/// The actions in the Delta logs of all tables.
fn actions(kho: &Kho) -> Vec<Value> {
    let logs = files(&kho.data().join("tables")).into_iter().filter(|path| {
        let parent = path.parent().and_then(Path::file_name);
        parent.is_some_and(|it| it == "_delta_log")
            && path.extension().is_some_and(|it| it == "json")
    });
    let text: String = logs.map(|path| fs::read_to_string(path).unwrap() + "\n").collect();
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn with_history() -> Kho {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t (id integer, name text, at timestamptz, amount numeric(10, 2))");
    admin.run("INSERT INTO s.t VALUES (1, 'An', '2026-01-01', 1.5), (2, 'Bình', NULL, NULL)");
    admin.run("UPDATE s.t SET name = 'Ánh' WHERE name = 'An' AND id = 1");
    admin.run("DELETE FROM s.t WHERE name = 'Bình'");
    admin.run("ALTER TABLE s.t RENAME COLUMN at TO seen");
    admin.run("ALTER TABLE s.t DROP COLUMN amount");
    kho
}

/// Deletion vectors would make every scan single-threaded, column mapping would end the evolution
/// of the schema; a Delta reader of any age must do.
#[test]
fn tables_use_no_feature_that_readers_lack() {
    let kho = with_history();
    let actions = actions(&kho);
    let protocols: Vec<_> = actions.iter().filter_map(|it| it.get("protocol")).collect();
    assert!(!protocols.is_empty());
    for protocol in protocols {
        let features = protocol.to_string();
        for feature in ["deletionVectors", "columnMapping", "v2Checkpoint", "rowTracking"] {
            assert!(!features.contains(feature), "{features}");
        }
    }
    for metadata in actions.iter().filter_map(|it| it.get("metaData")) {
        let text = metadata.to_string();
        assert!(!text.contains("PARQUET:field_id"), "{text}");
        assert!(!text.contains("delta.columnMapping"), "{text}");
    }
    let vectors = actions.iter().filter_map(|it| it.get("add")?.get("deletionVector"));
    assert_eq!(vectors.filter(|it| !it.is_null()).count(), 0);
}

/// delta-rs writes predicates into the log; a literal there would outlive the row it names.
#[test]
fn no_literal_of_a_statement_is_in_a_delta_log() {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t (id integer, national_id text, x integer)");
    admin.run("INSERT INTO s.t VALUES (1, '046099000123', 5), (2, 'MARKER-DELETED', 6)");
    admin.run("UPDATE s.t SET x = 7 WHERE national_id <> 'MARKER-IN-UPDATE'");
    admin.run("DELETE FROM s.t WHERE national_id LIKE 'MARKER-IN-DELETE%'");
    admin.run("DELETE FROM s.t WHERE national_id IN (SELECT 'MARKER-IN-SUBQUERY')");
    for action in actions(&kho) {
        if let Some(info) = action.get("commitInfo") {
            let info = info.to_string();
            assert!(!info.contains("MARKER"), "a literal is in the log: {info}");
            assert!(!info.contains("046099000123"), "a value is in the log: {info}");
        }
    }
    let markers = ["MARKER-IN-UPDATE", "MARKER-IN-DELETE", "MARKER-IN-SUBQUERY"];
    for marker in markers {
        let found = files_with(&kho.data().join("tables"), marker.as_bytes());
        assert!(found.is_empty(), "{marker} is in {found:?}");
    }
}

#[test]
fn commits_say_who_and_which_statement() {
    let kho = with_history();
    let actions = actions(&kho);
    let infos: Vec<_> = actions.iter().filter_map(|it| it.get("commitInfo")).collect();
    assert!(infos.len() >= 6, "{infos:?}");
    for info in infos {
        assert!(info.to_string().contains("admin"), "nobody did it: {info}");
    }
}

/// History is kept: nothing in the table may tell a tool to clean up its log.
#[test]
fn history_is_kept_without_end() {
    let kho = with_history();
    for action in actions(&kho) {
        if let Some(configuration) = action.get("metaData").and_then(|it| it.get("configuration")) {
            let value = configuration.get("delta.enableExpiredLogCleanup").and_then(Value::as_str);
            assert_eq!(value, Some("false"), "{configuration}");
        }
    }
    assert_eq!(kho.admin().value("SELECT count(*) FROM s.t VERSION AS OF 1"), "2");
}

#[test]
fn duckdb_polars_and_delta_rs_read_what_kho_wrote() {
    let kho = Kho::start();
    client(&kho, "delta_readers", &[]);
}

/// Another program that compacts a table under a write of Kho's neither doubles rows nor brings
/// deleted ones back.
#[test]
fn a_compaction_by_another_program_is_a_conflict() {
    let kho = Kho::start();
    client(&kho, "foreign_optimize", &[]);
}

/// What other programs say of their files is believed only where it is so.
#[test]
fn no_row_of_a_file_of_another_program_is_missed() {
    let kho = Kho::start();
    client(&kho, "foreign_statistics", &[]);
}
