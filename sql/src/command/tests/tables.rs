//! Tables: definitions, options, alterations.

use kho_catalog::state::Classification;

use super::*;

#[test]
fn a_dataset_is_made_with_its_governance() {
    let state = script(&[(
        "officer",
        "CREATE TABLE health.patient (
           id bigint NOT NULL, national_id text CHECK (national_id <> ''), \"Họ tên\" text,
           born date DEFAULT current_date, updated_at timestamptz,
           CONSTRAINT sane CHECK (born <= updated_at), CHECK (id > 0), CHECK (id < 10 OR born IS NULL)
         ) WITH (classification = 'personal', update_frequency = 'P1D', retention = 'P10Y',
                 retention_column = 'updated_at', allowed_purposes = 'c, d', requires_agreement = true)",
        "ok",
    )]);
    let patient = relation(&state, "health.patient");
    let table = patient.table().unwrap();
    assert_eq!(patient.owner, 16385);
    assert_eq!(patient.columns.iter().map(|it| it.id).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(table.next_column, 6);
    assert!(patient.columns[0].not_null && !patient.columns[1].not_null);
    assert_eq!(patient.columns[2].name, "Họ tên");
    let names: Vec<&str> = table.checks.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["patient_national_id_check", "sane", "patient_id_check", "patient_check"]);
    let governance = &table.governance;
    assert_eq!(governance.classification, Classification::Personal);
    assert_eq!(governance.retention.as_deref(), Some("P10Y"));
    assert_eq!(governance.retention_column, Some(5));
    assert_eq!(governance.allowed_purposes.iter().cloned().collect::<Vec<_>>(), ["c", "d"]);
    assert!(governance.requires_agreement);
}

#[test]
fn options_are_checked() {
    let options: &[(&str, &str)] = &[
        ("classification = 'open'", "ok"),
        ("classification = restricted", "ok"),
        ("classification = 'state_secret'", "KH005"),
        ("classification = 'TỐI MẬT'", "KH005"),
        ("classification = 'public'", "22023"),
        ("retention = ''", "22023"),
        ("retention = 'P0D'", "22023"),
        ("retention = '-P1D'", "22023"),
        ("retention = 'P-1D'", "22023"),
        ("retention = 'PinfD'", "22023"),
        ("retention = 'P1e3D'", "22023"),
        ("retention = 'P99999Y'", "22023"),
        ("retention = 'ten years'", "22023"),
        ("retention = 'P1YT'", "22023"),
        ("retention = 'P6M'", "ok"),
        ("update_frequency = 'PT15M'", "ok"),
        ("update_frequency = 'P2W'", "ok"),
        ("retention_column = 'b'", "ok"),
        ("retention_column = 'a'", "22023"),
        ("retention_column = 'c'", "42703"),
        ("allowed_purposes = 'a,dd'", "ok"),
        ("allowed_purposes = ''", "ok"),
        ("allowed_purposes = 'f'", "22023"),
        ("allowed_purposes = 'a,'", "22023"),
        ("requires_agreement = on", "ok"),
        ("requires_agreement = 'maybe'", "22023"),
        ("fillfactor = 70", "22023"),
        ("classification = 'open', classification = 'open'", "22023"),
    ];
    for (option, expected) in options {
        let create = format!("CREATE TABLE health.t (a int, b date) WITH ({option})");
        script(&[("officer", create.as_str(), expected)]);
        let alter = format!("ALTER TABLE health.t SET ({option})");
        script(&[
            ("officer", "CREATE TABLE health.t (a int, b date)", "ok"),
            ("officer", alter.as_str(), expected),
        ]);
    }
}

#[test]
fn what_is_not_enforced_is_not_declared() {
    let refused = [
        "CREATE TABLE health.t (a float8 PRIMARY KEY)",
        "CREATE TABLE health.t (a int UNIQUE DEFERRABLE)",
        "CREATE TABLE health.t (a int, UNIQUE NULLS NOT DISTINCT (a))",
        "CREATE TABLE health.t (a int[], PRIMARY KEY (a))",
        "CREATE TABLE health.t (a int REFERENCES u (a))",
        "CREATE TABLE health.t (a int, FOREIGN KEY (a) REFERENCES u (a))",
        "CREATE TABLE health.t (a int GENERATED ALWAYS AS IDENTITY)",
        "CREATE TABLE health.t (a text COLLATE \"C\")",
        "CREATE TABLE health.t (a int) PARTITION BY (a)",
        "CREATE TABLE health.t (a int) INHERITS (u)",
        "CREATE TABLE health.t (LIKE u)",
        "CREATE TEMPORARY TABLE t (a int)",
        "CREATE TABLE health.t (a int) ON COMMIT DROP",
        "CREATE TABLE health.t ()",
        "CREATE TABLE health.t (a numeric)",
        "CREATE TABLE health.t (a int CHECK (a IN (SELECT 1)))",
        "CREATE TABLE health.t (a int DEFAULT (SELECT 1))",
        "CREATE TABLE health.t (a int, b int DEFAULT a)",
        "CREATE TABLE other.health.t (a int)",
    ];
    for sql in refused {
        script(&[("officer", sql, "0A000")]);
    }
}

#[test]
fn names_are_resolved_and_checked() {
    let state = script(&[
        ("officer", "CREATE TABLE T (A int)", "ok"),
        ("officer", "CREATE TABLE kho.health.t (a int)", "42P07"),
        ("officer", "CREATE TABLE IF NOT EXISTS t (a nonsense)", "ok 42P07"),
        ("clerk", "CREATE TABLE t (a int)", "42P07"),
        ("reader", "CREATE TABLE t2 (a int)", "42501"),
        ("stranger", "CREATE TABLE t2 (a int)", "3F000"),
        ("stranger", "CREATE TABLE health.t2 (a int)", "3F000"),
        ("officer", "CREATE TABLE kho.t2 (a int)", "42501"),
        ("officer", "CREATE TABLE pg_catalog.t2 (a int)", "42501"),
        ("officer", "CREATE TABLE a.b.c.d (a int)", "42601"),
        ("officer", "CREATE TABLE t2 (a int, A text)", "42701"),
        ("officer", "CREATE TABLE t2 (a int, \"A\" text)", "42701"),
        ("officer", "CREATE TABLE t2 (_commit_version int)", "42939"),
        ("officer", "CREATE TABLE t2 (a int NULL NOT NULL)", "42601"),
        ("officer", "CREATE TABLE t2 (a int, CHECK (b > 0))", "42703"),
        (
            "officer",
            "CREATE TABLE t2 (a int CONSTRAINT x CHECK (a > 0), CONSTRAINT x CHECK (a > 1))",
            "42710",
        ),
        ("officer", "CREATE TABLE t2 (a int CHECK (a > 0) CHECK (a > 1))", "ok"),
        ("officer", "CREATE TABLE t3 AS SELECT 1", "ok"),
        ("officer", "CREATE TABLE t4 (a int) AS SELECT 1", "0A000"),
    ]);
    let checks = &relation(&state, "health.t2").table().unwrap().checks;
    let names: Vec<&str> = checks.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["t2_a_check", "t2_a_check1"]);
    assert_eq!(relation(&state, "health.t3").columns.len(), 2);
}

#[test]
fn columns_come_and_go_with_ids_of_their_own() {
    let state = script(&[
        (
            "officer",
            "CREATE TABLE t (a int, b date, c int CHECK (c > 0)) WITH (retention_column = 'b')",
            "ok",
        ),
        ("officer", "ALTER TABLE t ADD COLUMN d text DEFAULT 'x'", "ok"),
        ("officer", "ALTER TABLE t ADD COLUMN d text", "42701"),
        ("officer", "ALTER TABLE t ADD COLUMN IF NOT EXISTS d text", "ok 42701"),
        ("officer", "ALTER TABLE t DROP COLUMN d", "ok"),
        ("officer", "ALTER TABLE t ADD d real PRIMARY KEY", "0A000"),
        ("officer", "ALTER TABLE t ADD d int", "ok"),
        ("officer", "ALTER TABLE t DROP COLUMN b", "2BP01"),
        ("officer", "ALTER TABLE t DROP COLUMN c", "2BP01"),
        ("officer", "ALTER TABLE t DROP COLUMN nothing", "42703"),
        ("officer", "ALTER TABLE t DROP COLUMN IF EXISTS nothing", "ok 00000"),
        ("officer", "ALTER TABLE t RENAME COLUMN c TO a", "42701"),
        ("officer", "ALTER TABLE t RENAME COLUMN c TO \"Số lượng\"", "ok"),
        ("officer", "ALTER TABLE t RENAME nothing TO x", "42703"),
        ("officer", "ALTER TABLE t ALTER COLUMN a TYPE bigint", "0A000"),
        ("officer", "ALTER TABLE t ADD COLUMN x int, DROP COLUMN a", "0A000"),
    ]);
    let table = relation(&state, "health.t");
    let columns: Vec<(u32, &str)> =
        table.columns.iter().map(|it| (it.id, it.name.as_str())).collect();
    assert_eq!(columns, [(1, "a"), (2, "b"), (3, "Số lượng"), (5, "d")]);
    let checks = &table.table().unwrap().checks;
    assert_eq!(checks[0].expression.value(), Some("\"Số lượng\" > 0"));
    let state = run(&state, "officer", "ALTER TABLE t DROP COLUMN \"Số lượng\" CASCADE").unwrap();
    assert!(relation(&state.state, "health.t").table().unwrap().checks.is_empty());
}

#[test]
fn rows_are_checked_for_new_rules_and_for_no_others() {
    let state = script(&[("officer", "CREATE TABLE t (a int, b int)", "ok")]);
    let checked = |sql: &str| run(&state, "officer", sql).unwrap().checks_rows;
    assert!(checked("ALTER TABLE t ALTER a SET NOT NULL"));
    assert!(checked("ALTER TABLE t ADD CHECK (a < b)"));
    assert!(checked("ALTER TABLE t ALTER b SET DEFAULT 1, ADD CONSTRAINT p CHECK (b > 0)"));
    assert!(checked("ALTER TABLE t ADD c int NOT NULL DEFAULT 1 CHECK (c > 0)"));
    assert!(!checked("ALTER TABLE t ADD c int DEFAULT 1"));
    assert!(!checked("ALTER TABLE t ALTER a SET NOT NULL, ALTER a DROP NOT NULL"));
}

#[test]
fn options_can_be_taken_back() {
    let state = script(&[
        (
            "officer",
            "CREATE TABLE t (a date) WITH (classification = 'personal', retention = 'P1Y',
             retention_column = 'a', allowed_purposes = 'c', requires_agreement = true)",
            "ok",
        ),
        ("officer", "ALTER TABLE t RESET (fillfactor)", "22023"),
        ("clerk", "ALTER TABLE health.t RESET (retention)", "42P01"),
        ("officer", "ALTER TABLE IF EXISTS u RESET (retention)", "ok 00000"),
        ("officer", "ALTER TABLE t RESET (retention, requires_agreement)", "ok"),
    ]);
    let governance = &relation(&state, "health.t").table().unwrap().governance;
    assert!(governance.retention.is_none() && governance.retention_column == Some(1));
    assert!(!governance.requires_agreement);
    assert_eq!(governance.classification, Classification::Personal);
}

#[test]
fn a_table_moves_where_its_owner_may_create() {
    let state = script(&[
        ("clerk", "CREATE TABLE t (a int)", "ok"),
        ("clerk", "CREATE VIEW v AS SELECT t.a FROM health.t", "ok"),
        ("admin", "CREATE SCHEMA desk AUTHORIZATION clerk", "ok"),
        ("admin", "CREATE SCHEMA other", "ok"),
        ("clerk", "ALTER TABLE t SET SCHEMA other", "3F000"),
        ("clerk", "ALTER VIEW t SET SCHEMA desk", "42809"),
        ("clerk", "ALTER TABLE health.t SET SCHEMA desk", "ok"),
        ("clerk", "ALTER TABLE desk.t SET SCHEMA desk", "ok"),
    ]);
    assert!(state.relation(state.schema("desk").unwrap().oid, "t").is_some());
    let query = relation(&state, "health.v").view().unwrap().query.value().unwrap().to_owned();
    assert_eq!(query, "SELECT t.a FROM desk.t AS t");
}

#[test]
fn constraints_can_be_taken_away() {
    let state = script(&[
        ("officer", "CREATE TABLE t (a int NOT NULL DEFAULT 1 CHECK (a > 0))", "ok"),
        ("officer", "ALTER TABLE t RENAME CONSTRAINT t_a_check TO p", "ok"),
        ("officer", "ALTER TABLE t DROP CONSTRAINT t_a_check", "42704"),
        ("officer", "ALTER TABLE t DROP CONSTRAINT IF EXISTS t_a_check", "ok 00000"),
        (
            "officer",
            "ALTER TABLE t DROP CONSTRAINT p, ALTER a DROP NOT NULL, ALTER a DROP DEFAULT",
            "ok",
        ),
        ("officer", "ALTER TABLE t ADD CHECK (a > 0) NOT VALID", "0A000"),
        ("officer", "ALTER TABLE t ADD UNIQUE (a) DEFERRABLE", "0A000"),
        ("officer", "ALTER TABLE t ENABLE ROW LEVEL SECURITY", "ok"),
    ]);
    let table = relation(&state, "health.t");
    assert!(table.table().unwrap().checks.is_empty());
    assert!(!table.columns[0].not_null && table.columns[0].default.is_none());
}

#[test]
fn tables_change_names_and_hands_and_go() {
    let state = script(&[
        ("clerk", "CREATE TABLE t (a int)", "ok"),
        ("clerk", "GRANT SELECT ON t TO reader WITH GRANT OPTION", "ok"),
        ("reader", "ALTER TABLE t RENAME TO u", "42501"),
        ("stranger", "ALTER TABLE health.t RENAME TO u", "42P01"),
        ("stranger", "ALTER TABLE IF EXISTS health.t RENAME TO u", "ok 00000"),
        ("clerk", "ALTER TABLE t RENAME TO u", "ok"),
        ("clerk", "ALTER TABLE u OWNER TO officer", "42501"),
        ("admin", "GRANT officer TO clerk", "ok"),
        ("clerk", "ALTER TABLE u OWNER TO officer", "ok"),
        ("officer", "ALTER TABLE u OWNER TO reader", "42501"),
        ("reader", "DROP TABLE u", "42501"),
        ("stranger", "DROP TABLE health.u", "42P01"),
        ("officer", "DROP VIEW u", "42809"),
    ]);
    let table = relation(&state, "health.u");
    assert_eq!(table.owner, 16385);
    assert_eq!(table.grants[0].grantor, 16385);
    let state = run(&state, "officer", "DROP TABLE IF EXISTS u, nothing").unwrap();
    assert!(state.state.relations.is_empty());
    assert_eq!(state.notices.len(), 1);
}

#[test]
fn keys_get_names_and_go_with_their_columns() {
    let names = |state: &State| -> Vec<String> {
        relation(state, "health.t").keys().iter().map(|key| key.name.clone()).collect()
    };
    let create = "CREATE TABLE t (a int UNIQUE, b int, c int, UNIQUE (c, b), UNIQUE (a), \
                  CONSTRAINT own UNIQUE (b), PRIMARY KEY (b))";
    let state = script(&[("officer", create, "ok")]);
    assert_eq!(names(&state), ["t_pkey", "t_a_key", "t_c_b_key", "own"]);
    let columns: Vec<bool> =
        relation(&state, "health.t").columns.iter().map(|column| column.not_null).collect();
    assert_eq!(columns, [false, true, false]);
    let state = script(&[
        ("officer", create, "ok"),
        ("officer", "CREATE TABLE t_pkey (a int)", "42P07"),
        ("officer", "CREATE TABLE u (a int CONSTRAINT own UNIQUE)", "42P07"),
        ("officer", "ALTER TABLE t ADD CONSTRAINT own UNIQUE (a)", "42P07"),
        ("officer", "ALTER TABLE t ADD PRIMARY KEY (a)", "42P16"),
        ("officer", "ALTER TABLE t ADD UNIQUE (a)", "ok"),
        ("officer", "ALTER TABLE t ALTER b DROP NOT NULL", "42P16"),
        ("officer", "ALTER TABLE t RENAME CONSTRAINT own TO mine", "ok"),
        ("officer", "ALTER TABLE t RENAME CONSTRAINT mine TO t_pkey", "42P07"),
        ("officer", "ALTER TABLE t DROP CONSTRAINT t_a_key", "ok"),
        ("officer", "ALTER TABLE t DROP COLUMN c", "ok"),
    ]);
    assert_eq!(names(&state), ["t_pkey", "mine", "t_a_key1"]);
}
