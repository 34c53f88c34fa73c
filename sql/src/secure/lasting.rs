//! Whether a plan is the same at any later time, for the same catalog, session and settings.
//!
//! # Why
//! What depends on no row is computed when a policy is bound: `valid_until > now()` has become a
//! comparison with the time of that statement. The plan of such a table must not be used again.
//! What it guarantees: what lasts is made of tables at one version, of the policies and masks that
//! hold for them, and of functions that know the row alone, or what a plan is kept by.
//! What it does not: what is not understood here does not last, though it might.

use std::any::Any;
use std::sync::Arc;

use datafusion::common::Result as PlanResult;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF, TableSource, Volatility};

use super::guarded::GuardedTable;
use super::plain::PlainTable;

/// Functions that are computed early and ask for nothing but the catalog, the session's role and its
/// settings.
const OF_SESSION: &[&str] = &[
    "current_role",
    "current_user",
    "kho.purpose",
    "kho.role_attribute",
    "pg_has_role",
    "session_user",
    "user",
];

/// Whether a bound plan lasts, of which nothing was computed but within its guarded tables.
/// `of_session` says of a function by its name that it was made for the statement that was bound.
pub(super) fn of_statement(plan: &LogicalPlan, of_session: &dyn Fn(&str) -> bool) -> bool {
    lasts(plan, &|function| !of_session(function.name())).unwrap_or(false)
}

/// Whether a policied query lasts, before what depends on no row is computed.
pub(super) fn of_policies(plan: &LogicalPlan) -> bool {
    let of_row = |function: &ScalarUDF| function.signature().volatility == Volatility::Immutable;
    lasts(plan, &|it| of_row(it) || OF_SESSION.contains(&it.name())).unwrap_or(false)
}

fn lasts(plan: &LogicalPlan, is_known: &dyn Fn(&ScalarUDF) -> bool) -> PlanResult<bool> {
    let mut all = true;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            all &= table_lasts(&scan.source, is_known)?;
        }
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::ScalarFunction(it) = part {
                    all &= is_known(&it.func);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(if all { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(all)
}

fn table_lasts(
    source: &Arc<dyn TableSource>,
    is_known: &dyn Fn(&ScalarUDF) -> bool,
) -> PlanResult<bool> {
    let provider = source_as_provider(source)?;
    let table: &dyn Any = provider.as_ref();
    if let Some(table) = table.downcast_ref::<PlainTable>() {
        return Ok(table.is_of_snapshot());
    }
    match table.downcast_ref::<GuardedTable>() {
        Some(table) => Ok(table.lasts() && lasts(table.plan(), is_known)?),
        None => Ok(false),
    }
}
