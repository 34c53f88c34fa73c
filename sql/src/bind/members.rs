//! Whether a value is among the rows of a subquery: `IN`, `= ANY`, `>= ALL` and their negations.
//!
//! # Why
//! The engine makes joins of such conditions, and only one kind of them knows of NULL: `NOT IN` of a
//! column, as a whole condition, over a subquery that asks nothing of the outer row. Everywhere else
//! it takes what is unknown for false, and the `NOT` of that for true: a row would be seen, or be
//! removed, of which nobody knows whether it may. The subquery of `= ANY` keeps its names beside
//! those of the outer query, which are then taken for one another.
//! What it guarantees: a plan that leaves here says in terms of `EXISTS` what is true, what is false
//! and what is unknown, but for those conditions that the engine joins rightly, which are fast. What
//! it would join wrongly is refused (`0A000`). As one of the things that a query gives, or sorts or
//! counts by, the same is asked by counting, since there the engine joins nothing else.
//! What it does not: rows are not compared with rows.

mod condition;
mod correlated;
mod join;
mod set;

pub(super) use correlated::gives_one_row;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Expr, Filter, LogicalPlan, LogicalPlanBuilder, Projection, Subquery,
};

use condition::{Place, Unknown, Within};

/// The plan with PostgreSQL's answers. The types of its columns must be those that they will have.
pub(super) fn as_postgres(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut asks = false;
    plan.apply_with_subqueries(|node| {
        asks = asks || node_asks(node)?;
        Ok(if asks { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if !asks {
        return Ok(plan);
    }
    let plan = plan.transform_up_with_subqueries(|node| {
        let node = match node_asks(&node)? {
            true => {
                correlated::require_nearest(&node)?;
                answered(node)?
            }
            false => node,
        };
        match node {
            LogicalPlan::TableScan(_) => Ok(Transformed::no(node)),
            // Whether a column can be NULL may be known better below.
            node => node.recompute_schema().map(Transformed::yes),
        }
    })?;
    Ok(plan.data)
}

/// The subquery that `expr` is about, not looking into it.
fn subquery(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::InSubquery(it) => Some(&it.subquery),
        Expr::SetComparison(it) => Some(&it.subquery),
        Expr::Exists(it) => Some(&it.subquery),
        Expr::ScalarSubquery(it) => Some(it),
        _ => None,
    }
}

/// Whether `expr` asks something of a subquery.
fn asks(expr: &Expr) -> Result<bool> {
    expr.exists(|part| Ok(subquery(part).is_some()))
}

/// Whether it is such a question, for which the engine looks in some nodes alone.
fn is_question(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarSubquery(it) => correlated::is(&it.subquery),
        other => subquery(other).is_some(),
    }
}

fn node_asks(node: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    node.apply_expressions(|expr| {
        found = found || asks(expr)?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn answered(node: LogicalPlan) -> Result<LogicalPlan> {
    match node {
        LogicalPlan::Filter(Filter { predicate, input, .. }) => {
            let within = Within { schema: input.schema(), place: Place::Condition };
            let predicate = within.predicate(predicate)?;
            Filter::try_new(predicate, input).map(LogicalPlan::Filter)
        }
        LogicalPlan::Join(join) => join::answered_join(join),
        LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) | LogicalPlan::Sort(_) => beneath(node),
        other => with_values(other),
    }
}

/// Every expression of the node as one of which the value is wanted.
fn with_values(node: LogicalPlan) -> Result<LogicalPlan> {
    let schema = merge_schema(&node.inputs());
    let within = Within { schema: &schema, place: Place::Value };
    let names = NamePreserver::new(&node);
    let node = node.map_expressions(|expr| {
        if !asks(&expr)? {
            return Ok(Transformed::no(expr));
        }
        let name = names.save(&expr);
        let expr = within.value(expr, Unknown::Null)?;
        Ok(Transformed::yes(name.restore(expr)))
    })?;
    Ok(node.data)
}

/// What the node asks of subqueries, asked beneath it: the engine does not look for that in nodes of
/// its kind.
fn beneath(node: LogicalPlan) -> Result<LogicalPlan> {
    let Some(input) = node.inputs().first().map(|it| LogicalPlan::clone(it)) else {
        return Ok(node);
    };
    let given = node.schema().columns();
    let mut asked = Asked::default();
    let names = NamePreserver::new(&node);
    let mut exprs = Vec::new();
    for expr in node.expressions() {
        let name = names.save(&expr);
        let expr = expr.transform_down(|part| match is_question(&part) {
            true => {
                let column = asked.column("below", part);
                Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
            }
            false => Ok(Transformed::no(part)),
        })?;
        exprs.push(name.restore(expr.data));
    }
    if asked.is_empty() {
        return with_values(node);
    }
    let below = Projection::try_new(asked.beside(input.schema()), Arc::new(input))?;
    let below = answered(LogicalPlan::Projection(below))?;
    let node = with_values(node.with_new_exprs(exprs, vec![below])?)?;
    match node.schema().fields().len() == given.len() {
        true => Ok(node),
        false => {
            let given = given.into_iter().map(Expr::Column);
            LogicalPlanBuilder::from(node).project(given)?.build()
        }
    }
}

/// Questions whose answers are columns of what is beneath.
#[derive(Default)]
struct Asked {
    questions: Vec<(Expr, String)>,
}

impl Asked {
    fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// The column with the answer; no user can write its name.
    fn column(&mut self, of: &str, question: Expr) -> Expr {
        let known = self.questions.iter().find(|(known, _)| *known == question);
        let name = match known {
            Some((_, name)) => name.clone(),
            None => {
                let name = format!("\u{1}asked {of} {}", self.questions.len());
                self.questions.push((question, name.clone()));
                name
            }
        };
        Expr::Column(Column::new_unqualified(name))
    }

    /// The answers beside the columns that there are.
    fn beside(self, schema: &DFSchema) -> Vec<Expr> {
        let columns = schema.columns().into_iter().map(Expr::Column);
        columns.chain(self.questions.into_iter().map(|(it, name)| it.alias(name))).collect()
    }
}
