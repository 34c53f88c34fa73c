//! Conditions handed down the plan that runs, by the places of columns.
//!
//! # Why
//! The engine's nodes find the columns of a condition in what is below them by name, and take the first of
//! that name. A join of two relations that both have a `t` has two: `x.t = 'b' OR y.t = 'b'` became
//! `y.t = 'b' OR y.t = 'b'`, was a condition of one side, and its scan passed over rows that belong to
//! the answer. What a join tells scans of its keys went the same way, through groups and semi joins too.
//! What it is: the engine's rule, which asks each node what may go to which of its inputs, with the
//! conditions themselves moved by [`columns`].
//! What it guarantees: a condition that goes down is about the same columns there. Where that cannot be
//! told it stays.
//! What it does not: which conditions may pass a node is the node's to say, as before.

mod columns;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, internal_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterPushdownResult, ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation,
    PushedDown, PushedDownPredicate,
};

type Condition = Arc<dyn PhysicalExpr>;
type Node = Arc<dyn ExecutionPlan>;
type Told = FilterPushdownPropagation<Node>;

/// Hands down conditions as the engine's rule of the same name does.
#[derive(Debug)]
pub(crate) struct ByPlace(FilterPushdownPhase);

/// The engine's rules, with those of them that hand down conditions replaced.
pub(crate) fn by_place(
    mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    for phase in [FilterPushdownPhase::Pre, FilterPushdownPhase::Post] {
        let ours: Arc<dyn PhysicalOptimizerRule + Send + Sync> = Arc::new(ByPlace(phase));
        for rule in rules.iter_mut().filter(|rule| rule.name() == ours.name()) {
            *rule = Arc::clone(&ours);
        }
    }
    rules
}

impl ByPlace {
    /// What joins and sorts come to know while they run, told to what is below them.
    pub(crate) fn of_running() -> ByPlace {
        ByPlace(FilterPushdownPhase::Post)
    }
}

impl PhysicalOptimizerRule for ByPlace {
    fn optimize(&self, plan: Node, config: &ConfigOptions) -> Result<Node> {
        let told = Pass { phase: self.0, config }.hand_down(&plan, &[])?;
        Ok(told.updated_node.unwrap_or(plan))
    }

    fn name(&self) -> &str {
        match self.0 {
            FilterPushdownPhase::Pre => "FilterPushdown",
            FilterPushdownPhase::Post => "FilterPushdown(Post)",
        }
    }

    fn schema_check(&self) -> bool {
        true
    }
}

struct Pass<'a> {
    phase: FilterPushdownPhase,
    config: &'a ConfigOptions,
}

impl Pass<'_> {
    /// Gives `node` the conditions `all`, which are over its columns. What comes back says of each
    /// whether it is dealt with.
    fn hand_down(&self, node: &Node, all: &[Condition]) -> Result<Told> {
        // The others it is not told of.
        let takes = !columns::mistakes_what_stays(node, self.phase);
        let conditions = if takes { all } else { &[] };
        let offered: Vec<(usize, &Condition)> =
            conditions.iter().enumerate().filter(|(_, it)| !changes(it)).collect();
        let shown = offered.iter().map(|(_, it)| Arc::clone(it)).collect();
        let description = node.gather_filters_for_pushdown(self.phase, shown, self.config)?;
        let (of_parent, of_node) = (description.parent_filters(), description.self_filters());
        let children = node.children();
        if of_parent.len() != children.len() || of_node.len() != children.len() {
            return internal_err!("{} does not say what goes to each input", node.name());
        }
        let mut children_now = Vec::with_capacity(children.len());
        let mut results = vec![Vec::with_capacity(children.len()); conditions.len()];
        let mut own_results = Vec::with_capacity(children.len());
        for (at, ((child, given), own)) in
            children.into_iter().zip(of_parent).zip(of_node).enumerate()
        {
            let places = columns::of(node, at);
            let mut passed = Vec::new();
            for ((index, condition), given) in offered.iter().zip(given) {
                if matches!(given.discriminant, PushedDown::Yes)
                    && let Some(moved) = places.moved(condition, given.predicate)?
                {
                    passed.push((*index, moved));
                }
            }
            let (result, own) = self.to_child(child, own, &passed)?;
            own_results.push(own);
            let dealt_with: Vec<(usize, PushedDown)> =
                passed.iter().map(|(index, _)| *index).zip(result.filters).collect();
            for (index, results) in results.iter_mut().enumerate() {
                let found = dealt_with.iter().find(|(of, _)| *of == index);
                results.push(found.map_or(PushedDown::No, |(_, it)| *it));
            }
            children_now.push(result.updated_node.unwrap_or_else(|| Arc::clone(child)));
        }
        let parent_filters = conditions.iter().zip(results);
        let result = ChildPushdownResult {
            parent_filters: parent_filters
                .map(|(filter, child_results)| ChildFilterPushdownResult {
                    filter: Arc::clone(filter),
                    child_results,
                })
                .collect(),
            self_filters: own_results,
        };
        self.answer(node, children_now, result, all.len())
    }

    /// Hands `child` what the node above has `own` for it, and what `passed` that node. The result is of
    /// what passed alone.
    fn to_child(
        &self,
        child: &Node,
        own: Vec<Condition>,
        passed: &[(usize, Condition)],
    ) -> Result<(Told, Vec<PushedDownPredicate>)> {
        let still = own.iter().filter(|it| !changes(it));
        let all: Vec<Condition> = still.chain(passed.iter().map(|(_, it)| it)).cloned().collect();
        let mut result = self.hand_down(child, &all)?;
        if result.filters.len() != all.len() {
            return internal_err!("{} does not say what it does of each condition", child.name());
        }
        let of_passed = result.filters.split_off(all.len() - passed.len());
        let mut of_own = std::mem::replace(&mut result.filters, of_passed).into_iter();
        let own = own.into_iter().map(|condition| {
            let dealt_with = if changes(&condition) { None } else { of_own.next() };
            dealt_with.unwrap_or(PushedDown::No).wrap_expression(condition)
        });
        let own = own.collect();
        Ok((result, own))
    }

    /// The node over its new inputs, and what it says of `asked` conditions.
    fn answer(
        &self,
        node: &Node,
        children: Vec<Node>,
        result: ChildPushdownResult,
        asked: usize,
    ) -> Result<Told> {
        let now = replace_children_if_necessary(Arc::clone(node), children)?;
        let mut told = now.handle_child_pushdown_result(self.phase, result, self.config)?;
        told.filters.resize(asked, PushedDown::No);
        if told.updated_node.is_none() && !Arc::ptr_eq(&now, node) {
            told.updated_node = Some(now);
        }
        Ok(told)
    }
}

/// Whether `condition` may say another thing of the same row the next time.
fn changes(condition: &Condition) -> bool {
    is_volatile(condition)
}
