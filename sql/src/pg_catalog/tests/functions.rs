//! The functions and the constructs that the rewriting makes plannable.

use super::{ADMIN, HEALTH, OFFICER, PATIENT, PER_WARD, WARD, ask, officer, view_of};

fn one(expression: &str) -> String {
    match ask(&officer(), &format!("SELECT {expression}")) {
        Ok(rows) => rows[0][0].clone(),
        Err(error) => panic!("{expression}: {error:?}"),
    }
}

#[test]
fn a_session_knows_itself() {
    for (call, expected) in [
        ("current_user", "health_officer"),
        ("session_user", "health_officer"),
        ("current_role", "health_officer"),
        ("user", "health_officer"),
        ("current_database()", "kho"),
        ("current_catalog", "kho"),
        ("pg_catalog.current_schemas(true)", "[pg_catalog]"),
        ("pg_backend_pid()", "42"),
        ("current_setting('server_version')", "15.0"),
        ("current_setting('nothing', true)", "∅"),
        ("pg_is_in_recovery()", "false"),
        ("pg_encoding_to_char(6)", "UTF8"),
    ] {
        assert_eq!(one(call), expected, "{call}");
    }
    assert!(one("version()").starts_with("PostgreSQL 15.0 (Kho "));
    assert_eq!(
        ask(&officer(), "SELECT current_setting('nothing')").unwrap_err().sqlstate(),
        "42704"
    );
    assert_eq!(ask(&officer(), "SELECT txid_current()").unwrap_err().sqlstate(), "0A000");
}

#[test]
fn names_and_numbers_are_cast() {
    for (cast, expected) in [
        ("'health.patient'::regclass", "health.patient"),
        ("'health.patient'::regclass::oid", "16390"),
        ("16390::regclass::text", "health.patient"),
        ("'pg_class'::regclass", "pg_class"),
        ("'information_schema.tables'::regclass", "information_schema.tables"),
        ("1043::regtype", "character varying"),
        ("'int4'::regtype::oid", "23"),
        ("'timestamp with time zone'::regtype::oid", "1184"),
        ("'health'::regnamespace::oid", "16389"),
        ("'health_officer'::regrole", "health_officer"),
        ("0::regclass", "-"),
        ("99::regclass", "99"),
        ("'a'::name", "a"),
        ("'a'::\"char\"", "a"),
        ("'7'::oid", "7"),
        ("'{a,\"b,c\",NULL}'::text[]", "[a, b,c, ∅]"),
        ("format_type(1700, 655366)", "numeric(10,2)"),
        ("format_type(1009, NULL)", "text[]"),
        ("format_type(12345, NULL)", "???"),
    ] {
        assert_eq!(one(cast), expected, "{cast}");
    }
    let same = "SELECT relname FROM pg_class WHERE oid = 'health.patient'::regclass";
    assert_eq!(ask(&officer(), same).unwrap(), [["patient"]]);
}

#[test]
fn rights_are_told_as_they_are() {
    let all = [PATIENT, PER_WARD];
    let cases = [
        (OFFICER, "has_table_privilege('health.patient', 'DELETE')", "true"),
        (OFFICER, "has_table_privilege('health.patient', 'SELECT WITH GRANT OPTION')", "true"),
        (WARD, "has_table_privilege('health.patient', 'SELECT')", "true"),
        (WARD, "has_table_privilege('health.patient', 'INSERT')", "false"),
        (WARD, "has_table_privilege('health.patient', 'INSERT, SELECT')", "true"),
        (WARD, "has_table_privilege('health.patient', 'SELECT WITH GRANT OPTION')", "false"),
        (WARD, "has_table_privilege('health.per_ward', 'SELECT')", "false"),
        (WARD, "has_table_privilege('health_officer', 16390, 'TRUNCATE')", "true"),
        (WARD, "has_column_privilege('health.patient', 'ward', 'SELECT')", "true"),
        (WARD, "has_any_column_privilege('health.patient', 'UPDATE')", "false"),
        (WARD, "has_schema_privilege('health', 'USAGE')", "true"),
        (WARD, "has_schema_privilege('health', 'CREATE')", "false"),
        (WARD, "has_database_privilege('kho', 'CONNECT')", "true"),
        (WARD, "has_database_privilege('kho', 'CREATE')", "false"),
        (ADMIN, "has_database_privilege('kho', 'CREATE')", "true"),
        (ADMIN, "has_table_privilege('health.patient', 'SELECT')", "false"),
        (WARD, "has_table_privilege('pg_class', 'SELECT')", "true"),
        (WARD, "has_table_privilege('pg_class', 'DELETE')", "false"),
        (WARD, "pg_has_role('analyst', 'MEMBER')", "true"),
        (WARD, "pg_has_role('health_officer', 'USAGE')", "false"),
        (WARD, "pg_has_role('ward_office', 'analyst', 'USAGE WITH ADMIN OPTION')", "false"),
    ];
    for (role, call, expected) in cases {
        let view = view_of(role, &all, &[HEALTH]);
        let rows = ask(&view, &format!("SELECT {call}"));
        assert_eq!(rows.unwrap(), [[expected]], "role {role}: {call}");
    }
    for (call, state) in [
        ("has_table_privilege('health.patient', 'FLY')", "22023"),
        ("has_table_privilege('nobody', 'health.patient', 'SELECT')", "42704"),
        ("has_column_privilege('health.patient', 'nothing', 'SELECT')", "42703"),
    ] {
        let error = ask(&officer(), &format!("SELECT {call}")).unwrap_err();
        assert_eq!(error.sqlstate(), state, "{call}");
    }
}

#[test]
fn texts_are_quoted_and_sizes_shown() {
    for (call, expected) in [
        ("quote_ident('Ward')", "\"Ward\""),
        ("quote_ident('ward')", "ward"),
        ("quote_ident('select')", "\"select\""),
        ("quote_literal('it''s')", "'it''s'"),
        ("quote_nullable(NULL)", "NULL"),
        ("pg_size_pretty(10239)", "10239 bytes"),
        ("pg_size_pretty(10240)", "10 kB"),
        ("pg_size_pretty(7675000)", "7495 kB"),
        ("pg_size_pretty(pg_table_size('health.patient'))", "∅"),
        ("format('%s is %I or %L, 100%%', 'a', 'B', 'c')", "a is \"B\" or 'c', 100%"),
        ("'a_b' LIKE 'a/_b' ESCAPE '/'", "true"),
        ("'axb' LIKE 'a/_b' ESCAPE '/'", "false"),
        ("'a\\b' NOT LIKE 'a\\%' ESCAPE '/'", "false"),
        ("array_upper(ARRAY[1,2,3], 1)", "3"),
        ("array_lower(ARRAY[1,2,3], 1)", "1"),
    ] {
        assert_eq!(one(call), expected, "{call}");
    }
}

#[test]
fn correlated_subqueries_over_system_tables_are_answered() {
    let view = officer();
    let columns = "SELECT c.relname, ARRAY(SELECT a.attname FROM pg_attribute a \
                   WHERE a.attrelid = c.oid AND a.attnum > 5 ORDER BY a.attnum DESC) \
                   FROM pg_class c WHERE c.relnamespace = 16389 ORDER BY 1";
    assert_eq!(ask(&view, columns).unwrap(), [["patient", "[tags, amount]"], ["per_ward", "[]"]]);
    let not_equal = "SELECT (SELECT count(*) FROM pg_class x WHERE x.oid < c.oid \
                     AND x.relnamespace = 16389) FROM pg_class c WHERE c.relname = 'per_ward'";
    assert_eq!(ask(&view, not_equal).unwrap(), [["1"]]);
    let two = "SELECT (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid) \
               FROM pg_class c WHERE c.relname = 'patient'";
    assert_eq!(ask(&view, two).unwrap_err().sqlstate(), "21000");
}

#[test]
fn the_functions_behind_subqueries_are_no_back_door() {
    let view = officer();
    for call in ["pg_apply_scalar(relname)", "pg_apply_scalar(1)"] {
        let error = ask(&view, &format!("SELECT {call} FROM pg_class")).unwrap_err();
        assert_eq!(error.sqlstate(), "0A000", "{call}");
    }
    let text = "SELECT pg_apply_scalar('SELECT 1 FROM health.patient')";
    assert!(ask(&view, text).is_err(), "no dataset is in reach of it");
}

#[test]
fn what_needs_no_rewriting_is_left_alone() {
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;
    for sql in [
        "SELECT a, b AS c FROM s.t WHERE a = '{x}' AND EXISTS (SELECT 1 FROM u WHERE u.a = t.a)",
        "SELECT (SELECT max(u.b) FROM s.u WHERE u.a = t.a) FROM s.t ORDER BY \"user\"",
        "SELECT coalesce(a, '{}'), x::TEXT, y::INT[] FROM t",
        "SELECT * FROM t JOIN LATERAL (SELECT 1) AS x ON true",
        "INSERT INTO s.t (a) VALUES ('x'), (DEFAULT)",
        "UPDATE s.t SET a = 1 WHERE b COLLATE \"vi_VN\" = 'x'",
    ] {
        let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
        let before = statement.to_string();
        crate::pg_catalog::rewrite(&mut statement);
        assert_eq!(statement.to_string(), before);
    }
}
