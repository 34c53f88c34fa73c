//! `RETURNING`: the rows a write came to, read back from what was staged.
//!
//! # Why read back
//! However many rows a statement wrote, nothing of them is gathered: they are in its files, and are
//! streamed from there once the write is committed. The plan is authorized before that.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ident, lit};
use futures::StreamExt;
use kho_catalog::audit::Used;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::Relation;
use kho_catalog::table::{CHANGE_TYPE, Staged};
use sqlparser::ast;

use super::target::internal;
use crate::authorize::{AuthorizedPlan, authorize};
use crate::bind::{self, Bound};
use crate::errors::from_engine;
use crate::execute;
use crate::limit::bytes::value_bytes;
use crate::limit::meter::Meter;
use crate::scope::Scope;
use crate::secure;
use crate::session::with_parameters;
use crate::write::modify::Parameters;

/// The name of the written rows in the query over them.
const WRITTEN: &str = "\u{1}written";

/// A plan over the written rows, to be run when they are committed.
pub(crate) struct Returning {
    pub plan: AuthorizedPlan,
    pub names: Vec<Option<String>>,
    pub command: &'static str,
}

/// A result up to this size is kept between its rehearsal and the commit.
const KEPT_BYTES: usize = 1 << 20;

impl Returning {
    /// Computes everything once, before the write is committed: whatever fails, fails the write.
    /// Gives the rows where they are few; `None` where they are to be computed again.
    /// What may not be given in full is not written either: all of it is counted here.
    pub(crate) async fn rehearse(&self, meter: Option<Meter>) -> Result<Option<Vec<RecordBatch>>> {
        let mut rows = execute::stream(&self.plan).await?;
        let (mut kept, mut bytes, mut given) = (Vec::new(), 0_usize, Used::default());
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(from_engine)?;
            let (rows, value_bytes) = (batch.num_rows() as u64, value_bytes(&batch));
            given = given.plus(Used { rows, bytes: value_bytes });
            bytes = bytes.saturating_add(batch.get_array_memory_size());
            match bytes <= KEPT_BYTES {
                true => kept.push(batch),
                false => kept.clear(),
            }
        }
        if let Some(meter) = meter {
            meter.prepay(given).await?;
        }
        Ok((bytes <= KEPT_BYTES).then_some(kept))
    }
}

/// What a statement is to give back: the items, and what the rows are called in them.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub items: Vec<ast::SelectItem>,
    pub shown: ast::Ident,
    pub command: &'static str,
}

/// Which of the staged rows are given back.
#[derive(Clone, Copy)]
pub(super) enum Which {
    /// Those of the data files: an `INSERT`'s.
    Written,
    /// Those recorded as these changes.
    Changed(&'static [&'static str]),
}

/// Plans what `wanted` says over the rows that were staged.
pub(super) async fn plan(
    scope: &Scope,
    relation: &Relation,
    version: u64,
    wanted: &Wanted,
    (staged, which): (&Staged, Which),
    parameters: Parameters<'_>,
) -> Result<Returning> {
    let rows = match which {
        Which::Written => staged.rows(),
        Which::Changed(kinds) => changed(staged, kinds)?,
    };
    let session = scope.shared.session_state(scope)?;
    let rows = secure::written(scope, &session, relation, rows).await?.provider;
    let mut bound = bind_over(scope, rows, wanted, parameters.fields).await?;
    bound.plan = with_parameters(bound.plan, parameters.values)?;
    let names = std::mem::take(&mut bound.names);
    bound.reads.push(bind::Read {
        relation: relation.oid,
        by: scope.who.role(),
        version: Some(version),
        newest: true,
        needs: bind::Needs::Rows(Vec::new()),
    });
    bound.rows = Some(bind::Rows { name: WRITTEN, relation: relation.oid, carried: 0 });
    // To give rows back is to read them, but it is no reading of what others wrote.
    let plan = authorize(&scope.apart(), bound)?;
    Ok(Returning { plan, names, command: wanted.command })
}

/// Binds the items over rows with the table's schema, to say what they will be.
pub(super) async fn bind_over(
    scope: &Scope,
    rows: Arc<dyn TableProvider>,
    wanted: &Wanted,
    parameters: &[Option<arrow::datatypes::FieldRef>],
) -> Result<Bound> {
    let mut query = crate::parse::query("SELECT 1 FROM x AS y")?;
    let ast::SetExpr::Select(select) = query.body.as_mut() else {
        return Err(Error::internal("a template is no SELECT"));
    };
    select.projection = wanted.items.clone();
    if let Some(ast::TableFactor::Table { name, alias: Some(alias), .. }) =
        select.from.first_mut().map(|from| &mut from.relation)
    {
        *name = internal(WRITTEN);
        alias.name = wanted.shown.clone();
    }
    let statement = ast::Statement::Query(Box::new(query));
    let bound = bind::bind(scope, &statement, parameters, vec![(WRITTEN.to_owned(), rows)]).await?;
    let plan = match &bound.plan {
        LogicalPlan::Projection(projection) => projection.input.as_ref(),
        other => other,
    };
    match plan {
        LogicalPlan::Aggregate(_) => {
            Err(Error::new(Kind::GroupingError, "aggregate functions are not allowed in RETURNING"))
        }
        LogicalPlan::Window(_) => {
            Err(Error::new(Kind::GroupingError, "window functions are not allowed in RETURNING"))
        }
        _ => Ok(bound),
    }
}

/// A table without rows, to bind by.
pub(super) fn no_rows(schema: SchemaRef) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(EmptyTable::new(schema)))
}

/// The table's columns of the rows recorded as one of `kinds`.
fn changed(staged: &Staged, kinds: &[&str]) -> Result<Arc<dyn TableProvider>> {
    let rows = staged.change_rows();
    let columns: Vec<Expr> = (rows.schema().fields().iter())
        .filter(|field| field.name() != CHANGE_TYPE)
        .map(|field| ident(field.name()))
        .collect();
    let kinds = kinds.iter().map(|kind| lit(*kind)).collect();
    let plan = LogicalPlanBuilder::scan("changed", provider_as_source(rows), None)
        .and_then(|it| it.filter(ident(CHANGE_TYPE).in_list(kinds, false)))
        .and_then(|it| it.project(columns))
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_engine)?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}
