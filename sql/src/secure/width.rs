//! How large the rows are that a plan reads, for the size of its batches.
//!
//! # Why
//! A batch of eight thousand rows that have a document each is a hundred megabytes, of which a scan and
//! what stands on it hold several, for a client that may have stopped to read.
//! What it does not: a table that must not shape the plan by its hidden rows is not asked.

use std::any::Any;
use std::sync::Arc;

use datafusion::common::Result as PlanResult;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use kho_catalog::table::Snapshot;

use super::guarded::GuardedTable;
use super::plain::PlainTable;

/// A table that is scanned, and which of its columns.
pub(super) type Scanned = (Snapshot, Option<Vec<usize>>);

/// The tables that `plan`, which was optimized, reads.
pub(super) fn scanned(plan: &LogicalPlan) -> PlanResult<Vec<Scanned>> {
    let mut found = Vec::new();
    collect(plan, &mut found)?;
    Ok(found)
}

/// About how many bytes the largest of their rows takes.
pub(super) async fn widest(tables: Vec<Scanned>, runtime: Arc<RuntimeEnv>) -> usize {
    let mut widest = 0;
    for (table, columns) in tables {
        widest = table.row_bytes(Arc::clone(&runtime), columns).await.max(widest);
    }
    widest
}

fn collect(plan: &LogicalPlan, found: &mut Vec<Scanned>) -> PlanResult<()> {
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            note(scan, found)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map(drop)
}

fn note(scan: &TableScan, found: &mut Vec<Scanned>) -> PlanResult<()> {
    let provider = source_as_provider(&scan.source)?;
    let table: &dyn Any = provider.as_ref();
    if let Some(table) = table.downcast_ref::<PlainTable>() {
        found.extend(table.snapshot().map(|it| (it.clone(), scan.projection.clone())));
    } else if let Some(table) = table.downcast_ref::<GuardedTable>()
        && table.tells_size()
    {
        collect(table.plan(), found)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
