//! `CREATE` and `DROP VIEW`.
//!
//! What it guarantees: a view that is replaced keeps its columns, its owner and its grants; no
//! view reads itself; what a view reads is recorded, so that it is not dropped under it.
//! What it does not: it binds no query; the caller gives its columns and its text.

use std::collections::BTreeSet;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{self, Action, RelationAction};
use kho_catalog::state::{Change, Column, DefaultOn, Oid, Relation, RelationKind, View};
use kho_catalog::types::Type;
use sqlparser::ast::{CreateTableOptions, CreateView, Ident, ObjectName};

use super::name::{self, Expected, taken};
use super::{Context, Planned, depend, grant, notice_of, relation};

/// What binding a view's query found.
pub(crate) struct Bound {
    pub columns: Vec<(String, Type)>,
    /// The query, every relation in it named with its schema, no `*` left in it.
    pub query: String,
    /// The relations named in it.
    pub depends_on: Vec<Oid>,
}

/// `CREATE VIEW`. Names in parentheses after the view's name rename the query's columns in order;
/// the stored text stays as it was given.
pub(crate) fn create(
    ctx: &mut Context<'_>,
    statement: &CreateView,
    bound: Bound,
) -> Result<Planned> {
    refuse(statement)?;
    let mut planned = Planned::new("CREATE VIEW");
    let mut qualified = name::qualified(&statement.name)?;
    qualified.name = name::created(name::last(&statement.name)?, &mut planned.notices)?;
    let columns = columns(statement, &bound, &mut planned)?;
    let schema = name::target(ctx, &qualified)?;
    let existing = ctx.state.relation(schema.oid, &qualified.name);
    let mut view = Relation {
        oid: ctx.state.new_oid(0),
        schema: schema.oid,
        name: qualified.name,
        owner: ctx.who.role(),
        columns,
        grants: grant::of_new(ctx.state, ctx.who.role(), DefaultOn::Tables, Some(schema.oid)),
        comment: None,
        kind: RelationKind::View(View {
            query: (ctx.text)(&bound.query),
            depends_on: bound.depends_on,
        }),
    };
    match existing {
        None => name::require_free(ctx, schema.oid, &view.name)?,
        Some(old) if statement.or_replace => {
            let own = Action::Relation(old.oid, RelationAction::Own);
            privilege::require(ctx.state, ctx.who, own).map_err(|_| taken(&view.name))?;
            replace(ctx, old, &mut view)?;
        }
        Some(_) if statement.if_not_exists => {
            let message = format!("{}, skipping", taken(&view.name));
            planned.notices.push(notice_of("42P07", message));
            return Ok(planned);
        }
        Some(_) => return Err(taken(&view.name)),
    }
    planned.changes.push(Change::PutRelation(Box::new(view)));
    Ok(planned)
}

/// `DROP VIEW`.
pub(crate) fn drop(
    ctx: &mut Context<'_>,
    names: &[ObjectName],
    if_exists: bool,
    cascade: bool,
) -> Result<Planned> {
    relation::drop(ctx, names, if_exists, cascade, Expected::View)
}

/// Gives `view` the identity of `old`, whose columns it must keep; more may follow them.
fn replace(ctx: &Context<'_>, old: &Relation, view: &mut Relation) -> Result<()> {
    name::require_kind(old, Expected::View)?;
    let invalid = |message: String| Err(Error::new(Kind::InvalidTableDefinition, message));
    if view.columns.len() < old.columns.len() {
        return invalid("cannot drop columns from view".to_owned());
    }
    for (before, after) in old.columns.iter().zip(&mut view.columns) {
        if before.name != after.name {
            return invalid(format!(
                "cannot change name of view column \"{}\" to \"{}\"",
                before.name, after.name
            ));
        }
        if before.data_type != after.data_type {
            return invalid(format!(
                "cannot change data type of view column \"{}\" from {} to {}",
                before.name, before.data_type, after.data_type
            ));
        }
        after.comment.clone_from(&before.comment);
    }
    let readers = depend::views_on(ctx.state, &BTreeSet::from([old.oid]));
    let reads = |oid: &Oid| *oid == old.oid || readers.iter().any(|reader| reader.oid == *oid);
    if view.view().is_some_and(|it| it.depends_on.iter().any(reads)) {
        let message = format!("view \"{}\" would read itself", old.name);
        return Err(Error::new(Kind::InvalidObjectDefinition, message));
    }
    view.oid = old.oid;
    view.owner = old.owner;
    view.grants.clone_from(&old.grants);
    view.comment.clone_from(&old.comment);
    Ok(())
}

fn columns(statement: &CreateView, bound: &Bound, planned: &mut Planned) -> Result<Vec<Column>> {
    if statement.columns.len() > bound.columns.len() {
        return Err(Error::new(
            Kind::Syntax,
            "CREATE VIEW specifies more column names than columns",
        ));
    }
    let mut columns: Vec<Column> = Vec::with_capacity(bound.columns.len());
    for (index, (given, data_type)) in bound.columns.iter().enumerate() {
        let ident = match statement.columns.get(index) {
            Some(named) if named.data_type.is_some() || named.options.is_some() => {
                return Err(Error::unsupported("columns of a view have names and nothing more"));
            }
            Some(named) => named.name.clone(),
            None => Ident::with_quote('"', given),
        };
        let name = name::created(&ident, &mut planned.notices)?;
        if columns.iter().any(|column| column.name == name) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(Error::new(Kind::DuplicateColumn, message));
        }
        let id = u32::try_from(index + 1).map_err(|_| Error::internal("too many columns"))?;
        let data_type = data_type.clone();
        columns.push(Column::new(id, &name, data_type));
    }
    Ok(columns)
}

/// Refuses every clause that is parsed and not obeyed.
fn refuse(it: &CreateView) -> Result<()> {
    let clauses = [
        (it.or_alter, "OR ALTER"),
        (it.materialized, "MATERIALIZED"),
        (it.secure, "SECURE"),
        (it.temporary, "TEMPORARY"),
        (it.or_replace && it.if_not_exists, "OR REPLACE with IF NOT EXISTS"),
        (!matches!(it.options, CreateTableOptions::None), "WITH (…)"),
        (!it.cluster_by.is_empty(), "CLUSTER BY"),
        (it.comment.is_some(), "COMMENT"),
        (it.with_no_schema_binding, "WITH NO SCHEMA BINDING"),
        (it.copy_grants, "COPY GRANTS"),
        (it.to.is_some(), "TO"),
        (it.params.is_some(), "ALGORITHM, DEFINER or SQL SECURITY"),
    ];
    match clauses.iter().find(|(given, _)| *given) {
        None => Ok(()),
        Some((_, clause)) => {
            Err(Error::unsupported(format!("{clause} in CREATE VIEW is not supported")))
        }
    }
}
