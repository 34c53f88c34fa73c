//! The decision, and the only maker of plans that may run.
//!
//! What it guarantees: an [`AuthorizedPlan`] exists only where every relation that the plan reads
//! is allowed to the role whose right counts, for what the session says that it reads it for, and
//! where the plan does nothing but read. Every kind of plan node is named here, so a new one of the
//! engine's does not pass unseen.

pub(crate) mod purpose;
pub(crate) mod standing;

mod columns;
pub(crate) mod rights;

use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use kho_catalog::error::{Error, Result};
use kho_catalog::privilege::{Action, ColumnAction, Decision, RelationAction};
use kho_catalog::state::Column;

use self::columns::{Used, Uses};
pub(crate) use self::rights::Rights;
use crate::bind::{Bound, Needs, Read};
use crate::errors::{from_engine, to_engine};
use crate::scope::Scope;
use crate::secure;
use crate::session::{note_datasets, note_rights};
use standing::Standing;

/// A plan that was allowed. There is no other way to make one.
pub(crate) struct AuthorizedPlan {
    plan: LogicalPlan,
    session: Arc<SessionState>,
    standing: Standing,
    rights: Rights,
}

/// Decides about a bound query.
///
/// # Errors
/// `42501` for a relation that the role may see but not read, or not in all the columns that are
/// used; `KH001` and its like for one that it may not read for what it says; `0A000` for a plan
/// that does more than read.
pub(crate) fn authorize(scope: &Scope, bound: Bound) -> Result<AuthorizedPlan> {
    let Bound { plan, session, reads, names: _, rows } = bound;
    note_datasets(scope, &reads);
    let uses = match reads.is_empty() {
        true => Uses::default(),
        false => columns::of(&scope.state, scope.who.role(), &plan, rows.as_ref())?,
    };
    note_columns(scope, &reads, &uses);
    let mut rights = Vec::new();
    for read in &reads {
        let asked = require_read(scope, read, &uses)?;
        rights.extend(asked.into_iter().map(|action| (read.by, action)));
        scope.note_read(read);
    }
    note_rights(scope, &reads);
    let rights = Rights::new(rights);
    let standing = Standing::take(scope, &reads, rights.clone())?;
    scope.note_sources(&reads);
    only_reads(&plan)?;
    secure::settle_shape(&session, &plan)?;
    Ok(AuthorizedPlan { plan, session, standing, rights })
}

impl AuthorizedPlan {
    pub(crate) fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    pub(crate) fn session(&self) -> &Arc<SessionState> {
        &self.session
    }

    pub(crate) fn rights(&self) -> &Rights {
        &self.rights
    }

    /// What its rows stand on, for as long as any of them is to be given.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }
}

/// Whether the rows of `relation` may be looked at, for what no plan is made of: to check a rule
/// against them, to write them anew.
pub(crate) fn require_rows(scope: &Scope, relation: u32) -> Result<()> {
    let read =
        Read { relation, by: scope.who.role(), version: None, newest: false, needs: Needs::Whole };
    Standing::take(scope, &[read], Rights::default()).map(|_| ())
}

/// Notes which columns are read, by the names of now; where that cannot be told, it is all of them.
fn note_columns(scope: &Scope, reads: &[Read], uses: &Uses) {
    for read in reads {
        let Some(relation) = scope.state.relations.get(&read.relation) else { continue };
        let used = match &read.needs {
            Needs::Nothing => continue,
            Needs::Whole => Used { others: true, ..Used::default() },
            Needs::Used => uses.of(read.relation, read.by),
            Needs::Rows(also) => {
                let mut used = uses.of(read.relation, read.by);
                used.columns.extend(also);
                used
            }
        };
        let is_used = |column: &&Column| used.others || used.columns.contains(&column.id);
        let names = relation.columns.iter().filter(is_used).map(|column| &column.name);
        if relation.table().is_some() {
            scope.facts.columns(read.relation, names);
        }
    }
}

/// That the role of a read may read what is used; gives what was asked for that. Of who may read the
/// whole relation no more is asked.
fn require_read(scope: &Scope, read: &Read, uses: &Uses) -> Result<Vec<Action>> {
    let whole = Action::Relation(read.relation, RelationAction::Select);
    let denied = match scope.decide(read.by, whole) {
        Decision::Allowed(_) | Decision::Denied if read.needs == Needs::Nothing => {
            return Ok(Vec::new());
        }
        Decision::Allowed(_) => {
            scope.note_asked(read.by, whole);
            return Ok(vec![whole]);
        }
        Decision::Denied | Decision::Hidden => || {
            scope.require(read.by, whole)?;
            Err(Error::internal("a right was there that was not"))
        },
    };
    let also = match &read.needs {
        Needs::Rows(also) => Some(also),
        Needs::Used => None,
        Needs::Whole | Needs::Nothing => return denied(),
    };
    let used = uses.of(read.relation, read.by);
    if used.others {
        return denied();
    }
    let needed: Vec<Action> = match also {
        None if used.columns.is_empty() => {
            vec![Action::Relation(read.relation, RelationAction::SelectAny)]
        }
        also => (used.columns.iter().chain(also.into_iter().flatten()))
            .map(|column| Action::Column(read.relation, *column, ColumnAction::Select))
            .collect(),
    };
    needed.iter().try_for_each(|action| scope.require(read.by, *action))?;
    Ok(needed)
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
