//! Whether a dataset may be read for what a session says it reads it for: one pure function over a
//! state of the catalog.
//!
//! What it is: a dataset may name purposes, and may require an agreement. Both bind every reader, its
//! owner too, and whoever reads it through a view.
//! What it guarantees: an agreement counts from its first to its last moment, for the role it names
//! and all that belong to that. A role that is a third party's, or belongs to one, reads no dataset
//! at all without an agreement that names that third party; whom it works for must have its own,
//! where the dataset requires one. Whose access came with an agreement has it within that agreement,
//! whatever the dataset requires of others. A purpose that must be ordered is allowed by an agreement
//! for that very order, and until that ends.
//! What it does not: the right to read is `privilege`'s to decide, first. It remembers nothing: what
//! runs for long asks again, at [`Term::until_ms`] and when the catalog has changed.
//! On failure: the error says what is missing and whom to ask.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::privilege::Principal;
use crate::state::{Agreement, Oid, Purpose, Relation, State, Table};

/// What a session says of its use of data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// A purpose's code; empty is none.
    pub purpose: String,
    /// The number of the order it acts on; empty is none.
    pub order: String,
}

/// What a permission to read stands on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Term {
    pub agreements: Vec<Oid>,
    /// Milliseconds since the epoch at which it must be asked for again; `None` is never.
    pub until_ms: Option<i64>,
}

/// Everything the decision is made of.
struct Case<'a> {
    state: &'a State,
    who: &'a Principal,
    relation: &'a Relation,
    table: &'a Table,
    stated: &'a Stated,
    now_ms: i64,
}

/// Whether `who` may read `relation` for what it states.
///
/// # Errors
/// `KH001` without a purpose, `KH002` for one that the dataset or the agreement does not have or
/// that lacks its order, `KH003` for a third party without an agreement of its own, `KH004` without
/// an agreement, `KH012` where it has come to its end.
pub fn decide(
    state: &State,
    who: &Principal,
    relation: &Relation,
    stated: &Stated,
    now_ms: i64,
) -> Result<Term> {
    // A view is no dataset: what it reads is asked about for itself.
    let Some(table) = relation.table() else { return Ok(Term::default()) };
    Case { state, who, relation, table, stated, now_ms }.decide()
}

/// Whether `who` may open a session: a third party needs some agreement for that.
///
/// # Errors
/// `KH003`.
pub fn refuse_login_without(state: &State, who: &Principal, now_ms: i64) -> Result<()> {
    let parties = third_parties(state, who);
    let own = |it: &Agreement| it.third_party.is_some_and(|of| parties.contains(&of));
    let Some(first) = parties.first() else { return Ok(()) };
    if state.access.agreements.values().any(|it| own(it) && it.is_live(now_ms)) {
        return Ok(());
    }
    let message = format!("{} has no agreement that holds", party(state, *first));
    Err(Error::new(Kind::ThirdPartyAgreement, message)
        .with_hint("Ask the owner of the data, who can make one with kho.grant_agreement."))
}

/// The third parties that `who` is or belongs to.
pub fn third_parties(state: &State, who: &Principal) -> Vec<Oid> {
    let known = &state.access.third_parties;
    who.effective().iter().copied().filter(|role| known.contains_key(role)).collect()
}

/// Whether the agreement is one of `who`, as itself or as the third party that it names.
pub fn binds(state: &State, who: &Principal, agreement: &Agreement) -> bool {
    match (agreement.third_party, third_parties(state, who)) {
        (None, parties) => parties.is_empty() && who.is(agreement.role),
        (Some(of), parties) => parties.contains(&of),
    }
}

impl Case<'_> {
    fn decide(&self) -> Result<Term> {
        let governance = &self.table.governance;
        let parties = third_parties(self.state, self.who);
        let names_purposes = !governance.allowed_purposes.is_empty();
        let mine: Vec<&Agreement> = (self.state.agreements_on(self.relation.oid))
            .map(Arc::as_ref)
            .filter(|it| binds(self.state, self.who, it))
            .collect();
        let came_with_it = mine.iter().any(|it| it.tied.is_some() && it.ended.is_none());
        let requires = governance.requires_agreement || came_with_it;
        if !names_purposes && !requires && parties.is_empty() {
            return Ok(Term::default());
        }
        let live: Vec<&Agreement> =
            mine.iter().copied().filter(|it| it.is_live(self.now_ms)).collect();
        if let (Some(party), []) = (parties.first(), live.as_slice()) {
            return Err(self.without_own(*party, &mine));
        }
        let purpose = self.purpose(&live)?;
        if !requires && !purpose.needs_order && parties.is_empty() {
            return Ok(Term::default());
        }
        if live.is_empty() {
            return Err(self.without_agreement(&mine, purpose));
        }
        let for_it: Vec<&Agreement> =
            live.iter().copied().filter(|it| it.purposes.contains(&purpose.code)).collect();
        if for_it.is_empty() {
            return Err(self.for_others(&live, purpose));
        }
        let for_it: Vec<&Agreement> =
            for_it.iter().copied().filter(|it| self.is_ordered(it, purpose)).collect();
        if for_it.is_empty() {
            return Err(self.for_other_orders(&live, purpose));
        }
        match parties.is_empty() {
            true => Ok(term(&for_it)),
            false => self.behind_consumers(&for_it, purpose),
        }
    }

    /// The purpose that is stated, if the dataset allows it and it has its order.
    fn purpose(&self, live: &[&Agreement]) -> Result<&Purpose> {
        let (name, allowed) = (&self.relation.name, &self.table.governance.allowed_purposes);
        let listed = || match allowed.is_empty() {
            true => listed(live.iter().flat_map(|it| &it.purposes)),
            false => listed(allowed),
        };
        let code = &self.stated.purpose;
        if code.is_empty() {
            let message = format!("relation \"{name}\" can be read only for a stated purpose");
            let hint = match listed().as_str() {
                "" => format!("SET kho.purpose; {}", self.ask("which are agreed on")),
                list => format!("SET kho.purpose to one of: {list}."),
            };
            return Err(Error::new(Kind::PurposeMissing, message).with_hint(hint));
        }
        let known = self.state.access.purposes.get(code);
        let Some(purpose) = known.filter(|_| allowed.is_empty() || allowed.contains(code)) else {
            let message = format!("relation \"{name}\" cannot be read for the purpose \"{code}\"");
            let hint = format!("It can be read for: {}. {}", listed(), self.ask("about others"));
            return Err(Error::new(Kind::PurposeNotAllowed, message).with_hint(hint));
        };
        if purpose.needs_order && self.stated.order.trim().is_empty() {
            let message = format!("the purpose \"{code}\" needs the number of an order");
            return Err(Error::new(Kind::PurposeNotAllowed, message)
                .with_hint("SET kho.order_number to that of the order that is acted on."));
        }
        Ok(purpose)
    }

    /// Whether an agreement is for the order that is stated, where the purpose needs one.
    fn is_ordered(&self, agreement: &Agreement, purpose: &Purpose) -> bool {
        let stated = self.stated.order.trim();
        !purpose.needs_order || agreement.order_number.as_deref() == Some(stated)
    }

    /// What a third party may do stands on what those may do that it works for.
    fn behind_consumers(&self, own: &[&Agreement], purpose: &Purpose) -> Result<Term> {
        if !self.table.governance.requires_agreement {
            return Ok(term(own));
        }
        let mut behind: Vec<&Agreement> = Vec::new();
        for agreement in own {
            let consumer = Principal::of(self.state, agreement.role);
            let theirs = (self.state.agreements_on(self.relation.oid)).find(|it| {
                it.third_party.is_none()
                    && consumer.is(it.role)
                    && it.is_live(self.now_ms)
                    && it.purposes.contains(&purpose.code)
                    && self.is_ordered(it, purpose)
            });
            if let Some(theirs) = theirs {
                behind.extend([*agreement, theirs]);
            }
        }
        if let Some(first) = own.first().filter(|_| behind.is_empty()) {
            let role = self.role(first.role);
            let message = format!(
                "role \"{role}\", for which the third party works, has no agreement on relation \
                 \"{}\" for the purpose \"{}\"",
                self.relation.name, purpose.code
            );
            return Err(Error::new(Kind::ThirdPartyAgreement, message)
                .with_hint(self.ask("for one with kho.grant_agreement")));
        }
        let until_ms = behind.iter().map(|it| it.valid_until_ms).min();
        Ok(Term { agreements: behind.iter().map(|it| it.oid).collect(), until_ms })
    }

    fn without_own(&self, of: Oid, ended: &[&Agreement]) -> Error {
        let name = &self.relation.name;
        let party = party(self.state, of);
        let message = match ended {
            [] => format!("{party} has no agreement of its own on relation \"{name}\""),
            _ => format!("the agreement of {party} on relation \"{name}\" does not hold"),
        };
        let error = Error::new(Kind::ThirdPartyAgreement, message);
        self.told_of(error, ended).with_hint(self.ask("for one with kho.grant_agreement"))
    }

    fn without_agreement(&self, ended: &[&Agreement], purpose: &Purpose) -> Error {
        let name = &self.relation.name;
        let expired = ended.iter().any(|it| it.standing(self.now_ms) == "expired");
        let (kind, message) = match expired {
            true => (
                Kind::AgreementExpired,
                format!("the agreement on relation \"{name}\" has come to its end"),
            ),
            false if !self.table.governance.requires_agreement => (
                Kind::AgreementMissing,
                format!(
                    "relation \"{name}\" can be read for the purpose \"{}\" only within an \
                     agreement, which says until when, and there is none",
                    purpose.code
                ),
            ),
            false => (
                Kind::AgreementMissing,
                format!("relation \"{name}\" requires an agreement, and there is none"),
            ),
        };
        self.told_of(Error::new(kind, message), ended)
            .with_hint(self.ask("for one with kho.grant_agreement"))
    }

    fn for_others(&self, live: &[&Agreement], purpose: &Purpose) -> Error {
        let message = format!(
            "the agreement on relation \"{}\" is not for the purpose \"{}\"",
            self.relation.name, purpose.code
        );
        let agreed = listed(live.iter().flat_map(|it| &it.purposes));
        let hint = format!("It is for: {agreed}. {}", self.ask("about others"));
        Error::new(Kind::PurposeNotAllowed, message).with_hint(hint)
    }

    fn for_other_orders(&self, live: &[&Agreement], purpose: &Purpose) -> Error {
        let message = format!(
            "the agreement on relation \"{}\" for the purpose \"{}\" is not for the order \"{}\"",
            self.relation.name,
            purpose.code,
            self.stated.order.trim()
        );
        let agreed = listed(live.iter().filter_map(|it| it.order_number.as_ref()));
        let hint = format!("It is for: {agreed}. {}", self.ask("about others"));
        Error::new(Kind::PurposeNotAllowed, message).with_hint(hint)
    }

    /// Adds what became of the agreement that was made last.
    fn told_of(&self, error: Error, ended: &[&Agreement]) -> Error {
        let Some(last) = ended.last() else { return error };
        let time = |ms| chrono::DateTime::from_timestamp_millis(ms).map(|it| it.to_rfc3339());
        let detail = match last.standing(self.now_ms) {
            "ended" => last.ended.as_ref().map(|it| (it.at_ms, "was ended at")),
            "to come" => Some((last.valid_from_ms, "begins at")),
            _ => Some((last.valid_until_ms, "held until")),
        };
        match detail.and_then(|(ms, what)| Some((time(ms)?, what))) {
            Some((at, what)) => error.with_detail(format!("Agreement {} {what} {at}.", last.oid)),
            None => error,
        }
    }

    fn ask(&self, what: &str) -> String {
        format!("Ask its owner, role \"{}\", {what}.", self.role(self.relation.owner))
    }

    fn role(&self, oid: Oid) -> &str {
        self.state.roles.get(&oid).map_or("?", |role| &role.name)
    }
}

/// Any of them would do, so it holds until the last of them ends.
fn term(of: &[&Agreement]) -> Term {
    Term {
        agreements: of.iter().map(|it| it.oid).collect(),
        until_ms: of.iter().map(|it| it.valid_until_ms).max(),
    }
}

fn party(state: &State, role: Oid) -> String {
    match state.access.third_parties.get(&role) {
        Some(third) => format!("the third party \"{}\"", third.party),
        None => "the third party".to_owned(),
    }
}

fn listed<'a>(codes: impl IntoIterator<Item = &'a String>) -> String {
    let codes: std::collections::BTreeSet<&str> = codes.into_iter().map(String::as_str).collect();
    codes.into_iter().collect::<Vec<_>>().join(", ")
}
