//! `GRANT role TO role` and `REVOKE role FROM role`.
//!
//! What it guarantees: the rules of `kho_catalog::privilege` on memberships hold after each single
//! step, so that no order of names in one statement gets around them.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{Principal, may_administer, membership_allowed};
use kho_catalog::state::{MembershipOption, Oid, Role};

use super::super::{Context, Planned, name, notice, warning};
use super::Draft;
use crate::parse::Membership;

pub(super) const MEMBER: MembershipOption = MembershipOption::Member;
pub(super) const ADMIN: MembershipOption = MembershipOption::Admin;

/// A whole `GRANT` or `REVOKE` of membership.
pub(crate) fn membership(ctx: &mut Context<'_>, statement: &Membership) -> Result<Planned> {
    let mut planned = Planned::new(if statement.revoke { "REVOKE ROLE" } else { "GRANT ROLE" });
    let mut draft = Draft::new(ctx.state);
    for role in &statement.roles {
        let role = name::find_role(ctx, role)?;
        for member in &statement.members {
            let member = name::find_role(ctx, member)?;
            let pair = (role.oid, member.oid);
            let held = draft.role(member.oid)?.member_of.get(&role.oid).copied();
            if statement.revoke {
                let lost = leave(ctx.who, &mut draft, pair, statement.admin)?;
                if !lost && held.is_none() {
                    let message = format!(
                        "role \"{}\" is not a member of role \"{}\"",
                        member.name, role.name
                    );
                    planned.notices.push(warning("01000", message));
                }
                continue;
            }
            let wanted = if statement.admin { ADMIN } else { MEMBER };
            if !join(ctx.who, &mut draft, role.oid, member.oid, wanted)? {
                let message = format!(
                    "role \"{}\" is already a member of role \"{}\"",
                    member.name, role.name
                );
                planned.notices.push(notice(message));
            }
        }
    }
    planned.changes = draft.finish(ctx.state)?;
    Ok(planned)
}

/// Makes `member` a member of `role`; says whether that is new.
pub(super) fn join(
    who: &Principal,
    draft: &mut Draft,
    role: Oid,
    member: Oid,
    option: MembershipOption,
) -> Result<bool> {
    membership_allowed(&draft.state, who, role, member)?;
    if name::is_built_in(member) {
        // Whoever is given a built-in role must get that and nothing more.
        let name = &draft.role(member)?.name;
        let message = format!("built-in role \"{name}\" cannot be a member of another role");
        return Err(Error::new(Kind::InvalidGrantOperation, message));
    }
    let mut changed = Role::clone(draft.role(member)?);
    let held = changed.member_of.get(&role).copied();
    if held == Some(ADMIN) || held == Some(option) {
        return Ok(false);
    }
    changed.member_of.insert(role, option);
    draft.put(changed);
    Ok(true)
}

/// Takes a membership away, or only its admin option; says whether there was something to take.
fn leave(
    who: &Principal,
    draft: &mut Draft,
    (role, member): (Oid, Oid),
    only_admin: bool,
) -> Result<bool> {
    if !may_administer(&draft.state, who, role) {
        let name = &draft.role(role)?.name;
        let message = format!("must have admin option on role \"{name}\"");
        return Err(Error::new(Kind::InsufficientPrivilege, message));
    }
    let mut changed = Role::clone(draft.role(member)?);
    let taken = match changed.member_of.get(&role).copied() {
        Some(ADMIN) if only_admin => changed.member_of.insert(role, MEMBER).is_some(),
        Some(_) if !only_admin => changed.member_of.remove(&role).is_some(),
        _ => false,
    };
    if taken {
        draft.put(changed);
    }
    Ok(taken)
}
