//! Cursors of SQL: `DECLARE`, `FETCH`, `MOVE`, `CLOSE`.
//!
//! What it is: a query that runs two batches ahead of what was fetched of it, whatever its size.
//! What it guarantees: rights are decided when it is declared, and again with each `FETCH`, its purpose, too: rows do
//! not come after their right was taken. It lives as long as its transaction,
//! or, `WITH HOLD`, as long as the session, if that transaction committed. Its record in the ledger
//! is open as long as it is, and counts the rows that were fetched.
//! What it does not: it goes forward only (`SCROLL` is `0A000`, a step back `55000`). A held cursor
//! is not copied when its transaction ends: it goes on with the snapshot it began with, so what its
//! query raises, it raises when it comes there.
//! On failure: of its query, the cursor is at its end.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::scalar::ScalarValue;
use futures::StreamExt as _;
use kho_catalog::audit::Opened;
use kho_catalog::error::{Error, Kind, Result};
use sqlparser::ast;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::dispatch::{self, Done};
use super::record::{self, Facts};
use super::{Session, value_fields};
use crate::authorize::Rights;
use crate::bind::folded;
use crate::execute::Limits;
use crate::limit::running::Place;
use crate::outcome::{Rows, Tag};
use crate::parse::{CursorStatement, Declare, Fetch, Step};
use crate::scope::Scope;
use crate::settings::Settings;
use crate::write::modify::Parameters;

/// Cursors of one session; each holds what its query holds.
const CURSORS_MAX: usize = 256;

/// The cursors of one session, by name.
#[derive(Default)]
pub(super) struct Cursors(HashMap<String, Cursor>);

struct Cursor {
    schema: SchemaRef,
    hold: bool,
    /// Its transaction has committed.
    kept: bool,
    /// How many savepoints there were when it was declared.
    depth: usize,
    at: Arc<Mutex<Position>>,
}

/// How far a cursor has come.
struct Position {
    /// `None` at the end.
    rows: Option<Rows>,
    rest: Option<RecordBatch>,
    /// How many rows it has given or passed over.
    passed: u64,
    /// It stands on a row, not before the first or after the last.
    on_row: bool,
    /// Rows of an earlier `FETCH` that its client did not take: they are passed over first.
    owed: u64,
    opened: Option<(Opened, Facts)>,
    /// Among the statements that run, until its query is at its end.
    place: Option<Place>,
    rights: Rights,
}

impl Cursors {
    pub(super) fn columns(&self, name: &str) -> Option<SchemaRef> {
        self.0.get(name).map(|cursor| cursor.schema.clone())
    }

    /// Puts the record of its `DECLARE` to a cursor.
    pub(super) fn record(&self, name: &str, opened: Opened, facts: Facts, place: Option<Place>) {
        if let Some(Ok(mut position)) = self.0.get(name).map(|cursor| cursor.at.try_lock()) {
            position.opened = Some((opened, facts));
            position.place = place;
        }
    }

    /// The transaction is over: what it declared goes, unless it committed and is to be held.
    pub(super) fn end(&mut self, committed: bool) {
        self.0.retain(|_, cursor| {
            cursor.kept |= committed && cursor.hold;
            cursor.kept
        });
    }

    /// Those declared behind the savepoint of this number go with what is undone.
    pub(super) fn close_after(&mut self, savepoint: usize) {
        self.0.retain(|_, cursor| cursor.kept || cursor.depth <= savepoint);
    }

    /// Those declared behind the savepoint of this number belong to what is around it.
    pub(super) fn merge_into(&mut self, savepoint: usize) {
        for cursor in self.0.values_mut() {
            cursor.depth = cursor.depth.min(savepoint);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// `CLOSE`.
    pub(super) fn close(&mut self, which: &ast::CloseCursor) -> Result<Tag> {
        match which {
            ast::CloseCursor::All => {
                self.clear();
                Ok(Tag::new("CLOSE CURSOR ALL"))
            }
            ast::CloseCursor::Specific { name } => match self.0.remove(&folded(name)) {
                Some(_) => Ok(Tag::new("CLOSE CURSOR")),
                None => Err(no_cursor(&folded(name))),
            },
        }
    }

    /// The cursor's place, for one statement alone.
    fn take(&self, name: &ast::Ident) -> Result<(SchemaRef, OwnedMutexGuard<Position>)> {
        let name = folded(name);
        let cursor = self.0.get(&name).ok_or_else(|| no_cursor(&name))?;
        // A portal that fetches from it was left half way.
        let position = Arc::clone(&cursor.at).try_lock_owned().map_err(|_| {
            let message = format!("portal \"{name}\" cannot be run");
            Error::new(Kind::NotInPrerequisiteState, message)
        })?;
        Ok((cursor.schema.clone(), position))
    }
}

impl Session {
    pub(super) async fn perform_cursor(
        &mut self,
        scope: &Scope,
        statement: &CursorStatement,
        parameters: &[ScalarValue],
        limits: &Limits,
    ) -> Result<Done> {
        match statement {
            CursorStatement::Declare(it) => self.declare(scope, it, parameters, limits).await,
            CursorStatement::Fetch(it) if it.moves => {
                let (_, mut position) = self.cursors.take(&it.name)?;
                position.restate(&self.settings)?;
                position.rights.require(scope)?;
                let moved = limits.run(position.pass(it.step)).await?;
                Ok(Done::Tag(Tag::with_rows("MOVE", moved)))
            }
            CursorStatement::Fetch(it) => self.fetch(scope, it, limits).await,
        }
    }

    async fn declare(
        &mut self,
        scope: &Scope,
        declare: &Declare,
        parameters: &[ScalarValue],
        limits: &Limits,
    ) -> Result<Done> {
        let name = folded(&declare.name);
        if self.block.is_none() && !declare.hold {
            let message = "DECLARE CURSOR can only be used in transaction blocks";
            return Err(Error::new(Kind::NoActiveTransaction, message));
        }
        if declare.binary || declare.scroll {
            let word = if declare.binary { "BINARY" } else { "SCROLL" };
            return Err(Error::unsupported(format!("{word} cursors are not supported")));
        }
        if self.cursors.0.contains_key(&name) {
            let message = format!("cursor \"{name}\" already exists");
            return Err(Error::new(Kind::DuplicateCursor, message));
        }
        if self.cursors.0.len() >= CURSORS_MAX {
            let message = "this session has too many open cursors";
            return Err(Error::new(Kind::ProgramLimitExceeded, message)
                .with_hint("Close those that are no longer needed."));
        }
        let fields = value_fields(parameters);
        let values = Parameters { fields: &fields, values: parameters };
        let query = dispatch::query(scope, &declare.query, values);
        let (plan, names) = limits.run(query).await?;
        // The cursor outlives this statement's time; each `FETCH` has its own.
        let open = Limits::of_cursor(self.watch());
        let rows = limits.run(dispatch::rows(&plan, &open, "FETCH", names)).await?;
        let schema = rows.schema.clone();
        let position = Position {
            rows: Some(rows),
            rest: None,
            passed: 0,
            on_row: false,
            owed: 0,
            opened: None,
            place: None,
            rights: plan.rights().clone(),
        };
        let at = Arc::new(Mutex::new(position));
        let depth = self.savepoints.depth();
        let cursor = Cursor { schema, hold: declare.hold, kept: false, depth, at };
        self.cursors.0.insert(name.clone(), cursor);
        Ok(Done::Declared(name))
    }

    async fn fetch(&mut self, scope: &Scope, fetch: &Fetch, limits: &Limits) -> Result<Done> {
        let (schema, mut position) = self.cursors.take(&fetch.name)?;
        position.restate(&self.settings)?;
        let standing = position.rows.as_ref().and_then(Rows::standing);
        position.rights.require(scope)?;
        let count = limits.run(position.approach(fetch.step)).await?;
        position.owed = count;
        let state = (position, limits.clone());
        let rows = futures::stream::unfold(state, |(mut position, limits)| async move {
            let next = limits.run(position.owed_rows()).await.transpose()?;
            Some((next, (position, limits)))
        });
        let rows = Rows::new(schema, "FETCH", rows).standing_on(standing);
        Ok(Done::Rows(rows))
    }
}

impl Position {
    /// A held cursor outlives its transaction, and the session may have another purpose by now.
    fn restate(&mut self, settings: &Settings) -> Result<()> {
        self.rows.as_mut().map_or(Ok(()), |rows| rows.restate(settings))
    }

    /// Goes to just before the rows that `step` gives; says how many those are at most.
    async fn approach(&mut self, step: Step) -> Result<u64> {
        while self.owed > 0 && self.owed_rows().await?.is_some() {}
        self.owed = 0;
        let (skipped, given) = match step {
            Step::Forward(0) | Step::Relative(0) if !self.on_row => (0, 0),
            Step::Forward(count) if count > 0 => (0, count),
            Step::Relative(count) if count > 0 => (count.unsigned_abs() - 1, 1),
            Step::Absolute(row) if row > 0 && row.unsigned_abs() > self.passed => {
                (row.unsigned_abs() - 1 - self.passed, 1)
            }
            _ => {
                let message = "cursor can only scan forward";
                return Err(Error::new(Kind::NotInPrerequisiteState, message)
                    .with_hint("Declare the cursor again to begin anew."));
            }
        };
        self.owed = skipped;
        while self.owed > 0 && self.owed_rows().await?.is_some() {}
        Ok(given)
    }

    /// Takes `step` without giving rows; says how many it would have given.
    async fn pass(&mut self, step: Step) -> Result<u64> {
        if matches!(step, Step::Forward(0) | Step::Relative(0)) && self.owed == 0 {
            return Ok(u64::from(self.on_row));
        }
        self.owed = self.approach(step).await?;
        let mut count = 0;
        while let Some(batch) = self.owed_rows().await? {
            count += batch.num_rows() as u64;
        }
        Ok(count)
    }

    /// The next rows of what is owed; `None` when all of it is given, or nothing is left.
    async fn owed_rows(&mut self) -> Result<Option<RecordBatch>> {
        if self.owed == 0 {
            return Ok(None);
        }
        let Some(batch) = self.next_batch().await? else {
            (self.owed, self.on_row) = (0, false);
            return Ok(None);
        };
        let most = usize::try_from(self.owed).unwrap_or(usize::MAX);
        let count = batch.num_rows().min(most);
        if count < batch.num_rows() {
            self.rest = Some(batch.slice(count, batch.num_rows() - count));
        }
        self.owed -= count as u64;
        self.passed += count as u64;
        self.on_row = true;
        Ok(Some(batch.slice(0, count)))
    }

    /// The next batch that has rows.
    async fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let mut rest = self.rest.take();
        loop {
            let Some(rows) = &mut self.rows else { return Ok(None) };
            let next = match rest.take() {
                Some(rest) => Some(rows.check().map(|()| rest)),
                None => rows.next().await,
            };
            match next {
                Some(Ok(batch)) if batch.num_rows() == 0 => {}
                Some(Ok(batch)) => return Ok(Some(batch)),
                Some(Err(error)) => {
                    (self.rows, self.place) = (None, None);
                    if let Some((opened, facts)) = self.opened.take() {
                        record::failed(opened, &error, &facts);
                    }
                    return Err(error);
                }
                None => (self.rows, self.place) = (None, None),
            }
        }
    }
}

/// A cursor that is closed has done what was asked of it, however far it came.
impl Drop for Position {
    fn drop(&mut self) {
        if let Some((opened, facts)) = self.opened.take() {
            record::succeed(opened, &Tag::with_rows("DECLARE CURSOR", self.passed), &facts);
        }
    }
}

fn no_cursor(name: &str) -> Error {
    Error::new(Kind::InvalidCursorName, format!("cursor \"{name}\" does not exist"))
}
