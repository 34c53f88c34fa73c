//! `CREATE TABLE`, `CREATE TABLE AS`, `ALTER TABLE`: the catalog's side and the files'.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::freeze;
use kho_catalog::state::{Change as CatalogChange, Relation};
use kho_catalog::table::{Commit, Staged};
use kho_catalog::types::Type;
use sqlparser::ast;

use super::{Change, Decider, planned};
use crate::authorize::require_rows;
use crate::bind;
use crate::command::table::{Alteration, Definition, alter as plan_alter, define, define_as};
use crate::command::{Context, Planned, mask};
use crate::execute::Limits;
use crate::outcome::Tag;
use crate::scope::{Scope, location};
use crate::secure::lineage::lineage;
use crate::session::query;
use crate::write::conform::Conformer;
use crate::write::insert::stage_new;
use crate::write::modify::Parameters;
use crate::write::reshaping::announce;
use crate::write::rewrite::{check_rows, reshape, table_columns};
use crate::write::{Base, Pending, author, commit_author, keys, tables};

/// `CREATE TABLE` with columns.
pub(super) async fn create(scope: &Scope, statement: &ast::CreateTable) -> Result<Change> {
    let statement = statement.clone();
    let command = move |context: &mut Context<'_>| definition(define(context, &statement)?);
    make(scope, command, None, "CREATE TABLE").await
}

/// `CREATE TABLE AS`.
pub(super) async fn create_as(
    scope: &Scope,
    statement: &ast::CreateTable,
    limits: &Limits,
) -> Result<Change> {
    let Some(of) = &statement.query else { return Err(Error::internal("no query")) };
    let sql = ast::Statement::Query(of.clone());
    let none = Parameters { fields: &[], values: &[] };
    let (plan, names) = query(scope, &sql, none).await?;
    let columns = result_columns(plan.plan().schema().as_ref().as_arrow(), &names)?;
    let lineage = lineage(plan.plan());
    let statement = statement.clone();
    let command = move |context: &mut Context<'_>| {
        let mut defined = define_as(context, &statement, columns.clone())?;
        if !defined.if_not_exists_hit {
            mask::inherit(context, &mut defined.relation.columns, &lineage);
        }
        definition(defined)
    };
    make(scope, command, Some((plan, limits.clone())), "SELECT").await
}

/// The columns that a query gives a table or a view made of it.
pub(super) fn result_columns(
    schema: &arrow::datatypes::Schema,
    names: &[Option<String>],
) -> Result<Vec<(String, Type)>> {
    let column = |(index, field): (usize, &Arc<arrow::datatypes::Field>)| {
        let shown = names.get(index).cloned().flatten();
        let name = shown.unwrap_or_else(|| field.name().clone());
        let of = Type::from_field(field).ok_or_else(|| {
            Error::unsupported(format!(
                "column \"{name}\" has the type {}, which a table cannot have",
                field.data_type()
            ))
        })?;
        Ok((name, of))
    };
    schema.fields().iter().enumerate().map(column).collect()
}

/// What a definition commits.
fn definition(definition: Definition) -> Result<Planned> {
    let Definition { relation, if_not_exists_hit, notices } = definition;
    let changes = match if_not_exists_hit {
        true => Vec::new(),
        false => vec![CatalogChange::PutRelation(Box::new(relation))],
    };
    Ok(Planned { changes, tag: "CREATE TABLE", notices })
}

type Rows = (crate::authorize::AuthorizedPlan, Limits);

async fn make(
    scope: &Scope,
    command: impl FnMut(&mut Context<'_>) -> Result<Planned> + Send + 'static,
    rows: Option<Rows>,
    tag: &str,
) -> Result<Change> {
    let mut decider = Decider::new(scope, command);
    let Planned { changes, notices, .. } = decider.plan(&scope.state)?;
    let Some(CatalogChange::PutRelation(relation)) = changes.into_iter().next() else {
        return Ok(Change { pending: Pending::nothing(Tag::new("CREATE TABLE")), notices });
    };
    if rows.is_some() && scope.load.is_some() {
        return Err(Error::unsupported(
            "a numbered load into a table that it makes is not supported",
        )
        .with_hint("Make the table first."));
    }
    let session = scope.shared.session_state(scope)?;
    let columns = table_columns(&relation.columns);
    let location = location(&relation)?;
    let stage = tables(scope).stage(&location, &columns, &relation.searched());
    // Its defaults and checks are bound now, so that a wrong one is refused with the statement.
    let conformer = Conformer::new(&session, &relation, stage.schema())?;
    check_defaults(scope, &session, &relation)?;
    let staged: Option<Staged> = match rows {
        Some((plan, limits)) => Some(stage_new(scope, &plan, &conformer, stage, &limits).await?),
        None => None,
    };
    let tag = match &staged {
        Some(staged) => Tag::with_rows(tag, staged.rows),
        None => Tag::new(tag),
    };
    tables(scope).create(&location, &columns, staged, &commit_author(scope)).await?;
    let pending = Pending::catalog(decider.decide(), author(scope, "CREATE TABLE"), tag);
    Ok(Change { pending, notices })
}

fn check_defaults(
    scope: &Scope,
    session: &datafusion::execution::SessionState,
    relation: &Relation,
) -> Result<()> {
    for column in &relation.columns {
        if let Some(default) = &column.default {
            let expression = crate::parse::expression(default.required()?)?;
            let of: DataType = column.data_type.to_arrow();
            bind::constant::constant(scope, session, &expression, &of)?;
        }
    }
    Ok(())
}

/// `ALTER TABLE`.
pub(super) async fn alter(
    scope: &Scope,
    statement: &ast::AlterTable,
    limits: &Limits,
) -> Result<Change> {
    let session = scope.shared.session_state(scope)?;
    let statement = statement.clone();
    let again = statement.clone();
    let mut decider = Decider::new(scope, move |context: &mut Context<'_>| {
        plan_alter(context, &again).map(|alteration| of(&alteration).clone())
    });
    // What is to be done to the files follows from the state of now.
    let looked = decider.with_context(&scope.state, |context| plan_alter(context, &statement))?;
    freeze::refuse_frozen_changes(&scope.latest, &of(&looked).changes)?;
    let Planned { changes, tag, notices } = of(&looked).clone();
    if changes.is_empty() {
        return Ok(Change { pending: Pending::nothing(Tag::new(tag)), notices });
    }
    let (relation, operation, fill) = match looked {
        Alteration::Catalog(_) => {
            return planned(scope, move |context| {
                plan_alter(context, &statement).map(|alteration| of(&alteration).clone())
            });
        }
        Alteration::CheckRows { relation, new_keys, .. } => {
            // Whether a rule holds tells of the rows.
            require_rows(scope, relation.oid)?;
            let pending = add_rules(scope, &session, &relation, &new_keys, limits).await?;
            let (oid, columns) = (relation.oid, &relation.columns);
            let pending = announce(scope, pending, oid, columns, decider.decide());
            return Ok(Change { pending, notices });
        }
        Alteration::AddColumn { relation, column, new_rules, .. } => {
            if new_rules {
                require_rows(scope, relation.oid)?;
            }
            let fill = fill_of(scope, &session, &relation, column, new_rules)?;
            (relation, "ADD COLUMNS", fill)
        }
        Alteration::Relax { relation, .. } => (relation, "CHANGE COLUMN", None),
        Alteration::DropColumn { relation, .. } => (relation, "DROP COLUMNS", None),
        Alteration::RenameColumn { relation, .. } => (relation, "RENAME COLUMN", None),
    };
    let pending = reshape(scope, &session, &relation, operation, fill, limits).await?;
    let pending = announce(scope, pending, relation.oid, &relation.columns, decider.decide());
    Ok(Change { pending, notices })
}

/// Checks the rows that are there against rules that are new.
///
/// The lease is held until the rule is in the catalog, so that no row comes in unchecked between.
/// The table gets a version of its own, on the one that was checked: rows that others had under way
/// are refused if they come behind it.
async fn add_rules(
    scope: &Scope,
    session: &datafusion::execution::SessionState,
    relation: &Relation,
    new_keys: &[String],
    limits: &Limits,
) -> Result<Pending> {
    let scope = &scope.without_load();
    let base = Base::take(scope, relation, limits).await?;
    let snapshot = &base.snapshot;
    limits.run(check_rows(session, relation, snapshot)).await?;
    limits.run(keys::check_stored(session, relation, new_keys, snapshot)).await?;
    let tag = Tag::new("ALTER TABLE");
    let columns = table_columns(&relation.columns);
    let author = commit_author(scope);
    let commit = Commit::reshape("CHANGE COLUMN", snapshot, &columns, None, author)?;
    Ok(Pending::rows(scope, base, commit, tag))
}

fn of(alteration: &Alteration) -> &Planned {
    match alteration {
        Alteration::Catalog(planned)
        | Alteration::CheckRows { planned, .. }
        | Alteration::Relax { planned, .. }
        | Alteration::AddColumn { planned, .. }
        | Alteration::DropColumn { planned, .. }
        | Alteration::RenameColumn { planned, .. } => planned,
    }
}

/// The value of a new column in rows that are there: its default. `None` where that is NULL and no
/// rule is to be kept, so that the rows need not be gone through.
fn fill_of(
    scope: &Scope,
    session: &datafusion::execution::SessionState,
    relation: &Relation,
    column: u32,
    has_rules: bool,
) -> Result<Option<ScalarValue>> {
    let column = relation.columns.iter().find(|it| it.id == column).ok_or_else(|| {
        Error::new(Kind::Internal, "the column that was added is not in the table")
    })?;
    let Some(default) = &column.default else {
        let null = ScalarValue::try_from(&column.data_type.to_arrow());
        return null.map(|null| has_rules.then_some(null)).map_err(crate::errors::from_engine);
    };
    let expression = crate::parse::expression(default.required()?)?;
    let of = column.data_type.to_arrow();
    bind::constant::constant(scope, session, &expression, &of).map(Some)
}
