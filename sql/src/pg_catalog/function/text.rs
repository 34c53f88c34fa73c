//! Functions of PostgreSQL on texts and sizes that DataFusion lacks.

use kho_catalog::error::Result;

use super::Function;
use crate::pg_catalog::CatalogView;
use crate::pg_catalog::object::quote_identifier;
use crate::pg_catalog::value::Value;

pub const FUNCTIONS: &[Function] = &[
    Function::new("quote_ident", (1, 1), "text", |_, it| {
        Ok(it.first().and_then(Value::text).map(quote_identifier).into())
    }),
    Function::new("quote_literal", (1, 1), "text", |_, it| Ok(literal(it).into())),
    Function::new("quote_nullable", (1, 1), "text", |_, it| {
        Ok(literal(it).unwrap_or_else(|| "NULL".to_owned()).into())
    })
    .lenient(),
    Function::new("pg_size_pretty", (1, 1), "text", |_, it| {
        Ok(it.first().and_then(Value::int).map(size).into())
    }),
    // The bytes of a dataset are in the object store; no statement counts them.
    Function::new("pg_table_size", (1, 1), "int8", unknown_size),
    Function::new("pg_relation_size", (1, 2), "int8", unknown_size),
    Function::new("pg_total_relation_size", (1, 1), "int8", unknown_size),
    Function::new("pg_indexes_size", (1, 1), "int8", unknown_size),
    Function::new("pg_database_size", (1, 1), "int8", unknown_size),
    Function::new("pg_tablespace_size", (1, 1), "int8", unknown_size),
    Function::new("pg_stat_get_numscans", (1, 1), "int8", unknown_size),
    Function::new("pg_tablespace_location", (1, 1), "text", |_, _| Ok("".into())),
];

fn unknown_size(_: &CatalogView, _: &[Value]) -> Result<Value> {
    Ok(Value::Null)
}

fn literal(arguments: &[Value]) -> Option<String> {
    let text = match arguments.first()? {
        Value::Text(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        _ => return None,
    };
    let doubled = text.replace('\'', "''");
    Some(if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    })
}

/// A number of bytes as PostgreSQL's `pg_size_pretty` writes it.
fn size(bytes: i64) -> String {
    const UNITS: &[&str] = &["bytes", "kB", "MB", "GB", "TB", "PB"];
    let mut amount = i128::from(bytes);
    let mut unit = 0;
    while amount.abs() >= 10 * 1024 && unit + 1 < UNITS.len() {
        // Rounded to the nearest, as PostgreSQL does.
        amount = (amount + amount.signum() * 512) / 1024;
        unit += 1;
    }
    format!("{amount} {}", UNITS.get(unit).unwrap_or(&"bytes"))
}
