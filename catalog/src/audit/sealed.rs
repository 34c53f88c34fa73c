//! The sealed part of the ledger: a plain Delta table in `audit/sealed`, readable by any tool.
//!
//! What it is: one row for each link: `server`, `sequence`, `time`, `id`, `event`, and `line`, the
//! link's bytes as they were chained, a JSON text that says everything. Its bodies lie beside it.
//! What it guarantees: links are appended in order, each once: a commit names the last sequence it
//! brings as the Delta application transaction of its server, and one that finds itself there is
//! not made again. Bodies are durable before the commit; the journal's segments go only after it.
//! What it does not: the columns beside `line` are for queries; whoever reads holds them against it.
//! On failure: what was not committed lies in the journal still, and the next sealing finds it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use futures::{FutureExt, Stream, StreamExt};
use object_store::ObjectStoreExt;

use super::bodies::{self, Bodies};
use super::stored::{Beside, Head, Linked, corrupted, digest};
use crate::error::{Error, Kind, Result};
use crate::table::{
    Commit, CommitAuthor, Compaction, Effort, Load, Location, Progress, Snapshot, TableColumn,
    Tables,
};
use crate::types::Type;

/// Links and bodies that are sealed in one commit.
const COMMIT_BYTES: usize = 64 * 1024 * 1024;
/// For sorting when files are put together; what needs more spills.
const TENDING_BYTES: usize = 128 << 20;
/// Rows that are written at a time.
const BATCH_ROWS: usize = 8192;

/// The sealed links of one server, in order.
pub(super) struct Sealed {
    server: String,
    batches: datafusion::execution::SendableRecordBatchStream,
    bodies: Bodies,
    next: u64,
}

/// The table, if anything was ever sealed.
pub(super) async fn snapshot(tables: &Tables) -> Result<Option<Snapshot>> {
    let location = Location::of_ledger();
    let first = location.path().join("_delta_log").join(format!("{:020}.json", 0));
    match tables.environment().store().head(&first).await {
        Ok(_) => tables.latest(&location).await.map(Some),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How many links of a server are sealed.
pub(super) async fn count(snapshot: &Snapshot, server: &str) -> Result<u64> {
    let last = snapshot.newest_load(&stream(server)).await?;
    Ok(last.and_then(|last| u64::try_from(last).ok()).map_or(0, |last| last.saturating_add(1)))
}

/// The head of what is sealed of a server's chain; `None` where nothing is.
pub(super) async fn head(tables: &Tables, server: &str) -> Result<Option<Head>> {
    let Some(snapshot) = snapshot(tables).await? else { return Ok(None) };
    let next = count(&snapshot, server).await?;
    let Some(last) = next.checked_sub(1) else { return Ok(None) };
    let mut rows = rows(tables, &snapshot, server, last).await?;
    let mut found = None;
    while let Some(links) = rows.next().await? {
        found = links.last().map(|link| Head { next, hash: digest(&link.link) }).or(found);
    }
    found.map(Some).ok_or_else(|| {
        let message = format!("audit record {last} of server {server} is sealed and not there");
        Error::new(Kind::DataCorrupted, message)
    })
}

/// The sealed links of a server from the number `first` on.
pub(super) async fn rows(
    tables: &Tables,
    snapshot: &Snapshot,
    server: &str,
    first: u64,
) -> Result<Sealed> {
    let from = i64::try_from(first).unwrap_or(i64::MAX);
    let batches = snapshot.in_order(("server", server), ("sequence", from)).await?;
    let bodies = Bodies::of(tables.environment(), server).await?;
    Ok(Sealed { server: server.to_owned(), batches, bodies, next: first })
}

/// The sealed links of a server that are not older than `since_ms`, without bodies, as their times
/// say; links of one moment come in any order.
pub(super) async fn since(
    snapshot: &Snapshot,
    server: &str,
    since_ms: i64,
) -> Result<impl Stream<Item = Result<Vec<Linked>>> + Send + use<>> {
    let since = since_ms.saturating_mul(1000);
    let batches = snapshot.in_order(("server", server), ("time", since)).await?;
    let server = server.to_owned();
    Ok(batches.map(move |batch| {
        let batch = batch.map_err(|error| match Error::of_storage(&error) {
            Some(storage) => storage.with_source(error),
            None => Error::new(Kind::DataCorrupted, "the sealed audit ledger cannot be read")
                .with_source(error),
        })?;
        let mut links = links_of(&server, &batch)?;
        links.retain(|link| link.beside.as_ref().is_some_and(|it| it.time_ms >= since_ms));
        Ok(links)
    }))
}

impl Sealed {
    /// Some links; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Linked>>> {
        loop {
            // The reader of Parquet panics at some bytes that nobody wrote.
            let next = AssertUnwindSafe(self.batches.next()).catch_unwind().await;
            let Ok(next) = next else {
                return Err(corrupted(&self.server, self.next, "or one after it cannot be read"));
            };
            let Some(batch) = next else { return Ok(None) };
            let batch = batch.map_err(|error| match Error::of_storage(&error) {
                Some(storage) => storage.with_source(error),
                // Bytes that are there and cannot be read are other bytes than were written.
                None => corrupted(&self.server, self.next, "or one after it cannot be read")
                    .with_source(error),
            })?;
            let mut links = self.links(&batch)?;
            for link in &mut links {
                link.body = self.bodies.get(link.sequence).await?;
            }
            if !links.is_empty() {
                return Ok(Some(links));
            }
        }
    }

    /// Those of a batch that were not given yet.
    fn links(&mut self, batch: &RecordBatch) -> Result<Vec<Linked>> {
        let mut links = links_of(&self.server, batch)?;
        links.retain(|link| {
            let is_new = link.sequence >= self.next;
            self.next = self.next.max(link.sequence.saturating_add(1));
            is_new
        });
        Ok(links)
    }
}

/// The links of `server` in a batch of the table, as it has them.
fn links_of(server: &str, batch: &RecordBatch) -> Result<Vec<Linked>> {
    let broken = || Error::new(Kind::DataCorrupted, "the sealed audit ledger lacks a column");
    let text = |name: &str| -> Result<StringArray> {
        let column = batch.column_by_name(name).ok_or_else(broken)?;
        let column = cast(column, &DataType::Utf8).map_err(|_| broken())?;
        Ok(column.as_string::<i32>().clone())
    };
    let whole = |name: &str| -> Result<Int64Array> {
        let column = batch.column_by_name(name).ok_or_else(broken)?;
        let column = cast(column, &DataType::Int64).map_err(|_| broken())?;
        Ok(column.as_primitive::<Int64Type>().clone())
    };
    let time = batch.column_by_name("time").ok_or_else(broken)?;
    let microseconds = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
    let time = cast(time, &microseconds).map_err(|_| broken())?;
    let time = time.as_primitive::<TimestampMicrosecondType>();
    let (servers, sequences) = (text("server")?, whole("sequence")?);
    let (ids, events, lines) = (text("id")?, text("event")?, text("line")?);
    let mut links = Vec::with_capacity(batch.num_rows());
    for at in 0..batch.num_rows() {
        if servers.value(at) != server {
            continue;
        }
        let Ok(sequence) = u64::try_from(sequences.value(at)) else { continue };
        links.push(Linked {
            sequence,
            link: lines.value(at).as_bytes().to_vec(),
            body: None,
            beside: Some(Beside {
                time_ms: time.value(at) / 1000,
                id: ids.value(at).to_owned(),
                event: events.value(at).to_owned(),
            }),
        });
    }
    Ok(links)
}

/// Appends links of `server`, the first of which follows the last that is sealed.
pub(super) async fn append(tables: &Tables, server: &str, links: &[Linked]) -> Result<()> {
    let Some(last) = links.last() else { return Ok(()) };
    let snapshot = match snapshot(tables).await? {
        Some(snapshot) => snapshot,
        None => create(tables).await?,
    };
    bodies::put(tables.environment(), server, links).await?;
    let mut stage = tables.stage(&Location::of_ledger(), &columns(), &[]);
    for some in links.chunks(BATCH_ROWS) {
        let written = match batch(&stage, server, some) {
            Ok(batch) => stage.write(&batch).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            stage.abort().await;
            return Err(error);
        }
    }
    let staged = stage.finish().await?;
    let sequence = i64::try_from(last.sequence)
        .map_err(|_| Error::internal("more audit records than numbers"))?;
    let load = Load { stream: stream(server), sequence };
    let commit = Commit::append(&snapshot, staged, author(tables)).with_load(load);
    tables.commit(&snapshot, commit).await.map(drop)
}

/// Keeps the table good to open and to read: few files, each sorted by server and sequence, and a
/// checkpoint now and then.
pub(super) async fn tend(tables: &Tables) -> Result<()> {
    let location = Location::of_ledger();
    if snapshot(tables).await?.is_none() {
        return Ok(());
    }
    while tables.compaction_is_due(&location).await? {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(TENDING_BYTES, 1.0).build_arc();
        let runtime = runtime.map_err(|error| {
            Error::internal("the sealed audit ledger cannot be sorted").with_source(error)
        })?;
        let compaction = Compaction {
            location: &location,
            effort: Effort::Due,
            sort_by: &["server".to_owned(), "sequence".to_owned()],
            keys: &[],
            runtime,
            author: author(tables),
            progress: &Progress::default(),
        };
        // Others were faster: what is left to do, the next round sees.
        if tables.compact(&compaction, std::future::pending()).await?.is_none() {
            break;
        }
    }
    if tables.checkpoint_is_due(&location).await? {
        tables.checkpoint(&location).await?;
    }
    Ok(())
}

/// How many links, from the first on, make one commit.
pub(super) fn portion(links: &[Linked]) -> usize {
    let mut bytes = 0;
    links
        .iter()
        .take_while(|link| {
            let before = bytes;
            bytes += link.link.len() + link.body.as_ref().map_or(0, Vec::len);
            before < COMMIT_BYTES
        })
        .count()
}

/// The table's first version. Of several servers that make it, one does.
async fn create(tables: &Tables) -> Result<Snapshot> {
    let location = Location::of_ledger();
    match tables.create(&location, &columns(), None, &author(tables)).await {
        Ok(_) => {}
        Err(error) if error.kind() == Kind::SerializationFailure => {}
        Err(error) => return Err(error),
    }
    tables.latest(&location).await
}

fn author(tables: &Tables) -> CommitAuthor {
    CommitAuthor { role: "kho".to_owned(), statement: tables.environment().new_id() }
}

fn columns() -> Vec<TableColumn> {
    let column = |(id, (name, data_type)): (u32, (&str, Type))| TableColumn {
        id: Some(id),
        name: name.to_owned(),
        data_type,
        not_null: true,
    };
    let all = [
        ("server", Type::Text),
        ("sequence", Type::BigInt),
        ("time", Type::TimestampTz),
        ("id", Type::Text),
        ("event", Type::Text),
        ("line", Type::Text),
    ];
    (1..).zip(all).map(column).collect()
}

fn batch(stage: &crate::table::Stage, server: &str, links: &[Linked]) -> Result<RecordBatch> {
    let beside = links.iter().map(|link| link.said_beside(server)).collect::<Result<Vec<_>>>()?;
    let texts = |of: &mut dyn Iterator<Item = &str>| -> ArrayRef {
        Arc::new(of.map(Some).collect::<StringArray>())
    };
    let lines = links.iter().map(|link| std::str::from_utf8(&link.link));
    let lines = lines.collect::<Result<Vec<_>, _>>().map_err(|error| {
        Error::new(Kind::DataCorrupted, "an audit record is no text").with_source(error)
    })?;
    let sequences = links.iter().map(|link| i64::try_from(link.sequence).unwrap_or(i64::MAX));
    let times = beside.iter().map(|it| it.time_ms.saturating_mul(1000));
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![
        texts(&mut links.iter().map(|_| server)),
        Arc::new(Int64Array::from_iter_values(sequences)),
        Arc::new(times),
        texts(&mut beside.iter().map(|it| it.id.as_str())),
        texts(&mut beside.iter().map(|it| it.event.as_str())),
        texts(&mut lines.into_iter()),
    ];
    RecordBatch::try_new(stage.schema().clone(), columns)
        .map_err(|error| Error::internal("sealed records make no batch").with_source(error))
}

fn stream(server: &str) -> String {
    format!("kho.audit/{server}")
}
