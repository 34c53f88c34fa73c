//! What was used of the quotas of today: by each role, and under each agreement.
//!
//! What it is: what this run of this server gives, counted as it does; and what the ledger says that
//! others gave, and earlier runs of this one, see [`Spent`]. A day is one of UTC.
//! What it guarantees: restarts, kills and power cuts take nothing off, and within one server not
//! one row goes beyond. Memory is bounded by the roles and agreements that did anything today.
//! What it does not: of other servers it knows what they have sealed (`audit.seal_interval_s`; where
//! journals lie in one folder, what they have written), as it was [`KNOWN_FOR_MS`] ago at most. So
//! n servers together can give n times what was left when they last knew of each other, and no
//! more. What was given without a quota to bound it, and whose end a kill took along, is lost to
//! one that is set later in the day.
//! On failure: while the ledger cannot be read for the first time, what has a quota is refused.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use kho_catalog::audit::{Ledger, Released, Spent, Used};
use kho_catalog::environment::Environment;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{LimitName, Oid, State};

use crate::scope::lock;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// How old may be what is known of other servers.
pub(crate) const KNOWN_FOR_MS: i64 = 10_000;
/// A storage that does not answer does not hold statements up for longer.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// The use of one warehouse as one server knows it.
pub(crate) struct Usage {
    environment: Environment,
    today: Mutex<Today>,
    elsewhere: tokio::sync::Mutex<Spent>,
    /// Whether there is any quota, by the version of the catalog that was asked last.
    asked: Mutex<Option<(u64, bool)>>,
}

/// The use of one day.
#[derive(Default)]
pub(crate) struct Today {
    /// Days since the epoch.
    day: i64,
    roles: HashMap<Oid, Used>,
    agreements: HashMap<Oid, Used>,
    elsewhere_roles: HashMap<Oid, Used>,
    elsewhere_agreements: HashMap<Oid, Used>,
    /// When that was read, by the monotonic clock; `None` is never.
    read_ms: Option<i64>,
    /// When that was last tried.
    tried_ms: Option<i64>,
}

impl Usage {
    /// To be made before this run of the server has done anything.
    pub(crate) fn new(environment: &Environment, ledger: &Ledger) -> Usage {
        Usage {
            environment: environment.clone(),
            today: Mutex::default(),
            elsewhere: tokio::sync::Mutex::new(ledger.spent()),
            asked: Mutex::default(),
        }
    }

    /// Reads what others did, where there are quotas and it was not read of late. Who comes while
    /// somebody reads goes on with what is known.
    pub(crate) async fn refresh(&self, state: &State) {
        if !self.is_needed(state) || self.is_fresh() {
            return;
        }
        let known = self.today().read_ms;
        let mut spent = match known {
            None => self.elsewhere.lock().await,
            Some(_) => match self.elsewhere.try_lock() {
                Ok(spent) => spent,
                Err(_) => return,
            },
        };
        if self.is_fresh() {
            return;
        }
        let (now_ms, day) = (self.environment.monotonic_ms(), self.today().day);
        let reading = spent.read_on(day.saturating_mul(DAY_MS));
        let read = tokio::time::timeout(READ_WITHIN, reading).await;
        // A storage that does not answer is not asked by each statement in turn.
        self.today().tried_ms = Some(self.environment.monotonic_ms());
        match read {
            Ok(Ok(())) => {
                let (roles, agreements) = (spent.by_role(), spent.by_agreement());
                let mut today = self.today();
                if today.day == day {
                    (today.elsewhere_roles, today.elsewhere_agreements) = (roles, agreements);
                    today.read_ms = Some(now_ms);
                }
            }
            Ok(Err(error)) => tracing::warn!(?error, "what others used today is not known"),
            Err(_) => tracing::warn!("what others used today could not be read in time"),
        }
    }

    /// Days since the epoch.
    pub(crate) fn day(&self) -> i64 {
        self.environment.now_ms().div_euclid(DAY_MS)
    }

    /// The use of today, to be looked at and added to.
    pub(crate) fn today(&self) -> MutexGuard<'_, Today> {
        let day = self.day();
        let mut today = lock(&self.today);
        // A clock that is set back opens no day anew.
        if day > today.day {
            // What is read of others is of yesterday, too: it is read again.
            let read_ms = today.read_ms.map(|_| i64::MIN);
            *today = Today { day, read_ms, ..Today::default() };
        }
        today
    }

    fn is_fresh(&self) -> bool {
        let now_ms = self.environment.monotonic_ms();
        let is_new = |at: i64| now_ms.saturating_sub(at) < KNOWN_FOR_MS;
        let today = self.today();
        today.read_ms.is_some_and(is_new) || today.tried_ms.is_some_and(is_new)
    }

    fn is_needed(&self, state: &State) -> bool {
        let mut asked = lock(&self.asked);
        match *asked {
            Some((version, needed)) if version == state.version => needed,
            _ => {
                let needed = has_quotas(state);
                *asked = Some((state.version, needed));
                needed
            }
        }
    }
}

fn has_quotas(state: &State) -> bool {
    let access = &state.access;
    let of_day = [LimitName::RowsPerDay, LimitName::BytesPerDay];
    let mut limits = access.limits.values();
    limits.any(|it| of_day.iter().any(|name| it.values.contains_key(name)))
        || access.agreements.values().any(|it| !it.quota.is_none())
}

impl Today {
    pub(crate) fn of_role(&self, role: Oid) -> Used {
        sum(role, &self.roles, &self.elsewhere_roles)
    }

    pub(crate) fn of_agreement(&self, agreement: Oid) -> Used {
        sum(agreement, &self.agreements, &self.elsewhere_agreements)
    }

    /// # Errors
    /// `58030` where nothing is known of what was used before.
    pub(crate) fn require_known(&self) -> Result<()> {
        if self.read_ms.is_some() {
            return Ok(());
        }
        let message = "what was used of today's quotas cannot be read from the ledger";
        Err(Error::new(Kind::Io, message).with_hint("Try again when the storage answers."))
    }

    /// What was counted before it was given, and was not.
    pub(super) fn give_back(&mut self, released: &Released) {
        let less = |used: &mut Used, by: Used| {
            used.rows = used.rows.saturating_sub(by.rows);
            used.bytes = used.bytes.saturating_sub(by.bytes);
        };
        less(self.roles.entry(released.role).or_default(), released.given());
        for agreement in &released.agreements {
            less(self.agreements.entry(*agreement).or_default(), released.under_agreements());
        }
    }

    pub(crate) fn add(&mut self, released: &Released) {
        let of_role = self.roles.entry(released.role).or_default();
        *of_role = of_role.plus(released.given());
        for agreement in &released.agreements {
            let of_agreement = self.agreements.entry(*agreement).or_default();
            *of_agreement = of_agreement.plus(released.under_agreements());
        }
    }
}

fn sum(of: Oid, here: &HashMap<Oid, Used>, elsewhere: &HashMap<Oid, Used>) -> Used {
    let of = |among: &HashMap<Oid, Used>| among.get(&of).copied().unwrap_or_default();
    of(here).plus(of(elsewhere))
}
