//! Schemas and comments.

use super::*;

#[test]
fn schemas_are_made_by_who_manages_accounts_and_kept_by_their_owners() {
    let state = script(&[
        ("officer", "CREATE SCHEMA air", "42501"),
        ("admin", "CREATE SCHEMA air AUTHORIZATION clerk", "ok"),
        ("admin", "CREATE SCHEMA AUTHORIZATION reader", "ok"),
        ("admin", "CREATE SCHEMA air", "42P06"),
        ("admin", "CREATE SCHEMA IF NOT EXISTS air", "ok 42P06"),
        ("admin", "CREATE SCHEMA pg_x", "42939"),
        ("admin", "CREATE SCHEMA kho", "42939"),
        ("admin", "CREATE SCHEMA information_schema", "42939"),
        ("admin", "CREATE SCHEMA x AUTHORIZATION nobody", "42704"),
        ("admin", "ALTER SCHEMA air RENAME TO wind", "42501"),
        ("clerk", "ALTER SCHEMA air RENAME TO health", "42P06"),
        ("clerk", "ALTER SCHEMA air RENAME TO \"Không khí\"", "ok"),
        ("clerk", "ALTER SCHEMA \"Không khí\" OWNER TO officer", "42501"),
        ("admin", "GRANT officer TO clerk", "ok"),
        ("clerk", "ALTER SCHEMA \"Không khí\" OWNER TO officer", "ok"),
        ("stranger", "ALTER SCHEMA health RENAME TO x", "3F000"),
        ("reader", "DROP SCHEMA health", "42501"),
        ("stranger", "DROP SCHEMA health", "3F000"),
        ("stranger", "DROP SCHEMA IF EXISTS health", "ok 00000"),
        ("officer", "CREATE TABLE health.t (a int)", "ok"),
        ("officer", "DROP SCHEMA health", "2BP01"),
        ("officer", "DROP SCHEMA health, \"Không khí\" CASCADE", "ok 00000"),
    ]);
    assert!(state.relations.is_empty());
    let names: Vec<&str> = state.schemas.values().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["reader"]);
}

#[test]
fn names_that_are_too_long_are_cut_as_postgresql_cuts_them() {
    let long = format!("CREATE SCHEMA {}", "ê".repeat(32));
    let state = script(&[("admin", long.as_str(), "ok 42622")]);
    assert!(state.schema(&"ê".repeat(31)).is_some());
}

#[test]
fn comments_are_the_owners() {
    let state = script(&[
        ("officer", "CREATE TABLE health.t (a int)", "ok"),
        ("officer", "COMMENT ON TABLE t IS 'Bệnh nhân'", "ok"),
        ("officer", "COMMENT ON COLUMN kho.health.t.a IS 'số'", "ok"),
        ("officer", "COMMENT ON COLUMN t.b IS 'số'", "42703"),
        ("officer", "COMMENT ON COLUMN a IS 'số'", "42601"),
        ("officer", "COMMENT ON VIEW t IS 'x'", "42809"),
        ("officer", "COMMENT ON SCHEMA health IS 'x'", "ok"),
        ("officer", "COMMENT ON SCHEMA health IS ''", "ok"),
        ("officer", "COMMENT ON INDEX t IS 'x'", "0A000"),
        ("officer", "COMMENT ON ROLE clerk IS 'x'", "42501"),
        ("admin", "COMMENT ON ROLE clerk IS 'x'", "ok"),
        ("admin", "COMMENT ON TABLE health.t IS 'x'", "42P01"),
        ("reader", "COMMENT ON SCHEMA health IS 'x'", "42501"),
        ("officer", "COMMENT ON TABLE other.health.t IS 'x'", "0A000"),
    ]);
    let table = relation(&state, "health.t");
    assert_eq!(table.comment.as_ref().unwrap().value(), Some("Bệnh nhân"));
    assert_eq!(table.columns[0].comment.as_ref().unwrap().value(), Some("số"));
    assert!(state.schema("health").unwrap().comment.is_none());
    assert!(state.role("clerk").unwrap().comment.is_some());
}
