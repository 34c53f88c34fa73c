//! `PRIMARY KEY`, `UNIQUE` and indexes as they are declared.
//!
//! What it guarantees: they get PostgreSQL's names, which are unique among the relations of their
//! schema, as an index's is; the columns of a primary key are `NOT NULL`. What Kho does not keep
//! (deferred keys, keys that take NULLs for equal, keys on floats and documents) is refused.
//! What it does not: it looks at no row; `write::keys` does.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{Check, Column, Key, KeyKind, Oid};
use kho_catalog::types::Type;
use sqlparser::ast::{
    ColumnOption, ConstraintCharacteristics, DeferrableInitial, Expr, Ident, IndexColumn,
    NullsDistinctOption, TableConstraint,
};

use super::super::name::{self, fold};
use super::super::{Context, name::taken};
use super::constraint::generated_name;
use crate::outcome::Notice;

/// PostgreSQL's limit of columns in an index.
const MOST_COLUMNS: usize = 32;
/// How many keys and indexes a table can have: each costs every write.
const MOST_KEYS: usize = 64;

/// A key or an index that is still to be named and checked.
pub(super) struct Declared<'a> {
    name: Option<&'a Ident>,
    pub kind: KeyKind,
    columns: Vec<String>,
}

/// The table that a key is declared for.
pub(super) struct Target<'a> {
    pub schema: Oid,
    pub name: &'a str,
    pub columns: &'a [Column],
    pub checks: &'a [Check],
    pub keys: &'a [Key],
    pub indexes: &'a [Key],
}

/// The key that a column's option declares; `None` if it declares none.
pub(super) fn of_column<'a>(
    option: &ColumnOption,
    name: Option<&'a Ident>,
    column: &str,
) -> Result<Option<Declared<'a>>> {
    let (kind, characteristics) = match option {
        ColumnOption::PrimaryKey(key) => (KeyKind::Primary, &key.characteristics),
        ColumnOption::Unique(key) => {
            refuse_equal_nulls(&key.nulls_distinct)?;
            (KeyKind::Unique, &key.characteristics)
        }
        _ => return Ok(None),
    };
    refuse_deferred(characteristics.as_ref())?;
    Ok(Some(Declared { name, kind, columns: vec![column.to_owned()] }))
}

/// The key that a table's constraint declares; `None` if it declares none.
pub(super) fn of_table(constraint: &TableConstraint) -> Result<Option<Declared<'_>>> {
    let (kind, name, columns, characteristics) = match constraint {
        TableConstraint::PrimaryKey(key) => {
            refuse_index_words(key.index_name.is_some() || !key.index_options.is_empty())?;
            refuse_index_words(key.index_type.is_some())?;
            (KeyKind::Primary, &key.name, &key.columns, &key.characteristics)
        }
        TableConstraint::Unique(key) => {
            refuse_index_words(key.index_name.is_some() || !key.index_options.is_empty())?;
            refuse_index_words(key.index_type.is_some())?;
            refuse_equal_nulls(&key.nulls_distinct)?;
            (KeyKind::Unique, &key.name, &key.columns, &key.characteristics)
        }
        TableConstraint::PrimaryKeyUsingIndex(_) | TableConstraint::UniqueUsingIndex(_) => {
            return Err(Error::unsupported("a key cannot be made of an index")
                .with_hint("Name the columns: PRIMARY KEY (…) or UNIQUE (…)."));
        }
        _ => return Ok(None),
    };
    refuse_deferred(characteristics.as_ref())?;
    let columns = columns.iter().map(column_of).collect::<Result<_>>()?;
    Ok(Some(Declared { name: name.as_ref(), kind, columns }))
}

/// What `CREATE INDEX` declares.
pub(super) fn of_index(name: Option<&Ident>, columns: Vec<String>) -> Declared<'_> {
    Declared { name, kind: KeyKind::Index, columns }
}

/// The keys of a new table. The primary key is first, as in PostgreSQL; a key without a name that
/// is declared twice is one.
pub(super) fn of_new_table(
    ctx: &Context<'_>,
    target: &Target<'_>,
    mut declared: Vec<Declared<'_>>,
    notices: &mut Vec<Notice>,
) -> Result<Vec<Key>> {
    declared.sort_by_key(|key| key.kind != KeyKind::Primary);
    let mut keys: Vec<Key> = Vec::with_capacity(declared.len());
    for declared in &declared {
        let target = Target { keys: &keys, ..*target };
        let key = key(ctx, &target, declared, notices)?;
        let twin = keys.iter().any(|known| known.columns == key.columns);
        if !(twin && declared.name.is_none()) {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// Names a key or an index and finds its columns.
///
/// # Errors
/// `42703` for a column that is not there, `42701` for one named twice, `42P16` for a second
/// primary key, `42710` and `42P07` for a name that is taken, `0A000` for a type without equality
/// that a key can rest on.
pub(super) fn key(
    ctx: &Context<'_>,
    target: &Target<'_>,
    declared: &Declared<'_>,
    notices: &mut Vec<Notice>,
) -> Result<Key> {
    let table = target.name;
    let primary = declared.kind == KeyKind::Primary;
    if primary && target.keys.iter().any(|key| key.kind == KeyKind::Primary) {
        let message = format!("multiple primary keys for table \"{table}\" are not allowed");
        return Err(Error::new(Kind::InvalidTableDefinition, message));
    }
    require_room(target, declared.columns.len())?;
    let (named_in, place) = match declared.kind {
        KeyKind::Primary | KeyKind::Unique => (" named in key", "a key"),
        KeyKind::Index => ("", "an index"),
    };
    let mut columns = Vec::with_capacity(declared.columns.len());
    for written in &declared.columns {
        let column = target.columns.iter().find(|column| column.name == *written);
        let column = column.ok_or_else(|| {
            let message = format!("column \"{written}\"{named_in} does not exist");
            Error::new(Kind::UndefinedColumn, message)
        })?;
        if columns.contains(&column.id) {
            return Err(twice(declared.kind, written));
        }
        require_equality(column, place)?;
        columns.push(column.id);
    }
    let name = named(ctx, target, declared, notices)?;
    Ok(Key { name, kind: declared.kind, columns })
}

fn twice(kind: KeyKind, column: &str) -> Error {
    let what = match kind {
        KeyKind::Primary => "primary key",
        KeyKind::Unique => "unique",
        // PostgreSQL takes it, to no use.
        KeyKind::Index => {
            return Error::unsupported(format!("column \"{column}\" appears twice in the index"));
        }
    };
    let message = format!("column \"{column}\" appears twice in {what} constraint");
    Error::new(Kind::DuplicateColumn, message)
}

/// Makes the columns of a primary key `NOT NULL`; gives the ids of those that were not.
pub(super) fn require_values(columns: &mut [Column], key: &Key) -> Vec<u32> {
    let mut changed = Vec::new();
    if key.kind == KeyKind::Primary {
        for column in columns.iter_mut().filter(|column| key.columns.contains(&column.id)) {
            if !std::mem::replace(&mut column.not_null, true) {
                changed.push(column.id);
            }
        }
    }
    changed
}

/// That the table takes one more key or index, of so many columns.
fn require_room(target: &Target<'_>, columns: usize) -> Result<()> {
    if columns > MOST_COLUMNS || target.keys.len() + target.indexes.len() >= MOST_KEYS {
        let message = format!(
            "a key or an index has at most {MOST_COLUMNS} columns, and a table at most \
             {MOST_KEYS} of them"
        );
        return Err(Error::new(Kind::ProgramLimitExceeded, message));
    }
    Ok(())
}

/// That the name of a new key is free: as an index's among the relations of its schema, and as a
/// constraint's in its table.
fn require_free(ctx: &Context<'_>, target: &Target<'_>, name: &str) -> Result<()> {
    if name == target.name || target.keys.iter().any(|key| key.name == name) {
        return Err(taken(name));
    }
    name::require_free(ctx, target.schema, name)?;
    if target.checks.iter().any(|check| check.name == name) {
        let table = target.name;
        let message = format!("constraint \"{name}\" for relation \"{table}\" already exists");
        return Err(Error::new(Kind::DuplicateObject, message));
    }
    Ok(())
}

fn named(
    ctx: &Context<'_>,
    target: &Target<'_>,
    declared: &Declared<'_>,
    notices: &mut Vec<Notice>,
) -> Result<String> {
    if let Some(ident) = declared.name {
        let name = name::created(ident, notices)?;
        require_free(ctx, target, &name)?;
        return Ok(name);
    }
    let is_taken = |name: &str| require_free(ctx, target, name).is_err();
    Ok(match declared.kind {
        KeyKind::Primary => generated_name(target.name, None, "pkey", is_taken),
        KeyKind::Unique | KeyKind::Index => {
            let label = if declared.kind == KeyKind::Index { "idx" } else { "key" };
            generated_name(target.name, Some(&declared.columns.join("_")), label, is_taken)
        }
    })
}

fn column_of(column: &IndexColumn) -> Result<String> {
    let order = &column.column.options;
    match &column.column.expr {
        Expr::Identifier(ident)
            if column.operator_class.is_none()
                && order.asc.is_none()
                && order.nulls_first.is_none() =>
        {
            Ok(fold(ident))
        }
        _ => Err(Error::new(Kind::Syntax, "a key consists of columns")),
    }
}

/// # Why
/// `NaN` equals itself in PostgreSQL and not in the statistics of files, and `-0.0` is `0.0`; json
/// has no equality at all; of arrays and structs no file tells the least and the greatest.
fn require_equality(column: &Column, place: &str) -> Result<()> {
    let hint = match &column.data_type {
        Type::Real | Type::Double => "Use numeric(p,s).",
        Type::Json => "Use text.",
        Type::Array(_) | Type::Struct(_) => "Use a column for each part.",
        _ => return Ok(()),
    };
    let (name, of) = (&column.name, &column.data_type);
    Err(Error::unsupported(format!("column \"{name}\" of type {of} cannot be in {place}"))
        .with_hint(hint))
}

fn refuse_equal_nulls(option: &NullsDistinctOption) -> Result<()> {
    match option {
        NullsDistinctOption::None | NullsDistinctOption::Distinct => Ok(()),
        NullsDistinctOption::NotDistinct => {
            Err(Error::unsupported("NULLS NOT DISTINCT is not supported")
                .with_hint("Declare the column NOT NULL."))
        }
    }
}

fn refuse_deferred(characteristics: Option<&ConstraintCharacteristics>) -> Result<()> {
    let Some(it) = characteristics else { return Ok(()) };
    if it.deferrable == Some(true) || it.initially == Some(DeferrableInitial::Deferred) {
        return Err(Error::unsupported("DEFERRABLE keys are not supported")
            .with_detail("A key is checked at the end of each statement."));
    }
    if it.enforced == Some(false) {
        return Err(Error::unsupported("constraints that are not enforced are not supported"));
    }
    Ok(())
}

fn refuse_index_words(given: bool) -> Result<()> {
    match given {
        true => Err(Error::new(Kind::Syntax, "a key is declared by its columns alone")),
        false => Ok(()),
    }
}
