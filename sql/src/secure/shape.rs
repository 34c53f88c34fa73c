//! When the sizes of guarded tables may decide how a statement is run, and when what joins and sorts
//! find while they run may be used behind a barrier.
//!
//! # Why
//! Sizes count rows that the session may not see, and the order and sides of joins follow them; what
//! a top-k or a least value knows at some moment follows the batches, in which hidden rows are gaps.
//! Where an expression that can fail is computed before, either may spare it rows: so whether a
//! visible row makes the statement fail would hang on hidden ones.
//! What it guarantees: a statement with such an expression anywhere but in what is made of all the
//! rows of its joins is planned as if nobody knew these sizes, and takes nothing in while it runs.
//! What it does not: the time a statement takes follows them, and so does the order of rows that nobody
//! asked an order for: which of them `LIMIT` without `ORDER BY` gives, too.

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Aggregate, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};

use super::{guarded, infallible};

/// Hides the sizes of the guarded tables in `plan` where they must not matter, and shuts those that
/// must take nothing in.
pub(super) fn settle(session: &SessionState, plan: &LogicalPlan) -> datafusion::common::Result<()> {
    let (mut any, mut inner_fails) = (false, false);
    guarded::each(plan, &mut |table| {
        any = true;
        inner_fails |= table.can_fail();
    })?;
    if !any || (!inner_fails && is_simple(plan, false)) {
        return Ok(());
    }
    let (sizes_matter, runs_matter) = match infallible::folded(session, plan.clone()) {
        Ok(plan) if !inner_fails => {
            (fails_early(&plan, false, false), fails_early(&plan, false, true))
        }
        // What fails, or is not understood here, may fail on a row.
        _ => (true, true),
    };
    guarded::each(plan, &mut |table| {
        if sizes_matter {
            table.hide_size();
        }
        if runs_matter {
            table.shut();
        }
    })
}

/// Whether an expression that can fail may be computed on rows that a join, a filter or a limit
/// `above` could have spared it; or, `while_it_runs`, what is known after some of the rows.
fn fails_early(plan: &LogicalPlan, above: bool, while_it_runs: bool) -> bool {
    let mut schema = DFSchema::empty();
    plan.inputs().iter().for_each(|input| schema.merge(input.schema()));
    // These get nothing but what all joins leave, and all of it.
    let gathers = match plan {
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => true,
        LogicalPlan::Aggregate(it) => !while_it_runs || !gives_extremes(it),
        LogicalPlan::Sort(it) => !while_it_runs || it.fetch.is_none(),
        LogicalPlan::Limit(it) => !while_it_runs && is_sorted(&it.input),
        LogicalPlan::TableScan(_) => return false,
        _ => false,
    };
    let above = above || !gathers;
    let mut own = above && plan.expressions().iter().any(|it| !infallible::holds(it, &schema));
    let walked = plan.apply_subqueries(|subquery| {
        own |= fails_early(subquery, true, while_it_runs);
        Ok(TreeNodeRecursion::Jump)
    });
    own |= walked.is_err();
    own || plan.inputs().iter().any(|input| fails_early(input, above, while_it_runs))
}

/// Whether nothing in the plan joins, stops or gathers, and no comparison in it can fail: then neither
/// matters, and nothing need be computed to tell. `above` it something is compared.
fn is_simple(plan: &LogicalPlan, above: bool) -> bool {
    match plan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::SubqueryAlias(it) => is_simple(&it.input, above),
        LogicalPlan::Filter(it) => {
            compares(&it.predicate, it.input.schema()) && is_simple(&it.input, true)
        }
        LogicalPlan::Projection(it) => {
            let passes = |expr: &Expr| match above {
                true => matches!(expr, Expr::Column(_)),
                false => !contains_subquery(expr),
            };
            it.expr.iter().all(passes) && is_simple(&it.input, above)
        }
        _ => false,
    }
}

fn contains_subquery(expr: &Expr) -> bool {
    let is_one = |part: &Expr| {
        let known = matches!(
            part,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
        );
        Ok(known)
    };
    expr.exists(is_one).unwrap_or(true)
}

/// Whether columns are compared with values of their own types, and no more.
fn compares(expr: &Expr, schema: &DFSchema) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return false };
    if *op == Operator::And {
        return compares(left, schema) && compares(right, schema);
    }
    let is_plain = |side: &Expr| matches!(side, Expr::Column(_) | Expr::Literal(..));
    let same = || match (left.get_type(schema), right.get_type(schema)) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    };
    infallible::is_total(*op) && is_plain(left) && is_plain(right) && same()
}

/// Whether it gives least or greatest values alone, or none: then some rows can be known to be of no
/// use.
fn gives_extremes(aggregate: &Aggregate) -> bool {
    aggregate.aggr_expr.iter().all(|expr| match expr.clone().unalias() {
        Expr::AggregateFunction(it) => matches!(it.func.name(), "min" | "max"),
        _ => true,
    })
}

/// Whether all rows are there before the first is given.
fn is_sorted(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(it) => is_sorted(&it.input),
        LogicalPlan::SubqueryAlias(it) => is_sorted(&it.input),
        _ => false,
    }
}
