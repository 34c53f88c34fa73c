//! Functions: `pg_proc`, from what the session can call and the types' input and output.
//!
//! What it guarantees: what is listed can be called, or is what `pg_type` names. What it does
//! not: DataFusion's functions are overloaded without a list; their arguments are not told.

use std::sync::LazyLock;

use kho_catalog::error::Result;
use kho_catalog::state::Oid;

use super::CatalogView;
use super::definition::{PG_CATALOG, data_lines};
use super::object::{self, SYSTEM_OWNER};
use super::rows::Rows;
use super::types;
use super::value::Value;

const LANGUAGE_INTERNAL: i64 = 12;
/// Functions of the session are numbered from here, in the order of the view.
const FIRST: Oid = 0xc000_0000;
/// `any` stands for a result that depends on the arguments.
const ANY: Oid = 2276;

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
    pub result: Oid,
    pub arguments: Vec<i64>,
}

pub fn fill(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    if table != "pg_proc" {
        return Ok(());
    }
    for it in TYPE_FUNCTIONS.iter() {
        push(it.oid, PG_CATALOG.into(), it.name, "f", it.result, it.arguments.clone(), rows)?;
    }
    for (at, (schema, name, kind)) in view.functions.iter().enumerate() {
        let schema = object::find_schema(view, schema).map_or(Value::Int(0), Value::from);
        push(oid_at(at), schema, name, &kind.to_string(), ANY, Vec::new(), rows)?;
    }
    Ok(())
}

/// The function of that oid.
pub fn by_oid(view: &CatalogView, oid: Oid) -> Option<Procedure> {
    if let Some(it) = TYPE_FUNCTIONS.iter().find(|it| it.oid == oid) {
        return Some(Procedure {
            schema: "pg_catalog".to_owned(),
            name: it.name.to_owned(),
            result: it.result,
            arguments: it.arguments.clone(),
        });
    }
    let at = usize::try_from(oid.checked_sub(FIRST)?).ok()?;
    let (schema, name, _) = view.functions.get(at)?;
    let (schema, name) = (schema.clone(), name.clone());
    Some(Procedure { schema, name, result: ANY, arguments: Vec::new() })
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

/// The arguments' types, as `pg_get_function_arguments` lists them.
pub fn arguments(view: &CatalogView, it: &Procedure) -> String {
    let names = it.arguments.iter().map(|oid| types::format_type(view, *oid, None));
    names.collect::<Vec<_>>().join(", ")
}

fn oid_at(at: usize) -> Oid {
    FIRST | Oid::try_from(at).unwrap_or(0)
}

fn push(
    oid: Oid,
    schema: Value,
    name: &str,
    kind: &str,
    result: Oid,
    arguments: Vec<i64>,
    rows: &mut Rows,
) -> Result<()> {
    rows.push([
        ("oid", oid.into()),
        ("proname", name.into()),
        ("pronamespace", schema),
        ("proowner", SYSTEM_OWNER.into()),
        ("prolang", LANGUAGE_INTERNAL.into()),
        ("procost", Value::Int(1)),
        ("prokind", kind.into()),
        ("provolatile", "s".into()),
        ("proparallel", "s".into()),
        ("pronargs", arguments.len().into()),
        ("prorettype", result.into()),
        ("proargtypes", arguments.into()),
        ("prosrc", name.into()),
    ])
}
