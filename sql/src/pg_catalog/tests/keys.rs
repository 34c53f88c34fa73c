//! Keys, as drivers and tools read them, and as strangers do not.

use std::sync::Arc;

use kho_catalog::state::{Change, Key, KeyKind, Relation, RelationKind};

use super::clients::all;
use super::{CatalogView, HEALTH, PATIENT, WARD, ask, officer, view_of};

/// The patients with a primary key, a unique pair and an index.
fn keyed(view: &CatalogView) -> Arc<CatalogView> {
    let mut view = view.clone();
    let mut patient = Relation::clone(&view.state.relations[&PATIENT]);
    let RelationKind::Table(table) = &mut patient.kind else { panic!("a table") };
    let key = |name: &str, kind, columns: &[u32]| Key {
        name: name.to_owned(),
        kind,
        columns: columns.to_vec(),
    };
    table.keys = vec![
        key("patient_pkey", KeyKind::Primary, &[1]),
        key("Tên và phường", KeyKind::Unique, &[4, 3]),
    ];
    table.indexes = vec![key("by_ward", KeyKind::Index, &[4])];
    view.state = Arc::new(view.state.apply(&[Change::PutRelation(Box::new(patient))]));
    Arc::new(view)
}

fn tables() -> Arc<CatalogView> {
    keyed(&officer())
}

fn captured(part: &str) -> Vec<Vec<String>> {
    let (_, query) = all().into_iter().find(|(_, query)| query.contains(part)).expect(part);
    ask(&tables(), query).unwrap()
}

#[test]
fn jdbc_finds_the_primary_key() {
    assert_eq!(
        captured("_pg_expandarray"),
        [["kho", "health", "patient", "id", "1", "patient_pkey"]]
    );
}

#[test]
fn sqlalchemy_finds_keys_and_their_indexes() {
    let primary = captured("contype = 'p' AND");
    assert_eq!(primary[0][1..3], ["[id]", "patient_pkey"]);
    let unique = captured("contype = 'u' AND");
    assert_eq!(unique[0][1..3], ["[ward, full_name]", "Tên và phường"]);
    let indexes = captured("has_constraint");
    assert_eq!(indexes.len(), 2, "the primary key's is left out: {indexes:?}");
    let of = |name: &str| indexes.iter().find(|index| index[1] == name).unwrap();
    assert_eq!(of("Tên và phường")[2..5], ["true", "true", "true"]);
    assert_eq!(of("by_ward")[2..5], ["false", "true", "false"]);
}

/// psql asks this for `\d` of a table whose `relhasindex` is true.
#[test]
fn psql_shows_indexes() {
    let query = "SELECT c2.relname, i.indisprimary, i.indisunique, \
                 pg_catalog.pg_get_indexdef(i.indexrelid, 0, true), \
                 pg_catalog.pg_get_constraintdef(con.oid, true), contype \
                 FROM pg_catalog.pg_class c, pg_catalog.pg_class c2, pg_catalog.pg_index i \
                 LEFT JOIN pg_catalog.pg_constraint con ON (conrelid = i.indrelid \
                 AND conindid = i.indexrelid AND contype IN ('p','u','x')) \
                 WHERE c.oid = '16390' AND c.oid = i.indrelid AND i.indexrelid = c2.oid \
                 ORDER BY i.indisprimary DESC, c2.relname";
    assert_eq!(
        ask(&tables(), query).unwrap(),
        [
            [
                "patient_pkey",
                "true",
                "true",
                "CREATE UNIQUE INDEX patient_pkey ON health.patient USING btree (id)",
                "PRIMARY KEY (id)",
                "p",
            ],
            [
                "Tên và phường",
                "false",
                "true",
                "CREATE UNIQUE INDEX \"Tên và phường\" ON health.patient USING btree \
                 (ward, full_name)",
                "UNIQUE (ward, full_name)",
                "u",
            ],
            [
                "by_ward",
                "false",
                "false",
                "CREATE INDEX by_ward ON health.patient USING btree (ward)",
                "∅",
                "∅",
            ],
        ]
    );
    let hidden = keyed(&view_of(WARD, &[], &[HEALTH]));
    assert!(ask(&hidden, query).unwrap().is_empty());
    for table in ["pg_index", "pg_indexes", "pg_constraint"] {
        let count = format!("SELECT count(*) FROM pg_catalog.{table}");
        assert_eq!(ask(&hidden, &count).unwrap(), [["0"]], "{table}");
    }
}

#[test]
fn the_standard_schema_lists_keys_and_their_columns() {
    let columns = "SELECT constraint_name, column_name, ordinal_position \
                   FROM information_schema.key_column_usage ORDER BY 1, 3";
    assert_eq!(
        ask(&tables(), columns).unwrap(),
        [
            ["Tên và phường", "ward", "1"],
            ["Tên và phường", "full_name", "2"],
            ["patient_pkey", "id", "1"]
        ]
    );
    let kinds = "SELECT constraint_name, constraint_type, nulls_distinct \
                 FROM information_schema.table_constraints WHERE constraint_type <> 'CHECK' ORDER BY 1";
    assert_eq!(
        ask(&tables(), kinds).unwrap(),
        [["Tên và phường", "UNIQUE", "YES"], ["patient_pkey", "PRIMARY KEY", "∅"]]
    );
}

#[test]
fn an_index_has_a_name_and_columns_of_its_own() {
    let name = "SELECT 'health.patient_pkey'::regclass, relkind, attname FROM pg_catalog.pg_class \
                JOIN pg_catalog.pg_attribute ON attrelid = pg_class.oid \
                WHERE pg_class.oid = 'health.patient_pkey'::regclass";
    let rows = ask(&tables(), name).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0][1..], ["i", "id"]);
}
