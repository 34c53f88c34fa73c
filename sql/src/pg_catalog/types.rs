//! Types as PostgreSQL numbers, spells and lists them.
//!
//! What it guarantees: every type of Kho has one oid and one type modifier; `pg_type` lists the
//! types that a column of Kho or of a system table can have, and the row types of the relations
//! that the principal sees.
//! What it does not: a structure has no type of its own in PostgreSQL; it is a `record`.

use std::sync::LazyLock;

use kho_catalog::error::Result;
use kho_catalog::state::{Oid, Relation};
use kho_catalog::types::Type;
use postgres_types::Type as Pg;

use super::CatalogView;
use super::definition::{PG_CATALOG, data_lines};
use super::object::{self, Part, part_oid};
use super::rows::Rows;
use super::value::Value;

/// A built-in type: one line of `types.txt`.
pub(super) struct BuiltIn {
    pub name: &'static str,
    pub oid: Oid,
    pub length: i64,
    pub by_value: bool,
    kind: &'static str,
    category: &'static str,
    preferred: bool,
    delimiter: &'static str,
    pub element: Oid,
    pub array: Oid,
    /// Input, output, receive, send, subscript.
    procedures: [Oid; 5],
    pub align: &'static str,
    pub storage: &'static str,
    pub collation: Oid,
}

static BUILT_IN: LazyLock<Vec<BuiltIn>> =
    LazyLock::new(|| data_lines(include_str!("types.txt")).filter_map(parse).collect());

/// PostgreSQL's oid of a type of Kho.
pub fn type_oid(of: &Type) -> Oid {
    match of {
        Type::Boolean => Pg::BOOL.oid(),
        Type::SmallInt => Pg::INT2.oid(),
        Type::Integer => Pg::INT4.oid(),
        Type::BigInt => Pg::INT8.oid(),
        Type::Real => Pg::FLOAT4.oid(),
        Type::Double => Pg::FLOAT8.oid(),
        Type::Numeric(..) => Pg::NUMERIC.oid(),
        Type::Text => Pg::TEXT.oid(),
        Type::Varchar(_) => Pg::VARCHAR.oid(),
        Type::Bytea => Pg::BYTEA.oid(),
        Type::Date => Pg::DATE.oid(),
        Type::Timestamp => Pg::TIMESTAMP.oid(),
        Type::TimestampTz => Pg::TIMESTAMPTZ.oid(),
        Type::Uuid => Pg::UUID.oid(),
        Type::Json => Pg::JSON.oid(),
        Type::Struct(_) => Pg::RECORD.oid(),
        // An array of arrays is one type in PostgreSQL, whatever its dimensions.
        Type::Array(element) => match element.as_ref() {
            inner @ Type::Array(_) => type_oid(inner),
            scalar => by_oid(type_oid(scalar)).map_or(Pg::TEXT_ARRAY.oid(), |it| it.array),
        },
    }
}

/// PostgreSQL's type modifier: length or precision and scale; -1 where there is none.
pub fn type_modifier(of: &Type) -> i32 {
    match of {
        Type::Varchar(length) => i32::try_from(*length).map_or(-1, |it| it.saturating_add(4)),
        Type::Numeric(precision, scale) => {
            ((i32::from(*precision) << 16) | i32::from(*scale)).saturating_add(4)
        }
        Type::Array(element) => type_modifier(element),
        _ => -1,
    }
}

/// How many `[]` a type has.
pub(super) fn dimensions(of: &Type) -> i32 {
    match of {
        Type::Array(element) => dimensions(element).saturating_add(1),
        _ => 0,
    }
}

pub(super) fn by_oid(oid: Oid) -> Option<&'static BuiltIn> {
    BUILT_IN.iter().find(|it| it.oid == oid)
}

/// A built-in type by its internal name (`int8`, `_text`, `text[]`).
pub(super) fn by_name(name: &str) -> Option<&'static BuiltIn> {
    match name.strip_suffix("[]") {
        Some(element) => by_name(element).and_then(|it| by_oid(it.array)),
        None => BUILT_IN.iter().find(|it| it.name == name),
    }
}

/// The built-in type that SQL calls `name`; `None` where there is none.
pub(super) fn by_sql_name(name: &str) -> Option<&'static BuiltIn> {
    let name = name.trim();
    if let Some(element) = name.strip_suffix("[]") {
        return by_sql_name(element).and_then(|it| by_oid(it.array));
    }
    let base = name.split_once('(').map_or(name, |(base, _)| base).trim().to_ascii_lowercase();
    let base = base.strip_prefix("pg_catalog.").unwrap_or(&base);
    let internal = match base {
        "boolean" => "bool",
        "smallint" => "int2",
        "integer" | "int" => "int4",
        "bigint" => "int8",
        "real" => "float4",
        "double precision" | "float" => "float8",
        "decimal" => "numeric",
        "character varying" => "varchar",
        "character" => "bpchar",
        "\"char\"" => "char",
        "char" => "bpchar",
        "timestamp without time zone" => "timestamp",
        "timestamp with time zone" => "timestamptz",
        "time without time zone" => "time",
        other => other.trim_matches('"'),
    };
    by_name(internal)
}

/// What the built-in type that SQL calls `name` is called itself; `None` where there is none.
pub fn internal_name(name: &str) -> Option<&'static str> {
    by_sql_name(name).map(|it| it.name)
}

/// What `format_type` says: the SQL name, with the modifier where there is one.
pub(super) fn format_type(view: &CatalogView, oid: i64, modifier: Option<i64>) -> String {
    if oid == 0 {
        return "-".to_owned();
    }
    let Ok(oid) = Oid::try_from(oid) else {
        return "???".to_owned();
    };
    let Some(built_in) = by_oid(oid) else {
        return row_type_name(view, oid).unwrap_or_else(|| "???".to_owned());
    };
    if built_in.element != 0 && built_in.category == "A" && built_in.name.starts_with('_') {
        return format!("{}[]", format_type(view, i64::from(built_in.element), modifier));
    }
    let modifier = modifier.filter(|it| *it >= 4).map(|it| it - 4);
    match (built_in.name, modifier) {
        ("bool", _) => "boolean".to_owned(),
        ("int2", _) => "smallint".to_owned(),
        ("int4", _) => "integer".to_owned(),
        ("int8", _) => "bigint".to_owned(),
        ("float4", _) => "real".to_owned(),
        ("float8", _) => "double precision".to_owned(),
        ("char", _) => "\"char\"".to_owned(),
        ("any", _) => "\"any\"".to_owned(),
        ("varchar", None) => "character varying".to_owned(),
        ("varchar", Some(length)) => format!("character varying({length})"),
        ("bpchar", None) => "character".to_owned(),
        ("bpchar", Some(length)) => format!("character({length})"),
        ("numeric", Some(both)) => format!("numeric({},{})", both >> 16, both & 0x7ff),
        ("time", _) => "time without time zone".to_owned(),
        ("timestamp", _) => "timestamp without time zone".to_owned(),
        ("timestamptz", _) => "timestamp with time zone".to_owned(),
        (name, _) => name.to_owned(),
    }
}

pub(super) fn fill(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    if table != "pg_type" {
        return Ok(());
    }
    for it in BUILT_IN.iter() {
        push_built_in(it, rows)?;
    }
    for relation in object::relations(view) {
        push_row_type(relation, rows)?;
    }
    Ok(())
}

fn push_built_in(it: &BuiltIn, rows: &mut Rows) -> Result<()> {
    let [input, output, receive, send, subscript] = it.procedures;
    rows.push([
        ("oid", it.oid.into()),
        ("typname", it.name.into()),
        ("typnamespace", PG_CATALOG.into()),
        ("typowner", object::SYSTEM_OWNER.into()),
        ("typlen", it.length.into()),
        ("typbyval", it.by_value.into()),
        ("typtype", it.kind.into()),
        ("typcategory", it.category.into()),
        ("typispreferred", it.preferred.into()),
        ("typisdefined", true.into()),
        ("typdelim", it.delimiter.into()),
        ("typelem", it.element.into()),
        ("typarray", it.array.into()),
        ("typinput", input.into()),
        ("typoutput", output.into()),
        ("typreceive", receive.into()),
        ("typsend", send.into()),
        ("typsubscript", subscript.into()),
        ("typalign", it.align.into()),
        ("typstorage", it.storage.into()),
        ("typtypmod", Value::Int(-1)),
        ("typcollation", it.collation.into()),
    ])
}

/// A relation's row type and the array of it.
fn push_row_type(relation: &Relation, rows: &mut Rows) -> Result<()> {
    let row = part_oid(relation.oid, Part::RowType);
    let array = part_oid(relation.oid, Part::RowTypeArray);
    for (oid, name, of_array) in
        [(row, relation.name.clone(), false), (array, format!("_{}", relation.name), true)]
    {
        let model = by_name(if of_array { "_record" } else { "record" });
        rows.push([
            ("oid", oid.into()),
            ("typname", name.into()),
            ("typnamespace", relation.schema.into()),
            ("typowner", relation.owner.into()),
            ("typlen", Value::Int(-1)),
            ("typtype", if of_array { "b" } else { "c" }.into()),
            ("typcategory", if of_array { "A" } else { "C" }.into()),
            ("typisdefined", true.into()),
            ("typdelim", ",".into()),
            ("typrelid", if of_array { 0 } else { relation.oid }.into()),
            ("typelem", if of_array { row } else { 0 }.into()),
            ("typarray", if of_array { 0 } else { array }.into()),
            ("typinput", model.map(|it| it.procedures[0]).into()),
            ("typoutput", model.map(|it| it.procedures[1]).into()),
            ("typreceive", model.map(|it| it.procedures[2]).into()),
            ("typsend", model.map(|it| it.procedures[3]).into()),
            ("typsubscript", model.map(|it| it.procedures[4]).into()),
            ("typalign", "d".into()),
            ("typstorage", "x".into()),
            ("typtypmod", Value::Int(-1)),
        ])?;
    }
    Ok(())
}

fn row_type_name(view: &CatalogView, oid: Oid) -> Option<String> {
    let relation = object::relation_of_part(view, oid)?;
    let name = object::display_name(view, relation.oid)?;
    let array = part_oid(relation.oid, Part::RowTypeArray) == oid;
    Some(if array { format!("{name}[]") } else { name })
}

fn parse(line: &'static str) -> Option<BuiltIn> {
    let mut words = line.split(' ');
    let mut next = || words.next();
    Some(BuiltIn {
        name: next()?,
        oid: next()?.parse().ok()?,
        length: next()?.parse().ok()?,
        by_value: next()? == "t",
        kind: next()?,
        category: next()?,
        preferred: next()? == "t",
        delimiter: next()?,
        element: next()?.parse().ok()?,
        array: next()?.parse().ok()?,
        procedures: [
            next()?.parse().ok()?,
            next()?.parse().ok()?,
            next()?.parse().ok()?,
            next()?.parse().ok()?,
            next()?.parse().ok()?,
        ],
        align: next()?,
        storage: next()?,
        collation: next()?.parse().ok()?,
    })
}
