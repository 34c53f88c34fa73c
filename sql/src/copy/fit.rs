//! A loader's batches made to fit the columns that a `COPY` takes.
//!
//! What it guarantees: columns come in the order that the `COPY` names them; a value is assigned as
//! PostgreSQL assigns it, or the load fails with the column's name; text is read by the rules of a
//! `COPY` of text. Batches come out in pieces whose memory is bounded, whatever one value that many
//! rows share would take once each row has its own.
//! What it does not: `NOT NULL`, lengths and checks are the write path's.
//! On failure: `42804` for a type that no value of can be assigned, before any row is taken;
//! `22xxx` for a value; `54000` for a batch or a row that is too large.

mod assign;
mod parameters;
mod size;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{RecordBatch, new_empty_array};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::Type;

use super::CopyIn;
use crate::errors::from_arrow;
use crate::input::zone::Zone;
use assign::assigned;
pub(crate) use assign::decimals;
use parameters::Wider;

/// As many rows are converted at a time, at most.
const PIECE_ROWS: usize = 64 * 1024;
/// A piece of more than one row takes no more than this once each row has its own values.
const PIECE_BYTES: u64 = 16 * 1024 * 1024;
/// One row takes no more.
const ROW_BYTES: u64 = 256 * 1024 * 1024;
/// Rows without values take no room in a message: this many are more than any honest one has.
const BATCH_ROWS: usize = 1 << 26;

/// How the columns of a loader become those of a `COPY`.
pub struct Fit {
    /// `None` for the parameters of a statement.
    relation: Option<String>,
    to: SchemaRef,
    /// What a parameter becomes that is no value of its type in `to`; no column of a `COPY` has it.
    wider: Vec<Option<Wider>>,
    zone: Zone,
}

impl CopyIn {
    /// How batches with the columns of `from`, which are those of the `COPY` in its order, are made
    /// to fit it.
    ///
    /// # Errors
    /// `42804` for the first column of a type that cannot be assigned, and says what was expected.
    pub fn fit(&self, from: &Schema) -> Result<Fit> {
        let zone = Zone::of_setting(self.scope.settings.time_zone())?;
        Fit::new(Some(&self.relation), &self.schema, from, zone)
    }
}

impl Fit {
    fn new(relation: Option<&str>, to: &SchemaRef, from: &Schema, zone: Zone) -> Result<Fit> {
        if from.fields().len() != to.fields().len() {
            return Err(Error::internal("a load has other columns than its COPY"));
        }
        let (relation, wider) = (relation.map(str::to_owned), Vec::new());
        let fit = Fit { relation, to: Arc::clone(to), wider, zone };
        for (from, to) in from.fields().iter().zip(to.fields()) {
            // What can be done with no value is what can be done at all.
            if assigned(&new_empty_array(from.data_type()), to, zone).is_err() {
                return Err(fit.mismatch(from, to));
            }
        }
        Ok(fit)
    }

    /// `batch` as the `COPY` takes it, in pieces.
    pub fn pieces<'a>(&'a self, batch: &'a RecordBatch) -> Pieces<'a> {
        Pieces { fit: self, batch, next: 0, rows: PIECE_ROWS }
    }

    fn piece(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut fields = Vec::with_capacity(batch.num_columns());
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (place, (to, column)) in self.to.fields().iter().zip(batch.columns()).enumerate() {
            let made = match self.wider.get(place).and_then(Option::as_ref) {
                None => assigned(column, to, self.zone).map(|made| (Arc::clone(to), made)),
                Some(wider) => wider.assigned(column, to, self.zone),
            };
            let (field, made) = made.map_err(|error| self.at_column(error, to))?;
            fields.push(field);
            columns.push(made);
        }
        let schema = match self.wider.is_empty() {
            true => Arc::clone(&self.to),
            false => Arc::new(Schema::new(fields)),
        };
        RecordBatch::try_new(schema, columns).map_err(|error| from_arrow(&error))
    }

    fn mismatch(&self, from: &Field, to: &FieldRef) -> Error {
        let expected =
            Type::from_field(to).map_or_else(|| to.data_type().to_string(), |of| of.to_string());
        let (place, given) = (self.place(to), from.data_type());
        let message = format!("{place} is of type {expected}, but what is sent is of type {given}");
        Error::new(Kind::DatatypeMismatch, message)
            .with_hint("Convert the values before they are sent.")
    }

    fn place(&self, to: &Field) -> String {
        match &self.relation {
            Some(relation) => format!("column \"{}\" of relation \"{relation}\"", to.name()),
            None => format!("parameter {}", to.name()),
        }
    }

    /// The error, with the column that it happened in.
    fn at_column(&self, error: Error, to: &Field) -> Error {
        if error.detail().is_some() {
            return error;
        }
        error.with_detail(format!("It is in {}.", self.place(to)))
    }
}

/// A batch, piece by piece.
pub struct Pieces<'a> {
    fit: &'a Fit,
    batch: &'a RecordBatch,
    next: usize,
    /// As many rows were one piece last.
    rows: usize,
}

impl Pieces<'_> {
    /// The rows from `next` on that are converted together.
    fn cut(&self) -> Result<RecordBatch> {
        if self.batch.num_rows() > BATCH_ROWS {
            return Err(too_large("a batch of the load has too many rows"));
        }
        let most = self.rows.saturating_mul(2).min(PIECE_ROWS);
        let mut rows = self.batch.num_rows().saturating_sub(self.next).min(most);
        loop {
            let piece = self.batch.slice(self.next, rows);
            let bytes = size::of_batch(&piece);
            match rows {
                _ if bytes <= PIECE_BYTES => return Ok(piece),
                1 if bytes <= ROW_BYTES => return Ok(piece),
                1 => return Err(too_large("a row of the load is too large")),
                _ => rows = rows.div_ceil(2),
            }
        }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        if self.next >= self.batch.num_rows() {
            return None;
        }
        let piece = self.cut().and_then(|piece| {
            self.next += piece.num_rows();
            self.rows = piece.num_rows();
            self.fit.piece(&piece)
        });
        if piece.is_err() {
            self.next = usize::MAX;
        }
        Some(piece)
    }
}

fn too_large(message: &str) -> Error {
    Error::new(Kind::ProgramLimitExceeded, message).with_hint("Send smaller batches.")
}
