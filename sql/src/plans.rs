//! Bound plans of prepared statements, kept for their next run.
//!
//! What it is: a [`Slot`] in each statement, for one plan. What a statement's names mean, which
//! policies and masks stand in for its tables and which version of each it reads were found out when
//! it was bound; whoever runs it again need not find that out again.
//! What it guarantees: a plan is used again only by the session that bound it, with the same settings,
//! by the same catalogs, over the same versions of its tables and for parameters of the same types.
//! No decision is kept: `authorize` decides at each run, and what it is told of a kept plan is what
//! it was told of the new one. The record in the ledger says what it would say. What is kept takes no
//! more than the limit together, and goes with its statement.
//! What it does not: a plan that may mean something else at another time is bound each time, and so
//! is one of a block that has changed what it reads.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::datatypes::FieldRef;
use datafusion::logical_expr::LogicalPlan;
use kho_catalog::error::Result;
use kho_catalog::state::{Relation, RelationKind};
use kho_catalog::text::Text;
use sqlparser::ast;

use crate::bind::{self, Bound, Read};
use crate::parse::Statement;
use crate::scope::{Scope, lock};
use crate::secure;
use crate::session::{Credential, Found};
use crate::settings::Settings;

/// About what a plan takes beside what its text and its tables make of it.
const PLAN_BYTES: usize = 32 << 10;
/// The same for each byte of its text.
const TEXT_FACTOR: usize = 64;

/// The same for each column of each of its tables: a field in several schemas, and what it is called by.
const COLUMN_BYTES: usize = 2 << 10;

/// How much the kept plans of one server may take together.
pub(crate) struct Plans {
    limit_bytes: usize,
    used_bytes: Arc<AtomicUsize>,
}

/// What a plan takes of that; given back when it is dropped.
struct Room {
    bytes: usize,
    used_bytes: Arc<AtomicUsize>,
}

/// Where a statement's plan is kept.
#[derive(Default)]
pub(crate) struct Slot {
    is_prepared: AtomicBool,
    kept: Mutex<Option<Arc<Kept>>>,
}

/// A bound plan, and all that it was bound by.
struct Kept {
    credential: Arc<Credential>,
    settings: Settings,
    /// Of the catalogs, which are not held for the sake of a plan.
    state: Arc<()>,
    latest: Arc<()>,
    parameters: Vec<Option<FieldRef>>,
    plan: LogicalPlan,
    reads: Vec<Read>,
    names: Vec<Option<String>>,
    found: Found,
    _room: Room,
}

impl Plans {
    pub(crate) fn new(limit_bytes: usize) -> Plans {
        Plans { limit_bytes, used_bytes: Arc::default() }
    }

    fn room(&self, bytes: usize) -> Option<Room> {
        let take = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit_bytes);
        let taken = self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.ok().map(|_| Room { bytes, used_bytes: Arc::clone(&self.used_bytes) })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Slot {
    /// From now on its plan is kept: it will be run again.
    pub(crate) fn is_prepared(&self) {
        self.is_prepared.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> Option<Arc<Kept>> {
        lock(&self.kept).clone()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", if self.get().is_some() { "kept" } else { "empty" })
    }
}

/// [`bind::bind`], or what came of it at an earlier run where that would come of it now.
pub(crate) async fn bind(
    scope: &Scope,
    statement: &Statement,
    query: &ast::Statement,
    parameters: &[Option<FieldRef>],
) -> Result<Bound> {
    let slot = statement.plan();
    if !slot.is_prepared.load(Ordering::Relaxed) || scope.explains || !scope.facts.is_blank() {
        return bind::bind(scope, query, parameters, Vec::new()).await;
    }
    if let Some(kept) = slot.get().filter(|kept| kept.is_of(scope, parameters))
        && kept.is_current(scope).await.inspect_err(|_| scope.facts.find(&kept.found))?
    {
        scope.facts.find(&kept.found);
        return Ok(Bound {
            plan: kept.plan.clone(),
            session: Arc::new(scope.shared.planning_state(scope)),
            reads: kept.reads.clone(),
            names: kept.names.clone(),
            rows: None,
        });
    }
    // What it takes is free for the plan that comes in its place.
    *lock(&slot.kept) = None;
    let bound = bind::bind(scope, query, parameters, Vec::new()).await?;
    if let Some(kept) = keep(scope, statement, &bound, parameters).await? {
        *lock(&slot.kept) = Some(Arc::new(kept));
    }
    Ok(bound)
}

impl Kept {
    /// Whether it was bound by what `scope` is.
    fn is_of(&self, scope: &Scope, parameters: &[Option<FieldRef>]) -> bool {
        // What is held is at a place of its own.
        Arc::ptr_eq(&self.credential, &scope.credential)
            && Arc::ptr_eq(&self.state, scope.state.meaning())
            && Arc::ptr_eq(&self.latest, scope.latest.meaning())
            && self.parameters == parameters
            && self.settings.are(&scope.settings)
    }

    /// Whether the versions that `scope` reads are those it was bound over; from now on they are
    /// what the statement reads.
    async fn is_current(&self, scope: &Scope) -> Result<bool> {
        for read in &self.reads {
            if read.version.is_some() && version(scope, read).await? != read.version {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The version that `scope` reads of what `read` does; `None` where that cannot be told.
async fn version(scope: &Scope, read: &Read) -> Result<Option<u64>> {
    match scope.state.relations.get(&read.relation) {
        Some(relation) if scope.block.head(read.relation).is_none() => {
            scope.snapshot(relation, None).await.map(|it| Some(it.version()))
        }
        _ => Ok(None),
    }
}

/// The texts of what stands in for a table's rows: its policies and its own masks.
fn rules_bytes(relation: &Relation) -> usize {
    let policies = relation.table().map(|table| table.policies.as_slice()).unwrap_or_default();
    let policies = policies.iter().filter_map(|policy| policy.using.as_ref());
    let masks = relation.columns.iter().filter_map(|column| column.mask.as_ref());
    policies.chain(masks.map(|mask| &mask.using)).map(length).sum()
}

fn length(text: &Text) -> usize {
    text.value().map_or(0, str::len)
}

/// What is kept of a plan that was bound; `None` where it may be another one at the next run, or there
/// is no room for it.
async fn keep(
    scope: &Scope,
    statement: &Statement,
    bound: &Bound,
    parameters: &[Option<FieldRef>],
) -> Result<Option<Kept>> {
    let of_session = |name: &str| scope.shared.is_of_session(name);
    if scope.block.changed_catalog() || !secure::lasts(&bound.plan, &of_session) {
        return Ok(None);
    }
    let mut bytes = PLAN_BYTES + statement.text_bytes().saturating_mul(TEXT_FACTOR);
    for read in &bound.reads {
        let Some(relation) = scope.state.relations.get(&read.relation) else { return Ok(None) };
        bytes = bytes.saturating_add(relation.columns.len().saturating_mul(COLUMN_BYTES));
        match &relation.kind {
            // A view reads what else is read.
            RelationKind::View(view) => {
                bytes = bytes.saturating_add(length(&view.query).saturating_mul(TEXT_FACTOR));
            }
            RelationKind::Table(_)
                if read.newest && version(scope, read).await? == read.version =>
            {
                let snapshot = scope.snapshot(relation, None).await?;
                bytes = bytes.saturating_add(snapshot.memory_bytes());
                bytes = bytes.saturating_add(rules_bytes(relation).saturating_mul(TEXT_FACTOR));
            }
            RelationKind::Table(_) => return Ok(None),
        }
    }
    let Some(room) = scope.shared.plans.room(bytes) else { return Ok(None) };
    Ok(Some(Kept {
        credential: Arc::clone(&scope.credential),
        settings: scope.settings.clone(),
        state: Arc::clone(scope.state.meaning()),
        latest: Arc::clone(scope.latest.meaning()),
        parameters: parameters.to_vec(),
        plan: bound.plan.clone(),
        reads: bound.reads.clone(),
        names: bound.names.clone(),
        found: scope.facts.found(),
        _room: room,
    }))
}
