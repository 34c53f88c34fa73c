//! Indexes: names, rights, and what goes with what.

use kho_catalog::state::KeyKind::{Index, Primary};

use super::*;

fn names(state: &State, table: &str) -> Vec<String> {
    relation(state, table).indexes().iter().map(|index| index.name.clone()).collect()
}

#[test]
fn an_index_is_searched_by_and_never_a_key() {
    let state = script(&[
        ("officer", "CREATE TABLE t (a int PRIMARY KEY, b text, c numeric(4, 1), d real)", "ok"),
        ("officer", "CREATE INDEX ON t (b, c)", "ok"),
        ("officer", "CREATE INDEX IF NOT EXISTS t_b_c_idx ON t (a)", "ok 42P07"),
        ("officer", "CREATE INDEX CONCURRENTLY own ON health.t USING btree (c)", "ok"),
        ("officer", "CREATE INDEX ON t (b ASC NULLS LAST, c)", "ok"),
    ]);
    assert_eq!(names(&state, "health.t"), ["t_b_c_idx", "own", "t_b_c_idx1"]);
    let table = relation(&state, "health.t");
    assert_eq!(table.keys().len(), 1);
    let searched = table.searched();
    let kinds: Vec<_> = searched.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [Primary, Index, Index, Index]);
    assert_eq!(searched[1].columns, [2, 3]);
}

#[test]
fn an_index_is_refused_where_it_would_promise_nothing() {
    script(&[
        ("officer", "CREATE TABLE t (a int UNIQUE, b text, d real, CHECK (a > 0))", "ok"),
        ("officer", "CREATE INDEX ON t (d)", "0A000"),
        ("officer", "CREATE INDEX ON t (a, a)", "0A000"),
        ("officer", "CREATE INDEX ON t (z)", "42703"),
        ("officer", "CREATE INDEX ON t (lower(b))", "0A000"),
        ("officer", "CREATE INDEX ON t (a) WHERE a > 1", "0A000"),
        ("officer", "CREATE INDEX ON t (a) INCLUDE (b)", "0A000"),
        ("officer", "CREATE INDEX ON t (a) NULLS NOT DISTINCT", "0A000"),
        ("officer", "CREATE INDEX ON t (b text_pattern_ops)", "0A000"),
        ("officer", "CREATE INDEX ON t (a DESC)", "0A000"),
        ("officer", "CREATE INDEX ON t (a NULLS FIRST)", "0A000"),
        ("officer", "CREATE INDEX ON t USING hash (a)", "0A000"),
        ("officer", "CREATE INDEX ON t USING gist (a)", "0A000"),
        ("officer", "CREATE INDEX ON t USING hash (a, b)", "0A000"),
        ("officer", "CREATE UNIQUE INDEX ON t (a)", "0A000"),
        ("officer", "CREATE INDEX health.x ON t (a)", "42601"),
        ("officer", "CREATE INDEX t ON t (a)", "42P07"),
        ("officer", "CREATE INDEX t_a_key ON t (a)", "42P07"),
        // A constraint that has no index leaves it its name.
        ("officer", "CREATE INDEX t_a_check ON t (a)", "ok"),
        ("officer", "ALTER TABLE t RENAME CONSTRAINT t_a_key TO t_a_check", "42P07"),
        ("officer", "ALTER TABLE t DROP CONSTRAINT IF EXISTS t_a_idx", "ok 00000"),
        ("officer", "CREATE VIEW v AS SELECT a FROM health.t", "ok"),
        ("officer", "CREATE INDEX ON v (a)", "42809"),
        ("clerk", "CREATE INDEX ON t (a)", "42P01"),
        ("officer", "GRANT SELECT ON t TO clerk", "ok"),
        ("clerk", "CREATE INDEX ON t (a)", "42501"),
        ("stranger", "CREATE INDEX ON health.t (a)", "42P01"),
    ]);
}

#[test]
fn an_index_goes_by_itself_and_with_its_columns() {
    let create = [
        ("clerk", "CREATE TABLE t (a int PRIMARY KEY, b text, c int)", "ok"),
        ("clerk", "CREATE INDEX one ON t (a, b)", "ok"),
        ("clerk", "CREATE INDEX two ON t (c)", "ok"),
        ("clerk", "CREATE INDEX three ON t (b)", "ok"),
    ];
    let state = script(&[&create[..], &[("clerk", "ALTER TABLE t DROP COLUMN b", "ok")]].concat());
    assert_eq!(names(&state, "health.t"), ["two"]);
    let state = script(&[&create[..], &[("clerk", "ALTER TABLE t RENAME b TO z", "ok")]].concat());
    assert_eq!(names(&state, "health.t"), ["one", "two", "three"]);
    let drops = [
        ("stranger", "DROP INDEX health.one", "3F000"),
        ("reader", "DROP INDEX one", "42704"),
        ("clerk", "GRANT SELECT ON t TO reader", "ok"),
        ("reader", "DROP INDEX one", "42501"),
        ("clerk", "DROP INDEX one, t_pkey", "2BP01"),
        ("clerk", "DROP INDEX t", "42809"),
        ("clerk", "DROP INDEX one, two", "ok"),
        ("clerk", "DROP INDEX one", "42704"),
        ("clerk", "DROP INDEX IF EXISTS one, three, nowhere.one", "ok 00000 00000"),
    ];
    let state = script(&[&create[..], &drops[..]].concat());
    assert!(names(&state, "health.t").is_empty());
    // As in PostgreSQL, who owns the schema may drop what is in it.
    let state = script(&[&create[..], &[("officer", "DROP INDEX two", "ok")]].concat());
    assert_eq!(names(&state, "health.t"), ["one", "three"]);
    assert_eq!(relation(&state, "health.t").keys().len(), 1);
}
