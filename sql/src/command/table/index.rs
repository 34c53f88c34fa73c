//! `CREATE INDEX` and `DROP INDEX`.
//!
//! What it guarantees: an index is a promise about files. Those that are written while it is there,
//! by whatever writes them, have bloom filters and statistics for its columns, as for those of a
//! key, so that a look-up by equality passes over files. Its name is unique among the relations of
//! its schema.
//! What it does not: it enforces nothing, has no order, and writes no file anew; the files that are
//! there get what it promises when they are compacted.

use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{self, Action, Decision, RelationAction, SchemaAction};
use kho_catalog::state::{Change, Key, KeyKind, Oid, Relation, RelationKind};
use sqlparser::ast::{CreateIndex, Expr, Ident, IndexColumn, IndexType, ObjectName};

use super::super::name::{self, Expected, Qualified, fold};
use super::super::{Context, Planned, notice, notice_of};
use super::key;

/// `CREATE INDEX`.
///
/// # Errors
/// `42703` for a column that is not there, `42P07` for a name that is taken, `42501` for who does
/// not own the table or may not create in its schema, `0A000` for what has no meaning for files.
pub(crate) fn create(ctx: &Context<'_>, statement: &CreateIndex) -> Result<Planned> {
    refuse(statement)?;
    let mut planned = Planned::new("CREATE INDEX");
    let columns = statement.columns.iter().map(column_of).collect::<Result<Vec<_>>>()?;
    refuse_method(statement)?;
    let name = statement.name.as_ref().map(unqualified).transpose()?;
    let qualified = name::qualified(&statement.table_name)?;
    let mut relation = Relation::clone(name::find_owned(ctx, &qualified, Expected::Table)?);
    let create = Action::Schema(relation.schema, SchemaAction::CreateIn);
    privilege::require(ctx.state, ctx.who, create)?;
    let RelationKind::Table(table) = &mut relation.kind else {
        return Err(Error::internal("a table became a view"));
    };
    let target = key::Target {
        schema: relation.schema,
        name: &relation.name,
        columns: &relation.columns,
        // A constraint without an index leaves its name to one.
        checks: &[],
        keys: &table.keys,
        indexes: &table.indexes,
    };
    let declared = key::of_index(name, columns);
    match key::key(ctx, &target, &declared, &mut planned.notices) {
        Ok(index) => table.indexes.push(index),
        Err(error) if statement.if_not_exists && error.kind() == Kind::DuplicateTable => {
            planned.notices.push(notice_of("42P07", format!("{error}, skipping")));
            return Ok(planned);
        }
        Err(error) => return Err(error),
    }
    planned.changes.push(Change::PutRelation(Box::new(relation)));
    Ok(planned)
}

/// `DROP INDEX`. Nothing depends on one, so `CASCADE` and `RESTRICT` are the same.
///
/// # Errors
/// `42704` for one that is not there, `2BP01` for one that is a key's, `42809` for a relation,
/// `42501` for who owns neither its table nor the schema.
pub(crate) fn drop(ctx: &Context<'_>, names: &[ObjectName], if_exists: bool) -> Result<Planned> {
    let mut planned = Planned::new("DROP INDEX");
    let mut changed: Vec<Relation> = Vec::new();
    for written in names {
        let qualified = name::qualified(written)?;
        let (relation, index) = match find(ctx, &qualified) {
            Ok(found) => found,
            Err(error) if if_exists && is_missing(&error) => {
                planned.notices.push(notice(format!("{error}, skipping")));
                continue;
            }
            Err(error) => return Err(error),
        };
        let drop = Action::Relation(relation.oid, RelationAction::Drop);
        privilege::require(ctx.state, ctx.who, drop)?;
        if index.kind != KeyKind::Index {
            return Err(required(relation, index));
        }
        let place = match changed.iter().position(|it| it.oid == relation.oid) {
            Some(place) => place,
            None => {
                changed.push(Relation::clone(relation));
                changed.len() - 1
            }
        };
        if let Some(RelationKind::Table(table)) = changed.get_mut(place).map(|it| &mut it.kind) {
            table.indexes.retain(|it| it.name != index.name);
        }
    }
    planned.changes = changed.into_iter().map(|it| Change::PutRelation(Box::new(it))).collect();
    Ok(planned)
}

/// The index that `name` stands for, with its table.
fn find<'a>(ctx: &Context<'a>, name: &Qualified) -> Result<(&'a Arc<Relation>, &'a Key)> {
    let schemas: Vec<Oid> = match &name.schema {
        Some(schema) => vec![privilege::find_schema(ctx.state, ctx.who, schema)?.oid],
        None => (ctx.search_path.iter())
            .filter_map(|schema| privilege::find_schema(ctx.state, ctx.who, schema).ok())
            .map(|schema| schema.oid)
            .collect(),
    };
    let is_seen = |relation: &Relation| {
        let see = Action::Relation(relation.oid, RelationAction::See);
        matches!(privilege::decide(ctx.state, ctx.who, see), Decision::Allowed(_))
    };
    for schema in schemas {
        if ctx.state.relation(schema, &name.name).is_some_and(|it| is_seen(it)) {
            let message = format!("\"{}\" is not an index", name.name);
            return Err(Error::new(Kind::WrongObjectType, message));
        }
        for relation in ctx.state.relations_of(schema).filter(|it| is_seen(it)) {
            let mut searched = relation.keys().iter().chain(relation.indexes());
            if let Some(index) = searched.find(|index| index.name == name.name) {
                return Ok((relation, index));
            }
        }
    }
    let message = format!("index \"{}\" does not exist", name.name);
    Err(Error::new(Kind::UndefinedObject, message))
}

fn is_missing(error: &Error) -> bool {
    matches!(error.kind(), Kind::UndefinedObject | Kind::UndefinedSchema)
}

fn required(relation: &Relation, key: &Key) -> Error {
    let (index, table) = (&key.name, &relation.name);
    let constraint = format!("constraint {index} on table {table}");
    let message = format!("cannot drop index {index} because {constraint} requires it");
    Error::new(Kind::DependentObjects, message)
        .with_hint(format!("You can drop {constraint} instead."))
}

/// An index is where its table is.
fn unqualified(written: &ObjectName) -> Result<&Ident> {
    match written.0.as_slice() {
        [_] => name::last(written),
        _ => Err(Error::new(Kind::Syntax, "the name of a new index has no schema")
            .with_detail("An index is in the schema of its table.")),
    }
}

fn column_of(column: &IndexColumn) -> Result<String> {
    match &column.column.expr {
        _ if column.operator_class.is_some() => {
            Err(Error::unsupported("operator classes are not supported"))
        }
        _ if column.column.with_fill.is_some() => {
            Err(Error::new(Kind::Syntax, "an index consists of columns"))
        }
        // There is no order in an index: one that is the default's opposite would not be kept.
        _ if column.column.options.asc == Some(false)
            || column.column.options.nulls_first == Some(true) =>
        {
            Err(Error::unsupported("DESC and NULLS FIRST of an index are not supported")
                .with_hint("An index of Kho has no order; leave them out."))
        }
        Expr::Identifier(ident) => Ok(fold(ident)),
        _ => Err(Error::unsupported("an index on an expression is not supported")
            .with_hint("Name columns alone.")),
    }
}

/// An index has one way to be made; it is shown as what PostgreSQL's default is.
fn refuse_method(statement: &CreateIndex) -> Result<()> {
    match &statement.using {
        None | Some(IndexType::BTree) => Ok(()),
        Some(other) => {
            let method = other.to_string().to_lowercase();
            Err(Error::unsupported(format!("access method \"{method}\" is not supported"))
                .with_hint("Leave it out: look-ups by equality pass over files."))
        }
    }
}

/// Refuses every clause that is parsed and not obeyed.
fn refuse(it: &CreateIndex) -> Result<()> {
    if it.unique {
        return Err(Error::unsupported("CREATE UNIQUE INDEX is not supported")
            .with_hint("Use ALTER TABLE … ADD UNIQUE (…)."));
    }
    let clauses = [
        (!it.include.is_empty(), "INCLUDE"),
        (it.nulls_distinct.is_some(), "NULLS DISTINCT"),
        (!it.with.is_empty(), "WITH"),
        (it.predicate.is_some(), "WHERE"),
    ];
    if let Some((_, clause)) = clauses.iter().find(|(given, _)| *given) {
        return Err(Error::unsupported(format!("{clause} of an index is not supported")));
    }
    if !it.index_options.is_empty() || !it.alter_options.is_empty() {
        return Err(Error::new(Kind::Syntax, "options come before the columns of an index"));
    }
    Ok(())
}
