//! Functions of PostgreSQL on texts and sizes that DataFusion lacks.

use kho_catalog::error::{Error, Kind, Result};

use super::Function;
use crate::pg_catalog::CatalogView;
use crate::pg_catalog::object::quote_identifier;
use crate::pg_catalog::value::Value;

pub const FUNCTIONS: &[Function] = &[
    Function::new("quote_ident", (1, 1), "text", |_, it| {
        Ok(it.first().and_then(Value::text).map(quote_identifier).into())
    }),
    Function::new("quote_literal", (1, 1), "text", |_, it| Ok(literal(it).into())),
    Function::new("quote_nullable", (1, 1), "text", |_, it| {
        Ok(literal(it).unwrap_or_else(|| "NULL".to_owned()).into())
    })
    .lenient(),
    Function::new("format", (1, 24), "text", |_, it| format(it)).lenient(),
    Function::new("like_escape", (2, 2), "text", |_, it| Ok(like_escape(it))),
    Function::new("json_build_object", (0, 24), "json", |_, it| json(it)).lenient(),
    Function::new("pg_size_pretty", (1, 1), "text", |_, it| {
        Ok(it.first().and_then(Value::int).map(size).into())
    }),
    // The bytes of a dataset are in the object store; no statement counts them.
    Function::new("pg_table_size", (1, 1), "int8", unknown_size),
    Function::new("pg_relation_size", (1, 2), "int8", unknown_size),
    Function::new("pg_total_relation_size", (1, 1), "int8", unknown_size),
    Function::new("pg_indexes_size", (1, 1), "int8", unknown_size),
    Function::new("pg_database_size", (1, 1), "int8", unknown_size),
    Function::new("pg_tablespace_size", (1, 1), "int8", unknown_size),
    Function::new("pg_stat_get_numscans", (1, 1), "int8", unknown_size),
    Function::new("pg_tablespace_location", (1, 1), "text", |_, _| Ok("".into())),
];

fn unknown_size(_: &CatalogView, _: &[Value]) -> Result<Value> {
    Ok(Value::Null)
}

fn literal(arguments: &[Value]) -> Option<String> {
    let text = match arguments.first()? {
        Value::Text(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        _ => return None,
    };
    Some(quoted(&text))
}

fn quoted(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// `format`, as PostgreSQL's: `%s`, `%I`, `%L`, `%%`, with a position (`%2$s`) where one is given.
fn format(arguments: &[Value]) -> Result<Value> {
    let Some(pattern) = arguments.first().and_then(Value::text) else {
        return Ok(Value::Null);
    };
    let mut shown = String::new();
    let mut letters = pattern.chars().peekable();
    let mut next = 1;
    while let Some(letter) = letters.next() {
        if letter != '%' {
            shown.push(letter);
            continue;
        }
        let mut digits = String::new();
        while let Some(digit) = letters.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        if letters.next_if_eq(&'$').is_some() {
            next = digits.parse().unwrap_or(usize::MAX);
        } else if !digits.is_empty() {
            return Err(Error::unsupported("format() with a width is not supported"));
        }
        let kind = letters.next();
        if kind == Some('%') {
            shown.push('%');
            continue;
        }
        let value = arguments.get(next).ok_or_else(|| {
            Error::new(Kind::InvalidParameterValue, "too few arguments for format()")
        })?;
        next = next.saturating_add(1);
        let text = plain(value);
        match kind {
            Some('s') => shown.push_str(&text.unwrap_or_default()),
            Some('I') => shown.push_str(&quote_identifier(&text.ok_or_else(|| {
                Error::new(
                    Kind::InvalidParameterValue,
                    "null values cannot be formatted as an SQL identifier",
                )
            })?)),
            Some('L') => match text {
                Some(text) => shown.push_str(&quoted(&text)),
                None => shown.push_str("NULL"),
            },
            other => {
                return Err(Error::new(
                    Kind::InvalidParameterValue,
                    format!("unrecognized format() type specifier \"{}\"", other.unwrap_or(' ')),
                ));
            }
        }
    }
    Ok(shown.into())
}

/// A pattern of `LIKE` with another escape character than the backslash, written with that.
fn like_escape(arguments: &[Value]) -> Value {
    let [Value::Text(pattern), Value::Text(escape)] = arguments else {
        return Value::Null;
    };
    let mut plain = String::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        if escape.starts_with(letter) {
            plain.push('\\');
            plain.extend(letters.next());
        } else if letter == '\\' {
            plain.push_str("\\\\");
        } else {
            plain.push(letter);
        }
    }
    plain.into()
}

fn json(arguments: &[Value]) -> Result<Value> {
    let mut object = serde_json::Map::new();
    for pair in arguments.chunks(2) {
        let [key, value] = pair else {
            return Err(Error::new(
                Kind::InvalidParameterValue,
                "argument list must have even number of elements",
            ));
        };
        let key = plain(key).ok_or_else(|| {
            Error::new(Kind::InvalidParameterValue, "an object's key must not be null")
        })?;
        let value = match value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(truth) => (*truth).into(),
            Value::Int(number) => (*number).into(),
            Value::Texts(texts) => texts.clone().into(),
            Value::Ints(numbers) => numbers.clone().into(),
            other => plain(other).into(),
        };
        object.insert(key, value);
    }
    Ok(serde_json::Value::Object(object).to_string().into())
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(if *truth { "t" } else { "f" }.to_owned()),
        Value::Texts(texts) => Some(format!("{{{}}}", texts.join(","))),
        Value::Ints(numbers) => {
            let shown: Vec<String> = numbers.iter().map(i64::to_string).collect();
            Some(format!("{{{}}}", shown.join(",")))
        }
        Value::Null | Value::Time(_) => None,
    }
}

/// A number of bytes as PostgreSQL's `pg_size_pretty` writes it.
fn size(bytes: i64) -> String {
    const UNITS: &[&str] = &["bytes", "kB", "MB", "GB", "TB", "PB"];
    let mut amount = i128::from(bytes);
    let mut unit = 0;
    while amount.abs() >= 10 * 1024 && unit + 1 < UNITS.len() {
        // Rounded to the nearest, as PostgreSQL does.
        amount = (amount + amount.signum() * 512) / 1024;
        unit += 1;
    }
    format!("{amount} {}", UNITS.get(unit).unwrap_or(&"bytes"))
}
