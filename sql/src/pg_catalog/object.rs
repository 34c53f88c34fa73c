//! Names and numbers of objects, as far as the principal may know of them.
//!
//! What it guarantees: every look-up goes through the view's visible sets; what is hidden is
//! answered as what never was.
//!
//! # Why numbers are made here
//! A row type, a view's rule, a `CHECK` and a default have an oid in PostgreSQL and none in Kho's
//! catalog. They get one that is computed from their relation's, above all that Kho gives out.

use std::sync::Arc;

use kho_catalog::state::{BUILT_IN_ROLES, Oid, Relation, Role, Schema};

use super::CatalogView;
use super::definition::{self, SYSTEM_SCHEMAS};

/// The owner of the system catalogs: `kho_admin`.
pub const SYSTEM_OWNER: Oid = 10;
/// The oid of the one database.
pub const DATABASE: Oid = 5;

/// A part of a relation that PostgreSQL gives an oid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    RowType,
    RowTypeArray,
    Rule,
    /// The index of the nth that the relation is searched by, from 0: keys, then indexes.
    Index(usize),
    /// The nth key's constraint, from 0.
    Key(usize),
    /// The nth `CHECK`, from 0.
    Check(usize),
    /// The default of the column at this position, from 0.
    Default(usize),
}

const FIRST_PART: Oid = 0x8000_0000;
const FIRST_INDEX: Oid = 32;
const FIRST_KEY: Oid = 96;
const FIRST_CHECK: Oid = 160;
const FIRST_DEFAULT: Oid = 512;

/// The oid of a part of a relation. It is its own as long as a warehouse has given out fewer than
/// a million ids and the relation has at most 64 keys and indexes, 352 checks and 512 defaults.
pub fn part_oid(relation: Oid, part: Part) -> Oid {
    let nth = |nth: usize| Oid::try_from(nth).unwrap_or(Oid::MAX);
    let within = match part {
        Part::RowType => 0,
        Part::RowTypeArray => 1,
        Part::Rule => 2,
        Part::Index(at) => FIRST_INDEX + nth(at).min(FIRST_KEY - FIRST_INDEX - 1),
        Part::Key(at) => FIRST_KEY + nth(at).min(FIRST_CHECK - FIRST_KEY - 1),
        Part::Check(at) => FIRST_CHECK + nth(at).min(FIRST_DEFAULT - FIRST_CHECK - 1),
        Part::Default(at) => FIRST_DEFAULT + nth(at).min(511),
    };
    FIRST_PART | ((relation & 0x000f_ffff) << 10) | within
}

/// The visible relation that a part's oid was made from.
pub fn relation_of_part(view: &CatalogView, oid: Oid) -> Option<&Arc<Relation>> {
    if oid & 0xc000_0000 != FIRST_PART {
        return None;
    }
    relation(view, (oid & !FIRST_PART) >> 10)
}

/// The part of `relation` that has this oid.
pub fn part_of(relation: &Relation, oid: Oid) -> Option<Part> {
    let checks = relation.table().map_or(0, |table| table.checks.len());
    let (keys, searched) = (relation.keys().len(), relation.searched().len());
    [Part::RowType, Part::RowTypeArray, Part::Rule]
        .into_iter()
        .chain((0..searched).map(Part::Index))
        .chain((0..keys).map(Part::Key))
        .chain((0..checks).map(Part::Check))
        .chain((0..relation.columns.len()).map(Part::Default))
        .find(|part| part_oid(relation.oid, *part) == oid)
}

/// The visible relations.
pub fn relations(view: &CatalogView) -> impl Iterator<Item = &Arc<Relation>> {
    view.visible
        .relations()
        .iter()
        .filter_map(|oid| view.state.relations.get(oid))
        .filter(|it| view.visible.schemas().contains(&it.schema))
}

/// The visible schemas.
pub fn schemas(view: &CatalogView) -> impl Iterator<Item = &Arc<Schema>> {
    view.visible.schemas().iter().filter_map(|oid| view.state.schemas.get(oid))
}

pub fn relation(view: &CatalogView, oid: Oid) -> Option<&Arc<Relation>> {
    let relation = view.state.relations.get(&oid)?;
    let visible = view.visible.relations().contains(&oid)
        && view.visible.schemas().contains(&relation.schema);
    visible.then_some(relation)
}

/// The visible table that has the index of this oid for the nth that it is searched by.
pub fn index(view: &CatalogView, oid: Oid) -> Option<(&Arc<Relation>, usize)> {
    let relation = relation_of_part(view, oid)?;
    match part_of(relation, oid)? {
        Part::Index(at) => Some((relation, at)),
        _ => None,
    }
}

/// Schema and name of a relation, Kho's own, an index, or a system table.
pub fn relation_name(view: &CatalogView, oid: Oid) -> Option<(String, String)> {
    if let Some(it) = relation(view, oid) {
        return Some((schema_name(view, it.schema)?, it.name.clone()));
    }
    if let Some((it, at)) = index(view, oid) {
        return Some((schema_name(view, it.schema)?, it.searched().get(at)?.name.clone()));
    }
    definition::by_oid(oid).map(|it| (it.schema.to_owned(), it.name.to_owned()))
}

/// How `regclass` shows a relation: with its schema where the search path does not lead to it.
pub fn display_name(view: &CatalogView, oid: Oid) -> Option<String> {
    let (schema, name) = relation_name(view, oid)?;
    if find_in_path(view, &name) == Some(oid) {
        return Some(quote_identifier(&name));
    }
    Some(format!("{}.{}", quote_identifier(&schema), quote_identifier(&name)))
}

/// The relation that `name` leads to, by its schema or by the search path.
pub fn find_relation(view: &CatalogView, schema: Option<&str>, name: &str) -> Option<Oid> {
    match schema {
        Some(schema) => find_in_schema(view, schema, name),
        None => find_in_path(view, name),
    }
}

/// The schemas that are searched, `pg_catalog` first unless the path itself says where.
pub fn search_path(view: &CatalogView) -> Vec<String> {
    let user = role_name(view, view.role);
    let mut path: Vec<String> = view
        .search_path
        .iter()
        .map(|name| if name == "$user" { user.clone() } else { name.clone() })
        .filter(|name| find_schema(view, name).is_some())
        .collect();
    if !path.iter().any(|name| name == "pg_catalog") {
        path.insert(0, "pg_catalog".to_owned());
    }
    path
}

/// The schemas that are searched and that the user's path names.
pub fn explicit_path(view: &CatalogView) -> Vec<String> {
    let mut path = search_path(view);
    if !view.search_path.iter().any(|name| name == "pg_catalog") {
        path.retain(|name| name != "pg_catalog");
    }
    path
}

pub fn schema_name(view: &CatalogView, oid: Oid) -> Option<String> {
    if let Some((_, name)) = SYSTEM_SCHEMAS.iter().find(|(it, _)| *it == oid) {
        return Some((*name).to_owned());
    }
    let visible = view.visible.schemas().contains(&oid);
    let schema = view.state.schemas.get(&oid).filter(|_| visible);
    schema.map(|schema| schema.name.clone())
}

pub fn find_schema(view: &CatalogView, name: &str) -> Option<Oid> {
    if let Some((oid, _)) = SYSTEM_SCHEMAS.iter().find(|(_, it)| *it == name) {
        return Some(*oid);
    }
    let schema = view.state.schema(name)?;
    view.visible.schemas().contains(&schema.oid).then_some(schema.oid)
}

/// Every role, the built-in ones too.
pub fn roles(view: &CatalogView) -> impl Iterator<Item = &Arc<Role>> {
    view.state.roles.values()
}

/// The name of a role, or PostgreSQL's text for one that is not there.
pub fn role_name(view: &CatalogView, oid: Oid) -> String {
    known_role_name(view, oid).unwrap_or_else(|| format!("unknown (OID={oid})"))
}

pub fn known_role_name(view: &CatalogView, oid: Oid) -> Option<String> {
    let built_in = || BUILT_IN_ROLES.iter().find(|(it, _)| *it == oid).map(|(_, name)| *name);
    match view.state.roles.get(&oid) {
        Some(role) => Some(role.name.clone()),
        None => built_in().map(str::to_owned),
    }
}

pub fn find_role(view: &CatalogView, name: &str) -> Option<Oid> {
    let built_in = || BUILT_IN_ROLES.iter().find(|(_, it)| *it == name).map(|(oid, _)| *oid);
    view.state.role(name).map(|role| role.oid).or_else(built_in)
}

/// `name` as SQL must write it.
pub fn quote_identifier(name: &str) -> String {
    let plain = name.starts_with(|it: char| it.is_ascii_lowercase() || it == '_')
        && name.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_')
        && !RESERVED.contains(&name);
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// The parts of a dotted name, unquoted names folded; `None` where it is not a name.
pub fn parse_name(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_part(quoted)?,
            None => {
                let end = rest.find(['.', '"']).unwrap_or(rest.len());
                let (part, after) = rest.split_at_checked(end)?;
                (part.trim().to_lowercase(), after)
            }
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match after.trim_start() {
            "" => return Some(parts),
            after => rest = after.strip_prefix('.')?.trim_start(),
        }
    }
}

fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                part.push('"');
                rest = after;
            }
            None => return Some((part, after)),
        }
    }
}

fn find_in_path(view: &CatalogView, name: &str) -> Option<Oid> {
    search_path(view).iter().find_map(|schema| find_in_schema(view, schema, name))
}

fn find_in_schema(view: &CatalogView, schema: &str, name: &str) -> Option<Oid> {
    if let Some(it) = definition::find(schema, name) {
        return Some(it.oid);
    }
    let schema = find_schema(view, schema)?;
    match view.state.relation(schema, name) {
        Some(found) => relation(view, found.oid).map(|it| it.oid),
        None => find_index(view, schema, name),
    }
}

fn find_index(view: &CatalogView, schema: Oid, name: &str) -> Option<Oid> {
    relations(view).filter(|it| it.schema == schema).find_map(|it| {
        let at = it.searched().iter().position(|key| key.name == name)?;
        Some(part_oid(it.oid, Part::Index(at)))
    })
}

/// Words that PostgreSQL reserves: a name that is one of them is quoted.
pub const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
];
