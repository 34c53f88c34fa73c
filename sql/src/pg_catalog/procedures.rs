//! Functions: `pg_proc`, from what the session can call and the types' input and output.
//!
//! What it guarantees: what is listed can be called, or is what `pg_type` names. What it does
//! not: DataFusion's functions are overloaded without a list; their arguments are not told.
//! Those of `kho` are, with their names.

use std::sync::LazyLock;

use kho_catalog::error::Result;
use kho_catalog::state::Oid;

use super::CatalogView;
use super::definition::{PG_CATALOG, data_lines};
use super::object::{self, SYSTEM_OWNER};
use super::rows::Rows;
use super::types;
use super::value::Value;
use crate::system::SCHEMA;

const LANGUAGE_INTERNAL: i64 = 12;
/// Functions of the session are numbered from here, in the order of the view.
const FIRST: Oid = 0xc000_0000;
/// `any` stands for a result that depends on the arguments.
const ANY: Oid = 2276;

const TEXT: i64 = 25;
const BIGINT: i64 = 20;
const BOOLEAN: i64 = 16;
const TIMESTAMPTZ: i64 = 1184;
const RECORD: Oid = 2249;
const VOID: Oid = 2278;

/// The parameters of the functions and procedures of the schema `kho`: name and type.
type Parameters = &'static [(&'static str, i64)];
const OWN: &[(&str, Parameters)] = &[
    ("table_history", &[("dataset", TEXT)]),
    ("table_changes", &[("dataset", TEXT), ("from_version", BIGINT), ("to_version", BIGINT)]),
    ("explain_access", &[("role", TEXT), ("dataset", TEXT)]),
    ("restore_table", &[("dataset", TEXT), ("version", BIGINT)]),
    ("compact_table", &[("dataset", TEXT)]),
    ("cancel", &[("id", BIGINT)]),
    ("add_purpose", &[("code", TEXT), ("name", TEXT), ("needs_order", BOOLEAN)]),
    ("remove_purpose", &[("code", TEXT)]),
    (
        "grant_agreement",
        &[
            ("dataset", TEXT),
            ("role", TEXT),
            ("purposes", TEXT),
            ("valid_until", TIMESTAMPTZ),
            ("basis", TEXT),
            ("third_party", TEXT),
            ("valid_from", TIMESTAMPTZ),
            ("columns", TEXT),
            ("row_predicate", TEXT),
            ("order_number", TEXT),
            ("rows_per_day", TEXT),
            ("bytes_per_day", TEXT),
        ],
    ),
    ("end_agreement", &[("id", BIGINT), ("reason", TEXT)]),
    ("set_third_party", &[("role", TEXT), ("party", TEXT)]),
    ("unset_third_party", &[("role", TEXT)]),
    (
        "request_access",
        &[
            ("dataset", TEXT),
            ("columns", TEXT),
            ("row_predicate", TEXT),
            ("purposes", TEXT),
            ("until", TIMESTAMPTZ),
            ("basis", TEXT),
            ("order_number", TEXT),
            ("rows_per_day", TEXT),
            ("bytes_per_day", TEXT),
        ],
    ),
    ("withdraw_access", &[("id", BIGINT)]),
    ("approve_access", &[("id", BIGINT), ("rows_per_day", TEXT), ("bytes_per_day", TEXT)]),
    ("refuse_access", &[("id", BIGINT), ("reason", TEXT), ("legal_basis", TEXT)]),
    ("freeze", &[("role", TEXT), ("dataset", TEXT), ("reason", TEXT)]),
    ("unfreeze", &[("role", TEXT), ("dataset", TEXT)]),
    ("set_role_limit", &[("role", TEXT), ("name", TEXT), ("value", TEXT)]),
    (
        "create_api_token",
        &[
            ("name", TEXT),
            ("role", TEXT),
            ("valid_until", TIMESTAMPTZ),
            ("scope", TEXT),
            ("datasets", TEXT),
            ("purposes", TEXT),
        ],
    ),
    ("map_identity", &[("kind", TEXT), ("identity", TEXT), ("role", TEXT)]),
    ("unmap_identity", &[("kind", TEXT), ("identity", TEXT), ("role", TEXT)]),
    ("revoke_api_token", &[("name", TEXT), ("role", TEXT)]),
];

/// An input or output function of a built-in type.
struct TypeFunction {
    oid: Oid,
    name: &'static str,
    result: Oid,
    arguments: Vec<i64>,
}

static TYPE_FUNCTIONS: LazyLock<Vec<TypeFunction>> = LazyLock::new(|| {
    let parse = |line: &'static str| {
        let mut words = line.split(' ');
        Some(TypeFunction {
            oid: words.next()?.parse().ok()?,
            name: words.next()?,
            result: words.next()?.parse().ok()?,
            arguments: words.next()?.split(',').filter_map(|it| it.parse().ok()).collect(),
        })
    };
    data_lines(include_str!("procedures.txt")).filter_map(parse).collect()
});

/// A function as `pg_proc` and its helpers describe it.
pub struct Procedure {
    pub schema: String,
    pub name: String,
    /// What `pg_get_function_result` says; nothing of a procedure.
    pub result: Option<Oid>,
    pub gives_rows: bool,
    pub arguments: Vec<i64>,
    /// As many as there are arguments, or none.
    pub names: Vec<&'static str>,
    kind: char,
}

pub fn fill(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    if table != "pg_proc" {
        return Ok(());
    }
    for it in TYPE_FUNCTIONS.iter() {
        push(it.oid, PG_CATALOG.into(), &it.described(), rows)?;
    }
    for (at, listed) in view.functions.iter().enumerate() {
        let of = described(listed);
        let schema = object::find_schema(view, &of.schema).map_or(Value::Int(0), Value::from);
        push(oid_at(at), schema, &of, rows)?;
    }
    Ok(())
}

/// The function of that oid.
pub fn by_oid(view: &CatalogView, oid: Oid) -> Option<Procedure> {
    if let Some(it) = TYPE_FUNCTIONS.iter().find(|it| it.oid == oid) {
        return Some(it.described());
    }
    let at = usize::try_from(oid.checked_sub(FIRST)?).ok()?;
    view.functions.get(at).map(described)
}

/// The function of that name; the first where there are several.
pub fn find(view: &CatalogView, schema: Option<&str>, name: &str) -> Option<Oid> {
    if schema.is_none_or(|it| it == "pg_catalog")
        && let Some(it) = TYPE_FUNCTIONS.iter().find(|it| it.name == name)
    {
        return Some(it.oid);
    }
    let path = object::search_path(view);
    let fits = |(of, it, _): &(String, String, char)| {
        it == name && schema.map_or_else(|| path.contains(of), |schema| schema == of)
    };
    view.functions.iter().position(fits).map(oid_at)
}

/// The arguments as `pg_get_function_arguments` lists them: their names, where they have any, and
/// their types.
pub fn arguments(view: &CatalogView, it: &Procedure) -> String {
    let shown = it.arguments.iter().enumerate().map(|(at, oid)| {
        let of = types::format_type(view, *oid, None);
        it.names.get(at).map_or_else(|| of.clone(), |name| format!("{name} {of}"))
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// The result as `pg_get_function_result` tells it.
pub fn result(view: &CatalogView, it: &Procedure) -> Option<String> {
    let of = types::format_type(view, i64::from(it.result?), None);
    Some(if it.gives_rows { format!("SETOF {of}") } else { of })
}

impl TypeFunction {
    fn described(&self) -> Procedure {
        Procedure {
            schema: "pg_catalog".to_owned(),
            name: self.name.to_owned(),
            result: Some(self.result),
            gives_rows: false,
            arguments: self.arguments.clone(),
            names: Vec::new(),
            kind: 'f',
        }
    }
}

fn described((schema, name, kind): &(String, String, char)) -> Procedure {
    let own = schema == SCHEMA;
    let of = OWN.iter().find(|(it, _)| own && it == name).map(|(_, parameters)| *parameters);
    let result = if of.is_some() { RECORD } else { ANY };
    Procedure {
        schema: schema.clone(),
        name: name.clone(),
        result: (*kind != 'p').then_some(result),
        gives_rows: of.is_some() && *kind == 'f',
        arguments: of.unwrap_or_default().iter().map(|(_, oid)| *oid).collect(),
        names: of.unwrap_or_default().iter().map(|(name, _)| *name).collect(),
        kind: *kind,
    }
}

fn oid_at(at: usize) -> Oid {
    FIRST | Oid::try_from(at).unwrap_or(0)
}

fn push(oid: Oid, schema: Value, of: &Procedure, rows: &mut Rows) -> Result<()> {
    let names: Vec<String> = of.names.iter().map(|it| (*it).to_owned()).collect();
    rows.push([
        ("oid", oid.into()),
        ("proname", of.name.as_str().into()),
        ("pronamespace", schema),
        ("proowner", SYSTEM_OWNER.into()),
        ("prolang", LANGUAGE_INTERNAL.into()),
        ("procost", Value::Int(1)),
        ("prokind", of.kind.to_string().as_str().into()),
        ("provolatile", "s".into()),
        ("proparallel", "s".into()),
        ("proretset", of.gives_rows.into()),
        ("pronargs", of.arguments.len().into()),
        ("prorettype", of.result.unwrap_or(VOID).into()),
        ("proargtypes", of.arguments.clone().into()),
        ("proargnames", (!names.is_empty()).then_some(names).into()),
        ("prosrc", of.name.as_str().into()),
    ])
}
