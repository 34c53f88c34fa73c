//! Whether a role may do anything, or anything may be done to a relation.
//!
//! What it guarantees: who belongs to a frozen role is frozen with it, and so is what comes through
//! the rights of one.
//! What it does not: it ends nothing; whoever runs something asks again while it runs.

use crate::error::{Error, Kind, Result};
use crate::privilege::Principal;
use crate::state::{Change, Oid, State};

/// # Errors
/// `28000` where the role, or one that it belongs to, is frozen.
pub fn refuse_frozen_role(state: &State, who: &Principal) -> Result<()> {
    let freezes = &state.access.freezes;
    let Some(role) = who.effective().iter().find(|role| freezes.contains_key(*role)) else {
        return Ok(());
    };
    let name = state.roles.get(role).map_or("?", |role| &role.name);
    Err(Error::new(Kind::InvalidAuthorization, format!("role \"{name}\" is frozen"))
        .with_hint("Ask a member of kho_admin, who can unfreeze it."))
}

/// # Errors
/// `55000` where the relation is frozen; to be asked of a relation that may be seen.
pub fn refuse_frozen_relation(state: &State, oid: Oid) -> Result<()> {
    if !state.access.freezes.contains_key(&oid) {
        return Ok(());
    }
    let name = state.relations.get(&oid).map_or("?", |relation| &relation.name);
    Err(Error::new(Kind::NotInPrerequisiteState, format!("relation \"{name}\" is frozen"))
        .with_detail("It can be neither read nor written nor changed.")
        .with_hint("Ask a member of kho_admin, who can unfreeze it."))
}

/// Refuses changes of relations that are frozen in `state`.
///
/// # Errors
/// `55000`.
pub fn refuse_frozen_changes(state: &State, changes: &[Change]) -> Result<()> {
    if state.access.freezes.is_empty() {
        return Ok(());
    }
    let changed = changes.iter().filter_map(|change| match change {
        Change::PutRelation(relation) => Some(relation.oid),
        Change::RemoveRelation(oid) => Some(*oid),
        _ => None,
    });
    changed.into_iter().try_for_each(|oid| refuse_frozen_relation(state, oid))
}
