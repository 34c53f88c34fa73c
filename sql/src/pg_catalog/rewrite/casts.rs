//! Casts to PostgreSQL's own types.
//!
//! `regclass` and its like become calls that look the name up; an `oid` is a `bigint`; the types
//! of names and of system tables are text.

use sqlparser::ast::{
    ArrayElemTypeDef, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Ident, ObjectName, ObjectNamePart,
};

use super::call;
use super::literals::{cast_text, number};

/// The types that are shown by name, with the functions of their input and output.
const REGISTERED: &[(&str, &str, &str)] = &[
    ("regclass", "regclassin", "regclassout"),
    ("regtype", "regtypein", "regtypeout"),
    ("regproc", "regprocin", "regprocout"),
    ("regprocedure", "regprocin", "regprocout"),
    ("regnamespace", "regnamespacein", "regnamespaceout"),
    ("regrole", "regrolein", "regroleout"),
];

/// Replaces a cast to a type of PostgreSQL's that the planner does not know.
pub fn rewrite(expr: &mut Expr) {
    if let Expr::TypedString(typed) = expr {
        if matches!(typed.data_type, DataType::Custom(..) | DataType::Regclass) {
            let value = Expr::Value(typed.value.clone());
            *expr = super::literals::cast(value, typed.data_type.clone());
        } else {
            return;
        }
    }
    let Expr::Cast { expr: inner, data_type, .. } = expr else {
        return;
    };
    if let Some((_, input, _)) = registered(data_type) {
        let inner = std::mem::replace(inner.as_mut(), number(0));
        *expr = call(input, vec![inner]);
        return;
    }
    plain(data_type);
    if let DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) = data_type
        && let Some(array) = cast_text(inner, element)
    {
        *expr = array;
        return;
    }
    if is_text(data_type) {
        show(inner);
    }
}

/// An `oid`, to who plans types; in no text that parses.
pub const OID: &str = "\u{1}oid";

pub fn oid() -> DataType {
    DataType::Custom(ObjectName::from(vec![Ident::with_quote('"', OID)]), Vec::new())
}

/// The inside of a literal address of a row, `'(page,item)'::tid`.
pub fn tid(expr: &Expr) -> Option<String> {
    let Expr::Cast { expr, data_type, .. } = expr else { return None };
    let Expr::Value(value) = expr.as_ref() else { return None };
    let sqlparser::ast::Value::SingleQuotedString(text) = &value.value else { return None };
    let text = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    (custom(data_type)? == "tid").then(|| text.to_owned())
}

/// `expr` as a client sees it: a number that stands for a name becomes the name.
pub fn show(expr: &mut Expr) {
    match expr {
        Expr::Nested(inner) => show(inner),
        _ => {
            if let Some((_, _, output)) = input_of(expr) {
                let inner = std::mem::replace(expr, number(0));
                *expr = call(output, vec![inner]);
            }
        }
    }
}

/// The name PostgreSQL gives to the column of such a cast; `None` for anything else.
pub fn output_name(expr: &Expr) -> Option<String> {
    let (name, ..) = input_of(expr)?;
    let Expr::Function(function) = expr else {
        return None;
    };
    let column = match argument(function) {
        Some(Expr::Identifier(ident)) => Some(super::fold(ident)),
        Some(Expr::CompoundIdentifier(parts)) => parts.last().map(super::fold),
        _ => None,
    };
    Some(column.unwrap_or_else(|| (*name).to_owned()))
}

/// What is under casts and parentheses.
pub fn uncast(expr: &Expr) -> Expr {
    match expr {
        Expr::Cast { expr, .. } | Expr::Nested(expr) => uncast(expr),
        other => other.clone(),
    }
}

type Registered = (&'static str, &'static str, &'static str);

fn input_of(expr: &Expr) -> Option<&'static Registered> {
    let Expr::Function(function) = expr else {
        return None;
    };
    let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else {
        return None;
    };
    REGISTERED.iter().find(|(_, input, _)| *input == name.value)
}

fn argument(function: &Function) -> Option<&Expr> {
    match &function.args {
        FunctionArguments::List(list) => match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))] => Some(expr),
            _ => None,
        },
        _ => None,
    }
}

fn registered(data_type: &DataType) -> Option<&'static Registered> {
    let name = match data_type {
        DataType::Regclass => "regclass".to_owned(),
        DataType::Custom(..) => custom(data_type)?,
        _ => return None,
    };
    REGISTERED.iter().find(|(it, ..)| *it == name)
}

/// The name of a custom type, without the system schemas'.
fn custom(data_type: &DataType) -> Option<String> {
    let DataType::Custom(name, modifiers) = data_type else {
        return None;
    };
    let parts: Vec<_> = name.0.iter().filter_map(ObjectNamePart::as_ident).collect();
    match parts.as_slice() {
        [name] => Some(super::fold(name)),
        [schema, name] if super::fold(schema) == "pg_catalog" && modifiers.is_empty() => {
            Some(super::fold(name))
        }
        [schema, name] if super::fold(schema) == "information_schema" => {
            Some(format!("information_schema.{}", super::fold(name)))
        }
        _ => None,
    }
}

/// Replaces PostgreSQL's names of types by those that are planned.
fn plain(data_type: &mut DataType) {
    if let DataType::Array(
        ArrayElemTypeDef::SquareBracket(element, _) | ArrayElemTypeDef::AngleBracket(element),
    ) = data_type
    {
        plain(element);
        return;
    }
    let Some(name) = custom(data_type) else {
        return;
    };
    let known = match name.as_str() {
        "name"
        | "text"
        | "char"
        | "aclitem"
        | "pg_node_tree"
        | "inet"
        | "pg_lsn"
        | "cstring"
        | "information_schema.sql_identifier"
        | "information_schema.character_data"
        | "information_schema.yes_or_no" => DataType::Text,
        "varchar" | "bpchar" => DataType::Varchar(None),
        "bool" => DataType::Boolean,
        "int2" => DataType::SmallInt(None),
        "int4" | "int" | "integer" | "information_schema.cardinal_number" => {
            DataType::Integer(None)
        }
        "oid" => oid(),
        "int8" | "xid" | "cid" | "xid8" => DataType::BigInt(None),
        "float4" => DataType::Real,
        "float8" => DataType::DoublePrecision,
        "int2vector" => super::literals::array_of(DataType::SmallInt(None)),
        "oidvector" => super::literals::array_of(oid()),
        "regtype[]" => super::literals::array_of(DataType::BigInt(None)),
        _ => return,
    };
    *data_type = known;
}

fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Text | DataType::Varchar(_) | DataType::CharacterVarying(_) | DataType::Char(_)
    )
}
