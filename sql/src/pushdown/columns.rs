//! What the columns of a node are below it.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinSide, JoinType, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::filter_pushdown::FilterPushdownPhase;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::joins::utils::{ColumnIndex, build_join_schema};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;

type Condition = Arc<dyn PhysicalExpr>;

/// What the columns of a node are in one of its inputs.
pub(super) enum Columns {
    /// Of each of them, in their order; `None` of what the input does not have.
    Known(Vec<Option<Condition>>),
    /// Names say it where no other column has them.
    Named { unique: HashSet<String> },
}

impl Columns {
    /// `condition`, over the input; `by_name` is what the node makes of it.
    pub(super) fn moved(
        &self,
        condition: &Condition,
        by_name: Condition,
    ) -> Result<Option<Condition>> {
        match self {
            Columns::Known(columns) => through(condition, columns),
            Columns::Named { unique } => {
                let mistaken = condition.exists(|part| {
                    let column = part.downcast_ref::<Column>();
                    Ok(column.is_some_and(|it| !unique.contains(it.name())))
                })?;
                Ok((!mistaken).then_some(by_name))
            }
        }
    }
}

fn through(condition: &Condition, columns: &[Option<Condition>]) -> Result<Option<Condition>> {
    let mut all = true;
    let moved = Arc::clone(condition).transform_down(|part| {
        let Some(column) = part.downcast_ref::<Column>() else { return Ok(Transformed::no(part)) };
        match columns.get(column.index()) {
            // What stands there is of the input already.
            Some(Some(below)) => {
                Ok(Transformed::new(Arc::clone(below), true, TreeNodeRecursion::Jump))
            }
            _ => {
                all = false;
                Ok(Transformed::new(part, false, TreeNodeRecursion::Stop))
            }
        }
    })?;
    Ok(all.then_some(moved.data))
}

/// What the columns of `node` are in its input `at`.
pub(super) fn of(node: &Arc<dyn ExecutionPlan>, at: usize) -> Columns {
    let Some(child) = node.children().get(at).map(|it| it.schema()) else {
        return Columns::Known(Vec::new());
    };
    let node: &dyn ExecutionPlan = node.as_ref();
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        return Columns::Known(of_join(join, at));
    }
    if let Some(filter) = node.downcast_ref::<FilterExec>() {
        return Columns::Known(match filter.projection() {
            Some(places) => places.iter().map(|place| column(&child, *place)).collect(),
            None => all(&child),
        });
    }
    if let Some(given) = node.downcast_ref::<ProjectionExec>() {
        return Columns::Known(given.expr().iter().map(|it| Some(Arc::clone(&it.expr))).collect());
    }
    if let Some(groups) = node.downcast_ref::<AggregateExec>() {
        let by = groups.group_expr().expr().iter();
        // Of what is computed below, nothing is asked.
        let by = by.map(|(it, _)| it.is::<Column>().then(|| Arc::clone(it)));
        return Columns::Known(by.collect());
    }
    if node.is::<UnionExec>() || is_as(&node.schema(), &child) {
        return Columns::Known(all(&child));
    }
    let (above, below) = (unique(&node.schema()), unique(&child));
    Columns::Named { unique: above.intersection(&below).cloned().collect() }
}

/// Whether `node` keeps conditions that do not pass it, and finds their columns by names that two of
/// them have.
pub(super) fn mistakes_what_stays(
    node: &Arc<dyn ExecutionPlan>,
    phase: FilterPushdownPhase,
) -> bool {
    let node: &dyn ExecutionPlan = node.as_ref();
    matches!(phase, FilterPushdownPhase::Pre)
        && node.downcast_ref::<FilterExec>().is_some_and(|filter| {
            let input = filter.input().schema();
            filter.projection().is_some() && unique(&input).len() < input.fields().len()
        })
}

fn of_join(join: &HashJoinExec, at: usize) -> Vec<Option<Condition>> {
    let (left, right) = (join.left().schema(), join.right().schema());
    let (_, given) = build_join_schema(&left, &right, join.join_type());
    let side = if at == 0 { JoinSide::Left } else { JoinSide::Right };
    let below = |it: &ColumnIndex| match it.side {
        of if of == side => column(if at == 0 { &left } else { &right }, it.index),
        of => partner(join, of, it.index),
    };
    match &join.projection {
        Some(places) => places.iter().map(|place| given.get(*place).and_then(below)).collect(),
        None => given.iter().map(below).collect(),
    }
}

/// What a key of a semi join is on the side whose rows it does not give: they are equal.
fn partner(join: &HashJoinExec, side: JoinSide, index: usize) -> Option<Condition> {
    let is = |key: &Condition| key.downcast_ref::<Column>().is_some_and(|it| it.index() == index);
    let mut keys = join.on().iter();
    let partner = match (join.join_type(), side) {
        (JoinType::LeftSemi, JoinSide::Left) => &keys.find(|(left, _)| is(left))?.1,
        (JoinType::RightSemi, JoinSide::Right) => &keys.find(|(_, right)| is(right))?.0,
        _ => return None,
    };
    partner.is::<Column>().then(|| Arc::clone(partner))
}

fn column(schema: &Schema, index: usize) -> Option<Condition> {
    let field = schema.fields().get(index)?;
    Some(Arc::new(Column::new(field.name(), index)))
}

fn all(schema: &Schema) -> Vec<Option<Condition>> {
    (0..schema.fields().len()).map(|index| column(schema, index)).collect()
}

/// Whether a node with the columns `above` passes on those of its input as they are.
fn is_as(above: &Schema, below: &Schema) -> bool {
    let names = |of: &Schema| of.fields().iter().map(|it| it.name().clone()).collect::<Vec<_>>();
    names(above) == names(below)
}

/// The names that one column has.
fn unique(schema: &Schema) -> HashSet<String> {
    let (mut once, mut more) = (HashSet::new(), HashSet::new());
    for field in schema.fields() {
        if !once.insert(field.name().clone()) {
            more.insert(field.name().clone());
        }
    }
    once.retain(|name| !more.contains(name));
    once
}
