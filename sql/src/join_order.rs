//! The order of inner joins, from how many rows tables have.
//!
//! # Why
//! The engine joins in the order that is written and only chooses which side to build a hash table
//! of. A query that names its smallest tables last drags millions of rows through every join.
//! What it guarantees: the rows are the same; only inner joins by equality change places, never
//! one around another kind of join. Where the size of anything is not known, or little is to be
//! gained, the order stays as it is written.
//! What it does not: sizes are guesses from the tables' logs; a query whose predicates mislead them
//! can be slower than it was written. Ten relations are looked at together at most.
//!
//! # How
//! All trees of joins without a cross product are compared, by dynamic programming over subsets
//! (Moerkotte and Neumann, "Analysis of two existing and one new dynamic programming algorithm",
//! 2006), by the rows that their joins give and the rows that they build hash tables of.

mod estimate;
pub(crate) mod repeated;
pub(crate) mod semi;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinConstraint, JoinType, NullEquality, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Projection};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// More relations than this are joined as written: the trees to compare grow with 3 to their power.
const RELATIONS_AT_MOST: usize = 10;
/// What a better order must cost at most of the written one: guesses are no reason for small change.
const WORTH_IT: f64 = 0.7;
/// A condition that is no equality of columns leaves this part of the rows.
const CONDITION_KEEPS: f64 = 0.5;
/// A row put into a hash table costs as much as so many rows given.
const BUILD_COST: f64 = 2.0;

/// Puts joins in a better order; those that cost fewer than `least_rows` stay as they are.
#[derive(Debug)]
pub(crate) struct JoinOrder {
    pub least_rows: f64,
}

impl OptimizerRule for JoinOrder {
    fn name(&self) -> &str {
        "kho_join_order"
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        self.order(plan)
    }
}

impl JoinOrder {
    fn order(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        plan.transform_down_with_subqueries(|node| {
            let Some(graph) = Graph::of(&node) else { return Ok(Transformed::no(node)) };
            let Some(tree) = graph.better(self.least_rows) else {
                // Its parts are not looked at by themselves: the whole was.
                return self.order_leaves(node);
            };
            let ordered = graph.build(&tree, &node)?;
            let ordered = self.order_leaves(ordered)?.data;
            Ok(Transformed::new(ordered, true, TreeNodeRecursion::Jump))
        })
    }

    /// Orders what is below the inner joins of `plan`, and leaves these alone.
    fn order_leaves(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let ordered = plan.map_children(|child| {
            let ordered = match is_joined(&child) {
                true => self.order_leaves(child),
                false => self.order(child),
            }?;
            let go_on = TreeNodeRecursion::Continue;
            Ok(Transformed::new(ordered.data, ordered.transformed, go_on))
        })?;
        Ok(Transformed::new(ordered.data, ordered.transformed, TreeNodeRecursion::Jump))
    }
}

/// A set of relations, one bit for each.
type Set = usize;

/// Relations that inner joins put together.
struct Graph {
    leaves: Vec<Leaf>,
    equalities: Vec<Equality>,
    conditions: Vec<(Set, Expr)>,
    /// The part of all pairs of rows of two relations that their equalities keep.
    kept: HashMap<(usize, usize), f64>,
    written: Tree,
}

struct Leaf {
    plan: Arc<LogicalPlan>,
    rows: f64,
}

struct Equality {
    left: (usize, Expr),
    right: (usize, Expr),
}

#[derive(Clone, Debug)]
enum Tree {
    Leaf(usize),
    Join(Box<Tree>, Box<Tree>),
}

impl Graph {
    /// `None` where `plan` is no inner join of three or more relations whose sizes are known.
    fn of(plan: &LogicalPlan) -> Option<Graph> {
        inner_join(plan)?;
        let mut flat = Flat::default();
        let written = flat.take(plan);
        if !(3..=RELATIONS_AT_MOST).contains(&flat.leaves.len()) {
            return None;
        }
        let mut leaves = Vec::new();
        for plan in &flat.leaves {
            leaves.push(Leaf { plan: Arc::clone(plan), rows: estimate::rows(plan)?.max(1.0) });
        }
        let mut equalities = Vec::new();
        for (one, other) in flat.on {
            let (left, right) = (only(&flat.leaves, &one)?, only(&flat.leaves, &other)?);
            equalities.push(Equality { left: (left, one), right: (right, other) });
        }
        let mut conditions = Vec::new();
        for condition in flat.filters {
            conditions.push((mentioned(&flat.leaves, &condition)?, condition));
        }
        let kept = kept_by(&leaves, &equalities);
        Some(Graph { leaves, equalities, conditions, kept, written })
    }

    /// The cheapest tree, where it is enough cheaper than the written one.
    fn better(&self, least_rows: f64) -> Option<Tree> {
        let written = self.cost(&self.written);
        if written < least_rows {
            return None;
        }
        let (cost, tree) = self.cheapest()?;
        (cost < written * WORTH_IT).then_some(tree)
    }

    /// The rows of a set of relations joined, whatever the order.
    fn rows(&self, set: Set) -> f64 {
        let inside = |leaf: usize| set & bit(leaf) != 0;
        let leaves = self.leaves.iter().enumerate().filter(|(leaf, _)| inside(*leaf));
        let all: f64 = leaves.map(|(_, leaf)| leaf.rows).product();
        let pairs = self.kept.iter().filter(|((one, other), _)| inside(*one) && inside(*other));
        let kept: f64 = pairs.map(|(_, kept)| kept).product();
        let conditions = self.conditions.iter().filter(|(of, _)| of & set == *of).count();
        (all * kept * CONDITION_KEEPS.powi(i32::try_from(conditions).unwrap_or(i32::MAX))).max(1.0)
    }

    fn cost(&self, tree: &Tree) -> f64 {
        match tree {
            Tree::Leaf(_) => 0.0,
            Tree::Join(left, right) => {
                let (one, other) = (set_of(left), set_of(right));
                self.cost(left) + self.cost(right) + self.join_cost(one, other)
            }
        }
    }

    fn join_cost(&self, one: Set, other: Set) -> f64 {
        self.rows(one | other) + BUILD_COST * self.rows(one).min(self.rows(other))
    }

    /// Every set is the best of its splits in two that an equality connects; `None` where there is
    /// no tree without a cross product.
    fn cheapest(&self) -> Option<(f64, Tree)> {
        let all = bit(self.leaves.len()) - 1;
        let mut best: HashMap<Set, (f64, Set)> = HashMap::new();
        for leaf in 0..self.leaves.len() {
            best.insert(bit(leaf), (0.0, 0));
        }
        for set in (1..=all).filter(|set| set.count_ones() > 1) {
            let mut part = (set - 1) & set;
            while part > set ^ part {
                let rest = set ^ part;
                if let (Some((one, _)), Some((other, _))) = (best.get(&part), best.get(&rest))
                    && self.connected(part, rest)
                {
                    let cost = one + other + self.join_cost(part, rest);
                    if best.get(&set).is_none_or(|(known, _)| cost < *known) {
                        best.insert(set, (cost, part));
                    }
                }
                part = (part - 1) & set;
            }
        }
        let (cost, _) = best.get(&all)?;
        Some((*cost, self.tree(&best, all)?))
    }

    fn tree(&self, best: &HashMap<Set, (f64, Set)>, set: Set) -> Option<Tree> {
        if set.count_ones() == 1 {
            return Some(Tree::Leaf(set.trailing_zeros() as usize));
        }
        let (_, part) = best.get(&set)?;
        let (one, other) = (*part, set ^ part);
        // The left side is what a hash table is built of.
        let (left, right) =
            if self.rows(one) <= self.rows(other) { (one, other) } else { (other, one) };
        let (left, right) = (self.tree(best, left)?, self.tree(best, right)?);
        Some(Tree::Join(Box::new(left), Box::new(right)))
    }

    fn connected(&self, one: Set, other: Set) -> bool {
        self.kept.keys().any(|(left, right)| {
            let (left, right) = (bit(*left), bit(*right));
            one & left != 0 && other & right != 0 || one & right != 0 && other & left != 0
        })
    }

    /// The plan of `tree`, with the columns of `like` in their order.
    fn build(&self, tree: &Tree, like: &LogicalPlan) -> Result<LogicalPlan> {
        let joined = self.join(tree)?;
        if joined.schema().columns() == like.schema().columns() {
            return Ok(joined);
        }
        let columns = like.schema().columns().into_iter().map(Expr::Column).collect();
        Projection::try_new(columns, Arc::new(joined)).map(LogicalPlan::Projection)
    }

    fn join(&self, tree: &Tree) -> Result<LogicalPlan> {
        let (left, right) = match tree {
            Tree::Leaf(leaf) => match self.leaves.get(*leaf) {
                Some(leaf) => return Ok(leaf.plan.as_ref().clone()),
                None => return datafusion::common::internal_err!("no relation {leaf}"),
            },
            Tree::Join(left, right) => (left, right),
        };
        let (one, other) = (set_of(left), set_of(right));
        let on = self.equalities.iter().filter_map(|it| {
            let ((left, left_expr), (right, right_expr)) = (&it.left, &it.right);
            let (left, right) = (bit(*left), bit(*right));
            if one & left != 0 && other & right != 0 {
                Some((left_expr.clone(), right_expr.clone()))
            } else if one & right != 0 && other & left != 0 {
                Some((right_expr.clone(), left_expr.clone()))
            } else {
                None
            }
        });
        let here = |of: &Set| of & (one | other) == *of && of & one != *of && of & other != *of;
        let filter = self.conditions.iter().filter(|(of, _)| here(of)).map(|(_, it)| it.clone());
        let join = Join::try_new(
            Arc::new(self.join(left)?),
            Arc::new(self.join(right)?),
            on.collect(),
            conjunction(filter),
            JoinType::Inner,
            JoinConstraint::On,
            NullEquality::NullEqualsNothing,
            false,
        )?;
        Ok(LogicalPlan::Join(join))
    }
}

/// Nested inner joins, laid out.
#[derive(Default)]
struct Flat {
    leaves: Vec<Arc<LogicalPlan>>,
    on: Vec<(Expr, Expr)>,
    filters: Vec<Expr>,
}

impl Flat {
    fn take(&mut self, plan: &LogicalPlan) -> Tree {
        if let Some(join) = inner_join(plan) {
            let (left, right) = (self.take(&join.left), self.take(&join.right));
            self.on.extend(join.on.iter().cloned());
            self.filters.extend(join.filter.iter().cloned().flat_map(split_conjunction_owned));
            return Tree::Join(Box::new(left), Box::new(right));
        }
        match plan {
            LogicalPlan::Projection(it) if is_joined(plan) => self.take(&it.input),
            other => {
                self.leaves.push(Arc::new(other.clone()));
                Tree::Leaf(self.leaves.len() - 1)
            }
        }
    }
}

/// The join, if it is one whose inputs may change places.
fn inner_join(plan: &LogicalPlan) -> Option<&Join> {
    match plan {
        LogicalPlan::Join(join)
            if join.join_type == JoinType::Inner
                && join.null_equality == NullEquality::NullEqualsNothing =>
        {
            Some(join)
        }
        _ => None,
    }
}

/// Whether a plan is such a join, or only picks columns of one.
fn is_joined(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(it) => {
            it.expr.iter().all(|expr| matches!(expr, Expr::Column(_))) && is_joined(&it.input)
        }
        other => inner_join(other).is_some(),
    }
}

fn bit(leaf: usize) -> Set {
    1 << leaf
}

fn set_of(tree: &Tree) -> Set {
    match tree {
        Tree::Leaf(leaf) => bit(*leaf),
        Tree::Join(left, right) => set_of(left) | set_of(right),
    }
}

/// The relations whose columns are in `expr`; `None` where a column is of none, or there is none.
fn mentioned(leaves: &[Arc<LogicalPlan>], expr: &Expr) -> Option<Set> {
    let mut set = 0;
    for column in expr.column_refs() {
        set |= bit(leaves.iter().position(|leaf| leaf.schema().has_column(column))?);
    }
    (set != 0 && !expr.is_volatile()).then_some(set)
}

/// The one relation whose columns are in `expr`.
fn only(leaves: &[Arc<LogicalPlan>], expr: &Expr) -> Option<usize> {
    let set = mentioned(leaves, expr)?;
    (set.count_ones() == 1).then(|| set.trailing_zeros() as usize)
}

/// For each pair of relations what their equalities keep: several of them are not independent, and
/// together keep no less than a key would.
fn kept_by(leaves: &[Leaf], equalities: &[Equality]) -> HashMap<(usize, usize), f64> {
    let mut kept: HashMap<(usize, usize), f64> = HashMap::new();
    for it in equalities {
        let ((left, left_expr), (right, right_expr)) = (&it.left, &it.right);
        let of = |leaf: usize, expr: &Expr| {
            leaves.get(leaf).and_then(|leaf| estimate::domain(&leaf.plan, expr))
        };
        let (one, other) = (of(*left, left_expr), of(*right, right_expr));
        let rows = |leaf: usize| leaves.get(leaf).map_or(1.0, |leaf| leaf.rows);
        let part = estimate::equal(one, other, rows(*left), rows(*right));
        let least = estimate::least(one, other, rows(*left), rows(*right));
        let pair = (*left.min(right), *left.max(right));
        kept.entry(pair).and_modify(|known| *known = (*known * part).max(least)).or_insert(part);
    }
    kept
}
