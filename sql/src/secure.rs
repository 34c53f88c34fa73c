//! The only tables that plans are made of: what one role may see of a dataset.
//!
//! What it is: a table without policies and masks is given as it lies ([`plain`]). Otherwise it is
//! a query, `SELECT <masks> FROM <table> WHERE <policies>`, behind a barrier ([`guarded`]), and so is
//! a view for everybody but its owner.
//! What it guarantees: nothing of the statement is evaluated on a row that the policies hide, or on
//! a value that a mask covers: neither predicates nor joins reach below, but for those that cannot
//! fail and tell nothing ([`leak_proof`]), which keep files and row groups from being read.
//! Estimates, metrics and `EXPLAIN` speak of visible rows alone.
//! What it does not: it does not decide who may read; `authorize` does, before anything runs. How
//! long a statement takes may tell how much was passed over.
//!
//! # Why not a filter
//! The engine merges a filter with the user's predicates and runs those first where it likes:
//! `1 / (salary - 90000) > 0` then tells a hidden salary by its error.

mod barrier;
mod changes;
mod condition;
pub(crate) mod dynamic;
mod floats;
mod guarded;
mod infallible;
mod lasting;
mod leak_proof;
pub(crate) mod lineage;
mod number;
mod plain;
mod shape;
mod short;
mod source;
mod width;

use std::any::Any;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::Result as PlanResult;
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::physical_plan::ExecutionPlan;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::policy::{self, PolicyCommand};
use kho_catalog::state::{Oid, Relation};
use kho_catalog::table::{Snapshot, TableSize};

use crate::bind::Read;
use crate::scope::{Governing, Scope};

pub(crate) use condition::{Checks, refuse_unsafe};
pub(crate) use short::Length;
pub(crate) use source::{in_terms_of_ids, in_terms_of_names, masked};

use self::source::Source;

/// What stands for a relation in a plan, and what it reads besides.
pub(crate) struct Secured {
    pub provider: Arc<dyn TableProvider>,
    /// What the policies' own queries read.
    pub reads: Vec<Read>,
}

/// `relation` at the version of `snapshot`, for `SELECT`.
///
/// # Errors
/// `42501` for a version that lacks a column which a policy needs; of a policy's expressions.
pub(crate) async fn table(
    scope: &Scope,
    session: &SessionState,
    relation: &Relation,
    snapshot: &Snapshot,
) -> Result<Secured> {
    let provider = plain::table(relation, snapshot).await?;
    let source = Source::new(scope, relation, &provider);
    source.secured(session, provider, &[PolicyCommand::Select]).await
}

/// All of `relation`, for tests of what comes after.
#[cfg(test)]
pub(crate) async fn open_table(
    relation: &Relation,
    snapshot: &Snapshot,
) -> Result<Arc<dyn TableProvider>> {
    plain::table(relation, snapshot).await
}

/// The relation that `source` is, in whatever form; `None` where it is none of the catalog's.
pub(crate) fn relation_of(source: &Arc<dyn TableSource>) -> Option<Oid> {
    plain::relation_of(source).or_else(|| guarded::relation_of(source))
}

/// The query that stands for the rows of a table behind its policies and masks, if `source` is that.
pub(crate) fn policied_query_of(source: &Arc<dyn TableSource>) -> Option<LogicalPlan> {
    guarded::relation_of(source)?;
    let provider = source_as_provider(source).ok()?;
    let table: &dyn Any = provider.as_ref();
    table.downcast_ref::<guarded::GuardedTable>().map(|table| table.plan().clone())
}

/// The query of the view that `source` is, behind the barrier.
pub(crate) fn view_of(source: &Arc<dyn TableSource>) -> Option<LogicalPlan> {
    guarded::view_of(source)
}

/// Rows of `relation` that are not its own of now: its changes.
///
/// # Errors
/// As [`table`].
pub(crate) async fn derived(
    scope: &Scope,
    session: &SessionState,
    relation: &Relation,
    version: u64,
    inner: Arc<dyn TableProvider>,
) -> Result<Secured> {
    let provider = plain::derived(relation, version, inner);
    if is_policied(scope, relation) {
        return changes::shown(scope, session, relation, provider).await;
    }
    let source = Source::new(scope, relation, &provider);
    source.secured(session, provider, &[PolicyCommand::Select]).await
}

/// Rows of `relation` that a statement is to change, which must satisfy the policies for all of
/// `commands`. Beside each masked column stands the stored value, under a name that no user can
/// write: [`stored_name`].
///
/// # Errors
/// As [`table`].
pub(crate) async fn rows(
    scope: &Scope,
    session: &SessionState,
    relation: &Relation,
    inner: Arc<dyn TableProvider>,
    commands: &[PolicyCommand],
) -> Result<Secured> {
    let source = Source::new(scope, relation, &inner).with_stored();
    source.secured(session, inner, commands).await
}

/// Rows that a statement has written, to be given back: their masks hold. That they may be seen was
/// checked when they were written ([`Checks`]), or before they were taken out.
///
/// # Errors
/// As [`table`].
pub(crate) async fn written(
    scope: &Scope,
    session: &SessionState,
    relation: &Relation,
    inner: Arc<dyn TableProvider>,
) -> Result<Secured> {
    Source::new(scope, relation, &inner).secured(session, inner, &[]).await
}

/// A view's query, for somebody who is not its owner.
pub(crate) fn view(scope: &Scope, name: &str, plan: LogicalPlan) -> Result<Arc<dyn TableProvider>> {
    let schema = Arc::clone(plan.schema().inner());
    let estimates = !scope.explains;
    // Nothing in it was computed yet; what it is made of is asked for when it is to be kept.
    let known = guarded::Known { name, relation: None, size: None, estimates, lasts: true };
    guarded::guarded(known, plan, schema)
}

/// How the stored value of a column is named beside what is shown of it.
pub(crate) fn stored_name(column: &str) -> String {
    format!("\u{1}stored {column}")
}

/// Those of the columns, by name, that a mask covers for the session's role.
pub(crate) fn masked_columns(scope: &Scope, relation: &Relation, names: &[String]) -> Vec<String> {
    let Governing { state, relation: by, session, .. } = scope.governing(relation);
    let is_masked = |name: &&String| {
        let id = relation.column(name).map(|column| column.id);
        let column = by.columns.iter().find(|column| Some(column.id) == id);
        column.is_some_and(|column| !policy::masks(&state, &by, column, &session).is_empty())
    };
    names.iter().filter(is_masked).cloned().collect()
}

/// Whether policies decide which rows of `relation` the scope's role sees.
pub(crate) fn is_policied(scope: &Scope, relation: &Relation) -> bool {
    let Governing { state, relation, who, .. } = scope.governing(relation);
    policy::is_policied(&state, &relation, &who)
}

/// The error of a statement over a guarded table: what a value did not fit is told by its SQLSTATE,
/// in words that are the same for every value.
pub(crate) fn without_values(error: Error) -> Error {
    let message = match error.kind() {
        Kind::DivisionByZero => "division by zero",
        Kind::InvalidTextRepresentation => "invalid input syntax",
        Kind::NumericOutOfRange => "value out of range",
        Kind::InvalidDatetime | Kind::DatetimeOverflow => "invalid date or time",
        Kind::StringTooLong => "value too long",
        Kind::InvalidRegularExpression => "invalid regular expression",
        kind if kind.sqlstate().starts_with("22") => "a value could not be computed",
        _ => return error,
    };
    tracing::debug!(%error, "an error over a guarded table");
    Error::new(error.kind(), message)
}

/// Whether a bound plan is the same at another time, for the same catalog, session and settings; what
/// `of_session` knows by its name is a function that was made for one statement.
pub(crate) fn lasts(plan: &LogicalPlan, of_session: &dyn Fn(&str) -> bool) -> bool {
    lasting::of_statement(plan, of_session)
}

/// How long it takes to plan and to run a statement, as far as its plan tells that by itself.
pub(crate) fn length(plan: &LogicalPlan) -> Length {
    short::length(plan)
}

/// About how many bytes the largest rows take that `plan`, which was optimized, reads.
pub(crate) async fn widest_row(plan: LogicalPlan, runtime: Arc<RuntimeEnv>) -> PlanResult<usize> {
    Ok(width::widest(width::scanned(&plan)?, runtime).await)
}

/// Whether a barrier is in the plan.
pub(crate) fn is_guarded(plan: &dyn ExecutionPlan) -> bool {
    plan.name() == barrier::NAME || plan.children().iter().any(|it| is_guarded(it.as_ref()))
}

/// To be asked of a whole statement before it is planned: whether the sizes of tables that it sees
/// in part may decide how that is done.
pub(crate) fn settle_shape(session: &SessionState, plan: &LogicalPlan) -> Result<()> {
    shape::settle(session, plan).map_err(crate::errors::from_engine)
}

/// How large the table behind `source` is, for the order of joins; `None` where that is not to be
/// told, or it is no table.
pub(crate) fn size_of(source: &Arc<dyn TableSource>) -> Option<Arc<TableSize>> {
    plain::size_of(source).or_else(|| guarded::size_of(source))
}
