//! How many sessions each role has open, and the limit of each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{Oid, Role};

/// The open sessions of one server, counted by role.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats(Arc<Mutex<HashMap<Oid, u32>>>);

/// One session's place; dropping it makes it free.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    role: Oid,
}

impl Seats {
    /// # Errors
    /// `53300` where the role has as many sessions as its `CONNECTION LIMIT` allows.
    pub(super) fn take(&self, role: &Role) -> Result<Seat> {
        let mut open = self.lock();
        let count = open.entry(role.oid).or_default();
        if role.connection_limit.is_some_and(|limit| *count >= limit) {
            let message = format!("too many connections for role \"{}\"", role.name);
            return Err(Error::new(Kind::TooManyConnections, message));
        }
        *count += 1;
        Ok(Seat { seats: self.clone(), role: role.oid })
    }

    /// How many sessions a role has.
    pub(crate) fn of(&self, role: Oid) -> u32 {
        self.lock().get(&role).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Oid, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.seats.lock();
        if let Some(count) = open.get_mut(&self.role) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.role);
            }
        }
    }
}
