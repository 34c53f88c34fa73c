//! What one statement gives, counted row by row against everything that bounds it.
//!
//! What it guarantees: the row that would go beyond a limit is not given, those before it are; what
//! was given is counted, however the statement ends, and where a quota of a day bounds it, it was put down
//! in the ledger before it was given.
//! What it does not: it bounds no statement that reads no dataset.
//! On failure: `53400`, as the last item.

use std::sync::{Arc, Mutex};

use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Stream, StreamExt};
use kho_catalog::audit::{Released, Used};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::limit::{self, Limit, Limits};
use kho_catalog::state::{Agreement, LimitName, Oid, State};

use super::usage::Today;
use super::{refusal, refusal_of_server};
use crate::engine::Shared;
use crate::errors::to_engine;
use crate::scope::lock;
use crate::session::Facts;

const ROWS_PER_STATEMENT: &str = "limits.rows_per_statement";

/// What one statement has given so far; cursors go on with it from one `FETCH` to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Mutex<Given>>);

#[derive(Debug, Default)]
struct Given {
    used: Used,
    /// It was counted before it was given.
    prepaid: bool,
}

/// Counts for one act.
#[derive(Clone)]
pub(crate) struct Meter {
    pub shared: Arc<Shared>,
    pub role: Oid,
    pub tally: Tally,
    /// Those under which data is read, that have a quota.
    pub agreements: Vec<Oid>,
    /// Where the record of the act is told.
    pub facts: Facts,
    /// The act's id in the ledger.
    pub act: String,
}

/// Where what is read goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Client,
    /// The client, in full or not at all.
    All,
    /// Elsewhere in the warehouse: that counts for agreements alone.
    Warehouse,
}

/// One thing that bounds what may still be given.
struct Bound<'a> {
    what: What,
    left: u64,
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

impl Meter {
    /// # Errors
    /// `53400` where what may be given in a day was given.
    pub(crate) fn refuse_used_up(&self) -> Result<()> {
        if lock(&self.tally.0).prepaid {
            return Ok(());
        }
        let state = self.shared.catalog.subscribe().borrow().clone();
        let today = self.shared.usage.today();
        let bounds = self.of_day(&state, &today, To::Client)?;
        match bounds.iter().find(|bound| bound.left == 0) {
            Some(bound) => Err(bound.refusal(&state)),
            None => Ok(()),
        }
    }

    /// Counts all that a statement will give before it does, so that it gives all of it or nothing.
    pub(crate) async fn prepay(&self, all: Used) -> Result<()> {
        // No part of it is given.
        let none = |_: u64| u64::MAX;
        self.admit(all, none, To::All, &mut Used::default()).await?.1.map_or(Ok(()), Err)?;
        lock(&self.tally.0).prepaid = true;
        Ok(())
    }

    /// How many rows of `whole` may be given, and why not all. `bytes_of` says what so many of them
    /// take; what is given is counted, and put down where it must be.
    async fn admit(
        &self,
        whole: Used,
        bytes_of: impl Fn(u64) -> u64,
        to: To,
        put_down: &mut Used,
    ) -> Result<(u64, Option<Error>)> {
        let (count, refused, durable) = self.take(whole, bytes_of, to)?;
        if let Some(released) = durable {
            let now = released.given().plus(released.under_agreements());
            if now.rows > put_down.rows || now.bytes > put_down.bytes {
                // More than is needed, so that it is put down seldom: twice as much each time.
                let more = doubled(&released);
                *put_down = more.given().plus(more.under_agreements());
                self.shared.ledger.releasing(&self.act, more).await?;
            }
        }
        Ok((count, refused))
    }

    /// Takes what may be given from all that bounds it. Gives what the act has released altogether
    /// where that is to be durable first.
    fn take(
        &self,
        whole: Used,
        bytes_of: impl Fn(u64) -> u64,
        to: To,
    ) -> Result<(u64, Option<Error>, Option<Released>)> {
        let state = self.shared.catalog.subscribe().borrow().clone();
        let mut given = lock(&self.tally.0);
        if given.prepaid {
            return Ok((whole.rows, None, None));
        }
        let mut today = self.shared.usage.today();
        let of_day = self.of_day(&state, &today, to)?;
        let durable = !of_day.is_empty();
        let mut bounds = of_day;
        if to != To::Warehouse {
            bounds.extend(self.of_statement(&state, given.used));
        }
        let mut taken = whole;
        let mut refused = None;
        for bound in &bounds {
            if bound.cut(&mut taken, &bytes_of) {
                refused = Some(bound);
            }
        }
        let refused = refused.map(|bound| bound.refusal(&state));
        let released = match to {
            // All of it is needed.
            To::All | To::Warehouse if refused.is_some() => return Ok((0, refused, None)),
            To::Client | To::All => {
                given.used = given.used.plus(taken);
                self.released(taken, Used::default())
            }
            To::Warehouse => self.released(Used::default(), taken),
        };
        today.add(&released);
        let all = self.facts.released(&released);
        Ok((taken.rows, refused, durable.then_some(all)))
    }

    fn released(&self, given: Used, kept: Used) -> Released {
        Released {
            role: self.role,
            rows: given.rows,
            bytes: given.bytes,
            kept_rows: kept.rows,
            kept_bytes: kept.bytes,
            agreements: self.agreements.clone(),
        }
    }

    fn of_statement(&self, state: &State, used: Used) -> Vec<Bound<'static>> {
        let limits = limit::of_role(state, self.role);
        let of_server = self.shared.of_server.rows_per_statement;
        let mut bounds =
            bounds_of(&limits, [LimitName::RowsPerStatement, LimitName::BytesPerStatement], used);
        if of_server > 0 {
            let left = of_server.saturating_sub(used.rows);
            bounds.push(Bound { what: What::Rows, left, of: Of::Server(of_server) });
        }
        bounds
    }

    /// # Errors
    /// `58030` where there are quotas of a day and nothing is known of the day.
    fn of_day<'a>(&self, state: &'a State, today: &Today, to: To) -> Result<Vec<Bound<'a>>> {
        let mut bounds = match to {
            To::Client | To::All => {
                let limits = limit::of_role(state, self.role);
                let names = [LimitName::RowsPerDay, LimitName::BytesPerDay];
                bounds_of(&limits, names, today.of_role(self.role))
            }
            To::Warehouse => Vec::new(),
        };
        bounds.extend(of_agreements(state, today, &self.agreements));
        if !bounds.is_empty() {
            today.require_known()?;
        }
        Ok(bounds)
    }
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

/// Those of `agreements` that have a quota.
pub(crate) fn with_quota(state: &State, agreements: &[Oid]) -> Vec<Oid> {
    let has = |oid: &Oid| state.access.agreements.get(oid).is_some_and(|it| !it.quota.is_none());
    agreements.iter().copied().filter(has).collect()
}

/// The rows of a statement as far as they may be given. `meter` is there where they are of datasets.
pub(crate) fn metered(
    rows: impl Stream<Item = Result<RecordBatch>> + Send + 'static,
    meter: Option<Meter>,
) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static {
    let state = (Box::pin(rows), Used::default(), None::<Error>);
    futures::stream::unfold(Some(state), move |state| {
        let meter = meter.clone();
        async move {
            let (mut rows, mut put_down, refused) = state?;
            if let Some(error) = refused {
                return Some((Err(error), None));
            }
            let batch = match (rows.next().await?, &meter) {
                (Ok(batch), Some(_)) if batch.num_rows() > 0 => batch,
                (other, _) => return Some((other, Some((rows, put_down, None)))),
            };
            let Some(meter) = &meter else { return None };
            let whole = Used { rows: batch.num_rows() as u64, bytes: value_bytes(&batch) };
            let of = |count: u64| value_bytes(&first(&batch, count));
            match meter.admit(whole, of, To::Client, &mut put_down).await {
                Ok((0, Some(error))) | Err(error) => Some((Err(error), None)),
                Ok((count, refused)) => {
                    Some((Ok(first(&batch, count)), Some((rows, put_down, refused))))
                }
            }
        }
    })
}

/// Rows that are written elsewhere in the warehouse, counted for the agreements they are read under.
pub(crate) fn kept(rows: SendableRecordBatchStream, meter: Meter) -> SendableRecordBatchStream {
    if meter.agreements.is_empty() {
        return rows;
    }
    let schema = rows.schema();
    let state = Some((rows, meter, Used::default()));
    let counted = futures::stream::unfold(state, |state| async move {
        let (mut rows, meter, mut put_down) = state?;
        let batch = match rows.next().await? {
            Ok(batch) if batch.num_rows() > 0 => batch,
            other => return Some((other, Some((rows, meter, put_down)))),
        };
        let whole = Used { rows: batch.num_rows() as u64, bytes: value_bytes(&batch) };
        let of = |count: u64| value_bytes(&first(&batch, count));
        match meter.admit(whole, of, To::Warehouse, &mut put_down).await {
            Ok((_, None)) => Some((Ok(batch), Some((rows, meter, put_down)))),
            Ok((_, Some(error))) | Err(error) => Some((Err(to_engine(error)), None)),
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, counted))
}

/// The size of the values of a batch, of what it shares with others only its own part.
pub(crate) fn value_bytes(batch: &RecordBatch) -> u64 {
    let bytes = |column: &arrow::array::ArrayRef| {
        let data = column.to_data();
        data.get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
    };
    batch.columns().iter().map(|column| bytes(column) as u64).sum()
}

fn first(batch: &RecordBatch, count: u64) -> RecordBatch {
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(batch.num_rows());
    batch.slice(0, count)
}

fn doubled(released: &Released) -> Released {
    Released {
        rows: released.rows.saturating_mul(2),
        bytes: released.bytes.saturating_mul(2),
        kept_rows: released.kept_rows.saturating_mul(2),
        kept_bytes: released.kept_bytes.saturating_mul(2),
        ..released.clone()
    }
}

fn bounds_of(limits: &Limits, [rows, bytes]: [LimitName; 2], used: Used) -> Vec<Bound<'static>> {
    let bound = |name, what, used: u64| {
        let limit = limits.get(name)?;
        Some(Bound { what, left: limit.value.saturating_sub(used), of: Of::Role(limit) })
    };
    [bound(rows, What::Rows, used.rows), bound(bytes, What::Bytes, used.bytes)]
        .into_iter()
        .flatten()
        .collect()
}

fn of_agreements<'a>(state: &'a State, today: &Today, agreements: &[Oid]) -> Vec<Bound<'a>> {
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
    fn cut(&self, taken: &mut Used, bytes_of: impl Fn(u64) -> u64) -> bool {
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

    fn refusal(&self, state: &State) -> Error {
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
