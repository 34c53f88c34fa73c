//! The relation that a join which merges columns makes.
//!
//! What it guarantees: `*` of it gives what PostgreSQL gives, the merged columns first; all columns of
//! both sides are there besides. Until the plan is made a node stands on it that tells the planner
//! which columns are merged ([`settled`] takes it away).

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{
    Column, DFSchema, ExprSchema as _, JoinConstraint, JoinType, NullEquality, Result,
    TableReference, plan_datafusion_err,
};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::utils::expand_wildcard;
use datafusion::logical_expr::{EmptyRelation, Expr, Join, LogicalPlan, LogicalPlanBuilder};
use kho_catalog::error::{Error, Kind as Code};
use sqlparser::ast::{TableFactor, TableWithJoins};

use super::{Kind, MARK, columns, constraint};
use crate::errors::to_engine;

/// Plans the relations that [`super::merged`] makes.
#[derive(Debug)]
pub(in crate::bind) struct Merging;

impl RelationPlanner for Merging {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        match relation {
            TableFactor::NestedJoin { table_with_joins, alias: Some(alias) }
                if alias.name.value.starts_with(MARK) =>
            {
                let plan = planned(*table_with_joins, &alias.name.value, context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
            }
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

/// A column of each side, and the one of both.
struct Key {
    left: Column,
    right: Column,
    merged: Column,
    value: Expr,
}

impl Key {
    fn given(&self) -> Expr {
        self.value.clone().alias_qualified(self.merged.relation.clone(), self.merged.name.clone())
    }
}

fn planned(
    of: TableWithJoins,
    qualifier: &str,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let TableWithJoins { relation, mut joins } = of;
    let made = || plan_datafusion_err!("a join that merges columns has two sides");
    let mut join = joins.pop().ok_or_else(made)?;
    let left = context.plan(relation)?;
    let right = context.plan(join.relation)?;
    let (kind, constraint) = constraint(&mut join.join_operator).ok_or_else(made)?;
    let (of_left, of_right) = (visible(&left)?, visible(&right)?);
    let mut names = columns::using(constraint).map_err(to_engine)?.unwrap_or_default();
    if names.is_empty() {
        let common = |it: &&Column| of_right.iter().any(|other| other.name == it.name);
        names = of_left.iter().filter(common).map(|it| it.name.clone()).collect();
    }
    let coalesce = context.context_provider().get_function_meta("coalesce").ok_or_else(made)?;
    let key = |name: &String| {
        let (one, other) = (one(&of_left, name, "left")?, one(&of_right, name, "right")?);
        let (first, second) = if kind == Kind::Right { (&other, &one) } else { (&one, &other) };
        let (first, second) = (Expr::Column(first.clone()), Expr::Column(second.clone()));
        let types = left.schema().field_from_column(&one)?.data_type();
        let alike = types == right.schema().field_from_column(&other)?.data_type();
        let value = match alike && kind != Kind::Full {
            true => first,
            false => coalesce.call(vec![first, second]),
        };
        let merged = Column::new(Some(TableReference::bare(qualifier)), name.clone());
        Ok(Key { left: one, right: other, merged, value })
    };
    let keys = names.iter().map(key).collect::<Result<Vec<_>>>()?;
    merged(left, right, kind, keys)
}

fn merged(
    left: LogicalPlan,
    right: LogicalPlan,
    kind: Kind,
    keys: Vec<Key>,
) -> Result<LogicalPlan> {
    let kind = match kind {
        Kind::Inner => JoinType::Inner,
        Kind::Left => JoinType::Left,
        Kind::Right => JoinType::Right,
        Kind::Full => JoinType::Full,
    };
    let column = |it: &Column| Expr::Column(it.clone());
    let on: Vec<Expr> = keys.iter().map(|key| column(&key.left).eq(column(&key.right))).collect();
    // What an earlier join merged is named no more where this one merges it.
    let is_old =
        |it: &Column| is_merged(it) && keys.iter().any(|key| key.left == *it || key.right == *it);
    let sides = left.schema().columns().into_iter().chain(right.schema().columns());
    let sides: Vec<Column> = sides.filter(|it| !is_old(it)).collect();
    let given = keys.iter().map(Key::given).chain(sides.iter().map(column));
    let given: Vec<Expr> = given.collect();
    let plan = LogicalPlanBuilder::from(left).join_on(right, kind, on)?.project(given)?.build()?;
    let mut hidden = Vec::new();
    for key in &keys {
        let others = sides.iter().filter(|it| it.name == key.merged.name);
        hidden.extend(others.map(|it| (column(&key.merged), column(it))));
    }
    Ok(told(plan, hidden))
}

/// `plan`, and the planner told that the first column of each pair stands for both.
fn told(plan: LogicalPlan, pairs: Vec<(Expr, Expr)>) -> LogicalPlan {
    let schema = Arc::clone(plan.schema());
    let nothing = EmptyRelation { produce_one_row: true, schema: Arc::new(DFSchema::empty()) };
    LogicalPlan::Join(Join {
        left: Arc::new(plan),
        right: Arc::new(LogicalPlan::EmptyRelation(nothing)),
        on: pairs,
        filter: None,
        join_type: JoinType::Inner,
        join_constraint: JoinConstraint::Using,
        schema,
        null_equality: NullEquality::NullEqualsNothing,
        null_aware: false,
    })
}

/// A plan that was made, in which nobody is told any more which columns are merged.
pub(in crate::bind) fn settled(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut any = false;
    plan.apply_with_subqueries(|node| {
        any |= matches!(node, LogicalPlan::Join(it) if it.join_constraint == JoinConstraint::Using);
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !any {
        return Ok(plan);
    }
    let settled = plan.transform_up_with_subqueries(|node| {
        Ok(match node {
            LogicalPlan::Join(join) if join.join_constraint == JoinConstraint::Using => {
                Transformed::yes(match is_told(&join) {
                    true => Arc::unwrap_or_clone(join.left),
                    // The engine leaves such columns out where rows are to differ, too.
                    false => {
                        LogicalPlan::Join(Join { join_constraint: JoinConstraint::On, ..join })
                    }
                })
            }
            other => Transformed::no(other),
        })
    });
    settled.map(|it| it.data)
}

fn is_told(join: &Join) -> bool {
    matches!(join.right.as_ref(), LogicalPlan::EmptyRelation(it) if it.schema.fields().is_empty())
}

/// The columns that a bare name can mean.
fn visible(plan: &LogicalPlan) -> Result<Vec<Column>> {
    let columns = expand_wildcard(plan.schema(), plan, None)?.into_iter();
    Ok(columns.filter_map(|it| it.try_as_col().cloned()).collect())
}

fn one(columns: &[Column], name: &str, side: &str) -> Result<Column> {
    let mut named = columns.iter().filter(|it| it.name == name);
    match (named.next(), named.next()) {
        (Some(column), None) => Ok(column.clone()),
        (None, _) => Err(to_engine(Error::new(
            Code::UndefinedColumn,
            format!("column \"{name}\" specified in USING clause does not exist in {side} table"),
        ))),
        (Some(_), Some(_)) => Err(to_engine(Error::new(
            Code::AmbiguousColumn,
            format!("common column name \"{name}\" appears more than once in {side} table"),
        ))),
    }
}

fn is_merged(column: &Column) -> bool {
    column.relation.as_ref().is_some_and(|it: &TableReference| it.table().starts_with(MARK))
}
