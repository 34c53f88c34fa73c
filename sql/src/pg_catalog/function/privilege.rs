//! `has_table_privilege` and its kin, `pg_has_role`.
//!
//! What it guarantees: the truth from the grants in the state. An object the principal may not
//! know of is one that does not exist, whoever's right is asked for.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{MembershipOption, Oid, Privilege};

use super::Function;
use super::name::{missing, oid_of, procedure, relation, schema, type_named};
use crate::pg_catalog::CatalogView;
use crate::pg_catalog::acl;
use crate::pg_catalog::definition;
use crate::pg_catalog::object;
use crate::pg_catalog::value::Value;

pub const FUNCTIONS: &[Function] = &[
    Function::new("has_table_privilege", (2, 3), "bool", has_table),
    Function::new("has_any_column_privilege", (2, 3), "bool", has_any_column),
    Function::new("has_column_privilege", (3, 4), "bool", has_column),
    Function::new("has_schema_privilege", (2, 3), "bool", has_schema),
    Function::new("has_database_privilege", (2, 3), "bool", has_database),
    Function::new("has_function_privilege", (2, 3), "bool", has_function),
    Function::new("has_type_privilege", (2, 3), "bool", has_type),
    Function::new("pg_has_role", (2, 3), "bool", has_role),
];

/// The role with whose rights the system manages schemas.
const ADMIN: Oid = 10;

/// A right as the caller spelt it; `None` is a right of PostgreSQL that Kho does not have.
struct Asked {
    privilege: Option<Privilege>,
    /// `WITH GRANT OPTION`.
    grantable: bool,
}

fn has_table(view: &CatalogView, arguments: &[Value]) -> Result<Value> {
    let (role, table, asked) = three(view, arguments)?;
    let asked = privileges(asked, TABLE_RIGHTS)?;
    on_relation(view, role, table, &asked, |column| column.is_none())
}

fn has_any_column(view: &CatalogView, arguments: &[Value]) -> Result<Value> {
    let (role, table, asked) = three(view, arguments)?;
    let asked = privileges(asked, COLUMN_RIGHTS)?;
    on_relation(view, role, table, &asked, |_| true)
}

fn has_column(view: &CatalogView, arguments: &[Value]) -> Result<Value> {
    let (role, table, column, asked) = match arguments {
        [table, column, asked] => (view.role, table, column, asked),
        [role, table, column, asked] => (role_of(view, role)?, table, column, asked),
        _ => return Ok(Value::Null),
    };
    let asked = privileges(asked, COLUMN_RIGHTS)?;
    let Some(oid) = find(view, table, relation, Kind::UndefinedTable, "relation")? else {
        return Ok(Value::Null);
    };
    let Some(id) = column_of(view, oid, column)? else { return Ok(Value::Null) };
    on_relation(view, role, &Value::from(oid), &asked, |column| column.is_none_or(|it| it == id))
}

/// The id of the column that is meant by name or by number; `None` where there is no such number.
/// A system table's columns have no ids, and no rights of their own: theirs is 0.
fn column_of(view: &CatalogView, oid: Oid, column: &Value) -> Result<Option<u32>> {
    let (table, columns): (&str, Vec<(&str, u32)>) =
        match (object::relation(view, oid), definition::by_oid(oid)) {
            (Some(relation), _) => {
                let columns = relation.columns.iter().map(|it| (it.name.as_str(), it.id));
                (&relation.name, columns.collect())
            }
            (None, Some(system)) => {
                (system.name, system.columns.iter().map(|it| (it.name, 0)).collect())
            }
            (None, None) => return Ok(None),
        };
    match column {
        Value::Text(name) => match columns.iter().find(|(known, _)| known == name) {
            Some((_, id)) => Ok(Some(*id)),
            None => Err(Error::new(
                Kind::UndefinedColumn,
                format!("column \"{name}\" of relation \"{table}\" does not exist"),
            )),
        },
        Value::Int(number) => {
            let at = usize::try_from(*number).ok().and_then(|it| it.checked_sub(1));
            Ok(at.and_then(|at| columns.get(at)).map(|(_, id)| *id))
        }
        _ => Ok(None),
    }
}

/// Whether the role has one of the rights, on the whole relation or on what `on` says yes to.
fn on_relation(
    view: &CatalogView,
    role: Oid,
    table: &Value,
    asked: &[Asked],
    on: impl Fn(Option<u32>) -> bool,
) -> Result<Value> {
    let Some(oid) = find(view, table, relation, Kind::UndefinedTable, "relation")? else {
        return Ok(Value::Null);
    };
    let Some(of) = object::relation(view, oid) else {
        // The system tables can be read by all, and changed by none.
        let system = definition::by_oid(oid).is_some();
        let reads = |it: &Asked| it.privilege == Some(Privilege::Select) && !it.grantable;
        return Ok(if system { asked.iter().any(reads).into() } else { Value::Null });
    };
    let closure = acl::closure(&view.state, role);
    let has = |it: &Asked| {
        let has = |one| acl::has_on(&closure, of.owner, &of.grants, one, it.grantable, &on);
        it.privilege.is_some_and(has)
    };
    Ok(asked.iter().any(has).into())
}

fn has_schema(view: &CatalogView, arguments: &[Value]) -> Result<Value> {
    let (role, name, asked) = three(view, arguments)?;
    let asked = privileges(asked, SCHEMA_RIGHTS)?;
    let Some(oid) = find(view, name, schema, Kind::UndefinedSchema, "schema")? else {
        return Ok(Value::Null);
    };
    let visible = view.visible.schemas().contains(&oid);
    let Some(of) = view.state.schemas.get(&oid).filter(|_| visible) else {
        let system = definition::SYSTEM_SCHEMAS.iter().any(|(it, _)| *it == oid);
        let uses = |it: &Asked| it.privilege == Some(Privilege::Usage) && !it.grantable;
        return Ok(if system { asked.iter().any(uses).into() } else { Value::Null });
    };
    let closure = acl::closure(&view.state, role);
    let has = |it: &Asked| {
        let has = |one| acl::has(&closure, of.owner, &of.grants, one, it.grantable);
        it.privilege.is_some_and(has)
    };
    Ok(asked.iter().any(has).into())
}

fn has_database(view: &CatalogView, arguments: &[Value]) -> Result<Value> {
    let (role, database, asked) = three(view, arguments)?;
    match database {
        Value::Text(name) if *name == view.database => {}
        Value::Text(name) => return Err(missing(Kind::UndefinedDatabase, "database", name)),
        Value::Int(oid) if *oid == i64::from(object::DATABASE) => {}
        _ => return Ok(Value::Null),
    }
    let mut has = false;
    for (name, grantable) in words(asked) {
        has |= match name.as_str() {
            "CONNECT" => !grantable,
            // Schemas are made by kho_admin; there are no temporary tables.
            "CREATE" => !grantable && acl::is_member(&view.state, role, ADMIN, None),
            "TEMP" | "TEMPORARY" => false,
            other => return Err(unknown(other)),
        };
    }
    Ok(has.into())
}

fn has_function(view: &CatalogView, arguments: &[Value]) -> Result<Value> {
    let (_, function, asked) = three(view, arguments)?;
    only(asked, "EXECUTE")?;
    let found = find(view, function, procedure, Kind::UndefinedFunction, "function")?;
    Ok(found.map(|_| true).into())
}

fn has_type(view: &CatalogView, arguments: &[Value]) -> Result<Value> {
    let (_, name, asked) = three(view, arguments)?;
    only(asked, "USAGE")?;
    Ok(find(view, name, type_named, Kind::UndefinedObject, "type")?.map(|_| true).into())
}

fn has_role(view: &CatalogView, arguments: &[Value]) -> Result<Value> {
    let (role, of, asked) = three(view, arguments)?;
    let of = role_of(view, of)?;
    let mut has = false;
    for (name, grantable) in words(asked) {
        let option = grantable.then_some(MembershipOption::Admin);
        has |= match name.as_str() {
            "USAGE" | "MEMBER" => acl::is_member(&view.state, role, of, option),
            other => return Err(unknown(other)),
        };
    }
    Ok(has.into())
}

const TABLE_RIGHTS: &[(&str, Option<Privilege>)] = &[
    ("SELECT", Some(Privilege::Select)),
    ("INSERT", Some(Privilege::Insert)),
    ("UPDATE", Some(Privilege::Update)),
    ("DELETE", Some(Privilege::Delete)),
    ("TRUNCATE", Some(Privilege::Truncate)),
    ("REFERENCES", None),
    ("TRIGGER", None),
];
const COLUMN_RIGHTS: &[(&str, Option<Privilege>)] = &[
    ("SELECT", Some(Privilege::Select)),
    ("INSERT", Some(Privilege::Insert)),
    ("UPDATE", Some(Privilege::Update)),
    ("REFERENCES", None),
];
const SCHEMA_RIGHTS: &[(&str, Option<Privilege>)] =
    &[("USAGE", Some(Privilege::Usage)), ("CREATE", Some(Privilege::Create))];

/// The arguments of a function that can be called with and without a role.
fn three<'a>(view: &CatalogView, arguments: &'a [Value]) -> Result<(Oid, &'a Value, &'a Value)> {
    match arguments {
        [object, asked] => Ok((view.role, object, asked)),
        [role, object, asked] => Ok((role_of(view, role)?, object, asked)),
        _ => Err(Error::internal("a privilege function was called with other arguments")),
    }
}

fn role_of(view: &CatalogView, role: &Value) -> Result<Oid> {
    match role {
        Value::Text(name) if name == "public" => Ok(kho_catalog::state::PUBLIC),
        Value::Text(name) => object::find_role(view, name)
            .ok_or_else(|| missing(Kind::UndefinedObject, "role", name)),
        other => oid_of(other)
            .filter(|oid| object::known_role_name(view, *oid).is_some())
            .ok_or_else(|| Error::new(Kind::UndefinedObject, "there is no role with that oid")),
    }
}

/// An object by name or by oid: a name that leads nowhere is an error, an oid is `None`.
fn find(
    view: &CatalogView,
    object: &Value,
    by_name: fn(&CatalogView, &str) -> Option<Oid>,
    kind: Kind,
    what: &str,
) -> Result<Option<Oid>> {
    match object {
        Value::Text(name) => by_name(view, name).map(Some).ok_or_else(|| missing(kind, what, name)),
        other => Ok(oid_of(other)),
    }
}

fn privileges(asked: &Value, known: &[(&str, Option<Privilege>)]) -> Result<Vec<Asked>> {
    words(asked)
        .map(|(name, grantable)| {
            let (_, privilege) =
                known.iter().find(|(it, _)| *it == name).ok_or_else(|| unknown(&name))?;
            Ok(Asked { privilege: *privilege, grantable })
        })
        .collect()
}

fn only(asked: &Value, known: &str) -> Result<()> {
    match words(asked).find(|(name, _)| name != known) {
        Some((other, _)) => Err(unknown(&other)),
        None => Ok(()),
    }
}

/// The rights in a list of them, in upper case, and whether the option to grant is asked for.
fn words(asked: &Value) -> impl Iterator<Item = (String, bool)> {
    asked.text().unwrap_or_default().split(',').map(|one| {
        let one = one.trim().to_uppercase();
        let stripped =
            one.strip_suffix(" WITH GRANT OPTION").or(one.strip_suffix(" WITH ADMIN OPTION"));
        match stripped {
            Some(name) => (name.to_owned(), true),
            None => (one, false),
        }
    })
}

fn unknown(name: &str) -> Error {
    Error::new(
        Kind::InvalidParameterValue,
        format!("unrecognized privilege type: \"{}\"", name.to_lowercase()),
    )
}
