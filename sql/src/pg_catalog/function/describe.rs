//! What PostgreSQL says of an object: definitions, comments, type names.

use kho_catalog::error::Result;
use kho_catalog::state::{Oid, Relation};

use super::Function;
use super::name::{oid, oid_of, relation as relation_named};
use crate::pg_catalog::CatalogView;
use crate::pg_catalog::keys;
use crate::pg_catalog::object::{self, Part};
use crate::pg_catalog::procedures;
use crate::pg_catalog::types;
use crate::pg_catalog::value::Value;

pub const FUNCTIONS: &[Function] = &[
    Function::new("format_type", (2, 2), "text", |view, it| {
        let modifier = it.get(1).and_then(Value::int);
        let number = it.first().and_then(Value::int);
        Ok(number.map(|number| types::format_type(view, number, modifier)).into())
    })
    .lenient(),
    // Expressions are kept as text: what is in pg_attrdef and pg_constraint is what they say.
    Function::new("pg_get_expr", (2, 3), "text", |_, it| {
        Ok(it.first().and_then(Value::text).into())
    }),
    Function::new("pg_get_constraintdef", (1, 2), "text", constraint),
    Function::new("pg_get_indexdef", (1, 3), "text", |view, it| {
        let column = it.get(1).and_then(Value::int).unwrap_or_default();
        let found = oid(it).and_then(|oid| object::index(view, oid));
        Ok(found.and_then(|(of, at)| keys::index_definition(view, of, at, column)).into())
    }),
    Function::new("pg_get_viewdef", (1, 2), "text", view_definition),
    Function::new("pg_get_ruledef", (1, 2), "text", rule),
    Function::new("pg_get_function_result", (1, 1), "text", |view, it| {
        let found = oid(it).and_then(|oid| procedures::by_oid(view, oid));
        Ok(found.and_then(|it| procedures::result(view, &it)).into())
    }),
    Function::new("pg_get_function_arguments", (1, 1), "text", arguments),
    Function::new("pg_get_function_identity_arguments", (1, 1), "text", arguments),
    Function::new("obj_description", (1, 2), "text", |view, it| {
        let class = it.get(1).and_then(Value::text).map(strip);
        Ok(oid(it).and_then(|oid| comment(view, oid, class)).into())
    }),
    Function::new("col_description", (2, 2), "text", |view, it| {
        let at = it.get(1).and_then(Value::int);
        Ok(oid(it).and_then(|oid| column_comment(view, oid, at)).into())
    }),
    Function::new("shobj_description", (2, 2), "text", |view, it| {
        let class = it.get(1).and_then(Value::text).map(strip);
        Ok(oid(it).and_then(|oid| shared_comment(view, oid, class)).into())
    }),
    Function::new("pg_relation_is_publishable", (1, 1), "bool", |_, _| Ok(false.into())),
    Function::new("pg_relation_is_updatable", (2, 2), "int4", |view, it| {
        // Insert, update and delete, as bits.
        let table = oid(it).and_then(|oid| object::relation(view, oid));
        Ok(if table.is_some_and(|it| it.table().is_some()) { 28 } else { 0 }.into())
    }),
    Function::new("pg_column_is_updatable", (3, 3), "bool", |view, it| {
        let table = oid(it).and_then(|oid| object::relation(view, oid));
        Ok(table.is_some_and(|it| it.table().is_some()).into())
    }),
    // Kho has none of what these describe; PostgreSQL too gives NULL for an unknown oid.
    Function::new("pg_get_triggerdef", (1, 2), "text", |_, _| Ok(Value::Null)),
    Function::new("pg_get_functiondef", (1, 1), "text", |_, _| Ok(Value::Null)),
    Function::new("pg_get_function_sqlbody", (1, 1), "text", |_, _| Ok(Value::Null)),
    Function::new("pg_get_partkeydef", (1, 1), "text", |_, _| Ok(Value::Null)),
    Function::new("pg_get_partition_constraintdef", (1, 1), "text", |_, _| Ok(Value::Null)),
    Function::new("pg_get_statisticsobjdef", (1, 1), "text", |_, _| Ok(Value::Null)),
    Function::new("pg_get_statisticsobjdef_columns", (1, 1), "text", |_, _| Ok(Value::Null)),
    Function::new("pg_get_serial_sequence", (2, 2), "text", |_, _| Ok(Value::Null)),
    Function::new("pg_get_replica_identity_index", (1, 1), "regclass", |_, _| Ok(Value::Null)),
];

fn arguments(view: &CatalogView, arguments: &[Value]) -> Result<Value> {
    let found = oid(arguments).and_then(|oid| procedures::by_oid(view, oid));
    Ok(found.map(|it| procedures::arguments(view, &it)).into())
}

fn constraint(view: &CatalogView, arguments: &[Value]) -> Result<Value> {
    let define = |oid: Oid| {
        let relation = object::relation_of_part(view, oid)?;
        let at = match object::part_of(relation, oid)? {
            Part::Check(at) => at,
            Part::Key(at) => return keys::constraint_definition(relation, at),
            _ => return None,
        };
        let text = relation.table()?.checks.get(at)?.expression.value()?;
        Some(format!("CHECK ({})", text.trim()))
    };
    Ok(oid(arguments).and_then(define).into())
}

fn view_definition(view: &CatalogView, arguments: &[Value]) -> Result<Value> {
    let named = match arguments.first() {
        Some(value @ Value::Text(text)) => oid_of(value).or_else(|| relation_named(view, text)),
        Some(value) => oid_of(value),
        None => None,
    };
    let relation = named.and_then(|oid| object::relation(view, oid));
    Ok(relation.and_then(|it| query(it)).map(|query| format!(" {query};")).into())
}

fn rule(view: &CatalogView, arguments: &[Value]) -> Result<Value> {
    let define = |oid: Oid| {
        let relation = object::relation_of_part(view, oid)?;
        if object::part_of(relation, oid)? != Part::Rule {
            return None;
        }
        let name = object::display_name(view, relation.oid)?;
        let query = query(relation)?;
        Some(format!("CREATE RULE \"_RETURN\" AS\n    ON SELECT TO {name} DO INSTEAD  {query};"))
    };
    Ok(oid(arguments).and_then(define).into())
}

fn query(relation: &Relation) -> Option<&str> {
    relation.view()?.query.value().map(|text| text.trim().trim_end_matches(';'))
}

fn comment(view: &CatalogView, oid: Oid, class: Option<&str>) -> Option<String> {
    let relation = || object::relation(view, oid).and_then(|it| it.comment.clone());
    let schema = || {
        let schema = view.state.schemas.get(&oid)?;
        view.visible.schemas().contains(&oid).then(|| schema.comment.clone())?
    };
    let text = match class {
        Some("pg_class") => relation(),
        Some("pg_namespace") => schema(),
        Some(_) => None,
        None => relation().or_else(schema),
    };
    text.and_then(|it| it.value().map(str::to_owned))
}

fn column_comment(view: &CatalogView, oid: Oid, number: Option<i64>) -> Option<String> {
    let at = usize::try_from(number?).ok()?.checked_sub(1)?;
    let column = object::relation(view, oid)?.columns.get(at)?;
    column.comment.as_ref()?.value().map(str::to_owned)
}

fn shared_comment(view: &CatalogView, oid: Oid, class: Option<&str>) -> Option<String> {
    if class != Some("pg_authid") {
        return None;
    }
    view.state.roles.get(&oid)?.comment.as_ref()?.value().map(str::to_owned)
}

fn strip(class: &str) -> &str {
    class.strip_prefix("pg_catalog.").unwrap_or(class)
}
