//! Who may make whom a member of which role.
//!
//! What it guarantees: memberships have no cycles; whoever manages accounts cannot give itself,
//! nor a role it belongs to, membership in a role that owns or reads data (`KH014`), on any path
//! of memberships; nor can it free itself, or such a role, of row policies.
//! What it does not: two people who manage accounts can still help each other; the ledger shows it.

use std::collections::BTreeSet;

use super::{KHO_ADMIN, Principal};
use crate::error::{Error, Kind, Result};
use crate::state::{MembershipOption, Oid, PUBLIC, State};

/// Whether `who` may give and take away membership in `role`.
pub fn may_administer(state: &State, who: &Principal, role: Oid) -> bool {
    let admin_option = |oid: &Oid| {
        let member_of = state.roles.get(oid).map(|it| &it.member_of);
        member_of.and_then(|it| it.get(&role)) == Some(&MembershipOption::Admin)
    };
    who.is(KHO_ADMIN) || who.effective().iter().any(admin_option)
}

/// Whether `granter` may make `member` a member of `role`.
pub fn membership_allowed(
    state: &State,
    granter: &Principal,
    role: Oid,
    member: Oid,
) -> Result<()> {
    let (role_name, member_name) = (name(state, role)?, name(state, member)?);
    if !may_administer(state, granter, role) {
        let message = format!("must have admin option on role \"{role_name}\"");
        return Err(Error::new(Kind::InsufficientPrivilege, message));
    }
    let becomes = Principal::of(state, role);
    if becomes.is(member) {
        let message = format!("role \"{role_name}\" is a member of role \"{member_name}\"");
        return Err(Error::new(Kind::InvalidGrantOperation, message));
    }
    if granter.is(KHO_ADMIN) && granter.is(member) && reaches_data(state, &becomes) {
        let message = format!("role \"{role_name}\" owns or reads data");
        return Err(Error::new(Kind::SeparationOfDuties, message)
            .with_detail(
                "Who manages accounts cannot give itself, or a role it belongs to, the sight of \
                 data.",
            )
            .with_hint("Let the owner of the data grant what is needed."));
    }
    Ok(())
}

/// Whether `granter` may let `role` pass row policies by (`BYPASSRLS`); `state` is the one after.
pub fn bypass_allowed(state: &State, granter: Oid, role: Oid) -> Result<()> {
    if !Principal::of(state, granter).is(role) {
        return Ok(());
    }
    let message =
        format!("role \"{}\" cannot be freed of row policies by itself", name(state, role)?);
    Err(Error::new(Kind::SeparationOfDuties, message)
        .with_detail(
            "Who manages accounts cannot give BYPASSRLS to itself, or to a role it belongs to.",
        )
        .with_hint("Let another member of kho_admin do it."))
}

/// Whether any of these roles owns a schema or a relation, holds any right on a relation or on a
/// column of one, or passes row policies by. What everyone holds through `PUBLIC` does not count.
pub fn reaches_data(state: &State, who: &Principal) -> bool {
    let roles: BTreeSet<Oid> =
        who.effective().iter().copied().filter(|role| *role != PUBLIC).collect();
    let bypasses = |role: &Oid| state.roles.get(role).is_some_and(|role| role.bypass_rls);
    roles.iter().any(bypasses)
        || state.schemas.values().any(|schema| roles.contains(&schema.owner))
        || state.relations.values().any(|relation| {
            roles.contains(&relation.owner)
                || relation.grants.iter().any(|grant| roles.contains(&grant.grantee))
        })
}

fn name(state: &State, role: Oid) -> Result<&str> {
    let found = state.roles.get(&role).ok_or_else(|| {
        Error::new(Kind::UndefinedObject, format!("role with id {role} does not exist"))
    })?;
    Ok(&found.name)
}
