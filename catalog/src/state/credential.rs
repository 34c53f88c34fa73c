//! By what else than a password a role is logged in as: API tokens, and identities of elsewhere.
//!
//! What it guarantees: of a token's secret only its hash is kept. A token is its role's by id: one
//! of a role that is gone is gone with it.
//! What it does not: it checks no presented secret; the server does.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Oid, State};
use crate::privilege::{Covered, Reach, Within};
use crate::text::Text;

/// A secret with a name, an end and bounds, by which a program logs in as a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    pub oid: Oid,
    pub role: Oid,
    /// Of those of a role that are live, no two have the same.
    pub name: String,
    /// SHA-256 of the secret, in hexadecimal. The secret has 256 random bits, so that nothing
    /// slower is needed.
    pub hash: String,
    pub created_by: Oid,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
    /// Before this.
    pub valid_until_ms: i64,
    pub reach: Reach,
    /// `None` is all.
    pub datasets: Option<Vec<Covered>>,
    /// `None` is all.
    pub purposes: Option<BTreeSet<String>>,
    pub revoked: Option<Revoked>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    pub at_ms: i64,
    pub by: Oid,
}

/// Who somebody else says that one is, and the role that one may log in as by that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub oid: Oid,
    pub kind: IdentityKind,
    /// Of a certificate its subject (RFC 4514), or `dns:`, `email:` or `uri:` and one of its other
    /// names; of OIDC the subject, or what other claim the operator chose. It can name a person.
    pub identity: Text,
    pub role: Oid,
    pub mapped_by: Oid,
    /// Milliseconds since the epoch.
    pub mapped_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityKind {
    /// By a certificate that the operator's authority signed.
    Certificate,
    /// By a token that the operator's identity provider signed.
    Oidc,
}

impl IdentityKind {
    pub const fn name(self) -> &'static str {
        match self {
            IdentityKind::Certificate => "certificate",
            IdentityKind::Oidc => "oidc",
        }
    }
}

impl Identity {
    /// Whether it is this one; one whose text was erased is none.
    pub fn is(&self, kind: IdentityKind, identity: &str) -> bool {
        self.kind == kind && self.identity.value() == Some(identity)
    }

    /// Every id in it that is another object's.
    pub(super) fn references_mut(&mut self) -> Vec<&mut Oid> {
        vec![&mut self.role, &mut self.mapped_by]
    }
}

impl State {
    /// The mappings of one identity, to whatever roles.
    pub fn mapped<'a>(
        &'a self,
        kind: IdentityKind,
        identity: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Identity>> {
        self.access.identities.values().filter(move |it| it.is(kind, identity))
    }
}

impl ApiToken {
    /// One word for where it stands.
    pub fn standing(&self, now_ms: i64) -> &'static str {
        match &self.revoked {
            Some(_) => "revoked",
            None if now_ms >= self.valid_until_ms => "expired",
            None => "live",
        }
    }

    /// What it leaves of its role.
    pub fn within(&self) -> Arc<Within> {
        Arc::new(Within {
            reach: self.reach,
            datasets: self.datasets.clone(),
            purposes: self.purposes.clone(),
        })
    }

    /// Every id in it that is another object's.
    pub(super) fn references_mut(&mut self) -> Vec<&mut Oid> {
        let mut ids = vec![&mut self.role, &mut self.created_by];
        ids.extend(self.datasets.iter_mut().flatten().map(Covered::oid_mut));
        ids.extend(self.revoked.as_mut().map(|revoked| &mut revoked.by));
        ids
    }
}
