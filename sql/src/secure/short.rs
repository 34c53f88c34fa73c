//! Which plans are so short that they are planned at once, and by one thread.
//!
//! # Why
//! Planning is done on a thread of its own, because it can take seconds. To wake one takes longer than
//! to plan the look-up of a row.
//! What it guarantees: what is short is one table of a few files, with a few conditions, through any of
//! its policies and masks.
//! What it does not: how many rows it is that are looked for is a guess for plans, not for answers.

use std::any::Any;
use std::collections::HashMap;

use datafusion::common::Result as PlanResult;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use kho_catalog::table::valued;

use super::guarded::GuardedTable;
use super::plain::PlainTable;

const NODES: usize = 16;
const EXPRESSIONS: usize = 256;
const FILES: usize = 64;

/// How long it takes to plan and to run something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Length {
    /// No more than a few rows are looked for, by their key.
    pub is_of_few_rows: bool,
    /// It is planned in no time.
    pub is_short: bool,
}

/// So few rows that there is nothing to share among threads.
const FEW_ROWS: usize = 4;

pub(super) fn length(plan: &LogicalPlan) -> Length {
    let mut left = Left { nodes: NODES, expressions: EXPRESSIONS, ..Left::default() };
    match left.takes(plan) {
        Ok(true) => Length { is_of_few_rows: left.is_few, is_short: !left.computes },
        _ => Length::default(),
    }
}

/// What a plan may still have, and what its conditions have asked for so far.
#[derive(Default)]
struct Left {
    nodes: usize,
    expressions: usize,
    values: HashMap<String, usize>,
    /// Whether what follows stands for a table, whose columns it calls by names of its own.
    is_within: bool,
    is_few: bool,
    /// Whether anything in it can take long by itself: what depends on no row is computed by planning.
    computes: bool,
}

impl Left {
    fn takes(&mut self, plan: &LogicalPlan) -> PlanResult<bool> {
        let Some(nodes) = self.nodes.checked_sub(1) else { return Ok(false) };
        self.nodes = nodes;
        plan.apply_expressions(|expr| {
            expr.apply(|part| {
                self.computes |= !is_cheap(part);
                self.expressions = self.expressions.saturating_sub(1);
                Ok(match self.expressions {
                    0 => TreeNodeRecursion::Stop,
                    _ => TreeNodeRecursion::Continue,
                })
            })
        })?;
        let mut has_subquery = false;
        plan.apply_subqueries(|_| {
            has_subquery = true;
            Ok(TreeNodeRecursion::Stop)
        })?;
        if self.expressions == 0 || has_subquery {
            return Ok(false);
        }
        match plan {
            LogicalPlan::TableScan(scan) => self.takes_table(scan),
            LogicalPlan::Projection(it) => {
                let passes = |name: &String| it.expr.iter().any(|expr| passes_on(expr, name));
                self.values.retain(|name, _| self.is_within || passes(name));
                self.takes(&it.input)
            }
            LogicalPlan::Filter(it) => {
                let asked = split_conjunction(&it.predicate).into_iter().filter_map(valued);
                self.values.extend(asked.map(|(column, count)| (column.to_owned(), count)));
                self.takes(&it.input)
            }
            LogicalPlan::SubqueryAlias(it) => self.takes(&it.input),
            LogicalPlan::Sort(it) => self.takes(&it.input),
            LogicalPlan::Limit(it) => self.takes(&it.input),
            _ => Ok(false),
        }
    }

    fn takes_table(&mut self, scan: &TableScan) -> PlanResult<bool> {
        let provider = source_as_provider(&scan.source)?;
        let table: &dyn Any = provider.as_ref();
        if let Some(table) = table.downcast_ref::<PlainTable>() {
            let values = self.values.iter().map(|(column, count)| (column.as_str(), *count));
            self.is_few = table.most_rows(&values.collect()).is_some_and(|rows| rows <= FEW_ROWS);
            return Ok(table.files().is_some_and(|files| files <= FILES));
        }
        match table.downcast_ref::<GuardedTable>() {
            Some(table) => {
                self.is_within = true;
                self.takes(table.plan())
            }
            None => Ok(false),
        }
    }
}

/// Whether it compares, combines or converts what it is made of, and calls nothing.
fn is_cheap(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Alias(_)
            | Expr::Between(_)
            | Expr::BinaryExpr(_)
            | Expr::Cast(_)
            | Expr::Column(_)
            | Expr::InList(_)
            | Expr::IsNotNull(_)
            | Expr::IsNull(_)
            | Expr::Literal(..)
            | Expr::Negative(_)
            | Expr::Not(_)
    )
}

/// Whether an expression gives the column `name` as it is.
fn passes_on(expr: &Expr, name: &str) -> bool {
    match expr {
        Expr::Column(column) => column.name == name,
        Expr::Alias(alias) => alias.name == name && passes_on(&alias.expr, name),
        _ => false,
    }
}
