//! `SET`, `SHOW`, `RESET`, and the modes of a transaction.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use kho_catalog::error::{Error, Kind, Result};
use sqlparser::ast;

use crate::errors::from_arrow;
use crate::outcome::{Rows, Tag};
use crate::settings::{Modes, Settings, is_of_transaction};

/// The columns that `SHOW` gives.
pub(crate) fn schema(settings: &Settings, variable: &[ast::Ident]) -> Result<SchemaRef> {
    let name = variable_name(variable);
    if name.eq_ignore_ascii_case("all") {
        return Ok(Arc::new(Schema::new(
            ["name", "setting", "description"]
                .map(|it| Field::new(it, DataType::Utf8, true))
                .to_vec(),
        )));
    }
    settings.get(&name)?;
    Ok(Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, true)])))
}

pub(crate) fn show(settings: &Settings, variable: &[ast::Ident]) -> Result<Rows> {
    let schema = schema(settings, variable)?;
    let name = variable_name(variable);
    let columns: Vec<Vec<String>> = match name.eq_ignore_ascii_case("all") {
        true => {
            let all = settings.all();
            vec![
                all.iter().map(|it| it.0.clone()).collect(),
                all.iter().map(|it| it.1.clone()).collect(),
                all.iter().map(|it| it.2.clone()).collect(),
            ]
        }
        false => vec![vec![settings.shown(&name)?]],
    };
    let columns = columns.into_iter().map(|it| Arc::new(StringArray::from(it)) as _).collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).map_err(|it| from_arrow(&it))?;
    Ok(Rows::new(schema, "SHOW", futures::stream::iter([Ok(batch)])))
}

/// `SET`, `RESET`, and giving up the channels that nobody has.
pub(crate) fn set(settings: &mut Settings, statement: &ast::Statement) -> Result<Tag> {
    match statement {
        ast::Statement::Set(set) => set_one(settings, set).map(|()| Tag::new("SET")),
        ast::Statement::Reset(reset) => {
            match &reset.reset {
                ast::Reset::ALL => settings.reset_all(),
                ast::Reset::ConfigurationParameter(name) => {
                    settings.set(&name.to_string(), None)?;
                }
            }
            Ok(Tag::new("RESET"))
        }
        ast::Statement::UNLISTEN { .. } => Ok(Tag::new("UNLISTEN")),
        _ => Err(Error::unsupported("this statement is not supported")),
    }
}

/// What the modes of a transaction say. It sees one snapshot whatever its level.
pub(crate) fn modes(modes: &[ast::TransactionMode]) -> Modes {
    use ast::{
        TransactionAccessMode as Access, TransactionIsolationLevel as Level,
        TransactionMode as Mode,
    };
    let mut said = Modes::default();
    for mode in modes {
        match mode {
            Mode::AccessMode(access) => said.read_only = Some(*access == Access::ReadOnly),
            Mode::IsolationLevel(level) => {
                said.isolation = Some(match level {
                    Level::ReadUncommitted => "read uncommitted",
                    Level::ReadCommitted => "read committed",
                    Level::RepeatableRead | Level::Snapshot => "repeatable read",
                    Level::Serializable => "serializable",
                });
            }
        }
    }
    said
}

/// Whether a `SET` holds until the end of its transaction block only.
pub(crate) fn is_local(statement: &ast::Statement) -> bool {
    match statement {
        ast::Statement::Set(ast::Set::SingleAssignment { scope, variable, .. }) => {
            matches!(scope, Some(ast::ContextModifier::Local))
                || is_of_transaction(&variable.to_string())
        }
        ast::Statement::Set(ast::Set::SetTimeZone { local, .. }) => *local,
        ast::Statement::Set(ast::Set::SetTransaction { session, .. }) => !session,
        ast::Statement::Reset(ast::ResetStatement {
            reset: ast::Reset::ConfigurationParameter(name),
        }) => is_of_transaction(&name.to_string()),
        _ => false,
    }
}

/// The warning that a `SET` for the open block alone has no block to be for.
pub(crate) fn no_block(statement: &ast::Statement) -> Option<&'static str> {
    match statement {
        ast::Statement::Set(ast::Set::SetTransaction { .. }) => {
            Some("SET TRANSACTION can only be used in transaction blocks")
        }
        ast::Statement::Set(
            ast::Set::SingleAssignment { scope: Some(ast::ContextModifier::Local), .. }
            | ast::Set::SetTimeZone { .. },
        ) => Some("SET LOCAL can only be used in transaction blocks"),
        _ => None,
    }
}

fn set_one(settings: &mut Settings, set: &ast::Set) -> Result<()> {
    match set {
        ast::Set::SingleAssignment { hivevar: false, variable, values, .. } => {
            let name = variable.to_string();
            match values.as_slice() {
                [value] if is_default(value) => settings.set(&name, None),
                values => {
                    let values = values.iter().map(value_text).collect::<Result<Vec<_>>>()?;
                    settings.set(&name, Some(&values.join(", ")))
                }
            }
        }
        ast::Set::SetTimeZone { value, .. } => match is_default(value) {
            true => settings.set("TimeZone", None),
            false => settings.set("TimeZone", Some(&value_text(value)?)),
        },
        ast::Set::SetNames { charset_name, collation_name: None } => {
            settings.set("client_encoding", Some(charset_name.value.as_str()))
        }
        ast::Set::SetNamesDefault {} => settings.set("client_encoding", None),
        ast::Set::SetTransaction { modes: said, snapshot: None, session } => match session {
            true => settings.set_transactions(modes(said)),
            false => settings.set_transaction(modes(said)),
        },
        _ => Err(Error::unsupported("this form of SET is not supported")),
    }
}

fn value_text(value: &ast::Expr) -> Result<String> {
    match value {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) | ast::Value::EscapedStringLiteral(text) => {
                Ok(text.clone())
            }
            ast::Value::Number(number, _) => Ok(number.clone()),
            ast::Value::Boolean(true) => Ok("on".to_owned()),
            ast::Value::Boolean(false) => Ok("off".to_owned()),
            _ => Err(invalid()),
        },
        ast::Expr::Identifier(ident) if ident.quote_style.is_some() => {
            Ok(format!("\"{}\"", ident.value))
        }
        ast::Expr::Identifier(ident) => Ok(ident.value.clone()),
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => {
            value_text(expr).map(|text| format!("-{text}"))
        }
        _ => Err(invalid()),
    }
}

fn invalid() -> Error {
    Error::new(Kind::InvalidParameterValue, "a setting takes a word, a number or a quoted text")
}

fn is_default(value: &ast::Expr) -> bool {
    matches!(value, ast::Expr::Identifier(ident)
        if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

fn variable_name(variable: &[ast::Ident]) -> String {
    let parts: Vec<&str> = variable.iter().map(|ident| ident.value.as_str()).collect();
    match parts.as_slice() {
        [time, zone] if time.eq_ignore_ascii_case("time") && zone.eq_ignore_ascii_case("zone") => {
            "TimeZone".to_owned()
        }
        [one, rest @ ..] if one.eq_ignore_ascii_case("transaction") && !rest.is_empty() => {
            "transaction_isolation".to_owned()
        }
        parts => parts.join("."),
    }
}
