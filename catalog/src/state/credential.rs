//! By what else than a password a role is logged in as: API tokens.
//!
//! What it guarantees: of a token's secret only its hash is kept. A token is its role's by id: one
//! of a role that is gone is gone with it.
//! What it does not: it checks no presented secret; the server does.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Oid;
use crate::privilege::{Covered, Reach, Within};

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
