//! The decision, and the only maker of plans that may run.
//!
//! What it guarantees: an [`AuthorizedPlan`] exists only where every relation that the plan reads
//! is allowed to the role whose right counts, and where the plan does nothing but read. Every kind
//! of plan node is named here, so a new one of the engine's does not pass unseen.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{self, Action, Principal, RelationAction};

use crate::bind::{Bound, Read};
use crate::errors::{from_engine, to_engine};
use crate::scope::Scope;

/// A plan that was allowed. There is no other way to make one.
pub(crate) struct AuthorizedPlan {
    plan: LogicalPlan,
    session: SessionState,
    reads: Vec<Read>,
}

/// Decides about a bound query.
///
/// # Errors
/// `42501` for a relation that the role may see but not read; `0A000` for a plan that does more
/// than read.
pub(crate) fn authorize(scope: &Scope, bound: Bound) -> Result<AuthorizedPlan> {
    let Bound { plan, session, reads, names: _ } = bound;
    for read in &reads {
        let who = Principal::of(&scope.state, read.by);
        let action = Action::Relation(read.relation, RelationAction::Select);
        privilege::require(&scope.state, &who, action)?;
        refuse_without_purpose(scope, read)?;
        scope.note_read(read);
    }
    only_reads(&plan)?;
    Ok(AuthorizedPlan { plan, session, reads })
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
}

/// A dataset that names purposes is read for one of them, and one that requires an agreement is
/// not read before there can be agreements: refusing is the only way to keep what its owner asked.
fn refuse_without_purpose(scope: &Scope, read: &Read) -> Result<()> {
    let Some(relation) = scope.state.relations.get(&read.relation) else { return Ok(()) };
    let Some(table) = relation.table() else { return Ok(()) };
    let purpose = scope.settings.get("kho.purpose")?;
    let allowed = &table.governance.allowed_purposes;
    if !allowed.is_empty() && !allowed.contains(purpose) {
        let list = allowed.iter().cloned().collect::<Vec<_>>().join(", ");
        return Err(Error::new(
            Kind::InsufficientPrivilege,
            format!("relation \"{}\" can be read only for a purpose it allows", relation.name),
        )
        .with_hint(format!("SET kho.purpose to one of: {list}.")));
    }
    if table.governance.requires_agreement {
        return Err(Error::new(
            Kind::AgreementMissing,
            format!("relation \"{}\" requires an agreement, and there is none", relation.name),
        )
        .with_hint("Its owner can ALTER TABLE … SET (requires_agreement = false)."));
    }
    Ok(())
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
