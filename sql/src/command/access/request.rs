//! `kho.request_access`, `kho.withdraw_access`, `kho.approve_access`, `kho.refuse_access`.
//!
//! What it guarantees: a request is taken in the same words whether or not there is such a dataset,
//! so asking tells nothing. The dataset's owner answers, once, and never for itself, by membership
//! neither. The rights, the row policy and the agreement of an approval are one commit, and name the
//! request.
//! What it does not: it does not turn row security on, which would take rows from others.

use std::collections::BTreeSet;

use kho_catalog::agreement::third_parties;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::policy::{Policy, PolicyCommand};
use kho_catalog::privilege::{self, Action, Principal, SchemaAction, grantor_for};
use kho_catalog::state::{
    AccessChange, Agreement, Answer, Change, Grant, Oid, Privilege, Quota, Relation, RelationKind,
    Request, Schema, Tied, Verdict,
};

use super::agreement::owned;
use super::{called, invalid, said};
use crate::command::relation::same;
use crate::command::{Context, Planned, name, options};
use crate::parse;

/// Open requests of one role: they are kept until they are answered.
const OPEN_MAX: usize = 100;
/// Columns that one request can name.
const COLUMNS_MAX: usize = 1600;

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
}

/// The rows that were asked for, bound to the dataset, and what the binding reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub using: Option<String>,
    pub depends_on: Vec<Oid>,
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
    let mut changed = Relation::clone(relation);
    let RelationKind::Table(table) = &mut changed.kind else { return Err(missing(id)) };
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
    if request.row_predicate.is_some() && !table.row_security.enabled {
        let message = format!("row security is not enabled for table \"{}\"", relation.name);
        return Err(Error::new(Kind::NotInPrerequisiteState, message)
            .with_detail("Without it the rows that are asked for would not be all that is seen.")
            .with_hint("ALTER TABLE … ENABLE ROW LEVEL SECURITY, with policies for the others."));
    }
    // Ids are given in the order of the changes.
    let (agreement_oid, policy_oid) = (ctx.state.new_oid(0), ctx.state.new_oid(1));
    let policy = table.row_security.enabled.then_some(policy_oid);
    if let Some(oid) = policy {
        let using = rows.using.clone().unwrap_or_else(|| "true".to_owned());
        table.policies.push(Policy {
            oid,
            name: format!("request_{id}"),
            permissive: true,
            command: PolicyCommand::Select,
            roles: vec![request.requester],
            using: Some((ctx.text)(&using)),
            with_check: None,
            depends_on: rows.depends_on.clone(),
        });
        table.policies.sort_by(|one, other| one.name.cmp(&other.name));
    }
    let grants = new_grants(relation, request)?;
    changed.grants.extend(grants.iter().cloned());
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
        granted_by: ctx.who.role(),
        granted_ms: ctx.now_ms,
        ended: None,
        request: Some(Tied { request: request.oid, grants, policy }),
    };
    let mut planned = answered(ctx, request, Verdict::Approved(agreement_oid))?;
    let usage = usage(ctx, relation, request.requester)?;
    planned.changes.splice(
        0..0,
        [
            Change::Access(AccessChange::PutAgreement(Box::new(agreement))),
            Change::PutRelation(Box::new(changed)),
        ],
    );
    planned.changes.extend(usage.map(Change::PutSchema));
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

/// The rights that a request asks for and that its role does not have from the owner.
fn new_grants(relation: &Relation, request: &Request) -> Result<Vec<Grant>> {
    let grant = |column: Option<u32>| Grant {
        grantee: request.requester,
        grantor: relation.owner,
        privilege: Privilege::Select,
        grantable: false,
        column,
    };
    let id = |name: &String| match relation.column(name) {
        Some(column) => Ok(grant(Some(column.id))),
        None => Err(Error::new(
            Kind::UndefinedColumn,
            format!("column \"{name}\" of relation \"{}\" does not exist", relation.name),
        )),
    };
    let mut grants = match request.columns.as_slice() {
        [] => vec![grant(None)],
        columns => columns.iter().map(id).collect::<Result<Vec<_>>>()?,
    };
    grants.retain(|grant| !relation.grants.iter().any(|it| same(it, grant)));
    Ok(grants)
}

/// The schema with the right to reach what is in it, where the role lacks that.
fn usage(ctx: &Context<'_>, relation: &Relation, role: Oid) -> Result<Option<Schema>> {
    let reach = Action::Schema(relation.schema, SchemaAction::Use);
    let requester = Principal::of(ctx.state, role);
    if privilege::require(ctx.state, &requester, reach).is_ok() {
        return Ok(None);
    }
    let schema = ctx.state.schemas.get(&relation.schema);
    let schema = schema.ok_or_else(|| Error::internal("a relation's schema is not there"))?;
    let grantor = grantor_for(ctx.who, schema.owner, &schema.grants, Privilege::Usage, None);
    let grantor = grantor.ok_or_else(|| {
        let message = format!("permission denied for schema {}", schema.name);
        Error::new(Kind::InsufficientPrivilege, message).with_hint(
            "The role that asks cannot reach what is in the schema; its owner can GRANT USAGE.",
        )
    })?;
    let mut changed = Schema::clone(schema);
    let privilege = Privilege::Usage;
    changed.grants.push(Grant {
        grantee: role,
        grantor,
        privilege,
        grantable: false,
        column: None,
    });
    Ok(Some(changed))
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

/// Names separated by commas, folded as identifiers are.
fn columns(written: &str) -> Result<Vec<String>> {
    if written.trim().is_empty() || written.trim() == "*" {
        return Ok(Vec::new());
    }
    let mut names = BTreeSet::new();
    for part in written.split(',') {
        let parsed = name::parts(&parse::relation_name(part.trim())?)?;
        match parsed.as_slice() {
            [column] => names.insert(column.clone()),
            _ => return Err(invalid(format!("\"{part}\" is not a name of a column"))),
        };
    }
    match names.len() <= COLUMNS_MAX {
        true => Ok(names.into_iter().collect()),
        false => Err(Error::new(Kind::ProgramLimitExceeded, "a request names too many columns")),
    }
}
