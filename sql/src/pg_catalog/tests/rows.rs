//! The tables themselves: every one is well-formed, and none tells of what is hidden.

use std::sync::Arc;

use super::{HEALTH, PATIENT, WARD, apply, ask, ask_in, definition, officer, table, view_of};
use crate::pg_catalog::types::{type_modifier, type_oid};
use kho_catalog::types::Type;

#[test]
fn every_table_is_built_with_its_columns() {
    let view = officer();
    let state = apply::new_context(&view).unwrap();
    for it in definition::all().filter(|it| it.schema != crate::system::SCHEMA) {
        let built = table(&view, it.schema, it.name).expect(it.name).expect(it.name);
        assert_eq!(built.schema(), it.arrow, "{}", it.name);
        let rows = ask_in(&state, &format!("SELECT * FROM {}.{}", it.schema, it.name));
        rows.unwrap_or_else(|error| panic!("{}: {error:?}", it.name));
    }
}

#[test]
fn no_table_tells_of_what_is_hidden() {
    let view = view_of(WARD, &[PATIENT], &[HEALTH]);
    let state = apply::new_context(&view).unwrap();
    for it in definition::all().filter(|it| it.schema != crate::system::SCHEMA) {
        let rows = ask_in(&state, &format!("SELECT * FROM {}.{}", it.schema, it.name)).unwrap();
        for cell in rows.iter().flatten() {
            assert!(!cell.contains("hidden"), "{}: {cell}", it.name);
            assert!(!cell.contains("per_ward"), "{}: {cell}", it.name);
            assert!(!cell.contains("SCRAM"), "{}: {cell}", it.name);
            assert!(!cell.split(['{', ',', '}', '[', ']']).any(|it| it == "16401"), "{cell}");
        }
    }
}

#[test]
fn no_function_tells_of_what_is_hidden() {
    let view = view_of(WARD, &[PATIENT], &[HEALTH]);
    let nulls = [
        "to_regclass('hidden_schema.hidden_plan')",
        "to_regclass('health.per_ward')",
        "to_regnamespace('hidden_schema')",
        "obj_description(16401, 'pg_class')",
        "obj_description(16400, 'pg_namespace')",
        "col_description(16401, 1)",
        "pg_get_viewdef(16397)",
        "pg_table_is_visible(16401)",
        "has_table_privilege(16401, 'SELECT')",
        "has_schema_privilege(16400, 'USAGE')",
    ];
    for call in nulls {
        assert_eq!(ask(&view, &format!("SELECT {call}")).unwrap(), [["∅"]], "{call}");
    }
    for number in ["16401::regclass", "16400::regnamespace"] {
        let shown = ask(&view, &format!("SELECT {number}")).unwrap();
        assert!(!shown[0][0].contains("hidden"), "{number}");
    }
    for (call, state) in [
        ("'hidden_schema.hidden_plan'::regclass", "42P01"),
        ("has_table_privilege('hidden_schema.hidden_plan', 'SELECT')", "42P01"),
        ("has_schema_privilege('hidden_schema', 'USAGE')", "3F000"),
        ("'hidden_schema'::regnamespace", "3F000"),
        ("'no_such'::regtype", "42704"),
    ] {
        let error = ask(&view, &format!("SELECT {call}")).unwrap_err();
        assert_eq!(error.sqlstate(), state, "{call}: {error}");
    }
}

#[test]
fn shadow_tables_do_not_exist() {
    let view = officer();
    for name in ["pg_shadow", "pg_authid", "pg_statistic", "pg_user_mapping"] {
        assert!(table(&view, "pg_catalog", name).is_none(), "{name}");
    }
    let passwords = ask(&view, "SELECT DISTINCT rolpassword FROM pg_roles").unwrap();
    assert_eq!(passwords, [["********"]]);
}

#[test]
fn types_have_the_numbers_of_postgresql() {
    use postgres_types::Type as Pg;
    for (of, expected) in [
        (Type::Boolean, Pg::BOOL),
        (Type::Varchar(3), Pg::VARCHAR),
        (Type::TimestampTz, Pg::TIMESTAMPTZ),
        (Type::Array(Box::new(Type::Numeric(4, 2))), Pg::NUMERIC_ARRAY),
        (Type::Array(Box::new(Type::Array(Box::new(Type::Uuid)))), Pg::UUID_ARRAY),
        (Type::Array(Box::new(Type::Struct(Vec::new()))), Pg::RECORD_ARRAY),
    ] {
        assert_eq!(type_oid(&of), expected.oid(), "{of}");
    }
    assert_eq!(type_modifier(&Type::Numeric(10, 2)), ((10 << 16) | 2) + 4);
    // The file of types says what the crate says.
    let view = officer();
    for row in ask(&view, "SELECT oid, typname, typelem, typcategory FROM pg_type").unwrap() {
        let oid: u32 = row[0].parse().unwrap();
        if let Some(known) = Pg::from_oid(oid) {
            assert_eq!(known.name(), row[1]);
            if let postgres_types::Kind::Array(element) = known.kind() {
                assert_eq!(element.oid().to_string(), row[2]);
            }
        }
    }
}

#[test]
fn every_type_of_a_column_is_listed() {
    let rows = ask(
        &officer(),
        "SELECT a.attname FROM pg_attribute a LEFT JOIN pg_type t ON t.oid = a.atttypid \
         WHERE t.oid IS NULL",
    );
    assert_eq!(rows.unwrap(), Vec::<Vec<String>>::new());
    let view = Arc::clone(&officer());
    let procedures = "SELECT typname FROM pg_type t LEFT JOIN pg_proc p ON p.oid = t.typinput \
                      WHERE p.oid IS NULL";
    assert_eq!(ask(&view, procedures).unwrap(), Vec::<Vec<String>>::new());
}
