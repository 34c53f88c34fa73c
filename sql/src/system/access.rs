//! `kho.purposes`, `kho.agreements`, `kho.access_requests`, `kho.third_parties`, `kho.freezes`.
//!
//! What it guarantees: everyone sees the purposes; of agreements and requests one sees those that one
//! has or made, and those on datasets that one owns; of freezes and third parties, those of roles that one acts with,
//! and freezes of what one owns. `kho_auditor` sees all; `kho_admin` all freezes and third parties.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use kho_catalog::agreement::binds;
use kho_catalog::error::Result;
use kho_catalog::privilege::KHO_ADMIN;
use kho_catalog::state::{Agreement, Oid, Request, Verdict};
use kho_catalog::text::Text;

use super::columns::Columns;
use crate::command::depend::full_name;
use crate::scope::Scope;

/// `kho_auditor`: reads what was done, not what it was done to.
pub(super) const KHO_AUDITOR: Oid = 11;

pub(super) fn purposes(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    let purposes: Vec<_> = scope.state.access.purposes.0.values().collect();
    Columns::new(purposes.len())
        .text("code", purposes.iter().map(|it| Some(it.code.clone())))
        .text("name", purposes.iter().map(|it| Some(it.name.clone())))
        .boolean("needs_order", purposes.iter().map(|it| Some(it.needs_order)))
        .table()
}

pub(super) fn agreements(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    let seen = |it: &&Arc<Agreement>| sees(scope, it);
    let rows: Vec<_> = scope.state.access.agreements.values().filter(seen).collect();
    // It is counted where there is something to count against.
    let today = scope.shared.usage.today();
    let used: Vec<_> =
        (rows.iter()).map(|it| (!it.quota.is_none()).then(|| today.of_agreement(it.oid))).collect();
    drop(today);
    let used = || used.iter();
    let ended = || rows.iter().map(|it| it.ended.as_ref());
    Columns::new(rows.len())
        .number("id", rows.iter().map(|it| Some(i64::from(it.oid))))
        .text("dataset", rows.iter().map(|it| Some(dataset(scope, it.relation, &it.dataset))))
        .text("role", rows.iter().map(|it| Some(role(scope, it.role))))
        .text("third_party", rows.iter().map(|it| it.third_party.map(|of| role(scope, of))))
        .text(
            "purposes",
            rows.iter().map(|it| Some(it.purposes.iter().cloned().collect::<Vec<_>>().join(","))),
        )
        .time("valid_from", rows.iter().map(|it| Some(it.valid_from_ms)))
        .time("valid_until", rows.iter().map(|it| Some(it.valid_until_ms)))
        .number("rows_per_day", rows.iter().map(|it| number(it.quota.rows_per_day)))
        .number("bytes_per_day", rows.iter().map(|it| number(it.quota.bytes_per_day)))
        .number("rows_today", used().map(|it| number(it.map(|it| it.rows))))
        .number("bytes_today", used().map(|it| number(it.map(|it| it.bytes))))
        .text("basis", rows.iter().map(|it| words(&it.basis)))
        .text("state", rows.iter().map(|it| Some(it.standing(scope.now_ms).to_owned())))
        .text("granted_by", rows.iter().map(|it| Some(role(scope, it.granted_by))))
        .time("granted_at", rows.iter().map(|it| Some(it.granted_ms)))
        .text("ended_by", ended().map(|it| it.map(|it| role(scope, it.by))))
        .time("ended_at", ended().map(|it| it.map(|it| it.at_ms)))
        .text("end_reason", ended().map(|it| it.and_then(|it| words(&it.reason))))
        .number("request_id", rows.iter().map(|it| Some(i64::from(it.tied.as_ref()?.request?))))
        .text("order_number", rows.iter().map(|it| it.order_number.clone()))
        .table()
}

pub(super) fn access_requests(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    let (state, who) = (&scope.state, &scope.who);
    let relation = |it: &Request| it.relation.and_then(|oid| state.relations.get(&oid));
    let owns = |it: &Request| relation(it).is_some_and(|it| who.owns(it));
    let is_own = |it: &Request| {
        who.is(it.requester) && who.may_know(relation(it).map(|relation| relation.as_ref()))
    };
    let rows: Vec<_> = (state.access.requests.values())
        .filter(|it| is_own(it) || who.serves(KHO_AUDITOR) || owns(it))
        .collect();
    let answers = || rows.iter().map(|it| it.answer.as_ref());
    let refused = |of: fn(&Text, &Text) -> Option<String>| {
        answers().map(move |it| match &it?.verdict {
            Verdict::Refused { reason, legal_basis } => of(reason, legal_basis),
            _ => None,
        })
    };
    let policy = |it: &Request| {
        let agreement = state.access.agreements.get(&approved_by(it)?)?;
        let (table, policy) = (state.relations.get(&agreement.relation)?, &agreement.tied);
        let policy = policy.as_ref()?.policy?;
        let policies = &table.table()?.policies;
        policies.iter().find(|it| it.oid == policy).map(|it| it.name.clone())
    };
    Columns::new(rows.len())
        .number("id", rows.iter().map(|it| Some(i64::from(it.oid))))
        .text("dataset", rows.iter().map(|it| Some(it.dataset.clone())))
        .text("requester", rows.iter().map(|it| Some(role(scope, it.requester))))
        .text(
            "columns",
            rows.iter().map(|it| (!it.columns.is_empty()).then(|| it.columns.join(","))),
        )
        .text("row_predicate", rows.iter().map(|it| it.row_predicate.as_ref().and_then(words)))
        .text(
            "purposes",
            rows.iter().map(|it| Some(it.purposes.iter().cloned().collect::<Vec<_>>().join(","))),
        )
        .time("until", rows.iter().map(|it| Some(it.until_ms)))
        .number("rows_per_day", rows.iter().map(|it| number(it.quota.rows_per_day)))
        .number("bytes_per_day", rows.iter().map(|it| number(it.quota.bytes_per_day)))
        .text("basis", rows.iter().map(|it| words(&it.basis)))
        .time("requested_at", rows.iter().map(|it| Some(it.requested_ms)))
        .text("state", rows.iter().map(|it| Some(it.standing().to_owned())))
        .text("answered_by", answers().map(|it| it.map(|it| role(scope, it.by))))
        .time("answered_at", answers().map(|it| it.map(|it| it.at_ms)))
        .text("reason", refused(|reason, _| words(reason)))
        .text("legal_basis", refused(|_, legal_basis| words(legal_basis)))
        .number("agreement_id", rows.iter().map(|it| approved_by(it).map(i64::from)))
        .text("policy", rows.iter().map(|it| policy(it)))
        .text("order_number", rows.iter().map(|it| it.order_number.clone()))
        .table()
}

/// The agreement that answers a request.
fn approved_by(request: &Request) -> Option<Oid> {
    match request.answer.as_ref()?.verdict {
        Verdict::Approved(agreement) => Some(agreement),
        Verdict::Refused { .. } | Verdict::Withdrawn => None,
    }
}

pub(super) fn third_parties(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    let all = scope.who.serves(KHO_ADMIN) || scope.who.serves(KHO_AUDITOR);
    let rows: Vec<_> = (scope.state.access.third_parties.values())
        .filter(|it| all || scope.who.is(it.role))
        .collect();
    Columns::new(rows.len())
        .text("role", rows.iter().map(|it| Some(role(scope, it.role))))
        .text("party", rows.iter().map(|it| Some(it.party.clone())))
        .table()
}

pub(super) fn freezes(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    let (state, who) = (&scope.state, &scope.who);
    let all = who.serves(KHO_ADMIN) || who.serves(KHO_AUDITOR);
    let owns = |oid| state.relations.get(oid).is_some_and(|it| who.owns(it));
    let rows: Vec<_> =
        (state.access.freezes.values()).filter(|it| all || who.is(it.of) || owns(&it.of)).collect();
    let of_role = |oid: Oid| state.roles.get(&oid).map(|it| it.name.clone());
    let of_relation = |oid: Oid| state.relations.get(&oid).map(|it| full_name(state, it));
    Columns::new(rows.len())
        .text("role", rows.iter().map(|it| of_role(it.of)))
        .text("dataset", rows.iter().map(|it| of_relation(it.of)))
        .text("reason", rows.iter().map(|it| words(&it.reason)))
        .text("frozen_by", rows.iter().map(|it| Some(role(scope, it.by))))
        .time("frozen_at", rows.iter().map(|it| Some(it.at_ms)))
        .table()
}

/// Whether an agreement concerns the scope's role.
fn sees(scope: &Scope, agreement: &Agreement) -> bool {
    let (state, who) = (&scope.state, &scope.who);
    let relation = state.relations.get(&agreement.relation).map(|it| it.as_ref());
    let concerned = who.is(agreement.role) || binds(state, who, agreement);
    who.serves(KHO_AUDITOR)
        || relation.is_some_and(|it| who.owns(it))
        || (concerned && who.may_know(relation))
}

/// The name of now, or that of then.
fn dataset(scope: &Scope, oid: Oid, then: &str) -> String {
    let relation = scope.state.relations.get(&oid);
    relation.map_or_else(|| then.to_owned(), |it| full_name(&scope.state, it))
}

/// A role's name; of one that was dropped, its number.
pub(super) fn role(scope: &Scope, oid: Oid) -> String {
    let role = scope.state.roles.get(&oid);
    role.map_or_else(|| format!("unknown (OID={oid})"), |role| role.name.clone())
}

fn number(of: Option<u64>) -> Option<i64> {
    of.and_then(|it| i64::try_from(it).ok())
}

/// The words of a text; NULL where they were erased.
fn words(text: &Text) -> Option<String> {
    text.value().map(str::to_owned)
}
