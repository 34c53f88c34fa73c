//! The rows of a subquery, and what can be asked of them.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::expr::{BinaryExpr, Exists};
use datafusion::logical_expr::{
    Distinct, Expr, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Subquery, lit,
};
use kho_catalog::error::{Error, Kind};

use super::condition::{Place, Within};
use super::correlated;
use crate::errors::to_engine;

/// What the subquery's one column is called: no name of the outer query, nor one that a user can
/// write, so neither is taken for the other.
const MEMBER: &str = "\u{1}member";
/// What the count of its rows is called.
const COUNT: &str = "\u{1}count";
/// What the least or the greatest of them is called.
const EXTREME: &str = "\u{1}extreme";

/// A subquery of one column.
pub(super) struct Set {
    subquery: Subquery,
    /// The same rows, as often as it may be, with their one column called [`MEMBER`].
    rows: LogicalPlan,
    column: datafusion::arrow::datatypes::FieldRef,
}

impl Set {
    pub(super) fn new(subquery: Subquery) -> Result<Set> {
        let plan = distinct_or_not(&subquery.subquery).clone();
        let [field] = plan.schema().fields().iter().as_slice() else {
            return Err(to_engine(Error::new(Kind::Syntax, "subquery has too many columns")));
        };
        let column = Arc::clone(field);
        let rows = match plan {
            // In place of its own name, which a column beneath may have, too.
            LogicalPlan::Projection(Projection { expr, input, .. }) => {
                let named = expr.into_iter().map(|it| it.unalias().alias(MEMBER));
                Projection::try_new(named.collect(), input).map(LogicalPlan::Projection)?
            }
            other => named(other)?,
        };
        Ok(Set { subquery, rows, column })
    }

    /// The subquery as it is, in a form that the engine takes.
    pub(super) fn in_one_column(self) -> Result<Subquery> {
        let plan = &self.subquery.subquery;
        match plan.head_output_expr()? {
            Some(_) if correlated::is(plan) => Ok(of(distinct_or_not(plan).clone())),
            Some(_) => Ok(self.subquery),
            None => Ok(of(named(LogicalPlan::clone(plan))?)),
        }
    }

    /// The subquery as a value, where it gives one row whatever the outer row is.
    pub(super) fn one_row(&self) -> Option<Subquery> {
        correlated::gives_one_row(&self.subquery.subquery).then(|| self.subquery.clone())
    }

    /// `value`, of the type of the rows where it is a parameter of which nobody said any.
    pub(super) fn like_its_rows(&self, value: Expr) -> Expr {
        match value {
            Expr::Placeholder(mut it) if it.field.is_none() => {
                it.field = Some(Arc::clone(&self.column));
                Expr::Placeholder(it)
            }
            other => other,
        }
    }

    /// Whether one of the rows can be NULL.
    pub(super) fn has_nulls(&self) -> bool {
        self.column.is_nullable()
    }

    /// That the engine answers rightly about `value`.
    ///
    /// # Errors
    /// `0A000`.
    pub(super) fn require_sound(&self, value: &Expr) -> Result<()> {
        if !correlated::is(&self.rows) {
            return Ok(());
        }
        correlated::require(&self.rows)?;
        correlated::require_apart(&self.rows, Some(value))
    }

    /// That it gives the same rows each time that it is asked.
    ///
    /// # Errors
    /// `0A000`.
    pub(super) fn require_lasting(&self) -> Result<()> {
        let mut volatile = false;
        self.rows.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                volatile = volatile || expr.is_volatile();
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        match volatile {
            true => Err(to_engine(Error::unsupported(
                "a subquery that gives other rows each time is not supported here",
            ))),
            false => Ok(()),
        }
    }

    /// Whether the operator holds between `value` and one of the rows.
    pub(super) fn any(&self, operator: Operator, value: &Expr, within: &Within) -> Result<Expr> {
        if let Some(extreme) = self.extreme(operator)? {
            let holds = BinaryExpr::new(Box::new(value.clone()), operator, Box::new(extreme));
            return Ok(Expr::BinaryExpr(holds).is_true());
        }
        let (value, row) = (Box::new(outer(value.clone(), within.schema)?), Box::new(member()));
        let holds = match operator {
            Operator::Eq => BinaryExpr::new(row, operator, value),
            _ => BinaryExpr::new(value, operator, row),
        };
        let rows = LogicalPlanBuilder::from(self.rows.clone()).filter(Expr::BinaryExpr(holds))?;
        exists(rows.build()?, within.place)
    }

    /// The row for which the operator holds if it does for any: that needs no join.
    fn extreme(&self, operator: Operator) -> Result<Option<Expr>> {
        // Of floating numbers, what is greatest depends on who is asked.
        if correlated::is(&self.rows) || self.column.data_type().is_floating() {
            return Ok(None);
        }
        let extreme = match operator {
            Operator::Lt | Operator::LtEq => max(member()),
            Operator::Gt | Operator::GtEq => min(member()),
            _ => return Ok(None),
        };
        let row = LogicalPlanBuilder::from(self.rows.clone())
            .aggregate(Vec::<Expr>::new(), vec![extreme.alias(EXTREME)])?
            .project(vec![Expr::Column(Column::new_unqualified(EXTREME))])?;
        Ok(Some(Expr::ScalarSubquery(of(row.build()?))))
    }

    /// Whether one of the rows is NULL.
    pub(super) fn any_null(&self, within: &Within) -> Result<Expr> {
        let rows = LogicalPlanBuilder::from(self.rows.clone()).filter(member().is_null())?;
        exists(rows.build()?, within.place)
    }

    /// Whether there is a row.
    pub(super) fn any_row(&self, within: &Within) -> Result<Expr> {
        exists(self.rows.clone(), within.place)
    }
}

fn member() -> Expr {
    Expr::Column(Column::new_unqualified(MEMBER))
}

/// `plan` without what only says in which order and how often its rows come.
pub(super) fn distinct_or_not(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::Sort(it) if it.fetch.is_none() => distinct_or_not(&it.input),
        LogicalPlan::Distinct(Distinct::All(input)) => distinct_or_not(input),
        LogicalPlan::Subquery(it) => distinct_or_not(&it.subquery),
        other => other,
    }
}

fn named(plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    let columns = columns.into_iter().map(|it| Expr::Column(it).alias(MEMBER)).collect();
    Projection::try_new(columns, Arc::new(plan)).map(LogicalPlan::Projection)
}

/// Whether `plan` has a row, as it is best asked: once for all where the outer row does not matter.
fn exists(plan: LogicalPlan, place: Place) -> Result<Expr> {
    match correlated::is(&plan) && place == Place::Condition {
        true => Ok(Expr::Exists(Exists { subquery: of(plan), negated: false })),
        false => counted(plan),
    }
}

/// The same as a value.
pub(super) fn counted(plan: LogicalPlan) -> Result<Expr> {
    let once = !correlated::is(&plan);
    let mut rows = LogicalPlanBuilder::from(plan);
    if once {
        rows = rows.limit(0, Some(1))?;
    }
    let rows = rows.aggregate(Vec::<Expr>::new(), vec![count(lit(1_i64)).alias(COUNT)])?;
    let rows = rows.project(vec![Expr::Column(Column::new_unqualified(COUNT))])?.build()?;
    Ok(Expr::ScalarSubquery(of(rows)).gt(lit(0_i64)))
}

pub(super) fn of(plan: LogicalPlan) -> Subquery {
    let outer_ref_columns = plan.all_out_ref_exprs();
    Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: Default::default() }
}

/// `value` as it is seen from within a subquery.
fn outer(value: Expr, schema: &DFSchema) -> Result<Expr> {
    let seen = value.transform_up(|part| match part {
        Expr::Column(column) => {
            let (_, field) = schema.qualified_field_from_column(&column)?;
            Ok(Transformed::yes(Expr::OuterReferenceColumn(Arc::clone(field), column)))
        }
        other => Ok(Transformed::no(other)),
    });
    seen.map(|it| it.data)
}
