//! From which columns of which datasets a column of a plan comes.
//!
//! What it guarantees: every column that a value is computed from is named, through projections,
//! joins, aggregates, windows, set operations and subqueries, behind barriers, too. Where a node's
//! columns cannot be told apart, all of its inputs' are named.
//! What it does not: a condition that a row was kept by is no source of its values.

use std::any::Any;
use std::collections::BTreeSet;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, LogicalPlan};
use kho_catalog::state::Oid;

use super::guarded::GuardedTable;
use super::plain::PlainTable;

/// A column of a dataset, by its place among the fields of the table as it was read, with its name.
pub(crate) type Origin = (Oid, String);

/// Where a column comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lineage {
    pub origins: BTreeSet<Origin>,
    /// Whether it is the one origin's value as it is.
    pub is_copy: bool,
}

/// The lineage of each column of `plan`.
pub(crate) fn lineage(plan: &LogicalPlan) -> Vec<Lineage> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let all = of_source(scan);
            match &scan.projection {
                Some(places) => places.iter().filter_map(|it| all.get(*it).cloned()).collect(),
                None => all,
            }
        }
        LogicalPlan::Projection(it) => {
            it.expr.iter().map(|expr| of_expr(expr, &it.input)).collect()
        }
        LogicalPlan::Filter(it) => lineage(&it.input),
        LogicalPlan::Sort(it) => lineage(&it.input),
        LogicalPlan::Limit(it) => lineage(&it.input),
        LogicalPlan::Repartition(it) => lineage(&it.input),
        LogicalPlan::SubqueryAlias(it) => lineage(&it.input),
        LogicalPlan::Distinct(datafusion::logical_expr::Distinct::All(input)) => lineage(input),
        LogicalPlan::Aggregate(it) => {
            let exprs = it.group_expr.iter().chain(&it.aggr_expr);
            let found: Vec<Lineage> = exprs.map(|expr| of_expr(expr, &it.input)).collect();
            same_width(found, plan)
        }
        LogicalPlan::Window(it) => {
            let mut all = lineage(&it.input);
            all.extend(it.window_expr.iter().map(|expr| of_expr(expr, &it.input)));
            same_width(all, plan)
        }
        LogicalPlan::Join(it) => {
            let mut all = lineage(&it.left);
            all.extend(lineage(&it.right));
            same_width(all, plan)
        }
        LogicalPlan::Union(it) => {
            let mut all: Vec<Lineage> = Vec::new();
            for input in &it.inputs {
                for (place, more) in lineage(input).into_iter().enumerate() {
                    match all.get_mut(place) {
                        Some(known) => known.origins.extend(more.origins),
                        None => all.push(more),
                    }
                }
            }
            // Values of several columns, one under the other.
            all.iter_mut().for_each(|it| it.is_copy &= it.origins.len() == 1);
            all
        }
        other => same_width(Vec::new(), other),
    }
}

/// `found` if it has one for each column of `plan`; else every column comes from everything.
fn same_width(found: Vec<Lineage>, plan: &LogicalPlan) -> Vec<Lineage> {
    let width = plan.schema().fields().len();
    if found.len() == width {
        return found;
    }
    let mut all = Lineage::default();
    for input in plan.inputs() {
        for part in lineage(input) {
            all.origins.extend(part.origins);
        }
    }
    vec![all; width]
}

fn of_expr(expr: &Expr, input: &LogicalPlan) -> Lineage {
    let inputs = lineage(input);
    let of_column = |column: &datafusion::common::Column| {
        let place = input.schema().maybe_index_of_column(column);
        place.and_then(|place| inputs.get(place)).cloned()
    };
    let mut bare = expr;
    while let Expr::Alias(alias) = bare {
        bare = &alias.expr;
    }
    if let Expr::Column(column) = bare {
        return of_column(column).unwrap_or_default();
    }
    let mut found = Lineage::default();
    let _ = expr.apply(|part| {
        match part {
            Expr::Column(column) => {
                found.origins.extend(of_column(column).unwrap_or_default().origins);
            }
            Expr::ScalarSubquery(it) => {
                for column in lineage(&it.subquery) {
                    found.origins.extend(column.origins);
                }
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

fn of_source(scan: &datafusion::logical_expr::TableScan) -> Vec<Lineage> {
    let none = || vec![Lineage::default(); scan.source.schema().fields().len()];
    let Ok(provider) = source_as_provider(&scan.source) else { return none() };
    let table: &dyn Any = provider.as_ref();
    if let Some(plain) = table.downcast_ref::<PlainTable>() {
        let fields = scan.source.schema();
        let copy = |name: &String| Lineage {
            origins: BTreeSet::from([(plain.relation(), name.clone())]),
            is_copy: true,
        };
        return fields.fields().iter().map(|field| copy(field.name())).collect();
    }
    if let Some(guarded) = table.downcast_ref::<GuardedTable>() {
        return lineage(guarded.plan());
    }
    match provider.get_logical_plan() {
        Some(plan) => lineage(&plan),
        None => none(),
    }
}
