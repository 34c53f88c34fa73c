//! Rows on their way to the client: piece by piece, never gathered.
//!
//! What it guarantees: what is held is one batch of the stream and about [`FLUSH_BYTES`] of encoded
//! rows, whatever the result's size and whatever limit the client names; the stream is asked for
//! more only when the client has taken what came before.
//! What it does not: it writes no description and no tag.
//! On failure: rows that were sent stay sent; the error follows them.

use std::panic::AssertUnwindSafe;

use arrow::record_batch::RecordBatch;
use futures::{FutureExt as _, StreamExt as _};
use kho_catalog::error::Result;
use kho_sql::copy::CopyOptions;
use kho_sql::outcome::{Rows, Tag};
use kho_sql::session::ValueFormat;
use tokio_util::sync::CancellationToken;

use crate::pgwire::value::copy::CopyEncoder;
use crate::pgwire::value::{FormatCode, RowEncoder};
use crate::pgwire::wire::{FLUSH_BYTES, Stop, Wire, bug, canceled};

/// The rows of a portal, from where the client has come to.
pub struct Cursor {
    pieces: Pieces,
    encoder: RowEncoder,
}

/// How far one `Execute` came.
#[derive(Debug, PartialEq, Eq)]
pub enum Reached {
    /// All rows are out; so many by this call.
    End(u64),
    /// The client's limit; there may be more.
    Limit,
}

/// A stream of batches in pieces that fit the buffer.
struct Pieces {
    rows: Rows,
    rest: Option<RecordBatch>,
    /// Rows of a piece, fitted to how wide rows turned out to be.
    piece_rows: usize,
}

const FIRST_PIECE_ROWS: usize = 64;
const LARGEST_PIECE_ROWS: usize = 8192;

impl Cursor {
    /// `formats` has one code for each column.
    pub fn try_new(rows: Rows, formats: &[FormatCode], format: &ValueFormat) -> Result<Cursor> {
        let encoder = RowEncoder::try_new(&rows.schema, formats, format)?;
        Ok(Cursor { pieces: Pieces::new(rows), encoder })
    }

    /// The client comes back for more: sending it may take `timeout_ms`, 0 is without end.
    pub fn renew(&self, timeout_ms: u64) {
        self.pieces.rows.deadline.renew(timeout_ms);
    }

    /// The command that the tag names.
    pub fn command(&self) -> &'static str {
        self.pieces.rows.command
    }

    /// Sends at most `max_rows` rows, all of them where that is zero or less.
    ///
    /// # Errors
    /// What the stream says, `57014` when stopped, `Gone` without a client.
    pub async fn send(
        &mut self,
        wire: &mut Wire,
        max_rows: i32,
        stop: &CancellationToken,
    ) -> Result<Reached, Stop> {
        let limit = u64::try_from(max_rows).ok().filter(|limit| *limit > 0).unwrap_or(u64::MAX);
        let mut sent = 0;
        while sent < limit {
            let Some(piece) = self.pieces.next(wire, limit - sent, stop).await? else {
                return Ok(Reached::End(sent));
            };
            let before = wire.out.len();
            self.encoder.encode(&piece, &mut wire.out)?;
            self.pieces.fit(piece.num_rows(), wire.out.len().saturating_sub(before));
            sent += piece.num_rows() as u64;
            wire.flush_if_full(stop, &self.pieces.rows.deadline).await?;
        }
        Ok(Reached::Limit)
    }
}

/// Sends the rows of a `COPY … TO STDOUT` as `CopyData`; returns how many there were.
///
/// # Errors
/// What the stream says, `57014` when stopped, `Gone` without a client.
pub async fn send_copy(
    wire: &mut Wire,
    rows: Rows,
    options: &CopyOptions,
    format: &ValueFormat,
    stop: &CancellationToken,
) -> Result<u64, Stop> {
    let mut encoder = CopyEncoder::try_new(&rows.schema, options, format)?;
    let mut pieces = Pieces::new(rows);
    let mut sent = 0;
    encoder.start(&mut wire.out)?;
    while let Some(piece) = pieces.next(wire, u64::MAX, stop).await? {
        let before = wire.out.len();
        encoder.encode(&piece, &mut wire.out)?;
        pieces.fit(piece.num_rows(), wire.out.len().saturating_sub(before));
        sent += piece.num_rows() as u64;
        wire.flush_if_full(stop, &pieces.rows.deadline).await?;
    }
    encoder.finish(&mut wire.out)?;
    Ok(sent)
}

/// The tag of a command that gave rows; only some commands count them.
pub fn tag(command: &str, rows: u64) -> Tag {
    match command {
        "SELECT" | "FETCH" | "MOVE" | "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY" => {
            Tag::with_rows(command, rows)
        }
        _ => Tag::new(command),
    }
}

impl Pieces {
    fn new(rows: Rows) -> Pieces {
        Pieces { rows, rest: None, piece_rows: FIRST_PIECE_ROWS }
    }

    /// The next piece, of one to `most` rows; `None` after the last.
    async fn next(
        &mut self,
        wire: &mut Wire,
        most: u64,
        stop: &CancellationToken,
    ) -> Result<Option<RecordBatch>, Stop> {
        let batch = loop {
            let batch = match self.rest.take() {
                Some(batch) => {
                    // The client may have been away for long.
                    self.rows.check()?;
                    Some(batch)
                }
                None => {
                    self.rows.ask_for(most);
                    self.pull(wire, stop).await?
                }
            };
            match batch {
                Some(batch) if batch.num_rows() == 0 => {}
                Some(batch) => break batch,
                None => return Ok(None),
            }
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let count = batch.num_rows().min(self.piece_rows).min(most);
        if count < batch.num_rows() {
            self.rest = Some(batch.slice(count, batch.num_rows() - count));
        }
        Ok(Some(batch.slice(0, count)))
    }

    /// Asks the stream; a panic in it is its own, the session is not concerned. It has its own eye
    /// on `stop`, and words for why it stopped, so it is asked first; but nothing of it is waited
    /// for once it was told to stop.
    async fn pull(
        &mut self,
        wire: &mut Wire,
        stop: &CancellationToken,
    ) -> Result<Option<RecordBatch>, Stop> {
        tokio::select! {
            biased;
            batch = AssertUnwindSafe(self.rows.next()).catch_unwind() => {
                let batch = batch.map_err(|_| bug())?;
                Ok(batch.transpose()?)
            }
            () = stop.cancelled() => Err(canceled().into()),
            () = wire.watch() => {
                stop.cancel();
                Err(Stop::Gone)
            }
        }
    }

    fn fit(&mut self, rows: usize, bytes: usize) {
        let row_bytes = bytes.div_ceil(rows.max(1)).max(1);
        self.piece_rows = (FLUSH_BYTES / row_bytes).clamp(1, LARGEST_PIECE_ROWS);
    }
}

#[cfg(test)]
mod tests;
