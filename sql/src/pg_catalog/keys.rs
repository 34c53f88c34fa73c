//! Keys and indexes: constraints, and the indexes that PostgreSQL would have for them.
//!
//! What it guarantees: each is shown with its table and never without it. Every key has an index
//! entry, because clients read keys from there; what `CREATE INDEX` made is no constraint.
//! What it does not: Kho has no index to be scanned; rows are found by the files' statistics and
//! bloom filters. `btree` is the word that clients know.

use kho_catalog::error::Result;
use kho_catalog::state::{Key, KeyKind, Oid, Relation};

use super::CatalogView;
use super::cluster;
use super::object::{self, Part, part_oid, quote_identifier};
use super::rows::Rows;
use super::types;
use super::value::Value;

pub fn fill(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    let push: fn(&CatalogView, &Entry<'_>, &mut Rows) -> Result<()> = match table {
        "pg_class" => class,
        "pg_attribute" => attributes,
        "pg_constraint" => {
            return keys(view).try_for_each(|entry| constraint(&entry, rows));
        }
        "pg_index" => index,
        "pg_indexes" => listed,
        _ => return Ok(()),
    };
    entries(view).try_for_each(|entry| push(view, &entry, rows))
}

/// The tables of `information_schema` that keys are in.
pub fn information(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    for entry in keys(view) {
        match table {
            "table_constraints" => table_constraint(view, &entry, rows)?,
            "key_column_usage" => key_columns(view, &entry, rows)?,
            "constraint_column_usage" => used_columns(view, &entry, rows)?,
            _ => {}
        }
    }
    Ok(())
}

/// What `pg_get_constraintdef` says of a key.
pub fn constraint_definition(relation: &Relation, at: usize) -> Option<String> {
    let key = relation.keys().get(at)?;
    let what = match key.kind {
        KeyKind::Primary => "PRIMARY KEY",
        KeyKind::Unique => "UNIQUE",
        KeyKind::Index => return None,
    };
    Some(format!("{what} ({})", columns(relation, key)))
}

/// What `pg_get_indexdef` says of the index at this place; of one of its columns, counted from 1,
/// if `column` is not 0.
pub fn index_definition(
    view: &CatalogView,
    relation: &Relation,
    at: usize,
    column: i64,
) -> Option<String> {
    let searched = relation.searched();
    let key = searched.get(at)?;
    if column != 0 {
        let nth = usize::try_from(column).ok()?.checked_sub(1)?;
        return relation.key_columns(key).nth(nth).map(|column| quote_identifier(&column.name));
    }
    let schema = quote_identifier(&object::schema_name(view, relation.schema)?);
    let (name, table) = (quote_identifier(&key.name), quote_identifier(&relation.name));
    let columns = columns(relation, key);
    let what = if key.kind == KeyKind::Index { "INDEX" } else { "UNIQUE INDEX" };
    Some(format!("CREATE {what} {name} ON {schema}.{table} USING btree ({columns})"))
}

/// One key or index of a visible table.
struct Entry<'a> {
    relation: &'a Relation,
    key: &'a Key,
    /// Its place in [`Relation::searched`], and for a key in [`Relation::keys`].
    at: usize,
    index: Oid,
}

fn entries(view: &CatalogView) -> impl Iterator<Item = Entry<'_>> {
    object::relations(view).flat_map(|relation| {
        let searched = relation.keys().iter().chain(relation.indexes()).enumerate();
        searched.map(|(at, key)| {
            let index = part_oid(relation.oid, Part::Index(at));
            Entry { relation, key, at, index }
        })
    })
}

/// Those that are constraints.
fn keys(view: &CatalogView) -> impl Iterator<Item = Entry<'_>> {
    entries(view).filter(|entry| entry.key.kind != KeyKind::Index)
}

impl Entry<'_> {
    /// The places of the key's columns in their table, from 1.
    fn places(&self) -> Vec<i64> {
        let place = |id: &u32| {
            let at = self.relation.columns.iter().position(|column| column.id == *id)?;
            i64::try_from(at.saturating_add(1)).ok()
        };
        self.key.columns.iter().filter_map(place).collect()
    }

    fn is_primary(&self) -> bool {
        self.key.kind == KeyKind::Primary
    }
}

fn class(_: &CatalogView, it: &Entry<'_>, rows: &mut Rows) -> Result<()> {
    rows.push([
        ("oid", it.index.into()),
        ("relname", it.key.name.as_str().into()),
        ("relnamespace", it.relation.schema.into()),
        ("relowner", it.relation.owner.into()),
        ("relam", cluster::INDEX_METHOD.into()),
        ("reltuples", Value::Int(-1)),
        ("relpersistence", "p".into()),
        ("relkind", "i".into()),
        ("relnatts", it.key.columns.len().into()),
        ("relispopulated", true.into()),
        ("relreplident", "n".into()),
    ])
}

fn attributes(_: &CatalogView, it: &Entry<'_>, rows: &mut Rows) -> Result<()> {
    for (at, column) in it.relation.key_columns(it.key).enumerate() {
        let type_oid = types::type_oid(&column.data_type);
        let of = types::by_oid(type_oid);
        rows.push([
            ("attrelid", it.index.into()),
            ("attname", column.name.as_str().into()),
            ("atttypid", type_oid.into()),
            ("attstattarget", Value::Int(-1)),
            ("attlen", of.map(|it| it.length).into()),
            ("attnum", at.saturating_add(1).into()),
            ("attcacheoff", Value::Int(-1)),
            ("atttypmod", types::type_modifier(&column.data_type).into()),
            ("attbyval", of.map(|it| it.by_value).into()),
            ("attalign", of.map(|it| it.align).into()),
            ("attstorage", of.map(|it| it.storage).into()),
            ("attislocal", true.into()),
            ("attcollation", of.map(|it| it.collation).into()),
        ])?;
    }
    Ok(())
}

fn constraint(it: &Entry<'_>, rows: &mut Rows) -> Result<()> {
    rows.push([
        ("oid", part_oid(it.relation.oid, Part::Key(it.at)).into()),
        ("conname", it.key.name.as_str().into()),
        ("connamespace", it.relation.schema.into()),
        ("contype", if it.is_primary() { "p" } else { "u" }.into()),
        ("convalidated", true.into()),
        ("conrelid", it.relation.oid.into()),
        ("conindid", it.index.into()),
        ("confupdtype", " ".into()),
        ("confdeltype", " ".into()),
        ("confmatchtype", " ".into()),
        ("conislocal", true.into()),
        ("connoinherit", true.into()),
        ("conkey", it.places().into()),
    ])
}

fn index(_: &CatalogView, it: &Entry<'_>, rows: &mut Rows) -> Result<()> {
    let zeros = || Value::Ints(vec![0; it.key.columns.len()]);
    rows.push([
        ("indexrelid", it.index.into()),
        ("indrelid", it.relation.oid.into()),
        ("indnatts", it.key.columns.len().into()),
        ("indnkeyatts", it.key.columns.len().into()),
        ("indisunique", (it.key.kind != KeyKind::Index).into()),
        ("indisprimary", it.is_primary().into()),
        ("indimmediate", true.into()),
        ("indisvalid", true.into()),
        ("indisready", true.into()),
        ("indislive", true.into()),
        ("indkey", it.places().into()),
        ("indcollation", zeros()),
        ("indclass", zeros()),
        ("indoption", zeros()),
    ])
}

fn listed(view: &CatalogView, it: &Entry<'_>, rows: &mut Rows) -> Result<()> {
    let definition = index_definition(view, it.relation, it.at, 0);
    rows.push([
        ("schemaname", object::schema_name(view, it.relation.schema).into()),
        ("tablename", it.relation.name.as_str().into()),
        ("indexname", it.key.name.as_str().into()),
        ("indexdef", definition.into()),
    ])
}

fn table_constraint(view: &CatalogView, it: &Entry<'_>, rows: &mut Rows) -> Result<()> {
    let schema = object::schema_name(view, it.relation.schema);
    rows.push([
        ("constraint_catalog", view.database.as_str().into()),
        ("constraint_schema", schema.clone().into()),
        ("constraint_name", it.key.name.as_str().into()),
        ("table_catalog", view.database.as_str().into()),
        ("table_schema", schema.into()),
        ("table_name", it.relation.name.as_str().into()),
        ("constraint_type", if it.is_primary() { "PRIMARY KEY" } else { "UNIQUE" }.into()),
        ("is_deferrable", "NO".into()),
        ("initially_deferred", "NO".into()),
        ("enforced", "YES".into()),
        ("nulls_distinct", (!it.is_primary()).then_some("YES").into()),
    ])
}

fn key_columns(view: &CatalogView, it: &Entry<'_>, rows: &mut Rows) -> Result<()> {
    for (at, column) in it.relation.key_columns(it.key).enumerate() {
        let schema = object::schema_name(view, it.relation.schema);
        rows.push([
            ("constraint_catalog", view.database.as_str().into()),
            ("constraint_schema", schema.clone().into()),
            ("constraint_name", it.key.name.as_str().into()),
            ("table_catalog", view.database.as_str().into()),
            ("table_schema", schema.into()),
            ("table_name", it.relation.name.as_str().into()),
            ("column_name", column.name.as_str().into()),
            ("ordinal_position", at.saturating_add(1).into()),
        ])?;
    }
    Ok(())
}

fn used_columns(view: &CatalogView, it: &Entry<'_>, rows: &mut Rows) -> Result<()> {
    for column in it.relation.key_columns(it.key) {
        let schema = object::schema_name(view, it.relation.schema);
        rows.push([
            ("table_catalog", view.database.as_str().into()),
            ("table_schema", schema.clone().into()),
            ("table_name", it.relation.name.as_str().into()),
            ("column_name", column.name.as_str().into()),
            ("constraint_catalog", view.database.as_str().into()),
            ("constraint_schema", schema.into()),
            ("constraint_name", it.key.name.as_str().into()),
        ])?;
    }
    Ok(())
}

/// The names of a key's columns, as SQL writes them.
fn columns(relation: &Relation, key: &Key) -> String {
    let names: Vec<String> =
        relation.key_columns(key).map(|column| quote_identifier(&column.name)).collect();
    names.join(", ")
}
