//! Building the demo: the statements in order, and the rows through `COPY`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use chrono::Utc;
use futures::{StreamExt, TryStreamExt};
use kho_catalog::error::{Error, Result};
use kho_connectors::files::{BATCH_ROWS, CsvFile, CsvOptions, ParquetFile};
use kho_connectors::source::{Batches, Source};
use kho_sql::outcome::Outcome;
use kho_sql::session::{Credential, Engine, Login, Session};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use tokio_util::sync::CancellationToken;

use super::folder::{Facts, Folder};
use super::script::{self, PEOPLE, password};
use super::{SEED, city};
use crate::bootstrap::ADMIN;

/// Steps that are told, for the count in front of each.
const STEPS: usize = 11 + city::MONTHS.len();

/// Where the rows of a load are.
enum Rows {
    Here(RecordBatch),
    Csv(PathBuf),
    Parquet(PathBuf),
}

/// Builds everything; what it returns is known only now.
pub(super) async fn build(
    engine: &Arc<Engine>,
    folder: &Folder,
    mut facts: Facts,
) -> Result<Facts> {
    let mut progress = Progress::default();
    let communes = city::communes(SEED);
    make_roles(engine, &mut progress).await?;

    let mut session = connect(engine, script::CIVIL_REGISTRAR).await?;
    run(&mut session, script::COMMUNE).await?;
    let inserted = run(&mut session, &insert_communes(&communes)).await?;
    progress.tell("civil_registry.commune, by INSERT", Some(inserted));

    let files = folder.import();
    tokio::fs::create_dir_all(&files).await?;
    let mut session = connect(engine, script::BUSINESS_REGISTRAR).await?;
    run(&mut session, script::REGISTRY).await?;
    let path = files.join("registry.csv");
    write_csv(&path, &city::businesses(SEED, &communes)?)?;
    progress.tell("wrote registry.csv", None);
    let rows = load(&mut session, "business.registry", Rows::Csv(path)).await?;
    progress.tell("business.registry, from registry.csv", Some(rows));

    let mut session = connect(engine, script::HEALTH_OFFICER).await?;
    run(&mut session, script::PATIENT).await?;
    let path = files.join("patient.parquet");
    write_parquet(&path, &city::patients(SEED, &communes)?)?;
    progress.tell("wrote patient.parquet", None);
    let rows = load(&mut session, "health.patient", Rows::Parquet(path)).await?;
    progress.tell("health.patient, from patient.parquet", Some(rows));
    tokio::fs::remove_dir_all(&files).await?;
    run(&mut session, script::PATIENT_ACCESS).await?;
    progress.tell("who sees which patients: policies, masks, agreements", None);

    let mut session = connect(engine, script::ENVIRONMENT_OFFICER).await?;
    facts.before_correction = air(&mut session, &communes, &mut progress).await?;
    Ok(facts)
}

async fn make_roles(engine: &Arc<Engine>, progress: &mut Progress) -> Result<()> {
    let mut session = connect(engine, ADMIN).await?;
    for person in PEOPLE {
        let role = person.role;
        let create = format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", password(role));
        run(&mut session, &create).await?;
    }
    progress.tell("roles", Some(u64::try_from(PEOPLE.len()).unwrap_or_default()));
    run(&mut session, script::SCHEMAS).await?;
    progress.tell("schemas", None);
    Ok(())
}

/// One commit a month, then two that put right what the sensors got wrong. Gives a moment between.
async fn air(
    session: &mut Session,
    communes: &[city::Commune],
    progress: &mut Progress,
) -> Result<String> {
    run(session, script::AIR).await?;
    let stations = Rows::Here(city::stations(communes)?);
    let rows = load(session, "environment.station", stations).await?;
    progress.tell("environment.station", Some(rows));
    for (year, month) in city::MONTHS {
        let readings = Rows::Here(city::readings(SEED, (year, month))?);
        let rows = load(session, "environment.air_quality", readings).await?;
        progress.tell(&format!("environment.air_quality, {year}-{month:02}"), Some(rows));
    }
    let between = Utc::now().format("%Y-%m-%d %H:%M:%S%.6f+00").to_string();
    let rows = run(session, script::CORRECTION).await?;
    progress.tell("corrected a station that measured ten times too much", Some(rows));
    let rows = run(session, script::REMOVAL).await?;
    progress.tell("removed what a stuck sensor sent", Some(rows));
    Ok(between)
}

async fn connect(engine: &Arc<Engine>, role: &str) -> Result<Session> {
    let login = Login {
        role: role.to_owned(),
        protocol: "internal",
        client: None,
        settings: vec![("application_name".to_owned(), "kho demo".to_owned())],
        process_id: 0,
        credential: Credential::default(),
    };
    engine.connect(login).await
}

/// Runs every statement of `text`, and gives the rows the last one changed.
async fn run(session: &mut Session, text: &str) -> Result<u64> {
    let mut rows = 0;
    let stop = CancellationToken::new();
    for statement in session.parse(text)? {
        match session.run(&statement, &[], &stop).await? {
            Outcome::Done(tag) => rows = tag.rows.unwrap_or_default(),
            Outcome::Empty => {}
            Outcome::Rows(mut read) => while read.try_next().await?.is_some() {},
            Outcome::CopyIn(_) | Outcome::CopyOut(..) => {
                return Err(Error::internal("the demo's script holds a COPY"));
            }
        }
    }
    Ok(rows)
}

/// Loads `rows` into `table` as a client's `COPY` would, and gives how many there were.
async fn load(session: &mut Session, table: &str, rows: Rows) -> Result<u64> {
    let text = format!("COPY {table} FROM STDIN (FORMAT csv)");
    let statements = session.parse(&text)?;
    let [statement] = statements.as_slice() else {
        return Err(Error::internal("COPY is not one statement"));
    };
    let stop = CancellationToken::new();
    let Outcome::CopyIn(mut copy) = session.run(statement, &[], &stop).await? else {
        return Err(Error::internal("COPY FROM STDIN asks for no data"));
    };
    let schema = Arc::clone(copy.schema());
    let fed = async {
        let mut batches = open(rows, &schema).await?;
        while let Some((batch, _)) = batches.try_next().await? {
            copy.write(conform(&batch, &schema)?).await?;
        }
        Ok::<(), Error>(())
    };
    let fed = fed.await;
    match fed {
        Ok(()) => Ok(session.finish_copy(&mut copy).await?.rows.unwrap_or_default()),
        Err(error) => {
            drop(copy);
            session.fail();
            Err(error)
        }
    }
}

async fn open(rows: Rows, schema: &SchemaRef) -> Result<Batches> {
    Ok(match rows {
        Rows::Here(batch) => {
            let offset = kho_connectors::source::Offset::new("end");
            futures::stream::iter([Ok((batch, offset))]).boxed()
        }
        Rows::Csv(path) => {
            let options = CsvOptions { schema: Some(Arc::clone(schema)), ..CsvOptions::default() };
            CsvFile::open(path, options).await?.batches(None)
        }
        Rows::Parquet(path) => ParquetFile::open(path, BATCH_ROWS).await?.batches(None),
    })
}

/// The columns of `batch` that `schema` names, in its order and of its types.
fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = schema.fields().iter().map(|field| {
        let column = batch.column_by_name(field.name()).ok_or_else(|| {
            Error::internal(format!("the demo's rows have no column {}", field.name()))
        })?;
        cast_with_options(column, field.data_type(), &options).map_err(misfit)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(misfit)
}

fn insert_communes(communes: &[city::Commune]) -> String {
    let rows = communes.iter().map(|it| {
        let (whole, rest) = (it.area / 100, it.area % 100);
        let (code, name, kind, population) = (&it.code, &it.name, it.kind, it.population);
        format!("('{code}', '{name}', '{kind}', {whole}.{rest:02}, {population})")
    });
    let rows = rows.collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO civil_registry.commune (code, name, kind, area_km2, population) VALUES {rows}"
    )
}

fn write_csv(path: &Path, rows: &RecordBatch) -> Result<()> {
    let file = std::fs::File::create(path)?;
    let mut writer = WriterBuilder::new().with_header(true).build(file);
    writer.write(rows).map_err(misfit)
}

fn write_parquet(path: &Path, rows: &RecordBatch) -> Result<()> {
    let unwritten =
        |error: ParquetError| Error::internal("the demo's file was not written").with_source(error);
    let file = std::fs::File::create(path)?;
    let mut writer = ArrowWriter::try_new(file, rows.schema(), None).map_err(unwritten)?;
    writer.write(rows).map_err(unwritten)?;
    writer.close().map_err(unwritten)?;
    Ok(())
}

fn misfit(error: ArrowError) -> Error {
    Error::internal("the demo's rows do not fit their table").with_source(error)
}

/// Tells on standard error what is done, how much of it, and how long that took.
struct Progress {
    done: usize,
    since: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Progress { done: 0, since: Instant::now() }
    }
}

impl Progress {
    fn tell(&mut self, what: &str, rows: Option<u64>) {
        self.done += 1;
        let seconds = self.since.elapsed().as_secs_f64();
        let rows = rows.map(|rows| format!("{rows:>7}")).unwrap_or_default();
        eprintln!("  [{:>2}/{STEPS}] {rows:>7}  {what} ({seconds:.2} s)", self.done);
        self.since = Instant::now();
    }
}
