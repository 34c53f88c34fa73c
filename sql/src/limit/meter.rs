//! What one statement gives, counted row by row against everything that bounds it.
//!
//! What it guarantees: the row that would go beyond a limit is not given, those before it are; what
//! was given is counted, however the statement ends, and where a quota of a day bounds it, it was
//! put down in the ledger before it was given.
//! What it does not: it bounds no statement that reads no dataset.
//! On failure: `53400`, as the last item.

use std::sync::{Arc, Mutex};

use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Stream, StreamExt};
use kho_catalog::audit::{Released, Used};
use kho_catalog::error::{Error, Result};
use kho_catalog::limit;
use kho_catalog::state::{LimitName, Oid, State};

use super::bound::{self, Bound, with_quota};
use super::bytes::value_bytes;
use super::usage::Today;
use crate::engine::Shared;
use crate::errors::to_engine;
use crate::scope::lock;
use crate::session::Facts;

/// What one statement has given so far; cursors go on with it from one `FETCH` to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Mutex<Given>>);

#[derive(Debug, Default)]
struct Given {
    used: Used,
    /// It was counted before it was given.
    prepaid: bool,
}

/// The agreements that what runs stands on. All copies are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Under(Arc<Mutex<Arc<[Oid]>>>);

/// What an act put down in the ledger, of which day.
#[derive(Clone, Copy, Debug, Default)]
struct PutDown {
    day: i64,
    used: Used,
}

/// Counts for one act.
#[derive(Clone)]
pub(crate) struct Meter {
    pub shared: Arc<Shared>,
    pub role: Oid,
    pub tally: Tally,
    /// Those under which data is read, as they are decided while it is.
    pub agreements: Under,
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

impl Under {
    pub(crate) fn set(&self, agreements: Vec<Oid>) {
        *lock(&self.0) = agreements.into();
    }

    pub(crate) fn get(&self) -> Arc<[Oid]> {
        Arc::clone(&lock(&self.0))
    }
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
        self.admit(all, none, To::All, &mut PutDown::default()).await?.1.map_or(Ok(()), Err)?;
        lock(&self.tally.0).prepaid = true;
        Ok(())
    }

    /// Takes back what was prepaid for rows that are not given after all.
    pub(crate) fn give_back(&self) {
        let given = std::mem::take(&mut *lock(&self.tally.0));
        if given.prepaid {
            let state = self.shared.catalog.subscribe().borrow().clone();
            let released = self.released(&state, given.used, Used::default());
            self.shared.usage.today().give_back(&released);
            self.facts.not_released(&released);
        }
    }

    /// How many rows of `whole` may be given, and why not all. `bytes_of` says what so many of them
    /// take; what is given is counted, and put down where it must be.
    async fn admit(
        &self,
        whole: Used,
        bytes_of: impl Fn(u64) -> u64,
        to: To,
        put_down: &mut PutDown,
    ) -> Result<(u64, Option<Error>)> {
        let state = self.shared.catalog.subscribe().borrow().clone();
        self.shared.usage.refresh(&state).await;
        let (count, refused, durable) = self.take(whole, bytes_of, to)?;
        if let Some(released) = durable {
            let now = released.given().plus(released.under_agreements());
            // What was put down on an earlier day is none of today's.
            let (day, was) = (self.shared.usage.day(), put_down.used);
            if day != put_down.day || now.rows > was.rows || now.bytes > was.bytes {
                // More than is needed, so that it is put down seldom: twice as much each time.
                let more = doubled(&released);
                let used = more.given().plus(more.under_agreements());
                *put_down = PutDown { day, used };
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
                self.released(&state, taken, Used::default())
            }
            To::Warehouse => self.released(&state, Used::default(), taken),
        };
        today.add(&released);
        let all = self.facts.released(&released);
        Ok((taken.rows, refused, durable.then_some(all)))
    }

    fn released(&self, state: &State, given: Used, kept: Used) -> Released {
        Released {
            role: self.role,
            rows: given.rows,
            bytes: given.bytes,
            kept_rows: kept.rows,
            kept_bytes: kept.bytes,
            agreements: with_quota(state, &self.agreements.get()),
        }
    }

    fn of_statement(&self, state: &State, used: Used) -> Vec<Bound<'static>> {
        let limits = limit::of_role(state, self.role);
        let names = [LimitName::RowsPerStatement, LimitName::BytesPerStatement];
        let mut bounds = bound::of_role(&limits, names, used);
        bounds.extend(bound::of_server(self.shared.of_server.rows_per_statement, used));
        bounds
    }

    /// # Errors
    /// `58030` where there are quotas of a day and nothing is known of the day.
    fn of_day<'a>(&self, state: &'a State, today: &Today, to: To) -> Result<Vec<Bound<'a>>> {
        let mut bounds = match to {
            To::Client | To::All => {
                let limits = limit::of_role(state, self.role);
                let names = [LimitName::RowsPerDay, LimitName::BytesPerDay];
                bound::of_role(&limits, names, today.of_role(self.role))
            }
            To::Warehouse => Vec::new(),
        };
        bounds.extend(bound::of_agreements(state, today, &self.agreements.get()));
        if !bounds.is_empty() {
            today.require_known()?;
        }
        Ok(bounds)
    }
}

/// The rows of a statement as far as they may be given. `meter` is there where they are of datasets.
pub(crate) fn metered(
    rows: impl Stream<Item = Result<RecordBatch>> + Send + 'static,
    meter: Option<Meter>,
) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static {
    let state = (Box::pin(rows), PutDown::default(), None::<Error>);
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
    // One is stood on, or none will be: a dataset that asks for none asks for none while it is read.
    if meter.agreements.get().is_empty() {
        return rows;
    }
    let schema = rows.schema();
    let state = Some((rows, meter, PutDown::default()));
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
