//! Which limits hold for a role: one pure function over a state of the catalog.
//!
//! What it guarantees: the limits of the role and of every role that it belongs to all hold, so the
//! tightest of each name counts; owners and `kho_admin` have no exemption. A limit of a group is one
//! of each of its members: it is not shared out among them.
//! What it does not: it counts nothing. It remembers nothing: a change holds for whoever asks again
//! with the newest state.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::privilege::Principal;
use crate::state::{LimitName, Oid, State};

/// The limits that hold for one role, the tightest of each name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits(BTreeMap<LimitName, Limit>);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub name: LimitName,
    pub value: u64,
    /// For which role it was set.
    pub role: Oid,
}

/// What holds for `who`.
pub fn of(state: &State, who: &Principal) -> Limits {
    let mut tightest: BTreeMap<LimitName, Limit> = BTreeMap::new();
    for role in who.effective() {
        let Some(limits) = state.access.limits.get(role) else { continue };
        for (name, value) in &limits.values {
            let limit = Limit { name: *name, value: *value, role: *role };
            let known = tightest.entry(*name).or_insert(limit);
            // One's own limit is named where another is as tight.
            if (limit.value, limit.role != who.role()) < (known.value, known.role != who.role()) {
                *known = limit;
            }
        }
    }
    Limits(tightest)
}

/// The same for the role of this id; most warehouses have no limits, and then nothing is looked up.
pub fn of_role(state: &State, role: Oid) -> Limits {
    match state.access.limits.is_empty() {
        true => Limits::default(),
        false => of(state, &Principal::of(state, role)),
    }
}

impl Limits {
    pub fn get(&self, name: LimitName) -> Option<Limit> {
        self.0.get(&name).copied()
    }
}

impl Limit {
    /// As a message names it: `limit rows_per_day of role "clerk"`.
    pub fn shown(&self, state: &State) -> String {
        let role = state.roles.get(&self.role).map_or("?", |role| &role.name);
        format!("limit {} of role \"{role}\"", self.name.name())
    }
}
