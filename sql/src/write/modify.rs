//! `UPDATE`, `DELETE`, `MERGE`, `INSERT … ON CONFLICT` and `TRUNCATE`: copy-on-write by row position.
//!
//! What it is: the rows that [`Modification`]'s query finds, done with as its clauses say. Files
//! with a touched row are written anew without those rows, plus the changed ones; every other file
//! stays. Old and new rows are recorded for the change feed.
//! What it guarantees: a row of the table is changed once.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::Volatility;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::policy::PolicyCommand;
use kho_catalog::privilege::{Action, ColumnAction, RelationAction};
use kho_catalog::state::Relation;
use kho_catalog::table::{CHANGE_TYPE, Commit, Metrics, Stage, Staged};
use sqlparser::ast;

use super::base::Base;
use super::change::{Act, From, Modification, ROWS, RowQuery, Step};
use super::conform::Conformer;
use super::keys::Told;
use super::positions::Positions;
use super::reshaping::refuse_reshaped;
use super::returning::{self, Wanted, Which};
use super::upsert::Proposed;
use super::{Pending, commit_author, keys, rights, tables};
use crate::authorize::authorize;
use crate::bind;
use crate::errors::{from_arrow, from_engine};
use crate::execute::{self, Limits};
use crate::memory::task_context;
use crate::outcome::Tag;
use crate::scope::Scope;
use crate::secure::{self, Checks, Secured};

/// The values of `$1`, `$2`, … and their fields.
#[derive(Clone, Copy)]
pub(crate) struct Parameters<'a> {
    pub fields: &'a [Option<FieldRef>],
    pub values: &'a [datafusion::scalar::ScalarValue],
}

/// Tables that the statement names by words of ours, and what they read.
#[derive(Default)]
pub(crate) struct Given {
    pub extra: bind::Extra,
    pub reads: Vec<bind::Read>,
    /// Which columns of the table must be readable besides those that the plan uses.
    pub needs: Option<bind::Needs>,
    /// Rows that are joined to the table by a key, see [`Proposed`].
    pub proposed: Option<Proposed>,
}

/// Binds the query that finds the rows, for the types of its parameters, and what is given back.
pub(crate) async fn describe(
    scope: &Scope,
    change: &Modification,
    given: Given,
    parameters: &[Option<FieldRef>],
) -> Result<(bind::Bound, Option<bind::Bound>)> {
    let relation = target(scope, change)?;
    // For types alone.
    let snapshot = scope.shape(&relation).await?;
    let columns: Vec<String> =
        snapshot.schema().fields().iter().map(|field| field.name().clone()).collect();
    let masked = masked(scope, &relation, change, &columns);
    let typed = change.with_typed_parameters(&relation);
    let RowQuery { query, .. } = typed.row_query(&relation, &columns, &masked)?;
    let mut extra = given.extra;
    let session = Arc::new(scope.shared.session_state(scope)?);
    let rows = snapshot.positioned(None)?;
    let rows = seen(scope, &session, &relation, change, rows).await?;
    extra.push((ROWS.to_owned(), rows.provider));
    let statement = ast::Statement::Query(Box::new(query));
    let bound = bind::bind_in(scope, &session, &statement, parameters, extra).await?;
    let returned = match wanted(change)? {
        Some(wanted) => {
            let rows = returning::no_rows(snapshot.schema())?;
            let rows = secure::written(scope, &session, &relation, rows).await?.provider;
            Some(returning::bind_over(scope, rows, &wanted, parameters).await?)
        }
        None => None,
    };
    Ok((bound, returned))
}

/// Finds the rows, writes what becomes of their files, and gives the commit.
pub(crate) async fn modify(
    scope: &Scope,
    change: &Modification,
    given: Given,
    parameters: Parameters<'_>,
    limits: &Limits,
) -> Result<Pending> {
    let base = Base::take(scope, &*target(scope, change)?, limits).await?;
    modify_behind(scope, change, base, given, parameters, limits).await
}

/// The same for a base that was taken.
pub(crate) async fn modify_behind(
    scope: &Scope,
    change: &Modification,
    base: Base,
    given: Given,
    parameters: Parameters<'_>,
    limits: &Limits,
) -> Result<Pending> {
    wanted(change)?;
    let relation = target(scope, change)?;
    let session = Arc::new(scope.shared.session_state(scope)?);
    refuse_volatile(change, &session)?;
    let relation = keys::current(scope, &relation).await?;
    refuse_reshaped(&relation, &base.snapshot)?;
    let columns = base.snapshot.columns()?;
    let stage = scope.stage(&relation, &columns)?;
    let mut work = Work::new(scope, session, &relation, change, base, stage).await?;
    match limits.run(work.run(scope, change, given, parameters)).await {
        Ok(()) => work.finish(scope, &relation, change, parameters, limits).await,
        Err(error) => {
            work.stage.abort().await;
            Err(error)
        }
    }
}

/// Takes all rows out of a table, in one commit.
pub(crate) async fn truncate(
    scope: &Scope,
    relation: &Relation,
    limits: &Limits,
) -> Result<Pending> {
    let base = Base::take(scope, relation, limits).await?;
    let files: Vec<usize> = (0..base.snapshot.files().len()).collect();
    let tag = Tag::new("TRUNCATE TABLE");
    if (files.is_empty() && scope.load.is_none()) || base.loaded {
        return Ok(Pending::nothing(tag));
    }
    let rows = base.snapshot.files().iter().filter_map(|file| file.records).sum();
    let metrics = Metrics { rows_deleted: rows, ..Metrics::default() };
    let nothing = Staged::empty(&tables(scope));
    let author = commit_author(scope);
    let commit = Commit::replace("TRUNCATE", &base.snapshot, &files, nothing, author, metrics)?;
    Ok(Pending::rows(scope, base, commit, tag))
}

/// The table to be changed, if the role may do all that the statement does.
fn target(scope: &Scope, change: &Modification) -> Result<Arc<Relation>> {
    let name = bind::object_name(&change.target)?;
    let relation = bind::find(scope, &name)?;
    let mut acts = false;
    for clause in &change.clauses {
        match &clause.act {
            Act::Update(given) => {
                let given = given.iter().map(|(column, _)| column.as_str());
                rights::require(scope, &relation, ColumnAction::Update, given)?;
            }
            // The rows of an INSERT were asked for when they were bound.
            Act::Insert(_) if change.command == "INSERT" => {}
            Act::Propose(_) => continue,
            Act::Insert(given) => {
                let given = given.iter().map(|(column, _)| column.as_str());
                rights::require(scope, &relation, ColumnAction::Insert, given)?;
            }
            Act::Delete => {
                let action = Action::Relation(relation.oid, RelationAction::Delete);
                scope.require(scope.who.role(), action)?;
            }
            Act::Nothing | Act::Fail => continue,
        }
        acts = true;
    }
    if !acts {
        let action = Action::Relation(relation.oid, RelationAction::SelectAny);
        scope.require(scope.who.role(), action)?;
    }
    Ok(relation)
}

/// The rows that are there, as far as the statement may see them.
async fn seen(
    scope: &Scope,
    session: &SessionState,
    relation: &Relation,
    change: &Modification,
    rows: Arc<dyn TableProvider>,
) -> Result<Secured> {
    match change.asks_for_keys_alone() {
        true => Ok(Secured { provider: rows, reads: Vec::new() }),
        false => secure::rows(scope, session, relation, rows, &change.policy_commands()).await,
    }
}

/// Those of a table's columns that are masked where the statement sees them.
fn masked(
    scope: &Scope,
    relation: &Relation,
    change: &Modification,
    columns: &[String],
) -> Vec<String> {
    if change.asks_for_keys_alone() {
        return Vec::new();
    }
    secure::masked_columns(scope, relation, columns)
}

/// A clause's condition is computed once for each of its columns: it must come out the same.
fn refuse_volatile(change: &Modification, session: &SessionState) -> Result<()> {
    if matches!(change.from, From::Beside(_)) {
        return Ok(());
    }
    let is_volatile = |expr: &ast::Expr| match expr {
        ast::Expr::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            let known = session.scalar_functions().get(&name);
            known.is_some_and(|it| it.signature().volatility == Volatility::Volatile)
        }
        _ => false,
    };
    let found = change.clauses.iter().filter_map(|clause| clause.condition.as_ref()).any(|it| {
        ast::visit_expressions(it, |expr| match is_volatile(expr) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
        .is_break()
    });
    match found {
        true => Err(Error::unsupported(format!(
            "a volatile function in a condition of {} is not supported",
            change.command
        ))),
        false => Ok(()),
    }
}

/// What the statement gives back.
fn wanted(change: &Modification) -> Result<Option<Wanted>> {
    let Some(items) = change.returning.clone() else { return Ok(None) };
    if matches!(&change.from, From::Beside(others) if !others.is_empty()) {
        return Err(Error::unsupported("RETURNING beside other tables is not supported"));
    }
    Ok(Some(Wanted { items, shown: change.shown()?, command: change.command }))
}

struct Work {
    /// The planner's state, for everything that the statement plans.
    session: Arc<SessionState>,
    base: Base,
    relation: Relation,
    stage: Stage,
    conformer: Conformer,
    touched: Positions,
    steps: Vec<Step>,
    query: ast::Query,
    policies: Policies,
    done: Metrics,
    /// Whether inserted rows are recorded as changes: where others are, all must be.
    records_inserts: bool,
}

/// What each clause's rows must satisfy.
#[derive(Default)]
struct Policies {
    /// The rows that are there, where they are joined: it is an error, not a row passed over.
    old: Vec<Option<Checks>>,
    new: Vec<Option<Checks>>,
}

impl Policies {
    async fn new(
        scope: &Scope,
        session: &SessionState,
        relation: &Relation,
        change: &Modification,
        schema: &SchemaRef,
    ) -> Result<Policies> {
        let mut policies = Policies::default();
        if !secure::is_policied(scope, relation) {
            return Ok(policies);
        }
        for clause in &change.clauses {
            let old =
                clause.policy_command().filter(|_| matches!(change.from, From::Joined { .. }));
            policies.old.push(match old {
                Some(command) => {
                    Checks::of_stored(scope, session, relation, schema, command).await?
                }
                None => None,
            });
            let mut commands = match clause.act {
                Act::Insert(_) | Act::Propose(_) => vec![PolicyCommand::Insert],
                Act::Update(_) => vec![PolicyCommand::Update],
                Act::Delete | Act::Nothing | Act::Fail => Vec::new(),
            };
            let is_seen = change.returning.is_some()
                || matches!(clause.act, Act::Update(_)) && change.looks_at_rows();
            if !commands.is_empty() && is_seen {
                commands.push(PolicyCommand::Select);
            }
            policies.new.push(Checks::new(scope, session, relation, schema, &commands).await?);
        }
        Ok(policies)
    }
}

async fn refuse(checks: &mut [Option<Checks>], index: usize, rows: &RecordBatch) -> Result<()> {
    match checks.get_mut(index) {
        Some(Some(checks)) => checks.refuse(rows).await,
        _ => Ok(()),
    }
}

impl Work {
    async fn new(
        scope: &Scope,
        session: Arc<SessionState>,
        relation: &Relation,
        change: &Modification,
        base: Base,
        stage: Stage,
    ) -> Result<Work> {
        let conformer = Conformer::new(&session, relation, stage.schema())?;
        let columns: Vec<String> =
            stage.schema().fields().iter().map(|field| field.name().clone()).collect();
        let masked = masked(scope, relation, change, &columns);
        let RowQuery { query, steps } = change.row_query(relation, &columns, &masked)?;
        let policies = Policies::new(scope, &session, relation, change, stage.schema()).await?;
        let changes =
            |clause: &super::change::Clause| matches!(clause.act, Act::Update(_) | Act::Delete);
        let records_inserts = change.clauses.iter().any(changes);
        let (touched, done) = (Positions::default(), Metrics::default());
        let relation = relation.clone();
        Ok(Work {
            session,
            base,
            relation,
            stage,
            conformer,
            touched,
            steps,
            query,
            policies,
            done,
            records_inserts,
        })
    }

    async fn run(
        &mut self,
        scope: &Scope,
        change: &Modification,
        given: Given,
        parameters: Parameters<'_>,
    ) -> Result<()> {
        let (mut extra, snapshot) = (given.extra, &self.base.snapshot);
        let files = match given.proposed.filter(|_| !self.base.loaded) {
            Some(proposed) => proposed.narrow(scope, snapshot, &mut extra).await?,
            None => None,
        };
        let rows = snapshot.positioned(files.as_deref())?;
        let rows = seen(scope, &self.session, &self.relation, change, rows).await?;
        extra.push((ROWS.to_owned(), rows.provider));
        let statement = ast::Statement::Query(Box::new(self.query.clone()));
        let (session, fields) = (&self.session, parameters.fields);
        let mut bound = bind::bind_in(scope, session, &statement, fields, extra).await?;
        bound.plan = crate::session::with_parameters(bound.plan, parameters.values)?;
        bound.reads.extend(given.reads);
        bound.reads.extend(rows.reads);
        if change.looks_at_rows() {
            // The rows are not the catalog's table to the binder; reading them is a read all the
            // same.
            bound.reads.push(bind::Read {
                relation: self.base.relation,
                by: scope.who.role(),
                version: Some(self.base.snapshot.version()),
                newest: true,
                needs: given.needs.unwrap_or(bind::Needs::Rows(Vec::new())),
            });
        }
        bound.rows = Some(bind::Rows {
            name: ROWS,
            relation: self.base.relation,
            carried: 2 + self.width(),
        });
        let plan = authorize(scope, bound)?;
        if self.base.loaded {
            return Ok(());
        }
        let mut rows = execute::stream_kept(&plan, scope).await?;
        while let Some(batch) = rows.next().await {
            self.touch(&batch.map_err(from_engine)?, change).await?;
        }
        self.keep_the_others(plan.session()).await
    }

    /// Does with each row what its clause says.
    async fn touch(&mut self, batch: &RecordBatch, change: &Modification) -> Result<()> {
        let number = batch.columns().get(2 + self.width());
        let number = number.map(|it| super::conform::cast(it, &DataType::Int64)).transpose()?;
        let number = number.ok_or_else(|| Error::internal("a row to be changed has no clause"))?;
        let number = number.as_primitive::<Int64Type>();
        for index in 0..self.steps.len() {
            let wanted = i64::try_from(index).unwrap_or(i64::MAX);
            let of_clause: BooleanArray =
                number.iter().map(|number| Some(number == Some(wanted))).collect();
            if of_clause.true_count() > 0 {
                let rows = filter_record_batch(batch, &of_clause);
                self.step(&rows.map_err(|error| from_arrow(&error))?, index, change).await?;
            }
        }
        Ok(())
    }

    async fn step(
        &mut self,
        rows: &RecordBatch,
        index: usize,
        change: &Modification,
    ) -> Result<()> {
        let places = match self.steps.get(index) {
            Some(Step::Nothing) | None => return Ok(()),
            Some(Step::Fail) => return Err(twice(change)),
            Some(Step::Propose(places)) => {
                let new = self.conformer.conform(&columns(rows, places)?)?;
                return refuse(&mut self.policies.new, index, &new).await;
            }
            Some(Step::Insert(places)) => {
                let new = self.conformer.conform(&columns(rows, places)?)?;
                refuse(&mut self.policies.new, index, &new).await?;
                self.done.rows_inserted += new.num_rows() as u64;
                if self.records_inserts {
                    self.stage.write_changes(&labelled(&new, "insert")?).await?;
                }
                return self.stage.write(&new).await;
            }
            Some(Step::Update(places)) => Some(places.clone()),
            Some(Step::Delete) => None,
        };
        let first = self.touched.note(rows)?;
        if matches!(change.from, From::Joined { .. }) && first.false_count() > 0 {
            return Err(twice(change));
        }
        let rows = filter_record_batch(rows, &first).map_err(|error| from_arrow(&error))?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let old = columns(&rows, &(2..2 + self.width()).collect::<Vec<_>>())?;
        // Old rows go to the change feed as they were: today's rules need not hold for them.
        let old = recast(&old, self.stage.schema())?;
        refuse(&mut self.policies.old, index, &old).await?;
        let Some(places) = places else {
            self.done.rows_deleted += rows.num_rows() as u64;
            return self.stage.write_changes(&labelled(&old, "delete")?).await;
        };
        self.done.rows_updated += rows.num_rows() as u64;
        let new = self.conformer.conform(&columns(&rows, &places)?)?;
        refuse(&mut self.policies.new, index, &new).await?;
        self.stage.write_changes(&labelled(&old, "update_preimage")?).await?;
        self.stage.write_changes(&labelled(&new, "update_postimage")?).await?;
        self.stage.write(&new).await
    }

    /// Copies the untouched rows of the files that go.
    async fn keep_the_others(&mut self, session: &SessionState) -> Result<()> {
        let files = self.touched.files();
        if files.is_empty() {
            return Ok(());
        }
        let provider = self.base.snapshot.positioned(Some(&files))?;
        let scan = provider.scan(session, None, &[], None).await.map_err(from_engine)?;
        let mut rows = execute_stream(scan, task_context(session)).map_err(from_engine)?;
        let places: Vec<usize> = (0..self.width()).collect();
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(from_engine)?;
            let others = self.touched.others(&batch)?;
            let kept = filter_record_batch(&batch, &others).map_err(|error| from_arrow(&error))?;
            if kept.num_rows() > 0 {
                let kept = recast(&columns(&kept, &places)?, self.stage.schema())?;
                self.stage.write_copied(&kept).await?;
            }
        }
        Ok(())
    }

    /// Closes the files; what is left is the commit.
    async fn finish(
        self,
        scope: &Scope,
        relation: &Relation,
        change: &Modification,
        parameters: Parameters<'_>,
        limits: &Limits,
    ) -> Result<Pending> {
        let Work { session, base, stage, touched, done, records_inserts, .. } = self;
        let rows = done.rows_inserted + done.rows_updated + done.rows_deleted;
        let tag = Tag::with_rows(change.command, rows);
        let wanted = wanted(change)?;
        if (rows == 0 && scope.load.is_none() && wanted.is_none()) || base.loaded {
            stage.abort().await;
            return Ok(Pending::nothing(tag));
        }
        let staged = stage.finish().await?;
        let (files, snapshot) = (touched.files(), &base.snapshot);
        let checked = async {
            let returning = match &wanted {
                Some(wanted) => {
                    let rows = (&staged, shown_rows(change, records_inserts));
                    let version = snapshot.version();
                    let plan = returning::plan(scope, relation, version, wanted, rows, parameters);
                    Some(plan.await?)
                }
                None => None,
            };
            if keys::concern(relation, change.updated_columns()) || done.rows_inserted > 0 {
                let all = tables(scope);
                let how = (files.as_slice(), Told::of_write(scope, relation));
                keys::check(&all, &session, relation, &staged, snapshot, how).await?;
            }
            Ok(returning)
        };
        let returning = match limits.run(checked).await {
            Ok(returning) => returning,
            Err(error) => {
                staged.discard().await;
                return Err(error);
            }
        };
        let mut pending = match rows == 0 && scope.load.is_none() {
            true => Pending::nothing(tag),
            false => {
                let (command, author) = (change.command, commit_author(scope));
                let mut commit = Commit::replace(command, snapshot, &files, staged, author, done)?;
                if files.is_empty() {
                    commit.operation = "WRITE";
                }
                Pending::rows(scope, base, commit, tag)
            }
        };
        pending.returning = returning;
        Ok(pending)
    }

    fn width(&self) -> usize {
        self.stage.schema().fields().len()
    }
}

/// Which of the staged rows a statement gives back.
fn shown_rows(change: &Modification, records_inserts: bool) -> Which {
    match change.command {
        "DELETE" => Which::Changed(&["delete"]),
        _ if records_inserts => Which::Changed(&["insert", "update_postimage"]),
        _ => Which::Written,
    }
}

fn twice(change: &Modification) -> Error {
    let command = match change.command {
        "INSERT" => "ON CONFLICT DO UPDATE",
        command => command,
    };
    Error::new(
        Kind::CardinalityViolation,
        format!("{command} command cannot affect row a second time"),
    )
    .with_hint("Ensure that no more than one source row matches any one target row.")
}

fn columns(batch: &RecordBatch, places: &[usize]) -> Result<RecordBatch> {
    // One place may stand for several columns, so their names need not differ.
    batch.project(places).map_err(|error| from_arrow(&error))
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
