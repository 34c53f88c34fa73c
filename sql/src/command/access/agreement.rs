//! `kho.grant_agreement`, `kho.end_agreement`, `kho.set_third_party`, `kho.unset_third_party`.
//!
//! What it guarantees: an agreement is for purposes that its dataset allows; it has a basis and an
//! end, and for a purpose that must be ordered the number of the order. Rights on columns and rows
//! can come with it, as with the approval of a request. One that has ended stays as it was.

use kho_catalog::agreement::{binds, third_parties};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{self, Action, Principal, RelationAction};
use kho_catalog::state::{AccessChange, Agreement, Ended, Oid, Quota, Relation, ThirdParty};

use super::tied::{Rows, Wanted, bring, columns, order_number, without};
use super::{called, invalid, require_admin, said};
use crate::command::depend::full_name;
use crate::command::{Context, Planned, name, options};

/// What an agreement is to say.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub relation: Oid,
    /// Its folder. In a block that makes the table, its id can be another one when that commits.
    pub folder: String,
    pub role: String,
    /// Codes, separated by commas.
    pub purposes: String,
    /// `None` is from now on.
    pub valid_from_ms: Option<i64>,
    pub valid_until_ms: i64,
    pub quota: Quota,
    pub basis: String,
    pub third_party: Option<String>,
    /// Of the order, where a purpose needs one.
    pub order_number: Option<String>,
    /// The access that comes with it; `None` where that is granted otherwise.
    pub access: Option<Access>,
}

/// Rights on columns, and rows.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// Names separated by commas; `None` is all.
    pub columns: Option<String>,
    pub rows: Rows,
}

pub(crate) fn grant_agreement(ctx: &mut Context<'_>, wish: &Wish) -> Result<Planned> {
    let relation = owned(ctx, id_of(ctx, wish))?;
    let Some(table) = relation.table() else {
        let message = format!("\"{}\" is not a table", relation.name);
        return Err(Error::new(Kind::WrongObjectType, message));
    };
    let purposes = options::purposes(&wish.purposes, &ctx.state.access.purposes)?;
    let allowed = &table.governance.allowed_purposes;
    if purposes.is_empty() {
        return Err(invalid("an agreement is for one purpose at least"));
    }
    if let Some(code) = purposes.iter().find(|it| !allowed.is_empty() && !allowed.contains(*it)) {
        let message =
            format!("relation \"{}\" does not allow the purpose \"{code}\"", relation.name);
        return Err(invalid(message).with_hint("ALTER TABLE … SET (allowed_purposes = …)."));
    }
    let valid_from_ms = wish.valid_from_ms.unwrap_or(ctx.now_ms);
    if wish.valid_until_ms <= valid_from_ms.max(ctx.now_ms) {
        return Err(invalid("an agreement ends after it begins, and not in the past"));
    }
    let role = name::find_role(ctx, &wish.role)?.oid;
    let third_party = match &wish.third_party {
        Some(party) => Some(third_party(ctx, party, role)?),
        None if third_parties(ctx.state, &Principal::of(ctx.state, role)).is_empty() => None,
        None => {
            return Err(invalid(format!("role \"{}\" is a third party's", wish.role))
                .with_hint("Name it as third_party, and as role the one that it works for."));
        }
    };
    let order_number = order_number(ctx, &purposes, wish.order_number.as_deref())?;
    // Ids are given in the order of the changes.
    let (oid, policy) = (ctx.state.new_oid(0), ctx.state.new_oid(1));
    let (tied, brought) = match &wish.access {
        None => (None, Vec::new()),
        Some(access) => {
            let wanted = Wanted {
                role: third_party.unwrap_or(role),
                columns: &columns(access.columns.as_deref().unwrap_or_default())?,
                rows: &access.rows,
                policy: format!("agreement_{oid}"),
                request: None,
            };
            let (tied, changes) = bring(ctx, relation, &wanted, policy)?;
            (Some(tied), changes)
        }
    };
    let basis = (ctx.text)(said(&wish.basis, "basis")?);
    let mut planned = called(AccessChange::PutAgreement(Box::new(Agreement {
        oid,
        relation: relation.oid,
        dataset: full_name(ctx.state, relation),
        role,
        third_party,
        purposes,
        valid_from_ms,
        valid_until_ms: wish.valid_until_ms,
        quota: wish.quota,
        basis,
        order_number,
        granted_by: ctx.who.role(),
        granted_ms: ctx.now_ms,
        ended: None,
        tied,
    })));
    planned.changes.extend(brought);
    Ok(planned)
}

pub(crate) fn end_agreement(ctx: &mut Context<'_>, id: i64, reason: &str) -> Result<Planned> {
    let missing = || {
        Error::new(Kind::UndefinedObject, format!("agreement {id} does not exist"))
            .with_hint("kho.agreements shows those that concern you.")
    };
    let agreement = Oid::try_from(id).ok().and_then(|id| ctx.state.access.agreements.get(&id));
    let agreement = agreement.ok_or_else(missing)?;
    owned(ctx, agreement.relation).map_err(|error| match binds(ctx.state, ctx.who, agreement) {
        true => error,
        false => missing(),
    })?;
    let standing = agreement.standing(ctx.now_ms);
    // What came with it is there until it is ended, also after its time.
    if standing == "ended" || (standing == "expired" && agreement.tied.is_none()) {
        let message = format!("agreement {id} has {standing} already");
        return Err(Error::new(Kind::NotInPrerequisiteState, message));
    }
    let mut ended = Agreement::clone(agreement);
    let reason = (ctx.text)(said(reason, "reason")?);
    ended.ended = Some(Ended { at_ms: ctx.now_ms, by: ctx.who.role(), reason });
    let mut planned = called(AccessChange::PutAgreement(Box::new(ended)));
    planned.changes.extend(without(ctx, agreement));
    Ok(planned)
}

/// From now on the role, and all that belong to it, read nothing without an agreement of their own.
pub(crate) fn set_third_party(ctx: &Context<'_>, role: &str, party: &str) -> Result<Planned> {
    require_admin(ctx, "say whose a role is")?;
    let found = name::find_role(ctx, role)?.oid;
    if name::is_built_in(found) {
        return Err(invalid(format!("role \"{role}\" is the warehouse's own")));
    }
    let party = said(party, "party")?.to_owned();
    Ok(called(AccessChange::PutThirdParty(ThirdParty { role: found, party })))
}

pub(crate) fn unset_third_party(ctx: &Context<'_>, role: &str) -> Result<Planned> {
    require_admin(ctx, "say whose a role is")?;
    let found = name::find_role(ctx, role)?.oid;
    if !ctx.state.access.third_parties.contains_key(&found) {
        let message = format!("role \"{role}\" is no third party's");
        return Err(Error::new(Kind::UndefinedObject, message));
    }
    let open = |it: &Agreement| it.ended.is_none() && it.valid_until_ms > ctx.now_ms;
    let names = |it: &Agreement| it.third_party == Some(found);
    if ctx.state.access.agreements.values().any(|it| names(it) && open(it)) {
        let message = format!("role \"{role}\" has agreements as a third party");
        return Err(Error::new(Kind::DependentObjects, message)
            .with_hint("The owners of the datasets end them with kho.end_agreement."));
    }
    Ok(called(AccessChange::RemoveThirdParty(found)))
}

/// The id of the dataset that is meant.
fn id_of(ctx: &Context<'_>, wish: &Wish) -> Oid {
    let is = |it: &Relation| it.table().is_some_and(|table| table.dataset == wish.folder);
    let known = ctx.state.relations.get(&wish.relation).filter(|it| is(it));
    let found = known.or_else(|| ctx.state.relations.values().find(|it| is(it)));
    found.map_or(wish.relation, |it| it.oid)
}

/// The role of a third party that works for `role`.
fn third_party(ctx: &Context<'_>, party: &str, role: Oid) -> Result<Oid> {
    let found = name::find_role(ctx, party)?.oid;
    if !ctx.state.access.third_parties.contains_key(&found) {
        return Err(invalid(format!("role \"{party}\" is no third party's"))
            .with_hint("A member of kho_admin says so with kho.set_third_party."));
    }
    if found == role {
        return Err(invalid("a third party works for another role, not for itself"));
    }
    Ok(found)
}

/// The relation of that id, if it is the principal's own.
pub(super) fn owned<'a>(ctx: &Context<'a>, oid: Oid) -> Result<&'a Relation> {
    let own = Action::Relation(oid, RelationAction::Own);
    privilege::require(ctx.state, ctx.who, own)?;
    let relation = ctx.state.relations.get(&oid);
    relation
        .map(AsRef::as_ref)
        .ok_or_else(|| Error::new(Kind::UndefinedTable, "the dataset was dropped meanwhile"))
}
