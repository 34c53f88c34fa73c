//! Rights on columns.
//!
//! What it guarantees: a right on the whole relation is one on each of its columns; a right on a
//! column is bound to the column's id, so that a name given to another column takes nothing along.

use super::{Action, ColumnAction, Decision, Principal, Reason, RelationAction};
use crate::state::{Oid, Privilege, Relation, State};

/// The rights that can be held on a column.
pub const COLUMN_PRIVILEGES: &[Privilege] =
    &[Privilege::Select, Privilege::Insert, Privilege::Update];

/// Whether `who` holds `privilege` on the relation `oid` or on any column of it.
pub fn has_any_column_privilege(
    state: &State,
    who: &Principal,
    oid: Oid,
    privilege: Privilege,
) -> bool {
    let action = match privilege {
        Privilege::Select => RelationAction::SelectAny,
        Privilege::Insert => RelationAction::InsertAny,
        Privilege::Update => RelationAction::UpdateAny,
        Privilege::Delete | Privilege::Truncate | Privilege::Usage | Privilege::Create => {
            return false;
        }
    };
    matches!(super::decide(state, who, Action::Relation(oid, action)), Decision::Allowed(_))
}

/// The ids of the columns of `relation` that `who` may read.
pub fn readable_columns<'a>(
    state: &'a State,
    who: &'a Principal,
    relation: &'a Relation,
) -> impl Iterator<Item = u32> + 'a {
    let reads = |id: &u32| {
        let decided = decide(state, who, relation.oid, *id, ColumnAction::Select);
        matches!(decided, Decision::Allowed(_))
    };
    relation.columns.iter().map(|column| column.id).filter(reads)
}

pub(super) fn decide(
    state: &State,
    who: &Principal,
    oid: Oid,
    column: u32,
    action: ColumnAction,
) -> Decision {
    let (privilege, whole) = match action {
        ColumnAction::Select => (Privilege::Select, RelationAction::Select),
        ColumnAction::Insert => (Privilege::Insert, RelationAction::Insert),
        ColumnAction::Update => (Privilege::Update, RelationAction::Update),
    };
    let Some(relation) = state.relations.get(&oid) else { return Decision::Hidden };
    match super::decide(state, who, Action::Relation(oid, whole)) {
        Decision::Denied => match granted(who, relation, privilege, |id| id == column) {
            Some(reason) => Decision::Allowed(reason),
            None => Decision::Denied,
        },
        other => other,
    }
}

/// By which grant `who` holds `privilege` on any column of `relation`.
pub(super) fn granted_any(
    who: &Principal,
    relation: &Relation,
    privilege: Privilege,
) -> Option<Reason> {
    granted(who, relation, privilege, |_| true)
}

/// By which grant `who` holds any right on any column of `relation`.
pub(super) fn granted_some(who: &Principal, relation: &Relation) -> Option<Reason> {
    COLUMN_PRIVILEGES.iter().find_map(|privilege| granted_any(who, relation, *privilege))
}

fn granted(
    who: &Principal,
    relation: &Relation,
    privilege: Privilege,
    on: impl Fn(u32) -> bool,
) -> Option<Reason> {
    let is_on = |id: u32| on(id) && relation.column_by_id(id).is_some();
    let held = relation.grants.iter().find(|it| {
        it.privilege == privilege && it.column.is_some_and(is_on) && who.is(it.grantee)
    })?;
    Some(Reason::Grant(held.grantee))
}
