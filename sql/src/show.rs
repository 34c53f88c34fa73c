//! `SET`, `SHOW`, `RESET`, and the modes of a transaction.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use kho_catalog::error::{Error, Kind, Result};
use sqlparser::ast;

use crate::errors::from_arrow;
use crate::outcome::{Rows, Tag};
use crate::settings::Settings;

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

/// Whether a transaction of these modes may read only. It sees one snapshot whatever its level.
pub(crate) fn is_read_only(modes: &[ast::TransactionMode]) -> bool {
    use ast::{TransactionAccessMode as Access, TransactionMode as Mode};
    modes.iter().any(|mode| matches!(mode, Mode::AccessMode(Access::ReadOnly)))
}

/// The isolation level that modes name, as its setting spells it.
pub(crate) fn isolation(modes: &[ast::TransactionMode]) -> Option<&'static str> {
    use ast::{TransactionIsolationLevel as Level, TransactionMode as Mode};
    modes.iter().find_map(|mode| match mode {
        Mode::IsolationLevel(Level::ReadUncommitted) => Some("read uncommitted"),
        Mode::IsolationLevel(Level::ReadCommitted) => Some("read committed"),
        Mode::IsolationLevel(Level::RepeatableRead | Level::Snapshot) => Some("repeatable read"),
        Mode::IsolationLevel(Level::Serializable) => Some("serializable"),
        Mode::AccessMode(_) => None,
    })
}

/// Whether a `SET` holds until the end of its transaction block only.
pub(crate) fn is_local(statement: &ast::Statement) -> bool {
    matches!(
        statement,
        ast::Statement::Set(
            ast::Set::SingleAssignment { scope: Some(ast::ContextModifier::Local), .. }
                | ast::Set::SetTimeZone { local: true, .. }
        )
    )
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
        ast::Set::SetTransaction { modes, snapshot: None, session: true }
            if is_read_only(modes) =>
        {
            Err(Error::unsupported("sessions that may read only are not supported")
                .with_hint("Use BEGIN READ ONLY."))
        }
        ast::Set::SetTransaction { modes, snapshot: None, session } => {
            let name = match session {
                true => "default_transaction_isolation",
                false => "transaction_isolation",
            };
            isolation(modes).map_or(Ok(()), |level| settings.set(name, Some(level)))
        }
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
