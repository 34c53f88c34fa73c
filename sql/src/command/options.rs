//! The options of a table that say how a dataset is governed: `WITH (…)` and `SET (…)`.
//!
//! What it guarantees: every option is known and valid before anything is made; a state secret is
//! refused here, at the door (`KH005`).
//! What it does not: it enforces none of them; reading and destruction do.

use std::collections::BTreeSet;
use std::str::FromStr;

use iso8601_duration::Duration;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{Classification, Column, Governance, Purposes};
use kho_catalog::types::Type;
use sqlparser::ast::{Expr, SqlOption, UnaryOperator, Value};

use super::name::fold;

/// What a state secret may be called: the word of this warehouse and the three degrees of the law.
const STATE_SECRETS: &[&str] = &[
    "state_secret",
    "bi_mat_nha_nuoc",
    "bí mật nhà nước",
    "mat",
    "mật",
    "toi_mat",
    "tối mật",
    "tuyet_mat",
    "tuyệt mật",
];
/// The longest duration, so that adding one to any date stays a date.
const YEARS_MAX: f32 = 1000.0;

/// What a table has that says nothing.
pub(crate) fn default_governance() -> Governance {
    Governance {
        classification: Classification::Internal,
        update_frequency: None,
        retention: None,
        retention_column: None,
        allowed_purposes: BTreeSet::new(),
        requires_agreement: false,
    }
}

/// `base` with `options` set; `columns` are the table's, `known` the purposes there are.
pub(crate) fn with_options(
    base: &Governance,
    options: &[SqlOption],
    columns: &[Column],
    known: &Purposes,
) -> Result<Governance> {
    let mut governance = base.clone();
    let mut given = BTreeSet::new();
    for option in options {
        let SqlOption::KeyValue { key, value } = option else {
            return Err(invalid(format!("unrecognized parameter \"{option}\"")));
        };
        let key = fold(key);
        if !given.insert(key.clone()) {
            return Err(invalid(format!("parameter \"{key}\" specified more than once")));
        }
        set(&mut governance, &key, &text_of(&key, value)?, columns, known)?;
    }
    Ok(governance)
}

/// `base` with the options `keys` back at their defaults.
pub(crate) fn without_options(base: &Governance, keys: &[String]) -> Result<Governance> {
    let mut governance = base.clone();
    let default = default_governance();
    for key in keys {
        match key.as_str() {
            "classification" => governance.classification = default.classification,
            "update_frequency" => governance.update_frequency = None,
            "retention" => governance.retention = None,
            "retention_column" => governance.retention_column = None,
            "allowed_purposes" => governance.allowed_purposes.clear(),
            "requires_agreement" => governance.requires_agreement = false,
            _ => return Err(unrecognized(key)),
        }
    }
    Ok(governance)
}

fn set(
    governance: &mut Governance,
    key: &str,
    value: &str,
    columns: &[Column],
    known: &Purposes,
) -> Result<()> {
    match key {
        "classification" => governance.classification = classification(value)?,
        "update_frequency" => governance.update_frequency = Some(duration(key, value)?),
        "retention" => governance.retention = Some(duration(key, value)?),
        "retention_column" => governance.retention_column = Some(retention_column(value, columns)?),
        "allowed_purposes" => governance.allowed_purposes = purposes(value, known)?,
        "requires_agreement" => governance.requires_agreement = boolean(key, value)?,
        _ => return Err(unrecognized(key)),
    }
    Ok(())
}

fn unrecognized(key: &str) -> Error {
    invalid(format!("unrecognized parameter \"{key}\"")).with_hint(
        "Options are classification, update_frequency, retention, retention_column, \
         allowed_purposes and requires_agreement.",
    )
}

fn classification(value: &str) -> Result<Classification> {
    let value = value.trim().to_lowercase();
    if STATE_SECRETS.contains(&value.as_str()) {
        return Err(Error::new(
            Kind::StateSecretRefused,
            "state secrets must not be put into this warehouse",
        )
        .with_detail("The regulation excludes data within the scope of state secrets.")
        .with_hint("Keep such data out, and report data that came in by mistake."));
    }
    let known = Classification::ALL.iter().find(|it| it.name() == value);
    known.copied().ok_or_else(|| {
        invalid(format!("invalid value for parameter \"classification\": \"{value}\""))
            .with_hint("Classifications are open, internal, restricted and personal.")
    })
}

/// An ISO 8601 duration longer than nothing, as given.
fn duration(key: &str, value: &str) -> Result<String> {
    let error = || {
        invalid(format!("invalid value for parameter \"{key}\": \"{value}\""))
            .with_hint("Write an ISO 8601 duration longer than zero, such as P1D, P10Y or PT15M.")
    };
    // The parser of numbers also takes signs, exponents and names such as `inf`.
    let plain = |byte: u8| byte.is_ascii_digit() || b"PYMWDTHS.,".contains(&byte);
    if !value.bytes().all(plain) || value.ends_with('T') {
        return Err(error());
    }
    let parsed = Duration::from_str(value).map_err(|_| error())?;
    let days = parsed.year * 365.0
        + parsed.month * 30.0
        + parsed.day
        + (parsed.hour + parsed.minute / 60.0 + parsed.second / 3600.0) / 24.0;
    if days.is_finite() && days > 0.0 && days <= YEARS_MAX * 365.0 {
        Ok(value.to_owned())
    } else {
        Err(error())
    }
}

fn retention_column(value: &str, columns: &[Column]) -> Result<u32> {
    let Some(column) = columns.iter().find(|column| column.name == value) else {
        let message =
            format!("column \"{value}\" named in parameter \"retention_column\" does not exist");
        return Err(Error::new(Kind::UndefinedColumn, message));
    };
    match column.data_type {
        Type::Date | Type::Timestamp | Type::TimestampTz => Ok(column.id),
        _ => Err(invalid(format!("column \"{value}\" cannot be the retention column"))
            .with_detail(format!("It has the type {}.", column.data_type))
            .with_hint("Retention is counted from a date or a timestamp.")),
    }
}

/// Codes, separated by commas; none is every purpose.
pub(crate) fn purposes(value: &str, known: &Purposes) -> Result<BTreeSet<String>> {
    if value.trim().is_empty() {
        return Ok(BTreeSet::new());
    }
    let code = |code: &str| match known.get(code) {
        Some(purpose) => Ok(purpose.code.clone()),
        None => Err(invalid(format!("unknown purpose \"{code}\""))
            .with_hint(format!("Purposes are {}.", known.listed()))),
    };
    value.split(',').map(str::trim).map(code).collect()
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err(invalid(format!("invalid value for boolean option \"{key}\": {value}"))),
    }
}

fn text_of(key: &str, value: &Expr) -> Result<String> {
    let refused = || invalid(format!("invalid value for parameter \"{key}\": {value}"));
    match value {
        Expr::Identifier(ident) => Ok(fold(ident)),
        Expr::Value(value) => match &value.value {
            Value::Boolean(value) => Ok(value.to_string()),
            Value::Number(number, _) => Ok(number.clone()),
            other => other.clone().into_string().ok_or_else(refused),
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => Ok(format!("-{}", text_of(key, expr)?)),
        _ => Err(refused()),
    }
}

fn invalid(message: String) -> Error {
    Error::new(Kind::InvalidParameterValue, message)
}
