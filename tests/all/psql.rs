//! psql, as a person at a terminal uses it: `\d` and its family show the truth.

use std::fs;

use kho_tests::kho::Kho;
use kho_tests::psql::{script, with_arguments};

/// A small city: an agency's schema, a table, a view, a reader.
fn city() -> Kho {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE ROLE reader LOGIN PASSWORD 'reader'");
    admin.run("CREATE ROLE stranger LOGIN PASSWORD 'stranger'");
    admin.run("CREATE SCHEMA health");
    admin.run(
        "CREATE TABLE health.patient (id bigint NOT NULL, full_name text, ward varchar(20), \
         fee numeric(10, 2) DEFAULT 0, CONSTRAINT fee_paid CHECK (fee >= 0))",
    );
    admin.run("COMMENT ON TABLE health.patient IS 'Bệnh nhân'");
    admin.run("INSERT INTO health.patient VALUES (1, 'Đào', 'Phú Hội', 2.50), (2, NULL, '', 0)");
    admin.run("CREATE VIEW health.per_ward AS SELECT ward, count(*) AS n FROM health.patient GROUP BY ward");
    admin.run("GRANT USAGE ON SCHEMA health TO reader");
    admin.run("GRANT SELECT ON health.patient TO reader");
    kho
}

fn shown(kho: &Kho, role: &str, command: &str) -> String {
    let output = with_arguments(kho, role, &["--command", command], "");
    assert!(output.stderr.is_empty(), "{command}: {}", output.stderr);
    output.expect_success()
}

fn assert_shows(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing from:\n{text}");
    }
}

#[test]
fn describing_a_table_shows_its_columns_and_checks() {
    let kho = city();
    let table = shown(&kho, "admin", r"\d health.patient");
    assert_shows(&table, &["Table \"health.patient\"", "bigint", "not null", "fee_paid"]);
    assert_shows(&table, &["character varying(20)", "numeric(10,2)"]);
    kho.admin()
        .run("ALTER TABLE health.patient ADD PRIMARY KEY (id), ADD UNIQUE (full_name, ward)");
    kho.admin().run("CREATE INDEX by_ward ON health.patient (ward, id)");
    let keyed = shown(&kho, "admin", r"\d health.patient");
    assert_shows(
        &keyed,
        &[
            "Indexes:",
            "\"patient_pkey\" PRIMARY KEY, btree (id)",
            "\"patient_full_name_ward_key\" UNIQUE CONSTRAINT, btree (full_name, ward)",
            "\"by_ward\" btree (ward, id)",
        ],
    );
    assert_shows(&shown(&kho, "admin", r"\di health.*"), &["patient_pkey", "index", "patient"]);
    assert_shows(&shown(&kho, "admin", r"\d health.patient_pkey"), &["primary key, btree", "id"]);
    assert_shows(&shown(&kho, "admin", r"\d health.by_ward"), &["btree, for table", "ward"]);
    let more = shown(&kho, "admin", r"\d+ health.per_ward");
    assert_shows(&more, &["View \"health.per_ward\"", "ward", "bigint"]);
    let missing = with_arguments(&kho, "admin", &["--command", r"\d health.missing"], "");
    assert!(missing.stderr.contains("Did not find any relation"), "{missing:?}");
}

#[test]
fn lists_show_what_is_there() {
    let kho = city();
    assert_shows(&shown(&kho, "admin", r"\dt health.*"), &["health", "patient", "table", "admin"]);
    assert_shows(&shown(&kho, "admin", r"\dt+ health.*"), &["patient", "Bệnh nhân"]);
    assert_shows(&shown(&kho, "admin", r"\dv health.*"), &["per_ward", "view"]);
    assert_shows(&shown(&kho, "admin", r"\dn"), &["health", "admin"]);
    assert_shows(&shown(&kho, "admin", r"\du"), &["admin", "reader", "kho_admin", "Cannot login"]);
    assert_shows(&shown(&kho, "admin", r"\l"), &["kho", "UTF8"]);
    assert_shows(&shown(&kho, "admin", r"\dp health.*"), &["patient", "reader=r/admin"]);
    assert_shows(&shown(&kho, "admin", r"\df kho.*"), &["table_history", "table_changes"]);
    assert_shows(&shown(&kho, "admin", r"\d health.*"), &["patient", "per_ward"]);
    assert_shows(&shown(&kho, "admin", r"\conninfo"), &["kho", "admin"]);
    assert_shows(&shown(&kho, "admin", r"\df kho.restore_table"), &["dataset text", "proc"]);
    assert_shows(&shown(&kho, "admin", r"\d kho.datasets"), &["View", "classification"]);
    for command in [r"\df", r"\dT", r"\dx"] {
        shown(&kho, "admin", command);
    }
    // The search path leads to nothing, and there is no index and no sequence anywhere.
    for command in [r"\d", r"\dt", r"\di *.*", r"\ds *.*"] {
        let output = with_arguments(&kho, "admin", &["--command", command], "");
        let said = output.stdout + &output.stderr;
        assert!(output.success && said.starts_with("Did not find any relation"), "{said}");
    }
}

#[test]
fn rights_on_columns_and_rights_to_come_are_listed() {
    let kho = city();
    let mut admin = kho.admin();
    admin.run("GRANT SELECT (id), UPDATE (id, ward) ON health.patient TO stranger");
    let rights = shown(&kho, "admin", r"\dp health.patient");
    let parts = ["Column privileges", "id:", "stranger=rw/admin", "ward:", "stranger=w/admin"];
    assert_shows(&rights, &parts);
    admin.run("ALTER DEFAULT PRIVILEGES IN SCHEMA health GRANT SELECT ON TABLES TO reader");
    admin.run("ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO reader");
    let coming = shown(&kho, "admin", r"\ddp");
    assert_shows(&coming, &["health", "table", "reader=r/admin", "schema", "admin=UC/admin"]);
    assert_shows(&shown(&kho, "admin", r"\ddp health"), &["reader=r/admin"]);
    admin.run("CREATE ROLE inspector BYPASSRLS");
    assert_shows(&shown(&kho, "admin", r"\du inspector"), &["Cannot login, Bypass RLS"]);
}

#[test]
fn lists_do_not_show_what_is_hidden() {
    let kho = city();
    assert_shows(&shown(&kho, "reader", r"\dt health.*"), &["patient"]);
    for command in [r"\dt health.*", r"\d health.patient", r"\dv health.*", r"\dp health.*"] {
        let output = with_arguments(&kho, "stranger", &["--command", command], "");
        let text = output.stdout + &output.stderr;
        assert!(!text.contains("fee_paid") && !text.contains("varchar"), "{command}: {text}");
        assert!(!text.contains("per_ward"), "{command}: {text}");
    }
    assert!(!shown(&kho, "stranger", r"\dn").contains("health"));
}

#[test]
fn copy_goes_both_ways() {
    let kho = city();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.csv");
    let command = format!(
        r"\copy (SELECT * FROM health.patient ORDER BY id) TO '{}' CSV HEADER",
        out.display()
    );
    assert_eq!(shown(&kho, "admin", &command).trim(), "COPY 2");
    let csv = fs::read_to_string(&out).unwrap();
    assert_eq!(csv, "id,full_name,ward,fee\n1,Đào,Phú Hội,2.50\n2,,\"\",0.00\n");
    shown(
        &kho,
        "admin",
        "CREATE TABLE health.again (id bigint, full_name text, ward text, fee numeric(10,2))",
    );
    let command = format!(r"\copy health.again FROM '{}' CSV HEADER", out.display());
    assert_eq!(shown(&kho, "admin", &command).trim(), "COPY 2");
    let difference = "SELECT count(*) FROM (SELECT * FROM health.patient \
                      EXCEPT SELECT * FROM health.again) AS d";
    assert_eq!(script(&kho, "admin", difference).expect_success().trim(), "0");
    // A table of psql's own, from its standard input.
    let typed = "COPY health.again (id) FROM STDIN;\n77\n\\.\nSELECT count(*) FROM health.again;\n";
    assert_eq!(script(&kho, "admin", typed).expect_success().trim(), "3");
}

#[test]
fn several_commands_and_stop_on_error() {
    let kho = city();
    let several =
        with_arguments(&kho, "admin", &["-At", "-c", "SELECT 1; SELECT 2", "-c", "SELECT 3"], "");
    assert_eq!(several.expect_success(), "1\n2\n3\n");
    let stopped = with_arguments(
        &kho,
        "admin",
        &["-At", "-v", "ON_ERROR_STOP=1"],
        "SELECT 1;\nSELECT 1/0;\nSELECT 2;\n",
    );
    assert!(!stopped.success);
    assert_eq!(stopped.stdout, "1\n");
    assert!(stopped.stderr.contains("division by zero"), "{}", stopped.stderr);
    let one = with_arguments(
        &kho,
        "admin",
        &["-At", "--single-transaction", "-v", "ON_ERROR_STOP=1"],
        "DELETE FROM health.patient;\nSELECT 1/0;\n",
    );
    assert!(!one.success);
    assert_eq!(script(&kho, "admin", "SELECT count(*) FROM health.patient").stdout.trim(), "2");
}

/// `FETCH_COUNT` makes a cursor of every query, `ON_ERROR_ROLLBACK` a savepoint of every statement,
/// and `\gdesc` asks what a query would give.
#[test]
fn cursors_savepoints_and_descriptions() {
    let kho = city();
    let counted = "\\set FETCH_COUNT 100\n\
                   SELECT x FROM generate_series(1, 1050) AS g (x);\n\
                   SELECT id, name FROM health.missing;\n\
                   SELECT 'on';\n";
    let output = script(&kho, "admin", counted);
    let rows: Vec<&str> = output.stdout.lines().collect();
    assert_eq!((rows.len(), rows[0], rows[1049], rows[1050]), (1051, "1", "1050", "on"));
    assert!(output.stderr.contains("health.missing"), "{}", output.stderr);
    let forgiving = "\\set ON_ERROR_ROLLBACK on\n\
                     BEGIN;\n\
                     DELETE FROM health.patient WHERE id = 1;\n\
                     SELECT 1 / 0;\n\
                     COMMIT;\n\
                     SELECT count(*) FROM health.patient;\n";
    let output = script(&kho, "admin", forgiving);
    assert!(output.stderr.contains("division by zero"), "{}", output.stderr);
    assert_eq!(output.stdout.trim(), "1");
    let described = script(&kho, "admin", "SELECT id, fee FROM health.patient \\gdesc\n");
    assert_eq!(described.expect_success(), "id|bigint\nfee|numeric(10,2)\n");
    let kept = "SELECT id AS who FROM health.patient WHERE id = 2 \\gset\n\\echo :who\n";
    assert_eq!(script(&kho, "admin", kept).expect_success(), "2\n");
}

#[test]
fn an_error_points_at_its_place() {
    let kho = city();
    let refused = script(&kho, "admin", "SELECT full_nam FROM health.patient;");
    assert!(refused.stderr.contains("full_nam"), "{}", refused.stderr);
    assert!(refused.stderr.contains("ERROR:"), "{}", refused.stderr);
    let syntax = script(&kho, "admin", "SELECT 1 FRO x;");
    assert!(syntax.stderr.contains("LINE 1:"), "{}", syntax.stderr);
}

#[test]
fn tls_is_there_for_who_asks() {
    let kho = Kho::start();
    let mut command = kho_tests::psql::psql(&kho, "admin");
    command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", kho.certificate());
    command.args(["-At", "-c", "SELECT 1"]);
    let output = kho_tests::output::run(&mut command, "", std::time::Duration::from_secs(60));
    assert_eq!(output.expect_success(), "1\n");
}

#[test]
fn a_wrong_password_is_told_apart_from_nothing() {
    let kho = Kho::start();
    let mut command = kho_tests::psql::psql(&kho, "admin");
    command.env("PGPASSWORD", "wrong").args(["-c", "SELECT 1"]);
    let output = kho_tests::output::run(&mut command, "", std::time::Duration::from_secs(60));
    assert!(!output.success);
    assert!(output.stderr.contains("password authentication failed"), "{}", output.stderr);
}
