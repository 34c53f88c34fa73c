//! The inputs of a join that compares every row with every other, in pieces.
//!
//! # Why
//! The engine's nested loop compares all of its left rows with one batch of right rows before it gives way,
//! however long that takes: `ON a.x * b.x = -1` over two times 300,000 rows held its thread for hours, and
//! with it a server of two threads; no cancellation, no timeout reached it.
//! What it guarantees: the left rows are counted as they go in, and a right batch goes in by pieces of at
//! most [`PAIRS`] comparisons, but of one row at least; after each piece the join gives way.
//! What it does not: batches of the size that they have go in whole where few rows stand on the left.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt, stream};

/// How many pairs of rows are compared before others have their turn: some ten milliseconds.
const PAIRS: usize = 1 << 20;

/// A join of two inputs, the left of which it gathers, with both paced.
pub(super) fn paced(join: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let gathered = Arc::new(AtomicUsize::new(0));
    let sides = [Side::Gathered, Side::Streamed].into_iter();
    let inputs = join.children().into_iter().zip(sides).map(|(input, side)| {
        let (input, gathered) = (Arc::clone(input), Arc::clone(&gathered));
        Arc::new(PacedExec { input, side, gathered }) as Arc<dyn ExecutionPlan>
    });
    let inputs = inputs.collect();
    // A projection of the join would be lost with properties made anew, which are the same.
    let keep = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
    Arc::clone(&join).replace_children(inputs, keep)
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Gathered,
    Streamed,
}

/// One input of such a join.
#[derive(Debug)]
struct PacedExec {
    input: Arc<dyn ExecutionPlan>,
    side: Side,
    /// How many rows the left side has given, to all that run this plan.
    gathered: Arc<AtomicUsize>,
}

impl DisplayAs for PacedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PacedExec")
    }
}

impl ExecutionPlan for PacedExec {
    fn name(&self) -> &str {
        "PacedExec"
    }

    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (side, gathered) = (self.side, Arc::clone(&self.gathered));
        match children.pop() {
            Some(input) if children.is_empty() => Ok(Arc::new(PacedExec { input, side, gathered })),
            _ => internal_err!("PacedExec has one input"),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let gathered = Arc::clone(&self.gathered);
        match self.side {
            Side::Gathered => {
                let counted = rows.inspect_ok(move |batch| {
                    gathered.fetch_add(batch.num_rows(), Ordering::Relaxed);
                });
                Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), counted)))
            }
            Side::Streamed => {
                let pieces = rows
                    .map_ok(move |batch| {
                        // The join has gathered its left side before it asks for a right row.
                        stream::iter(pieces(batch, gathered.load(Ordering::Relaxed))).then(given)
                    })
                    .try_flatten();
                Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), pieces)))
            }
        }
    }
}

/// One piece, once others had their turn.
async fn given((piece, is_first): (RecordBatch, bool)) -> Result<RecordBatch> {
    if !is_first {
        tokio::task::yield_now().await;
    }
    Ok(piece)
}

/// `batch` by pieces that are compared with `gathered` rows in one go, and whether it is the first of them.
fn pieces(batch: RecordBatch, gathered: usize) -> impl Iterator<Item = (RecordBatch, bool)> {
    let rows = (PAIRS / gathered.max(1)).max(1);
    let all = batch.num_rows();
    (0..all).step_by(rows).map(move |from| (batch.slice(from, rows.min(all - from)), from == 0))
}
