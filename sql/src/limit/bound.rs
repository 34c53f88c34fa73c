//! What bounds a statement: limits of its role and of the server, quotas of agreements.
//!
//! What it is: each [`Bound`] says how many rows or bytes are left, and what is said beyond.

use kho_catalog::audit::Used;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::limit::{Limit, Limits};
use kho_catalog::state::{Agreement, LimitName, Oid, State};

use super::usage::Today;
use super::{refusal, refusal_of_server};
use crate::engine::Shared;

const ROWS_PER_STATEMENT: &str = "limits.rows_per_statement";

/// One thing that bounds what may still be given.
pub(super) struct Bound<'a> {
    what: What,
    pub(super) left: u64,
    of: Of<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Rows,
    Bytes,
}

enum Of<'a> {
    Role(Limit),
    Server(u64),
    Agreement(&'a Agreement, u64),
}

/// What is left of one quota of an agreement, and what is said when nothing is.
pub(crate) struct Left {
    /// `rows` or `bytes`.
    pub of: &'static str,
    pub left: u64,
    pub value: u64,
    pub refusal: Error,
}

/// What is left of today's quotas of `agreements`.
pub(crate) fn left_of_quotas(shared: &Shared, state: &State, agreements: &[Oid]) -> Vec<Left> {
    let today = shared.usage.today();
    let bounds = of_agreements(state, &today, agreements);
    let left = |bound: Bound<'_>| Left {
        of: bound.what.name(),
        left: bound.left,
        value: bound.value(),
        refusal: bound.refusal(state),
    };
    bounds.into_iter().map(left).collect()
}

/// Refuses what would be read under agreements whose quota is used up.
///
/// # Errors
/// `53400`.
pub(crate) fn refuse_used_up_agreements(
    shared: &Shared,
    state: &State,
    agreements: &[Oid],
) -> Result<()> {
    let today = shared.usage.today();
    let bounds = of_agreements(state, &today, agreements);
    if !bounds.is_empty() {
        today.require_known()?;
    }
    match bounds.iter().find(|bound| bound.left == 0) {
        Some(bound) => Err(bound.refusal(state)),
        None => Ok(()),
    }
}

/// Those of `agreements` that have a quota.
pub(crate) fn with_quota(state: &State, agreements: &[Oid]) -> Vec<Oid> {
    let has = |oid: &Oid| state.access.agreements.get(oid).is_some_and(|it| !it.quota.is_none());
    agreements.iter().copied().filter(has).collect()
}

/// What is left of two limits of a role, of which so much is used.
pub(super) fn of_role(
    limits: &Limits,
    [rows, bytes]: [LimitName; 2],
    used: Used,
) -> Vec<Bound<'static>> {
    let bound = |name, what, used: u64| {
        let limit = limits.get(name)?;
        Some(Bound { what, left: limit.value.saturating_sub(used), of: Of::Role(limit) })
    };
    [bound(rows, What::Rows, used.rows), bound(bytes, What::Bytes, used.bytes)]
        .into_iter()
        .flatten()
        .collect()
}

/// What is left of today's quotas of `agreements`.
pub(super) fn of_agreements<'a>(
    state: &'a State,
    today: &Today,
    agreements: &[Oid],
) -> Vec<Bound<'a>> {
    let of = |oid: &Oid| {
        let agreement = state.access.agreements.get(oid)?.as_ref();
        let used = today.of_agreement(*oid);
        let bound = |what, value: Option<u64>, used: u64| {
            let value = value?;
            let left = value.saturating_sub(used);
            Some(Bound { what, left, of: Of::Agreement(agreement, value) })
        };
        let quota = agreement.quota;
        Some([
            bound(What::Rows, quota.rows_per_day, used.rows),
            bound(What::Bytes, quota.bytes_per_day, used.bytes),
        ])
    };
    agreements.iter().filter_map(of).flatten().flatten().collect()
}

/// What is left of the rows that the server lets a statement give; `None` is without limit.
pub(super) fn of_server(rows: u64, used: Used) -> Option<Bound<'static>> {
    let left = rows.saturating_sub(used.rows);
    (rows > 0).then_some(Bound { what: What::Rows, left, of: Of::Server(rows) })
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            What::Rows => "rows",
            What::Bytes => "bytes",
        }
    }
}

impl Bound<'_> {
    fn value(&self) -> u64 {
        match &self.of {
            Of::Role(limit) => limit.value,
            Of::Server(value) | Of::Agreement(_, value) => *value,
        }
    }

    /// Makes `taken` no more than this allows; says whether it was more.
    pub(super) fn cut(&self, taken: &mut Used, bytes_of: impl Fn(u64) -> u64) -> bool {
        match self.what {
            What::Rows if taken.rows > self.left => {
                *taken = Used { rows: self.left, bytes: bytes_of(self.left) };
                true
            }
            What::Bytes if taken.bytes > self.left => {
                // The most rows that fit: no row takes less than nothing.
                let (mut fits, mut too_many) = (0, taken.rows);
                while fits + 1 < too_many {
                    let middle = fits + (too_many - fits) / 2;
                    match bytes_of(middle) <= self.left {
                        true => fits = middle,
                        false => too_many = middle,
                    }
                }
                *taken = Used { rows: fits, bytes: if fits == 0 { 0 } else { bytes_of(fits) } };
                true
            }
            _ => false,
        }
    }

    pub(super) fn refusal(&self, state: &State) -> Error {
        let what = self.what.name();
        match &self.of {
            Of::Role(limit) => {
                let message = match limit.name {
                    LimitName::RowsPerDay | LimitName::BytesPerDay => {
                        format!("the quota of {what} of this day is used up")
                    }
                    _ => format!("the statement gives more {what} than it may"),
                };
                refusal(state, *limit, message)
            }
            Of::Server(value) => {
                let message = "the statement gives more rows than it may";
                refusal_of_server(ROWS_PER_STATEMENT, *value, message)
                    .with_hint("Ask for less, or ask who runs the server.")
            }
            Of::Agreement(agreement, value) => {
                let owner = state.relations.get(&agreement.relation);
                let owner = owner.and_then(|it| state.roles.get(&it.owner));
                let owner = owner.map_or("?", |role| &role.name);
                let (oid, dataset) = (agreement.oid, &agreement.dataset);
                let message = format!(
                    "the quota of {what} of this day of the agreement on \"{dataset}\" is used up"
                );
                Error::new(Kind::ConfigurationLimitExceeded, message)
                    .with_detail(format!("Agreement {oid} is for {value} {what} in a day of UTC."))
                    .with_hint(format!("Ask the owner of the dataset, role \"{owner}\"."))
            }
        }
    }
}
