//! What joins and top-k come to know while they run, let in behind a barrier.
//!
//! What it guarantees: only a predicate that the engine itself makes of the values it holds gets in,
//! over columns as they are shown; it compares and looks up, and cannot fail. What is behind may use
//! it to read less, which depends on rows that are not shown; so the barrier applies it to every row
//! besides, and what comes out depends on rows that are shown alone.
//! What it does not: it promises nothing to the join or the sort, which check their rows themselves.

use std::fmt;
use std::sync::Arc;

use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr};
use datafusion::physical_expr::utils::reassign_expr_columns;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, FilterDescription, FilterPushdownPhase,
};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use crate::pushdown::ByPlace;

/// Whether `filter` is one that a running join or sort makes, over columns and nothing else.
pub(crate) fn may_enter(filter: &Arc<dyn PhysicalExpr>) -> bool {
    let filter: &dyn PhysicalExpr = filter.as_ref();
    filter.downcast_ref::<DynamicFilterPhysicalExpr>().is_some()
        && filter.children().iter().all(|part| part.downcast_ref::<Column>().is_some())
}

/// `inner`, whose scans know `filters`, which are over its columns by their names.
pub(super) fn let_in(
    inner: &Arc<dyn ExecutionPlan>,
    filters: &[Arc<dyn PhysicalExpr>],
    config: &ConfigOptions,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = inner.schema();
    let filters = filters
        .iter()
        .map(|filter| reassign_expr_columns(Arc::clone(filter), &schema))
        .collect::<Result<_>>()?;
    let carrier = Arc::new(Carrier { inner: Arc::clone(inner), filters });
    let carrier = ByPlace::of_running().optimize(carrier, config)?;
    match carrier.children().as_slice() {
        [inner] => Ok(Arc::clone(inner)),
        _ => internal_err!("the carrier of a predicate lost what it carries it to"),
    }
}

/// The rows of `batch` that satisfy what each of `filters` knows now.
pub(crate) fn kept(
    filters: &[Arc<dyn PhysicalExpr>],
    mut batch: RecordBatch,
) -> Result<RecordBatch> {
    for filter in filters {
        let kept = filter.evaluate(&batch)?.into_array(batch.num_rows())?;
        let kept = as_boolean_array(&kept)?;
        if kept.true_count() < batch.num_rows() {
            batch = filter_record_batch(&batch, kept)?;
        }
    }
    Ok(batch)
}

/// Shows each of `filters` to `apply`, until it has seen enough.
pub(crate) fn apply(
    filters: &[Arc<dyn PhysicalExpr>],
    apply: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
) -> Result<TreeNodeRecursion> {
    for filter in filters {
        if apply(filter)? == TreeNodeRecursion::Stop {
            return Ok(TreeNodeRecursion::Stop);
        }
    }
    Ok(TreeNodeRecursion::Continue)
}

/// Stands on a plan while predicates are pushed into it, and says they are its own. Never run.
#[derive(Debug)]
struct Carrier {
    inner: Arc<dyn ExecutionPlan>,
    filters: Vec<Arc<dyn PhysicalExpr>>,
}

impl DisplayAs for Carrier {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carrier")
    }
}

impl ExecutionPlan for Carrier {
    fn name(&self) -> &str {
        "Carrier"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.inner.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(inner), true) => Ok(Arc::new(Carrier { inner, filters: self.filters.clone() })),
            _ => internal_err!("the carrier of a predicate has one input"),
        }
    }

    fn apply_expressions(
        &self,
        apply: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self::apply(&self.filters, apply)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        internal_err!("the carrier of a predicate is not run")
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        parents: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let child = ChildFilterDescription::all_unsupported(&parents)
            .with_self_filters(self.filters.clone());
        Ok(FilterDescription::new().with_child(child))
    }
}
