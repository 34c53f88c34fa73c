//! `INSERT`, the end of `COPY … FROM`, and the rows of `CREATE TABLE AS`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use futures::StreamExt;
use kho_catalog::error::{Error, Result};
use kho_catalog::privilege::RelationAction;
use kho_catalog::state::Relation;
use kho_catalog::table::{Commit, Snapshot, Stage, Staged};
use sqlparser::ast;
use tokio::sync::OwnedMutexGuard;

use super::conform::Conformer;
use super::{Pending, commit_author, tables};
use crate::authorize::{AuthorizedPlan, authorize};
use crate::bind::constant::expression_over;
use crate::bind::{self, Bound};
use crate::errors::{from_engine, to_engine};
use crate::execute::{self, Limits};
use crate::outcome::Tag;
use crate::scope::{Scope, location};

/// The name under which the planner sees the target: no user can write it.
const TARGET: &str = "\u{1}target";

/// Rows being added to one table.
pub(crate) struct Append {
    lease: OwnedMutexGuard<()>,
    snapshot: Snapshot,
    conformer: Conformer,
    stage: Stage,
}

impl Append {
    /// Begins to add rows to `relation`; the right to was checked.
    pub(crate) async fn begin(
        scope: &Scope,
        session: &SessionState,
        relation: &Relation,
    ) -> Result<Append> {
        let location = location(relation)?;
        let lease = tables(scope).lease(&location).await;
        let snapshot = tables(scope).latest(&location).await?;
        let stage = tables(scope).stage(&location, &snapshot.columns()?);
        let conformer = Conformer::new(session, relation, stage.schema())?;
        Ok(Append { lease, snapshot, conformer, stage })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        self.conformer.schema()
    }

    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = self.conformer.conform(batch)?;
        self.stage.write(&batch).await
    }

    /// Closes the files; what is left is the commit.
    pub(crate) async fn finish(self, scope: &Scope, command: &str) -> Result<Pending> {
        let staged = self.stage.finish().await?;
        let tag = Tag::with_rows(command, staged.rows);
        if staged.rows == 0 {
            return Ok(Pending::nothing(tag));
        }
        let commit = Commit::append(&self.snapshot, staged, commit_author(scope));
        Ok(Pending::rows(self.lease, self.snapshot, commit, tag))
    }

    pub(crate) async fn abort(self) {
        self.stage.abort().await;
    }
}

/// Binds an `INSERT`: its target and the plan of the rows, complete and in the table's order.
pub(crate) async fn bind_insert(
    scope: &Scope,
    insert: &ast::Insert,
    parameters: &[Option<FieldRef>],
) -> Result<(Arc<Relation>, Bound)> {
    refuse_options(insert)?;
    let ast::TableObject::TableName(name) = &insert.table else {
        return Err(Error::unsupported("rows are inserted into tables only"));
    };
    let relation = bind::Name::from_ast(name)
        .and_then(|name| bind::find_for(scope, &name, RelationAction::Insert))?;
    let snapshot = scope.shared.tables.latest(&location(&relation)?).await?;
    let session = scope.shared.session_state(scope)?;
    let target = Target::new(&session, &relation, &snapshot.schema())?;
    let mut insert = insert.clone();
    insert.table = ast::TableObject::TableName(internal(TARGET));
    insert.table_alias = None;
    fill_defaults(&mut insert, &relation)?;
    let extra: bind::Extra = vec![(TARGET.to_owned(), Arc::new(target))];
    let statement = ast::Statement::Insert(insert);
    let mut bound = bind::bind(scope, &statement, parameters, extra).await?;
    bound.plan = match bound.plan {
        LogicalPlan::Dml(dml) => Arc::unwrap_or_clone(dml.input),
        _ => return Err(Error::internal("an INSERT was planned as something else")),
    };
    Ok((relation, bound))
}

/// Runs an `INSERT` up to its commit.
pub(crate) async fn insert(
    scope: &Scope,
    relation: &Relation,
    bound: Bound,
    limits: &Limits,
) -> Result<Pending> {
    let plan = authorize(scope, bound)?;
    let append = Append::begin(scope, plan.session(), relation).await?;
    fill(append, scope, &plan, limits, "INSERT").await
}

async fn fill(
    mut append: Append,
    scope: &Scope,
    plan: &AuthorizedPlan,
    limits: &Limits,
    command: &str,
) -> Result<Pending> {
    let filled = limits
        .run(async {
            let mut rows = execute::stream(plan).await?;
            while let Some(batch) = rows.next().await {
                append.write(&batch.map_err(from_engine)?).await?;
            }
            Ok(())
        })
        .await;
    match filled {
        Ok(()) => append.finish(scope, command).await,
        Err(error) => {
            append.abort().await;
            Err(error)
        }
    }
}

/// Stages the rows of `plan` for a table that does not exist yet.
pub(crate) async fn stage_new(
    plan: &AuthorizedPlan,
    conformer: &Conformer,
    mut stage: Stage,
    limits: &Limits,
) -> Result<Staged> {
    let staged = limits
        .run(async {
            let mut rows = execute::stream(plan).await?;
            while let Some(batch) = rows.next().await {
                let batch = conformer.conform(&batch.map_err(from_engine)?)?;
                stage.write(&batch).await?;
            }
            Ok(())
        })
        .await;
    match staged {
        Ok(()) => stage.finish().await,
        Err(error) => {
            stage.abort().await;
            Err(error)
        }
    }
}

/// A name made of one part that is taken as it is.
pub(super) fn internal(name: &str) -> ast::ObjectName {
    let ident = ast::Ident::with_quote('"', name);
    ast::ObjectName(vec![ast::ObjectNamePart::Identifier(ident)])
}

fn refuse_options(insert: &ast::Insert) -> Result<()> {
    let refused = [
        (insert.on.is_some(), "ON CONFLICT"),
        (insert.returning.is_some() || insert.output.is_some(), "RETURNING"),
        (insert.or.is_some() || insert.ignore || insert.replace_into, "INSERT OR …"),
        (insert.overwrite, "INSERT OVERWRITE"),
        (insert.partitioned.is_some() || !insert.after_columns.is_empty(), "PARTITION"),
        (!insert.assignments.is_empty(), "INSERT … SET"),
        (insert.settings.is_some() || insert.format_clause.is_some(), "this clause"),
        (insert.multi_table_insert_type.is_some(), "INSERT ALL"),
        (insert.priority.is_some() || insert.insert_alias.is_some(), "this clause"),
    ];
    match refused.iter().find(|(given, _)| *given) {
        Some((_, what)) => Err(Error::unsupported(format!("{what} is not supported"))),
        None => Ok(()),
    }
}

/// Writes the defaults' expressions where `VALUES` says `DEFAULT`, and for `DEFAULT VALUES`.
fn fill_defaults(insert: &mut ast::Insert, relation: &Relation) -> Result<()> {
    let columns: Vec<String> = match insert.columns.is_empty() {
        true => relation.columns.iter().map(|column| column.name.clone()).collect(),
        false => insert
            .columns
            .iter()
            .map(|name| bind::object_name(name).map(|name| name.name))
            .collect::<Result<_>>()?,
    };
    let default = |name: &str| -> Result<ast::Expr> {
        let column = relation.column(name);
        match column.and_then(|column| column.default.as_ref()) {
            Some(text) => crate::parse::expression(text.required()?),
            None => Ok(ast::Expr::Value(ast::Value::Null.into())),
        }
    };
    let Some(source) = &mut insert.source else {
        let row = columns.iter().map(|name| default(name)).collect::<Result<Vec<_>>>()?;
        insert.source = Some(Box::new(values_query(row)?));
        return Ok(());
    };
    if let ast::SetExpr::Values(values) = source.body.as_mut() {
        for row in &mut values.rows {
            for (value, column) in row.content.iter_mut().zip(&columns) {
                if is_default(value) {
                    *value = default(column)?;
                }
            }
        }
        // PostgreSQL takes fewer values than columns when no columns are named.
        let width = values.rows.first().map_or(0, |row| row.content.len());
        if insert.columns.is_empty() && width < columns.len() {
            insert.columns = columns.iter().take(width).map(|name| internal(name)).collect();
        }
    }
    Ok(())
}

pub(super) fn is_default(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(ident)
        if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

fn values_query(row: Vec<ast::Expr>) -> Result<ast::Query> {
    let mut query = crate::parse::query("VALUES (1)")?;
    if let ast::SetExpr::Values(values) = query.body.as_mut() {
        values.rows = vec![sqlparser::ast::Parens::with_empty_span(row)];
    }
    Ok(query)
}

/// What the planner needs of an `INSERT`'s target: its columns and their defaults. It reads nothing.
#[derive(Debug)]
struct Target {
    schema: SchemaRef,
    defaults: Vec<(String, Expr)>,
}

impl Target {
    fn new(session: &SessionState, relation: &Relation, schema: &SchemaRef) -> Result<Target> {
        let mut defaults = Vec::new();
        for column in &relation.columns {
            if let Some(text) = &column.default {
                let expr = crate::parse::expression(text.required()?)?;
                let empty = datafusion::common::DFSchema::empty();
                defaults.push((column.name.clone(), expression_over(session, &expr, &empty)?));
            }
        }
        Ok(Target { schema: schema.clone(), defaults })
    }
}

#[async_trait::async_trait]
impl TableProvider for Target {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.defaults.iter().find(|(name, _)| name == column).map(|(_, expr)| expr)
    }

    async fn scan(
        &self,
        _session: &dyn datafusion::catalog::Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn datafusion::physical_plan::ExecutionPlan>> {
        Err(to_engine(Error::internal("the target of an INSERT is not read")))
    }
}
