//! Why, until when, how much and whether at all data may be used: purposes, agreements, third
//! parties, requests, freezes and limits; and by what else than a password a role is logged in as.
//!
//! What it is: the part of the [`State`] that no grant says. `crate::agreement`, `crate::freeze`
//! and `crate::limit` decide by it.
//! What it guarantees: an agreement stays when it has ended, and when its dataset or its role is
//! gone: what was agreed is to be read later. A purpose that is removed is gone.
//! What it does not: it checks no right; `sql::command` does, before it commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::credential::{ApiToken, Identity};
use super::{Grant, Oid, Quota, RoleLimits, State};
use crate::text::Text;

/// The purposes that every warehouse starts with; the codes follow the regulation's list.
const SHIPPED_PURPOSES: &[(&str, &str)] = &[
    ("a", "socio-economic development"),
    ("b", "community benefit and urgent public problems"),
    ("c", "state management"),
    ("d", "administrative procedures"),
    ("dd", "digital transformation and smart-city services"),
    ("e", "publication and sharing"),
    (ORDERED, "urgent tasks ordered by the city"),
];
/// The shipped purpose that somebody must have ordered.
const ORDERED: &str = "g";

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Access {
    #[serde(default)]
    pub purposes: Purposes,
    /// By id, those that have ended too.
    #[serde(default)]
    pub agreements: BTreeMap<Oid, Arc<Agreement>>,
    /// By role.
    #[serde(default)]
    pub third_parties: BTreeMap<Oid, Arc<ThirdParty>>,
    /// By the role or the relation that is frozen.
    #[serde(default)]
    pub freezes: BTreeMap<Oid, Arc<Freeze>>,
    /// By id, those that were answered too.
    #[serde(default)]
    pub requests: BTreeMap<Oid, Arc<Request>>,
    /// By role, those that have some.
    #[serde(default)]
    pub limits: BTreeMap<Oid, Arc<RoleLimits>>,
    /// By id, those that were revoked or have expired too.
    #[serde(default)]
    pub tokens: BTreeMap<Oid, Arc<ApiToken>>,
    /// By id.
    #[serde(default)]
    pub identities: BTreeMap<Oid, Arc<Identity>>,
}

/// The purposes, by code; a new warehouse has the shipped ones.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Purposes(pub BTreeMap<String, Arc<Purpose>>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purpose {
    pub code: String,
    pub name: String,
    /// Whether a session that states it must name an order, and an agreement must say until when.
    pub needs_order: bool,
}

/// A role's permission to use a dataset for purposes until a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    pub oid: Oid,
    pub relation: Oid,
    /// The dataset's name when it was agreed, for when there is no such dataset any more.
    pub dataset: String,
    /// Who may use it; where a third party is named, whom that works for.
    pub role: Oid,
    /// Whose own agreement this is; the role's it is then not.
    pub third_party: Option<Oid>,
    /// At least one.
    pub purposes: BTreeSet<String>,
    /// Milliseconds since the epoch: from the first one on, and before the last one.
    pub valid_from_ms: i64,
    pub valid_until_ms: i64,
    #[serde(default, skip_serializing_if = "Quota::is_none")]
    pub quota: Quota,
    /// The document it rests on.
    pub basis: Text,
    /// The order that it is for, where one of its purposes needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_number: Option<String>,
    pub granted_by: Oid,
    pub granted_ms: i64,
    /// Before its time.
    pub ended: Option<Ended>,
    /// What came with it: that goes when it is ended.
    #[serde(default, alias = "request")]
    pub tied: Option<Tied>,
}

/// What was made beside an agreement, and with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tied {
    /// The request that it answers, if it answers one.
    #[serde(default)]
    pub request: Option<Oid>,
    /// Those that were not there before.
    pub grants: Vec<Grant>,
    pub policy: Option<Oid>,
}

/// A role's wish to use a dataset, for its owner to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub oid: Oid,
    pub requester: Oid,
    /// The name that was asked for, with its schema.
    pub dataset: String,
    /// What had that name; nothing, perhaps, and then nobody will answer.
    pub relation: Option<Oid>,
    /// Names as they were asked for; none is all.
    pub columns: Vec<String>,
    /// `None` is all rows.
    pub row_predicate: Option<Text>,
    pub purposes: BTreeSet<String>,
    pub until_ms: i64,
    #[serde(default, skip_serializing_if = "Quota::is_none")]
    pub quota: Quota,
    pub basis: Text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_number: Option<String>,
    pub requested_ms: i64,
    pub answer: Option<Answer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub at_ms: i64,
    pub by: Oid,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// By this agreement.
    Approved(Oid),
    Refused {
        reason: Text,
        legal_basis: Text,
    },
    /// By who asked.
    Withdrawn,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub at_ms: i64,
    pub by: Oid,
    pub reason: Text,
}

/// A role that acts for somebody outside of the agencies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThirdParty {
    pub role: Oid,
    /// Who that is.
    pub party: String,
}

/// A role that may do nothing, or a relation that nothing may be done to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    pub of: Oid,
    pub by: Oid,
    pub at_ms: i64,
    pub reason: Text,
}

/// A [`super::Change`] of this part.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessChange {
    PutPurpose(Purpose),
    RemovePurpose(String),
    PutAgreement(Box<Agreement>),
    PutThirdParty(ThirdParty),
    RemoveThirdParty(Oid),
    PutFreeze(Freeze),
    RemoveFreeze(Oid),
    PutRequest(Box<Request>),
    /// All limits of a role; none takes them away.
    PutLimits(RoleLimits),
    PutToken(Box<ApiToken>),
    RemoveToken(Oid),
    PutIdentity(Box<Identity>),
    RemoveIdentity(Oid),
}

impl Default for Purposes {
    fn default() -> Self {
        let purpose = |(code, name): &(&str, &str)| {
            let (code, name) = ((*code).to_owned(), (*name).to_owned());
            let needs_order = code == ORDERED;
            (code.clone(), Arc::new(Purpose { code, name, needs_order }))
        };
        Purposes(SHIPPED_PURPOSES.iter().map(purpose).collect())
    }
}

impl Purposes {
    pub fn get(&self, code: &str) -> Option<&Purpose> {
        self.0.get(code).map(Arc::as_ref)
    }

    /// The codes, for a message.
    pub fn listed(&self) -> String {
        self.0.keys().cloned().collect::<Vec<_>>().join(", ")
    }
}

impl AccessChange {
    /// The id of the object that is put, where it has one of its own.
    pub fn put(&self) -> Option<Oid> {
        match self {
            AccessChange::PutAgreement(agreement) => Some(agreement.oid),
            AccessChange::PutRequest(request) => Some(request.oid),
            AccessChange::PutToken(token) => Some(token.oid),
            AccessChange::PutIdentity(identity) => Some(identity.oid),
            AccessChange::PutPurpose(_)
            | AccessChange::RemovePurpose(_)
            | AccessChange::PutThirdParty(_)
            | AccessChange::RemoveThirdParty(_)
            | AccessChange::PutFreeze(_)
            | AccessChange::RemoveFreeze(_)
            | AccessChange::RemoveToken(_)
            | AccessChange::RemoveIdentity(_)
            | AccessChange::PutLimits(_) => None,
        }
    }

    /// Every id in it that is another object's.
    pub fn references_mut(&mut self) -> Vec<&mut Oid> {
        match self {
            AccessChange::PutAgreement(it) => {
                let mut ids = vec![&mut it.relation, &mut it.role, &mut it.granted_by];
                ids.extend(it.third_party.as_mut());
                ids
            }
            AccessChange::PutRequest(it) => {
                let mut ids = vec![&mut it.requester];
                ids.extend(it.relation.as_mut());
                ids
            }
            AccessChange::PutThirdParty(it) => vec![&mut it.role],
            AccessChange::PutLimits(it) => vec![&mut it.role],
            AccessChange::PutFreeze(it) => vec![&mut it.of, &mut it.by],
            AccessChange::PutToken(it) => it.references_mut(),
            AccessChange::PutIdentity(it) => it.references_mut(),
            AccessChange::RemoveThirdParty(of)
            | AccessChange::RemoveFreeze(of)
            | AccessChange::RemoveToken(of)
            | AccessChange::RemoveIdentity(of) => vec![of],
            AccessChange::PutPurpose(_) | AccessChange::RemovePurpose(_) => vec![],
        }
    }

    pub(super) fn texts_mut(&mut self) -> Vec<&mut Text> {
        match self {
            AccessChange::PutAgreement(agreement) => agreement_texts(agreement),
            AccessChange::PutFreeze(freeze) => vec![&mut freeze.reason],
            AccessChange::PutRequest(request) => request_texts(request),
            AccessChange::PutIdentity(identity) => vec![&mut identity.identity],
            AccessChange::PutPurpose(_)
            | AccessChange::RemovePurpose(_)
            | AccessChange::PutThirdParty(_)
            | AccessChange::RemoveThirdParty(_)
            | AccessChange::RemoveFreeze(_)
            | AccessChange::PutToken(_)
            | AccessChange::RemoveToken(_)
            | AccessChange::RemoveIdentity(_)
            | AccessChange::PutLimits(_) => vec![],
        }
    }
}

impl Access {
    pub(super) fn apply(&mut self, change: AccessChange) {
        match change {
            AccessChange::PutPurpose(purpose) => {
                self.purposes.0.insert(purpose.code.clone(), Arc::new(purpose));
            }
            AccessChange::RemovePurpose(code) => {
                self.purposes.0.remove(&code);
            }
            AccessChange::PutAgreement(agreement) => {
                self.agreements.insert(agreement.oid, Arc::new(*agreement));
            }
            AccessChange::PutThirdParty(party) => {
                self.third_parties.insert(party.role, Arc::new(party));
            }
            AccessChange::RemoveThirdParty(role) => {
                self.third_parties.remove(&role);
            }
            AccessChange::PutFreeze(freeze) => {
                self.freezes.insert(freeze.of, Arc::new(freeze));
            }
            AccessChange::RemoveFreeze(of) => {
                self.freezes.remove(&of);
            }
            AccessChange::PutRequest(request) => {
                self.requests.insert(request.oid, Arc::new(*request));
            }
            AccessChange::PutLimits(limits) if limits.values.is_empty() => {
                self.limits.remove(&limits.role);
            }
            AccessChange::PutLimits(limits) => {
                self.limits.insert(limits.role, Arc::new(limits));
            }
            AccessChange::PutToken(token) => {
                self.tokens.insert(token.oid, Arc::new(*token));
            }
            AccessChange::RemoveToken(oid) => {
                self.tokens.remove(&oid);
            }
            AccessChange::PutIdentity(identity) => {
                self.identities.insert(identity.oid, Arc::new(*identity));
            }
            AccessChange::RemoveIdentity(oid) => {
                self.identities.remove(&oid);
            }
        }
    }

    /// A role or a relation is gone, and with it what it is beside what it did.
    pub(super) fn forget(&mut self, oid: Oid) {
        self.third_parties.remove(&oid);
        self.freezes.remove(&oid);
        self.limits.remove(&oid);
        self.tokens.retain(|_, token| token.role != oid);
        self.identities.retain(|_, identity| identity.role != oid);
    }

    pub(super) fn for_each_text(&mut self, visit: &mut impl FnMut(&mut Text)) {
        for agreement in self.agreements.values_mut() {
            agreement_texts(Arc::make_mut(agreement)).into_iter().for_each(&mut *visit);
        }
        for freeze in self.freezes.values_mut() {
            visit(&mut Arc::make_mut(freeze).reason);
        }
        for identity in self.identities.values_mut() {
            visit(&mut Arc::make_mut(identity).identity);
        }
        for request in self.requests.values_mut() {
            request_texts(Arc::make_mut(request)).into_iter().for_each(&mut *visit);
        }
    }
}

impl Agreement {
    /// Whether it holds at that time.
    pub fn is_live(&self, now_ms: i64) -> bool {
        self.ended.is_none() && (self.valid_from_ms..self.valid_until_ms).contains(&now_ms)
    }

    /// One word for where it stands.
    pub fn standing(&self, now_ms: i64) -> &'static str {
        match &self.ended {
            Some(_) => "ended",
            None if now_ms >= self.valid_until_ms => "expired",
            None if now_ms < self.valid_from_ms => "to come",
            None => "live",
        }
    }
}

impl Request {
    /// One word for where it stands.
    pub fn standing(&self) -> &'static str {
        match self.answer.as_ref().map(|answer| &answer.verdict) {
            None => "open",
            Some(Verdict::Approved(_)) => "approved",
            Some(Verdict::Refused { .. }) => "refused",
            Some(Verdict::Withdrawn) => "withdrawn",
        }
    }
}

impl State {
    /// The agreements on one dataset, in the order they were made.
    pub fn agreements_on(&self, relation: Oid) -> impl Iterator<Item = &Arc<Agreement>> {
        self.access.agreements.values().filter(move |it| it.relation == relation)
    }
}

fn request_texts(request: &mut Request) -> Vec<&mut Text> {
    let mut texts = vec![&mut request.basis];
    texts.extend(request.row_predicate.as_mut());
    if let Some(Answer { verdict: Verdict::Refused { reason, legal_basis }, .. }) =
        &mut request.answer
    {
        texts.extend([reason, legal_basis]);
    }
    texts
}

fn agreement_texts(agreement: &mut Agreement) -> Vec<&mut Text> {
    let mut texts = vec![&mut agreement.basis];
    texts.extend(agreement.ended.as_mut().map(|ended| &mut ended.reason));
    texts
}
