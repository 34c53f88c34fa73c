//! What a session may do less than its role: only read, only some datasets, only for some purposes.
//!
//! What it guarantees: it takes away and gives nothing. A dataset that is not among those named does
//! not exist; with datasets named, nothing that concerns the whole warehouse is done either, and
//! none of the built-in roles is acted with.
//! What it does not: a view that is named may read what is not. It is what its owner made of that.
//! On failure: `42501` for a change that the session may not make, with a hint that says why.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Action, Decision, Principal, RelationAction, SchemaAction};
use crate::error::{Error, Kind, Result};
use crate::state::{AccessChange, Change, Oid, Relation, State};

/// The bounds of a session. One without any bound is still not one of who knows the password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Within {
    pub reach: Reach,
    /// `None` is all.
    pub datasets: Option<Vec<Covered>>,
    /// `None` is all; a session that states none states none that is not among them.
    pub purposes: Option<BTreeSet<String>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    Read,
    #[default]
    Write,
}

/// What a bound names, by its id: what is made anew under a name is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covered {
    Relation(Oid),
    /// Everything in it, by now and later.
    Schema(Oid),
}

impl Covered {
    pub fn oid_mut(&mut self) -> &mut Oid {
        match self {
            Covered::Relation(oid) | Covered::Schema(oid) => oid,
        }
    }
}

impl Principal {
    /// The same, with no more than `bounds` leave it.
    #[must_use]
    pub fn within(self, bounds: Option<&Arc<Within>>) -> Principal {
        Principal { within: bounds.cloned(), ..self }
    }

    /// Whether it belongs to a built-in role and may act as such: not where it is bound to some
    /// datasets. (Policies for that role hold all the same: [`Principal::is`].)
    pub fn serves(&self, role: Oid) -> bool {
        self.is(role) && self.within.as_ref().is_none_or(|within| within.datasets.is_none())
    }

    /// Whether it may know of `relation`, where its session is bound to some datasets. Of one that is
    /// gone it knows nothing then.
    pub fn may_know(&self, relation: Option<&Relation>) -> bool {
        let bounds = self.within.as_ref().filter(|within| within.datasets.is_some());
        bounds.is_none_or(|within| relation.is_some_and(|relation| within.covers(relation)))
    }

    /// Whether its session is bound to no datasets.
    pub fn may_know_all(&self) -> bool {
        self.within.as_ref().is_none_or(|within| within.datasets.is_none())
    }

    /// Whether `relation` is of a role that it acts with, and one that it may know of.
    pub fn owns(&self, relation: &Relation) -> bool {
        self.is(relation.owner) && self.may_know(Some(relation))
    }

    /// What leaves it less than its role; `None` where nothing does.
    pub fn bounds(&self) -> Option<&Arc<Within>> {
        self.within.as_ref()
    }

    /// # Errors
    /// `42501` where it may only read.
    pub fn refuse_change(&self) -> Result<()> {
        self.within.as_ref().map_or(Ok(()), |within| within.refuse_change())
    }

    /// # Errors
    /// `42501` for changes beyond the bounds.
    pub fn refuse_changes(&self, state: &State, changes: &[Change]) -> Result<()> {
        let Some(within) = &self.within else { return Ok(()) };
        if changes.is_empty() {
            return Ok(());
        }
        self.refuse_change()?;
        match changes.iter().all(|change| within.covers_change(state, change)) {
            true => Ok(()),
            false => {
                let message = "permission denied to change more than some datasets";
                Err(Error::new(Kind::InsufficientPrivilege, message).with_hint(HINT))
            }
        }
    }
}

/// What a refusal adds that the role alone would not get.
pub(super) const HINT: &str =
    "The session has less than its role: it came by a token with a scope.";

/// The decision within the bounds.
pub(super) fn narrowed(
    state: &State,
    who: &Principal,
    action: Action,
    decision: Decision,
) -> Decision {
    match &who.within {
        Some(within) if decision != Decision::Hidden => within.narrowed(state, action, decision),
        _ => decision,
    }
}

impl Within {
    /// # Errors
    /// `42501` where one may only read.
    pub fn refuse_change(&self) -> Result<()> {
        match self.reach {
            Reach::Write => Ok(()),
            Reach::Read => {
                let message = "permission denied to change anything";
                Err(Error::new(Kind::InsufficientPrivilege, message).with_hint(HINT))
            }
        }
    }

    fn narrowed(&self, state: &State, action: Action, decision: Decision) -> Decision {
        let changes = match action {
            Action::Warehouse(_) => true,
            Action::Schema(_, action) => {
                matches!(action, SchemaAction::CreateIn | SchemaAction::Own)
            }
            Action::Relation(_, action) => !matches!(
                action,
                RelationAction::See | RelationAction::Select | RelationAction::SelectAny
            ),
            Action::Column(_, _, action) => action != super::ColumnAction::Select,
        };
        let Some(datasets) = &self.datasets else {
            return if changes && self.reach == Reach::Read { Decision::Denied } else { decision };
        };
        let (known, whole) = match action {
            Action::Warehouse(_) => (true, false),
            Action::Schema(oid, _) => {
                let whole = datasets.contains(&Covered::Schema(oid));
                (whole || self.names_one_of(state, oid), whole)
            }
            Action::Relation(oid, _) | Action::Column(oid, _, _) => {
                let covered = state.relations.get(&oid).is_some_and(|it| self.covers(it));
                (covered, covered)
            }
        };
        match (known, changes) {
            (false, _) => Decision::Hidden,
            (true, true) if !whole || self.reach == Reach::Read => Decision::Denied,
            (true, _) => decision,
        }
    }

    /// Whether a dataset or a view is among those named.
    pub fn covers(&self, relation: &Relation) -> bool {
        self.datasets.as_ref().is_none_or(|datasets| {
            datasets.contains(&Covered::Relation(relation.oid))
                || datasets.contains(&Covered::Schema(relation.schema))
        })
    }

    fn names_one_of(&self, state: &State, schema: Oid) -> bool {
        let datasets = self.datasets.iter().flatten();
        datasets.into_iter().any(|it| match it {
            Covered::Relation(oid) => {
                state.relations.get(oid).is_some_and(|relation| relation.schema == schema)
            }
            Covered::Schema(oid) => *oid == schema,
        })
    }

    fn covers_change(&self, state: &State, change: &Change) -> bool {
        let Some(datasets) = &self.datasets else { return true };
        let there = |oid: &Oid| state.relations.get(oid).is_some_and(|it| self.covers(it));
        match change {
            // As it is and as it will be: it can be moved.
            Change::PutRelation(relation) => {
                let known = state.relations.get(&relation.oid);
                self.covers(relation) && known.is_none_or(|it| self.covers(it))
            }
            Change::RemoveRelation(oid) => there(oid),
            Change::PutSchema(schema) => datasets.contains(&Covered::Schema(schema.oid)),
            Change::RemoveSchema(oid) => datasets.contains(&Covered::Schema(*oid)),
            Change::Access(AccessChange::PutAgreement(agreement)) => there(&agreement.relation),
            Change::Access(AccessChange::PutRequest(request)) => {
                request.relation.as_ref().is_some_and(there)
            }
            Change::Announce(reshaping) => there(&reshaping.relation),
            Change::Withdraw(_) => true,
            Change::PutRole(_)
            | Change::RemoveRole(_)
            | Change::PutTag(_)
            | Change::RemoveTag(_)
            | Change::Access(_)
            | Change::PutLedgerKey(_)
            | Change::RotateLedgerKey(_)
            | Change::PutAnchor(_) => false,
        }
    }
}
