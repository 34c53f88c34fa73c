//! A Kho without a process: an engine and its sessions inside the test, over a store of its own.
//!
//! What it is: [`Warehouse`] is the store, which outlives its servers; [`Server`] is one engine on
//! it, as it is seen through the faults of that server; [`Reply`] is what a statement gave.
//! What it guarantees: dropping a [`Server`] leaves nothing of it but what it stored.
//! What it does not: no wire, no authentication, no follower: [`Server::follow`] is called instead.

use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::{StreamExt, TryStreamExt};
use kho_catalog::audit::Ledger;
use kho_catalog::environment::{Clock, Environment};
use kho_catalog::error::{Error, Result};
use kho_catalog::log::Catalog;
use kho_server::bootstrap::{ADMIN, make_warehouse};
use kho_sql::outcome::{Outcome, Tag};
use kho_sql::session::{Credential, Engine, Limits, Login, Session};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Planning in a debug build goes deep: as deep as the server's own threads may.
pub const STACK_BYTES: usize = 32 * 1024 * 1024;

/// Runs a test of sessions, on a thread whose stack is deep enough.
pub fn play<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let played = thread.spawn(move || runtime().block_on(test())).map(|it| it.join());
    match played {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => panic!("no thread: {error}"),
    }
}

/// What a warehouse lies on.
pub struct Warehouse {
    pub store: Arc<dyn ObjectStore>,
    folder: Option<TempDir>,
}

/// One engine.
pub struct Server {
    pub engine: Arc<Engine>,
}

/// What a statement gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub tag: String,
    /// Of its columns.
    pub names: Vec<String>,
    /// Values as text; NULL as `None`.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Warehouse {
    /// In memory, with the schema `s`.
    pub fn in_memory() -> Warehouse {
        Warehouse { store: Arc::new(template().fork()), folder: None }
    }

    /// In a folder of its own, with the schema `s`.
    pub async fn in_folder() -> Warehouse {
        let folder = tempfile::Builder::new().prefix("kho-test-").tempdir();
        let folder = folder.unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        let environment = Environment::open(&folder.path().to_string_lossy());
        let environment = environment.unwrap_or_else(|error| panic!("{error:?}"));
        let (from, to) = (template(), Arc::clone(environment.store()));
        let copied = from.list(None).try_for_each(|object| {
            let to = &to;
            async move {
                let bytes = from.get(&object.location).await?.bytes().await?;
                to.put(&object.location, bytes.into()).await.map(drop)
            }
        });
        copied.await.unwrap_or_else(|error| panic!("the template is not copied: {error}"));
        Warehouse { store: to, folder: Some(folder) }
    }

    pub fn folder(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.path().to_owned())
    }

    /// A server that sees the warehouse through `store`.
    pub async fn serve(&self, name: &str, store: Arc<dyn ObjectStore>) -> Result<Server> {
        let environment = Environment::open("memory://")?.with_store(store);
        Server::start(environment, name).await
    }

    /// A server with a clock of the test's own.
    pub async fn serve_by(&self, name: &str, clock: Arc<dyn Clock>) -> Result<Server> {
        let environment = Environment::open("memory://")?.with_store(Arc::clone(&self.store));
        Server::start(environment.with_clock(clock), name).await
    }

    /// A server that nothing happens to.
    pub async fn serve_well(&self, name: &str) -> Result<Server> {
        self.serve(name, Arc::clone(&self.store)).await
    }
}

impl Server {
    /// A server on the folder of a warehouse that another process served.
    pub async fn open(folder: &FsPath, name: &str) -> Result<Server> {
        Server::start(Environment::open(&folder.to_string_lossy())?, name).await
    }

    async fn start(environment: Environment, name: &str) -> Result<Server> {
        let catalog = Catalog::open(environment.clone(), name).await?;
        make_warehouse(&catalog, None, |_| Ok(String::new())).await?;
        let ledger = Ledger::passing(&environment, name).await?;
        let limits = Limits { threads: 1, memory_bytes: 1 << 28, ..Limits::default() };
        Ok(Server { engine: Arc::new(Engine::open(catalog, ledger, &limits)?) })
    }

    pub async fn connect(&self) -> Result<Session> {
        self.connect_as(ADMIN, &[]).await
    }

    /// A session of `role`, with settings as a client would send them first thing.
    pub async fn connect_as(&self, role: &str, settings: &[(&str, &str)]) -> Result<Session> {
        let setting = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let login = Login {
            role: role.to_owned(),
            protocol: "internal",
            client: None,
            settings: settings.iter().map(setting).collect(),
            process_id: 0,
            credential: Credential::default(),
        };
        self.engine.connect(login).await
    }

    /// Where a table lies, relative to the warehouse.
    pub fn place(&self, schema: &str, table: &str) -> Option<String> {
        let state = self.engine.catalog().current().ok()?;
        let relation = state.relation(state.schema(schema)?.oid, table)?;
        let table = relation.table()?;
        Some(format!("tables/{}/{}", table.dataset, table.generation))
    }

    /// Reads what other servers committed to the catalog, as a running server does all the time.
    pub async fn follow(&self) -> Result<()> {
        self.engine.catalog().refresh().await.map(drop)
    }
}

/// Runs one statement to its end.
pub async fn run(session: &mut Session, text: &str) -> Result<Reply> {
    let statements = session.parse(text)?;
    let [statement] = statements.as_slice() else {
        return Err(Error::internal("a test runs one statement at a time"));
    };
    let outcome = session.run(statement, &[], &CancellationToken::new()).await?;
    let (mut rows, command) = match outcome {
        Outcome::Done(tag) => return Ok(Reply::of(&tag)),
        Outcome::Rows(rows) => {
            let command = rows.command;
            (rows, command)
        }
        _ => return Err(Error::internal("a test runs no COPY and no empty statement here")),
    };
    let names = rows.schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut found = Vec::new();
    while let Some(batch) = rows.next().await {
        let batch = batch.inspect_err(|_| session.fail())?;
        found.extend(Reply::texts(&batch));
    }
    let tag = Tag::with_rows(command, found.len() as u64).to_string();
    Ok(Reply { tag, names, rows: found })
}

/// `COPY table (k, v) FROM STDIN` of these numbers.
pub async fn copy(session: &mut Session, table: &str, rows: &[(i64, i64)]) -> Result<Reply> {
    let statements = session.parse(&format!("COPY {table} (k, v) FROM STDIN"))?;
    let stop = CancellationToken::new();
    let Outcome::CopyIn(mut copy) = session.run(&statements[0], &[], &stop).await? else {
        return Err(Error::internal("COPY asks for no data"));
    };
    let schema = copy.schema().clone();
    let column = |of: fn(&(i64, i64)) -> i64| -> Arc<dyn Array> {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(of)))
    };
    let columns = vec![column(|row| row.0), column(|row| row.1)];
    let batch = RecordBatch::try_new(schema, columns)
        .map_err(|error| Error::internal("the rows do not fit").with_source(error))?;
    match copy.write(batch).await {
        Ok(()) => Ok(Reply::of(&session.finish_copy(&mut copy).await?)),
        Err(error) => {
            session.fail();
            Err(error)
        }
    }
}

impl Reply {
    fn of(tag: &Tag) -> Reply {
        Reply { tag: tag.to_string(), names: Vec::new(), rows: Vec::new() }
    }

    /// The rows of a batch, as a reply has them.
    pub fn texts(batch: &RecordBatch) -> Vec<Vec<Option<String>>> {
        texts(batch)
    }

    /// The number of rows that the tag states.
    pub fn count(&self) -> Option<u64> {
        self.tag.rsplit(' ').next()?.parse().ok()
    }
}

fn texts(batch: &RecordBatch) -> Vec<Vec<Option<String>>> {
    let options = FormatOptions::default();
    let formatters: Vec<ArrayFormatter<'_>> = (batch.columns().iter())
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<std::result::Result<_, _>>()
        .unwrap_or_else(|error| panic!("a column has no text: {error}"));
    let value = |row: usize, column: usize| {
        let is_null = batch.column(column).is_null(row);
        (!is_null).then(|| formatters[column].value(row).to_string())
    };
    let row = |row| (0..batch.num_columns()).map(|column| value(row, column)).collect();
    (0..batch.num_rows()).map(row).collect()
}

/// A warehouse with the schema `s`, made once.
fn template() -> &'static InMemory {
    static TEMPLATE: OnceLock<Arc<InMemory>> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let made = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(|| {
            runtime().block_on(async {
                let store = Arc::new(InMemory::new());
                let warehouse = Warehouse { store: store.clone(), folder: None };
                let server = warehouse.serve_well("template").await?;
                let mut session = server.connect().await?;
                run(&mut session, "CREATE SCHEMA s").await?;
                Ok::<_, Error>(store)
            })
        });
        let made = made.unwrap_or_else(|error| panic!("no thread: {error}")).join();
        let made = made.unwrap_or_else(|_| panic!("the template's thread panicked"));
        made.unwrap_or_else(|error| panic!("no template: {error:?}"))
    })
}

/// Everything of a test on one thread, so that a seed is a run.
pub fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap_or_else(|error| panic!("no runtime: {error}"))
}
