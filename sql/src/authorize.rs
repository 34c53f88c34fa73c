//! The decision, and the only maker of plans that may run.
//!
//! What it guarantees: an [`AuthorizedPlan`] exists only where every relation that the plan reads
//! is allowed to the role whose right counts, for what the session says that it reads it for, and
//! where the plan does nothing but read. Every kind of plan node is named here, so a new one of the
//! engine's does not pass unseen.

pub(crate) mod purpose;
pub(crate) mod standing;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use kho_catalog::error::{Error, Result};
use kho_catalog::privilege::{self, Action, Principal, RelationAction};

use crate::bind::{Bound, Read};
use crate::errors::{from_engine, to_engine};
use crate::scope::Scope;
use standing::Standing;

/// A plan that was allowed. There is no other way to make one.
pub(crate) struct AuthorizedPlan {
    plan: LogicalPlan,
    session: SessionState,
    reads: Vec<Read>,
    standing: Standing,
}

/// Decides about a bound query.
///
/// # Errors
/// `42501` for a relation that the role may see but not read; `KH001` and its like for one that it
/// may not read for what it says; `0A000` for a plan that does more than read.
pub(crate) fn authorize(scope: &Scope, bound: Bound) -> Result<AuthorizedPlan> {
    let Bound { plan, session, reads, names: _ } = bound;
    for read in &reads {
        let who = Principal::of(&scope.state, read.by);
        let action = Action::Relation(read.relation, RelationAction::Select);
        privilege::require(&scope.state, &who, action)?;
        scope.note_read(read);
    }
    let standing = Standing::take(scope, &reads)?;
    only_reads(&plan)?;
    Ok(AuthorizedPlan { plan, session, reads, standing })
}

impl AuthorizedPlan {
    pub(crate) fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    pub(crate) fn session(&self) -> &SessionState {
        &self.session
    }

    pub(crate) fn reads(&self) -> &[Read] {
        &self.reads
    }

    /// What its rows stand on, for as long as any of them is to be given.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }
}

/// Whether the rows of `relation` may be looked at, for what no plan is made of: to check a rule
/// against them, to write them anew.
pub(crate) fn require_rows(scope: &Scope, relation: u32) -> Result<()> {
    let read = Read { relation, by: scope.who.role(), version: None, newest: false };
    Standing::take(scope, &[read]).map(|_| ())
}

/// Whether nothing in the plan writes, creates or reaches outside.
pub(crate) fn only_reads(plan: &LogicalPlan) -> Result<()> {
    let checked = plan.apply_with_subqueries(|node| {
        check(node).map_err(to_engine)?;
        Ok(TreeNodeRecursion::Continue)
    });
    checked.map(|_| ()).map_err(from_engine)
}

fn check(node: &LogicalPlan) -> Result<()> {
    match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::RecursiveQuery(_) => Ok(()),
        LogicalPlan::Dml(_)
        | LogicalPlan::Ddl(_)
        | LogicalPlan::Copy(_)
        | LogicalPlan::DescribeTable(_)
        | LogicalPlan::Statement(_)
        | LogicalPlan::Extension(_) => {
            Err(Error::unsupported("this statement is not supported here"))
        }
    }
}
