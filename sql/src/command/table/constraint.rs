//! Columns and constraints as they are declared.
//!
//! What it guarantees: `NOT NULL`, `CHECK`, `DEFAULT` and keys are kept; everything else that can
//! be declared is refused. Constraints get PostgreSQL's names.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{Check, Column};
use sqlparser::ast::{
    CheckConstraint, ColumnDef, ColumnOption, Expr, Ident, Query, TableConstraint, Visit, Visitor,
};
use std::ops::ControlFlow;

use super::super::depend::columns_of;
use super::super::{Context, name};
use super::key;
use crate::outcome::Notice;
use crate::types;

/// What the change data feed adds to every row.
const FEED_COLUMNS: &[&str] = &["_change_type", "_commit_version", "_commit_timestamp"];

/// A `CHECK` that is still to be named and stored.
pub(super) struct Declared<'a> {
    pub name: Option<&'a Ident>,
    pub expression: &'a Expr,
    /// The column it was declared on.
    pub column: Option<String>,
}

/// A column as it is declared, with the constraints that were written at it.
pub(super) struct DeclaredColumn<'a> {
    pub column: Column,
    pub checks: Vec<Declared<'a>>,
    pub keys: Vec<key::Declared<'a>>,
}

/// A column with the id `id`.
pub(super) fn column<'a>(
    ctx: &mut Context<'_>,
    declared: &'a ColumnDef,
    id: u32,
    notices: &mut Vec<Notice>,
) -> Result<DeclaredColumn<'a>> {
    let name = column_name(&declared.name, notices)?;
    let data_type = types::from_sql(&declared.data_type)?;
    let (mut not_null, mut nullable, mut default) = (false, false, None);
    let (mut checks, mut keys) = (vec![], vec![]);
    for option in &declared.options {
        match &option.option {
            ColumnOption::NotNull => not_null = true,
            ColumnOption::Null => nullable = true,
            ColumnOption::Default(value) => {
                if default.is_some() {
                    let message =
                        format!("multiple default values specified for column \"{name}\"");
                    return Err(Error::new(Kind::Syntax, message));
                }
                default = Some((ctx.text)(&default_text(value)?));
            }
            ColumnOption::Check(check) => {
                let own = option.name.as_ref().or(check.name.as_ref());
                checks.push(Declared {
                    name: own,
                    expression: enforced(check)?,
                    column: Some(name.clone()),
                });
            }
            other => match key::of_column(other, option.name.as_ref(), &name)? {
                Some(key) => keys.push(key),
                None => return Err(refused_option(other)),
            },
        }
    }
    if not_null && nullable {
        let message = format!("conflicting NULL/NOT NULL declarations for column \"{name}\"");
        return Err(Error::new(Kind::Syntax, message));
    }
    let column = Column { not_null, default, ..Column::new(id, &name, data_type) };
    Ok(DeclaredColumn { column, checks, keys })
}

/// A new column's name.
pub(super) fn column_name(ident: &Ident, notices: &mut Vec<Notice>) -> Result<String> {
    let name = name::created(ident, notices)?;
    if FEED_COLUMNS.contains(&name.to_ascii_lowercase().as_str()) {
        let message = format!("column name \"{name}\" is reserved");
        return Err(Error::new(Kind::ReservedName, message)
            .with_detail("kho.table_changes gives a column of that name."));
    }
    Ok(name)
}

/// That no other column has this name; Delta does not tell letters' cases apart.
pub(super) fn require_free(columns: &[Column], name: &str, table: &str) -> Result<()> {
    let lower = name.to_lowercase();
    match columns.iter().find(|column| column.name.to_lowercase() == lower) {
        None => Ok(()),
        Some(column) if column.name == name => {
            let message = format!("column \"{name}\" of relation \"{table}\" already exists");
            Err(Error::new(Kind::DuplicateColumn, message))
        }
        Some(column) => {
            let message =
                format!("column \"{name}\" differs from column \"{}\" only in case", column.name);
            Err(Error::new(Kind::DuplicateColumn, message)
                .with_detail("Delta tables do not tell upper from lower case in names."))
        }
    }
}

/// A constraint of a whole table that is no key, so it must be a `CHECK`.
pub(super) fn table_check(constraint: &TableConstraint) -> Result<Declared<'_>> {
    match constraint {
        TableConstraint::Check(check) => {
            Ok(Declared { name: check.name.as_ref(), expression: enforced(check)?, column: None })
        }
        TableConstraint::ForeignKey(_) => Err(reference("FOREIGN KEY")),
        _ => Err(Error::unsupported("this table constraint is not supported")),
    }
}

/// Names and stores a `CHECK` over `columns`; `taken` are the names of the table's constraints.
pub(super) fn check(
    ctx: &mut Context<'_>,
    table: &str,
    columns: &[Column],
    taken: &[String],
    declared: &Declared<'_>,
    notices: &mut Vec<Notice>,
) -> Result<Check> {
    let used = columns_of(declared.expression);
    for column in &used {
        if !columns.iter().any(|it| it.name == *column) {
            let message = format!("column \"{column}\" does not exist");
            return Err(Error::new(Kind::UndefinedColumn, message));
        }
    }
    require_no_query(declared.expression, "check constraint")?;
    let is_taken = |name: &str| taken.iter().any(|known| known == name);
    let name = match declared.name {
        Some(ident) => {
            let name = name::created(ident, notices)?;
            if is_taken(&name) {
                let message =
                    format!("constraint \"{name}\" for relation \"{table}\" already exists");
                return Err(Error::new(Kind::DuplicateObject, message));
            }
            name
        }
        None => {
            let column = match (&declared.column, used.as_slice()) {
                (Some(column), _) | (None, [column]) => Some(column.as_str()),
                _ => None,
            };
            generated_name(table, column, "check", is_taken)
        }
    };
    Ok(Check { name, expression: (ctx.text)(&declared.expression.to_string()) })
}

/// A default's text. It is evaluated for every row by itself, so it has no query in it.
pub(super) fn default_text(value: &Expr) -> Result<String> {
    require_no_query(value, "DEFAULT expression")?;
    if !columns_of(value).is_empty() {
        let message = "cannot use column reference in DEFAULT expression";
        return Err(Error::unsupported(message));
    }
    Ok(value.to_string())
}

/// That `NOT ENFORCED` is not asked for.
fn enforced(check: &CheckConstraint) -> Result<&Expr> {
    match check.enforced {
        Some(false) => {
            Err(Error::unsupported("constraints that are not enforced are not supported"))
        }
        _ => Ok(&check.expr),
    }
}

fn require_no_query(expression: &Expr, place: &str) -> Result<()> {
    struct HasQuery;
    impl Visitor for HasQuery {
        type Break = ();
        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    match expression.visit(&mut HasQuery) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => {
            Err(Error::unsupported(format!("cannot use subquery in {place}")))
        }
    }
}

/// PostgreSQL's `<table>_<column>_<label>`, with a number where that is taken; the longer of the
/// two parts is cut where it does not fit.
pub(super) fn generated_name(
    table: &str,
    column: Option<&str>,
    label: &str,
    is_taken: impl Fn(&str) -> bool,
) -> String {
    const NAME_BYTES: usize = 63;
    let mut number = 0_usize;
    loop {
        let suffix = if number == 0 { format!("_{label}") } else { format!("_{label}{number}") };
        let (mut table, mut column) = (table, column);
        let length = |table: &str, column: Option<&str>| {
            table.len() + column.map_or(0, |column| column.len() + 1) + suffix.len()
        };
        while length(table, column) > NAME_BYTES {
            match &mut column {
                Some(column) if column.len() > table.len() => *column = shorter(column),
                _ => table = shorter(table),
            }
        }
        let name = match column {
            Some(column) => format!("{table}_{column}{suffix}"),
            None => format!("{table}{suffix}"),
        };
        if !is_taken(&name) {
            return name;
        }
        number += 1;
    }
}

fn shorter(text: &str) -> &str {
    let mut chars = text.chars();
    chars.next_back();
    chars.as_str()
}

fn refused_option(option: &ColumnOption) -> Error {
    match option {
        ColumnOption::ForeignKey(_) => reference("REFERENCES"),
        ColumnOption::Generated { .. } | ColumnOption::Identity(_) => {
            Error::unsupported("generated columns are not supported")
                .with_hint("Give the values, or use DEFAULT.")
        }
        ColumnOption::Collation(_) | ColumnOption::CharacterSet(_) => {
            Error::unsupported("collations are not supported")
                .with_detail("Text is UTF-8 and sorted by its bytes.")
        }
        other => Error::unsupported(format!("the column option {other} is not supported")),
    }
}

/// # Why
/// A reference that is accepted and not enforced is worse than none: it is believed.
fn reference(what: &str) -> Error {
    Error::unsupported(format!("{what} is not supported"))
        .with_detail("References between tables are not enforced, so they cannot be declared.")
        .with_hint("Leave it out; PRIMARY KEY, UNIQUE, NOT NULL and CHECK are enforced.")
}
