//! Columns: `pg_attribute` and `pg_attrdef`.

use kho_catalog::error::Result;
use kho_catalog::state::{Column, Oid, Relation};

use super::CatalogView;
use super::acl;
use super::definition::{self, Definition};
use super::object::{self, Part, part_oid};
use super::rows::Rows;
use super::types;
use super::value::Value;

pub fn fill(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    match table {
        "pg_attribute" => {
            for relation in object::relations(view) {
                for (at, column) in relation.columns.iter().enumerate() {
                    push_column(view, relation, at, column, rows)?;
                }
            }
            definition::all().try_for_each(|it| push_system(it, rows))
        }
        "pg_attrdef" => {
            for relation in object::relations(view) {
                defaults(relation, rows)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

struct Attribute<'a> {
    relation: Oid,
    at: usize,
    name: &'a str,
    type_oid: Oid,
    modifier: i32,
    dimensions: i32,
    not_null: bool,
    has_default: bool,
    rights: Option<Vec<String>>,
}

fn push_column(
    view: &CatalogView,
    relation: &Relation,
    at: usize,
    column: &Column,
    rows: &mut Rows,
) -> Result<()> {
    let attribute = Attribute {
        relation: relation.oid,
        at,
        name: &column.name,
        type_oid: types::type_oid(&column.data_type),
        modifier: types::type_modifier(&column.data_type),
        dimensions: types::dimensions(&column.data_type),
        not_null: column.not_null,
        has_default: column.default.is_some(),
        rights: acl::column_items(view, &relation.grants, column.id),
    };
    push(attribute, rows)
}

fn push_system(table: &Definition, rows: &mut Rows) -> Result<()> {
    for (at, column) in table.columns.iter().enumerate() {
        let attribute = Attribute {
            relation: table.oid,
            at,
            name: column.name,
            type_oid: types::by_name(column.pg_type).map_or(0, |it| it.oid),
            modifier: -1,
            dimensions: i32::from(column.pg_type.ends_with("[]")),
            not_null: column.not_null,
            has_default: false,
            rights: None,
        };
        push(attribute, rows)?;
    }
    Ok(())
}

fn push(it: Attribute<'_>, rows: &mut Rows) -> Result<()> {
    let of = types::by_oid(it.type_oid);
    rows.push([
        ("attrelid", it.relation.into()),
        ("attname", it.name.into()),
        ("atttypid", it.type_oid.into()),
        ("attstattarget", Value::Int(-1)),
        ("attlen", of.map(|it| it.length).into()),
        ("attnum", it.at.saturating_add(1).into()),
        ("attndims", it.dimensions.into()),
        ("attcacheoff", Value::Int(-1)),
        ("atttypmod", it.modifier.into()),
        ("attbyval", of.map(|it| it.by_value).into()),
        ("attalign", of.map(|it| it.align).into()),
        ("attstorage", of.map(|it| it.storage).into()),
        ("attnotnull", it.not_null.into()),
        ("atthasdef", it.has_default.into()),
        ("attislocal", true.into()),
        ("attcollation", of.map(|it| it.collation).into()),
        ("attacl", it.rights.into()),
    ])
}

fn defaults(relation: &Relation, rows: &mut Rows) -> Result<()> {
    for (at, column) in relation.columns.iter().enumerate() {
        if let Some(default) = &column.default {
            rows.push([
                ("oid", part_oid(relation.oid, Part::Default(at)).into()),
                ("adrelid", relation.oid.into()),
                ("adnum", at.saturating_add(1).into()),
                ("adbin", default.value().into()),
            ])?;
        }
    }
    Ok(())
}
