//! `UPDATE`, `DELETE` and `TRUNCATE`: copy-on-write by row position.
//!
//! # Why positions
//! The predicate is planned and run as an ordinary query that also gives each row's file and place
//! in it; so joins and subqueries in it mean what they mean in a `SELECT`, and can never come to
//! mean "all rows". Files with a touched row are then written anew without those rows, plus the
//! changed ones; every other file stays. Old and new rows are recorded for the change feed.

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::RelationAction;
use kho_catalog::state::Relation;
use kho_catalog::table::{
    CHANGE_TYPE, Commit, FILE_COLUMN, Metrics, ROW_COLUMN, Snapshot, Stage, Staged,
};
use sqlparser::ast;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::conform::Conformer;
use super::positions::Positions;
use super::target::{internal, is_default};
use super::{Pending, commit_author, tables};
use crate::authorize::authorize;
use crate::bind;
use crate::errors::{from_arrow, from_engine};
use crate::execute::{self, Limits};
use crate::memory::task_context;
use crate::outcome::Tag;
use crate::scope::{Scope, location};

/// The name of the table whose rows are changed, in the query that finds them.
const ROWS: &str = "\u{1}rows";

/// A parsed `UPDATE` or `DELETE`, in one form.
pub(crate) struct Modification {
    target: ast::ObjectName,
    alias: Option<ast::Ident>,
    others: Vec<ast::TableWithJoins>,
    selection: Option<ast::Expr>,
    /// What columns become; `None` deletes the row.
    assignments: Option<Vec<(String, ast::Expr)>>,
}

impl Modification {
    pub(crate) fn of_update(update: &ast::Update) -> Result<Modification> {
        let refused = [
            (update.returning.is_some() || update.output.is_some(), "RETURNING"),
            (update.or.is_some(), "UPDATE OR …"),
            (!update.order_by.is_empty() || update.limit.is_some(), "ORDER BY and LIMIT in UPDATE"),
        ];
        refuse(&refused)?;
        let (target, alias) = single_table(&update.table)?;
        let others = match &update.from {
            None => Vec::new(),
            Some(ast::UpdateTableFromKind::AfterSet(tables)) => tables.clone(),
            Some(ast::UpdateTableFromKind::BeforeSet(_)) => {
                return Err(Error::unsupported("FROM comes after SET"));
            }
        };
        let mut assignments: Vec<(String, ast::Expr)> = Vec::new();
        for assignment in &update.assignments {
            for (column, value) in assigned(assignment)? {
                if assignments.iter().any(|(known, _)| *known == column) {
                    return Err(Error::new(
                        Kind::Syntax,
                        format!("multiple assignments to same column \"{column}\""),
                    ));
                }
                assignments.push((column, value));
            }
        }
        let selection = update.selection.clone();
        Ok(Modification { target, alias, others, selection, assignments: Some(assignments) })
    }

    pub(crate) fn of_delete(delete: &ast::Delete) -> Result<Modification> {
        let refused = [
            (delete.returning.is_some() || delete.output.is_some(), "RETURNING"),
            (!delete.tables.is_empty(), "DELETE of several tables"),
            (!delete.order_by.is_empty() || delete.limit.is_some(), "ORDER BY and LIMIT in DELETE"),
        ];
        refuse(&refused)?;
        let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) =
            &delete.from;
        let [table] = from.as_slice() else {
            return Err(Error::unsupported("rows are deleted from one table at a time"));
        };
        let (target, alias) = single_table(table)?;
        Ok(Modification {
            target,
            alias,
            others: delete.using.clone().unwrap_or_default(),
            selection: delete.selection.clone(),
            assignments: None,
        })
    }

    /// Binds the query that finds the rows, for the types of its parameters.
    pub(crate) async fn bind_parameters(
        &self,
        scope: &Scope,
        parameters: &[Option<FieldRef>],
    ) -> Result<bind::Bound> {
        let name = bind::object_name(&self.target)?;
        let relation = bind::find_for(scope, &name, self.action())?;
        let snapshot = tables(scope).latest(&location(&relation)?).await?;
        let columns: Vec<String> =
            snapshot.schema().fields().iter().map(|field| field.name().clone()).collect();
        let (query, _) = row_query(self, &relation, &columns)?;
        let extra: bind::Extra = vec![(ROWS.to_owned(), snapshot.positioned(None)?)];
        let statement = ast::Statement::Query(Box::new(query));
        bind::bind(scope, &statement, parameters, extra).await
    }

    /// Whether what is done depends on stored values: then the count of rows tells of them, and
    /// the right to read is needed besides the right to change, as in PostgreSQL.
    fn looks_at_rows(&self) -> bool {
        let names_column = |expr: &ast::Expr| {
            let found = ast::visit_expressions(expr, |inner| match inner {
                ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_)
                    if !is_default(inner) =>
                {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            });
            found.is_break()
        };
        let values = self.assignments.iter().flatten().map(|(_, value)| value);
        self.selection.iter().chain(values).any(names_column)
    }

    fn action(&self) -> RelationAction {
        match self.assignments {
            Some(_) => RelationAction::Update,
            None => RelationAction::Delete,
        }
    }
}

/// Finds the rows, writes what becomes of their files, and gives the commit.
pub(crate) async fn modify(
    scope: &Scope,
    change: &Modification,
    parameters: Parameters<'_>,
    limits: &Limits,
) -> Result<Pending> {
    let name = bind::object_name(&change.target)?;
    let relation = bind::find_for(scope, &name, change.action())?;
    let location = location(&relation)?;
    let lease = limits.run(scope.lease(&location)).await?;
    let snapshot = tables(scope).latest(&location).await?;
    let stage = tables(scope).stage(&location, &snapshot.columns()?);
    let mut work = Work::new(scope, &relation, change, snapshot, stage)?;
    let command = if change.assignments.is_some() { "UPDATE" } else { "DELETE" };
    match limits.run(work.run(scope, change, parameters)).await {
        Ok(()) => {}
        Err(error) => {
            work.stage.abort().await;
            return Err(error);
        }
    }
    let rows = work.touched.len();
    let tag = Tag::with_rows(command, rows);
    if rows == 0 {
        work.stage.abort().await;
        return Ok(Pending::nothing(tag));
    }
    let staged = work.stage.finish().await?;
    let metrics = match change.assignments {
        Some(_) => Metrics { rows_updated: rows, ..Metrics::default() },
        None => Metrics { rows_deleted: rows, ..Metrics::default() },
    };
    let files = work.touched.files();
    let author = commit_author(scope);
    let commit = Commit::replace(command, &work.snapshot, &files, staged, author, metrics)?;
    Ok(Pending::rows(lease, work.snapshot, commit, tag))
}

/// Takes all rows out of a table, in one commit.
pub(crate) async fn truncate(scope: &Scope, relation: &Relation) -> Result<Pending> {
    let location = location(relation)?;
    let lease = scope.lease(&location).await?;
    let snapshot = tables(scope).latest(&location).await?;
    let files: Vec<usize> = (0..snapshot.files().len()).collect();
    let tag = Tag::new("TRUNCATE TABLE");
    if files.is_empty() {
        return Ok(Pending::nothing(tag));
    }
    let rows = snapshot.files().iter().filter_map(|file| file.records).sum();
    let metrics = Metrics { rows_deleted: rows, ..Metrics::default() };
    let nothing = Staged::empty(&tables(scope));
    let commit =
        Commit::replace("TRUNCATE", &snapshot, &files, nothing, commit_author(scope), metrics)?;
    Ok(Pending::rows(lease, snapshot, commit, tag))
}

/// The values of `$1`, `$2`, … and their fields.
#[derive(Clone, Copy)]
pub(crate) struct Parameters<'a> {
    pub fields: &'a [Option<FieldRef>],
    pub values: &'a [datafusion::scalar::ScalarValue],
}

struct Work {
    relation: kho_catalog::state::Oid,
    snapshot: Snapshot,
    stage: Stage,
    conformer: Conformer,
    touched: Positions,
    /// For each column of the table, the place of its new value among the query's columns.
    new_values: Option<Vec<usize>>,
    query: ast::Query,
}

impl Work {
    fn new(
        scope: &Scope,
        relation: &Relation,
        change: &Modification,
        snapshot: Snapshot,
        stage: Stage,
    ) -> Result<Work> {
        let session = scope.shared.session_state(scope)?;
        let conformer = Conformer::new(&session, relation, stage.schema())?;
        let columns: Vec<String> =
            stage.schema().fields().iter().map(|field| field.name().clone()).collect();
        let (query, new_values) = row_query(change, relation, &columns)?;
        let touched = Positions::default();
        Ok(Work { relation: relation.oid, snapshot, stage, conformer, touched, new_values, query })
    }

    async fn run(
        &mut self,
        scope: &Scope,
        change: &Modification,
        parameters: Parameters<'_>,
    ) -> Result<()> {
        let positioned = self.snapshot.positioned(None)?;
        let extra: bind::Extra = vec![(ROWS.to_owned(), positioned)];
        let statement = ast::Statement::Query(Box::new(self.query.clone()));
        let mut bound = bind::bind(scope, &statement, parameters.fields, extra).await?;
        bound.plan = crate::session::with_parameters(bound.plan, parameters.values)?;
        if change.looks_at_rows() {
            // The rows are not the catalog's table to the binder; reading them is a read all the same.
            bound.reads.push(bind::Read {
                relation: self.relation,
                by: scope.who.role(),
                version: Some(self.snapshot.version()),
            });
        }
        let plan = authorize(scope, bound)?;
        let mut rows = execute::stream(&plan).await?;
        while let Some(batch) = rows.next().await {
            self.touch(&batch.map_err(from_engine)?, change).await?;
        }
        self.keep_the_others(plan.session()).await
    }

    async fn touch(&mut self, batch: &RecordBatch, change: &Modification) -> Result<()> {
        let first = self.touched.note(batch)?;
        let batch = filter_record_batch(batch, &first).map_err(|error| from_arrow(&error))?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let width = self.stage.schema().fields().len();
        let old = self.columns(&batch, &(2..2 + width).collect::<Vec<_>>())?;
        // Old rows go to the change feed as they were: today's rules need not hold for them.
        let old = recast(&old, self.stage.schema())?;
        match (&self.new_values, &change.assignments) {
            (Some(places), Some(_)) => {
                let new = self.conformer.conform(&self.columns(&batch, places)?)?;
                self.stage.write_changes(&labelled(&old, "update_preimage")?).await?;
                self.stage.write_changes(&labelled(&new, "update_postimage")?).await?;
                self.stage.write(&new).await
            }
            _ => self.stage.write_changes(&labelled(&old, "delete")?).await,
        }
    }

    fn columns(&self, batch: &RecordBatch, places: &[usize]) -> Result<RecordBatch> {
        batch.project(places).map_err(|error| from_arrow(&error))
    }

    /// Copies the untouched rows of the files that go.
    async fn keep_the_others(
        &mut self,
        session: &datafusion::execution::SessionState,
    ) -> Result<()> {
        let files = self.touched.files();
        if files.is_empty() {
            return Ok(());
        }
        let provider = self.snapshot.positioned(Some(&files))?;
        let scan = provider.scan(session, None, &[], None).await.map_err(from_engine)?;
        let mut rows = execute_stream(scan, task_context(session)).map_err(from_engine)?;
        let width = self.stage.schema().fields().len();
        let places: Vec<usize> = (0..width).collect();
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(from_engine)?;
            let others = self.touched.others(&batch)?;
            let kept = filter_record_batch(&batch, &others).map_err(|error| from_arrow(&error))?;
            if kept.num_rows() > 0 {
                let kept = recast(&self.columns(&kept, &places)?, self.stage.schema())?;
                self.stage.write(&kept).await?;
            }
        }
        Ok(())
    }
}

/// The query for the rows to be changed: place, old values, and the new value of each column that
/// gets one. Says where each column's new value stands.
fn row_query(
    change: &Modification,
    relation: &Relation,
    columns: &[String],
) -> Result<(ast::Query, Option<Vec<usize>>)> {
    let shown = match &change.alias {
        Some(alias) => alias.clone(),
        None => ast::Ident::with_quote('"', bind::object_name(&change.target)?.name),
    };
    let of_rows = |name: &str| {
        ast::Expr::CompoundIdentifier(vec![shown.clone(), ast::Ident::with_quote('"', name)])
    };
    let mut projection: Vec<ast::Expr> =
        [FILE_COLUMN, ROW_COLUMN].into_iter().map(of_rows).collect();
    projection.extend(columns.iter().map(|name| of_rows(name)));
    let mut new_values = None;
    if let Some(assignments) = &change.assignments {
        let mut places: Vec<usize> = (2..2 + columns.len()).collect();
        for (column, value) in assignments {
            let index = columns.iter().position(|name| name == column);
            let place = index.and_then(|index| places.get_mut(index)).ok_or_else(|| {
                Error::new(
                    Kind::UndefinedColumn,
                    format!("column \"{column}\" of relation \"{}\" does not exist", relation.name),
                )
            })?;
            *place = projection.len();
            projection.push(match is_default(value) {
                true => default_of(relation, column)?,
                false => value.clone(),
            });
        }
        new_values = Some(places);
    }
    let select = select(projection, internal(ROWS), shown, change)?;
    Ok((select, new_values))
}

fn default_of(relation: &Relation, column: &str) -> Result<ast::Expr> {
    match relation.column(column).and_then(|column| column.default.as_ref()) {
        Some(text) => crate::parse::expression(text.required()?),
        None => Ok(ast::Expr::Value(ast::Value::Null.into())),
    }
}

/// Builds `SELECT … FROM rows AS shown, others WHERE selection` from a parsed skeleton, which
/// keeps every field of the tree that is not ours at its default.
fn select(
    projection: Vec<ast::Expr>,
    table: ast::ObjectName,
    shown: ast::Ident,
    change: &Modification,
) -> Result<ast::Query> {
    let mut query = crate::parse::query("SELECT 1 FROM x AS y")?;
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        select.projection = (projection.into_iter().enumerate())
            .map(|(index, expr)| match index {
                0 => aliased(expr, FILE_COLUMN),
                1 => aliased(expr, ROW_COLUMN),
                _ => aliased(expr, &format!("\u{1}{index}")),
            })
            .collect();
        if let Some(ast::TableFactor::Table { name, alias, .. }) =
            select.from.first_mut().map(|from| &mut from.relation)
        {
            *name = table;
            if let Some(alias) = alias {
                alias.name = shown;
            }
        }
        select.from.extend(change.others.iter().cloned());
        select.selection = change.selection.clone();
    }
    Ok(query)
}

fn aliased(expr: ast::Expr, name: &str) -> ast::SelectItem {
    ast::SelectItem::ExprWithAlias { expr, alias: ast::Ident::with_quote('"', name) }
}

fn assigned(assignment: &ast::Assignment) -> Result<Vec<(String, ast::Expr)>> {
    let column = |name: &ast::ObjectName| bind::object_name(name).map(|name| name.name);
    match &assignment.target {
        ast::AssignmentTarget::ColumnName(name) => {
            Ok(vec![(column(name)?, assignment.value.clone())])
        }
        ast::AssignmentTarget::Tuple(names) => match &assignment.value {
            ast::Expr::Tuple(values) if values.len() == names.len() => names
                .iter()
                .map(column)
                .zip(values.iter().cloned())
                .map(|(name, value)| Ok((name?, value)))
                .collect(),
            _ => Err(Error::unsupported("a row can be assigned from a list of values only")),
        },
    }
}

fn single_table(table: &ast::TableWithJoins) -> Result<(ast::ObjectName, Option<ast::Ident>)> {
    match &table.relation {
        ast::TableFactor::Table {
            name, alias, args: None, version: None, sample: None, ..
        } if table.joins.is_empty() => {
            Ok((name.clone(), alias.as_ref().map(|alias| alias.name.clone())))
        }
        _ => Err(Error::unsupported("only a table's newest version can be changed")),
    }
}

fn refuse(options: &[(bool, &str)]) -> Result<()> {
    match options.iter().find(|(given, _)| *given) {
        Some((_, what)) => Err(Error::unsupported(format!("{what} is not supported"))),
        None => Ok(()),
    }
}

/// `batch` with `schema`, by place; for rows that were stored before.
fn recast(batch: &RecordBatch, schema: &arrow::datatypes::SchemaRef) -> Result<RecordBatch> {
    let columns = (schema.fields().iter().zip(batch.columns()))
        .map(|(field, column)| super::conform::cast(column, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(|error| from_arrow(&error))
}

/// The rows with what happened to them.
fn labelled(batch: &RecordBatch, change: &str) -> Result<RecordBatch> {
    let mut fields = batch.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(CHANGE_TYPE, DataType::Utf8, true)));
    let mut columns = batch.columns().to_vec();
    let label = StringArray::from_iter_values(std::iter::repeat_n(change, batch.num_rows()));
    columns.push(Arc::new(label) as ArrayRef);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| from_arrow(&error))
}
