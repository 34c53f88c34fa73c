//! A query that stands for a table, and lets little of the statement around it in.
//!
//! What it guarantees: a predicate gets in only if it is leak-proof; then it is evaluated there, and
//! nowhere else. The query is planned by itself, behind the barrier, so the engine's rules see no
//! more of it than its columns.
//! What it does not: it says how large it is only where nobody looks at the plan.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as PlanResult;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableSource, TableType,
};
use datafusion::physical_plan::ExecutionPlan;
use kho_catalog::error::Result;
use kho_catalog::state::Oid;
use kho_catalog::table::TableSize;

use super::barrier::{Barrier, Shown};
use super::{infallible, leak_proof};
use crate::authorize::only_reads;
use crate::share;

/// What a [`guarded`] table is called and is, and what may be told of it.
pub(super) struct Known<'a> {
    pub name: &'a str,
    /// The table whose rows it gives; `None` for a view.
    pub relation: Option<Oid>,
    /// How large the table is, where that may help to order joins.
    pub size: Option<Arc<TableSize>>,
    /// Whether anything of the kind may be told.
    pub estimates: bool,
    /// Whether the query is the same at another time.
    pub lasts: bool,
}

/// `plan`, whose columns have the fields of `schema`, as a table.
pub(super) fn guarded(
    known: Known<'_>,
    plan: LogicalPlan,
    schema: SchemaRef,
) -> Result<Arc<dyn TableProvider>> {
    only_reads(&plan)?;
    // A predicate that is let in may be evaluated before the query's own: where those can fail, it
    // must not decide on which rows they do.
    let lets_in = infallible::require(&plan).is_ok();
    let Known { name, relation, size, estimates, lasts } = known;
    let size = size.filter(|_| estimates);
    Ok(Arc::new(GuardedTable {
        name: name.to_owned(),
        relation,
        schema,
        plan,
        size,
        lets_in,
        estimates,
        lasts,
        shapes: AtomicBool::new(true),
        lets_in_dynamic: AtomicBool::new(lets_in && estimates),
    }))
}

/// Whose rows `source` gives, if it is one of these and no view.
pub(super) fn relation_of(source: &Arc<dyn TableSource>) -> Option<Oid> {
    let provider = source_as_provider(source).ok()?;
    let table: &dyn Any = provider.as_ref();
    table.downcast_ref::<GuardedTable>()?.relation
}

/// The query of the view that `source` is.
pub(super) fn view_of(source: &Arc<dyn TableSource>) -> Option<LogicalPlan> {
    let provider = source_as_provider(source).ok()?;
    let table: &dyn Any = provider.as_ref();
    let table = table.downcast_ref::<GuardedTable>().filter(|it| it.relation.is_none())?;
    Some(table.plan.clone())
}

/// How large the table is that stands behind `source`, if it is one of these and says so.
pub(super) fn size_of(source: &Arc<dyn TableSource>) -> Option<Arc<TableSize>> {
    let provider = source_as_provider(source).ok()?;
    let table: &dyn Any = provider.as_ref();
    let table = table.downcast_ref::<GuardedTable>().filter(|it| it.shapes())?;
    table.size.clone()
}

/// What to do with each guarded table that `plan` reads, those behind others included.
pub(super) fn each(plan: &LogicalPlan, visit: &mut dyn FnMut(&GuardedTable)) -> PlanResult<()> {
    let seen = plan.apply_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = node else { return Ok(TreeNodeRecursion::Continue) };
        let provider = source_as_provider(&scan.source)?;
        let table: &dyn Any = provider.as_ref();
        if let Some(table) = table.downcast_ref::<GuardedTable>() {
            visit(table);
            each(&table.plan, visit)?;
        }
        Ok(TreeNodeRecursion::Continue)
    });
    seen.map(drop)
}

#[derive(Debug)]
pub(super) struct GuardedTable {
    name: String,
    relation: Option<Oid>,
    schema: SchemaRef,
    plan: LogicalPlan,
    size: Option<Arc<TableSize>>,
    lets_in: bool,
    estimates: bool,
    lasts: bool,
    /// Whether how large it is may decide how the statement is run.
    shapes: AtomicBool,
    /// Whether what joins and sorts find while they run may get in.
    lets_in_dynamic: AtomicBool,
}

impl GuardedTable {
    /// Whether a row can make its query fail.
    pub(super) fn can_fail(&self) -> bool {
        !self.lets_in
    }

    /// From now on it tells nobody how large it is.
    pub(super) fn hide_size(&self) {
        self.shapes.store(false, Ordering::Relaxed);
    }

    /// From now on nothing gets in while the statement runs.
    pub(super) fn shut(&self) {
        self.lets_in_dynamic.store(false, Ordering::Relaxed);
    }

    fn shapes(&self) -> bool {
        self.shapes.load(Ordering::Relaxed)
    }

    /// Whether how large its rows are may decide how the statement is run.
    pub(super) fn tells_size(&self) -> bool {
        self.estimates && self.shapes()
    }

    /// Whether it stands for the same rows at another time.
    pub(super) fn lasts(&self) -> bool {
        self.lasts
    }

    /// The query behind the barrier.
    pub(super) fn plan(&self) -> &LogicalPlan {
        &self.plan
    }
}

#[async_trait::async_trait]
impl TableProvider for GuardedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        let is_let_in = |it: &Expr| self.lets_in && leak_proof::is_leak_proof(it, &self.schema);
        let answer = |filter: &&Expr| match is_let_in(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(answer).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let mut plan = LogicalPlanBuilder::from(self.plan.clone());
        // Here the columns are the query's own, whatever the statement calls the table.
        let filters: Vec<Expr> = filters
            .iter()
            .map(|filter| leak_proof::unqualified(filter, plan.schema()))
            .collect::<PlanResult<_>>()?;
        if let Some(filter) = conjunction(filters.clone()) {
            plan = plan.filter(filter)?;
        }
        let mut schema = Arc::clone(&self.schema);
        if let Some(projection) = projection {
            let columns = plan.schema().columns();
            let wanted = projection.iter().filter_map(|place| columns.get(*place).cloned());
            plan = plan.project(wanted.map(Expr::Column).collect::<Vec<_>>())?;
            schema = Arc::new(self.schema.project(projection)?);
        }
        if limit.is_some() {
            plan = plan.limit(0, limit)?;
        }
        let inner = share::planned(&plan.build()?, session).await?;
        let shown = Shown {
            table: self.name.clone(),
            filters: filters.iter().map(ToString::to_string).collect(),
            schema,
            partitions: session.config().target_partitions(),
            estimates: self.tells_size(),
            // Where a plan is shown, so is how many rows pass.
            lets_in_dynamic: self.lets_in_dynamic.load(Ordering::Relaxed),
        };
        Ok(Arc::new(Barrier::new(shown, inner)?))
    }
}
