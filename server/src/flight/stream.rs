//! Rows on their way to a client: batch by batch, never gathered.
//!
//! What it guarantees: what is held is a few batches, whatever the result's size; the rows are asked
//! for more only when the client has taken what came before; a client that stops reading holds up
//! nobody, and what it holds is free once the statement's time is over. Batches have exactly the
//! schema that was described, and hold nothing but their values, see [`bare`].
//! What it does not: it makes no rows.
//! On failure: rows that were sent stay sent; the error follows them.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow_flight::FlightData;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use futures::{FutureExt as _, Stream, StreamExt as _};
use kho_catalog::error::{Error, Result};
use kho_sql::outcome::{Deadline, Rows, bytes_of};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::bare::bare;
use super::client::Shared;
use super::error::{bug, canceled, status};
use super::options::Form;

/// About what one message holds. Batches of a usual table are less.
const PIECE_BYTES: usize = 2 << 20;

/// What a call answers with, piece by piece.
pub type Messages = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;

/// Batches, and until when they must be out.
pub struct Source {
    pub schema: SchemaRef,
    pub batches: Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>,
    pub deadline: Deadline,
    /// Whose block fails with the rows, and which.
    pub block: Option<(Shared, u64)>,
}

impl From<Rows> for Source {
    fn from(rows: Rows) -> Source {
        let (schema, deadline) = (relaxed(&rows.schema), rows.deadline.clone());
        Source { schema, deadline, batches: Box::pin(rows), block: None }
    }
}

impl Source {
    /// Rows that are there already.
    pub fn of(schema: SchemaRef, batches: Vec<RecordBatch>) -> Source {
        let batches = Box::pin(futures::stream::iter(batches.into_iter().map(Ok)));
        Source { schema, batches, deadline: Deadline::default(), block: None }
    }

    /// The same rows, of a statement that was just run with `session`.
    pub fn of_session(self, session: Shared) -> Source {
        let block = session.block();
        Source { block: Some((session, block)), ..self }
    }
}

/// The rows, and an error where their time is over before they are.
pub fn in_time(rows: Rows) -> impl Stream<Item = Result<RecordBatch>> + Send {
    futures::stream::unfold(Some(rows), |rows| async move {
        let mut rows = rows?;
        let deadline = rows.deadline.clone();
        tokio::select! {
            biased;
            next = rows.next() => next.map(|batch| (batch, Some(rows))),
            error = deadline.passed() => Some((Err(error), None)),
        }
    })
}

/// The messages of `source`. `kept` lives until they end; `stop` ends them, and is told when the
/// client is gone.
pub fn messages(
    source: Source,
    form: Form,
    stop: CancellationToken,
    kept: impl Send + 'static,
) -> Result<Messages> {
    let shown = shown(&source.schema, form);
    let options = IpcWriteOptions::default()
        .try_with_compression(form.compression)
        .map_err(|error| Error::internal("a compression is not there").with_source(error))?;
    let (ready, waiting) = mpsc::channel(1);
    let schema = Arc::clone(&shown);
    let gone = stop.clone().drop_guard();
    let block = source.block.clone();
    tokio::spawn(async move {
        let fed = AssertUnwindSafe(feed(source, &schema, &stop, &ready)).catch_unwind().await;
        let error = match fed {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(bug()),
        };
        // What the rows held is free before the client comes for what is to be told.
        drop(kept);
        if let Some(error) = error {
            if let Some((session, block)) = block {
                session.fail(block);
            }
            let _ = ready.send(Err(FlightError::Tonic(Box::new(status(&error))))).await;
        }
    });
    let batches = futures::stream::unfold((waiting, gone), |(mut waiting, gone)| async move {
        waiting.recv().await.map(|batch| (batch, (waiting, gone)))
    });
    let encoded = FlightDataEncoderBuilder::new()
        .with_schema(shown)
        .with_options(options)
        .with_dictionary_handling(DictionaryHandling::Resend)
        .build(batches);
    Ok(Box::pin(encoded.map(|message| {
        message.map_err(|error| match error {
            FlightError::Tonic(status) => *status,
            other => {
                status(&Error::internal("rows cannot be encoded").with_source(other.to_string()))
            }
        })
    })))
}

/// Brings batches to the channel, which has room for one.
async fn feed(
    source: Source,
    schema: &SchemaRef,
    stop: &CancellationToken,
    ready: &mpsc::Sender<Result<RecordBatch, FlightError>>,
) -> Result<()> {
    let Source { mut batches, deadline, .. } = source;
    let all = async {
        while let Some(batch) = batches.next().await {
            for piece in pieces(batch?) {
                let batch = fitted(piece, schema)?;
                if batch.num_rows() > 0 && ready.send(Ok(batch)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    };
    tokio::select! {
        biased;
        fed = all => fed,
        () = ready.closed() => Ok(()),
        error = deadline.passed() => Err(error),
        () = stop.cancelled() => Err(canceled()),
    }
}

/// The same columns, each of which may be NULL: whether one can be is found out anew with each plan,
/// and clients want the very schema that they were told.
pub fn relaxed(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| Field::clone(field).with_nullable(true));
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// The schema that a client is shown: without what it may not know.
pub fn shown(schema: &SchemaRef, form: Form) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field_shown(field, form.views));
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

fn field_shown(field: &FieldRef, views: bool) -> FieldRef {
    let data_type = type_shown(field.data_type(), views);
    match data_type == *field.data_type() {
        true => Arc::clone(field),
        false => Arc::new(Field::clone(field).with_data_type(data_type)),
    }
}

/// Dictionaries become their values, and views, for who does not know them, what they are views of.
fn type_shown(data_type: &DataType, views: bool) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => type_shown(values, views),
        DataType::Utf8View if !views => DataType::Utf8,
        DataType::BinaryView if !views => DataType::Binary,
        // Arrow's encoder of Flight data tells of a list where it sends a large one.
        DataType::List(field) | DataType::LargeList(field) => {
            DataType::List(field_shown(field, views))
        }
        DataType::FixedSizeList(field, size) => {
            DataType::FixedSizeList(field_shown(field, views), *size)
        }
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|it| field_shown(it, views)).collect())
        }
        DataType::Map(field, sorted) => DataType::Map(field_shown(field, views), *sorted),
        other => other.clone(),
    }
}

/// The batch, in pieces of a message's size.
///
/// # Why
/// Arrow's encoder cuts what is larger by itself, but makes all of the messages of a batch at once, and
/// sends all that any view of a batch points to with each piece.
fn pieces(batch: RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let rows = batch.num_rows();
    let row_bytes = bytes_of(&batch).div_ceil(rows.max(1));
    let step = (PIECE_BYTES / row_bytes.max(1)).max(1);
    (0..rows).step_by(step).map(move |start| batch.slice(start, step.min(rows - start)))
}

/// A batch with the types that were told, and nothing else in it.
fn fitted(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    kho_sql::told::check(&batch, schema)?;
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() {
            return bare(column);
        }
        bare(&cast_with_options(column, field.data_type(), &options)?)
    });
    let columns: Result<Vec<ArrayRef>, _> = columns.collect();
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    columns
        .and_then(|columns| RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows))
        .map_err(|error| Error::internal("rows are not what was told").with_source(error))
}
