//! Names in statements: folding, qualification, and what they stand for.
//!
//! What it guarantees: names are folded and cut as PostgreSQL does (ASCII letters only; 63 bytes);
//! a name that stands for something the principal may not see is answered as one for nothing.

use std::fmt;
use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{self, Action, RelationAction, SchemaAction};
use kho_catalog::state::{BUILT_IN_ROLES, Oid, PUBLIC, Relation, RelationKind, Role, Schema};
use sqlparser::ast::{Ident, ObjectName, Owner};
use sqlparser::keywords::ALL_KEYWORDS;

use super::{Context, notice_of};
use crate::outcome::Notice;

/// The one database.
pub(crate) const DATABASE: &str = "kho";
/// PostgreSQL's `NAMEDATALEN` without the closing zero.
const NAME_BYTES: usize = 63;
const SYSTEM_SCHEMAS: &[&str] = &["kho", "pg_catalog", "information_schema"];

/// The name of a relation as it was written: with its schema, or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Qualified {
    pub schema: Option<String>,
    pub name: String,
}

impl fmt::Display for Qualified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// The kind of relation that a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Table,
    View,
    /// `ALTER TABLE … RENAME` and a few others take both.
    Any,
}

/// What an identifier stands for: lower case unless it was quoted, cut to 63 bytes.
pub(crate) fn fold(ident: &Ident) -> String {
    let mut name = match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    };
    name.truncate(cut(&name));
    name
}

/// [`fold`], for what a statement makes: says so if the name was cut.
pub(crate) fn created(ident: &Ident, notices: &mut Vec<Notice>) -> Result<String> {
    let name = fold(ident);
    if name.is_empty() {
        return Err(Error::new(Kind::Syntax, "zero-length delimited identifier"));
    }
    if name.len() < ident.value.len() {
        notices.push(cut_notice(&ident.value, &name));
    }
    Ok(name)
}

/// The same for a name that the parser folded already.
pub(crate) fn created_text(written: &str, notices: &mut Vec<Notice>) -> Result<String> {
    created(&Ident::with_quote('"', written), notices)
}

/// The identifier that [`fold`] gives `name` for, quoted only where it must be.
pub(crate) fn ident(name: &str) -> Ident {
    let mut bytes = name.bytes();
    let plain = bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && ALL_KEYWORDS.binary_search(&name.to_ascii_uppercase().as_str()).is_err();
    if plain { Ident::new(name) } else { Ident::with_quote('"', name) }
}

/// The parts of a name, folded; `kho.schema.table` loses its database.
pub(crate) fn parts(written: &ObjectName) -> Result<Vec<String>> {
    written
        .0
        .iter()
        .map(|part| {
            part.as_ident().map(fold).ok_or_else(|| {
                Error::new(Kind::Syntax, format!("\"{written}\" is not a name of an object"))
            })
        })
        .collect()
}

/// A relation's name.
pub(crate) fn qualified(written: &ObjectName) -> Result<Qualified> {
    qualify(parts(written)?)
}

/// A relation's name from its parts.
pub(crate) fn qualify(parts: Vec<String>) -> Result<Qualified> {
    let count = parts.len();
    let mut parts = parts.into_iter();
    match (count, parts.next(), parts.next(), parts.next()) {
        (1, Some(name), None, None) => Ok(Qualified { schema: None, name }),
        (2, Some(schema), Some(name), None) => Ok(Qualified { schema: Some(schema), name }),
        (3, Some(database), Some(schema), Some(name)) if database == DATABASE => {
            Ok(Qualified { schema: Some(schema), name })
        }
        (3, Some(database), Some(schema), Some(name)) => Err(Error::unsupported(format!(
            "cross-database references are not implemented: \"{database}.{schema}.{name}\""
        ))
        .with_hint("The database is kho.")),
        _ => Err(Error::new(Kind::Syntax, "improper qualified name (too many dotted names)")),
    }
}

/// A schema's name: one part, or two with the database.
pub(crate) fn schema_name(written: &ObjectName) -> Result<String> {
    let mut parts = parts(written)?;
    match (parts.pop(), parts.pop(), parts.pop()) {
        (Some(name), None, None) => Ok(name),
        (Some(name), Some(database), None) if database == DATABASE => Ok(name),
        _ => Err(Error::new(Kind::Syntax, "improper schema name (too many dotted names)")),
    }
}

/// The last identifier of a name that was already checked to be a relation's.
pub(crate) fn last(written: &ObjectName) -> Result<&Ident> {
    (written.0.last().and_then(|part| part.as_ident()))
        .ok_or_else(|| Error::new(Kind::Syntax, format!("\"{written}\" is not a name")))
}

/// The relation that `name` stands for, whatever its kind.
pub(crate) fn find<'a>(ctx: &Context<'a>, name: &Qualified) -> Result<&'a Arc<Relation>> {
    let written = name.to_string();
    let (state, who) = (ctx.state, ctx.who);
    match &name.schema {
        Some(schema) => privilege::find_relation(state, who, schema, &name.name, &written),
        None => ctx
            .search_path
            .iter()
            .find_map(|schema| {
                privilege::find_relation(state, who, schema, &name.name, &written).ok()
            })
            .ok_or_else(|| {
                let message = format!("relation \"{written}\" does not exist");
                Error::new(Kind::UndefinedTable, message)
            }),
    }
}

/// The relation that `name` stands for, if it is of that kind and `who` owns it.
pub(crate) fn find_owned<'a>(
    ctx: &Context<'a>,
    name: &Qualified,
    expected: Expected,
) -> Result<&'a Arc<Relation>> {
    let relation = find(ctx, name)?;
    require_kind(relation, expected)?;
    let own = Action::Relation(relation.oid, RelationAction::Own);
    privilege::require(ctx.state, ctx.who, own)?;
    Ok(relation)
}

/// That a relation is of the kind a statement is about.
pub(crate) fn require_kind(relation: &Relation, expected: Expected) -> Result<()> {
    let name = &relation.name;
    let (what, hint) = match (expected, &relation.kind) {
        (Expected::Any, _)
        | (Expected::Table, RelationKind::Table(_))
        | (Expected::View, RelationKind::View(_)) => return Ok(()),
        (Expected::Table, RelationKind::View(_)) => ("table", "It is a view."),
        (Expected::View, RelationKind::Table(_)) => ("view", "It is a table."),
    };
    Err(Error::new(Kind::WrongObjectType, format!("\"{name}\" is not a {what}")).with_hint(hint))
}

/// Where a new relation named `name` goes: the schema named, or the first of the search path that
/// `who` knows; it must let `who` create in it.
pub(crate) fn target<'a>(ctx: &Context<'a>, name: &Qualified) -> Result<&'a Arc<Schema>> {
    let found = match &name.schema {
        Some(schema) if SYSTEM_SCHEMAS.contains(&schema.as_str()) => {
            let message = format!("permission denied to create \"{name}\"");
            return Err(Error::new(Kind::InsufficientPrivilege, message)
                .with_detail("System schemas cannot be changed."));
        }
        Some(schema) => privilege::find_schema(ctx.state, ctx.who, schema)?,
        None => ctx
            .search_path
            .iter()
            .find_map(|schema| privilege::find_schema(ctx.state, ctx.who, schema).ok())
            .ok_or_else(|| {
                let message = "no schema has been selected to create in";
                Error::new(Kind::UndefinedSchema, message)
                    .with_hint("Write schema.name, or set search_path.")
            })?,
    };
    let create = Action::Schema(found.oid, SchemaAction::CreateIn);
    privilege::require(ctx.state, ctx.who, create)?;
    Ok(found)
}

/// That nothing in `schema` has this name, no index either; whoever may create there learns what
/// is taken.
pub(crate) fn require_free(ctx: &Context<'_>, schema: Oid, name: &str) -> Result<()> {
    let of_index = || {
        let relations = ctx.state.relations_of(schema);
        let mut keys = relations.flat_map(|it| it.keys().iter().chain(it.indexes()));
        keys.any(|key| key.name == name)
    };
    match ctx.state.relation(schema, name).is_some() || of_index() {
        true => Err(taken(name)),
        false => Ok(()),
    }
}

/// The error for a name that a relation has already.
pub(crate) fn taken(name: &str) -> Error {
    Error::new(Kind::DuplicateTable, format!("relation \"{name}\" already exists"))
}

/// The role `name`; the words for the current role stand for it.
pub(crate) fn find_role<'a>(ctx: &Context<'a>, name: &str) -> Result<&'a Arc<Role>> {
    let name = name.get(..cut(name)).unwrap_or(name);
    let found = match name {
        "current_user" | "current_role" | "session_user" => ctx.state.roles.get(&ctx.who.role()),
        _ => ctx.state.role(name),
    };
    found
        .ok_or_else(|| Error::new(Kind::UndefinedObject, format!("role \"{name}\" does not exist")))
}

/// The role that `OWNER TO` names, if `who` may give something to it: one may make an owner only
/// of a role one belongs to, because an owner's rights come with ownership.
pub(crate) fn new_owner(ctx: &Context<'_>, owner: &Owner) -> Result<Oid> {
    let role = match owner {
        Owner::Ident(ident) => find_role(ctx, &fold(ident))?.oid,
        Owner::CurrentRole | Owner::CurrentUser | Owner::SessionUser => ctx.who.role(),
    };
    if ctx.who.is(role) && role != PUBLIC {
        return Ok(role);
    }
    let message = format!("must be member of role \"{}\"", role_name(ctx, role));
    Err(Error::new(Kind::InsufficientPrivilege, message))
}

/// A role's name, for messages.
pub(crate) fn role_name<'a>(ctx: &Context<'a>, role: Oid) -> &'a str {
    ctx.state.roles.get(&role).map_or("public", |role| &role.name)
}

/// Whether every warehouse has this role.
pub(crate) fn is_built_in(role: Oid) -> bool {
    BUILT_IN_ROLES.iter().any(|(oid, _)| *oid == role)
}

/// How many bytes of `name` stay, cut between characters.
pub(crate) fn cut(name: &str) -> usize {
    name.floor_char_boundary(NAME_BYTES)
}

fn cut_notice(written: &str, name: &str) -> Notice {
    notice_of("42622", format!("identifier \"{written}\" will be truncated to \"{name}\""))
}
