//! How many rows a plan gives, and how many values a column has: guesses, cheap to make.

use datafusion::common::{Column, JoinType};
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::{BinaryExpr, Distinct, Expr, LogicalPlan, Operator};

use crate::secure;

/// The values that a column of a table can have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Domain {
    /// Rows of the table, before any predicate.
    pub rows: f64,
    /// Different values, at most.
    pub values: f64,
    /// Whether every row can have a value of its own.
    pub key: bool,
}

const EQUAL: f64 = 0.05;
const RANGE: f64 = 1.0 / 3.0;
const BETWEEN: f64 = 0.2;
const LIKE: f64 = 0.1;
const NULL: f64 = 0.05;
const UNKNOWN: f64 = 0.3;
/// What grouping leaves where nothing is known of the columns.
const GROUPS: f64 = 0.3;

/// The rows of `plan`; `None` where a relation in it does not tell its size.
pub(super) fn rows(plan: &LogicalPlan) -> Option<f64> {
    Some(match plan {
        LogicalPlan::TableScan(scan) => {
            let rows = secure::size_of(&scan.source)?.rows as f64;
            scan.fetch.map_or(rows, |fetch| rows.min(fetch as f64))
        }
        LogicalPlan::Filter(it) => rows(&it.input)? * selectivity(&it.predicate, &it.input),
        LogicalPlan::Projection(it) => rows(&it.input)?,
        LogicalPlan::SubqueryAlias(it) => rows(&it.input)?,
        LogicalPlan::Window(it) => rows(&it.input)?,
        LogicalPlan::Repartition(it) => rows(&it.input)?,
        LogicalPlan::Sort(it) => {
            let rows = rows(&it.input)?;
            it.fetch.map_or(rows, |fetch| rows.min(fetch as f64))
        }
        LogicalPlan::Limit(it) => rows(&it.input)?,
        LogicalPlan::Aggregate(it) if it.group_expr.is_empty() => 1.0,
        LogicalPlan::Aggregate(it) => {
            let input = rows(&it.input)?;
            let known = it.group_expr.iter().map(|by| domain(&it.input, by));
            let groups = known.map(|it| it.map(|it| it.values)).product::<Option<f64>>();
            groups.unwrap_or(input * GROUPS).min(input)
        }
        LogicalPlan::Distinct(Distinct::All(input)) => rows(input)?,
        LogicalPlan::Distinct(Distinct::On(it)) => rows(&it.input)?,
        LogicalPlan::Join(it) => {
            let (left, right) = (rows(&it.left)?, rows(&it.right)?);
            match it.join_type {
                JoinType::Inner if it.on.is_empty() => left * right,
                JoinType::Inner | JoinType::Full => left.max(right),
                JoinType::Left | JoinType::LeftMark => left,
                JoinType::Right | JoinType::RightMark => right,
                JoinType::LeftSemi | JoinType::LeftAnti => left / 2.0,
                JoinType::RightSemi | JoinType::RightAnti => right / 2.0,
            }
        }
        LogicalPlan::Union(it) => it.inputs.iter().map(|it| rows(it)).sum::<Option<f64>>()?,
        LogicalPlan::Values(it) => it.values.len() as f64,
        _ => return None,
    })
}

/// What is known of the values of `expr`, where it is a column of a table below `plan`.
pub(super) fn domain(plan: &LogicalPlan, expr: &Expr) -> Option<Domain> {
    let column = match expr {
        Expr::Column(column) => column,
        Expr::Alias(alias) => return domain(plan, &alias.expr),
        Expr::Cast(cast) => return domain(plan, &cast.expr),
        _ => return None,
    };
    match plan {
        LogicalPlan::TableScan(scan) => {
            let size = secure::size_of(&scan.source)?;
            let rows = size.rows as f64;
            let range = size.ranges.get(&column.name).map(|range| *range as f64);
            let values = range.map_or(rows, |range| rows.min(range)).max(1.0);
            Some(Domain { rows, values, key: range.is_none_or(|range| rows <= range) })
        }
        LogicalPlan::Projection(it) => {
            let index = plan.schema().maybe_index_of_column(column)?;
            domain(&it.input, it.expr.get(index)?)
        }
        LogicalPlan::SubqueryAlias(it) => {
            let index = plan.schema().maybe_index_of_column(column)?;
            let (relation, field) = it.input.schema().iter().nth(index)?;
            let below = Column::new(relation.cloned(), field.name());
            domain(&it.input, &Expr::Column(below))
        }
        LogicalPlan::Aggregate(it) => {
            let index = plan.schema().maybe_index_of_column(column)?;
            let below = domain(&it.input, it.group_expr.get(index)?)?;
            Some(Domain { rows: below.values, key: it.group_expr.len() == 1, ..below })
        }
        LogicalPlan::Join(it) => {
            let inputs = [&it.left, &it.right];
            let input = inputs.into_iter().find(|it| it.schema().has_column(column))?;
            domain(input, expr)
        }
        LogicalPlan::Filter(it) => domain(&it.input, expr),
        LogicalPlan::Sort(it) => domain(&it.input, expr),
        LogicalPlan::Limit(it) => domain(&it.input, expr),
        LogicalPlan::Window(it) => domain(&it.input, expr),
        LogicalPlan::Repartition(it) => domain(&it.input, expr),
        LogicalPlan::Distinct(Distinct::All(input)) => domain(input, expr),
        _ => None,
    }
}

/// The part of all pairs of rows in which two columns are equal.
///
/// # Why
/// Statistics give bounds, not numbers of values. Of a key and what refers to it, every row of the
/// latter meets one of the former, so the key's table says how many values there are.
pub(super) fn equal(one: Option<Domain>, other: Option<Domain>, left: f64, right: f64) -> f64 {
    let of =
        |domain: Option<Domain>, rows| domain.unwrap_or(Domain { rows, values: rows, key: true });
    let (one, other) = (of(one, left), of(other, right));
    let values = match (one.key, other.key) {
        (true, false) => one.rows,
        (false, true) => other.rows,
        _ => one.values.max(other.values),
    };
    1.0 / values.max(1.0)
}

/// What several equalities of two relations keep at least: as much as a key would.
pub(super) fn least(one: Option<Domain>, other: Option<Domain>, left: f64, right: f64) -> f64 {
    let rows = |domain: Option<Domain>, rows: f64| domain.map_or(rows, |domain| domain.rows);
    1.0 / rows(one, left).max(rows(other, right)).max(1.0)
}

/// The part of the rows of `plan` for which `predicate` is true.
fn selectivity(predicate: &Expr, plan: &LogicalPlan) -> f64 {
    let of = |expr: &Expr| selectivity(expr, plan);
    let part = match predicate {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And => of(left) * of(right),
            Operator::Or => of(left) + of(right),
            Operator::Eq => equals(left, right, plan),
            Operator::NotEq => 1.0 - equals(left, right, plan),
            Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => RANGE,
            Operator::LikeMatch | Operator::ILikeMatch => LIKE,
            _ => UNKNOWN,
        },
        Expr::Not(inner) => 1.0 - of(inner),
        Expr::Like(Like { negated, .. }) => negate(LIKE, *negated),
        Expr::InList(InList { expr, list, negated }) => {
            let one = one_value(domain(plan, expr));
            negate((one * list.len() as f64).min(1.0), *negated)
        }
        Expr::Between(it) => negate(BETWEEN, it.negated),
        Expr::IsNull(_) => NULL,
        Expr::IsNotNull(_) => 1.0 - NULL,
        _ => UNKNOWN,
    };
    part.clamp(0.0, 1.0)
}

fn equals(left: &Expr, right: &Expr, plan: &LogicalPlan) -> f64 {
    let known = match (left, right) {
        (_, Expr::Literal(..)) => domain(plan, left),
        (Expr::Literal(..), _) => domain(plan, right),
        _ => None,
    };
    one_value(known)
}

/// The part of the rows that have one value. Without bounds every row could be different, and a
/// column is rarely looked up by then.
fn one_value(domain: Option<Domain>) -> f64 {
    match domain {
        Some(domain) if domain.values < domain.rows => 1.0 / domain.values,
        _ => EQUAL,
    }
}

fn negate(part: f64, negated: bool) -> f64 {
    if negated { 1.0 - part } else { part }
}
