//! Views and what depends on them.

use super::*;

const TABLE: (&str, &str, &str) =
    ("officer", "CREATE TABLE health.patient (ward text, name text, born date)", "ok");
const VIEW: (&str, &str, &str) = (
    "officer",
    "CREATE VIEW health.wards AS SELECT patient.ward, health.patient.name FROM health.patient",
    "ok",
);

fn query(state: &State, name: &str) -> String {
    relation(state, name).view().unwrap().query.value().unwrap().to_owned()
}

#[test]
fn a_replaced_view_keeps_its_columns_and_grants() {
    let state = script(&[
        TABLE,
        VIEW,
        ("officer", "GRANT SELECT ON wards TO reader", "ok"),
        ("officer", "CREATE VIEW wards AS SELECT ward FROM health.patient", "42P07"),
        (
            "officer",
            "CREATE VIEW IF NOT EXISTS wards AS SELECT ward FROM health.patient",
            "ok 42P07",
        ),
        ("officer", "CREATE OR REPLACE VIEW wards AS SELECT ward FROM health.patient", "42P16"),
        (
            "officer",
            "CREATE OR REPLACE VIEW wards AS SELECT name, ward FROM health.patient",
            "42P16",
        ),
        ("clerk", "CREATE OR REPLACE VIEW wards AS SELECT ward FROM health.patient", "42P07"),
        ("officer", "CREATE OR REPLACE VIEW patient AS SELECT ward FROM health.patient", "42809"),
        (
            "officer",
            "CREATE OR REPLACE VIEW wards AS SELECT ward, name, born FROM health.patient",
            "ok",
        ),
        (
            "officer",
            "CREATE OR REPLACE VIEW wards AS SELECT ward, name, born FROM health.wards",
            "42P17",
        ),
        ("officer", "CREATE VIEW v (a, b) AS SELECT ward FROM health.patient", "42601"),
        ("officer", "CREATE VIEW v (a) AS SELECT ward FROM health.patient", "ok"),
        ("officer", "CREATE VIEW w AS SELECT ward, ward FROM health.patient", "42701"),
        ("officer", "CREATE MATERIALIZED VIEW w AS SELECT ward FROM health.patient", "0A000"),
        ("officer", "CREATE TEMPORARY VIEW w AS SELECT ward FROM health.patient", "0A000"),
    ]);
    let wards = relation(&state, "health.wards");
    assert_eq!(held(&state, &wards.grants), ["reader:select"]);
    assert_eq!(wards.columns.len(), 3);
    assert_eq!(relation(&state, "health.v").columns[0].name, "a");
}

#[test]
fn what_a_view_reads_stays() {
    let state = script(&[
        TABLE,
        VIEW,
        ("officer", "CREATE VIEW upper AS SELECT ward FROM health.wards", "ok"),
        ("officer", "DROP TABLE patient", "2BP01"),
        ("officer", "DROP VIEW wards", "2BP01"),
        ("officer", "DROP TABLE wards", "42809"),
        ("officer", "ALTER TABLE patient DROP COLUMN ward", "2BP01"),
        ("officer", "ALTER TABLE patient RENAME ward TO phường", "2BP01"),
        ("officer", "ALTER TABLE patient DROP COLUMN born", "ok"),
        ("officer", "ALTER TABLE patient DROP COLUMN name CASCADE", "ok 00000 00000"),
        ("officer", "CREATE VIEW wards AS SELECT ward FROM health.patient", "ok"),
        ("officer", "DROP TABLE patient, wards", "42809"),
        ("officer", "DROP TABLE patient CASCADE", "ok 00000"),
    ]);
    assert!(state.relations.is_empty());
}

#[test]
fn a_view_of_somebody_else_is_neither_named_nor_dropped() {
    let state = script(&[
        TABLE,
        ("officer", "GRANT SELECT ON patient TO reader", "ok"),
        ("admin", "CREATE SCHEMA desk AUTHORIZATION reader", "ok"),
        ("reader", "CREATE VIEW desk.v AS SELECT ward FROM health.patient", "ok"),
    ]);
    for sql in ["DROP TABLE patient", "DROP TABLE patient CASCADE", "DROP SCHEMA health CASCADE"] {
        let error = run(&state, "officer", sql).err().unwrap();
        assert_eq!(error.sqlstate(), "2BP01", "{sql}");
        assert_eq!(error.detail(), Some("other objects depend on it"), "{sql}");
    }
}

#[test]
fn views_follow_what_is_renamed() {
    let state = script(&[
        TABLE,
        VIEW,
        ("officer", "CREATE VIEW own AS SELECT p.ward FROM health.patient AS p", "ok"),
        ("officer", "CREATE VIEW every AS SELECT health.patient.* FROM kho.health.patient", "ok"),
        ("officer", "ALTER TABLE patient RENAME TO \"Bệnh nhân\"", "ok"),
    ]);
    assert_eq!(
        query(&state, "health.wards"),
        "SELECT patient.ward, patient.name FROM health.\"Bệnh nhân\" AS patient"
    );
    assert_eq!(query(&state, "health.own"), "SELECT p.ward FROM health.\"Bệnh nhân\" AS p");
    assert_eq!(
        query(&state, "health.every"),
        "SELECT patient.* FROM health.\"Bệnh nhân\" AS patient"
    );
    let state = run(&state, "officer", "ALTER SCHEMA health RENAME TO clinic").unwrap().state;
    assert_eq!(
        query(&state, "clinic.wards"),
        "SELECT patient.ward, patient.name FROM clinic.\"Bệnh nhân\" AS patient"
    );
}

#[test]
fn views_that_take_every_column_depend_on_each() {
    for select in ["*", "patient.*"] {
        let create = format!("CREATE VIEW health.every AS SELECT {select} FROM health.patient");
        script(&[
            TABLE,
            ("officer", create.as_str(), "ok"),
            ("officer", "ALTER TABLE patient DROP COLUMN born", "2BP01"),
        ]);
    }
    script(&[
        TABLE,
        ("officer", "CREATE VIEW health.n AS SELECT count(*) AS n FROM health.patient", "ok"),
        ("officer", "ALTER TABLE patient DROP COLUMN born", "ok"),
    ]);
}

#[test]
fn views_change_names_and_hands() {
    let state = script(&[
        TABLE,
        VIEW,
        ("admin", "GRANT officer TO clerk", "ok"),
        ("officer", "ALTER VIEW health.wards RENAME TO Phuong", "ok"),
        ("officer", "ALTER VIEW health.phuong OWNER TO clerk", "42501"),
        ("officer", "ALTER VIEW IF EXISTS health.wards OWNER TO officer", "ok 00000"),
        ("officer", "ALTER VIEW health.patient RENAME TO other", "42809"),
        ("clerk", "ALTER VIEW health.phuong OWNER TO clerk", "ok"),
    ]);
    assert_eq!(relation(&state, "health.phuong").owner, state.role("clerk").unwrap().oid);
}
