//! Rights on schemas and relations.

use super::*;

const TABLE: (&str, &str, &str) = ("officer", "CREATE TABLE health.t (a int)", "ok");

#[test]
fn owners_give_and_take() {
    let state = script(&[
        TABLE,
        ("officer", "GRANT SELECT, INSERT ON health.t TO reader, PUBLIC", "ok"),
        ("officer", "GRANT ALL PRIVILEGES ON TABLE t TO clerk", "ok"),
        ("officer", "REVOKE INSERT ON t FROM PUBLIC", "ok"),
        ("officer", "REVOKE DELETE ON t FROM reader", "ok"),
        ("officer", "REVOKE TRUNCATE, UPDATE, DELETE ON t FROM clerk", "ok"),
        ("officer", "GRANT SELECT ON t TO officer", "ok"),
        ("officer", "REVOKE SELECT ON t FROM officer", "0A000"),
        ("officer", "GRANT CREATE ON SCHEMA health TO reader", "ok"),
        ("officer", "REVOKE ALL ON SCHEMA health FROM clerk", "ok"),
    ]);
    assert_eq!(
        held(&state, &relation(&state, "health.t").grants),
        ["clerk:insert", "clerk:select", "public:select", "reader:insert", "reader:select"]
    );
    let schema = state.schema("health").unwrap();
    assert_eq!(held(&state, &schema.grants), ["reader:create", "reader:usage"]);
}

#[test]
fn what_is_not_supported_is_refused() {
    script(&[
        TABLE,
        ("officer", "GRANT REFERENCES ON t TO reader", "0A000"),
        ("officer", "GRANT TRIGGER ON t TO reader", "0A000"),
        ("officer", "GRANT USAGE ON t TO reader", "0LP01"),
        ("officer", "GRANT SELECT ON SCHEMA health TO reader", "0LP01"),
        ("officer", "GRANT CONNECT ON DATABASE kho TO reader", "0A000"),
        ("officer", "GRANT USAGE ON SEQUENCE s TO reader", "0A000"),
        ("officer", "GRANT SELECT ON t TO reader GRANTED BY officer", "ok"),
        ("officer", "GRANT SELECT ON t TO reader GRANTED BY clerk", "0A000"),
        ("officer", "GRANT REFERENCES ON SCHEMA health TO reader", "0LP01"),
        ("officer", "GRANT EXECUTE ON FUNCTION f(int, text) TO reader", "0A000"),
        ("officer", "GRANT SOMETHING ON t TO reader", "42601"),
        ("officer", "GRANT SELECT ON t TO nobody", "42704"),
        ("officer", "GRANT SELECT ON nothing TO reader", "42P01"),
        ("officer", "GRANT USAGE ON SCHEMA nothing TO reader", "3F000"),
        ("officer", "GRANT SELECT ON t TO PUBLIC WITH GRANT OPTION", "0LP01"),
    ]);
}

#[test]
fn who_may_not_grant_is_refused_and_what_is_hidden_is_not_there() {
    script(&[
        TABLE,
        ("reader", "GRANT SELECT ON health.t TO stranger", "42P01"),
        ("stranger", "GRANT SELECT ON health.t TO stranger", "42P01"),
        ("stranger", "GRANT USAGE ON SCHEMA health TO stranger", "3F000"),
        ("admin", "GRANT USAGE ON SCHEMA health TO admin", "42501"),
        ("admin", "GRANT SELECT ON health.t TO admin", "42P01"),
        ("officer", "GRANT SELECT ON t TO reader", "ok"),
        ("reader", "GRANT SELECT ON t TO stranger", "ok 01007"),
        ("reader", "REVOKE SELECT ON t FROM reader", "ok 01006"),
    ]);
}

#[test]
fn a_right_lives_as_long_as_its_givers() {
    let state = script(&[
        TABLE,
        ("officer", "GRANT SELECT ON t TO reader WITH GRANT OPTION", "ok"),
        ("reader", "GRANT SELECT, INSERT ON t TO clerk", "ok 01007"),
        ("reader", "GRANT ALL ON t TO clerk WITH GRANT OPTION", "ok"),
        ("clerk", "GRANT SELECT ON t TO reader WITH GRANT OPTION", "0LP01"),
        ("clerk", "GRANT SELECT ON t TO reader, stranger", "ok"),
        ("officer", "REVOKE SELECT ON t FROM reader", "2BP01"),
        ("officer", "REVOKE SELECT ON t FROM reader CASCADE", "ok"),
    ]);
    assert!(relation(&state, "health.t").grants.is_empty());
}

#[test]
fn the_grant_option_goes_alone() {
    let state = script(&[
        TABLE,
        ("officer", "GRANT SELECT ON t TO reader WITH GRANT OPTION", "ok"),
        ("reader", "GRANT SELECT ON t TO clerk", "ok"),
    ]);
    let without = |cascade: &str| {
        run(
            &state,
            "officer",
            &format!("REVOKE GRANT OPTION FOR SELECT ON t FROM reader {cascade}"),
        )
    };
    assert_eq!(without("").err().unwrap().sqlstate(), "2BP01");
    let after = without("CASCADE").unwrap().state;
    assert_eq!(held(&after, &relation(&after, "health.t").grants), ["reader:select"]);
    let after = run(&after, "officer", "GRANT SELECT ON t TO PUBLIC, clerk").unwrap().state;
    let grants = &relation(&after, "health.t").grants;
    assert_eq!(held(&after, grants), ["clerk:select", "public:select", "reader:select"]);
}

#[test]
fn all_tables_are_those_one_may_see() {
    let state = script(&[
        TABLE,
        ("clerk", "CREATE TABLE health.own (a int)", "ok"),
        ("clerk", "GRANT SELECT ON ALL TABLES IN SCHEMA health TO reader", "ok"),
        ("officer", "GRANT SELECT ON ALL TABLES IN SCHEMA health TO reader", "42501"),
    ]);
    assert_eq!(held(&state, &relation(&state, "health.own").grants), ["reader:select"]);
    assert!(relation(&state, "health.t").grants.is_empty());
}

#[test]
fn rights_on_columns_follow_the_columns() {
    let state = script(&[
        ("officer", "CREATE TABLE health.t (a int, b int, c int)", "ok"),
        ("officer", "GRANT SELECT (a, b), INSERT (a) ON t TO reader", "ok"),
        ("officer", "GRANT SELECT (a), ALL (c) ON t TO reader", "ok"),
        ("officer", "GRANT SELECT (x) ON t TO reader", "42703"),
        ("officer", "GRANT DELETE (a) ON t TO reader", "0LP01"),
        ("officer", "GRANT USAGE (a) ON SCHEMA health TO reader", "0LP01"),
        ("officer", "GRANT REFERENCES (a) ON t TO reader", "0A000"),
        ("officer", "ALTER TABLE t DROP COLUMN b", "ok"),
        ("officer", "ALTER TABLE t RENAME COLUMN a TO z", "ok"),
    ]);
    let of = |state: &State| held(state, &relation(state, "health.t").grants);
    assert_eq!(
        of(&state),
        [
            "reader:insert(1)",
            "reader:insert(3)",
            "reader:select(1)",
            "reader:select(3)",
            "reader:update(3)"
        ]
    );
    // A right on the whole stays when one on a column is taken, and takes those on columns along.
    let after = script_on(
        state,
        &[
            ("officer", "GRANT SELECT, DELETE ON t TO reader", "ok"),
            ("officer", "REVOKE SELECT (z), ALL (c) ON t FROM reader", "ok"),
        ],
    );
    assert_eq!(of(&after), ["reader:delete", "reader:insert(1)", "reader:select"]);
    let after = script_on(after, &[("officer", "REVOKE ALL ON t FROM reader", "ok")]);
    assert!(of(&after).is_empty());
}

#[test]
fn an_option_on_the_whole_is_one_on_each_column() {
    let state = script(&[
        ("officer", "CREATE TABLE health.t (a int, b int)", "ok"),
        ("officer", "GRANT SELECT ON t TO reader WITH GRANT OPTION", "ok"),
        ("reader", "GRANT SELECT (a), UPDATE (a) ON t TO clerk", "ok 01007"),
        ("clerk", "GRANT SELECT (a) ON t TO stranger", "ok 01007"),
        ("officer", "REVOKE SELECT ON t FROM reader", "2BP01"),
        ("officer", "GRANT INSERT (b) ON t TO stranger WITH GRANT OPTION", "ok"),
        ("officer", "GRANT USAGE ON SCHEMA health TO stranger", "ok"),
        ("stranger", "GRANT INSERT (a) ON t TO clerk", "42501"),
        ("stranger", "GRANT INSERT ON t TO clerk", "42501"),
        ("stranger", "GRANT INSERT (b) ON t TO clerk WITH GRANT OPTION", "ok"),
        ("clerk", "GRANT INSERT (b) ON t TO stranger WITH GRANT OPTION", "0LP01"),
        ("officer", "REVOKE INSERT (b) ON t FROM stranger", "2BP01"),
        ("officer", "REVOKE GRANT OPTION FOR INSERT (b) ON t FROM stranger CASCADE", "ok"),
        ("officer", "REVOKE SELECT ON t FROM reader CASCADE", "ok"),
    ]);
    assert_eq!(held(&state, &relation(&state, "health.t").grants), ["stranger:insert(2)"]);
}

#[test]
fn what_a_role_makes_comes_with_its_default_rights() {
    let state = script(&[
        ("officer", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader", "ok"),
        (
            "officer",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA health GRANT INSERT ON TABLES TO PUBLIC, officer",
            "ok",
        ),
        (
            "officer",
            "ALTER DEFAULT PRIVILEGES FOR ROLE clerk GRANT SELECT ON TABLES TO reader",
            "42501",
        ),
        (
            "admin",
            "ALTER DEFAULT PRIVILEGES FOR ROLE clerk GRANT SELECT ON TABLES TO admin",
            "42501",
        ),
        ("officer", "ALTER DEFAULT PRIVILEGES GRANT SELECT (a) ON TABLES TO reader", "0LP01"),
        ("officer", "ALTER DEFAULT PRIVILEGES GRANT USAGE ON TABLES TO reader", "0LP01"),
        ("officer", "ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO reader", "0A000"),
        (
            "officer",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA health GRANT USAGE ON SCHEMAS TO reader",
            "0LP01",
        ),
        ("officer", "CREATE TABLE health.t (a int)", "ok"),
        ("clerk", "CREATE TABLE health.u (a int)", "ok"),
        ("officer", "ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM reader", "ok"),
        ("officer", "CREATE TABLE health.later (a int)", "ok"),
        ("admin", "DROP ROLE reader", "2BP01"),
        ("admin", "ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO stranger", "ok"),
        ("admin", "CREATE SCHEMA made", "ok"),
        ("admin", "DROP ROLE stranger", "2BP01"),
    ]);
    let of = |name: &str| held(&state, &relation(&state, name).grants);
    assert_eq!(of("health.t"), ["public:insert", "reader:select"]);
    assert!(of("health.u").is_empty());
    assert_eq!(of("health.later"), ["public:insert"]);
    assert_eq!(held(&state, &state.schema("made").unwrap().grants), ["stranger:usage"]);
    let dropped = script_on(state, &[("officer", "DROP SCHEMA health CASCADE", "ok 00000")]);
    assert!(dropped.role("officer").unwrap().default_grants.is_empty());
}

#[test]
fn all_that_a_role_has_goes_at_once() {
    let state = script(&[
        ("officer", "CREATE TABLE health.t (a int)", "ok"),
        ("officer", "GRANT SELECT (a), DELETE ON t TO reader WITH GRANT OPTION", "ok"),
        ("reader", "GRANT DELETE ON t TO stranger", "ok"),
        ("clerk", "CREATE TABLE health.own (a int)", "ok"),
        ("clerk", "GRANT SELECT ON own TO officer", "ok"),
        ("officer", "DROP OWNED BY reader", "42501"),
        ("admin", "DROP OWNED BY reader", "42501"),
        ("admin", "REASSIGN OWNED BY officer TO admin", "42501"),
        ("admin", "GRANT reader TO stranger", "ok"),
        ("stranger", "DROP OWNED BY reader", "ok"),
        ("admin", "DROP ROLE reader", "ok"),
        ("admin", "GRANT clerk TO officer", "ok"),
        ("clerk", "REASSIGN OWNED BY clerk TO officer", "42501"),
        ("officer", "REASSIGN OWNED BY clerk TO officer", "ok"),
        ("officer", "DROP OWNED BY clerk", "ok"),
    ]);
    assert!(relation(&state, "health.t").grants.is_empty());
    let own = relation(&state, "health.own");
    assert_eq!((own.owner, own.grants.len()), (16385, 0));
    let state = script_on(state, &[("officer", "DROP OWNED BY officer", "ok")]);
    assert!(state.schema("health").is_none());
    assert!(state.relations.is_empty());
}
