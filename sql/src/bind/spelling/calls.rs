//! Functions that the engine has by another name, or for which it has an expression.
//!
//! What it guarantees: what stands for a call gives PostgreSQL's answer for every value.
//! What it does not: an encoding that is computed is the engine's.

use kho_catalog::error::{Error, Kind, Result};
use sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Ident, ObjectName, TimezoneInfo, Value,
};

use super::{binary, called, cast, parts, string, strip};

/// How long a line of base64 is.
const LINE: usize = 76;

/// What stands for `function`; `None` where it stands for itself.
pub(super) fn respelled(function: &mut Function) -> Result<Option<Expr>> {
    let name = function.name.to_string().to_ascii_lowercase();
    let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
    let arguments = arguments(function);
    match (name, arguments.as_slice()) {
        // The engine's own take the first alone.
        ("array_remove" | "array_replace", _) => {
            let all = Ident::new(format!("{name}_all"));
            function.name = ObjectName::from(vec![all]);
            Ok(None)
        }
        ("array_position", _) => Ok(Some(whole(function))),
        ("array_ndims", _) => Ok(Some(whole(function))),
        ("encode", [value, format]) if is_text(format, "base64") => base64(value).map(Some),
        ("decode", [text, format]) if is_text(format, "base64") => {
            // White space is passed over.
            let none = string("");
            let text = called("translate", [text.clone(), string(" \n\r\t"), none]);
            Ok(Some(called("decode", [text, string("base64")])))
        }
        ("date_part", [field, time]) if let Some(field) = text(field) => {
            parts::float_part(field, time, &Expr::Function(function.clone()))
        }
        ("date_trunc", [field, time, zone]) => {
            let there = called("timezone", [zone.clone(), time.clone()]);
            let cut = called("date_trunc", [field.clone(), there]);
            Ok(Some(called("timezone", [zone.clone(), cut])))
        }
        ("date", [time]) => Ok(Some(cast(time.clone(), DataType::Date))),
        ("to_date", [day, pattern]) if text(pattern).is_some_and(is_iso_day) => {
            Ok(Some(cast(day.clone(), DataType::Date)))
        }
        ("to_timestamp", [time, pattern]) if text(pattern).is_some_and(is_iso_time) => {
            let zoned = DataType::Timestamp(None, TimezoneInfo::WithTimeZone);
            Ok(Some(cast(time.clone(), zoned)))
        }
        ("num_nulls", all) => counted(name, all, true).map(Some),
        ("num_nonnulls", all) => counted(name, all, false).map(Some),
        ("gen_random_uuid", []) => Ok(Some(cast(called("uuid", []), DataType::Uuid))),
        _ => Ok(None),
    }
}

/// Patterns of what a cast reads, too.
fn is_iso_day(pattern: &str) -> bool {
    matches!(pattern.to_ascii_uppercase().as_str(), "YYYY-MM-DD" | "YYYYMMDD" | "YYYY/MM/DD")
}

fn is_iso_time(pattern: &str) -> bool {
    let pattern = pattern.to_ascii_uppercase();
    let time = pattern.strip_prefix("YYYY-MM-DD").map(|it| it.trim_start_matches("\"T\""));
    let Some(time) = time.map(|it| it.strip_prefix([' ', 'T']).unwrap_or(it)) else { return false };
    matches!(time, "" | "HH24:MI" | "HH24:MI:SS" | "HH24:MI:SS.US" | "HH24:MI:SS.MS")
}

/// A call whose number is an integer in PostgreSQL.
fn whole(function: &Function) -> Expr {
    cast(Expr::Function(function.clone()), DataType::Integer(None))
}

/// Base64 with its padding, in lines.
fn base64(value: &Expr) -> Result<Expr> {
    let plain = called("encode", [value.clone(), string("base64pad")]);
    let lines = format!("rtrim(regexp_replace({plain}, '(.{{{LINE}}})', '\\1\n', 'g'), '\n')");
    crate::parse::expression(&lines)
}

fn counted(name: &str, values: &[Expr], nulls: bool) -> Result<Expr> {
    let one = |value: &Expr| {
        let is_null = if nulls { "NULL" } else { "NOT NULL" };
        crate::parse::expression(&format!("(CASE WHEN ({value}) IS {is_null} THEN 1 ELSE 0 END)"))
    };
    let Some((first, rest)) = values.split_first() else {
        let message = format!("function {name}() does not exist");
        return Err(Error::new(Kind::UndefinedFunction, message));
    };
    let sum = rest.iter().try_fold(one(first)?, |sum, value| {
        Ok::<_, Error>(binary(&sum, BinaryOperator::Plus, &one(value)?))
    })?;
    Ok(Expr::Nested(Box::new(sum)))
}

fn arguments(function: &Function) -> Vec<Expr> {
    let FunctionArguments::List(list) = &function.args else { return Vec::new() };
    let plain = list.args.iter().filter_map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(it)) => Some(it.clone()),
        _ => None,
    });
    plain.collect()
}

fn is_text(expr: &Expr, other: &str) -> bool {
    text(expr).is_some_and(|it| it.eq_ignore_ascii_case(other))
}

/// The text of a literal.
pub(super) fn text(expr: &Expr) -> Option<&str> {
    match strip(expr) {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}
