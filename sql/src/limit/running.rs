//! How many statements run, by role and altogether.
//!
//! What it guarantees: a place is free again however its statement ends: it goes with what holds it.
//! What it does not: it knows nothing of other servers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use kho_catalog::error::Result;
use kho_catalog::limit::Limit;
use kho_catalog::state::{Oid, State};

use super::{CONCURRENT_STATEMENTS, refusal, refusal_of_server};
use crate::scope::lock;

/// The running statements of one server. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    all: u64,
    /// Of roles that run something.
    by_role: HashMap<Oid, u64>,
}

/// One statement's place; dropping it makes it free.
#[derive(Debug)]
pub(crate) struct Place {
    running: Running,
    role: Oid,
}

impl Running {
    /// # Errors
    /// `53400` where as many run as may.
    pub(crate) fn take(
        &self,
        role: Oid,
        limit: Option<(&State, Limit)>,
        of_server: u64,
    ) -> Result<Place> {
        let mut counts = lock(&self.0);
        if let Some((state, limit)) = limit
            && counts.of(role) >= limit.value
        {
            let message = "as many statements of this role are running as may at one time";
            let hint = "End or cancel one, or close portals and cursors that are left half way.";
            return Err(refusal(state, limit, message).with_hint(format!(
                "{hint} A member of kho_admin can change the limit with kho.set_role_limit."
            )));
        }
        if of_server > 0 && counts.all >= of_server {
            let message = "as many statements are running on this server as may at one time";
            return Err(refusal_of_server(CONCURRENT_STATEMENTS, of_server, message));
        }
        counts.all += 1;
        *counts.by_role.entry(role).or_default() += 1;
        Ok(Place { running: self.clone(), role })
    }

    pub(crate) fn of(&self, role: Oid) -> u64 {
        lock(&self.0).of(role)
    }
}

impl Counts {
    fn of(&self, role: Oid) -> u64 {
        self.by_role.get(&role).copied().unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.running.0);
        counts.all = counts.all.saturating_sub(1);
        let left = counts.of(self.role).saturating_sub(1);
        match left {
            0 => drop(counts.by_role.remove(&self.role)),
            left => drop(counts.by_role.insert(self.role, left)),
        }
    }
}
