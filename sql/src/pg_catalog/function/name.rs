//! From names to object ids and back: `to_regclass`, the `reg*` types, `*_is_visible`.
//!
//! # Why functions named `regclassin`
//! They are what PostgreSQL calls a type's input and output. A cast to `regclass` becomes a call of
//! the first; showing the value as text, a call of the second.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::Oid;

use super::Function;
use crate::pg_catalog::CatalogView;
use crate::pg_catalog::object;
use crate::pg_catalog::procedures;
use crate::pg_catalog::types;
use crate::pg_catalog::value::Value;

pub const FUNCTIONS: &[Function] = &[
    Function::new("to_regclass", (1, 1), "regclass", |view, it| Ok(find(view, it, relation))),
    Function::new("to_regtype", (1, 1), "regtype", |view, it| Ok(find(view, it, type_named))),
    Function::new("to_regproc", (1, 1), "regproc", |view, it| Ok(find(view, it, procedure))),
    Function::new("to_regprocedure", (1, 1), "regproc", |view, it| Ok(find(view, it, procedure))),
    Function::new("to_regnamespace", (1, 1), "regnamespace", |view, it| Ok(find(view, it, schema))),
    Function::new("to_regrole", (1, 1), "regrole", |view, it| Ok(find(view, it, role))),
    Function::new("regclassin", (1, 1), "regclass", |view, it| {
        read(view, it, relation, |name| missing(Kind::UndefinedTable, "relation", name))
    }),
    Function::new("regtypein", (1, 1), "regtype", |view, it| {
        read(view, it, type_named, |name| missing(Kind::UndefinedObject, "type", name))
    }),
    Function::new("regprocin", (1, 1), "regproc", |view, it| {
        read(view, it, procedure, |name| missing(Kind::UndefinedFunction, "function", name))
    }),
    Function::new("regnamespacein", (1, 1), "regnamespace", |view, it| {
        read(view, it, schema, |name| missing(Kind::UndefinedSchema, "schema", name))
    }),
    Function::new("regrolein", (1, 1), "regrole", |view, it| {
        read(view, it, role, |name| missing(Kind::UndefinedObject, "role", name))
    }),
    Function::new("regclassout", (1, 1), "text", |view, it| {
        Ok(show(it, |oid| object::display_name(view, oid)))
    }),
    Function::new("regtypeout", (1, 1), "text", |view, it| {
        Ok(show(it, |oid| {
            let name = types::format_type(view, i64::from(oid), None);
            (name != "???").then_some(name)
        }))
    }),
    Function::new("regprocout", (1, 1), "text", |view, it| {
        Ok(show(it, |oid| procedures::by_oid(view, oid).map(|it| it.name)))
    }),
    Function::new("regnamespaceout", (1, 1), "text", |view, it| {
        Ok(show(it, |oid| {
            object::schema_name(view, oid).map(|name| object::quote_identifier(&name))
        }))
    }),
    Function::new("regroleout", (1, 1), "text", |view, it| {
        Ok(show(it, |oid| {
            object::known_role_name(view, oid).map(|name| object::quote_identifier(&name))
        }))
    }),
    Function::new("pg_get_userbyid", (1, 1), "name", |view, it| {
        Ok(oid(it).map(|oid| object::role_name(view, oid)).into())
    }),
    Function::new("pg_table_is_visible", (1, 1), "bool", |view, it| {
        Ok(oid(it).and_then(|oid| table_is_visible(view, oid)).into())
    }),
    Function::new("pg_type_is_visible", (1, 1), "bool", |view, it| {
        Ok(oid(it).and_then(|oid| type_is_visible(view, oid)).into())
    }),
    Function::new("pg_function_is_visible", (1, 1), "bool", |view, it| {
        let of = oid(it).and_then(|oid| procedures::by_oid(view, oid));
        Ok(of.map(|it| object::search_path(view).contains(&it.schema)).into())
    }),
    // Objects of these kinds are in pg_catalog alone, which is always searched.
    Function::new("pg_collation_is_visible", (1, 1), "bool", |_, _| Ok(true.into())),
    Function::new("pg_conversion_is_visible", (1, 1), "bool", |_, _| Ok(true.into())),
    Function::new("pg_operator_is_visible", (1, 1), "bool", |_, _| Ok(true.into())),
    Function::new("pg_opclass_is_visible", (1, 1), "bool", |_, _| Ok(true.into())),
    Function::new("pg_opfamily_is_visible", (1, 1), "bool", |_, _| Ok(true.into())),
    Function::new("pg_statistics_obj_is_visible", (1, 1), "bool", |_, _| Ok(true.into())),
    Function::new("pg_ts_config_is_visible", (1, 1), "bool", |_, _| Ok(true.into())),
    Function::new("pg_ts_dict_is_visible", (1, 1), "bool", |_, _| Ok(true.into())),
    Function::new("pg_ts_parser_is_visible", (1, 1), "bool", |_, _| Ok(true.into())),
    Function::new("pg_ts_template_is_visible", (1, 1), "bool", |_, _| Ok(true.into())),
];

/// The first argument as an object id.
pub fn oid(arguments: &[Value]) -> Option<Oid> {
    oid_of(arguments.first()?)
}

pub fn oid_of(value: &Value) -> Option<Oid> {
    value.int().and_then(|it| Oid::try_from(it).ok())
}

/// The relation that `name`, perhaps with its schema, leads to.
pub fn relation(view: &CatalogView, name: &str) -> Option<Oid> {
    let parts = object::parse_name(name)?;
    let (schema, name) = split(&parts)?;
    object::find_relation(view, schema, name)
}

pub fn schema(view: &CatalogView, name: &str) -> Option<Oid> {
    match object::parse_name(name)?.as_slice() {
        [name] => object::find_schema(view, name),
        _ => None,
    }
}

pub fn procedure(view: &CatalogView, name: &str) -> Option<Oid> {
    let name = name.split_once('(').map_or(name, |(name, _)| name);
    let parts = object::parse_name(name)?;
    let (schema, name) = split(&parts)?;
    procedures::find(view, schema, name)
}

pub fn type_named(view: &CatalogView, name: &str) -> Option<Oid> {
    if let Some(built_in) = types::by_sql_name(name) {
        return Some(built_in.oid);
    }
    let relation = relation(view, name)?;
    object::relation(view, relation)?;
    Some(object::part_oid(relation, object::Part::RowType))
}

/// The error for a name that leads nowhere.
pub fn missing(kind: Kind, what: &str, name: &str) -> Error {
    let shown = match object::parse_name(name) {
        Some(parts) => parts.join("."),
        None => name.to_owned(),
    };
    Error::new(kind, format!("{what} \"{shown}\" does not exist"))
}

fn role(view: &CatalogView, name: &str) -> Option<Oid> {
    match object::parse_name(name)?.as_slice() {
        [name] => object::find_role(view, name),
        _ => None,
    }
}

fn split(parts: &[String]) -> Option<(Option<&str>, &str)> {
    match parts {
        [name] => Some((None, name)),
        [schema, name] => Some((Some(schema), name)),
        _ => None,
    }
}

fn find(
    view: &CatalogView,
    arguments: &[Value],
    by_name: fn(&CatalogView, &str) -> Option<Oid>,
) -> Value {
    match arguments {
        [Value::Text(name)] => by_name(view, name).into(),
        _ => Value::Null,
    }
}

fn read(
    view: &CatalogView,
    arguments: &[Value],
    by_name: fn(&CatalogView, &str) -> Option<Oid>,
    missing: impl Fn(&str) -> Error,
) -> Result<Value> {
    match arguments {
        [Value::Text(name)] if name == "-" => Ok(Value::Int(0)),
        [value] if value.int().is_some() => Ok(value.int().into()),
        [Value::Text(name)] => by_name(view, name).map(Value::from).ok_or_else(|| missing(name)),
        _ => Ok(Value::Null),
    }
}

/// An object id as its type shows it: the name, or the number where there is none.
fn show(arguments: &[Value], name: impl Fn(Oid) -> Option<String>) -> Value {
    match arguments.first() {
        Some(Value::Int(0)) => "-".into(),
        Some(value @ (Value::Int(_) | Value::Text(_))) => match (oid_of(value), value) {
            (Some(oid), _) => name(oid).unwrap_or_else(|| oid.to_string()).into(),
            (None, Value::Text(text)) => text.as_str().into(),
            (None, _) => Value::Null,
        },
        _ => Value::Null,
    }
}

fn table_is_visible(view: &CatalogView, oid: Oid) -> Option<bool> {
    let (_, name) = object::relation_name(view, oid)?;
    Some(object::find_relation(view, None, &name) == Some(oid))
}

fn type_is_visible(view: &CatalogView, oid: Oid) -> Option<bool> {
    if types::by_oid(oid).is_some() {
        return Some(true);
    }
    table_is_visible(view, object::relation_of_part(view, oid)?.oid)
}
