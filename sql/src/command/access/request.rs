//! `kho.request_access`, `kho.withdraw_access`, `kho.approve_access`, `kho.refuse_access`.
//!
//! What it guarantees: a request is taken in the same words whether or not there is such a dataset,
//! so asking tells nothing. The dataset's owner answers, once, and never for itself, by membership
//! neither. The rights, the row policy and the agreement of an approval are one commit, and name the
//! request.

use kho_catalog::agreement::third_parties;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::Principal;
use kho_catalog::state::{
    AccessChange, Agreement, Answer, Change, Oid, Quota, Relation, Request, Verdict,
};

use super::agreement::owned;
use super::tied::{Rows, Wanted, bring, columns, order_number};
use super::{called, invalid, said};
use crate::command::{Context, Planned, name, options};
use crate::parse;

/// Open requests of one role: they are kept until they are answered.
const OPEN_MAX: usize = 100;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub dataset: String,
    /// Names separated by commas; `None` is all.
    pub columns: Option<String>,
    pub row_predicate: Option<String>,
    pub purposes: String,
    pub until_ms: i64,
    pub quota: Quota,
    pub basis: String,
    pub order_number: Option<String>,
}

pub(crate) fn request_access(ctx: &mut Context<'_>, asked: &Asked) -> Result<Planned> {
    let named = name::qualified(&parse::relation_name(&asked.dataset)?)?;
    // Without one it would be looked for in schemas that are there for this role.
    let Some(schema) = &named.schema else {
        return Err(invalid("the dataset is named with its schema"));
    };
    if !third_parties(ctx.state, ctx.who).is_empty() {
        let message = "what a third party may use is agreed with whom it works for";
        return Err(Error::unsupported(message).with_hint("Ask the owner for kho.grant_agreement."));
    }
    let purposes = options::purposes(&asked.purposes, &ctx.state.access.purposes)?;
    if purposes.is_empty() {
        return Err(invalid("a request is for one purpose at least"));
    }
    if asked.until_ms <= ctx.now_ms {
        return Err(invalid("what is asked for ends in the past"));
    }
    let columns = columns(asked.columns.as_deref().unwrap_or_default())?;
    let order_number = order_number(ctx, &purposes, asked.order_number.as_deref())?;
    if let Some(predicate) = &asked.row_predicate {
        parse::expression(said(predicate, "row_predicate")?)?;
    }
    let requester = ctx.who.role();
    let open = |it: &&Request| it.requester == requester && it.answer.is_none();
    if ctx.state.access.requests.values().map(AsRef::as_ref).filter(open).count() >= OPEN_MAX {
        let message = "this role has too many open requests";
        return Err(Error::new(Kind::ProgramLimitExceeded, message)
            .with_hint("kho.withdraw_access takes one back."));
    }
    let basis = (ctx.text)(said(&asked.basis, "basis")?);
    let relation = ctx.state.schema(schema).and_then(|it| ctx.state.relation(it.oid, &named.name));
    let relation = relation.filter(|it| it.table().is_some()).map(|it| it.oid);
    Ok(called(AccessChange::PutRequest(Box::new(Request {
        oid: ctx.state.new_oid(0),
        requester,
        dataset: named.to_string(),
        relation,
        columns,
        row_predicate: asked.row_predicate.as_ref().map(|it| (ctx.text)(it)),
        purposes,
        until_ms: asked.until_ms,
        quota: asked.quota,
        basis,
        order_number,
        requested_ms: ctx.now_ms,
        answer: None,
    }))))
}

pub(crate) fn withdraw_access(ctx: &Context<'_>, id: i64) -> Result<Planned> {
    let request = seen(ctx, id)?;
    if request.requester != ctx.who.role() {
        let message = format!("request {id} is another role's");
        return Err(Error::new(Kind::InsufficientPrivilege, message));
    }
    answered(ctx, request, Verdict::Withdrawn)
}

pub(crate) fn refuse_access(
    ctx: &mut Context<'_>,
    id: i64,
    reason: &str,
    legal_basis: &str,
) -> Result<Planned> {
    let request = to_answer(ctx, id)?;
    let reason = (ctx.text)(said(reason, "reason")?);
    let legal_basis = (ctx.text)(said(legal_basis, "legal_basis")?);
    answered(ctx, request, Verdict::Refused { reason, legal_basis })
}

/// The request that `id` names and what it is about, for its owner, who is not its requester.
///
/// # Errors
/// `42704` for one that is not there for this role, `42501` for one of another's dataset, `KH014`
/// for an own one.
pub(crate) fn answerable<'a>(ctx: &Context<'a>, id: i64) -> Result<(&'a Request, &'a Relation)> {
    let request = to_answer(ctx, id)?;
    let relation = request.relation.and_then(|oid| ctx.state.relations.get(&oid));
    let relation = relation.ok_or_else(|| missing(id))?;
    Ok((request, relation))
}

/// `quota` is what the owner gives instead of what was asked for.
pub(crate) fn approve_access(
    ctx: &mut Context<'_>,
    id: i64,
    rows: &Rows,
    quota: Quota,
) -> Result<Planned> {
    let (request, relation) = answerable(ctx, id)?;
    refuse_answered(request)?;
    let table = relation.table().ok_or_else(|| missing(id))?;
    let allowed = &table.governance.allowed_purposes;
    let asked = &request.purposes;
    if let Some(code) = asked.iter().find(|it| !allowed.is_empty() && !allowed.contains(*it)) {
        let message =
            format!("relation \"{}\" does not allow the purpose \"{code}\"", relation.name);
        return Err(invalid(message).with_hint("Refuse the request, or allow the purpose."));
    }
    if request.until_ms <= ctx.now_ms {
        return Err(invalid(format!("what request {id} asks for has come to its end")));
    }
    // Ids are given in the order of the changes.
    let (agreement_oid, policy_oid) = (ctx.state.new_oid(0), ctx.state.new_oid(1));
    let wanted = Wanted {
        role: request.requester,
        columns: &request.columns,
        rows,
        policy: format!("request_{id}"),
        request: Some(request.oid),
    };
    let (tied, mut changes) = bring(ctx, relation, &wanted, policy_oid)?;
    let agreement = Agreement {
        oid: agreement_oid,
        relation: relation.oid,
        dataset: request.dataset.clone(),
        role: request.requester,
        third_party: None,
        purposes: request.purposes.clone(),
        valid_from_ms: ctx.now_ms,
        valid_until_ms: request.until_ms,
        quota: answered_quota(request.quota, quota)?,
        basis: request.basis.clone(),
        order_number: request.order_number.clone(),
        granted_by: ctx.who.role(),
        granted_ms: ctx.now_ms,
        ended: None,
        tied: Some(tied),
    };
    changes.insert(0, Change::Access(AccessChange::PutAgreement(Box::new(agreement))));
    let mut planned = answered(ctx, request, Verdict::Approved(agreement_oid))?;
    planned.changes.splice(0..0, changes);
    Ok(planned)
}

/// What was asked for, or less where the owner says so.
fn answered_quota(asked: Quota, given: Quota) -> Result<Quota> {
    let one = |asked: Option<u64>, given: Option<u64>, name: &str| match (asked, given) {
        (Some(asked), Some(given)) if given > asked => {
            Err(invalid(format!("{name} would be more than the {asked} that were asked for")))
        }
        (asked, given) => Ok(given.or(asked)),
    };
    Ok(Quota {
        rows_per_day: one(asked.rows_per_day, given.rows_per_day, "rows_per_day")?,
        bytes_per_day: one(asked.bytes_per_day, given.bytes_per_day, "bytes_per_day")?,
    })
}

/// An open request on a dataset of the principal's, who did not make it.
fn to_answer<'a>(ctx: &Context<'a>, id: i64) -> Result<&'a Request> {
    let request = seen(ctx, id)?;
    let (role, requester) = (ctx.who.role(), Principal::of(ctx.state, request.requester));
    if ctx.who.is(request.requester) || requester.is(role) {
        let message = format!("request {id} cannot be answered by the role that made it");
        return Err(Error::new(Kind::SeparationOfDuties, message)
            .with_detail("Nor by one that belongs to it, or that it belongs to.")
            .with_hint("Ask another member of the owner's role."));
    }
    owned(ctx, request.relation.ok_or_else(|| missing(id))?)?;
    Ok(request)
}

/// The request of that id, if it is there for the principal.
fn seen<'a>(ctx: &Context<'a>, id: i64) -> Result<&'a Request> {
    let request = Oid::try_from(id).ok().and_then(|id| ctx.state.access.requests.get(&id));
    let request = request.filter(|it| concerns(ctx, it));
    request.map(AsRef::as_ref).ok_or_else(|| missing(id))
}

fn concerns(ctx: &Context<'_>, request: &Request) -> bool {
    let relation = request.relation.and_then(|oid| ctx.state.relations.get(&oid));
    ctx.who.is(request.requester) || relation.is_some_and(|it| ctx.who.is(it.owner))
}

fn missing(id: i64) -> Error {
    Error::new(Kind::UndefinedObject, format!("request {id} does not exist"))
        .with_hint("kho.access_requests shows those that concern you.")
}

fn refuse_answered(request: &Request) -> Result<()> {
    if request.answer.is_none() {
        return Ok(());
    }
    let message = format!("request {} is {} already", request.oid, request.standing());
    Err(Error::new(Kind::NotInPrerequisiteState, message))
}

/// The request with its answer, of which there is one.
fn answered(ctx: &Context<'_>, request: &Request, verdict: Verdict) -> Result<Planned> {
    refuse_answered(request)?;
    let answer = Answer { at_ms: ctx.now_ms, by: ctx.who.role(), verdict };
    let request = Request { answer: Some(answer), ..request.clone() };
    Ok(called(AccessChange::PutRequest(Box::new(request))))
}
