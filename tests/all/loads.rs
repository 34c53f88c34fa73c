//! Bulk loads of Arrow data over a session: what is loaded, what is refused, and what is left.

mod attacks;
mod beside;
mod modes;
mod once;
mod values;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, FieldRef};
use arrow_flight::FlightData;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::utils::batches_to_flight_data;
use futures::{TryStreamExt, stream};
use kho_catalog::error::{Error, Result};
use kho_server::flight::ingest::{Arriving, Existing, LoadName, Loaded, Target, ingest};
use kho_server::flight::name::RelationName;
use kho_sql::session::{Held, Session};
use kho_tests::inside::{Server, Warehouse, play, run};
use tokio_util::sync::CancellationToken;
use tonic::Status;

const SILENCE: Duration = Duration::from_secs(60);

async fn served() -> (Server, Session) {
    let server = Warehouse::in_memory().serve_well("one").await.unwrap();
    let session = server.connect().await.unwrap();
    (server, session)
}

fn table(name: &str) -> RelationName {
    RelationName::new(Some("s".to_owned()), name.to_owned()).unwrap()
}

fn target(name: &str, creates: bool, existing: Existing) -> Target {
    Target { table: table(name), creates, existing }
}

fn append(name: &str) -> Target {
    Target::append(table(name))
}

/// Columns of numbers and texts, as many rows as there are.
fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter(columns.iter().map(|(name, of)| (*name, Arc::clone(of)))).unwrap()
}

fn numbers(of: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(of.to_vec()))
}

fn texts(of: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(of.to_vec()))
}

fn messages(batches: &[RecordBatch]) -> Vec<Result<FlightData, Status>> {
    let schema = batches[0].schema();
    let is_dictionary = |it: &FieldRef| matches!(it.data_type(), DataType::Dictionary(_, _));
    // The one encoder takes no dictionaries, the other tells of a list where it sends a large one.
    if !schema.fields().iter().any(is_dictionary) {
        let data = batches_to_flight_data(&schema, batches.to_vec()).unwrap();
        return data.into_iter().map(Ok).collect();
    }
    let batches: Vec<_> = batches.iter().cloned().map(Ok).collect();
    let encoder = FlightDataEncoderBuilder::new()
        .with_max_flight_data_size(usize::MAX)
        .with_dictionary_handling(DictionaryHandling::Resend)
        .with_schema(schema)
        .build(stream::iter(batches));
    // It waits for nothing.
    futures::executor::block_on_stream(encoder.map_err(Status::from)).collect()
}

async fn arriving(messages: Vec<Result<FlightData, Status>>) -> Result<Arriving> {
    Arriving::open(stream::iter(messages), SILENCE, Held::without_limit()).await
}

async fn load(session: &mut Session, to: &Target, batches: &[RecordBatch]) -> Result<Loaded> {
    load_named(session, to, None, batches).await
}

async fn load_named(
    session: &mut Session,
    to: &Target,
    name: Option<(&str, &str)>,
    batches: &[RecordBatch],
) -> Result<Loaded> {
    let name = name.map(|(stream, sequence)| LoadName {
        stream: stream.to_owned(),
        sequence: sequence.to_owned(),
    });
    let arriving = arriving(messages(batches)).await?;
    ingest(session, to, name.as_ref(), arriving, &CancellationToken::new()).await
}

fn refused<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("it is not refused"),
        Err(error) => error,
    }
}

/// The rows of a query as one line of text.
async fn answer(session: &mut Session, query: &str) -> String {
    let found = run(session, query).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
    let row = |row: Vec<Option<String>>| {
        let values = row.into_iter().map(|it| it.unwrap_or_else(|| "NULL".to_owned()));
        values.collect::<Vec<_>>().join(" ")
    };
    found.rows.into_iter().map(row).collect::<Vec<_>>().join("; ")
}
