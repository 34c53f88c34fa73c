//! The statements that make a table for the rows of a load.
//!
//! What it guarantees: a column for each field, in their order, of the type that its values have in
//! Kho, `NOT NULL` where the field says that it is never NULL; no name is taken for SQL. Arrow's own
//! extensions for uuid and JSON are the types of those names.
//! On failure: `0A000` for a type that no table can have, with the column's name.

use arrow::datatypes::{DataType, Field, Schema};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::Type;

use crate::flight::name::{RelationName, column, literal};

/// The statements that make `table` for rows of `schema`.
pub(super) fn create_table(table: &RelationName, schema: &Schema) -> Result<Vec<String>> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        columns.push((field, type_of(field)?));
    }
    if columns.is_empty() {
        return Err(Error::new(
            Kind::InvalidTableDefinition,
            "a load without columns makes no table",
        ));
    }
    let table = table.quoted();
    // A struct has a type only as the value of a query.
    if columns.iter().any(|(_, of)| has_struct(of)) {
        let items: Vec<String> = (columns.iter())
            .map(|(field, of)| format!("{} AS {}", empty(of), column(field.name())))
            .collect();
        let create = format!("CREATE TABLE {table} AS SELECT {} WHERE false", items.join(", "));
        // Nor has a query's value a constraint.
        let never_null =
            columns.iter().filter(|(field, _)| !field.is_nullable()).map(|(field, _)| {
                format!("ALTER TABLE {table} ALTER COLUMN {} SET NOT NULL", column(field.name()))
            });
        return Ok(std::iter::once(create).chain(never_null).collect());
    }
    let columns: Vec<String> = (columns.iter())
        .map(|(field, of)| {
            let null = if field.is_nullable() { "" } else { " NOT NULL" };
            format!("{} {of}{null}", column(field.name()))
        })
        .collect();
    Ok(vec![format!("CREATE TABLE {table} ({})", columns.join(", "))])
}

fn type_of(field: &Field) -> Result<Type> {
    let known = match (field.extension_type_name(), field.data_type()) {
        (Some("arrow.uuid"), DataType::FixedSizeBinary(16)) => Some(Type::Uuid),
        (Some("arrow.json"), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => {
            Some(Type::Json)
        }
        _ => Type::from_field(field).filter(|it| !has_empty_struct(it)),
    };
    known.ok_or_else(|| {
        let (name, of) = (field.name(), field.data_type());
        Error::unsupported(format!("column \"{name}\" is of type {of}, which no table can have"))
            .with_hint("Convert the column before it is sent.")
    })
}

fn has_struct(of: &Type) -> bool {
    match of {
        Type::Struct(_) => true,
        Type::Array(element) => has_struct(element),
        _ => false,
    }
}

fn has_empty_struct(of: &Type) -> bool {
    match of {
        Type::Struct(fields) => {
            fields.is_empty() || fields.iter().any(|(_, of)| has_empty_struct(of))
        }
        Type::Array(element) => has_empty_struct(element),
        _ => false,
    }
}

/// An expression of this type.
fn empty(of: &Type) -> String {
    match of {
        Type::Struct(fields) => {
            let fields: Vec<String> = (fields.iter())
                .map(|(name, of)| format!("{}, {}", literal(name), empty(of)))
                .collect();
            format!("named_struct({})", fields.join(", "))
        }
        Type::Array(element) if has_struct(element) => format!("make_array({})", empty(element)),
        other => format!("CAST(NULL AS {other})"),
    }
}
